"""calico.data.annotations.paco_lvis: the released layout, its names and its traps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calico.core import masks
from calico.data.annotations import paco_lvis
from calico.data.synthetic.generate import scene_generator
from calico.data.synthetic.paco import write_annotations, write_image
from calico.data.synthetic.renderer import render_scene
from calico.data.taxonomy import categories_of
from calico.errors import DataError

CATEGORIES = [
    {"id": 1, "name": "car_(automobile)", "supercategory": "OBJECT"},
    {"id": 2, "name": "car_(automobile):side_mirror", "supercategory": "PART"},
    {"id": 3, "name": "trash_can", "supercategory": "OBJECT"},
    {"id": 4, "name": "trash_can:lid", "supercategory": "PART"},
]
FULL = {"size": [4, 6], "counts": [0, 24]}


def annotation(number: int, category_id: int, obj_ann_id: int | None, **changes: Any) -> dict[str, Any]:
    values = {"id": number, "image_id": 7, "category_id": category_id, "segmentation": FULL}
    return values | {"obj_ann_id": obj_ann_id} | changes


def read(folder: Path, annotations: list[dict[str, Any]]) -> list[Any]:
    images = [{"id": 7, "file_name": "val2017/000000000007.jpg", "height": 4, "width": 6}]
    path = folder / "paco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return list(paco_lvis.read_annotation_file(path, split="test", image_folder="paco_lvis/coco"))


def reasons(image: Any) -> list[tuple[str, str]]:
    return [(rejection.annotation_id, rejection.reason) for rejection in image.rejections]


def test_parts_are_joined_to_their_objects(tmp_path: Path) -> None:
    (image,) = read(
        tmp_path, [annotation(5, 2, 9), annotation(9, 1, 9), annotation(3, 3, 3), annotation(4, 4, 3)]
    )
    assert vars(image.image) == {
        "image_id": "paco_lvis/000000000007",
        "source": "paco_lvis",
        "path": "paco_lvis/coco/val2017/000000000007.jpg",
        "height": 4,
        "width": 6,
        "split": "test",
    }
    found = {one.category: [part.category for part in one.parts] for one in image.objects}
    assert found == {"car": ["side mirror"], "trash can": ["lid"]}
    assert image.rejections == ()


@pytest.mark.parametrize(
    ("annotations", "rejected"),
    [
        ([annotation(1, 1, 1, segmentation=[])], [("1", "empty mask")]),
        (
            [annotation(1, 1, 1, segmentation=[]), annotation(2, 2, 1)],
            [("1", "empty mask"), ("2", "part without a usable object in its image")],
        ),
        ([annotation(2, 2, 99)], [("2", "part without a usable object in its image")]),
        ([annotation(2, 2, None)], [("2", "part without a usable object in its image")]),
        ([annotation(0, 1, 0), annotation(2, 2, None)], [("2", "part without a usable object in its image")]),
        ([annotation(1, 1, 1, segmentation=[[1, 1]])], [("1", "empty mask")]),
        ([annotation(1, 1, 1, segmentation=[[1, 1, 3, 3]])], [("1", "empty mask")]),
        (
            [annotation(1, 1, 1, segmentation=None)],
            [("1", "segmentation is neither polygons nor run lengths")],
        ),
        ([annotation(1, 1, 1, iscrowd=1)], [("1", "crowd region, not one object")]),
        (
            [annotation(1, 1, 1), annotation(2, 4, 1)],
            [("2", "part of another category than its object")],
        ),
        ([annotation(1, 1, 1), annotation(2, 3, 1)], [("2", "part annotation of an object category")]),
        (
            [annotation(1, 1, 1, segmentation={"size": [9, 9], "counts": [81]})],
            [("1", "mask and image differ in size")],
        ),
    ],
)
def test_unusable_annotations_are_counted(
    annotations: list[dict[str, Any]], rejected: list[tuple[str, str]], tmp_path: Path
) -> None:
    (image,) = read(tmp_path, annotations)
    assert reasons(image) == rejected


@pytest.mark.parametrize(
    ("released", "name"),
    [("car_(automobile)", "car"), ("trash_can", "trash can"), ("cellular_telephone", "cellular telephone")],
)
def test_names_are_those_of_table_6(released: str, name: str) -> None:
    assert paco_lvis.object_name(released) == name
    assert paco_lvis.part_name(f"{released}:inner_body") == (name, "inner body")
    assert paco_lvis.part_name(released) == (name, "")


def test_synthetic_release_reads_back_to_the_drawn_masks(tmp_path: Path) -> None:
    folder = tmp_path / "paco_lvis"
    scenes, rows = [], []
    for index in range(6):
        scene = render_scene(scene_generator(1, "test", index), source="paco_lvis", difficulty=0.3)
        scenes.append(scene)
        rows.append(
            write_image(
                folder, split="train", index=index, scene=scene, rng=scene_generator(2, "test", index)
            )
        )
    write_annotations(folder, {"train": rows, "val": [], "test": []})
    images = list(paco_lvis.read(folder))
    assert len(images) == len(scenes)
    for image, scene in zip(images, scenes, strict=True):
        assert (tmp_path / image.image.path).is_file()
        for found, drawn in zip(image.objects, scene.objects, strict=True):
            assert found.category == drawn.category
            assert (masks.decode(found.rle) == drawn.mask_HW).all()
            assert [part.category for part in found.parts] == [part.name for part in drawn.parts]
            assert all(
                np.array_equal(masks.decode(part.rle), other.mask_HW)
                for part, other in zip(found.parts, drawn.parts, strict=True)
            )


def test_real_photographs_with_paco_style_annotations(real_path: Path) -> None:
    path = real_path / "pascal_part" / "pascal_part_paco_style.json"
    images = list(paco_lvis.read_annotation_file(path, split="train", image_folder="pascal_part/images"))
    found = {
        image.image.image_id: [(one.category, len(one.parts)) for one in image.objects] for image in images
    }
    assert (len(images), sum(map(len, found.values()))) == (10, 28)
    assert sum(count for objects in found.values() for _, count in objects) == 147
    assert found["paco_lvis/2010_005275"] == [("cat", 9)]
    assert [name for name, count in found["paco_lvis/2010_001199"] if count == 0] == [
        "chair",
        "chair",
        "table",
        "chair",
        "chair",
    ]
    assert not any(image.rejections for image in images)


def test_table_holds_the_531_released_categories() -> None:
    names = paco_lvis.released_categories().values()
    objects = {name for name in names if ":" not in name}
    parts = {paco_lvis.part_name(name) for name in names if ":" in name}
    assert (len(names), len(set(names)), len(objects), len(parts)) == (531, 531, 75, 456)
    assert len({part for _, part in parts}) == 200


def test_names_and_parts_are_those_of_table_6() -> None:
    """Of the 75 objects, ball and napkin have no parts and so no row."""
    released: dict[str, set[str]] = {
        paco_lvis.object_name(name): set()
        for name in paco_lvis.released_categories().values()
        if ":" not in name
    }
    for name in paco_lvis.released_categories().values():
        owner, part = paco_lvis.part_name(name)
        released[owner] |= {part} - {""}
    printed = {name: set(one.parts) for name, one in categories_of("paco_lvis").items()}
    assert {name: parts for name, parts in released.items() if parts} == printed
    assert {name for name, parts in released.items() if not parts} == {"ball", "napkin"}


def write_release(
    folder: Path, *, category: str = "chair", splits: tuple[str, ...] = paco_lvis.SPLITS
) -> None:
    (folder / "annotations").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": category}]}
    for split in splits:
        (folder / "annotations" / f"paco_lvis_v1_{split}.json").write_text(json.dumps(content))


def test_all_three_splits_are_read_and_an_old_archive_is_named(tmp_path: Path) -> None:
    write_release(tmp_path / "new")
    assert list(paco_lvis.read(tmp_path / "new")) == []
    write_release(tmp_path / "old", splits=("train", "val"))
    with pytest.raises(
        DataError, match=r"v1_test\.json: no such file\. paco_lvis_v1\.zip holds it since February 2023"
    ):
        list(paco_lvis.read(tmp_path / "old"))


def test_other_categories_are_refused(tmp_path: Path) -> None:
    write_release(tmp_path, category="spaceship:door")
    with pytest.raises(DataError, match="1 categories are none of PACO-LVIS's 531, first 'spaceship:door'"):
        list(paco_lvis.read(tmp_path))


def test_real_lvis_file_is_read(real_path: Path) -> None:
    """LVIS, which PACO extends: polygons, many of them with several pieces."""
    path = real_path / "lvis" / "annotations.json"
    (first, *_) = images = list(paco_lvis.read_annotation_file(path, split="val", image_folder="lvis/images"))
    assert len(images) == 3
    # Without PACO's obj_ann_id nothing says that these are objects.
    assert {one.reason for one in first.rejections} == {"part annotation of an object category"}
