"""Write scenes as GranD: sa_<id>.jpg and one scene-graph json beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calico.core import masks
from calico.core.files import write_json
from calico.data.synthetic.encoding import compressed_rle, write_jpeg
from calico.data.synthetic.renderer import Scene

_SOURCE_LANDMARKS = {
    "partimagenet": ("Outdoor scene", "Natural landscape"),
    "paco_lvis": ("Indoor scene", "Living space"),
    "ade20k_part_234": ("Indoor scene", "Living space"),
}


@dataclass(frozen=True)
class _Entity:
    """An object or part of the scene as one entry of `objects`."""

    label: str
    mask_HW: np.ndarray
    depth: float


def write_image(root: Path, *, index: int, scene: Scene, rng: np.random.Generator) -> None:
    """Write one image and its json.

    Objects and parts are both entries of `objects`, numbered in the order of the dense caption.

    Args:
        root: the folder of the data set.
        index: number of the scene; its file is sa_<index + 1>.
        scene: what to write.
        rng: the scene's generator; chooses scores and attributes.
    """
    stem = f"sa_{index + 1}"
    write_jpeg(root / f"{stem}.jpg", scene.image_HWC)
    groups = [
        [
            _Entity(scene_object.category, scene_object.mask_HW, float(depth)),
            *(
                _Entity(f"{scene_object.category}'s {part.name}", part.mask_HW, float(depth))
                for part in scene_object.parts
            ),
        ]
        for depth, scene_object in enumerate(reversed(scene.objects), start=1)
    ]
    entities = [entity for group in groups for entity in group]
    objects = [_object_entry(number, entity, rng) for number, entity in enumerate(entities)]
    boxes = [entry["bbox"] for entry in objects]
    dense_caption = _dense_caption(groups, boxes)
    category, fine_category = _SOURCE_LANDMARKS[scene.source]
    content = {
        "objects": objects,
        "floating_objects": [],
        "floating_attributes": [],
        "landmark": {"category": category, "fine_category": fine_category},
        "id_counter": len(objects),
        "relationships": {
            "object_ids": list(range(len(objects))),
            "floating_object_ids": [],
            "grounding": [
                {"phrase": detail["phrase"], "object_ids": detail["ids"]}
                for detail in dense_caption["details"]
            ],
        },
        "short_captions": _short_captions(groups, boxes),
        "dense_caption": dense_caption,
    }
    write_json(root / f"{stem}.json", {f"{stem}.jpg": content})


def _object_entry(number: int, entity: _Entity, rng: np.random.Generator) -> dict[str, Any]:
    """Return the entry of `objects` of one object or part."""
    rle = masks.encode(entity.mask_HW)
    is_large = rle.area_px > entity.mask_HW.size / 8
    attribute = f"{'large' if is_large else 'small'} {entity.label}"
    return {
        "id": number,
        "bbox": list(masks.box_xyxy(rle)),
        "labels": [entity.label],
        "score": round(float(rng.uniform(0.6, 1.0)), 2),
        "attributes": attribute if rng.random() < 0.3 else None,
        "depth": entity.depth,
        "segmentation": compressed_rle(rle),
        "segmentation_source": "SAM",
    }


def _dense_caption(groups: list[list[_Entity]], boxes: list[list[float]]) -> dict[str, Any]:
    """Name every object with its parts, and ground each phrase by its character span."""
    caption = "The image shows "
    details: list[dict[str, Any]] = []
    for group_index, group in enumerate(groups):
        caption += ", and " if group_index else ""
        for entity_index, entity in enumerate(group):
            caption += _joint(entity_index, len(group))
            phrase = f"the {entity.label}"
            span = [len(caption), len(caption) + len(phrase)]
            caption += phrase
            number = len(details)
            details.append(
                {
                    "phrase": phrase,
                    "tokens_positive": span,
                    "ids": [number],
                    "bbox": [boxes[number]],
                }
            )
    return {"caption": caption + ".", "details": details}


def _joint(entity_index: int, num_entities: int) -> str:
    """Return what stands before the n-th phrase of an object: it, with a, b and c."""
    if entity_index < 2:
        return " with " if entity_index else ""
    return " and " if entity_index == num_entities - 1 else ", "


def _short_captions(groups: list[list[_Entity]], boxes: list[list[float]]) -> list[dict[str, Any]]:
    """Return one sentence an object, grounded in the object."""
    captions = []
    number = 0
    for group in groups:
        phrase = f"the {group[0].label}"
        opening = "This is a picture of "
        captions.append(
            {
                "caption": f"{opening}{phrase}.",
                "details": [
                    {
                        "phrase": phrase,
                        "tokens_positive": [len(opening), len(opening) + len(phrase)],
                        "id": number,
                        "bbox": boxes[number],
                    }
                ],
            }
        )
        number += len(group)
    return captions
