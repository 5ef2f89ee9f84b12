"""Score every model and floor on the test pairs and write metrics.json and per_pair.parquet."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from calico.config import EvaluateSection
from calico.core import tables
from calico.core.files import sha256_of, write_json, write_parquet
from calico.core.records import Answer, PairSample, PredictedMask
from calico.core.tokens import TASKS
from calico.evaluation import floors
from calico.evaluation.cases import (
    PairCase,
    PredictionGroups,
    Truth,
    build_cases,
    normalise_label,
    read_truth,
    usable_predictions,
)
from calico.evaluation.metrics import EXTRA_METRICS, METRICS
from calico.evaluation.metrics.text_similarity import TextSimilarity, find_text_model, load_text_model
from calico.evaluation.scoring import ALL_METRICS, Measured, Scores, combine, intervals, measure

SHUFFLED_MODEL = "calico"  # the trained model whose answers to shuffled images are a floor

_PER_PAIR = pa.schema(
    [("model", pa.string()), ("pair_id", pa.string()), ("task", pa.string())]
    + [(name, metric.arrow_type) for name, metric in ALL_METRICS.items()]
)


def evaluate(
    section: EvaluateSection,
    *,
    models: Sequence[str],
    pair_path: Path,
    unify_path: Path,
    predict_path: Path,
    output_path: Path,
) -> dict[str, Any]:
    """Score the models' predictions and the floors; write metrics.json and per_pair.parquet.

    Args:
        models: names of the folders in `predict_path`.
        pair_path, unify_path: folders of the stages of these names.

    Returns:
        The content of metrics.json: the same bytes for the same files and section.

    Raises:
        DataError: a file is missing or belongs to other pairs, a task has no test pairs, or the text model is
            not installed.
    """
    text_model_path = find_text_model(section.text_model)
    truth = read_truth(unify_path)
    pairs = _read_test_pairs(pair_path)
    predicted_by_floor = _predict_floors(pairs, truth, pair_path, predict_path)
    predicted_by_model = {
        name: tables.read_predictions(predict_path / name / "predictions.parquet") for name in models
    }
    answers = {name: tables.read_answers(predict_path / name / "answers.parquet") for name in models}

    usable: dict[str, PredictionGroups] = {}
    malformed: dict[str, dict[str, int]] = {}
    for name, predicted in {**predicted_by_model, **predicted_by_floor}.items():
        usable[name], num_unusable = usable_predictions(predicted, pairs, truth)
        num_malformed = _count_malformed(answers[name], pairs) if name in answers else {}
        malformed[name] = {**num_malformed, **num_unusable}
    similarity = TextSimilarity(_all_labels(pairs, usable.values()), load_text_model(text_model_path))
    cases = {name: build_cases(pairs, truth, groups, similarity) for name, groups in usable.items()}

    measured = {name: measure(found, section) for name, found in cases.items()}
    scores = {name: combine(measurements) for name, measurements in measured.items()}
    metrics = {
        "models": {name: _select(scores[name], METRICS) for name in models},
        "floors": {name: _select(scores[name], METRICS) for name in predicted_by_floor},
        "labels": {name: _select(scores[name], EXTRA_METRICS) for name in scores},
        "intervals": {name: intervals(measured[name], section) for name in models},
        "test": _count_test(pairs),
        "malformed": malformed,
        "definitions": _define(section, text_model_path),
    }
    write_parquet(output_path / "per_pair.parquet", list(_per_pair_rows(cases, measured)), _PER_PAIR)
    write_json(output_path / "metrics.json", metrics)
    return metrics


def _read_test_pairs(pair_path: Path) -> list[PairSample]:
    pairs = tables.read_pairs(pair_path / "test.parquet")
    return sorted(pairs, key=lambda pair: pair.pair_id)


def _predict_floors(
    pairs: Sequence[PairSample], truth: Truth, pair_path: Path, predict_path: Path
) -> dict[str, list[PredictedMask]]:
    train = floors.summarise_train(truth)
    train_pairs = tables.read_pairs(pair_path / "train.parquet")
    shuffled_path = predict_path / SHUFFLED_MODEL / "shuffled_predictions.parquet"
    return {
        "majority": floors.majority(pairs, train_pairs, truth, train),
        "whole_object": floors.whole_object(pairs, truth),
        "usual_parts": floors.usual_parts(pairs, truth, train),
        "shuffled_images": tables.read_predictions(shuffled_path),
    }


def _all_labels(pairs: Iterable[PairSample], usable: Iterable[PredictionGroups]) -> set[str]:
    true = {target.label for pair in pairs for target in pair.targets}
    predicted = {mask.label for groups in usable for group in groups.values() for mask in group}
    return {normalise_label(label) for label in true | predicted}


def _count_malformed(answers: Sequence[Answer], pairs: Sequence[PairSample]) -> dict[str, int]:
    """Count answers whose text could not be used as a whole or in part."""
    answered = {answer.pair_id for answer in answers}
    return {
        "answers": len(answers),
        "missing_answers": sum(pair.pair_id not in answered for pair in pairs),
        "malformed_answers": sum(answer.num_malformed > 0 for answer in answers),
        "malformed_phrases": sum(answer.num_malformed for answer in answers),
    }


def _count_test(pairs: Sequence[PairSample]) -> dict[str, Any]:
    of_task = {task: [pair for pair in pairs if pair.task == task] for task in TASKS}
    return {
        **_count_pairs(pairs),
        "tasks": {task: _count_pairs(found) for task, found in of_task.items()},
    }


def _count_pairs(pairs: Sequence[PairSample]) -> dict[str, int]:
    return {
        "pairs": len(pairs),
        "images": len({image_id for pair in pairs for image_id in pair.image_ids}),
        "targets": sum(len(pair.targets) for pair in pairs),
    }


def _define(section: EvaluateSection, text_model_path: Path) -> dict[str, Any]:
    weights_path = text_model_path / "model.safetensors"
    return {
        **{name: metric.definition for name, metric in ALL_METRICS.items()},
        "iou_threshold": section.iou_threshold,
        "text_threshold": section.text_threshold,
        "text_model": section.text_model,
        "text_model_sha256": sha256_of(weights_path) if weights_path.is_file() else "",
        "intervals": f"95 % of {section.num_bootstrap} bootstrap resamples of each task's pairs",
        "floors": {
            "majority": "most frequent train answer of the task, each label with its mean train mask",
            "whole_object": "true labels with the whole object's mask; for objects all of the image's as one",
            "usual_parts": "true categories (parts: and boxes), the parts usual in train, mean masks",
            "shuffled_images": f"{SHUFFLED_MODEL} on images of other pairs",
        },
    }


def _select(scores: Scores, metrics: Iterable[str]) -> Scores:
    return {task: {name: by_metric[name] for name in metrics} for task, by_metric in scores.items()}


def _per_pair_rows(
    cases: Mapping[str, Sequence[PairCase]], measured: Mapping[str, Measured]
) -> Iterable[dict[str, Any]]:
    for model, found in cases.items():
        for task, by_metric in measured[model].items():
            for row, case in enumerate(case for case in found if case.task == task):
                values = {name: measurements[row]._asdict() for name, measurements in by_metric.items()}
                yield {"model": model, "pair_id": case.pair_id, "task": task, **values}
