"""calico.data.annotations.ade20k_part_234: a part of an instance is its class in the map, inside its mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calico.core import masks
from calico.data.annotations import ade20k_part_234
from calico.data.synthetic.ade import write_annotations, write_image
from calico.data.synthetic.generate import scene_generator
from calico.data.synthetic.renderer import render_scene
from calico.errors import DataError

CAR = ade20k_part_234.part_classes()["car"]
WHEEL, DOOR = (next(number for number, name in CAR.items() if name == part) for part in ("wheel", "door"))
BUS_DOOR = next(number for number, name in ade20k_part_234.part_classes()["bus"].items() if name == "door")


def box_mask(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask_HW = np.zeros((6, 10), dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return mask_HW


def instance(number: int, mask_HW: np.ndarray, category_id: int = 7) -> dict[str, Any]:
    counts = masks.run_lengths(masks.encode(mask_HW).counts)
    return {
        "id": number, "image_id": 1, "category_id": category_id,
        "segmentation": {"size": [6, 10], "counts": counts}, "part_category_id": [WHEEL],
    }  # fmt: skip


def write_release(folder: Path, instances: list[dict[str, Any]], part_map_HW: np.ndarray) -> None:
    stem = "ADE_train_00000001"
    image = {"id": 1, "file_name": f"{stem}.jpg", "height": 6, "width": 10}
    categories = [{"id": 7, "name": "car"}, {"id": 6, "name": "bus"}]
    content = {"images": [image], "annotations": instances, "categories": categories}
    (folder / "annotations_detectron2_part" / "training").mkdir(parents=True, exist_ok=True)
    (folder / "ade20k_instance_train.json").write_text(json.dumps(content))
    Image.fromarray(part_map_HW).save(folder / "annotations_detectron2_part" / "training" / f"{stem}.png")


def read(folder: Path) -> list[Any]:
    return list(ade20k_part_234.read_split(folder, "train", path_prefix="ade20k_part_234"))


def test_parts_are_cut_out_by_instance(tmp_path: Path) -> None:
    part_map_HW = np.full((6, 10), 65535, dtype=np.uint16)
    part_map_HW[4:6, :] = WHEEL
    part_map_HW[0:2, 6:8] = BUS_DOOR
    write_release(
        tmp_path, [instance(1, box_mask(2, 0, 6, 4)), instance(2, box_mask(0, 5, 5, 9))], part_map_HW
    )
    (image,) = read(tmp_path)
    assert image.image.path == "ade20k_part_234/images/training/ADE_train_00000001.jpg"
    first, second = image.objects
    assert [(part.category, part.rle.area_px) for part in first.parts] == [("wheel", 2 * 4)]
    assert [(part.category, part.rle.area_px) for part in second.parts] == [("wheel", 1 * 4)], (
        "a bus's door is no car's"
    )


def test_degenerate_instances_are_counted(tmp_path: Path) -> None:
    write_release(tmp_path, [instance(1, box_mask(0, 0, 0, 0))], np.full((6, 10), 65535, dtype=np.uint16))
    (image,) = read(tmp_path)
    assert image.objects == ()
    assert [(one.annotation_id, one.reason) for one in image.rejections] == [("1", "empty mask")]


def test_map_of_another_size_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path, [], np.zeros((10, 6), dtype=np.uint16))
    with pytest.raises(DataError, match=r"00000001\.png: the map is 10 x 6, the image 6 x 10"):
        read(tmp_path)


def test_map_with_another_class_is_refused(tmp_path: Path) -> None:
    part_map_HW = np.full((6, 10), 65535, dtype=np.uint16)
    part_map_HW[1, 1] = 234
    write_release(tmp_path, [], part_map_HW)
    with pytest.raises(
        DataError,
        match=r"00000001\.png: the map holds 234, which is neither a part class \(0 to 233\) nor 65535",
    ):
        read(tmp_path)


def test_named_parts_without_a_pixel_are_counted(tmp_path: Path) -> None:
    part_map_HW = np.full((6, 10), 65535, dtype=np.uint16)
    part_map_HW[5, 0] = DOOR
    entry = instance(1, box_mask(2, 0, 6, 4)) | {"part_category_id": [WHEEL, DOOR, BUS_DOOR]}
    write_release(tmp_path, [entry], part_map_HW)
    (image,) = read(tmp_path)
    assert [part.category for part in image.objects[0].parts] == ["door"]
    assert [(one.annotation_id, one.reason) for one in image.rejections] == [
        (f"1:{WHEEL}", "part without a pixel in the map"),
        (f"1:{BUS_DOOR}", "part without a pixel in the map"),
    ]


def test_missing_map_is_named(tmp_path: Path) -> None:
    write_release(tmp_path, [], np.zeros((6, 10), dtype=np.uint16))
    (tmp_path / "annotations_detectron2_part" / "training" / "ADE_train_00000001.png").unlink()
    with pytest.raises(DataError, match=r"00000001\.png: no such image file"):
        read(tmp_path)


def test_unknown_object_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path, [], np.zeros((6, 10), dtype=np.uint16))
    path = tmp_path / "ade20k_instance_train.json"
    path.write_text(path.read_text().replace('"bus"', '"spaceship"'))
    with pytest.raises(DataError, match="categories spaceship are none of ADE20K-Part-234's 44 objects"):
        read(tmp_path)


def test_table_holds_234_classes_of_44_objects() -> None:
    classes = ade20k_part_234.part_classes()
    numbers = [number for parts in classes.values() for number in parts]
    assert (len(classes), sorted(numbers)) == (44, list(range(234)))
    assert CAR[WHEEL] == "wheel"


def test_synthetic_release_reads_back_and_is_split(tmp_path: Path) -> None:
    folder = tmp_path / "ade20k_part_234"
    rows: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    scenes = {}
    for split, index in [
        ("train", 0),
        ("train", 1),
        *((split, index) for split in ("val", "test") for index in range(9)),
    ]:
        scene = render_scene(scene_generator(1, split, index), source="ade20k_part_234", difficulty=0.3)
        rows[split].append(
            write_image(folder, split=split, index=index, scene=scene, rng=scene_generator(2, split, index))
        )
        scenes[rows[split][-1].image["file_name"]] = scene
    write_annotations(folder, rows)
    images = list(ade20k_part_234.read(folder))
    assert len(images) == len(scenes)
    assert {image.image.split for image in images} == {"train", "val", "test"}
    for image in images:
        assert (tmp_path / image.image.path).is_file()
        assert (image.image.split == "train") == ("train" in image.image.image_id)
        for found, drawn in zip(image.objects, scenes[Path(image.image.path).name].objects, strict=True):
            assert (masks.decode(found.rle) == drawn.mask_HW).all()
            drawn_parts = {part.name: part.mask_HW for part in drawn.parts}
            assert {part.category for part in found.parts} == set(drawn_parts)
            assert all((masks.decode(part.rle) == drawn_parts[part.category]).all() for part in found.parts)


def test_real_ade_images(real_path: Path) -> None:
    folder = real_path / "ade20k_part_234"
    images = list(ade20k_part_234.read_split(folder, "train", path_prefix="ade20k_part_234"))
    found = [
        [(one.category, [part.category for part in one.parts]) for one in image.objects] for image in images
    ]
    assert found == [
        [("car", ["bumper", "door", "headlight", "wheel", "window"]), ("traffic light", ["housing"])],
        [("car", ["headlight", "license plate", "window"])],
    ]
