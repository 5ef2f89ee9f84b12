"""The parquet tables between stages: one schema each, read to and written from the records.

A table is written atomically and read strictly: other columns than the schema's are a `DataError`. Masks are
stored as COCO's compressed run lengths with their size.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calico.core import caption_rows, image_rows
from calico.core.files import PARQUET_DAMAGE, atomic_path, one_line, write_parquet
from calico.core.masks import Rle, box_xyxy
from calico.core.pair_rows import write_rows
from calico.core.records import (
    Answer,
    CaptionPhrase,
    CaptionRecord,
    ImageRecord,
    ObjectInstance,
    PairSample,
    PartInstance,
    PredictedMask,
    Target,
)
from calico.core.row_files import RowFileWriter, rows_path
from calico.errors import DataError

# Of some kilobytes each.
_CAPTIONS_AT_ONCE = 4096

_TEXT = pa.string()
_INTEGER = pa.int64()


def _schema(**fields: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in fields.items()])


_RLE_FIELDS = {"rle_counts": pa.binary(), "height": pa.int32(), "width": pa.int32()}

IMAGES = _schema(image_id=_TEXT, source=_TEXT, path=_TEXT, height=pa.int32(), width=pa.int32(), split=_TEXT)
# Measured on the mask: the tight box as left, top, right, bottom, and the number of pixels.
_MEASURES = {"box_xyxy": pa.list_(pa.int32(), 4), "area_px": _INTEGER}
OBJECTS = _schema(object_id=_TEXT, image_id=_TEXT, category=_TEXT, **_RLE_FIELDS, **_MEASURES)
PARTS = _schema(part_id=_TEXT, object_id=_TEXT, image_id=_TEXT, category=_TEXT, **_RLE_FIELDS, **_MEASURES)
CAPTIONS = _schema(
    image_id=_TEXT,
    text=_TEXT,
    phrases=pa.list_(pa.struct(list(_schema(label=_TEXT, start=pa.int32(), end=pa.int32(), **_RLE_FIELDS)))),
)
REJECTED = _schema(source=_TEXT, file=_TEXT, image_id=_TEXT, annotation_id=_TEXT, reason=_TEXT)
PAIRS = _schema(
    pair_id=_TEXT,
    task=_TEXT,
    source=_TEXT,
    image_ids=pa.list_(_TEXT),
    targets=pa.list_(
        pa.struct(list(_schema(image_index=pa.int32(), label=_TEXT, object_id=_TEXT, part_id=_TEXT)))
    ),
)
PREDICTIONS = _schema(
    pair_id=_TEXT, task=_TEXT, image_index=pa.int32(), label=_TEXT, **_RLE_FIELDS, score=pa.float64()
)
ANSWERS = _schema(
    pair_id=_TEXT, task=_TEXT, text=_TEXT, num_malformed=pa.int32(), faults=pa.map_(_TEXT, pa.int32())
)


@dataclass(frozen=True)
class Rejection:
    """An annotation that the unify stage left out.

    Attributes:
        image_id: "" where a file as a whole was left out.
        annotation_id: the source's own, "" where an image as a whole was left out.
        reason: a short text without values, as it is counted.
        file: annotation file, relative to the folder of the sources where it lies in it.
    """

    source: str
    image_id: str
    annotation_id: str
    reason: str
    file: str = ""


def read_images(path: Path) -> list[ImageRecord]:
    """Read the images of all sources.

    Raises:
        DataError: as `read_table`; so for every reader here.
    """
    return [ImageRecord(**row) for row in _read(path, IMAGES)]


def write_images(path: Path, images: Iterable[ImageRecord]) -> None:
    """Write images as parquet and, for looking up single ones, below `rows/` beside it; atomically."""
    images = list(images)
    write_parquet(path, [vars(image) for image in images], IMAGES)
    with RowFileWriter(rows_path(path), image_rows.LAYOUT) as row_files:
        row_files.write(*image_rows.pack(images))


def read_objects(path: Path) -> list[ObjectInstance]:
    """Read object instances."""
    return [
        ObjectInstance(row["object_id"], row["image_id"], row["category"], _rle(row))
        for row in _read(path, OBJECTS)
    ]


def write_objects(path: Path, objects: Iterable[ObjectInstance]) -> None:
    """Write object instances atomically."""
    rows = [_with_columns(instance, instance.rle) | _measures(instance.rle) for instance in objects]
    write_parquet(path, rows, OBJECTS)


def read_parts(path: Path) -> list[PartInstance]:
    """Read part instances."""
    return [
        PartInstance(row["part_id"], row["object_id"], row["image_id"], row["category"], _rle(row))
        for row in _read(path, PARTS)
    ]


def write_parts(path: Path, parts: Iterable[PartInstance]) -> None:
    """Write part instances atomically."""
    rows = [_with_columns(instance, instance.rle) | _measures(instance.rle) for instance in parts]
    write_parquet(path, rows, PARTS)


def caption_from_row(row: Mapping[str, Any]) -> CaptionRecord:
    """Return the caption of one row of the table `CAPTIONS`."""
    phrases = (CaptionPhrase(one["start"], one["end"], one["label"], _rle(one)) for one in row["phrases"])
    return CaptionRecord(row["image_id"], row["text"], tuple(phrases))


def write_captions(path: Path, captions: Iterable[CaptionRecord]) -> None:
    """Write grounded captions as parquet and, for reading single ones, below `rows/` beside it; atomically.

    Args:
        path: the parquet file.
        captions: drawn some thousand at a time.
    """
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, CAPTIONS) as parquet,
        RowFileWriter(rows_path(path), caption_rows.LAYOUT) as row_files,
    ):
        stream = iter(captions)
        while block := list(islice(stream, _CAPTIONS_AT_ONCE)):
            rows = [
                vars(caption) | {"phrases": [_with_columns(phrase, phrase.rle) for phrase in caption.phrases]}
                for caption in block
            ]
            parquet.write_table(pa.Table.from_pylist(rows, schema=CAPTIONS))
            row_files.write(*caption_rows.pack(block))


def read_rejected(path: Path) -> list[Rejection]:
    """Read the annotations that the unify stage left out."""
    return [Rejection(**row) for row in _read(path, REJECTED)]


def write_rejected(path: Path, rejected: Iterable[Rejection]) -> None:
    """Write rejected annotations atomically."""
    write_parquet(path, [vars(rejection) for rejection in rejected], REJECTED)


def read_pairs(path: Path) -> list[PairSample]:
    """Read pair samples; the order of the rows is the order of the file."""
    return [pair_from_row(row) for row in _read(path, PAIRS)]


def pair_from_row(row: Mapping[str, Any]) -> PairSample:
    """Return the sample of one row of the table `PAIRS`."""
    targets = tuple(Target(**target) for target in row["targets"])
    return PairSample(row["pair_id"], row["task"], row["source"], tuple(row["image_ids"]), targets)


def write_pairs(path: Path, pairs: Iterable[PairSample]) -> None:
    """Write pair samples as parquet and, for reading single rows, below `rows/` beside it; atomically."""
    pairs = list(pairs)
    rows = [
        vars(pair) | {"image_ids": list(pair.image_ids), "targets": [vars(target) for target in pair.targets]}
        for pair in pairs
    ]
    write_parquet(path, rows, PAIRS)
    write_rows(rows_path(path), pairs)


def read_predictions(path: Path) -> list[PredictedMask]:
    """Read predicted masks."""
    return [
        PredictedMask(row["pair_id"], row["task"], row["image_index"], row["label"], _rle(row), row["score"])
        for row in _read(path, PREDICTIONS)
    ]


def write_predictions(path: Path, predictions: Iterable[PredictedMask]) -> None:
    """Write predicted masks atomically."""
    write_parquet(
        path, [_with_columns(prediction, prediction.rle) for prediction in predictions], PREDICTIONS
    )


def read_answers(path: Path) -> list[Answer]:
    """Read generated answers."""
    return [Answer(**row | {"faults": tuple(row["faults"])}) for row in _read(path, ANSWERS)]


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write generated answers atomically."""
    write_parquet(path, [vars(answer) for answer in answers], ANSWERS)


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns, whole and with the types of the schema.

    Raises:
        DataError: the file is missing or no parquet, has other columns, values of other types or text that is
            not UTF-8, or empty cells.
    """
    names = list(columns or schema.names)
    try:
        file = pq.ParquetFile(path)
        found = file.schema_arrow.names
        table = file.read(columns=names) if sorted(found) == sorted(schema.names) else None
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except PARQUET_DAMAGE as error:
        raise DataError(
            f"{path}: not a parquet file ({one_line(error)}). Delete it, run its stage again."
        ) from error
    if table is None:
        raise DataError(
            f"{path}: columns are {', '.join(found)}, expected {', '.join(schema.names)}. "
            "Another version wrote it; run its stage again."
        )
    try:
        table = table.select(names).cast(pa.schema([schema.field(name) for name in names]))
        table.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: wrong values ({one_line(error)}). Delete it, run its stage again."
        ) from error
    for column in (gap for name in names for gap in gaps(table[name], name)):
        raise DataError(f"{path}: column {column} has empty cells. Delete it, run its stage again.")
    return table


def gaps(column: Any, name: str) -> Iterator[str]:
    """Yield the name of each column, also inside lists and structures, that has empty cells.

    Only `targets.part_id` may have them: an object has no part.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if name == "targets.part_id":
        return
    if any(chunk.null_count for chunk in chunks):
        yield name
    for chunk in chunks:
        if pa.types.is_list(chunk.type) or pa.types.is_fixed_size_list(chunk.type):
            yield from gaps(chunk.flatten(), name)
        elif pa.types.is_struct(chunk.type):
            for index, field in enumerate(chunk.type):
                yield from gaps(chunk.field(index), f"{name}.{field.name}")


def _read(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(path, schema).to_pylist()
    return rows


def _rle(row: Mapping[str, Any]) -> Rle:
    return Rle(row["height"], row["width"], row["rle_counts"])


def _measures(rle: Rle) -> dict[str, Any]:
    return {"box_xyxy": [int(side) for side in box_xyxy(rle)], "area_px": rle.area_px}


def _with_columns(record: object, rle: Rle) -> dict[str, Any]:
    """Return the record's fields with the mask spread over the columns `rle_counts`, `height` and `width`."""
    fields = {name: value for name, value in vars(record).items() if name != "rle"}
    return fields | {"rle_counts": rle.counts, "height": rle.height, "width": rle.width}
