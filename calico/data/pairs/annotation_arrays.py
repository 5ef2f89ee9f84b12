"""The unified tables as pairing sees them: integer rows and codes in arrays, no masks.

Names become codes in alphabetical order, so sorting codes sorts names. Objects stand by image, from left to
right; parts by object and name. So an image has one range of rows of objects, an object one of parts.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from calico.core.records import part_label
from calico.core.tables import IMAGES, OBJECTS, PARTS, read_table
from calico.errors import DataError

_OBJECT_COLUMNS = ("object_id", "image_id", "category", "box_xyxy")


@dataclass(frozen=True)
class AnnotationArrays:
    """Images, objects and parts; an integer names a row or a code.

    Attributes:
        sources, splits, categories, names: what the codes mean; `names` are those of parts.
        image_source, image_split: code of each image.
        object_image: row of the image of each object.
        object_category: code of each object.
        part_object: row of the object of each part.
        part_name: code of each part.
        first_object: the objects of image i are rows `first_object[i]` to `first_object[i + 1]`.
        first_part: the parts of object i, likewise.
    """

    sources: list[str]
    splits: list[str]
    categories: list[str]
    names: list[str]
    image_ids: pa.Array
    image_source: np.ndarray
    image_split: np.ndarray
    object_ids: pa.Array
    object_image: np.ndarray
    object_category: np.ndarray
    part_ids: pa.Array
    part_object: np.ndarray
    part_name: np.ndarray
    first_object: np.ndarray
    first_part: np.ndarray

    @cached_property
    def object_labels(self) -> pa.Array:
        """Label of each object as a target."""
        return pa.array(self.categories, pa.string()).take(pa.array(self.object_category))

    @cached_property
    def part_labels(self) -> pa.Array:
        """Label of each part as a target, e.g. "dog's head"."""
        codes = self.object_category[self.part_object].astype(np.int64) * len(self.names) + self.part_name
        used, place = np.unique(codes, return_inverse=True)
        labels = [
            part_label(self.categories[category], self.names[name])
            for category, name in zip(*divmod(used, max(1, len(self.names))), strict=True)
        ]
        return pa.array(labels, pa.string()).take(pa.array(place))


def read_annotations(unify_path: Path) -> AnnotationArrays:
    """Read images, objects and parts of the unify stage.

    Raises:
        DataError: a table is missing or damaged, or an object or a part belongs to nothing; names the id.
    """
    images = _read(unify_path / "images.parquet", IMAGES, ("image_id", "source", "split"))
    objects = _read(unify_path / "objects.parquet", OBJECTS, _OBJECT_COLUMNS)
    parts = _read(unify_path / "parts.parquet", PARTS, ("part_id", "object_id", "category"))
    object_image = _rows(objects, "image_id", images, unify_path / "objects.parquet")
    object_order = _left_to_right(objects, object_image)
    objects = objects.select(["object_id", "category"]).take(pa.array(object_order))
    part_object = _rows(parts, "object_id", objects, unify_path / "parts.parquet")
    names, part_name = _codes(parts["category"])
    part_order = _last_by_name(part_object, part_name, len(names))
    sources, image_source = _codes(images["source"])
    splits, image_split = _codes(images["split"])
    categories, object_category = _codes(objects["category"])
    object_image, part_object = object_image[object_order], part_object[part_order]
    return AnnotationArrays(
        sources=sources,
        splits=splits,
        categories=categories,
        names=names,
        image_ids=images["image_id"],
        image_source=image_source,
        image_split=image_split,
        object_ids=objects["object_id"],
        object_image=object_image,
        object_category=object_category,
        part_ids=parts["part_id"].take(pa.array(part_order)),
        part_object=part_object,
        part_name=part_name[part_order],
        first_object=_first_rows(object_image, images.num_rows),
        first_part=_first_rows(part_object, len(object_image)),
    )


def _read(path: Path, schema: pa.Schema, columns: tuple[str, ...]) -> pa.RecordBatch:
    table = read_table(path, schema, columns)
    return pa.RecordBatch.from_arrays([_one_array(table[name]) for name in columns], names=list(columns))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _codes(column: pa.Array) -> tuple[list[str], np.ndarray]:
    """Return the names in alphabetical order, and the code of each row."""
    encoded = pc.dictionary_encode(column)
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    code_of = np.empty(len(names), dtype=np.int32)
    code_of[order] = np.arange(len(names), dtype=np.int32)
    return [names[place] for place in order], code_of[encoded.indices.to_numpy()]


def _rows(table: pa.RecordBatch, key: str, owners: pa.RecordBatch, path: Path) -> np.ndarray:
    """Return the row in `owners` of each row of `table`, by the column `key` of both."""
    found = pc.index_in(table[key], value_set=owners[key])
    if found.null_count:
        row = found.is_null().index(True).as_py()
        raise DataError(
            f"{path}: {found.null_count} rows belong to nothing; first '{table.column(0)[row]}', whose {key} "
            f"'{table[key][row]}' does not exist. Run the stage 'unify' again."
        )
    return found.to_numpy().astype(np.int32)


def _first_rows(owners: np.ndarray, num_owners: int) -> np.ndarray:
    """Return where the rows of each owner begin, in sorted rows, and where the last ones end."""
    return np.searchsorted(owners, np.arange(num_owners + 1)).astype(np.int32)


def _left_to_right(objects: pa.RecordBatch, object_image: np.ndarray) -> np.ndarray:
    """Return the order of objects by image, left edge and id."""
    lefts = pc.list_element(objects["box_xyxy"], 0).to_numpy()
    _, id_order = _codes(objects["object_id"])
    return np.lexsort((id_order, lefts, object_image))


def _last_by_name(part_object: np.ndarray, part_name: np.ndarray, num_names: int) -> np.ndarray:
    """Return the order of parts by object and name; of parts of one name, only the last."""
    keys = part_object.astype(np.int64) * num_names + part_name
    _, last = np.unique(keys[::-1], return_index=True)
    return len(keys) - 1 - last
