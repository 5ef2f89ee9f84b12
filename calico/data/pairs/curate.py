"""Which categories may be compared: candidates by rule, then the reviewed list (appendix A.1).

A candidate is an unordered pair of different categories of one source with at least one part name in common.
The reviewed list decides about the candidates of Table 6; a rule stands in where it is silent: for a person's
own data, and for parts that Table 6 does not name.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calico.config import CurateSection
from calico.core.files import write_json, write_manifest
from calico.data.pairs.annotation_arrays import read_annotations
from calico.data.pairs.category_pairs import CategoryPair, write_category_pairs
from calico.data.pairs.review import (
    REVIEWED_PATH,
    PairKey,
    Verdict,
    candidates,
    check_names,
    check_reviewed,
    read_reviewed,
)
from calico.data.taxonomy import CategoryParts, parts_by_category


def curate(section: CurateSection, unify_path: Path, output_path: Path) -> dict[str, Any]:
    """Decide about every candidate pair and write category_pairs.csv, summary.json and manifest.json.

    Args:
        section: the reviewed list, and the rule for pairs that it does not name.
        unify_path: folder of the unify stage.
        output_path: folder to write.

    Returns:
        The summary: candidates and kept pairs per source, decisions by rule and by review.

    Raises:
        DataError: a table is missing, or the reviewed list is damaged or names a category that there is not.
    """
    unify_path, output_path = Path(unify_path), Path(output_path)
    parts = category_parts(unify_path)
    reviewed = _reviewed_list(section, parts)
    pairs = decide(parts, reviewed, min_jaccard=section.min_jaccard)
    write_category_pairs(output_path / "category_pairs.csv", pairs)
    summary = _summarize(pairs, reviewed)
    write_json(output_path / "summary.json", summary)
    write_manifest(output_path)
    return summary


def category_parts(unify_path: Path) -> dict[str, dict[str, set[str]]]:
    """Return the part names that occur with each category, by source and category."""
    found = read_annotations(unify_path)
    parts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    triples = np.stack([
        found.image_source[found.object_image[found.part_object]],
        found.object_category[found.part_object],
        found.part_name,
    ])  # fmt: skip
    for source, category, name in np.unique(triples, axis=1).T.tolist():
        parts[found.sources[source]][found.categories[category]].add(found.names[name])
    return parts


def decide(
    parts: CategoryParts, reviewed: Mapping[PairKey, Verdict], *, min_jaccard: float
) -> list[CategoryPair]:
    """Return every candidate pair with its decision, sorted by source and categories.

    Args:
        parts: part names by source and category.
        reviewed: what a person decided; overrides the rule.
        min_jaccard: smallest share of common parts that the rule keeps.
    """
    pairs: list[CategoryPair] = []
    for key, common in candidates(parts):
        source, category_a, category_b = key
        jaccard = len(common) / len(parts[source][category_a] | parts[source][category_b])
        if key in reviewed:
            is_kept, reason = reviewed[key].is_kept, f"reviewed: {reviewed[key].reason}"
        else:
            is_kept, reason = jaccard >= min_jaccard, f"rule: keep from Jaccard {min_jaccard:g} on"
        pairs.append(CategoryPair(source, category_a, category_b, common, jaccard, is_kept, reason))
    return pairs


def _reviewed_list(section: CurateSection, parts: CategoryParts) -> dict[PairKey, Verdict]:
    """Return the person's list where params name one; ours is checked against the taxonomy each time."""
    if section.reviewed is not None:
        path = Path(section.reviewed)
        reviewed = read_reviewed(path)
        check_names(reviewed, parts, path)
        return reviewed
    reviewed = read_reviewed()
    check_reviewed(reviewed, parts_by_category(), REVIEWED_PATH)
    return reviewed


def _summarize(pairs: Sequence[CategoryPair], reviewed: Mapping[PairKey, Verdict]) -> dict[str, Any]:
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
