"""Recall by hand; the limits are IoU >= 0.5 and similarity > 0.5."""

from collections.abc import Callable

import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.metric import Share
from calico.evaluation.metrics.recall import count_found, measure_recall


@pytest.mark.parametrize(
    ("iou_PT", "similarity_PT", "expected"),
    [
        (
            [[0.9, 0.2], [0.1, 0.6]],
            [[0.3, 0.9], [0.9, 0.9]],
            1,
        ),  # a misnamed best overlap hides no other pair
        ([[0.5]], [[0.51]], 1),
        ([[0.5]], [[0.5]], 0),
        ([[0.49]], [[1.0]], 0),
        ([[0.9], [0.8]], [[0.9], [0.9]], 1),  # a true mask is found once
        ([[0.9, 0.8]], [[0.9, 0.9]], 1),  # and so is a prediction
        ([[0.9], [0.6]], [[0.1], [0.9]], 1),  # a misnamed mask does not take the place of a named one
    ],
)
def test_count_found(
    image_case: Callable[..., ImageCase],
    section: EvaluateSection,
    iou_PT: list[list[float]],
    similarity_PT: list[list[float]],
    expected: int,
) -> None:
    assert count_found(image_case(iou_PT, similarity_PT), section) == expected


def test_all_true_masks_of_a_pair_count(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    images = (image_case([[0.9, 0.0]]), image_case([], num_true=3), image_case([[]], num_true=0))
    assert measure_recall(PairCase("p", "common_objects", images), section) == Share(1, 5)
