"""calico.data.taxonomy: Table 6, with the counts of the paper."""

from collections import Counter
from itertools import combinations

from calico.data.annotations.ade20k_part_234 import part_classes
from calico.data.taxonomy import categories_of, taxonomy

# Table 6 prints "pipe" for the lamp's "column" and leaves out the seat cushions.
PRINTED_OTHERWISE = {
    ("armchair", "seat cushion"): None,
    ("chair", "seat cushion"): None,
    ("lamp", "column"): ("lamp", "pipe"),
}


def test_numbers_are_those_of_table_6() -> None:
    categories = taxonomy()
    assert Counter(one.source for one in categories) == {
        "ade20k_part_234": 44, "paco_lvis": 73, "partimagenet": 37,
    }  # fmt: skip
    assert len({one.name for one in categories}) == 143
    assert len({part for one in categories for part in one.parts}) == 249
    assert sum(len(one.parts) for one in categories) == 232 + 456 + 148


def test_rows_are_read_column_by_column() -> None:
    assert vars(categories_of("partimagenet")["whale"]) == {
        "source": "partimagenet", "name": "whale", "supercategory": "fish",
        "parts": ("body", "fin", "head", "tail"),
    }  # fmt: skip
    assert categories_of("paco_lvis")["trash can"].supercategory == ""
    assert categories_of("grand") == {}


def test_pairs_that_share_a_part_are_the_papers_1885() -> None:
    shared = Counter(
        first.source
        for first, second in combinations(taxonomy(), 2)
        if first.source == second.source and set(first.parts) & set(second.parts)
    )
    assert shared == {"ade20k_part_234": 319, "paco_lvis": 900, "partimagenet": 666}
    assert shared.total() == 1885


def test_ade_has_two_classes_more_than_the_table() -> None:
    released = {(one, part) for one, parts in part_classes().items() for part in parts.values()}
    printed = {PRINTED_OTHERWISE.get(pair, pair) for pair in released} - {None}
    assert len(released) == 234
    assert printed == {
        (one.name, part) for one in categories_of("ade20k_part_234").values() for part in one.parts
    }
