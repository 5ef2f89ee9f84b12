"""COCO-style annotation files, the common base of all sources but GranD."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from calico.core.images import MAX_PIXELS
from calico.core.masks import Rle
from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.raw_json import (
    RawRecord,
    SidePx,
    Text,
    check_file_name,
    check_record,
    has_marker,
    read_raw,
)
from calico.data.annotations.segmentation import UnusableMaskError, read_segmentation
from calico.errors import DataError


class CocoImage(RawRecord):
    """An entry of `images`."""

    id: int
    file_name: Text
    height: SidePx
    width: SidePx


class CocoCategory(RawRecord):
    """An entry of `categories`."""

    id: int
    name: Text
    supercategory: Text | None = None


class CocoAnnotation(RawRecord):
    """An entry of `annotations`.

    `bbox` and `area` are not read: both are measured on the mask, which alone decides.

    Attributes:
        obj_ann_id: PACO's link from a part to its object.
        part_category_id: ADE20K-Part-234's part classes of an object.
    """

    id: int
    image_id: int
    category_id: int
    segmentation: Any = None
    iscrowd: bool | int | None = None
    obj_ann_id: int | None = None
    part_category_id: list[int] | None = None


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


def read_coco(path: Path, *, link_field: str = "obj_ann_id") -> CocoContent:
    """Read and check an annotation file.

    Args:
        path: COCO-style JSON file.
        link_field: field of an annotation that becomes its `obj_ann_id`.

    Raises:
        DataError: the file is missing, has wrong fields or contradicts itself; names file and id.
    """
    content = check_record(read_raw(path), _file_type(link_field), path)
    for kind, records in vars(content).items():
        _check_unique([record.id for record in records], kind, path)
    for image in content.images:
        _check_image(image, path)
    categories = {category.id: category for category in content.categories}
    for category in content.categories:
        _check_category(category, path)
    annotations = _by_image(content, categories, path)
    return CocoContent(tuple(content.images), categories, annotations)


def read_masks(
    image: ImageRecord, annotations: Sequence[CocoAnnotation]
) -> tuple[dict[int, Rle], list[Rejection]]:
    """Return the mask of each usable annotation of an image by annotation id, and the rejected ones."""
    rles: dict[int, Rle] = {}
    rejections: list[Rejection] = []
    for annotation in annotations:
        try:
            rles[annotation.id] = _read_mask(image, annotation)
        except UnusableMaskError as fault:
            rejections.append(Rejection(image.source, image.image_id, str(annotation.id), str(fault)))
    return rles, rejections


def _read_mask(image: ImageRecord, annotation: CocoAnnotation) -> Rle:
    if annotation.iscrowd:
        raise UnusableMaskError("crowd region, not one object")
    return read_segmentation(annotation.segmentation, image.height, image.width)


@cache
def _file_type(link_field: str) -> type[_CocoFile]:
    """Return a file whose annotations have their link in `link_field`, and faults of it under that name."""
    if link_field == "obj_ann_id":
        return _CocoFile
    link: Any = (int | None, Field(default=None, validation_alias=link_field))
    annotations: Any = (list[create_model("Linked", __base__=CocoAnnotation, obj_ann_id=link)], ...)  # type: ignore[misc]
    return create_model("LinkedFile", __base__=_CocoFile, annotations=annotations)


def _by_image(
    content: _CocoFile, categories: Mapping[int, CocoCategory], path: Path
) -> Mapping[int, Sequence[CocoAnnotation]]:
    image_ids = {image.id for image in content.images}
    by_image: dict[int, list[CocoAnnotation]] = defaultdict(list)
    for annotation in content.annotations:
        if annotation.image_id not in image_ids or annotation.category_id not in categories:
            raise DataError(
                f"{path}: annotation {annotation.id} names image {annotation.image_id} and category "
                f"{annotation.category_id}; the file lacks one of them. Get the file again."
            )
        by_image[annotation.image_id].append(annotation)
    return by_image


def _check_unique(ids: Sequence[int], kind: str, path: Path) -> None:
    seen: set[int] = set()
    for number in ids:
        if number in seen:
            raise DataError(f"{path}: two {kind} have id {number}. Get the file again.")
        seen.add(number)


def _check_image(image: CocoImage, path: Path) -> None:
    check_file_name(image.file_name, path)
    if image.height * image.width > MAX_PIXELS:
        raise DataError(
            f"{path}: image {image.id} has {image.height} x {image.width} pixels, more than "
            f"{MAX_PIXELS // 1_000_000} megapixels. Correct its size, or make the image smaller."
        )


def _check_category(category: CocoCategory, path: Path) -> None:
    """Names become text that the model reads and writes."""
    if not category.name.strip() or not category.name.isprintable() or has_marker(category.name):
        raise DataError(
            f"{path}: category {category.id} is named {category.name!r}; a name is printable text without "
            "the model's special tokens."
        )
