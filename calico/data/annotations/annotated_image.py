"""What every reader yields: one image with its objects and their parts, and what it had to leave out."""

from dataclasses import dataclass
from pathlib import Path

from calico.core.masks import Rle
from calico.core.records import ImageRecord
from calico.core.tables import Rejection


@dataclass(frozen=True)
class AnnotatedPart:
    """A part as a source stores it; several of one name are merged later."""

    annotation_id: str
    category: str
    rle: Rle


@dataclass(frozen=True)
class AnnotatedObject:
    """An object and its parts as a source stores them; `annotation_id` is "" where only parts have one."""

    annotation_id: str
    category: str
    rle: Rle
    parts: tuple[AnnotatedPart, ...]


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of a source.

    Attributes:
        image: None if the image as a whole was left out.
        annotation_path: the file that says so; unify writes its name into the rejections.
    """

    image: ImageRecord | None
    objects: tuple[AnnotatedObject, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    annotation_path: Path | None = None
