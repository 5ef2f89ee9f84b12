"""Tables 1 and 5 beside the paper's, the floors, and one honest sentence about each."""

from collections.abc import Mapping, Sequence
from typing import Any

from calico.core.tokens import TASKS
from calico.reporting.paper_results import METHOD_TITLES, METRICS, SHORT_TITLES, TABLE_5
from calico.reporting.tables import (
    NOT_MEASURED,
    Cell,
    Column,
    Row,
    RowGroup,
    Table,
    joined,
    percent,
    percent_range,
)

MEAN = "mean"
TASK_TITLES: Mapping[str, str] = {
    "common_objects": "Common objects",
    "common_parts": "Common parts",
    "unique_parts": "Unique parts",
    MEAN: "Mean of the three tasks",
}
# From the weakest to the strongest.
FLOOR_TITLES: Mapping[str, str] = {
    "majority": "Most frequent answer",
    "shuffled_images": "CALICO on shuffled images",
    "whole_object": "True labels, whole object",
    "usual_parts": "True categories, usual parts",
}
STRICT_TITLES: Mapping[str, str] = {
    "class_AP50": "Class AP50",
    "full_IoU": "Full IoU",
    "named_precision": "Precision",
    "named_recall": "Recall",
    "named_F1": "F1",
    "label_accuracy": "Label",
    "presence": "Presence",
    "absence": "Absence",
    "correspondence": "Corresp.",
}
SUBJECT = "calico"

Metrics = Mapping[str, Any]
"""The content of metrics.json."""


def score_table(metrics: Metrics, tasks: Sequence[str], *, title: str, data_title: str) -> Table:
    """Lay out our scores in the left columns and the paper's in the right ones.

    Args:
        metrics: metrics.json.
        tasks: one block of rows each; ("mean",) gives Table 1, the tasks give Table 5.
        title: heading of the table.
        data_title: what ours were measured on, in a few words.
    """
    definitions = metrics["definitions"]
    columns = tuple(Column(name, definitions[name], is_first=name == METRICS[0]) for name in METRICS)
    return Table(
        title=title,
        row_title="Method",
        columns=columns * 2,
        groups=tuple(RowGroup(TASK_TITLES[task], _method_rows(metrics, task)) for task in tasks),
        spans=((f"This run: {data_title}", len(METRICS)), ("Paper: MixedParts, photographs", len(METRICS))),
        note=(
            "Percent. The halves were measured on different data with models of very different size: read "
            f"each by itself. Ranges: {definitions['intervals']}. Bold: best of a half."
        ),
    )


def floor_table(metrics: Metrics) -> Table:
    """Lay out CALICO and the floors, task by task."""
    definitions = metrics["definitions"]
    return Table(
        title="CALICO and the floors",
        row_title="Method",
        columns=tuple(Column(name, definitions[name]) for name in METRICS),
        groups=tuple(
            RowGroup(
                TASK_TITLES[task],
                (
                    Row(METHOD_TITLES[SUBJECT], _our_cells(metrics, SUBJECT, task, is_contest=False)),
                    *(_floor_row(metrics, floor, task) for floor in FLOOR_TITLES),
                ),
            )
            for task in (*TASKS, MEAN)
        ),
        note="Percent. A floor with true labels or categories shows what the rest of a score is worth.",
    )


def label_table(metrics: Metrics, models: Sequence[str]) -> Table:
    """Lay out how well the names alone are right, masks left aside."""
    definitions = metrics["definitions"]
    titles = {"label_precision": "Precision", "label_recall": "Recall", "label_exact_set": "Exact"}
    return Table(
        title="Names alone",
        row_title="Method",
        columns=tuple(
            Column(title, definitions[name], is_first=name == "label_precision")
            for _ in TASKS
            for name, title in titles.items()
        ),
        groups=(
            RowGroup("", tuple(_label_row(metrics, name, METHOD_TITLES[name], titles) for name in models)),
            RowGroup(
                "Floors",
                tuple(_label_row(metrics, name, title, titles) for name, title in FLOOR_TITLES.items()),
            ),
        ),
        spans=tuple((TASK_TITLES[task], len(titles)) for task in TASKS),
        note="Percent, labels of the three tasks compared word for word after normalisation.",
    )


def strict_table(metrics: Metrics, models: Sequence[str]) -> Table:
    """Lay out the strict metrics: misses and surplus masks count, labels must be equal."""
    definitions = metrics["definitions"]
    return Table(
        title="Strict metrics",
        row_title="Method",
        columns=tuple(Column(title, definitions[name]) for name, title in STRICT_TITLES.items()),
        groups=tuple(
            RowGroup(
                TASK_TITLES[task],
                (
                    *(_strict_row(metrics, name, METHOD_TITLES[name], task) for name in models),
                    *(_strict_row(metrics, name, title, task) for name, title in FLOOR_TITLES.items()),
                ),
            )
            for task in (*TASKS, MEAN)
        ),
        note=(
            f"Percent. Ranges: {definitions['intervals']}. A dash: the task's pairs have nothing to measure; "
            "the mean is over the other tasks."
        ),
    )


