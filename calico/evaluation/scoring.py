"""From compared pairs to numbers: measure each pair, combine by task, resample for intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calico.config import EvaluateSection
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.evaluation.bootstrap import interval, resample
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics import EXTRA_METRICS, METRICS

# Task to metric to the measurements of the task's pairs.
Measured = Mapping[str, Mapping[str, Sequence[Any]]]
# Task, and "mean" over the tasks, to metric to a value or to [low, high].
Scores = dict[str, dict[str, Any]]

ALL_METRICS = {**METRICS, **EXTRA_METRICS}
_NUM_DECIMALS = 6


def measure(cases: Sequence[PairCase], section: EvaluateSection) -> Measured:
    """Return task to metric to the measurements of the task's pairs, in the order of `cases`.

    Raises:
        DataError: a task has no pairs.
    """
    measured = {}
    for task in TASKS:
        of_task = [case for case in cases if case.task == task]
        if not of_task:
            raise DataError(f"0 of {len(cases)} test pairs have task '{task}'. Raise pair.num_pairs.test.")
        measured[task] = {
            name: [metric.measure(case, section) for case in of_task] for name, metric in ALL_METRICS.items()
        }
    return measured


def combine(measured: Measured) -> Scores:
    """Return every metric of every task and its mean over the tasks."""
    values = {
        task: {
            name: metric.combine(of_task[name], np.ones((1, len(of_task[name]))))
            for name, metric in ALL_METRICS.items()
        }
        for task, of_task in measured.items()
    }
    return {
        task: {name: _rounded(value[0]) for name, value in by_metric.items()}
        for task, by_metric in _with_mean(values).items()
    }


def intervals(measured: Measured, section: EvaluateSection) -> Scores:
    """Return [low, high] of every metric: 95 % of bootstrap resamples of the pairs of each task."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for task, of_task in measured.items():
        num_pairs = len(of_task["AP50"])
        weights_RK = resample(num_pairs, section.num_bootstrap, seed=section.seed, task=task)
        values[task] = {name: metric.combine(of_task[name], weights_RK) for name, metric in METRICS.items()}
    return {
        task: {name: [_rounded(end) for end in interval(value)] for name, value in by_metric.items()}
        for task, by_metric in _with_mean(values).items()
    }


def _with_mean(values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Mapping[str, np.ndarray]]:
    names = next(iter(values.values()))
    mean = {name: np.mean([by_metric[name] for by_metric in values.values()], axis=0) for name in names}
    return {**values, "mean": mean}


def _rounded(value: float) -> float:
    return round(float(value), _NUM_DECIMALS)
