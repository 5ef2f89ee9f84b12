"""Encode scenes as the files of the releases do: JPEG, PNG, COCO polygons and run lengths."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from calico.core import masks
from calico.core.files import write_bytes

_JPEG_QUALITY = 92


@dataclass(frozen=True)
class ImageRows:
    """What one image adds to the annotation file of its split.

    Attributes:
        image: the entry of `images`.
        annotations: entries of `annotations`; ids count from 1 within the image.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]


def write_jpeg(path: Path, image_HWC: np.ndarray) -> None:
    """Write an RGB image as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    write_bytes(path, buffer.getvalue())


def write_png(path: Path, values_HW: np.ndarray) -> None:
    """Write a label map as PNG; uint8 and uint16 keep their depth."""
    buffer = io.BytesIO()
    Image.fromarray(values_HW).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())


def compressed_rle(rle: masks.Rle) -> dict[str, Any]:
    """Return COCO's compressed run lengths as JSON holds them."""
    return {"size": [rle.height, rle.width], "counts": rle.counts.decode("ascii")}


def uncompressed_rle(rle: masks.Rle) -> dict[str, Any]:
    """Return COCO's uncompressed run lengths (a list of numbers)."""
    return {"size": [rle.height, rle.width], "counts": masks.run_lengths(rle.counts)}


def box_xywh(rle: masks.Rle) -> list[float]:
    """Return the tight box as COCO writes it."""
    left, top, right, bottom = masks.box_xyxy(rle)
    return [left, top, right - left, bottom - top]


def mask_polygons(mask_HW: np.ndarray) -> list[list[int]]:
    """Trace a mask along pixel edges into COCO polygons.

    A mask with holes is cut into pieces without holes, since COCO polygons only add up.

    Returns:
        One flat x, y list per piece; drawn by pycocotools they give back the mask exactly.
    """
    labels_HW, num_pieces = ndimage.label(mask_HW)
    polygons = []
    for number, box in enumerate(ndimage.find_objects(labels_HW, num_pieces), start=1):
        piece_HW = labels_HW[box] == number
        polygons += _piece_polygons(piece_HW, left=box[1].start, top=box[0].start)
    return polygons


def polygons_rle(polygons: list[list[int]], size: tuple[int, ...]) -> masks.Rle:
    """Draw COCO polygons of a (height, width) image as one mask."""
    height, width = size
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return masks.Rle(height, width, bytes(merged["counts"]))


def _piece_polygons(piece_HW: np.ndarray, *, left: int, top: int) -> list[list[int]]:
    """Trace one 4-connected piece, cutting it through a hole until none is left."""
    holes_HW = ndimage.binary_fill_holes(piece_HW) & ~piece_HW
    if not holes_HW.any():
        outline = _trace_outline(piece_HW)
        return [(outline + np.array([left, top])).ravel().tolist()]
    cut = int(np.flatnonzero(holes_HW.any(axis=0))[0]) + 1
    first_HW, second_HW = piece_HW[:, :cut], piece_HW[:, cut:]
    return [
        [value + shift for value, shift in zip(polygon, _shifts(polygon, x, top), strict=True)]
        for half_HW, x in ((first_HW, left), (second_HW, left + cut))
        for polygon in mask_polygons(half_HW)
    ]


def _shifts(polygon: list[int], left: int, top: int) -> list[int]:
    """Return left, top, left, top, ... for a flat x, y list."""
    return [left, top] * (len(polygon) // 2)


def _trace_outline(piece_HW: np.ndarray) -> np.ndarray:
    """Follow the pixel edges around a 4-connected piece without holes; (N, 2) corner x, y.

    Every corner of such a piece has one incoming and one outgoing edge, so the walk is unique.
    """
    padded = np.pad(piece_HW, 1)
    inside = padded[1:-1, 1:-1]
    next_corner: dict[tuple[int, int], tuple[int, int]] = {}
    # Clockwise on screen: top edges run right, right edges down, bottom edges left, left edges up.
    for neighbour, start, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    ):
        ys, xs = (axis.tolist() for axis in np.nonzero(inside & ~neighbour))
        for x, y in zip(xs, ys, strict=True):
            next_corner[x + start[0], y + start[1]] = (x + end[0], y + end[1])
    first = next(iter(next_corner))
    path = [first]
    while (corner := next_corner[path[-1]]) != first:
        path.append(corner)
    points = np.array(path)
    turns = (np.roll(points, 1, axis=0) != np.roll(points, -1, axis=0)).all(axis=1)
    return points[turns]
