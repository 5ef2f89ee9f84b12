"""Table 6 of the paper: the categories of each source and the parts that they may have.

`taxonomy.csv` beside this file holds the table: data set, object, PartImageNet supercategory, parts separated
by ";". It lists the categories before curation, so 143 names of objects and 249 of parts.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

# Name of a data set in Table 6 -> name of the source.
SOURCE_OF_DATASET: Mapping[str, str] = MappingProxyType(
    {"ADE20K-Part234": "ade20k_part_234", "PACO-LVIS": "paco_lvis", "PartImageNet": "partimagenet"}
)
# Part names by source and category.
CategoryParts = Mapping[str, Mapping[str, set[str]]]


@dataclass(frozen=True)
class Category:
    """A row of Table 6.

    Attributes:
        source: name of the source, e.g. "paco_lvis".
        name: of the object, e.g. "trash can".
        supercategory: PartImageNet's, in lower case; "" for the other sources.
        parts: names, sorted.
    """

    source: str
    name: str
    supercategory: str
    parts: tuple[str, ...]


@cache
def taxonomy() -> tuple[Category, ...]:
    """Return the 154 categories of the three sources, in the order of the table."""
    with Path(__file__).with_name("taxonomy.csv").open(encoding="utf-8", newline="") as stream:
        return tuple(
            Category(
                SOURCE_OF_DATASET[row["dataset"]],
                row["object"],
                row["supercategory"],
                tuple(row["parts"].split(";")),
            )
            for row in csv.DictReader(stream)
        )


@cache
def categories_of(source: str) -> Mapping[str, Category]:
    """Return the categories of one source by name; empty for a source that is not in Table 6."""
    return MappingProxyType({one.name: one for one in taxonomy() if one.source == source})


def parts_by_category() -> dict[str, dict[str, set[str]]]:
    """Return the part names of every category, by source and category."""
    parts: dict[str, dict[str, set[str]]] = {}
    for one in taxonomy():
        parts.setdefault(one.source, {})[one.name] = set(one.parts)
    return parts
