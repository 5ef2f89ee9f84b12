"""correspondence by hand."""

from collections.abc import Callable

import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.correspondence import measure_correspondence, part_name

EYE = [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("label", "name"),
    [("dog's head", "head"), ("dog", "dog"), ("bus's front wheel", "front wheel"), ("glass", "glass")],
)
def test_part_name(label: str, name: str) -> None:
    assert part_name(label) == name


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        (["dog's head", "dog's tail"], ["cat's head", "cat's tail"], 2),
        (["dog's snout", "dog's tail"], ["cat's snout", "cat's tail"], 2),  # wrong, but the same in both
        (["dog's head", "dog's tail"], ["cat's ear", "cat's tail"], 1),
        (["dog's tail", "dog's head"], ["cat's head", "cat's tail"], 0),
        (["dog's part", "dog's part"], ["cat's part", "cat's part"], 0),  # one word for everything
    ],
)
def test_two_parts_in_two_images(
    image_case: Callable[..., ImageCase],
    section: EvaluateSection,
    first: list[str],
    second: list[str],
    total: int,
) -> None:
    images = (
        image_case(EYE, true_labels=["dog's head", "dog's tail"], predicted_labels=first),
        image_case(EYE, true_labels=["cat's head", "cat's tail"], predicted_labels=second),
    )
    assert measure_correspondence(PairCase("p", "common_parts", images), section) == (total, 2)


def test_a_part_missed_in_one_image_is_not_carried_over(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    images = (
        image_case([[1.0]], true_labels=["dog's head"], predicted_labels=["dog's head"]),
        image_case([[0.4]], true_labels=["cat's head"], predicted_labels=["cat's head"]),
    )
    assert measure_correspondence(PairCase("p", "common_parts", images), section) == (0, 1)


def test_parts_of_one_image_alone_do_not_correspond(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    images = (
        image_case([[1.0]], true_labels=["dog's tail"], predicted_labels=["dog's tail"]),
        image_case([], num_true=0),
    )
    assert measure_correspondence(PairCase("p", "unique_parts", images), section) == (0, 0)
