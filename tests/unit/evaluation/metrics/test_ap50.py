"""AP50 by hand, and the weights that the bootstrap relies on; COCOeval's verdict is a golden test."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.ap50 import Detections, combine_ap50, measure_ap50


def average_precision(*pairs: Detections) -> float:
    return float(combine_ap50(pairs, np.ones((1, len(pairs))))[0])


def test_measure_keeps_images_apart(image_case: Callable[..., ImageCase], section: EvaluateSection) -> None:
    first = image_case([[0.8], [0.7]], scores_P=[0.9, 0.3])
    second = image_case([[0.4]], scores_P=[0.6])
    measured = measure_ap50(PairCase("p", "common_parts", (first, second)), section)
    assert measured == Detections(2, [0.9, 0.3, 0.6], [True, False, False])


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        (Detections(1, [0.5], [True]), 1.0),
        (Detections(1, [0.5], [False]), 0.0),
        (Detections(1, [], []), 0.0),
        # Found first of two: precision 1 up to recall 0.5, which are 51 of 101 levels.
        (Detections(2, [0.9, 0.8], [True, False]), 51 / 101),
        # A surplus mask ranked above the hit halves precision everywhere.
        (Detections(1, [0.9, 0.8], [False, True]), 0.5),
        # ... and one ranked below costs nothing.
        (Detections(1, [0.9, 0.8], [True, False]), 1.0),
        # Precision 1, 1/2, 2/3, 3/4 at recall 1/3, 1/3, 2/3, 1; its envelope is 1 on 34 levels, 3/4 on 67.
        (Detections(3, [0.9, 0.8, 0.7, 0.6], [True, False, True, True]), (34 + 67 * 0.75) / 101),
    ],
)
def test_by_hand(detections: Detections, expected: float) -> None:
    assert average_precision(detections) == pytest.approx(expected, abs=1e-12)


def test_predictions_of_all_pairs_share_one_ranking() -> None:
    confident_and_wrong = Detections(1, [0.9], [False])
    timid_and_right = Detections(1, [0.2], [True])
    assert average_precision(confident_and_wrong, timid_and_right) == pytest.approx(51 / 101 / 2, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(st.booleans(), max_size=4)), min_size=1, max_size=5),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.permutations(range(20)),
)
def test_a_weight_equals_that_many_copies(
    contents: list[tuple[int, list[bool]]], weights: list[int], ranks: list[int]
) -> None:
    scores = iter(rank / 20 for rank in ranks)
    pairs = [Detections(sum(hits) + missed, [next(scores) for _ in hits], hits) for missed, hits in contents]
    copies = [pair for pair, weight in zip(pairs, weights, strict=False) for _ in range(weight)]
    weighted = combine_ap50(pairs, np.array([weights[: len(pairs)]]))[0]
    assert weighted == pytest.approx(average_precision(*copies) if copies else 0.0, abs=1e-12)
