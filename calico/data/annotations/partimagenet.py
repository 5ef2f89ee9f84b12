"""PartImageNet: one foreground object per image, its class the synset that begins the file name.

Two releases share their images, and the reader takes the one that it finds:

- Seg: images/{split}/*.JPEG, annotations/{split}/{split}.json (COCO polygons of parts) and
  annotations/{split}_whole/*.png (object, background 158); all classes in every split.
- OOD: {split}.json and {split}/{synset}/*.JPEG, no map of the object; no class in two splits.

The object's mask is its map where there is one, else the union of its parts. A part that an occluder cuts in
two may stand as two annotations (issue 7 of TACJu/PartImageNet); unify merges them. Names: see `synsets`.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from calico.core.images import read_label_map
from calico.core.masks import Rle, encode, union
from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.data.annotations.coco import CocoAnnotation, CocoCategory, CocoContent, read_coco, read_masks
from calico.data.annotations.synsets import synset_categories, synsets
from calico.data.taxonomy import categories_of
from calico.errors import DataError

SOURCE = "partimagenet"
SPLITS = ("train", "val", "test")
WHOLE_BACKGROUND = 158

# Table 6 leaves these out. "Tier" is the release's own spelling of tyre.
_LEFT_OUT = {
    "car": ("body", "tier", "side mirror"),
    "bicycle": ("body", "head", "seat", "tier"),
    "bottle": ("body", "mouth"),
}
# Where a release keeps an image, below the folder of the data set; the first that exists counts.
_SEG_IMAGES = ("images/{split}/{file_name}",)
_OOD_IMAGES = (
    "{split}/{synset}/{file_name}",
    "images/{split}/{synset}/{file_name}",
    "images/{split}/{file_name}",
    "{split}/{file_name}",
)


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of all three splits of the Seg release or, where only that is there, the OOD release.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a file is missing or contradicts itself.
    """
    is_ood = _is_ood_release(folder)
    for split in SPLITS:
        path = folder / (f"{split}.json" if is_ood else f"annotations/{split}/{split}.json")
        yield from _read_split(folder, split, path, _OOD_IMAGES if is_ood else _SEG_IMAGES)


def synset_of(file_name: str) -> str:
    """Return the synset that begins a file name: "n02071294_123.JPEG" -> "n02071294"."""
    return PurePosixPath(file_name).stem.partition("_")[0]


def part_name(category: CocoCategory) -> str:
    """Return the bare part name: "Quadruped Head" of supercategory "Quadruped" -> "head"."""
    return category.name.removeprefix(category.supercategory or "").strip().lower()


def check_categories(categories: Mapping[int, CocoCategory], path: Path) -> None:
    """Refuse parts that the release does not have: their names would become labels.

    Raises:
        DataError: a supercategory that no class has, or a part that Table 6 does not give it; names `path`.
    """
    known = _parts_by_supercategory()
    unknown = [
        category
        for category in categories.values()
        if part_name(category) not in known.get((category.supercategory or "").lower(), ())
    ]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} categories are none of PartImageNet's parts, first {unknown[0].name!r} "
            f"of supercategory {unknown[0].supercategory!r}. Get the file again."
        )


@cache
def _parts_by_supercategory() -> Mapping[str, set[str]]:
    parts: dict[str, set[str]] = defaultdict(set, {name: set(names) for name, names in _LEFT_OUT.items()})
    for one in categories_of(SOURCE).values():
        parts[one.supercategory].update(one.parts)
    return parts


def read_parts(
    image: ImageRecord, annotations: tuple[CocoAnnotation, ...], categories: Mapping[int, CocoCategory]
) -> tuple[tuple[AnnotatedPart, ...], list[Rejection]]:
    """Return the usable parts of an image, and what was rejected.

    A part of another supercategory than the image's class is rejected: its name would not fit the object.
    """
    rles, rejections = read_masks(image, annotations)
    supercategory = synsets()[synset_of(image.path)].supercategory
    parts = []
    for annotation in annotations:
        category = categories[annotation.category_id]
        if annotation.id not in rles:
            continue
        if (category.supercategory or "").lower() != supercategory:
            rejections.append(
                Rejection(SOURCE, image.image_id, str(annotation.id), "part of another supercategory")
            )
        else:
            parts.append(AnnotatedPart(str(annotation.id), part_name(category), rles[annotation.id]))
    return tuple(parts), rejections


