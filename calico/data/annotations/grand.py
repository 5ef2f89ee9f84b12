"""GranD: one scene graph per image, with captions whose phrases name objects.

Folder: sa_<id>.json beside sa_<id>.jpg; the json is {"sa_<id>.jpg": {objects, dense_caption, short_captions,
...}}. Every grounded caption becomes one record. Source: mbzuai-oryx/groundingLMM, GranD/.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from calico.core.images import read_image
from calico.core.masks import Rle, union
from calico.core.records import CaptionPhrase, CaptionRecord, ImageRecord
from calico.core.tables import Rejection
from calico.data.annotations.raw_json import (
    RawRecord,
    Text,
    check_file_name,
    check_record,
    has_marker,
    paths_below,
    read_raw,
)
from calico.data.annotations.segmentation import UnusableMaskError, read_segmentation
from calico.errors import DataError

SOURCE = "grand"


@dataclass(frozen=True)
class CaptionedImage:
    """An image with its grounded captions; `image` is None if it was left out, `annotation_path` its file."""

    image: ImageRecord | None
    captions: tuple[CaptionRecord, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    annotation_path: Path | None = None


class _Object(RawRecord):
    id: int
    segmentation: Any = None


class _Detail(RawRecord):
    """A grounded phrase; short captions name one object by `id`, dense ones several by `ids`."""

    phrase: Text
    tokens_positive: Annotated[list[int], Field(min_length=2, max_length=2)]
    id: int | list[int] | None = None
    ids: list[int] | None = None

    @property
    def object_ids(self) -> list[int]:
        named = self.ids if self.ids is not None else self.id
        return named if isinstance(named, list) else [] if named is None else [named]


class _Caption(RawRecord):
    caption: Text
    details: list[_Detail]


class _Scene(RawRecord):
    objects: list[_Object]
    short_captions: list[_Caption] = Field(default_factory=list)
    dense_caption: _Caption | None = None


class _UnusablePhraseError(Exception):
    """A phrase that cannot be grounded; the message is the reason that is counted."""


def read(folder: Path) -> Iterator[CaptionedImage]:
    """Yield every image that has a scene graph, in the order of the file names.

    Args:
        folder: folder of the data set; image paths are relative to its parent.

    Raises:
        DataError: a scene graph is no JSON or has wrong fields.
    """
    for path in paths_below(folder, "*.json"):
        yield _read_scene(path, folder)


def _read_scene(path: Path, folder: Path) -> CaptionedImage:
    content = read_raw(path)
    if not isinstance(content, dict) or len(content) != 1:
        raise DataError(f"{path}: not one scene graph under the name of its image. Get the file again.")
    ((file_name, value),) = content.items()
    scene = check_record(value, _Scene, path)
    image_path = folder / check_file_name(file_name, path)
    image_id = f"{SOURCE}/{path.stem}"
    captions = [*([scene.dense_caption] if scene.dense_caption else []), *scene.short_captions]
    if not captions:
        return CaptionedImage(None, (), (Rejection(SOURCE, image_id, "", "no caption"),), path)
    # SA-1B comes in a thousand archives, so a part of it is the rule; other sources must be complete.
    if not image_path.is_file():
        return CaptionedImage(None, (), (Rejection(SOURCE, image_id, "", "no image file"),), path)
    height, width = read_image(image_path).shape[:2]
    image = ImageRecord(image_id, SOURCE, f"{folder.name}/{file_name}", height, width, "train")
    return _ground(image, scene.objects, captions, path)


def _ground(
    image: ImageRecord, objects: list[_Object], captions: list[_Caption], path: Path
) -> CaptionedImage:
    rles: dict[int, Rle] = {}
    rejections: list[Rejection] = []
    for entry in objects:
        if entry.id in rles:
            rejections.append(
                Rejection(SOURCE, image.image_id, f"object {entry.id}", "second object of an id")
            )
            continue
        try:
            rles[entry.id] = read_segmentation(entry.segmentation, image.height, image.width)
        except UnusableMaskError as fault:
            rejections.append(Rejection(SOURCE, image.image_id, f"object {entry.id}", str(fault)))
    grounded = []
    for ordinal, caption in enumerate(captions):
        name = f"caption {ordinal}"
        phrases, faults = _phrases(caption, rles)
        if not phrases:
            faults = ["caption without a grounded phrase"]
        else:
            grounded.append(CaptionRecord(image.image_id, caption.caption, phrases))
        rejections += [Rejection(SOURCE, image.image_id, name, fault) for fault in faults]
    return CaptionedImage(image if grounded else None, tuple(grounded), tuple(rejections), path)


def _phrases(caption: _Caption, rles: Mapping[int, Rle]) -> tuple[tuple[CaptionPhrase, ...], list[str]]:
    phrases: list[CaptionPhrase] = []
    faults: list[str] = []
    if has_marker(caption.caption):
        return (), ["caption with a special token"]
    position = 0
    for detail in sorted(caption.details, key=lambda detail: detail.tokens_positive):
        try:
            phrase = _phrase(detail, caption.caption, position, rles)
        except _UnusablePhraseError as fault:
            faults.append(str(fault))
        else:
            phrases.append(phrase)
            position = phrase.end
    return tuple(phrases), faults


def _phrase(detail: _Detail, text: str, position: int, rles: Mapping[int, Rle]) -> CaptionPhrase:
    start, end = detail.tokens_positive
    if not 0 <= start < end <= len(text) or text[start:end] != detail.phrase:
        raise _UnusablePhraseError("phrase is not where the caption has it")
    if start < position:
        raise _UnusablePhraseError("phrase overlaps another")
    if " ".join(detail.phrase.split()) != detail.phrase:
        raise _UnusablePhraseError("phrase with stray blanks")
    found = [rles[number] for number in detail.object_ids if number in rles]
    if not found:
        raise _UnusablePhraseError("phrase without a mask")
    return CaptionPhrase(start, end, detail.phrase, found[0] if len(found) == 1 else union(found))
