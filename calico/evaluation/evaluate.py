"""Score every model and floor on the test pairs and write metrics.json, per_pair.parquet and plots/."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa

from calico.config import EvaluateSection
from calico.core import tables
from calico.core.files import sha256_of, write_json, write_parquet, write_text
from calico.core.pair_rows import PairTable
from calico.core.records import Answer, PairSample, PredictedMask
from calico.core.row_files import rows_path
from calico.core.tokens import TASKS
from calico.evaluation import floors
from calico.evaluation.cases import PairCase, Truth, read_truth
from calico.evaluation.categories import score_categories
from calico.evaluation.compare import compare, measure_compared
from calico.evaluation.metrics import EXTRA_METRICS, GLAMM_METRICS, METRICS, STRICT_METRICS
from calico.evaluation.metrics.metric import Metric
from calico.evaluation.metrics.text_similarity import find_text_model, load_text_model
from calico.evaluation.scoring import (
    ALL_METRICS,
    Measured,
    Resampled,
    Scores,
    combine,
    differences,
    flatten,
    intervals,
    resample_metrics,
)
from calico.tracking import Run

SHUFFLED_MODEL = "calico"  # the trained model whose answers to shuffled images are a floor


_FLOOR_DEFINITIONS = {
    "majority": "most frequent train answer of the task, each label with its mean train mask",
    "whole_object": "true labels with the whole object's mask; for objects all of the image's as one",
    "usual_parts": "true categories (parts: and boxes), the parts usual in train, mean masks",
    "shuffled_images": f"{SHUFFLED_MODEL} on images of other pairs",
}


def evaluate(
    section: EvaluateSection,
    *,
    models: Sequence[str],
    pair_path: Path,
    unify_path: Path,
    predict_path: Path,
    output_path: Path,
    run: Run,
) -> dict[str, Any]:
    """Score the models' predictions and the floors; write metrics.json and per_pair.parquet.

    Args:
        models: names of the folders in `predict_path`.
        pair_path, unify_path: folders of the stages of these names.
        run: receives the scores.

    Returns:
        The content of metrics.json: the same bytes for the same files and section.

    Raises:
        DataError: a file is missing or belongs to other pairs, a task has no test pairs, or the text model is
            not installed.
    """
    text_model_path = find_text_model(section.text_model)
    truth = read_truth(unify_path)
    pairs = read_test_pairs(pair_path)
    predicted_by_floor = _predict_floors(pairs, truth, pair_path, predict_path)
    predicted_by_model = {
        name: tables.read_predictions(predict_path / name / "predictions.parquet") for name in models
    }
    answers = {name: tables.read_answers(predict_path / name / "answers.parquet") for name in models}

    compared = compare(
        {**predicted_by_model, **predicted_by_floor},
        pairs,
        truth,
        embed=load_text_model(text_model_path),
        is_file_order_needed=section.glamm,
    )
    measured = {name: measure_compared(found, section) for name, found in compared.items()}
    scores = {name: combine(measurements) for name, measurements in measured.items()}
    metrics = {
        "models": {name: select(scores[name], METRICS) for name in models},
        "floors": {name: select(scores[name], METRICS) for name in predicted_by_floor},
        "labels": {name: select(scores[name], EXTRA_METRICS) for name in scores},
        "strict": {name: select(scores[name], STRICT_METRICS) for name in scores},
        **uncertainty(
            section, scores, {name: measured[name] for name in models}, compared=combinations(models, 2)
        ),
        "categories": {name: score_categories(compared[name].cases, section) for name in models},
        "test": count_test(pairs),
        "malformed": {
            name: {
                **(
                    count_malformed(answers[name], pairs, predicted_by_model[name]) if name in answers else {}
                ),
                **found.num_unusable,
            }
            for name, found in compared.items()
        },
        "definitions": define(section, text_model_path) | {"floors": _FLOOR_DEFINITIONS},
    }
    if section.glamm:
        metrics["glamm"] = {name: select(scores[name], GLAMM_METRICS) for name in scores}
    cases = {name: found.cases for name, found in compared.items()}
    write_parquet(
        output_path / "per_pair.parquet",
        list(_per_pair_rows(cases, measured)),
        per_pair_schema(has_glamm=section.glamm),
    )
    write_text(output_path / "plots" / "scores.csv", _plot_table(metrics))
    write_json(output_path / "metrics.json", metrics)
    run.log_metrics(flatten(metrics))
    return metrics


def _plot_table(metrics: Mapping[str, Any]) -> str:
    """Return one line of CSV for each model or floor and task, for `dvc plots`."""
    lines = [("name", *METRICS)]
    for name, scores in (*metrics["models"].items(), *metrics["floors"].items()):
        for task in (*TASKS, "mean"):
            lines.append((f"{name}, {task}", *(str(scores[task][metric]) for metric in METRICS)))
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def select(scores: Scores, metrics: Iterable[str]) -> Scores:
    """Return the scores of some metrics; one that a task cannot be measured in stays left out."""
    names = tuple(metrics)
    return {
        task: {name: by_metric[name] for name in names if name in by_metric}
        for task, by_metric in scores.items()
    }


def define(section: EvaluateSection, text_model_path: Path) -> dict[str, Any]:
    """Return what every metric means and what it was computed with."""
    weights_path = text_model_path / "model.safetensors"
    return {
        **{name: metric.definition for name, metric in _metrics(section.glamm).items()},
        "iou_threshold": section.iou_threshold,
        "text_threshold": section.text_threshold,
        "text_model": section.text_model,
        "text_model_sha256": sha256_of(weights_path) if weights_path.is_file() else "",
        "intervals": f"95 % of {section.num_bootstrap} bootstrap resamples of each task's pairs",
    }


def count_malformed(
    answers: Sequence[Answer], pairs: Sequence[PairSample], predictions: Sequence[PredictedMask]
) -> dict[str, Any]:
    """Count answers whose text could not be used as a whole or in part, why, and those without any mask."""
    answered = {answer.pair_id for answer in answers}
    outlined = {prediction.pair_id for prediction in predictions}
    return {
        "answers": len(answers),
        "missing_answers": sum(pair.pair_id not in answered for pair in pairs),
        "malformed_answers": sum(answer.num_malformed > 0 for answer in answers),
        "malformed_phrases": sum(answer.num_malformed for answer in answers),
        "answers_without_masks": len(answered - outlined),
        "reasons": dict(sum((Counter(dict(answer.faults)) for answer in answers), Counter())),
    }


def uncertainty(
    section: EvaluateSection,
    scores: Mapping[str, Scores],
    measured: Mapping[str, Measured],
    *,
    compared: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    """Return the intervals of each measured model, and the paired differences of the compared ones.

    Args:
        compared: pairs of names; a difference is the first minus the second.
    """
    resampled: dict[str, Resampled] = {
        name: resample_metrics(measurements, section) for name, measurements in measured.items()
    }
    found = {name: intervals(values) for name, values in resampled.items()}
    differing: dict[str, dict[str, Scores]] = {}
    for first, second in compared:
        differing.setdefault(first, {})[second] = differences(
            (scores[first], scores[second]), (resampled[first], resampled[second])
        )
    return {
        "intervals": {name: select(values, METRICS) for name, values in found.items()},
        "strict_intervals": {name: select(values, STRICT_METRICS) for name, values in found.items()},
        "differences": differing,
    }


def read_test_pairs(pair_path: Path) -> list[PairSample]:
    """Read the test pairs in the order of their ids."""
    pairs = tables.read_pairs(pair_path / "test.parquet")
    return sorted(pairs, key=lambda pair: pair.pair_id)


def _predict_floors(
    pairs: Sequence[PairSample], truth: Truth, pair_path: Path, predict_path: Path
) -> dict[str, list[PredictedMask]]:
    train = floors.summarise_train(truth)
    train_pairs = PairTable(rows_path(pair_path / "train.parquet"))  # one at a time of millions
    shuffled_path = predict_path / SHUFFLED_MODEL / "shuffled_predictions.parquet"
    return {
        "majority": floors.majority(pairs, train_pairs, truth, train),
        "whole_object": floors.whole_object(pairs, truth),
        "usual_parts": floors.usual_parts(pairs, truth, train),
        "shuffled_images": tables.read_predictions(shuffled_path),
    }


def count_test(pairs: Sequence[PairSample]) -> dict[str, Any]:
    """Count pairs, images and targets, in all and by task."""
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


def _metrics(has_glamm: bool) -> dict[str, Metric[Any]]:
    return {**ALL_METRICS, **(GLAMM_METRICS if has_glamm else {})}


def per_pair_schema(*, has_glamm: bool) -> pa.Schema:
    """Return the columns of per_pair.parquet."""
    columns = [(name, metric.arrow_type) for name, metric in _metrics(has_glamm).items()]
    return pa.schema([("model", pa.string()), ("pair_id", pa.string()), ("task", pa.string()), *columns])


def _per_pair_rows(
    cases: Mapping[str, Sequence[PairCase]], measured: Mapping[str, Measured]
) -> Iterable[dict[str, Any]]:
    for model, found in cases.items():
        for task, by_metric in measured[model].items():
            for row, case in enumerate(case for case in found if case.task == task):
                values = {name: measurements[row]._asdict() for name, measurements in by_metric.items()}
                yield {"model": model, "pair_id": case.pair_id, "task": task, **values}
