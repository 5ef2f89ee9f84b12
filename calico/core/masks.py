"""Run-length masks: COCO's compressed RLE, checked before any C code sees it.

Masks are boolean arrays of shape (height, width). RLE counts are COCO's: column-major runs that start with
zeros, in the compressed ASCII form of pycocotools.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from calico.errors import DataError

_MAX_PIXELS = 1 << 28
_MASKS_AT_ONCE = 256  # arrays of half a megabyte each stay in the cache
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


def are_valid(rles: Sequence[Rle]) -> np.ndarray:
    """Tell which masks `validate` would pass, for thousands of masks at a tenth of its time.

    Returns:
        Boolean array, one a mask.
    """
    is_valid = np.zeros(len(rles), dtype=bool)
    for start in range(0, len(rles), _MASKS_AT_ONCE):
        rows = [row for row in range(start, min(start + _MASKS_AT_ONCE, len(rles))) if _may_fit(rles[row])]
        if rows:
            is_valid[rows] = _fill_their_size([rles[row] for row in rows])
    return is_valid


def run_lengths(counts: bytes) -> list[int]:
    """Return the run lengths of compressed counts.

    Raises:
        DataError: a byte outside COCO's alphabet, a truncated number or a negative run.

    Source: the format of cocodataset/cocoapi common/maskApi.c (rleFrString): 5 bits a byte, offset 48,
    differences to the run two before from the fourth run on.
    """
    return _run_lengths(counts).tolist()


def iou_matrix(predicted: list[Rle], true: list[Rle], *, is_checked: bool = False) -> np.ndarray:
    """Return intersection over union, shape (len(predicted), len(true)), of masks of one image.

    Two empty masks have IoU 0.

    Args:
        is_checked: all masks have passed `validate` or `are_valid`; else they are checked here.

    Raises:
        DataError: the masks have different sizes, or one is damaged.
    """
    return _overlaps(predicted, true, is_share_of_first=False, is_checked=is_checked)


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


def _may_fit(rle: Rle) -> bool:
    return rle.height > 0 and rle.width > 0 and rle.height * rle.width <= _MAX_PIXELS and bool(rle.counts)


def _fill_their_size(rles: Sequence[Rle]) -> np.ndarray:
    """Decode the runs of many masks in one array; a mask with a fault cannot touch the others.

    A run longer than its mask is a fault of its own, so that no sum can overflow.
    """
    lengths = np.array([len(rle.counts) for rle in rles])
    mask_starts = np.cumsum(lengths) - lengths
    codes = np.frombuffer(b"".join(rle.counts for rle in rles), dtype=np.uint8).astype(np.int64) - 48
    is_last = (codes & 0x20) == 0
    is_cut = ~is_last[mask_starts + lengths - 1]
    is_last[mask_starts + lengths - 1] = True
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate([[0], ends[:-1]])
    num_digits = ends - starts
    shift = 5 * np.minimum(np.arange(len(codes)) - np.repeat(starts, num_digits), _MAX_DIGITS)
    steps = np.add.reduceat((codes & 0x1F) << shift, starts)
    steps -= np.where(codes[ends - 1] & 0x10, np.int64(1) << (5 * np.minimum(num_digits, _MAX_DIGITS)), 0)
    first_runs = np.searchsorted(starts, mask_starts)
    runs = _accumulate(steps, first_runs)
    pixels = np.array([rle.height * rle.width for rle in rles])
    return (
        ~is_cut
        & (np.minimum.reduceat(codes, mask_starts) >= 0)
        & (np.maximum.reduceat(codes, mask_starts) < 64)
        & (np.maximum.reduceat(num_digits, first_runs) <= _MAX_DIGITS)
        & (np.minimum.reduceat(runs, first_runs) >= 0)
        & (np.maximum.reduceat(runs, first_runs) <= pixels)
        & (np.add.reduceat(runs, first_runs) == pixels)
    )


def _accumulate(steps: np.ndarray, first_runs: np.ndarray) -> np.ndarray:
    """Add up odd and even steps of each mask by themselves; its first stands alone."""
    num_runs = np.diff(np.append(first_runs, len(steps)))
    index = np.arange(len(steps)) - np.repeat(first_runs, num_runs)
    runs = np.where(index == 0, steps, 0)
    for is_own in (index % 2 == 1, (index % 2 == 0) & (index > 0)):
        total = np.cumsum(np.where(is_own, steps, 0))
        runs += np.where(is_own, total - np.repeat(total[first_runs], num_runs), 0)
    return runs


def _overlaps(
    first: list[Rle], second: list[Rle], *, is_share_of_first: bool, is_checked: bool = False
) -> np.ndarray:
    """Return intersection over union or, as COCO does for crowds, intersection over the first mask."""
    sizes = {(rle.height, rle.width) for rle in [*first, *second]}
    if len(sizes) > 1:
        raise DataError(f"masks of one image have different sizes {sorted(sizes)} (height, width).")
    if not first or not second:
        return np.zeros((len(first), len(second)))
    for rle in () if is_checked else [*first, *second]:
        validate(rle)
    matrix = coco_mask.iou(
        [rle.as_coco() for rle in first], [rle.as_coco() for rle in second], [is_share_of_first] * len(second)
    )
    return np.nan_to_num(np.asarray(matrix, dtype=np.float64).reshape(len(first), len(second)))
