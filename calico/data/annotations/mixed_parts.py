"""The published MixedParts annotations, as far as their form is known: PartImageNet and ADE20K-Part-234.

Folder: PartImageNet/annotations/{split}/*_mixed_parts.json (polygons of parts, categories "head" of
"quadruped"), PartImageNet/annotations/{split}_whole/*_mixed_parts.json (polygons of objects, one category a
synset, named as in Table 6) and ADE20KPart234/ade20k_instance_{train,val}_mixed_parts.json. The release has
no images: they, and ADE's maps of parts, are read from the folders `partimagenet` and `ade20k_part_234`
beside this one. Images keep the ids of those sources, so one run reads either them or this.

We know the form of no other annotation file, such as mixed_parts_{split}.json with the pairs and PACO's; they
are listed as rejected. Source: the card of PLAN-Lab/MixedParts on the Hugging Face hub, of which an excerpt
was at hand.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from calico.core.records import ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations import ade20k_part_234, partimagenet
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject
from calico.data.annotations.coco import CocoContent, read_coco, read_masks
from calico.data.annotations.raw_json import paths_below
from calico.data.taxonomy import categories_of
from calico.errors import DataError

SOURCE = "mixed_parts"
_PARTIMAGENET = "PartImageNet"


def read(folder: Path) -> Iterator[AnnotatedImage]:
    """Yield the images of both sources.

    Args:
        folder: folder of the release; image paths are relative to its parent.

    Raises:
        DataError: nothing of the release is there, or a file is missing or contradicts itself.
    """
    present = [path for path in paths_below(folder, "**/*.json") if path.is_file()]
    if not present:
        raise DataError(f"{folder}: holds no annotation file. Put the MixedParts release there.")
    part_files = {split: _only_file(folder, split) for split in partimagenet.SPLITS}
    whole_files = {split: _only_file(folder, f"{split}_whole") for split in partimagenet.SPLITS}
    ade_files = {
        split: folder / ade20k_part_234.RELEASE / f"ade20k_instance_{split}_mixed_parts.json"
        for split in ade20k_part_234.RELEASED_SPLITS
    }
    known = {*part_files.values(), *whole_files.values(), *ade_files.values()}
    yield from (_unknown(path, folder) for path in present if path not in known)
    for split, path in part_files.items():
        yield from _read_partimagenet(path, whole_files[split], split)
    for split, path in ade_files.items():
        yield from _read_ade(path, split, folder)


def _only_file(folder: Path, subfolder: str) -> Path:
    """The card abbreviates the names of these files, so the ending decides."""
    place = folder / _PARTIMAGENET / "annotations" / subfolder
    found = sorted(place.glob("*_mixed_parts.json"))
    if len(found) != 1:
        raise DataError(
            f"{place}: {len(found)} files end in _mixed_parts.json, expected 1. Get the release again."
        )
    return found[0]


def _unknown(path: Path, folder: Path) -> AnnotatedImage:
    rejection = Rejection(SOURCE, "", str(path.relative_to(folder)), "file of unknown form")
    return AnnotatedImage(None, (), (rejection,), path)


def _read_partimagenet(path: Path, whole_path: Path, split: str) -> Iterator[AnnotatedImage]:
    parts, wholes = read_coco(path), read_coco(whole_path)
    partimagenet.check_categories(parts.categories, path)
    _check_names(wholes, whole_path)
    whole_ids = {image.file_name: image.id for image in wholes.images}
    for raw in parts.images:
        partimagenet.category_of(raw.file_name, path)
        stem = PurePosixPath(raw.file_name).stem
        image_path = f"{partimagenet.SOURCE}/images/{split}/{raw.file_name}"
        image_id = f"{partimagenet.SOURCE}/{stem}"
        image = ImageRecord(image_id, partimagenet.SOURCE, image_path, raw.height, raw.width, split)
        if raw.file_name not in whole_ids:
            rejection = Rejection(partimagenet.SOURCE, image_id, "", "image without an object")
            yield AnnotatedImage(None, (), (rejection,), path)
        else:
            yield _join(image, raw.id, parts, whole_ids[raw.file_name], wholes, path)


def _check_names(wholes: CocoContent, path: Path) -> None:
    unknown = {one.name for one in wholes.categories.values()} - set(categories_of(partimagenet.SOURCE))
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} categories are none of Table 6's 37 of PartImageNet, first "
            f"{min(unknown)!r}. Get the release again."
        )


def _join(
    image: ImageRecord, raw_id: int, parts: CocoContent, whole_id: int, wholes: CocoContent, path: Path
) -> AnnotatedImage:
    """One object per image: several annotations of an image are rejected, not guessed at."""
    found_parts, rejections = partimagenet.read_parts(
        image, tuple(parts.annotations.get(raw_id, ())), parts.categories
    )
    annotations = wholes.annotations.get(whole_id, ())
    rles, faults = read_masks(image, annotations)
    rejections += faults
    if len(rles) != 1:
        reason = "image with several objects" if rles else "image without an object"
        rejections.append(Rejection(image.source, image.image_id, "", reason))
        return AnnotatedImage(None, (), tuple(rejections), path)
    (one,) = (one for one in annotations if one.id in rles)
    category = wholes.categories[one.category_id].name
    objects = (AnnotatedObject(str(one.id), category, rles[one.id], found_parts),)
    return AnnotatedImage(image, objects, tuple(rejections), path)


def _read_ade(path: Path, released_split: str, folder: Path) -> Iterator[AnnotatedImage]:
    source = folder.parent / ade20k_part_234.SOURCE / ade20k_part_234.RELEASE
    subfolder = ade20k_part_234.RELEASED_SPLITS[released_split]
    yield from ade20k_part_234.read_annotation_file(
        path,
        released_split=released_split,
        part_maps=source / "annotations_detectron2_part" / subfolder,
        image_folder=f"{ade20k_part_234.SOURCE}/{ade20k_part_234.RELEASE}/images/{subfolder}",
    )
