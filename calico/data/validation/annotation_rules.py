"""Rules of the unified tables; what is sound becomes the scenes that pairs are judged by."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from calico.config import UnifySection
from calico.core.masks import Rle, box_xyxy, shares_inside, validate
from calico.data.pairs.targets import PairableObject
from calico.data.validation.files import SPLITS, ImageFolders, rows_of
from calico.data.validation.rules import RuleBook
from calico.errors import DataError

# As where parts are given to objects: less than half inside, and the part belongs to something else.
_MIN_SHARE_INSIDE = 0.5

Row = dict[str, Any]


@dataclass
class Scene:
    """What one image shows.

    Attributes:
        number: of the image, by which pairs are told apart.
        objects: from left to right, as pairing sees them.
        is_sound: False where a rule of its masks or references is broken, so that no target follows from it.
    """

    number: int
    source: str
    split: str
    size: tuple[int, int]
    objects: list[PairableObject] = field(default_factory=list)
    is_sound: bool = True


@dataclass(frozen=True)
class Annotations:
    """The unified tables, as far as they hold together."""

    scenes: Mapping[str, Scene]
    image_of_object: Mapping[str, str]
    object_of_part: Mapping[str, str]


def check_annotations(
    unified: Mapping[str, pa.Table], section: UnifySection, folders: ImageFolders, book: RuleBook
) -> Annotations:
    """Check images, objects, parts and captions.

    Args:
        unified: tables by name, with the right columns.
        section: the smallest areas that unify keeps.
        folders: where images may lie.
    """
    rows = {name: unified[name].to_pylist() for name in ("images", "objects", "parts")}
    for name, key in (("images", "image_id"), ("objects", "object_id"), ("parts", "part_id")):
        _check_ids(name, [row[key] for row in rows[name]], book)
    scenes = _check_images(rows["images"], folders, book)
    objects = {row["object_id"]: row for row in rows["objects"]}
    _check_owners(rows, scenes, objects, book)
    for name, key, least in (
        ("objects", "object_id", section.min_object_area_px),
        ("parts", "part_id", section.min_part_area_px),
    ):
        for row in rows[name]:
            _check_mask(f"unify/{name}.parquet: '{row[key]}'", row, scenes, least, book)
    _check_containment(rows["parts"], objects, book)
    _check_captions(unified["captions"], scenes, book)
    _fill_scenes(rows, scenes)
    return Annotations(
        scenes,
        {row["object_id"]: row["image_id"] for row in rows["objects"]},
        {row["part_id"]: row["object_id"] for row in rows["parts"]},
    )


def _check_ids(name: str, ids: Sequence[str], book: RuleBook) -> None:
    book["ids"].count(len(ids))
    for repeated, uses in Counter(ids).items():
        if uses > 1:
            book["ids"].violate(f"unify/{name}.parquet: '{repeated}' stands for {uses} rows.")
        if not repeated:
            book["ids"].violate(f"unify/{name}.parquet: an id is empty.")


def _check_images(rows: Sequence[Row], folders: ImageFolders, book: RuleBook) -> dict[str, Scene]:
    """Check sizes, splits and paths, and that no file is in two splits."""
    scenes: dict[str, Scene] = {}
    split_of_file: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows):
        book["images"].count()
        place = f"unify/images.parquet: image '{row['image_id']}'"
        if row["height"] <= 0 or row["width"] <= 0:
            book["images"].violate(f"{place} is {row['height']} x {row['width']} pixels.")
        if row["split"] not in SPLITS:
            book["images"].violate(f"{place} has the split '{row['split']}', not one of {', '.join(SPLITS)}.")
        if not folders.hold(row["path"]):
            book["images"].violate(f"{place} has the file '{row['path']}', which is not in {folders}.")
        other_id, other_split = split_of_file.setdefault(row["path"], (row["image_id"], row["split"]))
        if other_split != row["split"]:
            book["leaks"].violate(f"{place} of {row['split']} is the file of '{other_id}' of {other_split}.")
        size = (row["height"], row["width"])
        scenes[row["image_id"]] = Scene(number, row["source"], row["split"], size)
    return scenes


def _check_owners(
    rows: Mapping[str, Sequence[Row]],
    scenes: Mapping[str, Scene],
    objects: Mapping[str, Row],
    book: RuleBook,
) -> None:
    """Check that objects have an image, and parts an object of the same image, one of each name."""
    book["references"].count(len(rows["objects"]) + 2 * len(rows["parts"]))
    for row in rows["objects"]:
        if row["image_id"] not in scenes:
            book["references"].violate(
                f"unify/objects.parquet: '{row['object_id']}' names the image '{row['image_id']}', "
                "which does not exist."
            )
    names: set[tuple[str, str]] = set()
    for row in rows["parts"]:
        place = f"unify/parts.parquet: '{row['part_id']}'"
        owner = objects.get(row["object_id"])
        if owner is None:
            book["references"].violate(
                f"{place} names the object '{row['object_id']}', which does not exist."
            )
        elif owner["image_id"] != row["image_id"]:
            book["references"].violate(
                f"{place} is of image '{row['image_id']}', but its object of '{owner['image_id']}'."
            )
        if (row["object_id"], row["category"]) in names:
            book["ids"].violate(f"{place} is a second '{row['category']}' of one object.")
        names.add((row["object_id"], row["category"]))


def _check_mask(place: str, row: Row, scenes: Mapping[str, Scene], least_px: int, book: RuleBook) -> None:
    """Check a mask and what is stated about it; a broken one makes its image unsound."""
    scene = scenes.get(row["image_id"])
    book["masks"].count()
    if fault := _mask_fault(row, scene):
        book["masks"].violate(f"{place}: {fault}")
        row["rle"] = None
        if scene:
            scene.is_sound = False
        return
    row["rle"] = rle = _rle(row)
    book["areas"].count()
    box, area_px = [int(side) for side in box_xyxy(rle)], rle.area_px
    row["left_px"] = box[0]
    if area_px < least_px:
        book["areas"].violate(f"{place}: {area_px} pixels are fewer than the {least_px} of params.yaml.")
    elif (row["area_px"], row["box_xyxy"]) != (area_px, box):
        book["areas"].violate(
            f"{place}: states {row['area_px']} pixels in {row['box_xyxy']}, its mask has {area_px} in {box}."
        )


def _mask_fault(row: Row, scene: Scene | None) -> str:
    try:
        validate(_rle(row))
    except DataError as error:
        return str(error)
    if scene and scene.size != (row["height"], row["width"]):
        return f"the mask is {row['height']} x {row['width']}, its image {scene.size[0]} x {scene.size[1]}."
    return ""


def _check_containment(parts: Sequence[Row], objects: Mapping[str, Row], book: RuleBook) -> None:
    book["containment"].count(0)
    parts_of: dict[str, list[Row]] = {}
    for row in parts:
        owner = objects.get(row["object_id"])
        if owner and owner["rle"] and row["rle"] and _size(owner) == _size(row):
            parts_of.setdefault(row["object_id"], []).append(row)
    for object_id, owned in parts_of.items():
        book["containment"].count(len(owned))
        shares = shares_inside([row["rle"] for row in owned], [objects[object_id]["rle"]])[:, 0]
        for row, share in zip(owned, shares.tolist(), strict=True):
            if share < _MIN_SHARE_INSIDE:
                book["containment"].violate(
                    f"unify/parts.parquet: '{row['part_id']}': {share:.0%} of it lie in '{object_id}'."
                )


def _check_captions(captions: pa.Table, scenes: Mapping[str, Scene], book: RuleBook) -> None:
    """Check the images and the masks of captions; alignment reads them like those of objects."""
    for number, row in enumerate(rows_of(captions)):
        place = f"unify/captions.parquet: caption {number} of '{row['image_id']}'"
        scene = scenes.get(row["image_id"])
        book["references"].count()
        if scene is None:
            book["references"].violate(f"{place}: this image does not exist.")
        for phrase in row["phrases"]:
            book["masks"].count()
            if fault := _mask_fault(phrase, scene):
                book["masks"].violate(f"{place}, phrase '{phrase['label']}': {fault}")


def _fill_scenes(rows: Mapping[str, Sequence[Row]], scenes: Mapping[str, Scene]) -> None:
    """Put every object with its parts into its scene, in the order that pairing lists them."""
    part_ids: dict[str, dict[str, str]] = {}
    for row in rows["parts"]:
        part_ids.setdefault(row["object_id"], {})[row["category"]] = row["part_id"]
    for one in _from_left_to_right(rows["objects"], part_ids):
        if one.image_id in scenes:
            scenes[one.image_id].objects.append(one)


def _from_left_to_right(
    objects: Sequence[Row], part_ids: Mapping[str, Mapping[str, str]]
) -> Iterator[PairableObject]:
    ordered = sorted(
        (row for row in objects if row["rle"]), key=lambda row: (row["left_px"], row["object_id"])
    )
    for row in ordered:
        yield PairableObject(
            row["object_id"], row["image_id"], row["category"], row["left_px"],
            part_ids.get(row["object_id"], {}),
        )  # fmt: skip


def _rle(row: Row) -> Rle:
    return Rle(row["height"], row["width"], row["rle_counts"])


def _size(row: Row) -> tuple[int, int]:
    return row["height"], row["width"]
