"""Write scenes as PartImageNet Seg: flat images, COCO part polygons, part and whole PNGs."""

from pathlib import Path
from typing import Any

import numpy as np

from calico.core.files import write_json
from calico.data.synthetic.catalogue import (
    PARTIMAGENET_PARTS_BY_SUPERCATEGORY,
    PARTIMAGENET_SUPERCATEGORY,
    PARTIMAGENET_SYNSETS,
)
from calico.data.synthetic.encoding import (
    ImageRows,
    box_xywh,
    mask_polygons,
    polygons_rle,
    write_jpeg,
    write_png,
)
from calico.data.synthetic.renderer import Scene, SceneObject

PART_BACKGROUND = 40
WHOLE_BACKGROUND = 158
_SPLIT_NUMBER = {"train": 0, "val": 1, "test": 2}
# The release stores some parts that an occluder cuts in two as two annotations (its issue 7).
_SHARE_SPLIT_PARTS = 0.2


def part_category_id(category: str, part: str) -> int:
    """Return the released id 0..39 of an object category's part, e.g. 0 for a dog's head."""
    supercategory = PARTIMAGENET_SUPERCATEGORY[category]
    names = [(group, name) for group, parts in PARTIMAGENET_PARTS_BY_SUPERCATEGORY.items() for name in parts]
    return names.index((supercategory, part.title()))


def write_image(root: Path, *, split: str, index: int, scene: Scene, rng: np.random.Generator) -> ImageRows:
    """Write one image and its two PNGs and return its part annotations.

    Args:
        root: the folder of the data set.
        split: "train", "val" or "test".
        index: number of the scene in its split.
        scene: a scene with one object.
        rng: the scene's generator; chooses the ImageNet synset and which parts are split.
    """
    (scene_object,) = scene.objects
    synset, whole_id = _choose_synset(scene_object.category, rng)
    number = len(_SPLIT_NUMBER) * index + _SPLIT_NUMBER[split]
    stem = f"{synset}_{number}"
    write_jpeg(root / "images" / split / f"{stem}.JPEG", scene.image_HWC)
    write_png(root / "annotations" / split / f"{stem}.png", _part_map(scene_object))
    whole_HW = np.where(scene_object.mask_HW, whole_id, WHOLE_BACKGROUND).astype(np.uint8)
    write_png(root / "annotations" / f"{split}_whole" / f"{stem}.png", whole_HW)

    annotations: list[dict[str, Any]] = []
    for part in scene_object.parts:
        category_id = part_category_id(scene_object.category, part.name)
        for polygons in _choose_groups(mask_polygons(part.mask_HW), rng):
            rle = polygons_rle(polygons, part.mask_HW.shape)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_id,
                    "bbox": box_xywh(rle),
                    "area": rle.area_px,
                    "iscrowd": 0,
                    "segmentation": polygons,
                }
            )
    height, width = scene.image_HWC.shape[:2]
    image = {"id": number, "file_name": f"{stem}.JPEG", "height": height, "width": width}
    return ImageRows(image=image, annotations=annotations)


def write_annotations(root: Path, rows_by_split: dict[str, list[ImageRows]]) -> None:
    """Write annotations/{split}/{split}.json; annotation ids count from 1 in each file."""
    names = [(group, part) for group, parts in PARTIMAGENET_PARTS_BY_SUPERCATEGORY.items() for part in parts]
    categories = [
        {"id": number, "name": f"{group} {part}", "supercategory": group}
        for number, (group, part) in enumerate(names)
    ]
    for split, rows in rows_by_split.items():
        entries = [entry for row in rows for entry in row.annotations]
        content = {
            "images": [row.image for row in rows],
            "annotations": [{**entry, "id": i} for i, entry in enumerate(entries, start=1)],
            "categories": categories,
        }
        write_json(root / "annotations" / split / f"{split}.json", content)


def _choose_synset(category: str, rng: np.random.Generator) -> tuple[str, int]:
    """Choose one of the category's ImageNet synsets; return it with its number in the PNGs."""
    synsets = list(PARTIMAGENET_SYNSETS[category].items())
    return synsets[int(rng.integers(len(synsets)))]


def _part_map(scene_object: SceneObject) -> np.ndarray:
    """Return the (H, W) uint8 map of part ids."""
    part_map_HW = np.full(scene_object.mask_HW.shape, PART_BACKGROUND, dtype=np.uint8)
    for part in scene_object.parts:
        part_map_HW[part.mask_HW] = part_category_id(scene_object.category, part.name)
    return part_map_HW


def _choose_groups(polygons: list[list[int]], rng: np.random.Generator) -> list[list[list[int]]]:
    """Put a part's polygons into one annotation or, now and then, into two."""
    if len(polygons) > 1 and rng.random() < _SHARE_SPLIT_PARTS:
        return [polygons[:1], polygons[1:]]
    return [polygons]
