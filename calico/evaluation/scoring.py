"""From compared pairs to numbers: measure each pair, combine by task, resample for what chance may do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calico.config import EvaluateSection
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation.bootstrap import interval, resample, sign_probability
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics import EXTRA_METRICS, GLAMM_METRICS, METRICS, STRICT_METRICS
from calico.evaluation.metrics.metric import Metric

# Task to metric to the measurements of the task's pairs.
Measured = Mapping[str, Mapping[str, Sequence[Any]]]
# Task, and "mean" over the tasks, to metric to a value or to [low, high].
Scores = dict[str, dict[str, Any]]
# Task, and "mean" over the tasks, to metric to R values, one a resample.
Resampled = Mapping[str, Mapping[str, np.ndarray]]

# What is measured on predictions ranked by score; GLAMM_METRICS read them in the order of the file.
ALL_METRICS = {**METRICS, **EXTRA_METRICS, **STRICT_METRICS}
_REGISTRY = {**ALL_METRICS, **GLAMM_METRICS}
_NUM_DECIMALS = 6


def measure(
    cases: Sequence[PairCase],
    section: EvaluateSection,
    *,
    tasks: Sequence[str] = TASKS,
    metrics: Mapping[str, Metric[Any]] = ALL_METRICS,
) -> Measured:
    """Return task to metric to the measurements of the task's pairs, in the order of `cases`.

    Raises:
        DataError: a task has no pairs.
    """
    measured = {}
    for task in tasks:
        of_task = [case for case in cases if case.task == task]
        if not of_task:
            raise DataError(f"0 of {len(cases)} test pairs have task '{task}'. Raise pair.num_pairs.test.")
        measured[task] = {
            name: [metric.measure(case, section) for case in of_task] for name, metric in metrics.items()
        }
    return measured


def combine(measured: Measured) -> Scores:
    """Return every metric of every task and its mean over the tasks that it can be measured in."""
    values = {
        task: {
            name: _REGISTRY[name].combine(measurements, np.ones((1, len(measurements))))
            for name, measurements in of_task.items()
        }
        for task, of_task in measured.items()
    }
    return {
        task: {name: _rounded(value[0]) for name, value in by_metric.items()}
        for task, by_metric in _with_mean(values).items()
    }


def resample_metrics(measured: Measured, section: EvaluateSection) -> Resampled:
    """Return every metric that has an interval for resamples of the pairs of each task."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for task, of_task in measured.items():
        names = [name for name in of_task if name not in EXTRA_METRICS]
        num_pairs = len(next(iter(of_task.values())))
        weights_RK = resample(num_pairs, section.num_bootstrap, seed=section.seed, task=task)
        values[task] = {name: _REGISTRY[name].combine(of_task[name], weights_RK) for name in names}
    return _with_mean(values)


def intervals(resampled: Resampled) -> Scores:
    """Return [low, high] of every metric: 95 % of the resamples."""
    return {
        task: {name: [_rounded(end) for end in interval(values_R)] for name, values_R in by_metric.items()}
        for task, by_metric in resampled.items()
    }


def differences(scores: tuple[Scores, Scores], resampled: tuple[Resampled, Resampled]) -> Scores:
    """Compare two models on the same pairs, resampled alike (paired bootstrap).

    Args:
        scores, resampled: of the first and of the second model.

    Returns:
        Task to metric to `difference` (first minus second), its 95 % `interval`, and `p`, the two-sided
        probability of the sign under resampling.
    """
    compared: Scores = {}
    for task, by_metric in resampled[0].items():
        compared[task] = {}
        for name in [name for name in by_metric if name in resampled[1][task]]:
            difference_R = by_metric[name] - resampled[1][task][name]
            compared[task][name] = {
                "difference": _rounded(scores[0][task][name] - scores[1][task][name]),
                "interval": [_rounded(end) for end in interval(difference_R)],
                "p": _rounded(sign_probability(difference_R)),
            }
    return compared


def flatten(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores in a metrics.json by "model/task/metric", as a tracker takes them."""
    return {
        f"{name}/{task}/{metric}": value
        for family in ("models", "floors", "strict")
        for name, scores in metrics.get(family, {}).items()
        for task, by_metric in scores.items()
        for metric, value in by_metric.items()
    }


def _with_mean(values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Add the mean over tasks; leave out what no pair of a task lets one measure."""
    known = {
        task: {name: value_R for name, value_R in by_metric.items() if not np.isnan(value_R).all()}
        for task, by_metric in values.items()
    }
    names = dict.fromkeys(name for by_metric in known.values() for name in by_metric)
    mean = {
        name: np.mean([by_metric[name] for by_metric in known.values() if name in by_metric], axis=0)
        for name in names
    }
    return {**known, "mean": mean}


def _rounded(value: float) -> float:
    return round(float(value), _NUM_DECIMALS)
