"""PartImageNet, Seg release: one foreground object per image, its class the synset that begins the file name.

Folder: images/{split}/*.JPEG, annotations/{split}/{split}.json (COCO polygons of parts) and
annotations/{split}_whole/*.png (object, background 158). Appendix A.2 replaces the supercategories by
everyday names; the table beside this file holds all 158 synsets and the names of the 126 that have one.
"""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from calico.core.images import read_label_map
from calico.core.masks import Rle, encode, union
from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.data.annotations.coco import CocoCategory, read_coco, read_masks
from calico.errors import DataError

SOURCE = "partimagenet"
SPLITS = ("train", "val", "test")
WHOLE_BACKGROUND = 158


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of all three splits.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    for split in SPLITS:
        yield from _read_split(folder, split)


@cache
def synset_categories() -> Mapping[str, str]:
    """Return the category of each of the 158 synsets, "" for those that Table 6 leaves out."""
    with Path(__file__).with_name("partimagenet_synsets.csv").open(encoding="utf-8", newline="") as stream:
        return {row["synset"]: row["category"] for row in csv.DictReader(stream)}


def part_name(category: CocoCategory) -> str:
    """Return the bare part name: "Quadruped Head" of supercategory "Quadruped" -> "head"."""
    return category.name.removeprefix(category.supercategory).strip().lower()


def _read_split(folder: Path, split: str) -> Iterator[AnnotatedImage]:
    path = folder / "annotations" / split / f"{split}.json"
    content = read_coco(path)
    names = {number: part_name(category) for number, category in content.categories.items()}
    for raw in content.images:
        stem = PurePosixPath(raw.file_name).stem
        image_path = f"{folder.name}/images/{split}/{raw.file_name}"
        image = ImageRecord(f"{SOURCE}/{stem}", SOURCE, image_path, raw.height, raw.width, split)
        category = _category(stem, path)
        if not category:
            rejection = Rejection(SOURCE, image.image_id, "", "class without a category")
            yield AnnotatedImage(None, (), (rejection,))
            continue
        rles, rejections = read_masks(image, content.annotations.get(raw.id, ()))
        parts = tuple(
            AnnotatedPart(str(annotation.id), names[annotation.category_id], rles[annotation.id])
            for annotation in content.annotations.get(raw.id, ())
            if annotation.id in rles
        )
        whole = _whole_mask(folder / "annotations" / f"{split}_whole" / f"{stem}.png", image, parts)
        if whole is None:
            rejections.append(Rejection(SOURCE, image.image_id, "", "image without an object"))
            yield AnnotatedImage(None, (), tuple(rejections))
        else:
            yield AnnotatedImage(image, (AnnotatedObject("", category, whole, parts),), tuple(rejections))


def _category(stem: str, path: Path) -> str:
    synset = stem.partition("_")[0]
    if synset not in synset_categories():
        raise DataError(
            f"{path}: image '{stem}' is of class '{synset}', which is none of PartImageNet's 158 classes."
        )
    return synset_categories()[synset]


def _whole_mask(path: Path, image: ImageRecord, parts: tuple[AnnotatedPart, ...]) -> Rle | None:
    """Return the object's mask: its own map where the release has one, else the union of its parts."""
    if not path.is_file():
        return union([part.rle for part in parts]) if parts else None
    label_map_HW = read_label_map(path)
    if label_map_HW.shape != (image.height, image.width):
        raise DataError(
            f"{path}: the map is {label_map_HW.shape[0]} x {label_map_HW.shape[1]}, "
            f"the image {image.height} x {image.width}. Get the data set again."
        )
    whole = encode(label_map_HW != WHOLE_BACKGROUND)
    return whole if whole.area_px else None
