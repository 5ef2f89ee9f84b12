"""Rules of the category pairs: decided pairs of categories that the unified tables really compare."""

from collections.abc import Sequence
from pathlib import Path

from calico.data.pairs.category_pairs import CategoryPair, read_category_pairs
from calico.data.pairs.targets import Comparable
from calico.data.validation.annotation_rules import Annotations
from calico.data.validation.rules import Rule, RuleBook
from calico.errors import DataError

_PLACE = "curate/category_pairs.csv"
_Parts = dict[str, dict[str, set[str]]]


def read_categories(artifacts_path: Path, rule: Rule) -> list[CategoryPair] | None:
    """Return the decided pairs; None where the file cannot be read, which breaks the rule."""
    rule.count()
    try:
        return read_category_pairs(artifacts_path / _PLACE)
    except DataError as error:
        rule.violate(str(error))
        return None


def check_categories(pairs: Sequence[CategoryPair], found: Annotations, book: RuleBook) -> None:
    """Check every pair against the part names that occur with its categories."""
    rule, parts = book["categories"], _parts_by_category(found)
    seen: set[tuple[str, str, str]] = set()
    for pair in pairs:
        rule.count()
        key = (pair.source, pair.category_a, pair.category_b)
        place = f"{_PLACE}: '{pair.category_a}' and '{pair.category_b}' of {pair.source}"
        known = parts.get(pair.source, {})
        if key in seen or pair.category_a >= pair.category_b:
            rule.violate(f"{place}: listed twice, or not in alphabetical order.")
        elif not {pair.category_a, pair.category_b} <= known.keys():
            rule.violate(f"{place}: no object of one of them has parts.")
        elif known[pair.category_a] & known[pair.category_b] != set(pair.common_parts):
            shared = ", ".join(sorted(known[pair.category_a] & known[pair.category_b])) or "none"
            rule.violate(
                f"{place}: common parts {', '.join(pair.common_parts)}; their objects share {shared}."
            )
        seen.add(key)


def comparable_by_source(pairs: Sequence[CategoryPair]) -> dict[str, Comparable]:
    """Return which categories may be compared; every one with itself."""
    partners: dict[str, dict[str, set[str]]] = {}
    for pair in pairs:
        if pair.is_kept:
            of_source = partners.setdefault(pair.source, {})
            of_source.setdefault(pair.category_a, set()).add(pair.category_b)
            of_source.setdefault(pair.category_b, set()).add(pair.category_a)
    return {
        source: Comparable({name: frozenset(others) for name, others in of_source.items()})
        for source, of_source in partners.items()
    }


def _parts_by_category(found: Annotations) -> _Parts:
    parts: _Parts = {}
    for scene in found.scenes.values():
        for one in scene.objects:
            if one.part_ids:
                parts.setdefault(scene.source, {}).setdefault(one.category, set()).update(one.part_ids)
    return parts
