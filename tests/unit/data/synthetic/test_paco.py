"""The PACO-LVIS files say what the scenes show, in the released schema."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from calico.data.synthetic.catalogue import PACO_LVIS


def decode(segmentation, height, width):
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(segmentation)
    return coco_mask.decode(segmentation) > 0


def read(synthetic_path, split):
    path = synthetic_path / PACO_LVIS / "annotations" / f"paco_lvis_v1_{split}.json"
    return json.loads(path.read_text())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_annotations_decode_to_the_scenes(synthetic_path, expected_scene, num_images, split):
    content = read(synthetic_path, split)
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    assert len(content["images"]) == num_images[split]
    for index, image in enumerate(content["images"]):
        scene = expected_scene(PACO_LVIS, f"{PACO_LVIS}/{split}", index)
        entries = [e for e in content["annotations"] if e["image_id"] == image["id"]]
        expected = {}
        for scene_object in scene.objects:
            expected[scene_object.category] = scene_object.mask_HW
            for part in scene_object.parts:
                expected[f"{scene_object.category}:{part.name}"] = part.mask_HW
        assert {names[e["category_id"]] for e in entries} == set(expected)
        for entry in entries:
            mask_HW = decode(entry["segmentation"], image["height"], image["width"])
            assert np.array_equal(mask_HW, expected[names[entry["category_id"]]])
            assert entry["area"] == mask_HW.sum()
            x, y, w, h = entry["bbox"]
            ys, xs = np.nonzero(mask_HW)
            assert [x, y, x + w, y + h] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_parts_point_to_their_object(synthetic_path):
    content = read(synthetic_path, "train")
    categories = {entry["id"]: entry for entry in content["categories"]}
    by_id = {entry["id"]: entry for entry in content["annotations"]}
    assert len(by_id) == len(content["annotations"])
    for entry in content["annotations"]:
        owner = by_id[entry["obj_ann_id"]]
        assert owner["image_id"] == entry["image_id"]
        category = categories[entry["category_id"]]
        if category["supercategory"] == "OBJECT":
            assert owner is entry
        else:
            object_name, part_name = category["name"].split(":")
            assert categories[owner["category_id"]]["name"] == object_name
            assert category["synset"] == part_name


def test_all_three_mask_forms_occur(synthetic_path):
    forms = set()
    for entry in read(synthetic_path, "train")["annotations"]:
        segmentation = entry["segmentation"]
        is_polygon = isinstance(segmentation, list)
        forms.add("polygon" if is_polygon else type(segmentation["counts"]).__name__)
    assert forms == {"polygon", "list", "str"}


def test_images_lie_in_the_coco_folders(synthetic_path):
    folders = set()
    for split in ("train", "val", "test"):
        for image in read(synthetic_path, split)["images"]:
            path = synthetic_path / PACO_LVIS / "coco" / image["file_name"]
            with Image.open(path) as picture:
                assert (picture.height, picture.width) == (image["height"], image["width"])
            folders.add((split, path.parent.name))
    assert folders == {
        ("train", "train2017"),
        ("val", "train2017"),
        ("test", "train2017"),
        ("test", "val2017"),
    }


def test_neg_categories_are_absent(synthetic_path):
    content = read(synthetic_path, "train")
    for image in content["images"]:
        present = {
            entry["category_id"] for entry in content["annotations"] if entry["image_id"] == image["id"]
        }
        assert image["neg_category_ids"]
        assert not present & set(image["neg_category_ids"])
