"""Pools of scenes: reproducible, labelled as drawn, apart from each other."""

import numpy as np

from calico.data.synthetic.renderer import Scene, SceneObject, ScenePart
from calico.standins.scenes import (
    LABEL_SIDE_PX,
    NO_PART,
    SceneSpec,
    label_maps,
    load_pool,
    object_categories,
    part_classes,
    scene_rng,
)

SPEC = SceneSpec("test", seed=1, num_scenes=3, difficulty=0.3, size_px=128)


def test_load_pool_equal_specs_give_equal_scenes(tmp_path):
    first = load_pool(tmp_path / "a", SPEC, num_workers=1)
    again = load_pool(tmp_path / "a", SPEC, num_workers=1)
    elsewhere = load_pool(tmp_path / "b", SPEC, num_workers=1)
    assert len(first) == 3
    for pool in (again, elsewhere):
        np.testing.assert_array_equal(pool.images_SHWC, first.images_SHWC)
        np.testing.assert_array_equal(pool.parts_STT, first.parts_STT)


def test_scene_rng_purposes_and_indices_differ():
    draws = {
        scene_rng(SceneSpec(purpose, 1, 3, 0.3, 128), index).integers(1 << 62)
        for purpose in ("standins", "standins-held-out")
        for index in range(3)
    }
    assert len(draws) == 6


def test_label_maps_objects_parts_and_pixels_of_neither():
    mask_HW = np.zeros((128, 128), dtype=bool)
    mask_HW[:64] = True
    part_HW = np.zeros_like(mask_HW)
    part_HW[:32] = True
    scene = Scene(
        "partimagenet",
        np.zeros((128, 128, 3), np.uint8),
        (SceneObject("dog", mask_HW, (ScenePart("head", part_HW),)),),
    )
    parts_TT, objects_TT, categories_O = label_maps(scene)
    assert parts_TT.shape == objects_TT.shape == (LABEL_SIDE_PX, LABEL_SIDE_PX)
    assert part_classes()[parts_TT[0, 0] - 1] == ("dog", "head")
    assert (parts_TT[16:32] == NO_PART).all()
    assert (parts_TT[32:] == 0).all()
    assert (objects_TT[:32] == 1).all()
    assert (objects_TT[32:] == 0).all()
    assert object_categories()[categories_O[0] - 1] == "dog"
    assert categories_O[1:].tolist() == [0, 0]
