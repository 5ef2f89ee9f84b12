"""named_precision, named_recall and named_F1 by hand."""

from collections.abc import Callable

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.named_masks import (
    measure_named_f1,
    measure_named_precision,
    measure_named_recall,
)


def test_place_and_name_must_both_be_right(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    first = image_case(
        [[0.5, 0.0], [0.0, 0.49], [0.0, 0.0]],
        true_labels=["dog", "cat"],
        predicted_labels=["dog", "cat", "bird"],
    )
    second = image_case([[1.0]], true_labels=["dog"], predicted_labels=["puppy"])
    pair = PairCase("p", "common_objects", (first, second))
    assert measure_named_precision(pair, section) == (1, 4)
    assert measure_named_recall(pair, section) == (1, 3)
    assert measure_named_f1(pair, section) == (2, 7)


def test_of_two_equal_masks_the_one_with_the_right_name_is_matched(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    image = image_case([[0.8], [0.8]], true_labels=["dog"], predicted_labels=["cat", "dog"])
    assert image.matches == [(1, 0)]
    assert measure_named_recall(PairCase("p", "common_objects", (image,)), section) == (1, 1)
