"""full_IoU by hand."""

from collections.abc import Callable

import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.full_iou import measure_full_iou


@pytest.mark.parametrize(
    ("iou_PT", "num_true", "total", "number"),
    [
        ([[0.9, 0.2], [0.1, 0.6]], 2, 1.5, 2),
        ([[0.9], [0.5]], 1, 0.9, 2),  # a surplus mask
        ([[0.9, 0.5]], 2, 0.9, 2),  # a missed mask
        ([[0.0]], 1, 0.0, 2),  # missed and surplus
        ([], 3, 0.0, 3),
        # Greedy would take 0.6 first and lose the rest: 0.5 + 0.5 is more.
        ([[0.6, 0.5], [0.5, 0.0]], 2, 1.0, 2),
    ],
)
def test_by_hand(
    image_case: Callable[..., ImageCase],
    section: EvaluateSection,
    iou_PT: list[list[float]],
    num_true: int,
    total: float,
    number: int,
) -> None:
    image = image_case(iou_PT, num_true=num_true)
    assert measure_full_iou(PairCase("p", "common_parts", (image,)), section) == pytest.approx(
        (total, number)
    )


def test_masks_in_an_image_without_a_target_count(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    images = (image_case([[0.8]]), image_case([[], []], num_true=0))
    assert measure_full_iou(PairCase("p", "unique_parts", images), section) == (0.8, 3)
