"""Read all sources into one set of tables; count and list everything that is left out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from calico.config import InputName, UnifySection
from calico.core import tables
from calico.core.files import write_json, write_manifest
from calico.core.images import read_image
from calico.core.masks import Rle, union
from calico.core.records import CaptionRecord, ImageRecord, ObjectInstance, PartInstance
from calico.core.tables import Rejection
from calico.data.annotations import ade20k_part_234, grand, mixed_parts, own_coco, paco_lvis, partimagenet
from calico.data.annotations.annotated_image import AnnotatedImage, AnnotatedObject, AnnotatedPart
from calico.errors import DataError

READERS: Mapping[InputName, Callable[[Path], Iterator[AnnotatedImage]]] = MappingProxyType(
    {
        "ade20k_part_234": ade20k_part_234.read,
        "mixed_parts": mixed_parts.read,
        "paco_lvis": paco_lvis.read,
        "partimagenet": partimagenet.read,
    }
)


@dataclass
class UnifiedTables:
    """The tables while they grow; of the captions, which are written as they are read, only the number.

    Attributes:
        num_captions: by source and split.
    """

    images: list[ImageRecord] = field(default_factory=list)
    objects: list[ObjectInstance] = field(default_factory=list)
    parts: list[PartInstance] = field(default_factory=list)
    num_captions: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


def unify(section: UnifySection, sources_path: Path, output_path: Path) -> dict[str, Any]:
    """Read the sources that `section` names and one's own, and GranD where it is there; write the tables.

    Args:
        section: sources and the smallest areas kept.
        sources_path: one folder per source, named as it; image paths are relative to this folder.
        output_path: gets images, objects, parts, captions, rejected (parquet), rows of images and captions,
            summary.json, manifest.json.

    Returns:
        The summary: counts per source and split, and of rejections by reason.

    Raises:
        DataError: a file is missing or damaged, or two images have one id.
    """
    unified = read_sources(section, sources_path)
    output_path = Path(output_path)
    tables.write_captions(output_path / "captions.parquet", _read_captions(unified, sources_path))
    tables.write_images(output_path / "images.parquet", unified.images)
    tables.write_objects(output_path / "objects.parquet", unified.objects)
    tables.write_parts(output_path / "parts.parquet", unified.parts)
    tables.write_rejected(output_path / "rejected.parquet", unified.rejected)
    summary = summarize(unified)
    write_json(output_path / "summary.json", summary)
    write_manifest(output_path)
    return summary


def read_sources(section: UnifySection, sources_path: Path) -> UnifiedTables:
    """Read the sources of pairs into memory; arguments and errors as `unify`."""
    unified = UnifiedTables()
    for annotated in _annotated_images(section, sources_path):
        _add_image(unified, annotated, section, sources_path)
    _check_ids(unified.images, sources_path)
    return unified


def summarize(unified: UnifiedTables) -> dict[str, Any]:
    """Count images, objects, parts and captions, and rejections by source and reason."""
    image_of = {image.image_id: image for image in unified.images}
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for kind in ("images", "objects", "parts"):
        for record in getattr(unified, kind):
            image = image_of[record.image_id]
            counts[image.source][image.split][kind] += 1
    for (source, split), number in unified.num_captions.items():
        counts[source][split]["captions"] = number
    rejected: dict[str, Counter[str]] = defaultdict(Counter)
    for rejection in unified.rejected:
        rejected[rejection.source][rejection.reason] += 1
    return {
        "counts": counts,
        "num_object_categories": len({instance.category for instance in unified.objects}),
        "num_part_categories": len({instance.category for instance in unified.parts}),
        "num_captions": unified.num_captions.total(),
        "rejected": rejected,
    }


def _read_captions(unified: UnifiedTables, sources_path: Path) -> Iterator[CaptionRecord]:
    """Yield GranD's captions; add its images and what is left out to `unified`.

    GranD only serves the alignment stage; without it there are no captions, and the summary says so. No other
    source has its name, so none has its image ids.
    """
    for captioned in grand.read(sources_path / grand.SOURCE):
        if captioned.image:
            unified.images.append(captioned.image)
            unified.num_captions[captioned.image.source, captioned.image.split] += len(captioned.captions)
        yield from captioned.captions
        unified.rejected += _with_file(captioned.rejections, captioned.annotation_path, sources_path)


def _annotated_images(section: UnifySection, sources_path: Path) -> Iterator[AnnotatedImage]:
    for source in section.sources:
        yield from READERS[source](sources_path / source)
    for own_source in section.own_sources:
        yield from own_coco.read(own_source, sources_path)


def _with_file(rejections: Iterable[Rejection], path: Path | None, sources_path: Path) -> Iterator[Rejection]:
    """Write the name of the annotation file into the rejections, short where it is one of the sources'."""
    is_inside = path is not None and path.is_relative_to(sources_path)
    name = str(path.relative_to(sources_path) if path and is_inside else path or "")
    return (replace(rejection, file=name) for rejection in rejections)


