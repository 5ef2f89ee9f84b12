"""ADE20K-Part-234: object instances as COCO json, parts as one semantic map per image.

Folder: ADE20KPart234/{ade20k_instance_{train,val}.json, images/{training,validation}/*.jpg,
annotations_detectron2_part/{training,validation}/*.png}. A part of an instance is (map == part class) and its
mask. The release has no test split: a hash of the image id divides its validation images into val and test.
"""

import csv
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from calico.core.images import read_label_map
from calico.core.masks import decode, encode
from calico.core.records import ImageRecord
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.data.annotations.coco import CocoCategory, read_coco, read_masks
from calico.errors import DataError

SOURCE = "ade20k_part_234"
RELEASE = "ADE20KPart234"
# Name of a released split -> name of its folders.
_RELEASED_SPLITS = {"train": "training", "val": "validation"}


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of the released splits.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    for released_split in _RELEASED_SPLITS:
        yield from read_split(folder / RELEASE, released_split, path_prefix=f"{folder.name}/{RELEASE}")


def read_split(release: Path, released_split: str, *, path_prefix: str) -> Iterator[AnnotatedImage]:
    """Yield the images of one released split, "train" or "val".

    Args:
        release: the folder that holds the annotation files.
        released_split: "train" or "val".
        path_prefix: what stands before "images/..." in an image's path.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    path = release / f"ade20k_instance_{released_split}.json"
    content = read_coco(path)
    names = _object_names(content.categories, path)
    subfolder = _RELEASED_SPLITS[released_split]
    for raw in content.images:
        stem = PurePosixPath(raw.file_name).stem
        image_path = f"{path_prefix}/images/{subfolder}/{raw.file_name}"
        split = _split(released_split, f"{SOURCE}/{stem}")
        image = ImageRecord(f"{SOURCE}/{stem}", SOURCE, image_path, raw.height, raw.width, split)
        map_path = release / "annotations_detectron2_part" / subfolder / f"{stem}.png"
        part_map_HW = _read_part_map(map_path, image)
        rles, rejections = read_masks(image, content.annotations.get(raw.id, ()))
        objects = tuple(
            AnnotatedObject(
                str(one.id),
                names[one.category_id],
                rles[one.id],
                _parts(one.id, part_classes()[names[one.category_id]], decode(rles[one.id]), part_map_HW),
            )
            for one in content.annotations.get(raw.id, ())
            if one.id in rles
        )
        yield AnnotatedImage(image, objects, tuple(rejections))


@cache
def part_classes() -> Mapping[str, Mapping[int, str]]:
    """Return, for each of the 44 objects, its parts by their class id in the maps (0 to 233)."""
    classes: dict[str, dict[int, str]] = defaultdict(dict)
    with Path(__file__).with_name("ade20k_part_234_classes.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            classes[row["object"]][int(row["part_class_id"])] = row["part"]
    return dict(classes)


def _object_names(categories: Mapping[int, CocoCategory], path: Path) -> dict[int, str]:
    names = {number: category.name for number, category in categories.items()}
    unknown = sorted(set(names.values()) - set(part_classes()))
    if unknown:
        raise DataError(f"{path}: categories {', '.join(unknown)} are none of ADE20K-Part-234's 44 objects.")
    return names


def _split(released_split: str, image_id: str) -> str:
    if released_split == "train":
        return "train"
    return "test" if zlib.crc32(image_id.encode()) % 2 else "val"


def _read_part_map(path: Path, image: ImageRecord) -> np.ndarray:
    part_map_HW = read_label_map(path)
    if part_map_HW.shape != (image.height, image.width):
        raise DataError(
            f"{path}: the map is {part_map_HW.shape[0]} x {part_map_HW.shape[1]}, "
            f"the image {image.height} x {image.width}. Get the data set again."
        )
    return part_map_HW


def _parts(
    annotation_id: int, classes: Mapping[int, str], mask_HW: np.ndarray, part_map_HW: np.ndarray
) -> tuple[AnnotatedPart, ...]:
    visible = sorted(set(np.unique(part_map_HW[mask_HW]).tolist()) & set(classes))
    return tuple(
        AnnotatedPart(f"{annotation_id}:{number}", classes[number], encode(mask_HW & (part_map_HW == number)))
        for number in visible
    )
