"""Tables shaped like the three sources: as many images, objects and parts, spread over the real categories.

How many images show a category is published for PACO-LVIS and PartImageNet (`category_images.csv`). For
ADE20K-Part-234 nothing is, so its categories follow Zipf's law in the order of how many parts they have.
Which objects share an image, and which parts can be seen, is drawn; masks are rectangles.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco_mask

from calico.core import tables
from calico.data.taxonomy import parts_by_category

# Appendix B and data of the sources: PartImageNet has one object an image.
NUM_IMAGES = {"ade20k_part_234": 8_400, "paco_lvis": 15_200, "partimagenet": 20_400}
NUM_OBJECTS = {"ade20k_part_234": 16_200, "paco_lvis": 29_360, "partimagenet": 20_400}
NUM_PARTS = 154_463
_SPLIT_SHARES = {"train": 0.88, "val": 0.04, "test": 0.08}
_SIZE = (480, 640)
_COUNTS_PATH = Path(__file__).with_name("category_images.csv")


@dataclass(frozen=True)
class _Objects:
    """Objects of all sources: their image, source and category by number."""

    image: np.ndarray
    source: list[str]
    category: list[str]


def write_tables(folder: Path, seed: int) -> None:
    """Write images.parquet, objects.parquet and parts.parquet as the unify stage does."""
    rng = np.random.default_rng(seed)
    sources = np.repeat(list(NUM_IMAGES), list(NUM_IMAGES.values()))
    image_ids = [f"{source}/{number:012d}" for number, source in enumerate(sources)]
    splits = rng.choice(list(_SPLIT_SHARES), size=len(sources), p=list(_SPLIT_SHARES.values()))
    folder.mkdir(parents=True, exist_ok=True)
    images = pa.Table.from_pydict(
        {
            "image_id": image_ids,
            "source": sources,
            "path": [f"{image_id}.jpg" for image_id in image_ids],
            "height": np.full(len(sources), _SIZE[0], dtype=np.int32),
            "width": np.full(len(sources), _SIZE[1], dtype=np.int32),
            "split": splits,
        },
        schema=tables.IMAGES,
    )
    pq.write_table(images, folder / "images.parquet")
    objects = _draw_objects(sources, rng)
    object_ids = [f"{image_ids[image]}#{number}" for number, image in enumerate(objects.image)]
    owner, names = _draw_parts(objects, rng)
    object_images = [image_ids[image] for image in objects.image]
    _write_instances(
        folder / "objects.parquet", {"object_id": object_ids, "image_id": object_images,
        "category": objects.category}, tables.OBJECTS, rng,
    )  # fmt: skip
    _write_instances(
        folder / "parts.parquet",
        {
            "part_id": [f"{object_ids[one]}/{name}" for one, name in zip(owner, names, strict=True)],
            "object_id": [object_ids[one] for one in owner],
            "image_id": [object_images[one] for one in owner],
            "category": names,
        },
        tables.PARTS,
        rng,
    )


def _draw_objects(sources: np.ndarray, rng: np.random.Generator) -> _Objects:
    images, source_of, categories = [], [], []
    for source, weights in _category_weights().items():
        rows = np.flatnonzero(sources == source)
        more = NUM_OBJECTS[source] - len(rows)
        images.append(np.concatenate([rows, rng.choice(rows, size=more)]))
        share = np.array(list(weights.values()), dtype=float)
        categories += rng.choice(list(weights), size=NUM_OBJECTS[source], p=share / share.sum()).tolist()
        source_of += [source] * NUM_OBJECTS[source]
    return _Objects(np.concatenate(images), source_of, categories)


def _category_weights() -> dict[str, dict[str, float]]:
    taxonomy = parts_by_category()
    with _COUNTS_PATH.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    weights = {source: {row["category"]: float(row["num_images"]) for row in rows if row["source"] == source}
               for source in ("paco_lvis", "partimagenet")}  # fmt: skip
    ade = sorted(taxonomy["ade20k_part_234"].items(), key=lambda entry: (-len(entry[1]), entry[0]))
    zipf = {category: 1.0 / rank for rank, (category, _) in enumerate(ade, start=1)}
    return {"ade20k_part_234": zipf, **weights}


def _draw_parts(objects: _Objects, rng: np.random.Generator) -> tuple[list[int], list[str]]:
    """Return owner and name of each part: one an object, and as many more as the sum says, at random."""
    taxonomy = parts_by_category()
    first: list[tuple[int, str]] = []
    others: list[tuple[int, str]] = []
    for one, (source, category) in enumerate(zip(objects.source, objects.category, strict=True)):
        names = rng.permutation(sorted(taxonomy[source][category])).tolist()
        first.append((one, names[0]))
        others += [(one, name) for name in names[1:]]
    chosen = rng.choice(len(others), size=NUM_PARTS - len(first), replace=False)
    owner, names = zip(*sorted([*first, *(others[place] for place in chosen)]), strict=True)
    return list(owner), list(names)


def _write_instances(
    path: Path, columns: dict[str, list[str]], schema: pa.Schema, rng: np.random.Generator
) -> None:
    num_rows = len(columns["category"])
    corner = rng.integers(0, 400, size=(num_rows, 2))
    boxes = np.concatenate([corner, rng.integers(10, 80, size=(num_rows, 2))], axis=1).astype(float)
    rles = coco_mask.frPyObjects(boxes, *_SIZE)
    more = {
        "rle_counts": [rle["counts"] for rle in rles],
        "height": np.full(num_rows, _SIZE[0], dtype=np.int32),
        "width": np.full(num_rows, _SIZE[1], dtype=np.int32),
        "box_xyxy": np.concatenate([corner, corner + boxes[:, 2:]], axis=1).astype(np.int32).tolist(),
        "area_px": boxes[:, 2:].prod(axis=1).astype(np.int64),
    }
    pq.write_table(pa.Table.from_pydict({**columns, **more}, schema=schema), path)
