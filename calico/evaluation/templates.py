"""Mean masks: where a label lies on average in a frame, and how to draw that into an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calico.core.masks import Rle, decode

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

_SIDE = 64
_LEVELS = np.arange(1, 20) / 20


@dataclass(frozen=True)
class Template:
    """A mask in a square frame of its own."""

    mask_SS: np.ndarray

    def paste(self, box: Box, height: int, width: int) -> np.ndarray:
        """Stretch the template over a box of an empty mask of shape (height, width)."""
        left, top, right, bottom = box
        mask_HW = np.zeros((height, width), dtype=bool)
        rows = _nearest(bottom - top, len(self.mask_SS))
        columns = _nearest(right - left, len(self.mask_SS))
        mask_HW[top:bottom, left:right] = self.mask_SS[np.ix_(rows, columns)]
        return mask_HW


def mean_template(examples: Sequence[tuple[Rle, Box]]) -> Template:
    """Average masks in the frames of their boxes and cut the mean where it fits the examples best.

    Of 19 levels, fractions of the mean's highest value, the one with the highest mean IoU over the examples.

    Returns:
        The template; empty without examples.
    """
    if not examples:
        return Template(np.zeros((_SIDE, _SIDE), dtype=bool))
    crops_ES = np.stack([_crop(decode(rle), box).ravel() for rle, box in examples])
    mean_S = crops_ES.mean(axis=0)
    candidates_CS = mean_S >= np.maximum(_LEVELS[:, None] * mean_S.max(), 1e-9)
    shared_CE = candidates_CS.astype(np.float64) @ crops_ES.T.astype(np.float64)
    joined_CE = candidates_CS.sum(axis=1)[:, None] + crops_ES.sum(axis=1)[None, :] - shared_CE
    iou_CE = np.divide(shared_CE, joined_CE, out=np.zeros_like(shared_CE), where=joined_CE > 0)
    return Template(candidates_CS[int(np.argmax(iou_CE.mean(axis=1)))].reshape(_SIDE, _SIDE))


def _crop(mask_HW: np.ndarray, box: Box) -> np.ndarray:
    """Sample a box of a mask at the cell centres of the template's grid."""
    left, top, right, bottom = box
    return mask_HW[np.ix_(top + _nearest(_SIDE, bottom - top), left + _nearest(_SIDE, right - left))]


def _nearest(num_cells: int, num_source_cells: int) -> np.ndarray:
    """Return for each of `num_cells` equal cells the source cell under its centre."""
    return ((np.arange(num_cells) + 0.5) * num_source_cells / max(1, num_cells)).astype(int)
