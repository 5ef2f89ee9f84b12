"""Write scenes as PACO-LVIS: COCO folders and paco_lvis_v1_{train,val,test}.json."""

from pathlib import Path
from typing import Any

import numpy as np

from calico.core import masks
from calico.core.files import write_json
from calico.data.synthetic.catalogue import CATALOGUE, PACO_LVIS, PACO_OBJECTS, PACO_PART_IDS
from calico.data.synthetic.encoding import (
    ImageRows,
    box_xywh,
    compressed_rle,
    mask_polygons,
    uncompressed_rle,
    write_jpeg,
)
from calico.data.synthetic.renderer import Scene

_FIRST_IMAGE_ID = {"train": 100_001, "val": 200_001, "test": 300_001}
# Readers of the release meet all three forms; compressed run lengths are the rule.
_SHARE_UNCOMPRESSED = 0.15
_SHARE_POLYGONS = 0.15
_UNKNOWN_FLAGS = ("unknown_color", "unknown_material", "unknown_pattern_marking",
                  "unknown_transparency")  # fmt: skip


def write_image(root: Path, *, split: str, index: int, scene: Scene, rng: np.random.Generator) -> ImageRows:
    """Write one image below `root`/coco and return its annotations.

    Args:
        root: the folder of the data set.
        split: "train", "val" or "test".
        index: number of the scene in its split.
        scene: what to write.
        rng: the scene's generator; chooses how each mask is encoded.
    """
    image_id = _FIRST_IMAGE_ID[split] + index
    file_name = f"{_coco_folder(split, index)}/{image_id:012d}.jpg"
    write_jpeg(root / "coco" / file_name, scene.image_HWC)
    annotations: list[dict[str, Any]] = []
    for scene_object in scene.objects:
        object_id = len(annotations) + 1
        category_ids = [PACO_OBJECTS[scene_object.category][0]]
        category_ids += [PACO_PART_IDS[scene_object.category][p.name] for p in scene_object.parts]
        masks_HW = [scene_object.mask_HW, *(part.mask_HW for part in scene_object.parts)]
        for category_id, mask_HW in zip(category_ids, masks_HW, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "obj_ann_id": object_id,
                    **_mask_fields(mask_HW, rng),
                    "attribute_ids": [],
                    "dom_color_ids": [],
                    **dict.fromkeys(_UNKNOWN_FLAGS, 0),
                }
            )
    height, width = scene.image_HWC.shape[:2]
    image = {
        "id": image_id,
        "file_name": file_name,
        "coco_url": f"http://images.cocodataset.org/{file_name}",
        "height": height,
        "width": width,
        "license": 1,
        "neg_category_ids": _absent_category_ids(scene),
        "not_exhaustive_category_ids": [],
        "neg_category_ids_attrs": [],
        "not_exhaustive_category_ids_attrs": [],
    }
    return ImageRows(image=image, annotations=annotations)


def write_annotations(root: Path, rows_by_split: dict[str, list[ImageRows]]) -> None:
    """Write the annotation file of each split; annotation ids count from 1 in each file."""
    for split, rows in rows_by_split.items():
        annotations: list[dict[str, Any]] = []
        for row in rows:
            before = len(annotations)
            annotations += [
                {**entry, "id": entry["id"] + before, "obj_ann_id": entry["obj_ann_id"] + before}
                for entry in row.annotations
            ]
        content = {
            "info": {"description": "Synthetic scenes in the PACO-LVIS v1 format", "version": "v1"},
            "licenses": [{"id": 1, "name": "synthetic", "url": ""}],
            "images": [row.image for row in rows],
            "annotations": annotations,
            "categories": _categories(annotations),
            "part_categories": [
                {"id": number, "name": name, "supercategory": "PART"}
                for number, name in enumerate(_part_names())
            ],
            "attributes": [],
            "attr_type_to_attr_idxs": {},
        }
        write_json(root / "annotations" / f"paco_lvis_v1_{split}.json", content)


def _coco_folder(split: str, index: int) -> str:
    """Choose the COCO folder: LVIS' test images come from both, train and val from one."""
    return "val2017" if split == "test" and index % 4 == 0 else "train2017"


def _mask_fields(mask_HW: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Encode a mask in one of the three forms that the release's readers accept."""
    rle = masks.encode(mask_HW)
    form = rng.random()
    segmentation: Any
    if form < _SHARE_POLYGONS:
        segmentation = mask_polygons(mask_HW)
    elif form < _SHARE_POLYGONS + _SHARE_UNCOMPRESSED:
        segmentation = uncompressed_rle(rle)
    else:
        segmentation = compressed_rle(rle)
    return {"segmentation": segmentation, "area": rle.area_px, "bbox": box_xywh(rle)}


def _absent_category_ids(scene: Scene) -> list[int]:
    """List the object categories that the scene lacks, and the missing parts of those it has."""
    parts_by_category = {entry.category: {p.name for p in entry.parts} for entry in scene.objects}
    absent = [fact[0] for name, fact in PACO_OBJECTS.items() if name not in parts_by_category]
    for category, visible in parts_by_category.items():
        absent += [part_id for name, part_id in PACO_PART_IDS[category].items() if name not in visible]
    return sorted(absent)


def _part_names() -> list[str]:
    """Return the bare part names of the drawn categories, sorted."""
    return sorted({spec.name for specs in CATALOGUE[PACO_LVIS].values() for spec in specs})


def _categories(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the object and `object:part` categories with their counts in this file."""
    images_by_category: dict[int, list[int]] = {}
    for entry in annotations:
        images_by_category.setdefault(entry["category_id"], []).append(entry["image_id"])
    facts = [
        (number, name, synset, frequency, "OBJECT")
        for name, (number, synset, frequency) in PACO_OBJECTS.items()
    ]
    facts += [
        (number, f"{name}:{part}", part, PACO_OBJECTS[name][2], "PART")
        for name, parts in PACO_PART_IDS.items()
        for part, number in parts.items()
    ]
    return [
        {
            "id": number,
            "name": name,
            "synset": synset,
            "frequency": frequency,
            "supercategory": supercategory,
            "image_count": len(set(images_by_category.get(number, []))),
            "instance_count": len(images_by_category.get(number, [])),
        }
        for number, name, synset, frequency, supercategory in sorted(facts)
    ]
