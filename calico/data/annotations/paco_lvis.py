"""PACO-LVIS: objects and parts as COCO annotations, a part's `obj_ann_id` naming its object.

Folder: annotations/paco_lvis_v1_{train,val,test}.json and coco/{train2017,val2017}/*.jpg; `file_name` carries
the COCO folder. Source: facebookresearch/paco, docs/PACO_DATASET.md.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.data.annotations.coco import CocoAnnotation, read_coco, read_masks

SOURCE = "paco_lvis"
SPLITS = ("train", "val", "test")

_QUALIFIER = re.compile(r"_\(.*?\)")


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of all three splits.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    for split in SPLITS:
        path = folder / "annotations" / f"paco_lvis_v1_{split}.json"
        yield from read_annotation_file(path, split=split, image_folder=f"{folder.name}/coco")


def read_annotation_file(path: Path, *, split: str, image_folder: str) -> Iterator[AnnotatedImage]:
    """Yield the images of one annotation file.

    Args:
        path: COCO file with `obj_ann_id`.
        split: split of all its images.
        image_folder: what stands before `file_name` in an image's path.

    Raises:
        DataError: the file is missing or contradicts itself.
    """
    content = read_coco(path)
    names = {number: category.name for number, category in content.categories.items()}
    for raw in content.images:
        image_id = f"{SOURCE}/{PurePosixPath(raw.file_name).stem}"
        image = ImageRecord(image_id, SOURCE, f"{image_folder}/{raw.file_name}", raw.height, raw.width, split)
        yield _annotated(image, content.annotations.get(raw.id, ()), names)


def object_name(released: str) -> str:
    """Return the name of Table 6: "car_(automobile)" -> "car", "trash_can" -> "trash can"."""
    return _QUALIFIER.sub("", released).replace("_", " ")


def part_name(released: str) -> tuple[str, str]:
    """Return (object, part): "chair:seat_base" -> ("chair", "seat base"); part "" for an object category."""
    owner, _, part = released.partition(":")
    return object_name(owner), part.replace("_", " ")


def _annotated(
    image: ImageRecord, annotations: Sequence[CocoAnnotation], names: Mapping[int, str]
) -> AnnotatedImage:
    rles, rejections = read_masks(image, annotations)
    usable = [annotation for annotation in annotations if annotation.id in rles]
    owners = {one.id: object_name(names[one.category_id]) for one in usable if one.id == one.obj_ann_id}
    parts: dict[int | None, list[AnnotatedPart]] = defaultdict(list)
    for annotation in usable:
        if annotation.id in owners:
            continue
        owner, part = part_name(names[annotation.category_id])
        fault = _ownership_fault(owner, part, owners.get(annotation.obj_ann_id or 0))
        if fault:
            rejections.append(Rejection(SOURCE, image.image_id, str(annotation.id), fault))
        else:
            parts[annotation.obj_ann_id].append(AnnotatedPart(str(annotation.id), part, rles[annotation.id]))
    objects = [
        AnnotatedObject(str(number), category, rles[number], tuple(parts[number]))
        for number, category in owners.items()
    ]
    return AnnotatedImage(image, tuple(objects), tuple(rejections))


def _ownership_fault(owner: str, part: str, actual_owner: str | None) -> str | None:
    if not part:
        return "part annotation of an object category"
    if actual_owner is None:
        return "part without a usable object in its image"
    return None if owner == actual_owner else "part of another category than its object"
