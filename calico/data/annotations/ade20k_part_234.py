"""ADE20K-Part-234: object instances as COCO json, parts as one semantic map per image.

Folder: ADE20KPart234/{ade20k_instance_{train,val}.json, images/{training,validation}/*.jpg,
annotations_detectron2_part/{training,validation}/*.png}. A part of an instance is (map == part class) and its
mask. The release has no test split: a hash of the image id divides its validation images into val and test.
"""

import csv
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from calico.core.images import read_label_map
from calico.core.masks import decode, encode
from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.data.annotations.coco import CocoAnnotation, CocoCategory, read_coco, read_masks
from calico.errors import DataError

SOURCE = "ade20k_part_234"
RELEASE = "ADE20KPart234"
_NUM_PART_CLASSES = 234
# Value of the 16-bit maps where no part is.
_NO_PART = 65535
# Name of a released split -> name of its folders.
RELEASED_SPLITS = {"train": "training", "val": "validation"}


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of the released splits.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    for released_split in RELEASED_SPLITS:
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
    subfolder = RELEASED_SPLITS[released_split]
    yield from read_annotation_file(
        path,
        released_split=released_split,
        part_maps=release / "annotations_detectron2_part" / subfolder,
        image_folder=f"{path_prefix}/images/{subfolder}",
    )


def read_annotation_file(
    path: Path, *, released_split: str, part_maps: Path, image_folder: str
) -> Iterator[AnnotatedImage]:
    """Yield the images of one annotation file.

    Args:
        path: COCO file of object instances.
        released_split: "train" or "val".
        part_maps: folder of the PNGs with the part classes.
        image_folder: what stands before `file_name` in an image's path.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    content = read_coco(path)
    names = _object_names(content.categories, path)
    for raw in content.images:
        stem = PurePosixPath(raw.file_name).stem
        split = _split(released_split, f"{SOURCE}/{stem}")
        image_path = f"{image_folder}/{raw.file_name}"
        image = ImageRecord(f"{SOURCE}/{stem}", SOURCE, image_path, raw.height, raw.width, split)
        part_map_HW = _read_part_map(part_maps / f"{stem}.png", image)
        yield _annotated(image, content.annotations.get(raw.id, ()), names, part_map_HW, path)


def _annotated(
    image: ImageRecord,
    annotations: Sequence[CocoAnnotation],
    names: Mapping[int, str],
    part_map_HW: np.ndarray,
    path: Path,
) -> AnnotatedImage:
    rles, rejections = read_masks(image, annotations)
    objects = []
    for annotation in annotations:
        if annotation.id in rles:
            category, rle = names[annotation.category_id], rles[annotation.id]
            parts = _parts(annotation.id, part_classes()[category], decode(rle), part_map_HW)
            objects.append(AnnotatedObject(str(annotation.id), category, rle, parts))
            rejections += _parts_without_pixels(image, annotation, parts)
    return AnnotatedImage(image, tuple(objects), tuple(rejections), path)


def _parts_without_pixels(
    image: ImageRecord, annotation: CocoAnnotation, parts: Sequence[AnnotatedPart]
) -> list[Rejection]:
    """List the parts that an instance names, but that have no pixel of it in the map."""
    found = {part.annotation_id for part in parts}
    named = [_part_id(annotation.id, number) for number in annotation.part_category_id or ()]
    return [
        Rejection(SOURCE, image.image_id, part_id, "part without a pixel in the map")
        for part_id in named
        if part_id not in found
    ]


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
    strangers = part_map_HW[(part_map_HW >= _NUM_PART_CLASSES) & (part_map_HW != _NO_PART)]
    if strangers.size:
        raise DataError(
            f"{path}: the map holds {strangers.min()}, which is neither a part class (0 to "
            f"{_NUM_PART_CLASSES - 1}) nor {_NO_PART} for no part. Get the data set again."
        )
    return part_map_HW


def _part_id(annotation_id: int, part_class_id: int) -> str:
    return f"{annotation_id}:{part_class_id}"


def _parts(
    annotation_id: int, classes: Mapping[int, str], mask_HW: np.ndarray, part_map_HW: np.ndarray
) -> tuple[AnnotatedPart, ...]:
    visible = sorted(set(np.unique(part_map_HW[mask_HW]).tolist()) & set(classes))
    return tuple(
        AnnotatedPart(
            _part_id(annotation_id, number), classes[number], encode(mask_HW & (part_map_HW == number))
        )
        for number in visible
    )
