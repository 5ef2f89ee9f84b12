"""Score anybody's predictions: prediction records or COCO results against a file of pairs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calico.config import EvaluateSection
from calico.core import tables
from calico.core.files import PARQUET_DAMAGE, write_json
from calico.core.records import PairSample, PredictedMask
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation.bootstrap import resample_runs
from calico.evaluation.cases import read_truth
from calico.evaluation.coco_format import predictions_from_coco, truth_as_coco
from calico.evaluation.compare import Compared, compare, measure_compared
from calico.evaluation.evaluate import define
from calico.evaluation.metrics.text_similarity import Embed, find_text_model, load_text_model
from calico.evaluation.scoring import (
    Resampled,
    Scores,
    combine,
    differences,
    intervals,
    resample_metrics,
)


@dataclass(frozen=True)
class _Scored:
    """A model: the mean over its runs (training seeds), and the same resampled."""

    scores: Scores
    spread: Scores
    runs: Sequence[Scores]
    resampled: Resampled


def evaluate_files(
    section: EvaluateSection,
    paths: Sequence[Path],
    *,
    against: Sequence[Path] = (),
    pairs_path: Path,
    truth_path: Path,
    embed: Embed | None = None,
) -> dict[str, Any]:
    """Score prediction files against the pairs of one file.

    Args:
        paths: runs of one model with different seeds, one or more; .parquet records or .json COCO results.
        against: runs of a model to compare with.
        pairs_path: table of pairs.
        truth_path: folder with images.parquet, objects.parquet and parts.parquet.
        embed: the text model if it is loaded already.

    Returns:
        `scores` and `intervals` by task and metric; `left_out` with the unusable predictions of each file;
        for several runs also `spread` (their standard deviation) and `runs` with the scores of each file;
        `differences` where there is something to compare with; `test` and `definitions`.

    Raises:
        DataError: a file is missing, damaged or belongs to other pairs; says which and where.
    """
    text_model_path = find_text_model(section.text_model)
    pairs, truth = read_pairs(pairs_path), read_truth(truth_path)
    predictions = {str(path): read_predictions(path, pairs) for path in [*paths, *against]}
    compared = compare(
        predictions,
        pairs,
        truth,
        embed=embed or load_text_model(text_model_path),
        is_file_order_needed=section.glamm,
    )
    tasks = [task for task in TASKS if any(pair.task == task for pair in pairs)]
    first = _score([compared[str(path)] for path in paths], section, tasks, model="first")
    result: dict[str, Any] = {
        "scores": first.scores,
        "intervals": intervals(first.resampled),
        "left_out": {name: dict(found.num_unusable) for name, found in compared.items()},
        "test": {
            "pairs": len(pairs),
            "predictions": {name: len(found) for name, found in predictions.items()},
        },
        "definitions": define(section, text_model_path),
    }
    if len(paths) > 1:
        result["spread"] = first.spread
        result["runs"] = dict(zip(map(str, paths), first.runs, strict=True))
    if against:
        second = _score([compared[str(path)] for path in against], section, tasks, model="second")
        result["differences"] = differences(
            (first.scores, second.scores), (first.resampled, second.resampled)
        )
    return result


def write_coco_truth(path: Path, *, pairs_path: Path, truth_path: Path) -> None:
    """Write the pairs as a COCO annotation file, whose numbers COCO results must use."""
    write_json(path, truth_as_coco(read_pairs(pairs_path), read_truth(truth_path)))


def read_pairs(path: Path) -> list[PairSample]:
    """Read a table of pairs.

    Raises:
        DataError: it is none, or it holds no pair.
    """
    _check_table(path, tables.PAIRS, "pairs", may_miss=("targets",))
    pairs = tables.read_pairs(path)
    if not pairs:
        raise DataError(f"{path}: holds 0 pairs; there is nothing to score. Give a file with pairs.")
    return sorted(pairs, key=lambda pair: pair.pair_id)


def read_predictions(path: Path, pairs: Sequence[PairSample]) -> list[PredictedMask]:
    """Read prediction records (.parquet) or COCO results (.json).

    Raises:
        DataError: it is neither; says what is wrong, and where.
    """
    if path.suffix == ".parquet":
        _check_table(path, tables.PREDICTIONS, "prediction records")
        return tables.read_predictions(path)
    if path.suffix == ".json":
        return predictions_from_coco(_read_json(path), pairs, name=str(path))
    raise DataError(
        f"{path}: the name ends in '{path.suffix}'. Give prediction records (.parquet) or COCO "
        "results (.json)."
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check the path.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    # Not JSON, not UTF-8, or a number of thousands of digits are all ValueErrors.
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error}). Write COCO results there.") from error


def _check_table(path: Path, schema: pa.Schema, kind: str, *, may_miss: Sequence[str] = ()) -> None:
    """Check that a table has the columns of a schema, of types that fit, without missing or broken values."""
    try:
        found = pq.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check the path.") from error
    except PARQUET_DAMAGE as error:
        raise DataError(
            f"{path}: not a parquet file ({_first_line(error)}). Give a file of {kind}."
        ) from error
    if set(found.column_names) != set(schema.names):
        raise DataError(
            f"{path}: columns are {', '.join(found.column_names)}, expected {', '.join(schema.names)}. "
            f"Give a file of {kind}."
        )
    try:
        checked = found.select(schema.names).cast(schema)
        checked.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"{path}: {_first_line(error)}. Give a file of {kind}.") from error
    for name in schema.names:
        if name not in may_miss and checked[name].null_count:
            raise DataError(
                f"{path}: {checked[name].null_count} of {len(checked)} rows have no {name}. Fill them in."
            )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _score(
    runs: Sequence[Compared], section: EvaluateSection, tasks: Sequence[str], *, model: str
) -> _Scored:
    """Score every run, and resample runs and pairs together."""
    measured = [measure_compared(run, section, tasks=tasks) for run in runs]
    scores = [combine(found) for found in measured]
    resampled = [resample_metrics(found, section) for found in measured]
    return _Scored(
        scores=_over_runs(scores, lambda values: float(np.mean(values))),
        spread=_over_runs(scores, lambda values: float(np.std(values, ddof=1)) if len(values) > 1 else 0.0),
        runs=scores,
        resampled={
            task: {
                name: resample_runs(
                    np.array([found[task][name] for found in resampled]), seed=section.seed, model=model
                )
                for name in by_metric
            }
            for task, by_metric in resampled[0].items()
        },
    )


def _over_runs(scores: Sequence[Scores], summarise: Callable[[list[float]], float]) -> Scores:
    return {
        task: {name: round(summarise([run[task][name] for run in scores]), 6) for name in by_metric}
        for task, by_metric in scores[0].items()
    }
