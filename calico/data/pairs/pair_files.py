"""Write blocks of pairs as the pair table; integers become ids only here."""

import csv
import io
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calico.core.files import atomic_path, write_text
from calico.core.pair_rows import TARGET, RowBlock, RowWriter
from calico.core.row_files import rows_path
from calico.core.tables import PAIRS
from calico.core.tokens import TASKS
from calico.data.pairs.annotation_arrays import AnnotationArrays
from calico.data.pairs.array_targets import TargetArrays

# Blocks that may wait to be written; each is a few megabytes of integers.
_MAX_WAITING = 16
# As many as figures 11 to 14 of the paper show.
_NUM_PLOTTED = 30
_COUNTS = pa.schema([("kind", pa.string()), ("name", pa.string()), ("count", pa.int64())])


@dataclass(frozen=True)
class PairBlock:
    """Pairs of one source and task; `images` are rows, shape (pairs, 2)."""

    source: str
    task: str
    images: np.ndarray
    targets: TargetArrays


def write_pair_blocks(path: Path, blocks: Iterable[PairBlock], annotations: AnnotationArrays) -> None:
    """Write the blocks one after another as parquet and, for reading single rows, below `rows/`, atomically.

    Args:
        path: the parquet file.
        blocks: drawn while earlier ones are being written.
        annotations: what the rows of a block mean.
    """
    # Ids repeat little inside a row group: a dictionary makes the file larger and slower to write.
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": ["task", "source", "targets.list.element.label"],
        "write_statistics": False,
    }
    names = _Names(annotations)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, PAIRS, **options) as parquet,
        RowWriter(rows_path(path), names.of_kind) as rows,
        ThreadPoolExecutor(max_workers=1) as writing,
    ):

        def write(block: PairBlock) -> None:
            row_block = names.to_rows(block)
            rows.write(row_block)
            parquet.write_batch(names.to_batch(row_block))

        waiting: deque[Future[None]] = deque()
        for block in blocks:
            waiting.append(writing.submit(write, block))
            if len(waiting) > _MAX_WAITING:
                waiting.popleft().result()
        for written in waiting:
            written.result()


def write_counts(folder: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    """Write (kind, name, count) rows as counts.parquet, and the first of each kind as <kind>.csv, to plot."""
    columns = {name: [row[place] for row in rows] for place, name in enumerate(_COUNTS.names)}
    table = pa.Table.from_pydict(columns, schema=_COUNTS)
    with atomic_path(folder / "counts.parquet") as temporary:
        pq.write_table(table, temporary)
    for kind in dict.fromkeys(columns["kind"]):
        first = [(name, count) for other, name, count in rows if other == kind][:_NUM_PLOTTED]
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([("name", "count"), *first])
        write_text(folder / f"{kind}.csv", stream.getvalue())


class _Names:
    """The names behind the rows of the annotations, and blocks of pairs with them."""

    def __init__(self, annotations: AnnotationArrays) -> None:
        part_labels = pc.dictionary_encode(annotations.part_labels)
        categories = pa.array(annotations.categories, pa.string())
        self.of_kind = {
            "task": pa.array(TASKS),
            "source": pa.array(annotations.sources, pa.string()),
            "image": annotations.image_ids,
            "label": pa.concat_arrays([categories, part_labels.dictionary]),
            "object": annotations.object_ids,
            "part": annotations.part_ids,
        }
        # What follows the first slash: the id without its source. A pair's id joins two of them by a dash, so
        # that a dash in the name of a person's own photograph is written otherwise.
        local = pc.replace_substring_regex(annotations.image_ids, r"^[^/]*/", "")
        self._local_images = pc.replace_substring(pc.replace_substring(local, "%", "%25"), "-", "%2D")
        self._sources = annotations.sources
        self._object_label = annotations.object_category
        self._part_label = part_labels.indices.to_numpy() + len(categories)

    def to_rows(self, block: PairBlock) -> RowBlock:
        """Give the pairs their ids and labels."""
        num_pairs, found = len(block.images), block.targets
        prefix = pa.scalar(f"{block.source}/{block.task}/")
        left, right = (self._local_images.take(pa.array(block.images[:, index])) for index in (0, 1))
        targets = np.empty(len(found.objects), dtype=TARGET)
        targets["image_index"], targets["object"], targets["part"] = (
            found.image_index,
            found.objects,
            found.parts,
        )
        targets["label"] = self._object_label[found.objects]
        is_part = found.parts >= 0
        targets["label"][is_part] = self._part_label[found.parts[is_part]]
        return RowBlock(
            pair_ids=pc.binary_join_element_wise(prefix, pc.binary_join_element_wise(left, right, "-"), ""),
            tasks=np.full(num_pairs, TASKS.index(block.task), dtype=np.int32),
            sources=np.full(num_pairs, self._sources.index(block.source), dtype=np.int32),
            first_image=np.arange(0, 2 * num_pairs + 1, 2, dtype=np.int32),
            images=block.images.ravel(),
            first_target=found.first.astype(np.int32),
            targets=targets,
        )

    def to_batch(self, rows: RowBlock) -> pa.RecordBatch:
        """Return the pairs with the columns of `PAIRS`."""

        def take(kind: str, codes: np.ndarray) -> pa.Array:
            # -1 stands for no name.
            return self.of_kind[kind].take(pa.array(codes, pa.int32(), mask=codes < 0))

        values = [
            pa.array(rows.targets["image_index"]),
            *(take(kind, rows.targets[kind]) for kind in ("label", "object", "part")),
        ]
        fields = list(PAIRS.field("targets").type.value_type)
        columns = [
            rows.pair_ids,
            take("task", rows.tasks),
            take("source", rows.sources),
            pa.ListArray.from_arrays(rows.first_image, take("image", rows.images)),
            pa.ListArray.from_arrays(rows.first_target, pa.StructArray.from_arrays(values, fields=fields)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=PAIRS)
