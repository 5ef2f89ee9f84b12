"""Run-length masks: COCO's compressed RLE, checked before any C code sees it.

Masks are boolean arrays of shape (height, width). RLE counts are COCO's: column-major runs that start with
zeros, in the compressed ASCII form of pycocotools.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from calico.errors import DataError

_MAX_PIXELS = 1 << 28
_MAX_DIGITS = 7  # of 5 bits: more than any run of that many pixels needs


@dataclass(frozen=True)
class Rle:
    """A mask as compressed run lengths.

    Attributes:
        height, width: size in pixels.
        counts: compressed COCO run lengths, ASCII.
    """

    height: int
    width: int
    counts: bytes

    def as_coco(self) -> dict[str, object]:
        """Return the dictionary that pycocotools takes."""
        return {"size": [self.height, self.width], "counts": self.counts}

    @property
    def area_px(self) -> int:
        """Number of set pixels."""
        return int(coco_mask.area([self.as_coco()])[0])


def encode(mask_HW: np.ndarray) -> Rle:
    """Encode a boolean mask of shape (height, width)."""
    coded = coco_mask.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    return Rle(int(mask_HW.shape[0]), int(mask_HW.shape[1]), bytes(coded["counts"]))


def decode(rle: Rle) -> np.ndarray:
    """Decode to a boolean mask of shape (height, width).

    Raises:
        DataError: the runs do not add up to height x width (see `validate`).
    """
    validate(rle)
    return coco_mask.decode(rle.as_coco()).astype(bool)


def validate(rle: Rle) -> None:
    """Check the runs without decoding; pycocotools would crash, hang or return random memory.

    Raises:
        DataError: size not positive or too large, counts not COCO's ASCII, or the wrong total.
    """
    if rle.height <= 0 or rle.width <= 0 or rle.height * rle.width > _MAX_PIXELS:
        raise DataError(f"RLE size {rle.height} x {rle.width} is not within 1 and {_MAX_PIXELS} pixels.")
    total = int(_run_lengths(rle.counts).sum())
    if total != rle.height * rle.width:
        raise DataError(
            f"RLE runs cover {total} pixels, but the mask has {rle.height} x {rle.width} = "
            f"{rle.height * rle.width}. The annotation is damaged."
        )


def run_lengths(counts: bytes) -> list[int]:
    """Return the run lengths of compressed counts.

    Raises:
        DataError: a byte outside COCO's alphabet, a truncated number or a negative run.

    Source: the format of cocodataset/cocoapi common/maskApi.c (rleFrString): 5 bits a byte, offset 48,
    differences to the run two before from the fourth run on.
    """
    return _run_lengths(counts).tolist()


def iou_matrix(predicted: list[Rle], true: list[Rle]) -> np.ndarray:
    """Return intersection over union, shape (len(predicted), len(true)), of masks of one image.

    Two empty masks have IoU 0.

    Raises:
        DataError: the masks have different sizes, or one is damaged.
    """
    return _overlaps(predicted, true, is_share_of_first=False)


def shares_inside(inner: list[Rle], outer: list[Rle]) -> np.ndarray:
    """Return which share of each inner mask lies in each outer mask, shape (len(inner), len(outer)).

    An empty inner mask has the share 0.

    Raises:
        DataError: the masks have different sizes, or one is damaged.
    """
    return _overlaps(inner, outer, is_share_of_first=True)


def union(rles: list[Rle]) -> Rle:
    """Return the union of masks of one size.

    Raises:
        DataError: no mask, or different sizes.
    """
    sizes = {(rle.height, rle.width) for rle in rles}
    if len(sizes) != 1:
        raise DataError(f"cannot join {len(rles)} masks of sizes {sorted(sizes)}; need one size.")
    for rle in rles:
        validate(rle)
    merged = coco_mask.merge([rle.as_coco() for rle in rles])
    return Rle(rles[0].height, rles[0].width, bytes(merged["counts"]))


def box_xyxy(rle: Rle) -> tuple[float, float, float, float]:
    """Return the tight box (left, top, right, bottom) in pixels; zeros for an empty mask."""
    left, top, width, height = coco_mask.toBbox(rle.as_coco()).tolist()
    return left, top, left + width, top + height


def _run_lengths(counts: bytes) -> np.ndarray:
    """Decode all numbers at once: a Python loop over the bytes takes longer than the IoU itself."""
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if len(codes) == 0:
        return codes
    unknown = (codes < 0) | (codes >= 64)
    if unknown.any():
        raise DataError(f"RLE counts hold byte {codes[unknown][0] + 48}, which COCO never writes.")
    is_last = (codes & 0x20) == 0
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    num_digits = ends - starts
    if not is_last[-1] or num_digits.max() > _MAX_DIGITS:
        raise DataError("RLE counts end in the middle of a number. The annotation is damaged.")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, num_digits))
    values = np.add.reduceat((codes & 0x1F) << shift, starts)
    values -= np.where(codes[ends - 1] & 0x10, np.int64(1) << (5 * num_digits), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if (values < 0).any():
        index = int(np.argmax(values < 0))
        raise DataError(f"RLE run {index} is negative ({values[index]}). The annotation is damaged.")
    return values


def _overlaps(first: list[Rle], second: list[Rle], *, is_share_of_first: bool) -> np.ndarray:
    """Return intersection over union or, as COCO does for crowds, intersection over the first mask."""
    sizes = {(rle.height, rle.width) for rle in [*first, *second]}
    if len(sizes) > 1:
        raise DataError(f"masks of one image have different sizes {sorted(sizes)} (height, width).")
    if not first or not second:
        return np.zeros((len(first), len(second)))
    for rle in [*first, *second]:
        validate(rle)
    matrix = coco_mask.iou(
        [rle.as_coco() for rle in first], [rle.as_coco() for rle in second], [is_share_of_first] * len(second)
    )
    return np.nan_to_num(np.asarray(matrix, dtype=np.float64).reshape(len(first), len(second)))
