"""Image pairs for the three tasks, drawn by category, one source and one split at a time.

Everything is arrays of rows: 2.4 M pairs take seconds. Files get ids, never masks.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from calico.config import PairSection
from calico.core.files import write_json, write_manifest
from calico.core.tokens import TASKS
from calico.data.pairs.annotation_arrays import AnnotationArrays, read_annotations
from calico.data.pairs.array_targets import REASONS, Judgement, TargetFinder, blocks
from calico.data.pairs.category_pairs import CategoryPair, read_category_pairs
from calico.data.pairs.pair_files import PairBlock, write_counts, write_pair_blocks
from calico.data.pairs.sampling import PairSampler
from calico.data.pairs.statistics import Tally
from calico.errors import DataError

SPLITS = ("train", "val", "test")
_TRIES_PER_SLOT = 20
# So many slots without a new pair, one after another, and the images are taken as used up.
_MAX_FAILED_SLOTS = 100
_MAX_BLOCK_TARGETS = 1 << 17


@dataclass(frozen=True)
class Cell:
    """The pairs of one source and task; see `array_targets.Judgement` for `objects`."""

    source: str
    task: str
    images: np.ndarray
    objects: np.ndarray
    num_targets: np.ndarray


@dataclass
class Pairing:
    """What pairing did in one split: pairs made, and counts of what it rejected or could not fill."""

    num_pairs: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)


def pair(section: PairSection, unify_path: Path, curate_path: Path, output_path: Path) -> dict[str, Any]:
    """Make the samples of all splits; write {train,val,test}.{parquet,arrow}, statistics, plots, a manifest.

    Args:
        section: pairs per task and split, the seed, and the most targets of a sample.
        unify_path, curate_path: folders of the stages before.
        output_path: folder to write.

    Returns:
        The statistics.

    Raises:
        DataError: a table is missing or damaged, or a split that should have pairs gets none.
    """
    annotations = read_annotations(Path(unify_path))
    allowed = may_compare(annotations, read_category_pairs(Path(curate_path) / "category_pairs.csv"))
    finder = TargetFinder(annotations, section.max_targets)
    pairings = {split: Pairing() for split in SPLITS}
    tally = Tally(annotations)
    output_path = Path(output_path)
    for split, pairing in pairings.items():
        cells = make_pairs(section, split, annotations, finder, allowed, pairing)
        found = tally.watch(split, pair_blocks(cells, finder))
        write_pair_blocks(output_path / f"{split}.parquet", found, annotations)
    statistics = tally.describe(SPLITS)
    for name in ("rejected", "missing"):
        statistics[name] = {split: dict(getattr(pairing, name)) for split, pairing in pairings.items()}
    write_json(output_path / "statistics.json", statistics)
    write_counts(output_path / "plots", tally.rows())
    write_manifest(output_path)
    return statistics


def make_pairs(
    section: PairSection,
    split: str,
    annotations: AnnotationArrays,
    finder: TargetFinder,
    allowed: Mapping[str, np.ndarray],
    pairing: Pairing,
) -> Iterator[Cell]:
    """Yield the pairs of a split, by task and source; equal input gives equal pairs.

    Sources share a task's pairs equally. Where a source has too few, the rest is counted as missing.

    Args:
        section: quotas, and the seed.
        split: which images.
        annotations: of all splits.
        finder: judges pairs.
        allowed: by source, which categories may be compared.
        pairing: receives the counts.

    Raises:
        DataError: a split that should have pairs gets none.
    """
    sources = _sources_with_objects(annotations)
    cells = [
        (task, source, quota)
        for task in TASKS
        for source, quota in zip(
            sources, _shares(section.num_pairs.of(split, task), len(sources)), strict=True
        )
    ]
    for task, source, quota in cells:
        group = Group(annotations, source, split, allowed[source])
        if task != "common_objects" and (num_bare := group.count_bare()):
            pairing.rejected[f"{source}/{task}: object without parts"] = num_bare
        rng = np.random.default_rng([section.seed, zlib.crc32(f"{source}/{split}/{task}".encode())])
        cell = _Filling(pairing, group, finder, task, rng).fill(quota)
        pairing.num_pairs += len(cell.images)
        yield cell
    if any(section.num_pairs.of(split, task) for task in TASKS) and not pairing.num_pairs:
        raise DataError(
            f"split '{split}' of {', '.join(sources) or 'no source'} gives no image pair; rejected: "
            f"{dict(pairing.rejected)}. Add images or raise pair.max_targets."
        )


def pair_blocks(cells: Iterable[Cell], finder: TargetFinder) -> Iterator[PairBlock]:
    """Yield pairs with their targets, so many at a time that memory stays small."""
    for cell in cells:
        for rows in blocks(cell.num_targets, _MAX_BLOCK_TARGETS):
            targets = finder.targets(cell.task, cell.images[rows], cell.objects[rows])
            yield PairBlock(cell.source, cell.task, cell.images[rows], targets)


def may_compare(
    annotations: AnnotationArrays, category_pairs: Iterable[CategoryPair]
) -> dict[str, np.ndarray]:
    """Return by source which categories may be compared: each with itself, and the kept pairs."""
    code_of = {name: code for code, name in enumerate(annotations.categories)}
    allowed = {source: np.eye(len(code_of), dtype=bool) for source in annotations.sources}
    for kept in category_pairs:
        if kept.is_kept and kept.source in allowed and {kept.category_a, kept.category_b} <= code_of.keys():
            a, b = code_of[kept.category_a], code_of[kept.category_b]
            allowed[kept.source][[a, b], [b, a]] = True
    return allowed


@dataclass(frozen=True)
class Group:
    """The objects of one source and split."""

    annotations: AnnotationArrays
    source: str
    split: str
    may_compare: np.ndarray

    @cached_property
    def objects(self) -> np.ndarray:
        """Rows of the objects."""
        found = self.annotations
        if self.split not in found.splits:
            return np.empty(0, dtype=np.int64)
        is_inside = found.image_source == found.sources.index(self.source)
        is_inside &= found.image_split == found.splits.index(self.split)
        return np.flatnonzero(is_inside[found.object_image])

    def count_bare(self) -> int:
        """Return how many objects have no parts."""
        return int((~self._has_parts()).sum())

    def images_by_category(self, task: str) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return categories and the images of each; a part task needs an object with parts."""
        found = self.annotations
        objects = self.objects if task == "common_objects" else self.objects[self._has_parts()]
        places = np.stack([found.object_category[objects], found.object_image[objects]])
        categories, images = np.unique(places, axis=1)
        distinct, starts = np.unique(categories, return_index=True)
        return distinct, np.split(images, starts[1:]) if len(distinct) else []

    def _has_parts(self) -> np.ndarray:
        first = self.annotations.first_part
        return first[self.objects + 1] > first[self.objects]


