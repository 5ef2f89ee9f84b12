"""Tables 1 and 5 beside the paper's, the floors, and one honest sentence about each."""

from collections.abc import Mapping, Sequence
from typing import Any

from calico.core.tokens import TASKS
from calico.reporting.paper_results import METHOD_TITLES, METRICS, TABLE_5
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
FLOOR_TITLES: Mapping[str, str] = {
    "majority": "Most frequent answer",
    "whole_object": "True labels, whole object",
    "usual_parts": "True categories, usual parts",
    "shuffled_images": "CALICO on shuffled images",
}
SUBJECT = "calico"

Metrics = Mapping[str, Any]
"""The content of metrics.json."""


def score_table(metrics: Metrics, tasks: Sequence[str], *, title: str) -> Table:
    """Lay out our scores in the left columns and the paper's in the right ones.

    Args:
        metrics: metrics.json.
        tasks: one block of rows each; ("mean",) gives Table 1, all tasks and the mean Table 5.
        title: heading of the table.
    """
    definitions = metrics["definitions"]
    ours = tuple(Column(name, definitions[name], is_first=name == METRICS[0]) for name in METRICS)
    papers = tuple(Column(name, definitions[name], is_first=name == METRICS[0]) for name in METRICS)
    return Table(
        title=title,
        row_title="Method",
        columns=ours + papers,
        groups=tuple(RowGroup(TASK_TITLES[task], _method_rows(metrics, task)) for task in tasks),
        spans=(("This run: synthetic pairs", len(METRICS)), ("Paper: MixedParts photographs", len(METRICS))),
        note=(
            "Percent. The two halves were measured on different data with models of very different size: read each "
            f"half by itself. Small print: 95 % interval ({definitions['intervals']}). Bold: best of a half."
        ),
    )


def floor_table(metrics: Metrics, models: Sequence[str]) -> Table:
    """Lay out models and floors, task by task."""
    definitions = metrics["definitions"]
    return Table(
        title="Models and floors",
        row_title="Method",
        columns=tuple(Column(name, definitions[name]) for name in METRICS),
        groups=tuple(
            RowGroup(
                TASK_TITLES[task],
                tuple(Row(METHOD_TITLES[model], _our_cells(metrics, model, task)) for model in models)
                + tuple(_floor_row(metrics, floor, task) for floor in metrics["floors"]),
            )
            for task in (*TASKS, MEAN)
        ),
        note="Percent. A floor that is given true labels or categories shows what the other half of a score is worth.",
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
                tuple(_label_row(metrics, name, FLOOR_TITLES[name], titles) for name in metrics["floors"]),
            ),
        ),
        spans=tuple((TASK_TITLES[task], len(titles)) for task in TASKS),
        note="Percent, labels of the three tasks compared word for word after normalisation.",
    )


def floor_findings(metrics: Metrics) -> dict[str, str]:
    """Say of each floor where CALICO lies above it and where not.

    Returns:
        One or two sentences by floor. "Level" means that the floor lies inside CALICO's 95 % interval.
    """
    findings = {floor: _compare(metrics, floor, "Recall") for floor in metrics["floors"]}
    findings["whole_object"] += " " + _compare(metrics, "whole_object", "mIoU")
    findings["usual_parts"] += " " + _compare_names(metrics, "usual_parts")
    return findings


def order_finding(metrics: Metrics, models: Sequence[str]) -> str:
    """Say which model comes first, and whether the intervals let one say so."""
    sentences = []
    for metric in ("mIoU", "Recall"):
        ranked = sorted(models, key=lambda model: -metrics["models"][model][MEAN][metric])
        named = [f"{METHOD_TITLES[model]} {percent(metrics['models'][model][MEAN][metric])}" for model in ranked]
        best_low = metrics["intervals"][ranked[0]][MEAN][metric][0]
        next_high = metrics["intervals"][ranked[1]][MEAN][metric][1]
        verdict = "the intervals of the first two do not overlap" if best_low > next_high else (
            "the intervals of the first two overlap, so this run does not settle their order"
        )
        sentences.append(f"{metric} over the three tasks: {', '.join(named)}; {verdict}.")
    return " ".join(sentences)


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


def _our_cells(metrics: Metrics, model: str, task: str) -> tuple[Cell, ...]:
    models, intervals = metrics["models"], metrics["intervals"]
    return tuple(
        Cell(
            percent(models[model][task][name]),
            percent_range(intervals[model][task][name]),
            is_best=models[model][task][name] == max(scores[task][name] for scores in models.values()),
        )
        for name in METRICS
    )


def _floor_row(metrics: Metrics, floor: str, task: str) -> Row:
    cells = tuple(Cell(percent(metrics["floors"][floor][task][name])) for name in METRICS)
    return Row(FLOOR_TITLES[floor], cells, metrics["definitions"]["floors"][floor])


def _label_row(metrics: Metrics, name: str, title: str, measures: Mapping[str, str]) -> Row:
    labels = metrics["labels"][name]
    return Row(title, tuple(Cell(percent(labels[task][measure])) for task in TASKS for measure in measures))


def _compare(metrics: Metrics, floor: str, metric: str) -> str:
    """Return "Recall: CALICO is above it on ... (a against b), level with it on ..., below it on ..."."""
    verdicts: dict[str, list[str]] = {"above it": [], "level with it": [], "below it": []}
    for task in TASKS:
        ours = metrics["models"][SUBJECT][task][metric]
        low, high = metrics["intervals"][SUBJECT][task][metric]
        value = metrics["floors"][floor][task][metric]
        verdict = "above it" if low > value else "below it" if high < value else "level with it"
        verdicts[verdict].append(f"{TASK_TITLES[task].lower()} ({percent(ours)} against {percent(value)})")
    clauses = [f"{verdict} on {joined(tasks)}" for verdict, tasks in verdicts.items() if tasks]
    return f"{metric}: CALICO is {'; '.join(clauses)}."


def _compare_names(metrics: Metrics, floor: str) -> str:
    """Compare the share of pairs with exactly the true names, the part tasks only."""
    tasks = [task for task in TASKS if task != "common_objects"]
    ours = [metrics["labels"][SUBJECT][task]["label_exact_set"] for task in tasks]
    values = [metrics["labels"][floor][task]["label_exact_set"] for task in tasks]
    pairs = [
        f"{TASK_TITLES[task].lower()} {percent(our)} against {percent(value)}"
        for task, our, value in zip(tasks, ours, values, strict=True)
    ]
    beaten = sum(our > value for our, value in zip(ours, values, strict=True))
    verdict = {0: "does not beat", 1: "beats on one of the two", 2: "beats"}[beaten]
    return (
        f"Pairs named exactly: {joined(pairs)}; by names alone CALICO {verdict} "
        "what knowing the category already gives."
    )
