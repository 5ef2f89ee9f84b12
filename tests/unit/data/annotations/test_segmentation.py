"""calico.data.annotations.segmentation: three forms, one mask; every degenerate form has a reason."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.core import masks
from calico.data.annotations.segmentation import UnusableMaskError, read_segmentation

MASK_HW = np.zeros((10, 8), dtype=bool)
MASK_HW[2:7, 1:5] = True
RLE = masks.encode(MASK_HW)
SQUARE = [1, 2, 5, 2, 5, 7, 1, 7]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [10, 8], "counts": RLE.counts.decode()},
        {"size": [10, 8], "counts": masks.run_lengths(RLE.counts)},
        [SQUARE],
        [[1.0, 2.0, 5.0, 2.0, 5.0, 7.0, 1.0, 7.0]],
        [[1, 2, 3, 2, 3, 7, 1, 7], [], [3, 2, 5, 2, 5, 7, 3, 7]],
    ],
    ids=["compressed", "uncompressed", "polygon", "floats", "pieces"],
)
def test_every_form_gives_the_mask(segmentation: Any) -> None:
    assert (masks.decode(read_segmentation(segmentation, 10, 8)) == MASK_HW).all()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([], "empty mask"),
        ([[]], "empty mask"),
        ([[20, 20, 30, 20, 30, 30]], "empty mask"),
        ({"size": [10, 8], "counts": [80]}, "empty mask"),
        ({"size": [8, 10], "counts": [0, 80]}, "mask and image differ in size"),
        ({"counts": [0, 80]}, "mask and image differ in size"),
        ({"size": [10, 8], "counts": [0, 79]}, "damaged run lengths"),
        ({"size": [10, 8], "counts": [-1, 81]}, "damaged run lengths"),
        ({"size": [10, 8], "counts": [True, 79]}, "damaged run lengths"),
        ({"size": [10, 8], "counts": [1.0, 79.0]}, "damaged run lengths"),
        ({"size": [10, 8], "counts": [10**30]}, "damaged run lengths"),
        ({"size": [10, 8], "counts": "not RLE"}, "damaged run lengths"),
        ({"size": [10, 8], "counts": "é"}, "damaged run lengths"),
        ({"size": [10, 8], "counts": None}, "damaged run lengths"),
        ({"size": [10, 8]}, "damaged run lengths"),
        ([[1, 2, 3]], "damaged polygon"),
        ([[1, 2, 5, 2, 5, float("nan")]], "damaged polygon"),
        ([[1, 2, 5, 2, 5, float("inf")]], "damaged polygon"),
        ([[1, 2, 5, 2, 5, 1e9]], "damaged polygon"),
        ([[1, 2, 5, 2, 5, "7"]], "damaged polygon"),
        ([{"x": 1}], "damaged polygon"),
        ([[-99_999, 0, 99_999, 5] * 10], "outline too long"),
        ([[-99_999, 0, 99_999, 5, 0, 9]] * 10, "outline too long"),
        (SQUARE, "damaged polygon"),
        (None, "neither polygons nor run lengths"),
        ("W0", "neither polygons nor run lengths"),
    ],
)
def test_degenerate_masks_have_a_reason(segmentation: Any, reason: str) -> None:
    with pytest.raises(UnusableMaskError, match=reason):
        read_segmentation(segmentation, 10, 8)


def read_or_reason(segmentation: Any) -> masks.Rle | str:
    try:
        return read_segmentation(segmentation, 10, 8)
    except UnusableMaskError as fault:
        return str(fault)


@pytest.mark.parametrize("polygon", [[1, 1], [1, 1, 6, 6]])
def test_points_and_lines_do_not_crash(polygon: list[int]) -> None:
    found = read_or_reason([polygon])
    assert found == "empty mask" or found.area_px > 0


NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(), st.text(max_size=3), st.none(), st.booleans()
)
FORMS = st.one_of(
    NUMBERS,
    st.lists(st.lists(NUMBERS, max_size=10), max_size=4),
    st.fixed_dictionaries(
        {"size": st.sampled_from([[10, 8], [8, 10], None]), "counts": st.one_of(NUMBERS, st.lists(NUMBERS))}
    ),
)


@given(segmentation=FORMS)
def test_any_json_is_read_or_has_a_reason(segmentation: Any) -> None:
    found = read_or_reason(segmentation)
    if isinstance(found, str):
        assert found
        assert not any(character.isdigit() for character in found), "reasons are counted, so hold no values"
    else:
        assert masks.decode(found).any()


def test_a_coordinate_beyond_floating_point_is_a_damaged_polygon() -> None:
    with pytest.raises(UnusableMaskError, match="damaged polygon"):
        read_segmentation([[10**400, 0, 4, 0, 4, 4]], 8, 8)