class _Filling:
    """Fills the slots of one cell; categories are drawn once a slot, so rejections leave the mix as it is."""

    def __init__(
        self, pairing: Pairing, group: Group, finder: TargetFinder, task: str, rng: np.random.Generator
    ) -> None:
        self._pairing, self._group, self._finder, self._task = pairing, group, finder, task
        categories, images_of = group.images_by_category(task)
        partners = None if task == "common_objects" else group.may_compare[np.ix_(categories, categories)]
        self._sampler = PairSampler(images_of, partners, rng) if images_of else None
        self._tried = np.empty(0, dtype=np.int64)

    def fill(self, quota: int) -> Cell:
        """Return up to `quota` pairs; the rest is counted as missing."""
        cell = Cell(
            self._group.source,
            self._task,
            np.full((quota, 2), -1, dtype=np.int32),
            np.full((quota, 2), -1, dtype=np.int32),
            np.zeros(quota, dtype=np.int32),
        )
        pending, num_failed = np.arange(quota if self._sampler else 0), 0
        while len(pending) and num_failed < _MAX_FAILED_SLOTS:
            left = self._fill_slots(cell, pending)
            is_failure = len(pending) - len(left) < len(pending) / _MAX_FAILED_SLOTS
            num_failed = num_failed + len(pending) if is_failure else 0
            pending = left
        is_filled = cell.num_targets > 0
        if not is_filled.all():
            self._pairing.missing[f"{cell.source}/{cell.task}"] += int((~is_filled).sum())
        return replace(
            cell,
            images=cell.images[is_filled],
            objects=cell.objects[is_filled],
            num_targets=cell.num_targets[is_filled],
        )

    def _fill_slots(self, cell: Cell, slots: np.ndarray) -> np.ndarray:
        """Draw categories for the slots, then images until they are usable; return slots still empty."""
        assert self._sampler is not None
        categories = self._sampler.draw_categories(len(slots))
        for _ in range(_TRIES_PER_SLOT):
            images = self._sampler.draw_images(categories)
            new = self._mark_new(images)
            judgement = self._finder.judge(self._task, images[new], self._group.may_compare)
            self._count_rejected(judgement)
            is_usable = judgement.reason == 0
            filled, chosen = slots[new[is_usable]], new[is_usable]
            cell.images[filled] = images[chosen]
            cell.objects[filled] = judgement.objects[is_usable]
            cell.num_targets[filled] = judgement.num_targets[is_usable]
            slots, categories = np.delete(slots, chosen), np.delete(categories, chosen, axis=0)
            if not len(slots):
                break
        return slots

    def _mark_new(self, images: np.ndarray) -> np.ndarray:
        """Return the places of pairs of two images that were never tried before, in either order."""
        keys = images.min(axis=1).astype(np.int64) << 32 | images.max(axis=1)
        distinct, places = _first_places(keys)
        is_new = images[places, 0] != images[places, 1]
        if len(self._tried):
            before = np.minimum(np.searchsorted(self._tried, distinct), len(self._tried) - 1)
            is_new &= self._tried[before] != distinct
        # Both halves are sorted: a stable sort only merges them.
        self._tried = np.sort(np.concatenate([self._tried, distinct[is_new]]), kind="stable")
        return np.sort(places[is_new])

    def _count_rejected(self, judgement: Judgement) -> None:
        for code, number in enumerate(np.bincount(judgement.reason, minlength=len(REASONS))):
            if code and number:
                self._pairing.rejected[f"{self._group.source}/{self._task}: {REASONS[code]}"] += int(number)


def _first_places(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct keys, sorted, and where each comes first; four times as fast as `np.unique`."""
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(keys)])
    return ordered[starts], np.minimum.reduceat(order, starts) if len(keys) else order


def _sources_with_objects(annotations: AnnotationArrays) -> list[str]:
    codes = np.unique(annotations.image_source[annotations.object_image])
    return [annotations.sources[code] for code in codes]


def _shares(total: int, count: int) -> list[int]:
    """Divide a number into `count` almost equal ones, the larger first."""
    return [total // count + (index < total % count) for index in range(count)] if count else []
