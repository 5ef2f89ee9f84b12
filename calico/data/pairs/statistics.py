"""What a data set of pairs holds: Table 3's rows, pairs by source and task, and category counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from calico.core.tokens import TASKS
from calico.data.pairs.annotation_arrays import AnnotationArrays
from calico.data.pairs.pair_files import PairBlock


class Tally:
    """Counts pairs while they are written."""

    def __init__(self, annotations: AnnotationArrays) -> None:
        self._found = found = annotations
        self._num_targets: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
        self._num_pairs: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._images: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(found.image_ids), dtype=bool))
        self._uses_of_object = np.zeros(len(found.object_ids), dtype=np.int64)
        self._uses_of_part = {
            task: np.zeros(len(found.part_ids), dtype=np.int64) for task in ("common_parts", "unique_parts")
        }

    def watch(self, split: str, blocks: Iterable[PairBlock]) -> Iterator[PairBlock]:
        """Count each block of a split and pass it on."""
        for block in blocks:
            self.add(split, block)
            yield block

    def add(self, split: str, block: PairBlock) -> None:
        """Count a block; an object counts once in each pair that names it or a part of it."""
        targets = block.targets
        self._num_targets[split, block.task].append(np.diff(targets.first))
        self._num_pairs[split][block.source][block.task] += len(block.images)
        self._images[split][block.images] = True
        self._uses_of_object += np.bincount(_named_objects(block), minlength=len(self._uses_of_object))
        if block.task != "common_objects":
            uses = self._uses_of_part[block.task]
            uses += np.bincount(targets.parts, minlength=len(uses))

    def describe(self, splits: Sequence[str]) -> dict[str, Any]:
        """Return the statistics of appendix B, of all splits together and of each."""
        return {
            "all": self._describe_splits(splits),
            "splits": {split: self._describe_splits([split]) for split in splits},
            **self._describe_categories(),
        }

    def rows(self) -> list[tuple[str, str, int]]:
        """Return (kind, name, count) of what figures 9 and 11 to 14 show, the first of each kind first.

        Kinds are those of `describe(...)["occurrences"]`, and "pairs", named like "paco_lvis/common_parts".
        """
        occurrences = self._describe_categories()["occurrences"]
        by_source: Counter[str] = Counter()
        for sources in self._num_pairs.values():
            for source, tasks in sources.items():
                by_source.update({f"{source}/{task}": number for task, number in tasks.items()})
        pairs = [("pairs", name, by_source[name]) for name in sorted(by_source)]
        return pairs + [
            (kind, name, number) for kind, counts in occurrences.items() for name, number in counts.items()
        ]

    def _describe_splits(self, splits: Sequence[str]) -> dict[str, Any]:
        by_source: dict[str, Counter[str]] = defaultdict(Counter)
        for split in splits:
            for source, tasks in self._num_pairs[split].items():
                by_source[source] += tasks
        return {
            "num_pairs": sum(tasks.total() for tasks in by_source.values()),
            "num_images": int(np.logical_or.reduce([self._images[split] for split in splits]).sum()),
            "pairs_by_source": {source: dict(tasks) for source, tasks in by_source.items()},
            "instances_per_sample": {
                task: instances_per_sample(np.concatenate(counts))
                for task in TASKS
                if (counts := [one for split in splits for one in self._num_targets[split, task]])
            },
        }

    def _describe_categories(self) -> dict[str, Any]:
        found, uses_of_part = self._found, np.add(*self._uses_of_part.values())
        objects = _by_name(found.categories, found.object_category, self._uses_of_object > 0)
        parts = _by_name(found.names, found.part_name, uses_of_part > 0)
        uses = {"parts": uses_of_part, **self._uses_of_part}
        return {
            "num_objects": sum(objects.values()),
            "num_parts": sum(parts.values()),
            "num_object_categories": len(objects),
            "num_part_categories": len(parts),
            "objects_by_category": objects,
            "parts_by_category": parts,
            "occurrences": {
                "objects": _by_name(found.categories, found.object_category, self._uses_of_object),
                **{kind: _by_name(found.names, found.part_name, counts) for kind, counts in uses.items()},
            },
        }


def instances_per_sample(num_targets: np.ndarray) -> dict[str, Any]:
    """Return a column of Table 3: total, mean, maximum and median number of instances per sample."""
    return {
        "samples": len(num_targets),
        "total": int(num_targets.sum()),
        "mean": float(num_targets.mean()),
        "max": int(num_targets.max()),
        "median": float(np.median(num_targets)),
    }


def _named_objects(block: PairBlock) -> np.ndarray:
    """Return the objects that targets name or whose parts they name, once for each pair."""
    targets = block.targets
    pair = np.repeat(np.arange(len(block.images)), np.diff(targets.first))
    named = []
    for index in (0, 1):
        # Of one image, the parts of an object follow each other.
        rows = np.flatnonzero(targets.image_index == index)
        pairs, objects = pair[rows], targets.objects[rows]
        is_first = np.ones(len(rows), dtype=bool)
        is_first[1:] = (pairs[1:] != pairs[:-1]) | (objects[1:] != objects[:-1])
        named.append(objects[is_first])
    return np.concatenate(named)


def _by_name(names: Sequence[str], codes: np.ndarray, counts: np.ndarray) -> dict[str, int]:
    """Return what `counts` add up to for each name, the most first, without zeros."""
    totals = np.bincount(codes, weights=counts, minlength=len(names)).astype(np.int64)
    return {names[code]: int(totals[code]) for code in np.argsort(-totals, kind="stable") if totals[code]}
