"""calico.core.masks: run lengths agree with pycocotools, and damaged ones never reach it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from calico.core import masks
from calico.core.masks import Rle
from calico.errors import DataError


def random_mask(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((height, width)) < rng.random()


SIZES = {"seed": st.integers(0, 10_000), "height": st.integers(1, 40), "width": st.integers(1, 40)}


def brute_force_runs(mask_HW: np.ndarray) -> list[int]:
    """Count equal pixels in column-major order, starting with zeros."""
    runs, value = [0], False
    for pixel in mask_HW.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@given(**SIZES)
def test_masks_round_trip(seed: int, height: int, width: int) -> None:
    mask_HW = random_mask(seed, height, width)
    rle = masks.encode(mask_HW)
    assert (masks.decode(rle) == mask_HW).all()
    assert rle.area_px == mask_HW.sum()
    assert masks.run_lengths(rle.counts) == brute_force_runs(mask_HW)


def test_long_runs_are_read() -> None:
    mask_HW = np.zeros((3000, 3000), dtype=bool)
    mask_HW[1000:1500, 2000] = True
    rle = masks.encode(mask_HW)
    assert masks.run_lengths(rle.counts) == [3000 * 2000 + 1000, 500, 1500 + 3000 * 999]


@given(counts=st.binary(max_size=40), height=st.integers(-2, 30), width=st.integers(-2, 30))
@settings(max_examples=300)
def test_any_bytes_are_decoded_or_refused(counts: bytes, height: int, width: int) -> None:
    try:
        mask_HW = masks.decode(Rle(height, width, counts))
    except DataError:
        return
    assert mask_HW.shape == (height, width)
    assert sum(masks.run_lengths(counts)) == height * width


@pytest.mark.parametrize(
    ("rle", "match"),
    [
        (Rle(0, 5, b"0"), "size 0 x 5"),
        (Rle(100_000, 100_000, b"0"), "size 100000 x 100000"),
        (Rle(2, 2, b""), "cover 0 pixels, but the mask has 2 x 2 = 4"),
        (Rle(2, 2, b"5"), "cover 5 pixels"),
        (Rle(2, 2, b"\x00"), "byte 0, which COCO never writes"),
        (Rle(2, 2, b"\xff"), "byte 255"),
        (Rle(2, 2, b"P"), "middle of a number"),
        (Rle(2, 2, b"P" * 40 + b"0"), "middle of a number"),
        (Rle(2, 2, b"O"), r"run 0 is negative \(-1\)"),
    ],
)
def test_damaged_run_lengths_are_refused(rle: Rle, match: str) -> None:
    with pytest.raises(DataError, match=match):
        masks.decode(rle)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.binary(max_size=12), st.integers(-1, 6), st.integers(-1, 6)),
            st.tuples(
                st.text("0123456789:OP@bdQo`", max_size=6).map(str.encode),
                st.integers(1, 6),
                st.integers(1, 6),
            ),
            st.tuples(st.integers(0, 99), st.integers(1, 6), st.integers(1, 6)),
        ),
        max_size=8,
    )
)
@settings(max_examples=400)
def test_many_masks_are_judged_as_one_by_one(drawn: list[tuple[bytes | int, int, int]]) -> None:
    """A number stands for a real mask; damaged ones beside it must not change its verdict."""
    rles = [
        masks.encode(random_mask(counts, height, width))
        if isinstance(counts, int)
        else Rle(height, width, counts)
        for counts, height, width in drawn
    ]

    def passes(rle: Rle) -> bool:
        try:
            masks.validate(rle)
        except DataError:
            return False
        return True

    assert masks.are_valid(rles).tolist() == [passes(rle) for rle in rles]


def test_runs_that_would_overflow_are_refused() -> None:
    huge = b"oooooooO" * 3
    assert masks.are_valid([Rle(4, 4, b"oooooo?" * 200), Rle(4, 4, huge), Rle(4, 4, b"`0")]).tolist() == [
        False,
        False,
        True,
    ]


def test_more_masks_than_are_read_at_once() -> None:
    rles = [masks.encode(random_mask(seed, 9, 7)) for seed in range(600)]
    rles[300] = Rle(9, 7, b"1")
    assert np.flatnonzero(~masks.are_valid(rles)).tolist() == [300]


@given(seed=st.integers(0, 10_000), num_predicted=st.integers(0, 5), num_true=st.integers(0, 5))
def test_iou_is_that_of_the_pixels(seed: int, num_predicted: int, num_true: int) -> None:
    predicted = [random_mask(seed + index, 12, 9) for index in range(num_predicted)]
    true = [random_mask(seed + 50 + index, 12, 9) for index in range(num_true)]
    expected = [[(a & b).sum() / max((a | b).sum(), 1) for b in true] for a in predicted]
    found = masks.iou_matrix(
        [masks.encode(mask) for mask in predicted], [masks.encode(mask) for mask in true]
    )
    assert found.shape == (num_predicted, num_true)
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=0, atol=1e-15)


@given(seed=st.integers(0, 10_000), num_inner=st.integers(0, 4), num_outer=st.integers(0, 4))
def test_share_inside_is_that_of_the_pixels(seed: int, num_inner: int, num_outer: int) -> None:
    inner = [random_mask(seed + index, 12, 9) for index in range(num_inner)]
    outer = [random_mask(seed + 50 + index, 12, 9) for index in range(num_outer)]
    expected = [[(a & b).sum() / max(a.sum(), 1) for b in outer] for a in inner]
    found = masks.shares_inside(
        [masks.encode(mask) for mask in inner], [masks.encode(mask) for mask in outer]
    )
    assert found.shape == (num_inner, num_outer)
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=0, atol=1e-15)


def test_empty_masks_have_iou_zero() -> None:
    empty = masks.encode(np.zeros((3, 3), dtype=bool))
    assert masks.iou_matrix([empty], [empty]).tolist() == [[0.0]]


def test_masks_of_different_sizes_do_not_meet() -> None:
    pair = [masks.encode(np.ones((3, 4), dtype=bool)), masks.encode(np.ones((4, 3), dtype=bool))]
    with pytest.raises(DataError, match=r"different sizes \[\(3, 4\), \(4, 3\)\]"):
        masks.iou_matrix(pair[:1], pair[1:])
    with pytest.raises(DataError, match="cannot join 2 masks"):
        masks.union(pair)
    with pytest.raises(DataError, match="cannot join 0 masks"):
        masks.union([])


@given(**SIZES)
def test_union_and_box_are_those_of_the_pixels(seed: int, height: int, width: int) -> None:
    first, second = random_mask(seed, height, width), random_mask(seed + 1, height, width)
    joined = masks.union([masks.encode(first), masks.encode(second)])
    assert (masks.decode(joined) == (first | second)).all()
    rows, columns = np.nonzero(first | second)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)
    assert masks.box_xyxy(joined) == box


def test_dictionary_is_what_pycocotools_takes() -> None:
    mask_HW = random_mask(1, 7, 5)
    assert (coco_mask.decode(masks.encode(mask_HW).as_coco()) == mask_HW).all()
