"""The PartImageNet files say what the scenes show, in the released schema."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from calico.data.synthetic.catalogue import (
    PARTIMAGENET,
    PARTIMAGENET_SUPERCATEGORY,
    PARTIMAGENET_SYNSETS,
)
from calico.data.synthetic.partimagenet import part_category_id


@pytest.mark.parametrize(
    ("category", "part", "expected"),
    [("dog", "head", 0), ("cat", "tail", 3), ("fish", "fin", 11), ("bird", "wing", 15),
     ("turtle", "foot", 22), ("boat", "sail", 32), ("airplane", "tail", 37)],
)  # fmt: skip
def test_part_ids_are_the_released_ones(category, part, expected):
    assert part_category_id(category, part) == expected


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_files_decode_to_the_scenes(synthetic_path, expected_scene, num_images, split):
    root = synthetic_path / PARTIMAGENET
    content = json.loads((root / "annotations" / split / f"{split}.json").read_text())
    assert len(content["categories"]) == 40
    assert len(content["images"]) == num_images[split]
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    for index, image in enumerate(content["images"]):
        scene = expected_scene(PARTIMAGENET, f"{PARTIMAGENET}/{split}", index)
        (scene_object,) = scene.objects
        stem = image["file_name"].removesuffix(".JPEG")
        whole_id = PARTIMAGENET_SYNSETS[scene_object.category][stem.split("_")[0]]
        with Image.open(root / "images" / split / image["file_name"]) as picture:
            assert picture.format == "JPEG"
        with Image.open(root / "annotations" / f"{split}_whole" / f"{stem}.png") as png:
            whole_HW = np.asarray(png)
        with Image.open(root / "annotations" / split / f"{stem}.png") as png:
            part_HW = np.asarray(png)
        assert np.array_equal(whole_HW == whole_id, scene_object.mask_HW)
        assert set(np.unique(whole_HW)) == {whole_id, 158}
        expected = {
            f"{PARTIMAGENET_SUPERCATEGORY[scene_object.category]} {part.name.title()}": part.mask_HW
            for part in scene_object.parts
        }
        entries = [e for e in content["annotations"] if e["image_id"] == image["id"]]
        assert {names[e["category_id"]] for e in entries} == set(expected)
        for name, mask_HW in expected.items():
            (category_id,) = (number for number, other in names.items() if other == name)
            assert np.array_equal(part_HW == category_id, mask_HW)
            polygons = [
                polygon for e in entries if e["category_id"] == category_id for polygon in e["segmentation"]
            ]
            rles = coco_mask.frPyObjects(polygons, image["height"], image["width"])
            assert np.array_equal(coco_mask.decode(coco_mask.merge(rles)) > 0, mask_HW)
        assert (part_HW == 40).sum() == part_HW.size - sum(m.sum() for m in expected.values())


def test_annotation_ids_are_unique(synthetic_path):
    path = synthetic_path / PARTIMAGENET / "annotations" / "train" / "train.json"
    ids = [entry["id"] for entry in json.loads(path.read_text())["annotations"]]
    assert len(ids) == len(set(ids))


def test_image_ids_differ_between_splits(synthetic_path):
    ids = []
    for split in ("train", "val", "test"):
        path = synthetic_path / PARTIMAGENET / "annotations" / split / f"{split}.json"
        ids += [image["id"] for image in json.loads(path.read_text())["images"]]
    assert len(ids) == len(set(ids))
