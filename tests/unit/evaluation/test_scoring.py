"""calico.evaluation.scoring: perfect, empty and swapped answers, means over tasks and intervals."""

from dataclasses import replace
from typing import Any

import pytest

from calico.core.records import PredictedMask
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation.cases import build_cases, usable_predictions
from calico.evaluation.metrics import METRICS
from calico.evaluation.metrics.text_similarity import TextSimilarity
from calico.evaluation.scoring import ALL_METRICS, Scores, combine, intervals, measure

LABELS = ["dog", "dog's head", "cat's head", "dog's tail"]


@pytest.fixture
def score(world: Any, section: Any, embed_words: Any) -> Any:
    def measure_and_combine(predictions: list[PredictedMask]) -> Scores:
        groups, _ = usable_predictions(predictions, world.test_pairs, world.truth)
        cases = build_cases(world.test_pairs, world.truth, groups, TextSimilarity(LABELS, embed_words))
        return combine(measure(cases, section))

    return measure_and_combine


def test_perfect_predictions_score_one_in_every_metric(world: Any, score: Any) -> None:
    assert score(world.perfect()) == {task: dict.fromkeys(ALL_METRICS, 1.0) for task in (*TASKS, "mean")}


def test_no_predictions_score_zero_in_every_metric(score: Any) -> None:
    assert score([]) == {task: dict.fromkeys(ALL_METRICS, 0.0) for task in (*TASKS, "mean")}


def test_swapped_images_score_zero_in_recall(world: Any, score: Any) -> None:
    swapped = [replace(mask, image_index=1 - mask.image_index) for mask in world.perfect()]
    scores = score(swapped)
    assert {scores[task]["Recall"] for task in (*TASKS, "mean")} == {0.0}
    assert {scores[task]["AP50"] for task in (*TASKS, "mean")} == {0.0}


def test_the_mean_is_over_tasks(world: Any, score: Any) -> None:
    scores = score([mask for mask in world.perfect() if mask.task != "unique_parts"])
    assert scores["unique_parts"]["Recall"] == 0.0
    assert scores["mean"] == dict.fromkeys(ALL_METRICS, round(2 / 3, 6))


def test_a_part_named_in_one_of_two_images_is_half(world: Any, score: Any) -> None:
    scores = score([mask for mask in world.perfect() if (mask.pair_id, mask.image_index) != ("p1", 1)])
    assert scores["common_parts"] == {
        "AP50": round(51 / 101, 6),
        "mIoU": 0.5,
        "Recall": 0.5,
        "SS": 0.5,
        "S-IoU": 0.5,
        "label_precision": 1.0,
        "label_recall": 0.5,
        "label_exact_set": 0.0,
    }


def test_every_task_needs_pairs(world: Any, section: Any, embed_words: Any) -> None:
    cases = build_cases(world.test_pairs[:2], world.truth, {}, TextSimilarity(LABELS, embed_words))
    with pytest.raises(DataError, match=r"0 of 2 test pairs have task 'unique_parts'"):
        measure(cases, section)


def test_intervals_hold_the_value_and_repeat(world: Any, section: Any, embed_words: Any) -> None:
    pairs = [
        replace(pair, pair_id=f"{pair.pair_id}/{number}") for pair in world.test_pairs for number in range(8)
    ]
    predictions = [
        replace(mask, pair_id=f"{mask.pair_id}/{number}") for mask in world.perfect() for number in range(5)
    ]
    groups, _ = usable_predictions(predictions, pairs, world.truth)
    measured = measure(build_cases(pairs, world.truth, groups, TextSimilarity(LABELS, embed_words)), section)
    values, found = combine(measured), intervals(measured, section)
    for task in (*TASKS, "mean"):
        assert set(found[task]) == set(METRICS)
        for name, (low, high) in found[task].items():
            assert 0.0 <= low < values[task][name] < high <= 1.0
    assert intervals(measured, section) == found
