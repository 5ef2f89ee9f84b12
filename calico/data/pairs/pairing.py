"""Image pairs for the three tasks, drawn by category, one source and one split at a time.

Categories are drawn in proportion to their images, so the pairs keep the sources' distribution (appendix
A.1); images of a category come from a shuffled deck, so that all are used before one is used again.
"""

import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import numpy as np

from calico.config import PairSection
from calico.core import tables
from calico.core.files import write_json, write_manifest
from calico.core.masks import box_xyxy
from calico.core.records import ImageRecord, ObjectInstance, PairSample, PartInstance
from calico.core.tokens import TASKS
from calico.data.pairs.curate import CategoryPair, read_category_pairs
from calico.data.pairs.statistics import describe
from calico.data.pairs.targets import Comparable, PairableObject, UnusablePairError, targets_of
from calico.errors import DataError

SPLITS = ("train", "val", "test")
# The paper does not say how many pairs are of one category; a quarter leaves most to different ones.
_SAME_CATEGORY_SHARE = 0.25
_TRIES_PER_SLOT = 20
# So many slots without a new pair, one after another, and the images are taken as used up.
_MAX_FAILED_SLOTS = 100


@dataclass(frozen=True)
class Pool:
    """The images of one source and split, ready to be paired.

    Attributes:
        images: objects of each image, left to right.
        by_category: images of each category; for part tasks, of objects that have parts.
    """

    source: str
    images: Mapping[str, Sequence[PairableObject]]
    by_category: Mapping[str, Sequence[str]]
    comparable: Comparable
    max_targets: int


@dataclass
class Pairing:
    """What pairing found: samples, and counts of what it rejected or could not fill."""

    samples: list[PairSample] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)


def pair(section: PairSection, unify_path: Path, curate_path: Path, output_path: Path) -> dict[str, Any]:
    """Make the samples of all splits; write {train,val,test}.parquet, statistics.json and manifest.json.

    Args:
        section: pairs per task and split, the seed, and the most targets of a sample.
        unify_path, curate_path: folders of the stages before.
        output_path: folder to write.

    Returns:
        The statistics.

    Raises:
        DataError: a table is missing or damaged, or a split that should have pairs gets none.
    """
    unify_path, output_path = Path(unify_path), Path(output_path)
    images = tables.read_images(unify_path / "images.parquet")
    objects = tables.read_objects(unify_path / "objects.parquet")
    parts = tables.read_parts(unify_path / "parts.parquet")
    category_pairs = read_category_pairs(Path(curate_path) / "category_pairs.csv")
    pairings = make_pairs(section, images, objects, parts, category_pairs)
    for split, pairing in pairings.items():
        tables.write_pairs(output_path / f"{split}.parquet", pairing.samples)
    statistics = describe({split: pairing.samples for split, pairing in pairings.items()}, objects, parts)
    for name in ("rejected", "missing"):
        statistics[name] = {split: dict(getattr(pairing, name)) for split, pairing in pairings.items()}
    write_json(output_path / "statistics.json", statistics)
    write_manifest(output_path)
    return statistics


def make_pairs(
    section: PairSection,
    images: Sequence[ImageRecord],
    objects: Iterable[ObjectInstance],
    parts: Iterable[PartInstance],
    category_pairs: Iterable[CategoryPair],
) -> dict[str, Pairing]:
    """Return the samples of each split; equal input gives equal samples.

    Sources share a task's pairs equally. Where a source has too few, the rest is counted as missing.

    Raises:
        DataError: a split that should have pairs gets none.
    """
    partners = _partners(category_pairs)
    groups = _by_source_and_split(images, _pairable_objects(objects, parts))
    sources = sorted({source for source, _ in groups})
    pairings: dict[str, Pairing] = {}
    for split in SPLITS:
        pairings[split] = pairing = Pairing()
        quotas = _shares(getattr(section.num_pairs, split), len(sources))
        for task, (source, quota) in product(TASKS, zip(sources, quotas, strict=True)):
            group = groups[source, split]
            comparable = Comparable(partners.get(source, {}))
            pool = Pool(source, group, _by_category(group, task), comparable, section.max_targets)
            if task != "common_objects" and (num_bare := _count_bare(group)):
                pairing.rejected[f"{source}/{task}: object without parts"] = num_bare
            rng = np.random.default_rng([section.seed, zlib.crc32(f"{source}/{split}/{task}".encode())])
            _fill(pairing, pool, task, quota, rng)
        if getattr(section.num_pairs, split) and not pairing.samples:
            raise DataError(
                f"split '{split}' of {', '.join(sources) or 'no source'} gives no image pair; rejected: "
                f"{dict(pairing.rejected)}. Add images or raise pair.max_targets."
            )
    return pairings


def _fill(pairing: Pairing, pool: Pool, task: str, quota: int, rng: np.random.Generator) -> None:
    """Add up to `quota` samples of one task; the rest is counted as missing."""
    drawer = _Drawer(pool, task, rng)
    seen: set[frozenset[str]] = set()
    num_found = num_failed = 0
    while num_found < quota and num_failed < _MAX_FAILED_SLOTS and pool.by_category:
        sample = _fill_slot(pairing, pool, task, drawer, seen)
        if sample:
            pairing.samples.append(sample)
        num_found += sample is not None
        num_failed = 0 if sample else num_failed + 1
    if num_found < quota:
        pairing.missing[f"{pool.source}/{task}"] += quota - num_found


