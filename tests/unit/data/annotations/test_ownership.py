"""calico.data.annotations.ownership: every part gets one object, or a reason."""

import numpy as np
import pytest

from calico.core import masks
from calico.data.annotations.ownership import LooseObject, LoosePart, join_by_containment, join_by_link


def box(top: int, left: int, bottom: int, right: int) -> masks.Rle:
    mask_HW = np.zeros((20, 20), dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return masks.encode(mask_HW)


OBJECTS = [
    LooseObject(1, "dog", box(0, 0, 20, 20)),
    LooseObject(2, "dog", box(0, 0, 10, 10)),
    LooseObject(3, "cat", box(10, 10, 20, 20)),
]


def owners(joined: tuple) -> dict[str, list[str]]:
    return {one.annotation_id: [part.annotation_id for part in one.parts] for one in joined}


@pytest.mark.parametrize(
    ("part", "owner"),
    [
        (LoosePart(9, "dog", "head", box(1, 1, 5, 5)), "2"),
        (LoosePart(9, "dog", "head", box(12, 12, 15, 15)), "1"),
        (LoosePart(9, "cat", "head", box(12, 12, 15, 15)), "3"),
        (LoosePart(9, "", "head", box(12, 12, 15, 15)), "3"),
        (LoosePart(9, "cat", "head", box(12, 5, 15, 15)), "3"),
    ],
    ids=["smallest of two", "only one", "category", "any category", "half inside"],
)
def test_part_belongs_to_the_object_that_holds_most_of_it(part: LoosePart, owner: str) -> None:
    joined, faults = join_by_containment(OBJECTS, [part])
    assert owners(joined) == {"1": [], "2": [], "3": []} | {owner: ["9"]}
    assert faults == []


@pytest.mark.parametrize(
    "part", [LoosePart(9, "cat", "head", box(0, 0, 5, 5)), LoosePart(9, "cat", "a", box(12, 4, 15, 15))]
)
def test_part_outside_its_category_is_left_over(part: LoosePart) -> None:
    joined, faults = join_by_containment(OBJECTS, [part])
    assert owners(joined) == {"1": [], "2": [], "3": []}
    assert faults == [(9, "part that lies in no object of its category")]


def test_nothing_to_join() -> None:
    assert join_by_containment([], []) == ((), [])
    assert join_by_containment([], [LoosePart(9, "cat", "head", box(0, 0, 5, 5))])[1][0][0] == 9


def test_links_decide_where_they_are_given() -> None:
    parts = [
        LoosePart(7, "dog", "head", box(12, 12, 15, 15), 2),
        LoosePart(8, "", "tail", box(0, 0, 1, 1), 3),
        LoosePart(9, "cat", "head", box(0, 0, 1, 1), 1),
        LoosePart(10, "cat", "head", box(0, 0, 1, 1), 99),
        LoosePart(11, "cat", "head", box(0, 0, 1, 1)),
    ]
    joined, faults = join_by_link(OBJECTS, parts)
    assert owners(joined) == {"1": [], "2": ["7"], "3": ["8"]}
    assert faults == [
        (9, "part of another category than its object"),
        (10, "part without a usable object in its image"),
        (11, "part without a usable object in its image"),
    ]
