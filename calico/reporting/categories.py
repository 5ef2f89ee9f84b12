"""The per-category table: where CALICO is good and where not, baselines beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from calico.core.tokens import TASKS
from calico.reporting.paper_results import SHORT_TITLES
from calico.reporting.scores import TASK_TITLES
from calico.reporting.tables import Cell, Column, Row, RowGroup, Table, percent

_DEFINITIONS = {
    "Recall": "share of the category's true masks that Recall counts as found",
    "IoU": "mean IoU of the category's true masks in the optimal matching, 0 where missed",
}


def category_table(metrics: Mapping[str, Any], models: Sequence[str]) -> Table:
    """Lay out Recall and IoU of the true masks of each category, most frequent first.

    Args:
        metrics: metrics.json.
        models: blocks of columns.
    """
    by_model = metrics["categories"]
    return Table(
        title="By category",
        row_title="Category",
        columns=(
            Column("Masks", "true masks of the category in the task's test pairs"),
            *(
                Column(name, definition, is_first=name == "Recall")
                for _ in models
                for name, definition in _DEFINITIONS.items()
            ),
        ),
        groups=tuple(RowGroup(TASK_TITLES[task], _rows(by_model, models, task)) for task in TASKS),
        spans=(("", 1), *((SHORT_TITLES[model], len(_DEFINITIONS)) for model in models)),
        note="Percent. A category is the object of a label. With few masks a number says little.",
    )


def _rows(by_model: Mapping[str, Any], models: Sequence[str], task: str) -> tuple[Row, ...]:
    first = by_model[models[0]].get(task, {})
    ordered = sorted(first, key=lambda category: (-first[category]["num_true"], category))
    return tuple(
        Row(
            category,
            (
                Cell(str(first[category]["num_true"])),
                *(
                    Cell(percent(by_model[model][task][category][name]))
                    for model in models
                    for name in _DEFINITIONS
                ),
            ),
        )
        for category in ordered
    )
