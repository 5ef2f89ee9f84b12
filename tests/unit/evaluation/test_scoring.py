"""calico.evaluation.scoring: perfect, empty and swapped answers, means over tasks and intervals."""

from dataclasses import replace
from typing import Any

import pytest

from calico.core.records import PredictedMask
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation.cases import build_cases, usable_predictions
from calico.evaluation.metrics import METRICS, STRICT_METRICS
from calico.evaluation.metrics.text_similarity import TextSimilarity
from calico.evaluation.scoring import (
    ALL_METRICS,
    Scores,
    combine,
    differences,
    flatten,
    intervals,
    measure,
    resample_metrics,
)

# What the pairs of a task do not let one measure in this world.
UNMEASURED = {"common_objects": "absence", "common_parts": "absence", "unique_parts": "correspondence"}
LABELS = ["dog", "dog's head", "cat's head", "dog's tail"]


@pytest.fixture
def score(world: Any, section: Any, embed_words: Any) -> Any:
    def measure_and_combine(predictions: list[PredictedMask]) -> Scores:
        groups, _ = usable_predictions(predictions, world.test_pairs, world.truth)
        cases = build_cases(world.test_pairs, world.truth, groups, TextSimilarity(LABELS, embed_words))
        return combine(measure(cases, section))

    return measure_and_combine


def everywhere(value: float) -> Scores:
    return {
        task: {name: value for name in ALL_METRICS if name != UNMEASURED.get(task)}
        for task in (*TASKS, "mean")
    }


def test_perfect_predictions_score_one_in_every_metric(world: Any, score: Any) -> None:
    assert score(world.perfect()) == everywhere(1.0)


def test_no_predictions_score_zero_in_every_metric(score: Any) -> None:
    assert score([]) == everywhere(0.0)


def test_swapped_images_score_zero_in_recall(world: Any, score: Any) -> None:
    swapped = [replace(mask, image_index=1 - mask.image_index) for mask in world.perfect()]
    scores = score(swapped)
    assert {scores[task]["Recall"] for task in (*TASKS, "mean")} == {0.0}
    assert {scores[task]["AP50"] for task in (*TASKS, "mean")} == {0.0}
    for name in ("class_AP50", "full_IoU", "named_F1"):
        assert {scores[task][name] for task in (*TASKS, "mean")} == {0.0}
    assert scores["unique_parts"]["absence"] == scores["unique_parts"]["presence"] == 0.0


def test_the_mean_is_over_tasks(world: Any, score: Any) -> None:
    scores = score([mask for mask in world.perfect() if mask.task != "unique_parts"])
    assert scores["unique_parts"]["Recall"] == 0.0
    # Correspondence is measured in the first two tasks alone, absence in the third.
    special = {"correspondence": 1.0, "absence": 0.0}
    assert scores["mean"] == dict.fromkeys(ALL_METRICS, round(2 / 3, 6)) | special


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
        "class_AP50": 0.5,
        "full_IoU": 0.5,
        "named_precision": 1.0,
        "named_recall": 0.5,
        "named_F1": round(2 / 3, 6),
        "label_accuracy": 1.0,
        "presence": 0.5,
        "correspondence": 0.0,
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
    values, found = combine(measured), intervals(resample_metrics(measured, section))
    certain = {"named_precision", "label_accuracy"}  # whatever is predicted is right
    for task in (*TASKS, "mean"):
        assert set(found[task]) == {*METRICS, *STRICT_METRICS} - {UNMEASURED.get(task)}
        for name, (low, high) in found[task].items():
            if name in certain:
                assert low == values[task][name] == high == 1.0
            else:
                assert 0.0 <= low < values[task][name] < high <= 1.0
    assert intervals(resample_metrics(measured, section)) == found
    same = differences((values, values), (resample_metrics(measured, section),) * 2)
    assert same["mean"]["mIoU"] == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    assert {task: set(by_metric) for task, by_metric in same.items()} == {
        task: set(by_metric) for task, by_metric in found.items()
    }


def test_scores_are_flattened_for_a_tracker() -> None:
    metrics = {
        "models": {"calico": {"mean": {"mIoU": 0.5}}},
        "strict": {"calico": {"mean": {"named_F1": 0.25}}},
        "intervals": {"calico": {"mean": {"mIoU": [0.4, 0.6]}}},
        "test": {"pairs": 3},
    }
    assert flatten(metrics) == {"calico/mean/mIoU": 0.5, "calico/mean/named_F1": 0.25}