def _check_ids(images: Sequence[ImageRecord], sources_path: Path) -> None:
    uses = Counter(image.image_id for image in images)
    repeated = [image_id for image_id, count in uses.items() if count > 1]
    if repeated:
        paths = [image.path for image in images if image.image_id == repeated[0]]
        raise DataError(
            f"{sources_path}: {len(repeated)} image ids stand for two images each, first '{repeated[0]}' for "
            f"{' and '.join(paths)}. Rename one of the two, or remove it from its annotation file."
        )


def _add_image(
    unified: UnifiedTables, annotated: AnnotatedImage, section: UnifySection, sources_path: Path
) -> None:
    rejections = list(annotated.rejections)
    if annotated.image is not None:
        _check_pixels(annotated.image, sources_path)
        unified.images.append(annotated.image)
        for number, raw in enumerate(annotated.objects):
            rejections += _add_object(unified, annotated.image, number, raw, section)
    unified.rejected += _with_file(rejections, annotated.annotation_path, sources_path)


def _add_object(
    unified: UnifiedTables, image: ImageRecord, number: int, raw: AnnotatedObject, section: UnifySection
) -> list[Rejection]:
    """Add an object and its parts, pieces of one name merged; return what is too small."""
    rejections: list[Rejection] = []

    def reject(annotation_id: str, reason: str) -> None:
        rejections.append(Rejection(image.source, image.image_id, annotation_id, reason))

    if raw.rle.area_px < section.min_object_area_px:
        reject(raw.annotation_id, "object too small")
        for part in raw.parts:
            reject(part.annotation_id, "part of a rejected object")
        return rejections
    object_id = f"{image.image_id}#{number}"
    unified.objects.append(ObjectInstance(object_id, image.image_id, raw.category, raw.rle))
    for name, pieces in _by_name(raw.parts).items():
        rle = _merge(pieces)
        if rle.area_px < section.min_part_area_px:
            for piece in pieces:
                reject(piece.annotation_id, "part too small")
        else:
            unified.parts.append(PartInstance(f"{object_id}/{name}", object_id, image.image_id, name, rle))
    return rejections


def _by_name(parts: Sequence[AnnotatedPart]) -> dict[str, list[AnnotatedPart]]:
    """Group the pieces of one part (an occluder may cut a part in two), sorted by name."""
    groups: dict[str, list[AnnotatedPart]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: part.category):
        groups[part.category].append(part)
    return groups


def _merge(pieces: Sequence[AnnotatedPart]) -> Rle:
    return pieces[0].rle if len(pieces) == 1 else union([piece.rle for piece in pieces])


def _check_pixels(image: ImageRecord, sources_path: Path) -> None:
    """Decode the image once, so that a damaged file stops this stage and not the training."""
    height, width = read_image(sources_path / image.path).shape[:2]
    if (height, width) != (image.height, image.width):
        raise DataError(
            f"{sources_path / image.path}: the file has {height} x {width} pixels, its annotation "
            f"{image.height} x {image.width}. Get the image again."
        )
