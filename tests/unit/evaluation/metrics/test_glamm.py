"""The released evaluator's departures by hand; the oracles come from reading its code."""

from collections.abc import Callable

import numpy as np
import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.glamm import (
    measure_glamm_ap50,
    measure_glamm_miou,
    measure_glamm_recall,
    stopping_count,
)


@pytest.mark.parametrize(
    ("iou_TP", "similarity_TP", "count"),
    [
        ([[0.9, 0.2], [0.1, 0.6]], [[0.3, 0.9], [0.9, 0.9]], 0),  # stops at the misnamed best overlap
        ([[0.9, 0.2], [0.1, 0.6]], [[0.9, 0.9], [0.9, 0.9]], 2),
        ([[0.9, 0.2], [0.1, 0.4]], [[0.9, 0.9], [0.9, 0.9]], 1),
        ([[0.5]], [[0.5]], 1),  # both thresholds may be met exactly
    ],
)
def test_matching_stops(
    section: EvaluateSection, iou_TP: list[list[float]], similarity_TP: list[list[float]], count: int
) -> None:
    assert stopping_count(np.array(iou_TP), np.array(similarity_TP), section) == count


def test_scores_do_not_rank_and_the_101st_prediction_does_not_count(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    image = image_case([[0.0]] * 100 + [[1.0]], scores_P=[0.1] * 100 + [0.9])
    detections = measure_glamm_ap50(PairCase("p", "common_parts", (image,)), section)
    assert detections.scores == [1.0] * 100
    assert not any(detections.is_hit)


def test_an_image_without_a_target_counts_zero_in_miou_and_not_in_recall(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    images = (image_case([[0.8]]), image_case([], num_true=0))
    pair = PairCase("p", "unique_parts", images)
    assert measure_glamm_miou(pair, section) == (0.8, 2)
    assert measure_glamm_recall(pair, section) == (1, 1)
