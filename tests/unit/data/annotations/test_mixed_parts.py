"""calico.data.annotations.mixed_parts: the published release, as far as its card tells its form."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calico.config import UnifySection
from calico.core import tables
from calico.data.annotations import mixed_parts
from calico.data.annotations.unify import unify
from calico.errors import DataError

SQUARE = [[0, 0, 6, 0, 6, 6, 0, 6]]
HEAD = [[0, 0, 5, 0, 5, 5, 0, 5]]
WHEEL = 132


def dump(path: Path, images: list[Any], annotations: list[Any], categories: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def entry(number: int, image_id: int, category_id: int, polygons: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category_id, "segmentation": polygons}


PARTS = [
    {"id": 0, "name": "head", "supercategory": "quadruped"},
    {"id": 9, "name": "wing", "supercategory": "bird"},
]
WHOLES = [
    {"id": 4, "name": "antelope", "supercategory": "quadruped"},
    {"id": 5, "name": "antelope", "supercategory": "quadruped"},
]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of one antelope (train) and one car (validation), beside the sources with their images."""
    folder = tmp_path / "mixed_parts"
    annotations = folder / "PartImageNet" / "annotations"
    for split in ("train", "val", "test"):
        images = (
            [{"id": 3, "file_name": "n02422699_7.JPEG", "height": 8, "width": 9}] if split == "train" else []
        )
        rows = [entry(1, 3, 0, HEAD), entry(2, 3, 9, HEAD)] if images else []
        dump(annotations / split / f"{split}_mixed_parts.json", images, rows, PARTS)
        whole_images = [image | {"id": 70} for image in images]
        wholes = [entry(1, 70, 5, SQUARE)] if images else []
        dump(annotations / f"{split}_whole" / f"{split}_mixed_parts.json", whole_images, wholes, WHOLES)
    car = {"id": 1, "file_name": "ADE_val_00000002.jpg", "height": 8, "width": 9}
    ade = folder / "ADE20KPart234"
    dump(ade / "ade20k_instance_train_mixed_parts.json", [], [], [{"id": 7, "name": "car"}])
    dump(
        ade / "ade20k_instance_val_mixed_parts.json",
        [car],
        [entry(1, 1, 7, SQUARE)],
        [{"id": 7, "name": "car"}],
    )
    write_sources(tmp_path)
    return folder


def write_sources(folder: Path) -> None:
    source = folder / "ade20k_part_234" / "ADE20KPart234"
    part_map_HW = np.full((8, 9), 65535, dtype=np.uint16)
    part_map_HW[:4, :6] = WHEEL
    maps = source / "annotations_detectron2_part" / "validation"
    for path, image in (
        (folder / "partimagenet" / "images" / "train" / "n02422699_7.JPEG", Image.new("RGB", (9, 8))),
        (source / "images" / "validation" / "ADE_val_00000002.jpg", Image.new("RGB", (9, 8))),
        (maps / "ADE_val_00000002.png", Image.fromarray(part_map_HW)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def test_objects_and_parts_of_both_files_are_joined(release: Path) -> None:
    antelope, car = mixed_parts.read(release)
    assert (antelope.image.image_id, antelope.image.split) == ("partimagenet/n02422699_7", "train")
    (found,) = antelope.objects
    assert (found.category, found.rle.area_px) == ("antelope", 36)
    assert [(part.category, part.rle.area_px) for part in found.parts] == [("head", 25)]
    assert [(one.annotation_id, one.reason) for one in antelope.rejections] == [
        ("2", "part of another supercategory")
    ]
    assert car.image.source == "ade20k_part_234"
    assert [(part.category, part.rle.area_px) for part in car.objects[0].parts] == [("wheel", 24)]


def test_release_becomes_tables_with_the_images_of_its_sources(release: Path, tmp_path: Path) -> None:
    dump(release / "mixed_parts_test.json", [], [], [])
    section = UnifySection.model_validate(
        {"sources": ["mixed_parts"], "min_object_area_px": 9, "min_part_area_px": 9}
    )
    summary = unify(section, tmp_path, tmp_path / "out")
    assert set(summary["counts"]) == {"partimagenet", "ade20k_part_234"}
    rejected = tables.read_rejected(tmp_path / "out" / "rejected.parquet")
    assert [(one.source, one.file, one.reason) for one in rejected] == [
        ("mixed_parts", "mixed_parts/mixed_parts_test.json", "file of unknown form"),
        (
            "partimagenet",
            "mixed_parts/PartImageNet/annotations/train/train_mixed_parts.json",
            "part of another supercategory",
        ),
    ]


def test_name_that_no_table_can_hold_is_refused(release: Path) -> None:
    open(os.fsencode(release) + b"/pairs_\xff.json", "w").close()
    with pytest.raises(DataError, match=r"mixed_parts: the name of '.*pairs_.*json' is not printable UTF-8"):
        list(mixed_parts.read(release))


@pytest.mark.parametrize(
    ("wholes", "reason"),
    [
        ([], "image without an object"),
        ([entry(1, 70, 5, SQUARE), entry(2, 70, 4, HEAD)], "image with several objects"),
    ],
)
def test_images_without_one_object_are_counted(release: Path, wholes: list[Any], reason: str) -> None:
    path = release / "PartImageNet" / "annotations" / "train_whole" / "train_mixed_parts.json"
    images = [{"id": 70, "file_name": "n02422699_7.JPEG", "height": 8, "width": 9}]
    dump(path, images, wholes, WHOLES)
    first = next(mixed_parts.read(release))
    assert (first.image, first.rejections[-1].reason) == (None, reason)
    dump(path, [], [], WHOLES)
    assert next(mixed_parts.read(release)).rejections[-1].reason == "image without an object"


def test_what_cannot_be_the_release_is_named(release: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"empty: holds no annotation file\. Put the MixedParts release there"
    ):
        list(mixed_parts.read(tmp_path / "empty"))
    place = release / "PartImageNet" / "annotations" / "val"
    (place / "another_mixed_parts.json").write_text("{}")
    with pytest.raises(DataError, match=r"val: 2 files end in _mixed_parts\.json, expected 1"):
        list(mixed_parts.read(release))
    (place / "another_mixed_parts.json").unlink()
    whole = release / "PartImageNet" / "annotations" / "train_whole" / "train_mixed_parts.json"
    dump(whole, [], [], [{"id": 1, "name": "unicorn"}])
    with pytest.raises(
        DataError, match="1 categories are none of Table 6's 37 of PartImageNet, first 'unicorn'"
    ):
        list(mixed_parts.read(release))
