"""The decided category pairs: what the curate stage hands to the pair stage."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from calico.core.files import read_csv, write_text
from calico.errors import DataError

YES_NO: Mapping[str, bool] = MappingProxyType({"yes": True, "no": False})
_COLUMNS = ("source", "category_a", "category_b", "common_parts", "jaccard", "keep", "reason")


@dataclass(frozen=True)
class CategoryPair:
    """Two categories of one source that share parts; `category_a` < `category_b`.

    Attributes:
        common_parts: names, sorted.
        jaccard: common parts over all parts of both.
        is_kept: whether images of the two may be compared.
        reason: of the decision.
    """

    source: str
    category_a: str
    category_b: str
    common_parts: tuple[str, ...]
    jaccard: float
    is_kept: bool
    reason: str


def write_category_pairs(path: Path, pairs: Iterable[CategoryPair]) -> None:
    """Write decided pairs as csv, atomically."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for pair in pairs:
        keep = "yes" if pair.is_kept else "no"
        writer.writerow([pair.source, pair.category_a, pair.category_b, ";".join(pair.common_parts),
                         f"{pair.jaccard:.6f}", keep, pair.reason])  # fmt: skip
    write_text(path, stream.getvalue())


def read_category_pairs(path: Path) -> list[CategoryPair]:
    """Read what `write_category_pairs` wrote.

    Raises:
        DataError: the file is missing, lacks columns or holds a wrong value; names the line.
    """
    pairs: list[CategoryPair] = []
    for line, row in enumerate(read_csv(path, _COLUMNS), start=2):
        try:
            jaccard, is_kept = float(row["jaccard"]), YES_NO[row["keep"]]
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{path}: line {line}: jaccard {row['jaccard']!r} or keep {row['keep']!r} is wrong."
            ) from error
        common = tuple(row["common_parts"].split(";"))
        categories = (row["category_a"], row["category_b"])
        pairs.append(CategoryPair(row["source"], *categories, common, jaccard, is_kept, row["reason"]))
    return pairs
