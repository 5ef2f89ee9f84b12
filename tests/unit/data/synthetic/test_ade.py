"""The ADE20K-Part-234 files say what the scenes show, in the released layout."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from calico.data.synthetic.ade import NO_PART, image_stem
from calico.data.synthetic.catalogue import ADE20K_PART_234, ADE_OBJECT_IDS, ADE_PART_IDS


@pytest.mark.parametrize(
    ("split", "release_split", "folder"),
    [("train", "train", "training"), ("val", "val", "validation"), ("test", "val", "validation")],
)
def test_files_decode_to_the_scenes(synthetic_path, expected_scene, num_images, split, release_split, folder):
    root = synthetic_path / ADE20K_PART_234 / "ADE20KPart234"
    content = json.loads((root / f"ade20k_instance_{release_split}.json").read_text())
    images = {image["file_name"]: image for image in content["images"]}
    for index in range(num_images[split]):
        scene = expected_scene(ADE20K_PART_234, f"{ADE20K_PART_234}/{split}", index)
        stem = image_stem(split, index)
        image = images[f"{stem}.jpg"]
        with Image.open(root / "images" / folder / f"{stem}.jpg") as picture:
            assert (picture.height, picture.width) == (image["height"], image["width"])
        with Image.open(root / "annotations_detectron2_part" / folder / f"{stem}.png") as png:
            part_map_HW = np.asarray(png)
        entries = {e["category_id"]: e for e in content["annotations"] if e["image_id"] == image["id"]}
        assert len(entries) == len(scene.objects)
        num_part_pixels = 0
        for scene_object in scene.objects:
            entry = entries[ADE_OBJECT_IDS[scene_object.category]]
            object_HW = coco_mask.decode(entry["segmentation"]) > 0
            assert np.array_equal(object_HW, scene_object.mask_HW)
            part_ids = ADE_PART_IDS[scene_object.category]
            assert set(entry["part_category_id"]) == {part_ids[p.name] for p in scene_object.parts}
            for part in scene_object.parts:
                instance_HW = (part_map_HW == part_ids[part.name]) & object_HW
                assert np.array_equal(instance_HW, part.mask_HW)
                num_part_pixels += part.mask_HW.sum()
        assert (part_map_HW == NO_PART).sum() == part_map_HW.size - num_part_pixels


def test_part_maps_have_sixteen_bits(synthetic_path):
    root = synthetic_path / ADE20K_PART_234 / "ADE20KPart234" / "annotations_detectron2_part"
    paths = sorted(root.rglob("*.png"))
    assert {path.parent.name for path in paths} == {"training", "validation"}
    for path in paths:
        with Image.open(path) as png:
            assert png.mode.startswith("I;16")


def test_validation_holds_val_and_test_apart(num_images):
    val = {image_stem("val", i) for i in range(num_images["val"])}
    test = {image_stem("test", i) for i in range(num_images["test"])}
    assert not val & test
    assert all(stem.startswith("ADE_val_") for stem in val | test)