def category_of(file_name: str, path: Path) -> str:
    """Return the category of an image, "" for a class that Table 6 leaves out.

    Raises:
        DataError: the name begins with none of the 158 synsets; names `path`, the annotation file.
    """
    synset = synset_of(file_name)
    if synset not in synset_categories():
        raise DataError(
            f"{path}: image {PurePosixPath(file_name).stem!r} is of class {synset!r}, which is none of "
            "PartImageNet's 158 classes."
        )
    return synset_categories()[synset]


def _is_ood_release(folder: Path) -> bool:
    if (folder / "annotations" / "train" / "train.json").is_file():
        return False
    if (folder / "train.json").is_file():
        return True
    raise DataError(
        f"{folder}: holds neither annotations/train/train.json (Seg release) nor train.json (OOD release). "
        "Get PartImageNet again."
    )


def _read_split(folder: Path, split: str, path: Path, places: tuple[str, ...]) -> Iterator[AnnotatedImage]:
    content = read_coco(path)
    check_categories(content.categories, path)
    for raw in content.images:
        stem = PurePosixPath(raw.file_name).stem
        category = category_of(raw.file_name, path)
        image_path = f"{folder.name}/{_place(folder, split, raw.file_name, places)}"
        image = ImageRecord(f"{SOURCE}/{stem}", SOURCE, image_path, raw.height, raw.width, split)
        if category:
            whole_path = folder / "annotations" / f"{split}_whole" / f"{stem}.png"
            yield _annotated(image, raw.id, content, category, path, whole_path)
        else:
            rejection = Rejection(SOURCE, image.image_id, "", "class without a category")
            yield AnnotatedImage(None, (), (rejection,), path)


def _place(folder: Path, split: str, file_name: str, places: tuple[str, ...]) -> str:
    """Return where the image is; the first place if it is nowhere, for unify to name."""
    names = [place.format(split=split, synset=synset_of(file_name), file_name=file_name) for place in places]
    return next((name for name in names if (folder / name).is_file()), names[0])


def _annotated(
    image: ImageRecord, raw_id: int, content: CocoContent, category: str, path: Path, whole_path: Path
) -> AnnotatedImage:
    annotations = tuple(content.annotations.get(raw_id, ()))
    parts, rejections = read_parts(image, annotations, content.categories)
    whole = _whole_mask(whole_path, image, parts)
    if whole is None:
        rejections.append(Rejection(SOURCE, image.image_id, "", "image without an object"))
        return AnnotatedImage(None, (), tuple(rejections), path)
    return AnnotatedImage(image, (AnnotatedObject("", category, whole, parts),), tuple(rejections), path)


def _whole_mask(path: Path, image: ImageRecord, parts: tuple[AnnotatedPart, ...]) -> Rle | None:
    """Return the object's mask: its own map where the release has one, else the union of its parts."""
    if not os.path.lexists(path):  # a broken link is no map, but should be one
        return union([part.rle for part in parts]) if parts else None
    label_map_HW = read_label_map(path)
    if label_map_HW.shape != (image.height, image.width):
        raise DataError(
            f"{path}: the map is {label_map_HW.shape[0]} x {label_map_HW.shape[1]}, "
            f"the image {image.height} x {image.width}. Get the data set again."
        )
    strangers = label_map_HW[label_map_HW > WHOLE_BACKGROUND]
    if strangers.size:
        raise DataError(
            f"{path}: the map holds {strangers.min()}, which is neither a class (0 to "
            f"{WHOLE_BACKGROUND - 1}) nor {WHOLE_BACKGROUND} for background. Get the data set again."
        )
    whole = encode(label_map_HW != WHOLE_BACKGROUND)
    return whole if whole.area_px else None
