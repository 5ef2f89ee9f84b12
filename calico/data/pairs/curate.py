"""Which categories may be compared: candidates by rule, then the reviewed list (appendix A.1).

A candidate is an unordered pair of different categories of one source with at least one part name in common.
The paper's own selection was made by hand and is not published; a rule stands in where our list is silent.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from calico.config import CurateSection
from calico.core import tables
from calico.core.files import write_json, write_manifest, write_text
from calico.errors import DataError

_COLUMNS = ("source", "category_a", "category_b", "common_parts", "jaccard", "keep", "reason")
_REVIEWED_COLUMNS = ("source", "category_a", "category_b", "keep", "reason")
_YES_NO = {"yes": True, "no": False}

# Key of a pair: source and the two categories in alphabetical order.
PairKey = tuple[str, str, str]


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


def curate(section: CurateSection, unify_path: Path, output_path: Path) -> dict[str, Any]:
    """Decide about every candidate pair and write category_pairs.csv, summary.json and manifest.json.

    Args:
        section: the rule for pairs that the reviewed list does not name.
        unify_path: folder of the unify stage.
        output_path: folder to write.

    Returns:
        The summary: candidates and kept pairs per source, decisions by rule and by review.

    Raises:
        DataError: a table is missing, the reviewed list is damaged, or no pair is left.
    """
    unify_path, output_path = Path(unify_path), Path(output_path)
    reviewed = read_reviewed(Path(__file__).with_name("comparable.csv"))
    pairs = decide(category_parts(unify_path), reviewed, min_jaccard=section.min_jaccard)
    if not any(pair.is_kept for pair in pairs):
        raise DataError(
            f"{unify_path}: none of {len(pairs)} category pairs is comparable. Lower curate.min_jaccard."
        )
    write_category_pairs(output_path / "category_pairs.csv", pairs)
    summary = _summarize(pairs, reviewed)
    write_json(output_path / "summary.json", summary)
    write_manifest(output_path)
    return summary


def category_parts(unify_path: Path) -> dict[str, dict[str, set[str]]]:
    """Return the part names that occur with each category, by source and category."""
    source_of = {image.image_id: image.source for image in tables.read_images(unify_path / "images.parquet")}
    category_of = {one.object_id: one.category for one in tables.read_objects(unify_path / "objects.parquet")}
    parts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for part in tables.read_parts(unify_path / "parts.parquet"):
        parts[source_of[part.image_id]][category_of[part.object_id]].add(part.category)
    return parts


def decide(
    parts: Mapping[str, Mapping[str, set[str]]],
    reviewed: Mapping[PairKey, tuple[bool, str]],
    *,
    min_jaccard: float,
) -> list[CategoryPair]:
    """Return every candidate pair with its decision, sorted by source and categories.

    Args:
        parts: part names by source and category.
        reviewed: decision and reason of the pairs that a person looked at; overrides the rule.
        min_jaccard: smallest share of common parts that the rule keeps.
    """
    pairs: list[CategoryPair] = []
    for source in sorted(parts):
        for category_a, category_b in combinations(sorted(parts[source]), 2):
            parts_a, parts_b = parts[source][category_a], parts[source][category_b]
            if not parts_a & parts_b:
                continue
            jaccard = len(parts_a & parts_b) / len(parts_a | parts_b)
            by_rule = (jaccard >= min_jaccard, f"rule: keep from Jaccard {min_jaccard:g} on")
            is_kept, reason = reviewed.get((source, category_a, category_b), by_rule)
            common = tuple(sorted(parts_a & parts_b))
            pairs.append(CategoryPair(source, category_a, category_b, common, jaccard, is_kept, reason))
    return pairs


def read_reviewed(path: Path) -> dict[PairKey, tuple[bool, str]]:
    """Read a reviewed list: csv with source, category_a, category_b, keep (yes or no) and reason.

    Raises:
        DataError: missing columns, `keep` neither yes nor no, a pair out of order or twice; names the line.
    """
    reviewed: dict[PairKey, tuple[bool, str]] = {}
    for line, row in enumerate(_read_csv(path, _REVIEWED_COLUMNS), start=2):
        key = (row["source"], row["category_a"], row["category_b"])
        if row["keep"] not in _YES_NO or not key[1] < key[2] or key in reviewed:
            raise DataError(
                f"{path}: line {line}: keep must be yes or no, category_a before category_b, and each pair "
                f"once; found {','.join(row.values())!r}."
            )
        reviewed[key] = (_YES_NO[row["keep"]], f"reviewed: {row['reason']}")
    return reviewed


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
    for line, row in enumerate(_read_csv(path, _COLUMNS), start=2):
        try:
            jaccard, is_kept = float(row["jaccard"]), _YES_NO[row["keep"]]
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{path}: line {line}: jaccard {row['jaccard']!r} or keep {row['keep']!r} is wrong."
            ) from error
        common = tuple(row["common_parts"].split(";"))
        categories = (row["category_a"], row["category_b"])
        pairs.append(CategoryPair(row["source"], *categories, common, jaccard, is_kept, row["reason"]))
    return pairs


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage 'curate'.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a csv file ({error}).") from error
    for line, row in enumerate(rows, start=2):
        if set(row) != set(columns) or None in row.values():
            raise DataError(f"{path}: line {line}: columns must be {', '.join(columns)}.")
    return rows


def _summarize(pairs: Sequence[CategoryPair], reviewed: Mapping[PairKey, tuple[bool, str]]) -> dict[str, Any]:
    decided = Counter(
        ("reviewed" if (pair.source, pair.category_a, pair.category_b) in reviewed else "rule", pair.is_kept)
        for pair in pairs
    )
    return {
        "num_candidates": len(pairs),
        "num_kept": sum(pair.is_kept for pair in pairs),
        "candidates_by_source": dict(Counter(pair.source for pair in pairs)),
        "kept_by_source": dict(Counter(pair.source for pair in pairs if pair.is_kept)),
        "kept_by_rule": decided["rule", True],
        "dropped_by_rule": decided["rule", False],
        "kept_by_review": decided["reviewed", True],
        "dropped_by_review": decided["reviewed", False],
    }
