"""The targets of many pairs at once, by the rules of `targets.targets_of`; tests compare the two.

A pair is two rows of images. First every pair is judged, which only counts; then the targets of the usable
ones are listed, block by block, so that memory does not grow with the number of pairs.
"""

from dataclasses import dataclass

import numpy as np

from calico.data.pairs.annotation_arrays import AnnotationArrays

# Codes of `Judgement.reason`; 0 is a usable pair. The texts are those of `targets_of`.
REASONS = (
    "",
    "no common object",
    "no comparable objects",
    "ambiguous",
    "comparable object without parts",
    "no common part",
    "no unique part",
    "too many targets",
)
# Objects looked at together; a few megabytes of integers stay in the cache.
_MAX_PRODUCTS = 1 << 17


@dataclass(frozen=True)
class Judgement:
    """What pairs of images are good for.

    Attributes:
        reason: index into `REASONS` of each pair.
        num_targets: of each pair; 0 where it is not usable.
        objects: rows of the two compared objects of each pair of a part task, shape (pairs, 2); -1 elsewhere.
    """

    reason: np.ndarray
    num_targets: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class TargetArrays:
    """Ordered targets of pairs; those of pair i are rows `first[i]` to `first[i + 1]`.

    Attributes:
        image_index: 0 or 1.
        objects: row of each target's object.
        parts: row of each target's part; -1 for an object.
    """

    first: np.ndarray
    image_index: np.ndarray
    objects: np.ndarray
    parts: np.ndarray


