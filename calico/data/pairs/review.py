"""The reviewed list of category pairs: read it, and check it against the taxonomy of the sources.

`python -m calico.data.pairs.review [FILE]` checks our own list, or a person's file in its place.
The paper's own selection was made by hand and is not published, so ours was made the same way: by going
through all candidates of Table 6.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from calico.core.files import read_csv
from calico.data.pairs.category_pairs import YES_NO
from calico.data.taxonomy import CategoryParts, parts_by_category
from calico.errors import CalicoError, DataError

REVIEWED_PATH = Path(__file__).with_name("comparable.csv")
_REVIEWED_COLUMNS = ("source", "category_a", "category_b", "common_parts", "keep", "reason")

# Source and the two categories in alphabetical order.
PairKey = tuple[str, str, str]


@dataclass(frozen=True)
class Verdict:
    """What a person decided about a pair; `common_parts` are those of the taxonomy, sorted."""

    common_parts: tuple[str, ...]
    is_kept: bool
    reason: str


def candidates(parts: CategoryParts) -> Iterator[tuple[PairKey, tuple[str, ...]]]:
    """Yield every two categories of one source with a part name in common, and those names (appendix A.1)."""
    for source in sorted(parts):
        for category_a, category_b in combinations(sorted(parts[source]), 2):
            common = parts[source][category_a] & parts[source][category_b]
            if common:
                yield (source, category_a, category_b), tuple(sorted(common))


def read_reviewed(path: Path = REVIEWED_PATH) -> dict[PairKey, Verdict]:
    """Read a reviewed list: csv with source, category_a, category_b, common_parts (a;b), keep and reason.

    Raises:
        DataError: missing columns, no pair, `keep` neither yes nor no, no reason, a pair out of order or
            twice; names the line.
    """
    reviewed: dict[PairKey, Verdict] = {}
    for line, row in enumerate(read_csv(path, _REVIEWED_COLUMNS), start=2):
        key = (row["source"], row["category_a"], row["category_b"])
        if row["keep"] not in YES_NO or not row["reason"] or not key[1] < key[2] or key in reviewed:
            raise DataError(
                f"{path}: line {line}: keep must be yes or no, with a reason, category_a before category_b, "
                f"and each pair once; found {','.join(row.values())!r}."
            )
        common = tuple(sorted(row["common_parts"].split(";")))
        reviewed[key] = Verdict(common, YES_NO[row["keep"]], row["reason"])
    if not reviewed:
        raise DataError(
            f"{path}: holds no pair. Columns are {', '.join(_REVIEWED_COLUMNS)}, as in {REVIEWED_PATH.name}."
        )
    return reviewed


def check_reviewed(reviewed: Mapping[PairKey, Verdict], parts: CategoryParts, path: Path) -> None:
    """Check that a list decides about every candidate of the taxonomy, and about nothing else.

    Args:
        path: of the list, for messages.

    Raises:
        DataError: a candidate is missing, a pair is no candidate, or its common parts are others.
    """
    expected = dict(candidates(parts))
    _refuse(
        path, "not in the list, which must decide about every candidate", expected.keys() - reviewed.keys()
    )
    _refuse(
        path,
        "listed, but no two categories of the taxonomy that share a part",
        reviewed.keys() - expected.keys(),
    )
    other = {key for key, common in expected.items() if reviewed[key].common_parts != common}
    _refuse(path, "listed with other common parts than the taxonomy's", other)


def check_names(reviewed: Mapping[PairKey, Verdict], found: CategoryParts, path: Path) -> None:
    """Check that a person's list names only categories that there are: a misspelt pair would do nothing.

    Args:
        found: categories with parts of the unified data, by source.
        path: of the list, for messages.

    Raises:
        DataError: a category is neither in Table 6 nor among those found.
    """
    table = parts_by_category()
    known = {source: {*table.get(source, ()), *found.get(source, ())} for source in {*table, *found}}
    unknown = {key for key in reviewed if not set(key[1:]) <= known.get(key[0], set())}
    _refuse(path, "of a category that neither Table 6 nor your data has in that source", unknown)


def main(arguments: Sequence[str]) -> None:
    """Check a list against the taxonomy and say what it holds; exit with 2 where it is wrong."""
    path = Path(arguments[0]) if arguments else REVIEWED_PATH
    try:
        reviewed = read_reviewed(path)
        others = sorted({source for source, _, _ in reviewed} - parts_by_category().keys())
        ours = {key: verdict for key, verdict in reviewed.items() if key[0] not in others}
        check_reviewed(ours, parts_by_category(), path)
    except CalicoError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
    num_kept = sum(verdict.is_kept for verdict in ours.values())
    sys.stdout.write(f"{path}: {len(ours)} candidate pairs, {num_kept} kept, all as in the taxonomy.\n")
    if others:
        number = len(reviewed) - len(ours)
        sys.stdout.write(f"{number} more of {', '.join(others)}: the stage curate knows their categories.\n")


def _refuse(path: Path, fault: str, keys: set[PairKey]) -> None:
    if keys:
        source, category_a, category_b = min(keys)
        raise DataError(
            f"{path}: {len(keys)} pairs are {fault}; first '{category_a}' and '{category_b}' of {source}. "
            "Correct the list."
        )


if __name__ == "__main__":
    main(sys.argv[1:])
