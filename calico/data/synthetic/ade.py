"""Write scenes as ADE20K-Part-234: instance json per split and uint16 part maps."""

from pathlib import Path
from typing import Any

import numpy as np

from calico.core import masks
from calico.core.files import write_json
from calico.data.synthetic.catalogue import ADE_OBJECT_IDS, ADE_PART_IDS
from calico.data.synthetic.encoding import (
    ImageRows,
    box_xywh,
    compressed_rle,
    write_jpeg,
    write_png,
)
from calico.data.synthetic.renderer import Scene

NO_PART = 65535
# The release has no test split: ours lies beside val, told apart by the number in the file name.
_FOLDER = {"train": "training", "val": "validation", "test": "validation"}
_PREFIX = {"train": "ADE_train_", "val": "ADE_val_", "test": "ADE_val_"}
_FIRST_NUMBER = {"train": 1, "val": 1, "test": 10_000_001}


def image_stem(split: str, index: int) -> str:
    """Return the file name, without suffix, of scene `index` of a split."""
    return f"{_PREFIX[split]}{_FIRST_NUMBER[split] + index:08d}"


def write_image(root: Path, *, split: str, index: int, scene: Scene, rng: np.random.Generator) -> ImageRows:
    """Write one image and its part map and return its object annotations.

    Args:
        root: the folder of the data set; the release's own folder is created in it.
        split: "train", "val" or "test".
        index: number of the scene in its split.
        scene: what to write; at most one object of a category, as parts are stored per image.
        rng: unused; the writers share one signature.
    """
    del rng
    stem = image_stem(split, index)
    release = root / "ADE20KPart234"
    write_jpeg(release / "images" / _FOLDER[split] / f"{stem}.jpg", scene.image_HWC)
    part_map_path = release / "annotations_detectron2_part" / _FOLDER[split] / f"{stem}.png"
    write_png(part_map_path, _part_map(scene))
    image_id = _FIRST_NUMBER[split] + index
    annotations: list[dict[str, Any]] = []
    for scene_object in scene.objects:
        rle = masks.encode(scene_object.mask_HW)
        part_ids = ADE_PART_IDS[scene_object.category]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": ADE_OBJECT_IDS[scene_object.category],
                "bbox": box_xywh(rle),
                "area": rle.area_px,
                "iscrowd": 0,
                "segmentation": compressed_rle(rle),
                "part_category_id": sorted(part_ids[part.name] for part in scene_object.parts),
            }
        )
    height, width = scene.image_HWC.shape[:2]
    image = {"id": image_id, "file_name": f"{stem}.jpg", "height": height, "width": width}
    return ImageRows(image=image, annotations=annotations)


def write_annotations(root: Path, rows_by_split: dict[str, list[ImageRows]]) -> None:
    """Write ade20k_instance_train.json, and ade20k_instance_val.json with val and test."""
    categories = [{"id": number, "name": name} for name, number in ADE_OBJECT_IDS.items()]
    for release_split, splits in (("train", ("train",)), ("val", ("val", "test"))):
        rows = [row for split in splits for row in rows_by_split.get(split, [])]
        entries = [entry for row in rows for entry in row.annotations]
        content = {
            "images": [row.image for row in rows],
            "annotations": [{**entry, "id": i} for i, entry in enumerate(entries, start=1)],
            "categories": categories,
        }
        write_json(root / "ADE20KPart234" / f"ade20k_instance_{release_split}.json", content)


def _part_map(scene: Scene) -> np.ndarray:
    """Return the (H, W) uint16 map of part class ids of all objects."""
    part_map_HW = np.full(scene.image_HWC.shape[:2], NO_PART, dtype=np.uint16)
    for scene_object in scene.objects:
        for part in scene_object.parts:
            part_map_HW[part.mask_HW] = ADE_PART_IDS[scene_object.category][part.name]
    return part_map_HW
