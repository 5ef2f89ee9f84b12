"""Low-resolution logits to the pixels of an image."""

import pytest
import torch
from segment_anything.modeling import Sam

from calico.models.mask_decoder import upsample_masks


@pytest.mark.parametrize("original_size", [(50, 80), (80, 50), (1, 1), (7, 300), (128, 128)])
def test_upsampling_is_sams(original_size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 16, 16, generator=generator)
    resized_size = _resized(original_size, 64)
    sam = Sam(_Frame(), torch.nn.Identity(), torch.nn.Identity())
    expected = sam.postprocess_masks(logits[:, None], resized_size, original_size)[:, 0] > 0
    masks = upsample_masks(logits, resized_size=resized_size, original_size=original_size, image_size_px=64)
    assert masks.dtype == torch.bool
    assert torch.equal(masks, expected)


def test_no_masks() -> None:
    masks = upsample_masks(
        torch.zeros(0, 16, 16), resized_size=(64, 32), original_size=(8, 4), image_size_px=64
    )
    assert masks.shape == (0, 8, 4)


def test_bfloat16_logits_are_upsampled_in_float32() -> None:
    logits = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    sizes = {"resized_size": (64, 64), "original_size": (100, 100), "image_size_px": 64}
    assert torch.equal(upsample_masks(logits, **sizes), upsample_masks(logits.float(), **sizes))


class _Frame(torch.nn.Module):
    img_size = 64


def _resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))
