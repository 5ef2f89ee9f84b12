import numpy as np
import pytest

from calico.errors import DataError
from calico.reporting.overlays import (
    PALETTE,
    assign_colours,
    draw_overlay,
    fit_scale,
    part_name,
    side_by_side,
)


@pytest.fixture
def image_HWC():
    return np.full((40, 60, 3), 120, dtype=np.uint8)


def square(top, bottom, left, right, size=(40, 60)):
    mask_HW = np.zeros(size, dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return mask_HW


@pytest.mark.parametrize(
    ("label", "name"),
    [("dog", "dog"), ("dog's head", "head"), ("sofa's seat base", "seat base"), ("dog's", "dog's")],
)
def test_part_name(label, name):
    assert part_name(label) == name


def test_a_part_has_one_colour_whatever_it_belongs_to():
    colours = assign_colours(["dog's head", "cat's head", "dog's tail"])
    assert list(colours) == ["head", "tail"]
    assert colours["head"] != colours["tail"]


def test_colours_do_not_depend_on_order_or_repetition():
    labels = ["dog's head", "dog's tail", "cat's body", "mug"]
    assert assign_colours(labels) == assign_colours([*reversed(labels), *labels])


def test_colours_are_the_same_on_every_machine():
    # From the sha256 of the names; a change recolours every report.
    assert assign_colours(["head"]) == {"head": (213, 94, 0)}
    assert assign_colours(["body"]) == {"body": (0, 114, 178)}


def test_as_many_names_as_colours_never_share_one():
    names = [f"name {number}" for number in range(len(PALETTE))]
    assert len(set(assign_colours(names).values())) == len(PALETTE)


def test_more_names_than_colours_repeat_colours():
    colours = assign_colours([f"name {number}" for number in range(2 * len(PALETTE))])
    assert sorted(colours.values()) == sorted(PALETTE * 2)


def test_overlay_has_the_scaled_size(image_HWC):
    picture = draw_overlay(image_HWC, [("dog", square(5, 20, 5, 30))], scale=2.5)
    assert picture.shape == (100, 150, 3)
    assert picture.dtype == np.uint8


def test_overlay_colours_the_mask_and_nothing_far_from_it(image_HWC):
    mask_HW = square(5, 20, 5, 30)
    picture = draw_overlay(image_HWC, [("dog's head", mask_HW)], scale=4.0, has_tags=False)
    (colour,) = assign_colours(["head"]).values()
    inside = picture[12 * 4, 15 * 4].astype(int)
    # Six tenths colour, four tenths the picture's grey 120.
    np.testing.assert_allclose(inside, np.array(colour) * 0.6 + 120 * 0.4, atol=1)
    assert (picture[30 * 4 :, 40 * 4 :] == 120).all()


def test_a_line_one_pixel_wide_is_still_seen(image_HWC):
    picture = draw_overlay(image_HWC, [("cord", square(5, 35, 20, 21))], scale=4.0, has_tags=False)
    assert (picture[80, 78:90] != 120).any()


def test_a_small_mask_lies_above_a_large_one(image_HWC):
    masks = [("eye", square(10, 16, 10, 16)), ("head", square(2, 38, 2, 58))]
    colours = assign_colours(["eye", "head"])
    pictures = [
        draw_overlay(image_HWC, order, scale=4.0, colours=colours, has_tags=False)
        for order in (masks, masks[::-1])
    ]
    np.testing.assert_array_equal(*pictures)
    distances = {
        name: np.abs(pictures[0][13 * 4, 13 * 4].astype(int) - colour).sum()
        for name, colour in colours.items()
    }
    assert distances["eye"] < distances["head"]


def test_an_empty_mask_draws_nothing(image_HWC):
    picture = draw_overlay(image_HWC, [("dog", np.zeros((40, 60), dtype=bool))])
    np.testing.assert_array_equal(picture, image_HWC)


def test_overlay_is_deterministic_and_leaves_its_input_alone(image_HWC):
    before = image_HWC.copy()
    masks = [("dog's head", square(5, 20, 5, 30)), ("dog's tail", square(18, 38, 28, 59))]
    np.testing.assert_array_equal(
        draw_overlay(image_HWC, masks, scale=3), draw_overlay(image_HWC, masks, scale=3)
    )
    np.testing.assert_array_equal(image_HWC, before)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_odd_images_are_drawn(size):
    image_HWC = np.zeros((*size, 3), dtype=np.uint8)
    picture = draw_overlay(image_HWC, [("a rather long name", np.ones(size, dtype=bool))], scale=2)
    assert picture.shape == (2 * size[0], 2 * size[1], 3)


def test_a_mask_of_another_size_is_an_error(image_HWC):
    with pytest.raises(DataError, match=r"mask of 'dog' has size \(40, 61\), but its image has \(40, 60\)"):
        draw_overlay(image_HWC, [("dog", square(0, 5, 0, 5, size=(40, 61)))])


def test_fit_scale():
    assert fit_scale(300, 600, 1200) == 2.0


def test_side_by_side_holds_every_panel_in_order(image_HWC):
    panels = [np.full_like(image_HWC, value) for value in (10, 20, 30)]
    sheet = side_by_side(panels, titles=["a", "b", "c"], num_columns=2)
    rows, columns = zip(
        *[np.argwhere((sheet == value).all(axis=2)).min(axis=0) for value in (10, 20, 30)], strict=True
    )
    assert columns[0] < columns[1]
    assert rows[0] == rows[1] < rows[2]
    assert [int((sheet == value).all(axis=2).sum()) for value in (10, 20, 30)] >= [2400] * 3


def test_side_by_side_shows_legend_and_text_below(image_HWC):
    plain = side_by_side([image_HWC])
    full = side_by_side([image_HWC], colours={"head": (213, 94, 0)}, text="The common part is a head. " * 3)
    assert full.shape[0] > plain.shape[0]
    assert full.shape[1] == plain.shape[1]
    assert (full == (213, 94, 0)).all(axis=2).sum() > 50


def test_lines_of_a_text_stay_lines():
    panel = np.zeros((40, 400, 3), dtype=np.uint8)
    one, two = (side_by_side([panel], text=text) for text in ("first second", "first\nsecond"))
    three = side_by_side([panel], text="first\nsecond\nthird")
    assert two.shape[0] - one.shape[0] == three.shape[0] - two.shape[0] > 10


def test_tags_take_the_place_of_names_and_stay_with_their_masks(image_HWC):
    large, small = ("dog", square(0, 40, 0, 60)), ("dog", square(10, 20, 10, 20))
    options = {"scale": 8, "colours": assign_colours(["dog"])}
    named = draw_overlay(image_HWC, [small, large], **options)
    tagged = draw_overlay(image_HWC, [small, large], tags=["1 dog", "2 dog"], **options)
    turned = draw_overlay(image_HWC, [large, small], tags=["2 dog", "1 dog"], **options)
    assert (named != tagged).any()
    assert (tagged == turned).all()
    assert (tagged != draw_overlay(image_HWC, [small, large], tags=["2 dog", "1 dog"], **options)).any()
    assert (named == draw_overlay(image_HWC, [small, large], tags=["dog", "dog"], **options)).all()
