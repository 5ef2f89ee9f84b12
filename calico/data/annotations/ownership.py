"""Give every part of an image to its object: by the link that the part holds, or by where its pixels lie."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from calico.core.masks import Rle, shares_inside
from calico.data.annotations.annotated_image import AnnotatedObject, AnnotatedPart

# A part belongs to an object that holds at least this share of its pixels.
_MIN_SHARE_INSIDE = 0.5


@dataclass(frozen=True)
class LoosePart:
    """A part whose object is not known yet.

    Attributes:
        owner: category of its object; "" for any.
        object_id: annotation id of its object, if the source names it.
    """

    annotation_id: int
    owner: str
    category: str
    rle: Rle
    object_id: int | None = None


@dataclass(frozen=True)
class LooseObject:
    """An object without its parts."""

    annotation_id: int
    category: str
    rle: Rle


Faults = list[tuple[int, str]]


def join_by_link(
    objects: Sequence[LooseObject], parts: Sequence[LoosePart]
) -> tuple[tuple[AnnotatedObject, ...], Faults]:
    """Give each part to the object that it names.

    Returns:
        Objects with their parts, in the order given; annotation ids of the parts left over with reasons.
    """
    category_of = {one.annotation_id: one.category for one in objects}
    owner_of: dict[int, int] = {}
    faults: Faults = []
    for part in parts:
        actual = None if part.object_id is None else category_of.get(part.object_id)
        if part.object_id is None or actual is None:
            faults.append((part.annotation_id, "part without a usable object in its image"))
        elif part.owner not in ("", actual):
            faults.append((part.annotation_id, "part of another category than its object"))
        else:
            owner_of[part.annotation_id] = part.object_id
    return _assemble(objects, parts, owner_of), faults


def join_by_containment(
    objects: Sequence[LooseObject], parts: Sequence[LoosePart]
) -> tuple[tuple[AnnotatedObject, ...], Faults]:
    """Give each part to the object of its category that holds most of it, the smallest of equals.

    Returns:
        As `join_by_link`; a part of which no object holds half is left over.
    """
    shares = shares_inside([part.rle for part in parts], [one.rle for one in objects])
    owner_of: dict[int, int] = {}
    faults: Faults = []
    for part, row in zip(parts, shares, strict=True):
        candidates = [
            (-share, one.rle.area_px, one.annotation_id)
            for share, one in zip(row, objects, strict=True)
            if part.owner in ("", one.category) and share >= _MIN_SHARE_INSIDE
        ]
        if candidates:
            owner_of[part.annotation_id] = min(candidates)[2]
        else:
            faults.append((part.annotation_id, "part that lies in no object of its category"))
    return _assemble(objects, parts, owner_of), faults


def _assemble(
    objects: Iterable[LooseObject], parts: Iterable[LoosePart], owner_of: Mapping[int, int]
) -> tuple[AnnotatedObject, ...]:
    owned: dict[int, list[AnnotatedPart]] = defaultdict(list)
    for part in parts:
        if part.annotation_id in owner_of:
            owned[owner_of[part.annotation_id]].append(
                AnnotatedPart(str(part.annotation_id), part.category, part.rle)
            )
    return tuple(
        AnnotatedObject(str(one.annotation_id), one.category, one.rle, tuple(owned[one.annotation_id]))
        for one in objects
    )
