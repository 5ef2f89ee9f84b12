"""What the pairs hold: Table 3 beside the paper's, and what its figures 9 and 11 to 14 show."""

from collections.abc import Mapping
from typing import Any

from calico.core.tokens import TASKS
from calico.reporting import paper_results
from calico.reporting.paper_results import TABLE_3
from calico.reporting.scores import TASK_TITLES
from calico.reporting.tables import Cell, Column, Row, RowGroup, Table, count

_NUM_TOP = 30  # figures 11 to 14
_SPLITS = ("train", "val", "test")

Statistics = Mapping[str, Any]
"""The content of statistics.json of the pair stage."""


def instance_table(statistics: Statistics) -> Table:
    """Lay out Table 3: instances in all and per pair, by task."""
    ours = statistics["all"]["instances_per_sample"]
    rows = []
    for title, key, field in (
        ("Instances", "total", "total"),
        ("Mean per pair", "mean", "mean"),
        ("Maximum per pair", "max", "maximum"),
        ("Median per pair", "median", "median"),
    ):
        our_cells = [Cell(count(ours[task][key])) for task in TASKS]
        paper_cells = [Cell(count(getattr(TABLE_3[task], field))) for task in TASKS]
        rows.append(Row(title, (*our_cells, *paper_cells)))
    columns = tuple(
        Column(TASK_TITLES[task], "one object or part that an answer must contain", is_first=task == TASKS[0])
        for task in TASKS
    )
    return Table(
        title="Instances",
        row_title="Statistic",
        columns=columns * 2,
        groups=(RowGroup("", tuple(rows)),),
        spans=(("This run, all splits", len(TASKS)), ("Paper: MixedParts", len(TASKS))),
        note="An object that takes part in several pairs counts once in each.",
    )


def size_table(statistics: Statistics) -> Table:
    """Lay out how much there is of everything."""
    shown = (
        ("Pairs", statistics["all"]["num_pairs"], paper_results.NUM_PAIRS),
        ("Distinct objects", statistics["num_objects"], paper_results.NUM_OBJECTS),
        ("Distinct parts", statistics["num_parts"], paper_results.NUM_PARTS),
        ("Object categories", statistics["num_object_categories"], paper_results.NUM_OBJECT_CATEGORIES),
        ("Part categories", statistics["num_part_categories"], paper_results.NUM_PART_CATEGORIES),
    )
    return Table(
        title="Size",
        row_title="Statistic",
        columns=(Column("This run"), Column("Paper")),
        groups=(
            RowGroup(
                "", tuple(Row(title, (Cell(count(our)), Cell(count(paper)))) for title, our, paper in shown)
            ),
        ),
    )


def source_table(statistics: Statistics) -> Table:
    """Lay out pairs by split, source and task."""
    return Table(
        title="Pairs by source",
        row_title="Source",
        columns=tuple(Column(TASK_TITLES[task]) for task in TASKS),
        groups=tuple(
            RowGroup(
                f"{split}: {count(statistics['splits'][split]['num_images'])} images",
                tuple(
                    Row(source, tuple(Cell(count(tasks.get(task, 0))) for task in TASKS))
                    for source, tasks in sorted(statistics["splits"][split]["pairs_by_source"].items())
                ),
            )
            for split in _SPLITS
        ),
    )


def rejection_table(statistics: Statistics) -> Table:
    """Lay out how many candidates of pairs were rejected, by reason."""
    rejected = statistics["rejected"]
    reasons = sorted({reason for split in _SPLITS for reason in rejected[split]})
    rows = tuple(
        Row(reason, tuple(Cell(count(rejected[split].get(reason, 0))) for split in _SPLITS))
        for reason in reasons
    )
    return Table(
        title="Pairs tried and rejected",
        row_title="Source/task: reason",
        columns=tuple(Column(split) for split in _SPLITS),
        groups=(RowGroup("", rows),),
        note="Ambiguous: more than one object of one image can be compared with one of the other.",
    )


def top_categories(statistics: Statistics) -> dict[str, dict[str, int]]:
    """Return how often the most frequent categories occur in pairs, as figures 11 to 14, the first first."""
    return {
        title: dict(list(by_frequency(statistics["occurrences"][kind]).items())[:_NUM_TOP])
        for title, kind in (
            ("Objects", "objects"),
            ("Parts", "parts"),
            ("Common parts", "common_parts"),
            ("Unique parts", "unique_parts"),
        )
    }


def pairs_by_kind(statistics: Statistics) -> dict[str, dict[str, int]]:
    """Return the pairs of each source about objects and about parts, as figure 9."""
    return {
        source: {
            "objects": tasks.get("common_objects", 0),
            "parts": tasks.get("common_parts", 0) + tasks.get("unique_parts", 0),
        }
        for source, tasks in sorted(statistics["all"]["pairs_by_source"].items())
    }


def by_frequency(counts: Mapping[str, int]) -> dict[str, int]:
    """Sort names by falling count, equal counts by name; JSON files keep no order."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
