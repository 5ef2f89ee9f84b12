"""Table 2 and figure 8: CALICO beside itself without a module, and with its CAMs elsewhere."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from calico.core.tokens import TASKS
from calico.reporting.differences import ablation_differences
from calico.reporting.paper_results import METRICS, TABLE_2
from calico.reporting.scores import MEAN, SUBJECT, TASK_TITLES
from calico.reporting.tables import NOT_MEASURED, Cell, Column, Row, RowGroup, Table, percent, percent_range

# Rows of Table 2 as the paper calls them; other names are shown as they stand in params.yaml.
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "without_qformer": "w/o Q-Former",
        "without_dino": "w/o DINO",
        "without_cem": "w/o CEM",
        "without_cam": "w/o CAM",
        "without_cem_and_cam": "w/o CEM w/o CAM",
        "cam_at_half": "one CAM, at a half",
        "cam_at_quarters": "three CAMs, at the quarters",
        SUBJECT: "CALICO",
    }
)
_FIGURE_8 = ("cam_at_half", SUBJECT, "cam_at_quarters")
_FIGURE_8_TITLES = {"cam_at_half": "1 CAM", SUBJECT: "2 CAMs", "cam_at_quarters": "3 CAMs"}

Metrics = Mapping[str, Any]
"""The content of metrics.json of the ablations."""


def title_of(name: str) -> str:
    """Return what to call an ablation in a table."""
    return TITLES.get(name, name.replace("_", " "))


def ablation_table(metrics: Metrics, data_title: str) -> Table:
    """Lay out Table 2: ours with intervals in the left columns, the paper's in the right ones.

    The mean of the three tasks comes first, then each task, which the paper does not print.
    """
    definitions = metrics["definitions"]
    columns = tuple(Column(name, definitions[name], is_first=name == METRICS[0]) for name in METRICS)
    return Table(
        title="Ablations (layout of Table 2)",
        row_title="Model",
        columns=columns * 2,
        groups=tuple(RowGroup(TASK_TITLES[task], _rows(metrics, task)) for task in (MEAN, *TASKS)),
        spans=((f"This run: {data_title}", len(METRICS)), ("Paper: MixedParts, photographs", len(METRICS))),
        note=(
            f"Percent. Ranges: {definitions['intervals']}. Every row was trained and scored alike, once, "
            "on the same pairs; the intervals do not hold the chance of a training run."
        ),
    )


def difference_table(metrics: Metrics) -> Table:
    """Lay out each ablation minus CALICO over the three tasks, by paired bootstrap."""
    titles = {name: title_of(name) for name in _ordered(metrics) if name != SUBJECT}
    return ablation_differences(metrics, titles, full_model=SUBJECT)


def cam_estimates(metrics: Metrics, metric: str) -> dict[str, tuple[float, tuple[float, float]]]:
    """Return a metric of figure 8 in [0, 1] and its interval, mean of the tasks, by number of CAMs."""
    return {
        _FIGURE_8_TITLES[name]: (
            metrics["models"][name][MEAN][metric],
            tuple(metrics["intervals"][name][MEAN][metric]),
        )
        for name in _FIGURE_8
        if name in metrics["models"]
    }


def _ordered(metrics: Metrics) -> list[str]:
    """Return the models in the paper's order, others after them, CALICO last."""
    order = list(TITLES)
    return sorted(
        metrics["models"],
        key=lambda name: (name == SUBJECT, order.index(name) if name in TITLES else len(order), name),
    )


def _rows(metrics: Metrics, task: str) -> tuple[Row, ...]:
    return tuple(
        Row(title_of(name), (*_our_cells(metrics, name, task), *_paper_cells(name, task)))
        for name in _ordered(metrics)
    )


def _our_cells(metrics: Metrics, name: str, task: str) -> tuple[Cell, ...]:
    scores = metrics["models"]
    return tuple(
        Cell(
            percent(scores[name][task][metric]),
            percent_range(metrics["intervals"][name][task][metric]),
            is_best=scores[name][task][metric] == max(one[task][metric] for one in scores.values()),
        )
        for metric in METRICS
    )


def _paper_cells(name: str, task: str) -> tuple[Cell, ...]:
    if task != MEAN or title_of(name) not in TABLE_2:
        return (Cell(NOT_MEASURED),) * len(METRICS)
    best = [max(row[index] for row in TABLE_2.values()) for index in range(len(METRICS))]
    return tuple(
        Cell(f"{score:.1f}", is_best=score == top)
        for score, top in zip(TABLE_2[title_of(name)], best, strict=True)
    )
