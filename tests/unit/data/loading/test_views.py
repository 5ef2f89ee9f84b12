"""calico.data.loading.views: the encoders' own preprocessing, and masks in the same frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segment_anything.modeling.sam import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from transformers import CLIPImageProcessor

from calico.config import load_config
from calico.data.loading.views import (
    GLOBAL_VIEW,
    GROUNDING_VIEW,
    SEMANTIC_VIEW,
    ViewSizes,
    frame_mask,
    image_views,
    make_views,
    resized_size,
    view_sizes,
)

MODEL = load_config("tiny").model
IMAGE_HWC = np.random.default_rng(0).integers(0, 256, (60, 91, 3), dtype=np.uint8)


def test_each_variant_has_its_views() -> None:
    assert view_sizes(MODEL, "calico") == ViewSizes(128, 128, 128)
    assert view_sizes(MODEL, "lisa") == ViewSizes(96, None, 128)
    assert view_sizes(MODEL, "glamm") == ViewSizes(128, None, 128)
    paper = load_config("paper").model
    assert view_sizes(paper, "calico") == ViewSizes(224, 224, 1024)
    assert view_sizes(paper, "glamm") == ViewSizes(336, None, 1024)


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
def test_views_have_the_shapes_of_the_sizes(variant: str, tmp_path: Path) -> None:
    Image.fromarray(IMAGE_HWC).save(tmp_path / "a.png")
    views = image_views(tmp_path / "a.png", MODEL, variant)  # type: ignore[arg-type]
    sizes = view_sizes(MODEL, variant)  # type: ignore[arg-type]
    sides = {
        GLOBAL_VIEW: sizes.global_px,
        SEMANTIC_VIEW: sizes.semantic_px,
        GROUNDING_VIEW: sizes.grounding_px,
    }
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        name: (3, side, side) for name, side in sides.items() if side
    }
    assert all(view.dtype == torch.float32 for view in views.values())


def test_clip_view_is_that_of_transformers_without_crop() -> None:
    processor = CLIPImageProcessor(size={"height": 96, "width": 96}, do_center_crop=False)
    expected = processor(Image.fromarray(IMAGE_HWC), return_tensors="pt")["pixel_values"][0]
    found = make_views(IMAGE_HWC, ViewSizes(96, None, 128))[GLOBAL_VIEW]
    # Worst case measured 0.015 (one grey level): transformers resizes with torchvision, we with Pillow.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.016)


def test_semantic_view_uses_imagenets_statistics() -> None:
    grey_HWC = np.full((10, 10, 3), 128, dtype=np.uint8)
    view = make_views(grey_HWC, ViewSizes(32, 28, 32))[SEMANTIC_VIEW]
    expected = (128 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(view, expected.view(3, 1, 1).expand(3, 28, 28), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(60, 91), (91, 60), (64, 64), (1, 1), (300, 7)])
def test_grounding_view_is_that_of_segment_anything(size: tuple[int, int]) -> None:
    image_HWC = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized_HWC = ResizeLongestSide(128).apply_image(image_HWC)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    frame = type(
        "Frame", (), {"pixel_mean": mean, "pixel_std": std, "image_encoder": type("E", (), {"img_size": 128})}
    )
    expected = Sam.preprocess(frame, torch.as_tensor(resized_HWC.copy()).permute(2, 0, 1))  # type: ignore[arg-type]
    found = make_views(image_HWC, ViewSizes(32, None, 128))[GROUNDING_VIEW]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), side=st.sampled_from([64, 128, 1024]))
def test_resized_size_is_that_of_segment_anything(height: int, width: int, side: int) -> None:
    expected = ResizeLongestSide.get_preprocess_shape(height, width, side)
    assert resized_size(height, width, side) == tuple(max(1, length) for length in expected)


def test_mask_follows_the_image_into_the_frame() -> None:
    mask_HW = np.zeros((64, 128), dtype=bool)
    mask_HW[16:48, 32:96] = True
    framed = frame_mask(mask_HW, 64)
    expected = np.zeros((64, 64), dtype=bool)
    expected[8:24, 16:48] = True
    assert (framed == expected).all()


def test_mask_grows_with_the_frame() -> None:
    mask_HW = np.eye(4, dtype=bool)
    assert (frame_mask(mask_HW, 8) == np.kron(mask_HW, np.ones((2, 2), dtype=bool))).all()


@given(seed=st.integers(0, 1000), height=st.integers(1, 300), width=st.integers(1, 300))
def test_thin_masks_never_vanish(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask_HW = np.zeros((height, width), dtype=bool)
    mask_HW[rng.integers(height), rng.integers(width)] = True
    framed = frame_mask(mask_HW, 64)
    assert framed.any()
    inside = resized_size(height, width, 64)
    assert not framed[inside[0] :].any()
    assert not framed[:, inside[1] :].any()


def test_empty_mask_stays_empty() -> None:
    assert not frame_mask(np.zeros((30, 20), dtype=bool), 64).any()
