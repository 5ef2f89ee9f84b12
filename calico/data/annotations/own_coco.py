"""A person's own objects and parts in a COCO-style file: see docs/own-data.md.

A category is a part's if it is named "object:part", if its supercategory is the name of another category, or
if its supercategory is "part". With `part_link`, an annotation that names another one by it is a part, too.
"""

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from calico.config import OwnSource
from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.annotated_image import AnnotatedImage
from calico.data.annotations.coco import CocoCategory, CocoContent, CocoImage, read_coco, read_masks
from calico.data.annotations.ownership import LooseObject, LoosePart, join_by_containment, join_by_link
from calico.data.annotations.paco_lvis import object_name
from calico.errors import DataError

_PART = "part"
# Tenths of the images by hash of their id: eight for train, one each for val and test.
_SPLIT_OF_TENTH = ("val", "test", *("train",) * 8)


@dataclass(frozen=True)
class Label:
    """What a category of the file means.

    Attributes:
        name: of the object or, bare, of the part.
        is_part: whether the category itself says that it is a part's.
        owner: category of a part's object, "" for any.
    """

    name: str
    is_part: bool
    owner: str


def read(source: OwnSource, sources_path: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of one file.

    Args:
        source: entry of unify.own_sources.
        sources_path: folder that image paths are relative to.

    Raises:
        DataError: the file or folder is missing, or the file contradicts itself.
    """
    path, image_folder = Path(source.annotations), Path(source.images)
    if not image_folder.is_dir():
        raise DataError(f"{image_folder}: no such folder. Correct images of {source.name!r} in own_sources.")
    content = read_coco(path, link_field=source.part_link or "obj_ann_id")
    _check_links(content, source, path)
    # The real path: ".." behind a link to a folder leads elsewhere than its text says.
    prefix = os.path.relpath(image_folder, Path(sources_path).resolve())
    labels = read_labels(content.categories, path)
    for raw in content.images:
        image = _image_record(raw, source, prefix)
        yield _annotated(image, raw.id, content, labels, source)


def read_labels(categories: Mapping[int, CocoCategory], path: Path) -> dict[int, Label]:
    """Say of each category whether it is an object's or a part's; "_" and "_(...)" leave the names.

    Raises:
        DataError: nothing is left of a name; names `path`, the annotation file, and the category.
    """
    names = {category.name for category in categories.values()}
    labels = {number: _label(category, names) for number, category in categories.items()}
    for number, label in labels.items():
        if not label.name or (":" in categories[number].name and not label.owner):
            raise DataError(
                f"{path}: category {number} is named {categories[number].name!r}, which names no object or "
                "no part once '_' and '_(...)' are gone. Write an object as 'dog', its part as 'dog:head'."
            )
    return labels


def split_of(image_id: str) -> str:
    """Return the split of an image under "by_image"; other images do not change it."""
    return _SPLIT_OF_TENTH[zlib.crc32(image_id.encode()) % len(_SPLIT_OF_TENTH)]


def _label(category: CocoCategory, names: set[str]) -> Label:
    owner, separator, part = category.name.partition(":")
    supercategory = category.supercategory or ""
    if separator:
        return Label(object_name(part), True, object_name(owner))
    if supercategory in names - {category.name}:
        return Label(object_name(category.name), True, object_name(supercategory))
    return Label(object_name(category.name), supercategory.lower() == _PART, "")


def _check_links(content: CocoContent, source: OwnSource, path: Path) -> None:
    annotations = [one for group in content.annotations.values() for one in group]
    if source.part_link and annotations and all(one.obj_ann_id is None for one in annotations):
        raise DataError(
            f"{path}: none of {len(annotations)} annotations has a {source.part_link!r}. Correct "
            f"part_link of {source.name!r} in own_sources; null is for parts that lie in their objects."
        )


def _image_record(raw: CocoImage, source: OwnSource, prefix: str) -> ImageRecord:
    image_id = f"{source.name}/{PurePosixPath(raw.file_name).with_suffix('')}"
    split = split_of(image_id) if source.split == "by_image" else source.split
    return ImageRecord(image_id, source.name, f"{prefix}/{raw.file_name}", raw.height, raw.width, split)


def _annotated(
    image: ImageRecord, raw_id: int, content: CocoContent, labels: Mapping[int, Label], source: OwnSource
) -> AnnotatedImage:
    annotations = content.annotations.get(raw_id, ())
    rles, rejections = read_masks(image, annotations)
    objects: list[LooseObject] = []
    parts: list[LoosePart] = []
    for one in annotations:
        if one.id not in rles:
            continue
        label = labels[one.category_id]
        link = one.obj_ann_id if source.part_link else None
        if label.is_part or link not in (None, one.id):
            parts.append(LoosePart(one.id, label.owner, label.name, rles[one.id], link))
        else:
            objects.append(LooseObject(one.id, label.name, rles[one.id]))
    join = join_by_link if source.part_link else join_by_containment
    joined, faults = join(objects, parts)
    rejections += [Rejection(image.source, image.image_id, str(number), fault) for number, fault in faults]
    return AnnotatedImage(image, joined, tuple(rejections), Path(source.annotations))
