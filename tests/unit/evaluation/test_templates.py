"""calico.evaluation.templates: means of masks in the frames of boxes."""

import numpy as np
import pytest

from calico.core.masks import Rle, encode
from calico.evaluation.templates import mean_template


def rle_of(rows: slice, columns: slice, height: int = 40, width: int = 80) -> Rle:
    mask_HW = np.zeros((height, width), dtype=bool)
    mask_HW[rows, columns] = True
    return encode(mask_HW)


def test_one_example_comes_back_at_any_size() -> None:
    template = mean_template([(rle_of(slice(0, 20), slice(0, 40)), (0, 0, 80, 40))])
    mask_HW = template.paste((2, 4, 10, 8), 20, 30)
    expected_HW = np.zeros((20, 30), dtype=bool)
    expected_HW[4:6, 2:6] = True
    assert np.array_equal(mask_HW, expected_HW)


def test_boxes_align_examples_of_different_place_and_size() -> None:
    left_half = [
        (rle_of(slice(0, 16), slice(0, 16)), (0, 0, 32, 16)),
        (rle_of(slice(8, 40), slice(10, 42)), (10, 8, 74, 40)),
    ]
    template = mean_template(left_half)
    assert template.mask_SS.mean() == pytest.approx(0.5)
    assert template.mask_SS[:, :32].all()


def test_the_level_is_the_one_that_fits_best() -> None:
    # Three small masks inside one large: the small one fits three at 1.0 and the large at 0.25, mean 0.81;
    # the large one fits 0.25, 0.25, 0.25 and 1.0.
    frame = (0, 0, 64, 64)
    small, large = (rle_of(slice(0, side), slice(0, side), 64, 64) for side in (16, 32))
    template = mean_template([(small, frame)] * 3 + [(large, frame)])
    assert template.mask_SS.sum() == 16 * 16
    template = mean_template([(large, frame)] * 3 + [(small, frame)])
    assert template.mask_SS.sum() == 32 * 32


def test_no_examples_give_an_empty_mask() -> None:
    assert not mean_template([]).paste((0, 0, 30, 20), 20, 30).any()


def test_a_box_of_one_pixel() -> None:
    template = mean_template([(rle_of(slice(0, 40), slice(0, 80)), (0, 0, 80, 40))])
    assert template.paste((29, 19, 30, 20), 20, 30).sum() == 1
