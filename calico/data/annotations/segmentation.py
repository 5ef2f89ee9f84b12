"""COCO's three forms of a mask: polygons, uncompressed and compressed run lengths, read by one function.

Published files hold degenerate masks (empty lists, polygons of one or two points, wrong run lengths). They
are no reason to stop: `read_segmentation` names the fault and the caller counts it.
"""

from typing import Any

from pycocotools import mask as coco_mask

from calico.core.masks import Rle, validate
from calico.errors import DataError

_MIN_POLYGON_NUMBERS = 6
_MAX_POLYGON_NUMBERS = 1_000_000
# Farther outside the image than this a coordinate is damage, and pycocotools crashes on very large ones.
_MAX_COORDINATE_PX = 100_000.0
# pycocotools walks outlines in fifths of a pixel and keeps every step: longer ones take its memory and time.
_MAX_OUTLINE_PX = 2_000_000.0


class UnusableMaskError(Exception):
    """A mask that cannot be used; the message is the reason that is counted."""


def read_segmentation(segmentation: Any, height: int, width: int) -> Rle:
    """Return a COCO `segmentation` as run lengths.

    Args:
        segmentation: list of polygons (flat x, y lists), or a dictionary with `size` and `counts`.
        height, width: size of the image that it belongs to.

    Raises:
        UnusableMaskError: nothing drawn, or a damaged mask; the message is a short reason without values.
    """
    if isinstance(segmentation, dict):
        rle = _read_run_lengths(segmentation, height, width)
    elif isinstance(segmentation, list):
        rle = _read_polygons(segmentation, height, width)
    else:
        raise UnusableMaskError("segmentation is neither polygons nor run lengths")
    if rle.area_px == 0:
        raise UnusableMaskError("empty mask")
    return rle


def _read_run_lengths(segmentation: dict[str, Any], height: int, width: int) -> Rle:
    if segmentation.get("size") != [height, width]:
        raise UnusableMaskError("mask and image differ in size")
    counts = segmentation.get("counts")
    if isinstance(counts, str) and counts.isascii():
        rle = Rle(height, width, counts.encode("ascii"))
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run <= height * width for run in counts):
        if sum(counts) != height * width:
            raise UnusableMaskError("damaged run lengths")
        coded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        rle = Rle(height, width, bytes(coded["counts"]))
    else:
        raise UnusableMaskError("damaged run lengths")
    try:
        validate(rle)
    except DataError as error:
        raise UnusableMaskError("damaged run lengths") from error
    return rle


def _read_polygons(polygons: list[Any], height: int, width: int) -> Rle:
    drawable = [_read_polygon(polygon) for polygon in polygons if polygon]
    if not drawable:
        raise UnusableMaskError("empty mask")
    if sum(map(_outline_px, drawable)) > _MAX_OUTLINE_PX:
        raise UnusableMaskError("outline too long")
    merged = coco_mask.merge(coco_mask.frPyObjects(drawable, height, width))
    return Rle(height, width, bytes(merged["counts"]))


def _read_polygon(polygon: Any) -> list[float]:
    """Return a polygon of at least three points; one or two points are padded with the first one.

    Source: the padding of PeizeSun/VLPart for PartImageNet's polygons of 2 or 4 numbers.
    """
    if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) > _MAX_POLYGON_NUMBERS:
        raise UnusableMaskError("damaged polygon")
    if not all(type(number) in (int, float) and _is_coordinate(number) for number in polygon):
        raise UnusableMaskError("damaged polygon")
    padding = (_MIN_POLYGON_NUMBERS - len(polygon)) // 2
    return [float(number) for number in polygon] + [float(number) for number in polygon[:2]] * padding


def _outline_px(polygon: list[float]) -> float:
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    edges = zip(points, [*points[1:], points[0]], strict=True)
    return sum(max(abs(x - other_x), abs(y - other_y)) for (x, y), (other_x, other_y) in edges)


def _is_coordinate(number: float) -> bool:
    # False for NaN and infinity too; no conversion, since JSON's integers may exceed every float.
    return abs(number) <= _MAX_COORDINATE_PX