class NameSets:
    """Sets of small integers, one per row, as bits: 64 members a word."""

    def __init__(self, rows: np.ndarray, members: np.ndarray, shape: tuple[int, int]) -> None:
        self._words = np.zeros((shape[0], shape[1] // 64 + 1), dtype=np.uint64)
        np.bitwise_or.at(self._words, (rows, members >> 6), _bit(members))

    def contains(self, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Return whether each row's set has the member beside it."""
        return (self._words[rows, members >> 6] & _bit(members)) != 0

    def count_common(self, rows_a: np.ndarray, rows_b: np.ndarray) -> np.ndarray:
        """Return the size of the intersection of each two sets."""
        return np.bitwise_count(self._words[rows_a] & self._words[rows_b]).sum(axis=1, dtype=np.int32)

    def count_unique(self, rows_a: np.ndarray, rows_b: np.ndarray) -> np.ndarray:
        """Return the number of members that only one of each two sets has."""
        return np.bitwise_count(self._words[rows_a] ^ self._words[rows_b]).sum(axis=1, dtype=np.int32)


class TargetFinder:
    """Judges pairs of images and lists their targets."""

    def __init__(self, annotations: AnnotationArrays, max_targets: int) -> None:
        """Prepare the sets; pairs with more than `max_targets` targets are not usable."""
        self._found = found = annotations
        self._max_targets = max_targets
        image_shape = (len(found.image_source), len(found.categories))
        self._categories = NameSets(found.object_image, found.object_category, image_shape)
        self._names = NameSets(
            found.part_object, found.part_name, (len(found.object_image), len(found.names))
        )

    def judge(self, task: str, images: np.ndarray, may_compare: np.ndarray) -> Judgement:
        """Judge pairs.

        Args:
            images: rows of images, shape (pairs, 2).
            may_compare: whether two categories may be compared, bool, shape (categories, categories).
        """
        if task == "common_objects":
            judgement = self._judge_objects(images)
        else:
            judgement = self._judge_parts(task, images, may_compare)
        is_too_long = judgement.num_targets > self._max_targets
        judgement.reason[is_too_long] = REASONS.index("too many targets")
        judgement.num_targets[is_too_long] = 0
        return judgement

    def targets(self, task: str, images: np.ndarray, objects: np.ndarray) -> TargetArrays:
        """List the targets of usable pairs.

        Args:
            images, objects: rows, both of shape (pairs, 2), as judged.
        """
        if task == "common_objects":
            return self._object_targets(images)
        return self._common_parts(objects) if task == "common_parts" else self._unique_parts(objects)

    def _judge_objects(self, images: np.ndarray) -> Judgement:
        pair, _, _ = self._shared_objects(images)
        num_targets = np.bincount(pair, minlength=len(images)).astype(np.int32)
        reason = np.where(num_targets > 0, 0, REASONS.index("no common object")).astype(np.int8)
        return Judgement(reason, num_targets, np.full((len(images), 2), -1, dtype=np.int32))

    def _judge_parts(self, task: str, images: np.ndarray, may_compare: np.ndarray) -> Judgement:
        num_found, objects = self._comparable_objects(images, may_compare)
        reason = np.zeros(len(images), dtype=np.int8)
        reason[num_found == 0] = REASONS.index("no comparable objects")
        reason[num_found > 1] = REASONS.index("ambiguous")
        has_parts = np.diff(self._found.first_part) > 0
        is_bare = (reason == 0) & ~has_parts[objects].all(axis=1)
        reason[is_bare] = REASONS.index("comparable object without parts")
        count = self._names.count_common if task == "common_parts" else self._names.count_unique
        num_targets = np.where(reason == 0, count(*objects.T), 0).astype(np.int32)
        missing = "no common part" if task == "common_parts" else "no unique part"
        reason[(reason == 0) & (num_targets == 0)] = REASONS.index(missing)
        objects[reason != 0] = -1
        return Judgement(reason, num_targets * (2 if task == "common_parts" else 1), objects)

    def _comparable_objects(
        self, images: np.ndarray, may_compare: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how many pairs of objects can be compared, and the last of them, of each pair of images."""
        first = self._found.first_object
        sizes = (first[images + 1] - first[images]).astype(np.int64)
        num_found = np.zeros(len(images), dtype=np.int64)
        objects = np.zeros((len(images), 2), dtype=np.int32)
        for rows in blocks(sizes.prod(axis=1), _MAX_PRODUCTS):
            pair, place = expand(sizes[rows, 0])
            pair += rows.start
            left = first[images[pair, 0]] + place
            group, place = expand(sizes[pair, 1])
            pair, left = pair[group], left[group]
            right = first[images[pair, 1]] + place
            category = self._found.object_category
            is_allowed = may_compare[category[left], category[right]]
            num_found += np.bincount(pair[is_allowed], minlength=len(images))
            objects[pair[is_allowed]] = np.stack([left, right], axis=1)[is_allowed]
        return num_found, objects

    def _shared_objects(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (pair, image index, object row) of every object whose category both images show."""
        first = self._found.first_object
        found = []
        for index in (0, 1):
            own, other = images[:, index], images[:, 1 - index]
            pair, place = expand(first[own + 1] - first[own])
            one = first[own[pair]] + place
            is_shared = self._categories.contains(other[pair], self._found.object_category[one])
            pair, one = pair[is_shared], one[is_shared]
            found.append((pair, np.full(len(pair), index), one))
        pair, image_index, one = (np.concatenate(column) for column in zip(*found, strict=True))
        return pair, image_index, one

    def _object_targets(self, images: np.ndarray) -> TargetArrays:
        pair, image_index, one = self._shared_objects(images)
        # Objects of an image already go from left to right, and a stable sort keeps that.
        keys = (
            pair.astype(np.int64) * len(self._found.categories) + self._found.object_category[one]
        ) * 2 + image_index
        order = np.argsort(keys, kind="stable")
        first = _starts(np.bincount(pair, minlength=len(images)))
        return TargetArrays(first, image_index[order], one[order], np.full(len(order), -1, dtype=np.int32))

    def _common_parts(self, objects: np.ndarray) -> TargetArrays:
        pair, left = self._parts_where(objects[:, 0], objects[:, 1], is_common=True)
        _, right = self._parts_where(objects[:, 1], objects[:, 0], is_common=True)
        # Both sides list the same names in the same order: name by name, the first image before the second.
        parts = np.stack([left, right], axis=1).ravel()
        first = 2 * _starts(np.bincount(pair, minlength=len(objects)))
        image_index = np.tile(np.arange(2), len(left))
        return TargetArrays(first, image_index, self._found.part_object[parts], parts)

    def _unique_parts(self, objects: np.ndarray) -> TargetArrays:
        pairs, parts = zip(
            self._parts_where(objects[:, 0], objects[:, 1], is_common=False),
            self._parts_where(objects[:, 1], objects[:, 0], is_common=False),
            strict=True,
        )
        image_index = np.repeat(np.arange(2), [len(one) for one in parts])
        pair, part = np.concatenate(pairs), np.concatenate(parts)
        order = np.argsort(pair, kind="stable")
        first = _starts(np.bincount(pair, minlength=len(objects)))
        return TargetArrays(first, image_index[order], self._found.part_object[part[order]], part[order])

    def _parts_where(
        self, own: np.ndarray, other: np.ndarray, *, is_common: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (pair, part row) of the parts of `own` whose name `other` has, or has not."""
        first = self._found.first_part
        pair, place = expand(first[own + 1] - first[own])
        part = first[own[pair]] + place
        is_wanted = self._names.contains(other[pair], self._found.part_name[part]) == is_common
        return pair[is_wanted], part[is_wanted]


def expand(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for groups of the given sizes, the group of each member and its place in the group."""
    # 32 bits are enough for a block, and half the memory to move.
    group = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    starts = _starts(sizes)[:-1].astype(np.int32)
    return group, np.arange(len(group), dtype=np.int32) - np.repeat(starts, sizes)


def blocks(sizes: np.ndarray, limit: int) -> list[slice]:
    """Cut rows into runs whose sizes add up to at most `limit`; a larger row is a run of its own."""
    ends = np.cumsum(sizes)
    found, start = [], 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        found.append(slice(start, stop))
        start = stop
    return found


def _starts(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)])


def _bit(members: np.ndarray) -> np.ndarray:
    return np.left_shift(np.uint64(1), (members & 63).astype(np.uint64))
