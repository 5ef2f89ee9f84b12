"""Which masks two images ask for: the ordered targets of each task, or the reason why there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from calico.core.records import Target


@dataclass(frozen=True)
class PairableObject:
    """An object as pairing sees it: no mask, its parts by name."""

    object_id: str
    image_id: str
    category: str
    left_px: float
    part_ids: Mapping[str, str]


@dataclass(frozen=True)
class Comparable:
    """Which categories may be compared: every category with itself, and the kept pairs."""

    partners: Mapping[str, frozenset[str]]

    def allows(self, category_a: str, category_b: str) -> bool:
        """Return whether objects of the two categories may be compared."""
        return category_a == category_b or category_b in self.partners.get(category_a, frozenset())


class UnusablePairError(Exception):
    """Two images that make no sample; the message is the reason that is counted."""


def targets_of(
    task: str, image_a: Sequence[PairableObject], image_b: Sequence[PairableObject], comparable: Comparable
) -> tuple[Target, ...]:
    """Return the ordered targets of two images.

    Raises:
        UnusablePairError: the images make no sample of this task; the message is the reason.
    """
    if task == "common_objects":
        return _common_objects(image_a, image_b)
    return _part_targets(task, *_only_comparable_pair(image_a, image_b, comparable))


def _common_objects(
    image_a: Sequence[PairableObject], image_b: Sequence[PairableObject]
) -> tuple[Target, ...]:
    """Return every instance of the categories in both images, by category, image and left edge."""
    shared = {one.category for one in image_a} & {one.category for one in image_b}
    if not shared:
        raise UnusablePairError("no common object")
    return tuple(
        Target(index, category, one.object_id, None)
        for category in sorted(shared)
        for index, image in enumerate((image_a, image_b))
        for one in image
        if one.category == category
    )


def _only_comparable_pair(
    image_a: Sequence[PairableObject], image_b: Sequence[PairableObject], comparable: Comparable
) -> tuple[PairableObject, PairableObject]:
    """Return the one pair of objects that can be compared; several would make the question ambiguous."""
    found = [(a, b) for a, b in product(image_a, image_b) if comparable.allows(a.category, b.category)]
    if len(found) != 1:
        raise UnusablePairError("ambiguous" if found else "no comparable objects")
    if not all(one.part_ids for one in found[0]):
        raise UnusablePairError("comparable object without parts")
    return found[0]


def _part_targets(task: str, *pair: PairableObject) -> tuple[Target, ...]:
    """Return common parts by (name, image), unique parts by (image, name)."""
    names = [set(one.part_ids) for one in pair]
    wanted = names[0] & names[1] if task == "common_parts" else names[0] ^ names[1]
    if not wanted:
        raise UnusablePairError("no common part" if task == "common_parts" else "no unique part")
    found = [(index, name) for index, name in product((0, 1), sorted(wanted)) if name in names[index]]
    if task == "common_parts":
        found.sort(key=lambda place: place[::-1])
    return tuple(
        Target(index, f"{pair[index].category}'s {name}", pair[index].object_id, pair[index].part_ids[name])
        for index, name in found
    )
