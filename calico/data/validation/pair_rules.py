"""Rules of the pair files, one pass over each: a pair that has just the targets that follow is right.

The targets are derived anew by the plain rules of `calico.data.pairs.targets`, not by the arrays that wrote
them. Only where the two differ it is asked which rule is broken.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calico.core.pair_rows import PairTable
from calico.core.records import PairSample, Target
from calico.core.tokens import TASKS
from calico.data.pairs.targets import Comparable, UnusablePairError, targets_of
from calico.data.validation.annotation_rules import Annotations, Scene
from calico.data.validation.files import pair_batches
from calico.data.validation.row_rules import RowComparison
from calico.data.validation.rules import RuleBook
from calico.data.validation.text_rules import TextRules

_NUM_IMAGES = 2
_IMAGE_BITS = 30


@dataclass(frozen=True)
class PairLimits:
    """What pairs are judged by: comparable categories by source, and the most targets."""

    comparable: Mapping[str, Comparable]
    max_targets: int


class PairRules:
    """Checks pair files one after another.

    Attributes:
        num_pairs: by (split, source, task).
        num_targets: likewise.
        images: of each split, in order of first appearance.
    """

    def __init__(self, book: RuleBook, found: Annotations, limits: PairLimits, texts: TextRules) -> None:
        self._book, self._found, self._limits, self._texts = book, found, limits, texts
        self.num_pairs: Counter[tuple[str, str, str]] = Counter()
        self.num_targets: Counter[tuple[str, str, str]] = Counter()
        self.images: dict[str, dict[str, None]] = {}
        self._files: list[tuple[Path, int]] = []
        self._pair_ids = lru_cache(_read_pair_ids)
        self._ids, self._image_pairs = array("q"), array("q")

    def check_file(self, artifacts_path: Path, split: str) -> None:
        """Check the pairs of one split."""
        self.images[split] = {}
        self._files.append((artifacts_path / "pair" / f"{split}.parquet", len(self._ids)))
        rows = RowComparison(self._files[-1][0], PairTable, self._book["rows"])
        for start, batch in pair_batches(artifacts_path, split, self._book["schema"]):
            for number, pair in enumerate(_pairs(batch), start):
                self._check(pair, split)
                rows.compare(number, pair)

    def finish(self) -> None:
        """Check over all files that no pair and no id comes twice; call it last."""
        for rule in ("ids", "references", "repeats", "limits", "tasks", "conversations", "lengths"):
            self._book[rule].count(len(self._ids))
        self._book["leaks"].count(sum(map(len, self.images.values())))
        for row in _repeated(self._ids):
            self._book["ids"].violate(f"{self._name(row)}: another pair has this id.")
        for row in _repeated(self._image_pairs):
            if self._image_pairs[row] >= 0:
                self._book["repeats"].violate(f"{self._name(row)}: another pair shows the same two images.")

    def _check(self, pair: PairSample, split: str) -> None:
        key = (split, pair.source, pair.task)
        self.num_pairs[key] += 1
        self.num_targets[key] += len(pair.targets)
        self.images[split].update(dict.fromkeys(pair.image_ids))
        scenes = [self._found.scenes.get(image_id) for image_id in pair.image_ids]
        known = [scene for scene in scenes if scene]
        self._ids.append(hash(pair.pair_id))
        self._image_pairs.append(_image_pair(pair, known))
        place = f"pair/{split}.parquet: pair '{pair.pair_id}'"
        for image_id, scene in zip(pair.image_ids, scenes, strict=True):
            if scene and scene.split != split:
                self._book["leaks"].violate(f"{place}: image '{image_id}' belongs to {scene.split}.")
        self._check_limits(pair, place)
        self._check_targets(pair, known, place)
        self._texts.check(pair, place)

    def _check_limits(self, pair: PairSample, place: str) -> None:
        num_targets, most = len(pair.targets), self._limits.max_targets
        if not 1 <= num_targets <= most:
            self._book["limits"].violate(f"{place}: {num_targets} targets; pair.max_targets is {most}.")
        elif len({target.part_id or target.object_id for target in pair.targets}) < num_targets:
            self._book["limits"].violate(f"{place}: one mask is a target twice.")

    def _check_targets(self, pair: PairSample, known: list[Scene], place: str) -> None:
        """Derive the targets; where they are others, say why."""
        expected: tuple[Target, ...] | str = "its images are not two of its source"
        if not all(scene.is_sound for scene in known):
            return
        if len(known) == _NUM_IMAGES and {scene.source for scene in known} == {pair.source}:
            expected = self._expected(pair, known)
        if expected == pair.targets:
            return
        dangling = [fault for target in pair.targets for fault in self._dangling(pair, target)]
        dangling += [
            f"image '{image_id}' does not exist"
            for image_id in pair.image_ids
            if image_id not in self._found.scenes
        ]
        for fault in dangling:
            self._book["references"].violate(f"{place}: {fault}.")
        if not dangling:
            self._book["tasks"].violate(f"{place}: {_difference(pair.targets, expected)}.")

    def _expected(self, pair: PairSample, scenes: list[Scene]) -> tuple[Target, ...] | str:
        if pair.task not in TASKS:
            return f"there is no task '{pair.task}'"
        comparable = self._limits.comparable.get(pair.source, Comparable({}))
        try:
            return targets_of(pair.task, scenes[0].objects, scenes[1].objects, comparable)
        except UnusablePairError as error:
            return f"its images give none: {error}"

    def _dangling(self, pair: PairSample, target: Target) -> Iterator[str]:
        """Yield what is wrong with the ids of one target."""
        owner = self._found.image_of_object.get(target.object_id)
        if not 0 <= target.image_index < len(pair.image_ids):
            yield f"a target names image {target.image_index} of {len(pair.image_ids)}"
        elif owner is None:
            yield f"object '{target.object_id}' does not exist"
        elif owner != pair.image_ids[target.image_index]:
            yield f"object '{target.object_id}' is not in image {target.image_index}"
        if target.part_id is not None and target.part_id not in self._found.object_of_part:
            yield f"part '{target.part_id}' does not exist"
        elif target.part_id is not None and self._found.object_of_part[target.part_id] != target.object_id:
            yield f"part '{target.part_id}' is not of object '{target.object_id}'"

    def _name(self, row: int) -> str:
        path, first = next((path, first) for path, first in reversed(self._files) if first <= row)
        return f"pair/{path.name}: pair '{self._pair_ids(path)[row - first]}'"


def _read_pair_ids(path: Path) -> pa.ChunkedArray:
    return pq.ParquetFile(path).read(columns=["pair_id"], use_threads=False)["pair_id"]


def _pairs(batch: pa.RecordBatch) -> Iterator[PairSample]:
    """Yield the samples of a batch; column by column, which is twice as fast as row by row."""
    targets = batch["targets"].flatten()
    fields = (targets.field(name).to_pylist() for name in ("image_index", "label", "object_id", "part_id"))
    listed = [Target(*values) for values in zip(*fields, strict=True)]
    image_ids = batch["image_ids"].flatten().to_pylist()
    names = [batch[name].to_pylist() for name in ("pair_id", "task", "source")]
    bounds = [_bounds(batch[name]) for name in ("image_ids", "targets")]
    for pair_id, task, source, images, rows in zip(*names, *bounds, strict=True):
        yield PairSample(pair_id, task, source, tuple(image_ids[images]), tuple(listed[rows]))


def _bounds(column: pa.Array) -> list[slice]:
    ends = np.cumsum(column.value_lengths().to_numpy()).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _image_pair(pair: PairSample, known: list[Scene]) -> int:
    """Return one number for a task and two images in any order; -1 where that is not what the pair is."""
    if len(known) != _NUM_IMAGES or pair.task not in TASKS:
        return -1
    first, second = sorted(scene.number for scene in known)
    return (TASKS.index(pair.task) << _IMAGE_BITS | first) << _IMAGE_BITS | second


def _repeated(keys: array) -> list[int]:
    """Return the rows whose key an earlier row has too."""
    values = np.frombuffer(keys, dtype=np.int64)
    order = np.argsort(values, kind="stable")
    is_again = values[order[1:]] == values[order[:-1]]
    rows: list[int] = np.sort(order[1:][is_again]).tolist()
    return rows


def _difference(actual: tuple[Target, ...], expected: tuple[Target, ...] | str) -> str:
    """Say how targets differ from the ones that follow from the images."""
    if isinstance(expected, str):
        return expected
    if Counter(actual) == Counter(expected):
        return f"its {len(actual)} targets stand in another order than the task's"
    missing = [target.label for target in expected if target not in actual]
    extra = [target.label for target in actual if target not in expected]
    words = [f"lacks '{missing[0]}'" for _ in missing[:1]] + [f"has '{extra[0]}' too much" for _ in extra[:1]]
    return f"{len(actual)} targets where {len(expected)} follow; it {' and '.join(words)}"
