"""What a table of the report is, and how numbers are written in it."""

from collections.abc import Sequence
from dataclasses import dataclass

NOT_MEASURED = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """A column and what its numbers mean; `is_first` starts a block of columns."""

    title: str
    definition: str = ""
    is_first: bool = False


@dataclass(frozen=True)
class Cell:
    """A number as text, a second line in small print, and whether it is the best of its kind."""

    text: str
    detail: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """A title and one cell a column; `definition` explains the title."""

    title: str
    cells: tuple[Cell, ...]
    definition: str = ""


@dataclass(frozen=True)
class RowGroup:
    """Rows under a common heading ("" for none)."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        spans: heading of each block of columns and how many columns it has; empty for no such line.
        note: one or two sentences that a reader needs to not misread it.
    """

    title: str
    row_title: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    spans: tuple[tuple[str, int], ...] = ()
    note: str = ""


def percent(value: float) -> str:
    """Write a value in [0, 1] as percent with one decimal."""
    return f"{100 * value:.1f}"


def percent_range(interval: Sequence[float]) -> str:
    """Write both ends of an interval in percent, e.g. "48.1 to 56.4"."""
    low, high = interval
    return f"{percent(low)} to {percent(high)}"


def operations(flops: float) -> str:
    """Write a number of operations with the unit that suits it."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if flops >= size:
            return f"{flops / size:.2f} {unit}"
    return f"{flops / 1e3:.2f} k"


def seconds(value: float) -> str:
    """Write a duration: milliseconds below one second, minutes from 100 seconds on."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def count(value: float) -> str:
    """Write a count with thousands separators; a fraction keeps two decimals."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def joined(words: Sequence[str]) -> str:
    """Join words as a sentence does: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
