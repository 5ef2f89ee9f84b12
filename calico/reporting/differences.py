"""Two models on the same resampled pairs: how far apart they are, and whether that is more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from calico.core.tokens import TASKS
from calico.reporting.paper_results import METRICS, SHORT_TITLES
from calico.reporting.scores import MEAN, TASK_TITLES
from calico.reporting.tables import Cell, Column, Row, RowGroup, Table, percent

Metrics = Mapping[str, Any]
"""The content of metrics.json, of the models or of the ablations."""


@dataclass(frozen=True)
class Difference:
    """The first model minus the second, with the ends of its 95 % interval by paired bootstrap."""

    value: float
    low: float
    high: float

    @property
    def is_settled(self) -> bool:
        """Whether the interval leaves no doubt about the sign."""
        return self.low > 0 or self.high < 0

    @property
    def points(self) -> str:
        """The value in percentage points, with its sign."""
        return _signed(self.value)

    @property
    def range(self) -> str:
        """The interval in percentage points, e.g. "-1.2 to +3.4"."""
        return f"{_signed(self.low)} to {_signed(self.high)}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def find_difference(metrics: Metrics, first: str, second: str, *, task: str, metric: str) -> Difference:
    """Return the difference of two models, which metrics.json holds in one of the two directions."""
    differences = metrics["differences"]
    if second in differences.get(first, {}):
        found = differences[first][second][task][metric]
        return Difference(found["difference"], *found["interval"])
    found = differences[second][first][task][metric]
    low, high = found["interval"]
    return Difference(-found["difference"], -high, -low)


def order_finding(metrics: Metrics, models: Sequence[str]) -> str:
    """Say which model comes first, and whether the test pairs settle it."""
    ranks = " ".join(_rank(metrics, models, metric) for metric in ("mIoU", "Recall"))
    return f"{ranks} The ranges hold the chance of the test pairs, not that of the one training run."


def model_differences(metrics: Metrics, models: Sequence[str]) -> Table:
    """Lay out every two models of a run, task by task."""
    rows = {
        f"{SHORT_TITLES[first]} minus {SHORT_TITLES[second]}": (first, second)
        for first, second in combinations(models, 2)
    }
    return _table(
        metrics,
        rows,
        (*TASKS, MEAN),
        title="Differences between models",
        note=(
            "Percentage points, the first minus the second; 95 % ranges by paired bootstrap: both on the "
            "same resampled pairs. A range that holds 0 does not settle their order."
        ),
    )


def ablation_differences(metrics: Metrics, titles: Mapping[str, str], *, full_model: str) -> Table:
    """Lay out each ablation minus the full model, over the three tasks.

    Args:
        titles: what to call each ablation, in the order of the rows.
    """
    return _table(
        metrics,
        {title: (name, full_model) for name, title in titles.items()},
        (MEAN,),
        title="What each module is worth",
        note=(
            "Percentage points, the ablation minus CALICO; 95 % ranges by paired bootstrap. A range that "
            "holds 0 does not settle whether the module helps."
        ),
    )


def _rank(metrics: Metrics, models: Sequence[str], metric: str) -> str:
    scores = {model: metrics["models"][model][MEAN][metric] for model in models}
    ranked = sorted(models, key=lambda model: -scores[model])
    named = [f"{SHORT_TITLES[model]} {percent(scores[model])}" for model in ranked]
    ahead = find_difference(metrics, *ranked[:2], task=MEAN, metric=metric)
    verdict = (
        "more than the chance of the test pairs"
        if ahead.is_settled
        else "so this run does not settle their order"
    )
    return (
        f"{metric} over the three tasks: {', '.join(named)}; the first is {100 * ahead.value:.1f} points "
        f"({ahead.range}) ahead of the second, {verdict}."
    )


def _table(
    metrics: Metrics,
    rows: Mapping[str, tuple[str, str]],
    tasks: Sequence[str],
    *,
    title: str,
    note: str,
) -> Table:
    def cell(names: tuple[str, str], task: str, metric: str) -> Cell:
        found = find_difference(metrics, *names, task=task, metric=metric)
        return Cell(found.points, found.range, is_best=found.is_settled)

    return Table(
        title=title,
        row_title="Model",
        columns=tuple(Column(name, metrics["definitions"][name]) for name in METRICS),
        groups=tuple(
            RowGroup(
                TASK_TITLES[task],
                tuple(
                    Row(row, tuple(cell(names, task, metric) for metric in METRICS))
                    for row, names in rows.items()
                ),
            )
            for task in tasks
        ),
        note=f"{note} Bold: a range without 0.",
    )
