"""A small finished data set, made by the stages' own functions, for tests that look at it or break it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from calico.config import PairSection, UnifySection
from calico.core import caption_rows, image_rows, tables
from calico.core.files import write_json, write_manifest
from calico.core.masks import encode
from calico.core.pair_rows import write_rows
from calico.core.records import CaptionPhrase, CaptionRecord, ImageRecord, ObjectInstance, PartInstance
from calico.core.row_files import RowFileWriter, rows_path
from calico.core.tokens import TASKS
from calico.data.annotations.unify import UnifiedTables, summarize
from calico.data.pairs.category_pairs import CategoryPair, write_category_pairs
from calico.data.pairs.pairing import pair

SIZE = (24, 40)
PARTS = {"dog": ("body", "head", "tail"), "cat": ("body", "head", "paw")}
NUM_IMAGES = {"train": 12, "val": 6, "test": 6}
# The only image of its category in its split: no pair shows it.
SPARE = "a/spare"
UNIFY = UnifySection.model_validate(
    {"sources": ["paco_lvis"], "own_sources": [], "min_object_area_px": 20, "min_part_area_px": 4}
)
PAIR = PairSection.model_validate(
    {"seed": 3, "num_pairs": {"train": dict.fromkeys(TASKS, 12), "val": 4, "test": 6}, "max_targets": 8}
)


def write_finished(artifacts_path: Path, *, dog: str = "dog") -> None:
    """Write sources/, unify/, curate/ and pair/ of two sources.

    Args:
        dog: what to call the dogs.
    """
    unified, caption = _unified(artifacts_path / "sources", dog)
    folder = artifacts_path / "unify"
    tables.write_captions(folder / "captions.parquet", [caption])
    for name in ("images", "objects", "parts", "rejected"):
        getattr(tables, f"write_{name}")(folder / f"{name}.parquet", getattr(unified, name))
    write_json(folder / "summary.json", summarize(unified))
    write_manifest(folder)
    first, second = sorted(("cat", dog))
    write_category_pairs(
        artifacts_path / "curate" / "category_pairs.csv",
        [CategoryPair(source, first, second, ("body", "head"), 0.5, True, "animals") for source in "ab"],
    )
    write_manifest(artifacts_path / "curate")
    pair(PAIR, folder, artifacts_path / "curate", artifacts_path / "pair")


def edit_rows(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of a table in place, as a person with a script would; the manifest follows."""
    schema = pq.read_schema(path)
    rows = pq.ParquetFile(path).read().to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    with suppress(TypeError, AttributeError):  # a row with gaps is no record
        if schema.equals(tables.PAIRS):
            write_rows(rows_path(path), [tables.pair_from_row(row) for row in rows])
        if schema.equals(tables.IMAGES):
            _write_rows(path, image_rows, [ImageRecord(**row) for row in rows])
        if schema.equals(tables.CAPTIONS):
            _write_rows(path, caption_rows, [tables.caption_from_row(row) for row in rows])
    write_manifest(path.parent)


def _write_rows(path: Path, kind: ModuleType, records: list[Any]) -> None:
    with RowFileWriter(rows_path(path), kind.LAYOUT) as writer:
        writer.write(*kind.pack(records))


def box_mask(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Return a mask of the images' size that is set inside a box."""
    mask_HW = np.zeros(SIZE, dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return mask_HW


def _unified(sources_path: Path, dog: str) -> tuple[UnifiedTables, CaptionRecord]:
    unified, rng = UnifiedTables(), np.random.default_rng(5)
    for source in ("a", "b"):
        for split, count in NUM_IMAGES.items():
            for number in range(count):
                image_id = f"{source}/{split}-{number}"
                unified.images.append(ImageRecord(image_id, source, f"{image_id}.png", *SIZE, split))
                category = ("dog", "cat")[number % 2]
                names = [name for name in PARTS[category] if name == "head" or rng.random() < 0.7]
                left = int(rng.integers(0, 16))
                _add_object(unified, image_id, dog if category == "dog" else category, left, names)
    unified.images.append(ImageRecord(SPARE, "a", f"{SPARE}.png", *SIZE, "val"))
    _add_object(unified, SPARE, "sun", 2, ["ray"])
    unified.num_captions["a", "val"] += 1
    for image in unified.images:
        path = sources_path / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
    phrase = CaptionPhrase(2, 5, "sun", unified.objects[-1].rle)
    return unified, CaptionRecord(SPARE, "a sun", (phrase,))


def _add_object(unified: UnifiedTables, image_id: str, category: str, left: int, names: list[str]) -> None:
    object_id = f"{image_id}#0"
    mask = encode(box_mask(4, 20, left, left + 20))
    unified.objects.append(ObjectInstance(object_id, image_id, category, mask))
    for place, name in enumerate(names):
        part = encode(box_mask(4, 20, left + 6 * place, left + 6 * place + 5))
        unified.parts.append(PartInstance(f"{object_id}/{name}", object_id, image_id, name, part))
