"""The GranD files hold scene graphs whose captions point at the right masks."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from calico.data.synthetic.catalogue import SOURCES


def read_all(synthetic_path, num_grand):
    for index in range(num_grand):
        path = synthetic_path / "grand" / f"sa_{index + 1}.json"
        yield index, json.loads(path.read_text())[f"sa_{index + 1}.jpg"]


def test_objects_decode_to_the_scenes(synthetic_path, expected_scene, num_grand):
    for index, content in read_all(synthetic_path, num_grand):
        scene = expected_scene(SOURCES[index % 3], "grand", index)
        expected = {}
        for scene_object in scene.objects:
            expected[scene_object.category] = scene_object.mask_HW
            for part in scene_object.parts:
                expected[f"{scene_object.category}'s {part.name}"] = part.mask_HW
        assert {entry["labels"][0] for entry in content["objects"]} == set(expected)
        for entry in content["objects"]:
            mask_HW = coco_mask.decode(entry["segmentation"]) > 0
            assert np.array_equal(mask_HW, expected[entry["labels"][0]])
            ys, xs = np.nonzero(mask_HW)
            assert entry["bbox"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert content["id_counter"] == len(content["objects"])
        with Image.open(synthetic_path / "grand" / f"sa_{index + 1}.jpg") as picture:
            assert (picture.height, picture.width) == scene.image_HWC.shape[:2]


def test_captions_ground_every_object(synthetic_path, num_grand):
    for _, content in read_all(synthetic_path, num_grand):
        labels = {entry["id"]: entry["labels"][0] for entry in content["objects"]}
        boxes = {entry["id"]: entry["bbox"] for entry in content["objects"]}
        dense = content["dense_caption"]
        grounded = []
        for detail in dense["details"]:
            start, end = detail["tokens_positive"]
            assert dense["caption"][start:end] == detail["phrase"]
            (number,) = detail["ids"]
            assert detail["phrase"] == f"the {labels[number]}"
            assert detail["bbox"] == [boxes[number]]
            grounded.append(number)
        assert sorted(grounded) == sorted(labels)
        for short in content["short_captions"]:
            (detail,) = short["details"]
            start, end = detail["tokens_positive"]
            assert short["caption"][start:end] == detail["phrase"] == f"the {labels[detail['id']]}"


def test_dense_caption_reads_as_a_sentence(synthetic_path, num_grand):
    for _, content in read_all(synthetic_path, num_grand):
        caption = content["dense_caption"]["caption"]
        assert caption.startswith("The image shows the ")
        assert caption.endswith(".")
        assert "  " not in caption
