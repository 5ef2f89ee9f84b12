"""COCO-style annotation files, the common base of PACO-LVIS, PartImageNet and ADE20K-Part-234."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calico.core.masks import Rle
from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.raw_json import RawRecord, SidePx, check_file_name, read_record
from calico.data.annotations.segmentation import UnusableMaskError, read_segmentation
from calico.errors import DataError


class CocoImage(RawRecord):
    """An entry of `images`."""

    id: int
    file_name: str
    height: SidePx
    width: SidePx


class CocoCategory(RawRecord):
    """An entry of `categories`."""

    id: int
    name: str
    supercategory: str = ""


class CocoAnnotation(RawRecord):
    """An entry of `annotations`; `obj_ann_id` is PACO's link from a part to its object."""

    id: int
    image_id: int
    category_id: int
    segmentation: Any
    obj_ann_id: int | None = None


class _CocoFile(RawRecord):
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


@dataclass(frozen=True)
class CocoContent:
    """A checked file: every id exists, no id stands twice, every file name stays in its folder.

    Attributes:
        annotations: of each image, in the order of the file.
    """

    images: tuple[CocoImage, ...]
    categories: Mapping[int, CocoCategory]
    annotations: Mapping[int, Sequence[CocoAnnotation]]


def read_coco(path: Path) -> CocoContent:
    """Read and check an annotation file.

    Raises:
        DataError: the file is missing, has wrong fields or contradicts itself; names file and id.
    """
    content = read_record(path, _CocoFile)
    for kind, records in vars(content).items():
        _check_unique([record.id for record in records], kind, path)
    image_ids = {image.id for image in content.images}
    categories = {category.id: category for category in content.categories}
    by_image: dict[int, list[CocoAnnotation]] = defaultdict(list)
    for annotation in content.annotations:
        if annotation.image_id not in image_ids or annotation.category_id not in categories:
            raise DataError(
                f"{path}: annotation {annotation.id} names image {annotation.image_id} and category "
                f"{annotation.category_id}; the file lacks one of them. Get the file again."
            )
        by_image[annotation.image_id].append(annotation)
    for image in content.images:
        check_file_name(image.file_name, path)
    return CocoContent(tuple(content.images), categories, by_image)


def read_masks(
    image: ImageRecord, annotations: Sequence[CocoAnnotation]
) -> tuple[dict[int, Rle], list[Rejection]]:
    """Return the mask of each usable annotation of an image by annotation id, and the rejected ones."""
    rles: dict[int, Rle] = {}
    rejections: list[Rejection] = []
    for annotation in annotations:
        try:
            rles[annotation.id] = read_segmentation(annotation.segmentation, image.height, image.width)
        except UnusableMaskError as fault:
            rejections.append(Rejection(image.source, image.image_id, str(annotation.id), str(fault)))
    return rles, rejections


def _check_unique(ids: Sequence[int], kind: str, path: Path) -> None:
    seen: set[int] = set()
    for number in ids:
        if number in seen:
            raise DataError(f"{path}: two {kind} have id {number}. Get the file again.")
        seen.add(number)
