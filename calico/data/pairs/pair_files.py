"""Write blocks of pairs as the pair table; integers become ids only here."""

import csv
import io
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
from calico.core.tables import PAIRS
from calico.data.pairs.annotation_arrays import AnnotationArrays
from calico.data.pairs.array_targets import TargetArrays

# A row group of so many pairs is decoded in about a millisecond; smaller ones make the footer slow to read.
_ROWS_PER_GROUP = 2048
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
    """Write the blocks one after another as one parquet file of small row groups, atomically."""
    local_ids = _after_slash(annotations.image_ids)
    # Ids repeat little inside a row group: a dictionary makes the file larger and slower to write.
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": ["task", "source", "targets.list.element.label"],
        "write_statistics": False,
    }
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, PAIRS, **options) as writer,
        ThreadPoolExecutor(max_workers=1) as writing,
    ):
        # One block is compressed and written while the next one is made.
        written: Future[None] | None = None
        for block in blocks:
            table = _to_table(block, annotations, local_ids)
            if written is not None:
                written.result()
            written = writing.submit(writer.write_table, table, row_group_size=_ROWS_PER_GROUP)
        if written is not None:
            written.result()


def write_counts(folder: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    """Write (kind, name, count) rows as counts.parquet, and the first of each kind as <kind>.csv, to plot."""
    columns = {
        name: list(column) for name, column in zip(_COUNTS.names, zip(*rows, strict=True), strict=True)
    }
    table = pa.Table.from_pydict(columns, schema=_COUNTS)
    with atomic_path(folder / "counts.parquet") as temporary:
        pq.write_table(table, temporary)
    for kind in dict.fromkeys(columns["kind"]):
        first = [(name, count) for other, name, count in rows if other == kind][:_NUM_PLOTTED]
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([("name", "count"), *first])
        write_text(folder / f"{kind}.csv", stream.getvalue())


def _to_table(block: PairBlock, annotations: AnnotationArrays, local_ids: pa.Array) -> pa.Table:
    num_pairs = len(block.images)
    prefix = pa.scalar(f"{block.source}/{block.task}/")
    left, right = (local_ids.take(pa.array(block.images[:, index])) for index in (0, 1))
    columns = [
        pc.binary_join_element_wise(prefix, pc.binary_join_element_wise(left, right, "-"), ""),
        pa.repeat(block.task, num_pairs),
        pa.repeat(block.source, num_pairs),
        pa.ListArray.from_arrays(
            np.arange(0, 2 * num_pairs + 1, 2, dtype=np.int32),
            annotations.image_ids.take(pa.array(block.images.ravel())),
        ),
        _target_lists(block.targets, annotations),
    ]
    return pa.Table.from_arrays(columns, schema=PAIRS)


def _target_lists(targets: TargetArrays, annotations: AnnotationArrays) -> pa.Array:
    is_part = targets.parts >= 0
    parts = pa.array(targets.parts, mask=~is_part)
    objects = pa.array(targets.objects)
    labels = annotations.part_labels.take(parts) if is_part.any() else annotations.object_labels.take(objects)
    values = [
        pa.array(targets.image_index.astype(np.int32)),
        labels,
        annotations.object_ids.take(objects),
        annotations.part_ids.take(parts),
    ]
    fields = list(PAIRS.field("targets").type.value_type)
    return pa.ListArray.from_arrays(
        targets.first.astype(np.int32), pa.StructArray.from_arrays(values, fields=fields)
    )


def _after_slash(image_ids: pa.Array) -> pa.Array:
    """Return the ids without their source: what follows the first slash."""
    return pc.replace_substring_regex(image_ids, r"^[^/]*/", "")