def _fill_slot(
    pairing: Pairing, pool: Pool, task: str, drawer: "_Drawer", seen: set[frozenset[str]]
) -> PairSample | None:
    """Draw two categories once, then images until a pair is usable: rejections leave the mix as it is."""
    categories = drawer.draw_categories()
    for _ in range(_TRIES_PER_SLOT):
        image_ids = drawer.draw_images(*categories)
        if len(set(image_ids)) < 2 or frozenset(image_ids) in seen:
            continue
        seen.add(frozenset(image_ids))
        try:
            targets = targets_of(task, pool.images[image_ids[0]], pool.images[image_ids[1]], pool.comparable)
            if len(targets) > pool.max_targets:
                raise UnusablePairError("too many targets")
        except UnusablePairError as reason:
            pairing.rejected[f"{pool.source}/{task}: {reason}"] += 1
            continue
        pair_id = f"{pool.source}/{task}/{'-'.join(image_id.partition('/')[2] for image_id in image_ids)}"
        return PairSample(pair_id, task, pool.source, image_ids, targets)
    return None


class _Drawer:
    """Draws categories in proportion to their images, and images from each category's deck."""

    def __init__(self, pool: Pool, task: str, rng: np.random.Generator) -> None:
        self._rng = rng
        self._categories = sorted(pool.by_category)
        self._decks = {category: _Deck(pool.by_category[category], rng) for category in self._categories}
        self._weights = {category: len(pool.by_category[category]) for category in self._categories}
        self._partners = {
            category: [] if task == "common_objects" else sorted(
                pool.comparable.partners.get(category, frozenset()) & set(self._categories)
            )
            for category in self._categories
        }  # fmt: skip
        alone = sum(weight for category, weight in self._weights.items() if not self._partners[category])
        paired = sum(self._weights.values()) - alone
        # Categories without a partner are always paired with themselves; the others make up the rest.
        rest = max(0.0, _SAME_CATEGORY_SHARE * (alone + paired) - alone)
        self._same_share = rest / paired if paired else 1.0

    def draw_categories(self) -> tuple[str, str]:
        """Return the categories of the two images; equal for about `_SAME_CATEGORY_SHARE` of the draws."""
        first = self._weighted(self._categories)
        if not self._partners[first] or self._rng.random() < self._same_share:
            return first, first
        return first, self._weighted(self._partners[first])

    def draw_images(self, category_a: str, category_b: str) -> tuple[str, str]:
        """Return one image of each category; they may be the same."""
        return self._decks[category_a].draw(), self._decks[category_b].draw()

    def _weighted(self, names: Sequence[str]) -> str:
        place = int(self._rng.integers(sum(self._weights[name] for name in names)))
        return names[bisect_right(list(accumulate(self._weights[name] for name in names)), place)]


class _Deck:
    """Image ids in random order; shuffled again when all were drawn."""

    def __init__(self, image_ids: Sequence[str], rng: np.random.Generator) -> None:
        self._image_ids = image_ids
        self._rng = rng
        self._order: list[int] = []

    def draw(self) -> str:
        if not self._order:
            self._order = self._rng.permutation(len(self._image_ids)).tolist()
        return self._image_ids[self._order.pop()]


def _pairable_objects(
    objects: Iterable[ObjectInstance], parts: Iterable[PartInstance]
) -> dict[str, list[PairableObject]]:
    """Return the objects of each image, left to right."""
    part_ids: dict[str, dict[str, str]] = defaultdict(dict)
    for part in parts:
        part_ids[part.object_id][part.category] = part.part_id
    by_image: dict[str, list[PairableObject]] = defaultdict(list)
    for one in objects:
        names = part_ids.get(one.object_id, {})
        by_image[one.image_id].append(
            PairableObject(one.object_id, one.image_id, one.category, box_xyxy(one.rle)[0], names)
        )
    for found in by_image.values():
        found.sort(key=lambda one: (one.left_px, one.object_id))
    return by_image


def _by_source_and_split(
    images: Iterable[ImageRecord], by_image: Mapping[str, Sequence[PairableObject]]
) -> dict[tuple[str, str], dict[str, Sequence[PairableObject]]]:
    """Return the images that hold objects, in the order of the table."""
    groups: dict[tuple[str, str], dict[str, Sequence[PairableObject]]] = defaultdict(dict)
    for image in images:
        if image.image_id in by_image:
            groups[image.source, image.split][image.image_id] = by_image[image.image_id]
    return groups


def _count_bare(images: Mapping[str, Sequence[PairableObject]]) -> int:
    return sum(not one.part_ids for found in images.values() for one in found)


def _by_category(images: Mapping[str, Sequence[PairableObject]], task: str) -> dict[str, list[str]]:
    """Return the images of each category; a part task needs an object with parts."""
    by_category: dict[str, list[str]] = defaultdict(list)
    for image_id, found in images.items():
        for category in sorted({one.category for one in found if task == "common_objects" or one.part_ids}):
            by_category[category].append(image_id)
    return by_category


def _partners(category_pairs: Iterable[CategoryPair]) -> dict[str, dict[str, frozenset[str]]]:
    found: dict[str, dict[str, set[str]]] = defaultdict(partial(defaultdict, set))
    for kept in category_pairs:
        if kept.is_kept:
            found[kept.source][kept.category_a].add(kept.category_b)
            found[kept.source][kept.category_b].add(kept.category_a)
    return {
        source: {name: frozenset(others) for name, others in by_name.items()}
        for source, by_name in found.items()
    }


def _shares(total: int, count: int) -> list[int]:
    """Divide a number into `count` almost equal ones, the larger first."""
    return [total // count + (index < total % count) for index in range(count)] if count else []