def floor_findings(metrics: Metrics) -> dict[str, str]:
    """Say of each floor where CALICO beats it and where not.

    Returns:
        One to three sentences by floor. "Level" means that the floor lies inside CALICO's 95 % interval.
    """
    findings = {floor: _compare(metrics, floor, "Recall") for floor in FLOOR_TITLES}
    findings["whole_object"] += " " + _compare(metrics, "whole_object", "mIoU")
    findings["usual_parts"] += " " + _compare_names(metrics, "usual_parts")
    return findings


def malformed_finding(metrics: Metrics, models: Sequence[str]) -> str:
    """Say how many answers broke the answer grammar, so that phrases of theirs could not be scored."""
    shares = [
        f"{SHORT_TITLES[model]} {metrics['malformed'][model]['malformed_answers']} of "
        f"{metrics['malformed'][model]['answers']}"
        for model in models
    ]
    return f"Answers that break the grammar of phrases and masks in whole or in part: {', '.join(shares)}."


def _method_rows(metrics: Metrics, task: str) -> tuple[Row, ...]:
    methods = TABLE_5[task]
    best = [max(scores[index] for scores in methods.values()) for index in range(len(METRICS))]
    rows = []
    for method, scores in methods.items():
        paper_cells = tuple(
            Cell(f"{score:.1f}", is_best=score == top) for score, top in zip(scores, best, strict=True)
        )
        is_ours = method in metrics["models"]
        our_cells = _our_cells(metrics, method, task) if is_ours else (Cell(NOT_MEASURED),) * len(METRICS)
        rows.append(Row(METHOD_TITLES[method], our_cells + paper_cells))
    return tuple(rows)


def _our_cells(metrics: Metrics, model: str, task: str, *, is_contest: bool = True) -> tuple[Cell, ...]:
    """Return a model's scores with their intervals; in a contest of models the best one is marked."""
    models, intervals = metrics["models"], metrics["intervals"]
    return tuple(
        Cell(
            percent(models[model][task][name]),
            percent_range(intervals[model][task][name]),
            is_best=is_contest
            and models[model][task][name] == max(scores[task][name] for scores in models.values()),
        )
        for name in METRICS
    )


def _floor_row(metrics: Metrics, floor: str, task: str) -> Row:
    cells = tuple(Cell(percent(metrics["floors"][floor][task][name])) for name in METRICS)
    return Row(FLOOR_TITLES[floor], cells, metrics["definitions"]["floors"][floor])


def _strict_row(metrics: Metrics, name: str, title: str, task: str) -> Row:
    scores, ranges = metrics["strict"][name][task], metrics["strict_intervals"].get(name, {}).get(task, {})
    return Row(
        title,
        tuple(
            Cell(percent(scores[metric]), percent_range(ranges[metric]) if metric in ranges else "")
            if metric in scores
            else Cell(NOT_MEASURED)
            for metric in STRICT_TITLES
        ),
    )


def _label_row(metrics: Metrics, name: str, title: str, measures: Mapping[str, str]) -> Row:
    labels = metrics["labels"][name]
    return Row(title, tuple(Cell(percent(labels[task][measure])) for task in TASKS for measure in measures))


def _compare(metrics: Metrics, floor: str, metric: str) -> str:
    """Return "CALICO's Recall beats it on ... (a against b); is level with it on ...; stays below ..."."""
    verdicts: dict[str, list[str]] = {"beats it": [], "is level with it": [], "stays below it": []}
    for task in TASKS:
        ours = metrics["models"][SUBJECT][task][metric]
        low, high = metrics["intervals"][SUBJECT][task][metric]
        value = metrics["floors"][floor][task][metric]
        verdict = "beats it" if low > value else "stays below it" if high < value else "is level with it"
        verdicts[verdict].append(f"{TASK_TITLES[task].lower()} ({percent(ours)} against {percent(value)})")
    clauses = [f"{verdict} on {joined(tasks)}" for verdict, tasks in verdicts.items() if tasks]
    return f"{SHORT_TITLES[SUBJECT]}'s {metric} {'; '.join(clauses)}."


def _compare_names(metrics: Metrics, floor: str) -> str:
    """Compare the share of pairs with exactly the true names, on the part tasks."""
    clauses = []
    for task in ("common_parts", "unique_parts"):
        ours = metrics["labels"][SUBJECT][task]["label_exact_set"]
        value = metrics["labels"][floor][task]["label_exact_set"]
        verdict = "beats it" if ours > value else "does not beat it"
        clauses.append(f"{verdict} on {TASK_TITLES[task].lower()} ({percent(ours)} against {percent(value)})")
    return (
        f"In pairs with exactly the true names, masks left aside, {SHORT_TITLES[SUBJECT]} {joined(clauses)}."
    )
