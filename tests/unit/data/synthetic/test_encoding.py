"""Polygons and run lengths give the masks back; pycocotools is the oracle."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from calico.core import masks
from calico.data.synthetic.encoding import (
    box_xywh,
    compressed_rle,
    mask_polygons,
    polygons_rle,
    uncompressed_rle,
)


def draw_polygons(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))) > 0


def ring_HW() -> np.ndarray:
    mask_HW = np.zeros((12, 16), dtype=bool)
    mask_HW[1:10, 2:14] = True
    mask_HW[3:5, 4:6] = False
    mask_HW[6:8, 8:12] = False
    return mask_HW


@pytest.mark.parametrize("seed", range(25))
def test_polygons_give_any_mask_back(seed):
    rng = np.random.default_rng(seed)
    mask_HW = rng.random((17, 23)) < rng.uniform(0.2, 0.8)
    assert np.array_equal(draw_polygons(mask_polygons(mask_HW), 17, 23), mask_HW)


def test_mask_with_holes_becomes_several_polygons():
    polygons = mask_polygons(ring_HW())
    assert len(polygons) > 1
    assert np.array_equal(draw_polygons(polygons, 12, 16), ring_HW())
    assert np.array_equal(masks.decode(polygons_rle(polygons, (12, 16))), ring_HW())


def test_rectangle_is_four_corners():
    mask_HW = np.zeros((8, 9), dtype=bool)
    mask_HW[2:5, 3:7] = True
    (polygon,) = mask_polygons(mask_HW)
    corners = {tuple(corner) for corner in np.array(polygon).reshape(-1, 2).tolist()}
    assert corners == {(3, 2), (7, 2), (7, 5), (3, 5)}
    assert box_xywh(masks.encode(mask_HW)) == [3.0, 2.0, 4.0, 3.0]


def test_empty_mask_has_no_polygon():
    assert mask_polygons(np.zeros((4, 4), dtype=bool)) == []


def test_run_lengths_decode_with_pycocotools():
    rle = masks.encode(ring_HW())
    assert np.array_equal(coco_mask.decode(compressed_rle(rle)) > 0, ring_HW())
    again = coco_mask.frPyObjects(uncompressed_rle(rle), 12, 16)
    assert np.array_equal(coco_mask.decode(again) > 0, ring_HW())
