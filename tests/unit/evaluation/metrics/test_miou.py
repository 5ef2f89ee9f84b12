"""mIoU by hand."""

from collections.abc import Callable

import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.metric import Share
from calico.evaluation.metrics.miou import mean_matched_iou, measure_miou


@pytest.mark.parametrize(
    ("iou_PT", "expected"),
    [
        ([[0.9, 0.2], [0.1, 0.6]], 0.75),
        ([[0.9], [0.0]], 0.9),  # a surplus mask does not count
        ([[0.0, 0.4]], 0.4),  # nor does a missed one
        ([[0.0]], 0.0),
    ],
)
def test_mean_of_matched(
    image_case: Callable[..., ImageCase], iou_PT: list[list[float]], expected: float
) -> None:
    assert mean_matched_iou(image_case(iou_PT)) == pytest.approx(expected, abs=1e-12)


def test_an_image_without_true_masks_does_not_count(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    images = (image_case([[0.8]]), image_case([], num_true=0), image_case([], num_true=1))
    assert measure_miou(PairCase("p", "unique_parts", images), section) == Share(0.8, 2)
