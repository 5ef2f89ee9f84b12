"""PACO-LVIS: objects and parts as COCO annotations, a part's `obj_ann_id` naming its object.

Folder: annotations/paco_lvis_v1_{train,val,test}.json and coco/{train2017,val2017}/*.jpg; `file_name` carries
the COCO folder. `paco_lvis_categories.csv` lists the 75 objects and 456 parts of the release. A part that is
not annotated may be there all the same: the release marks only some categories as complete. Source:
facebookresearch/paco, docs/PACO_DATASET.md.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.annotated_image import AnnotatedImage
from calico.data.annotations.coco import CocoAnnotation, CocoContent, read_coco, read_masks
from calico.data.annotations.ownership import LooseObject, LoosePart, join_by_link
from calico.errors import DataError

SOURCE = "paco_lvis"
SPLITS = ("train", "val", "test")

_QUALIFIER = re.compile(r"_\(.*?\)")


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of all three splits.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a file is missing, contradicts itself or has categories that PACO-LVIS lacks.
    """
    for split in SPLITS:
        path = folder / "annotations" / f"paco_lvis_v1_{split}.json"
        if split == "test" and not path.is_file():
            raise DataError(
                f"{path}: no such file. paco_lvis_v1.zip holds it since February 2023; get the archive again."
            )
        content = read_coco(path)
        _check_categories(content, path)
        yield from _annotated_images(content, path, split=split, image_folder=f"{folder.name}/coco")


def read_annotation_file(path: Path, *, split: str, image_folder: str) -> Iterator[AnnotatedImage]:
    """Yield the images of one annotation file, whatever its categories are.

    Args:
        path: COCO file with `obj_ann_id`.
        split: split of all its images.
        image_folder: what stands before `file_name` in an image's path.

    Raises:
        DataError: the file is missing or contradicts itself.
    """
    yield from _annotated_images(read_coco(path), path, split=split, image_folder=image_folder)


@cache
def released_categories() -> Mapping[int, str]:
    """Return the names of the 531 released categories by id: objects "chair", parts "chair:leg"."""
    table = Path(__file__).with_name("paco_lvis_categories.csv")
    with table.open(encoding="utf-8", newline="") as stream:
        return {int(row["category_id"]): row["name"] for row in csv.DictReader(stream)}


def object_name(released: str) -> str:
    """Return the name of Table 6: "car_(automobile)" -> "car", "trash_can" -> "trash can"."""
    return " ".join(_QUALIFIER.sub("", released).replace("_", " ").split())


def part_name(released: str) -> tuple[str, str]:
    """Return (object, part): "chair:seat_base" -> ("chair", "seat base"); part "" for an object category."""
    owner, _, part = released.partition(":")
    return object_name(owner), part.replace("_", " ").strip()


def _check_categories(content: CocoContent, path: Path) -> None:
    unknown = {one.name for one in content.categories.values()} - set(released_categories().values())
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} categories are none of PACO-LVIS's 531, first {min(unknown)!r}. "
            "Get the file again; a file of your own goes into unify.own_sources."
        )


def _annotated_images(
    content: CocoContent, path: Path, *, split: str, image_folder: str
) -> Iterator[AnnotatedImage]:
    names = {number: category.name for number, category in content.categories.items()}
    for raw in content.images:
        image_id = f"{SOURCE}/{PurePosixPath(raw.file_name).stem}"
        image = ImageRecord(image_id, SOURCE, f"{image_folder}/{raw.file_name}", raw.height, raw.width, split)
        yield _annotated(image, content.annotations.get(raw.id, ()), names, path)


def _annotated(
    image: ImageRecord, annotations: Sequence[CocoAnnotation], names: Mapping[int, str], path: Path
) -> AnnotatedImage:
    rles, rejections = read_masks(image, annotations)
    objects: list[LooseObject] = []
    parts: list[LoosePart] = []
    faults: list[tuple[int, str]] = []
    for annotation in annotations:
        if annotation.id not in rles:
            continue
        owner, part = part_name(names[annotation.category_id])
        rle = rles[annotation.id]
        if annotation.id == annotation.obj_ann_id:
            objects.append(LooseObject(annotation.id, owner, rle))
        elif part:
            parts.append(LoosePart(annotation.id, owner, part, rle, annotation.obj_ann_id))
        else:
            faults.append((annotation.id, "part annotation of an object category"))
    joined, left_over = join_by_link(objects, parts)
    rejections += [
        Rejection(SOURCE, image.image_id, str(number), fault) for number, fault in faults + left_over
    ]
    return AnnotatedImage(image, joined, tuple(rejections), path)
