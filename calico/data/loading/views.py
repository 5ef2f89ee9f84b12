"""One image, seen by several encoders: the view of each frozen encoder, and masks in the frame of SAM's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from calico.config import ModelSection, VariantName
from calico.core.images import read_image

GLOBAL_VIEW = "global"
SEMANTIC_VIEW = "semantic"
GROUNDING_VIEW = "grounding"

_CLIP_MEAN_STD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# SAM's constants are on the 0-255 scale.
_SAM_MEAN_STD = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# Raise it with every change of the code below that changes a view.
_VIEWS_VERSION = 1


@dataclass(frozen=True)
class ViewSizes:
    """Side of each square view in pixels; `semantic_px` is None for a model without CEM."""

    global_px: int
    semantic_px: int | None
    grounding_px: int

    @property
    def sides(self) -> dict[str, int]:
        """The sides by name of the view, only of those that there are."""
        sides = {
            GLOBAL_VIEW: self.global_px,
            SEMANTIC_VIEW: self.semantic_px,
            GROUNDING_VIEW: self.grounding_px,
        }
        return {name: side for name, side in sides.items() if side is not None}


def view_sizes(model: ModelSection, variant: VariantName) -> ViewSizes:
    """Return the views that a variant's encoders take."""
    section = model.variants[variant]
    semantic_px = model.semantic_encoder.image_size_px if section.cem else None
    if section.reads_eva_clip:
        global_px = model.vision_encoder.image_size_px
    else:
        global_px = section.clip_image_size_px or model.clip.trained_image_size_px
    return ViewSizes(global_px, semantic_px, model.grounding.image_size_px)


def describe_views(sizes: ViewSizes) -> str:
    """Return a text that is another one whenever `make_views` gives other numbers; a key for features."""
    constants = (_VIEWS_VERSION, _CLIP_MEAN_STD, _IMAGENET_MEAN_STD, _SAM_MEAN_STD)
    return f"{sizes} {constants} Pillow {PIL.__version__}"


def make_views(image_HWC: np.ndarray, sizes: ViewSizes) -> dict[str, Tensor]:
    """Return the normalised float32 views of an RGB image, each of shape (3, side, side).

    Deviation: CLIP views are resized directly, without CLIP's centre crop; masks need all pixels.
    """
    image = Image.fromarray(image_HWC)
    views = {GLOBAL_VIEW: _square_view(image, sizes.global_px, _CLIP_MEAN_STD)}
    if sizes.semantic_px is not None:
        views[SEMANTIC_VIEW] = _square_view(image, sizes.semantic_px, _IMAGENET_MEAN_STD)
    views[GROUNDING_VIEW] = _grounding_view(image, sizes.grounding_px)
    return views


def image_views(path: Path, model: ModelSection, variant: VariantName) -> dict[str, Tensor]:
    """Decode a file and return the views of a variant's encoders; see `read_image` and `make_views`."""
    return make_views(read_image(path), view_sizes(model, variant))


def resized_size(height: int, width: int, longest_side_px: int) -> tuple[int, int]:
    """Return (height, width) after scaling the longer side to `longest_side_px`.

    Source: segment-anything, utils/transforms.py, `ResizeLongestSide`. Sides never vanish here.
    """
    scale = longest_side_px / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def frame_mask(mask_HW: np.ndarray, side_px: int) -> np.ndarray:
    """Return a mask in the frame of the grounding view: longer side `side_px`, zeros right and below.

    A pixel is set where at least half of it is covered; a mask too thin for that keeps its best covered
    pixels, so that a visible target never becomes empty.

    Returns:
        boolean array of shape (side_px, side_px).
    """
    height, width = resized_size(mask_HW.shape[0], mask_HW.shape[1], side_px)
    coverage = np.asarray(
        Image.fromarray(mask_HW.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    )
    framed = np.zeros((side_px, side_px), dtype=bool)
    framed[:height, :width] = coverage >= max(min(0.5, float(coverage.max())), 1e-6)
    return framed


def _square_view(image: Image.Image, side_px: int, mean_std: tuple[tuple[float, ...], ...]) -> Tensor:
    resized = image.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return _normalised(np.asarray(resized, dtype=np.float32) / 255.0, mean_std)


def _grounding_view(image: Image.Image, side_px: int) -> Tensor:
    height, width = resized_size(image.height, image.width, side_px)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    view_CHW = torch.zeros(3, side_px, side_px)
    view_CHW[:, :height, :width] = _normalised(np.asarray(resized, dtype=np.float32), _SAM_MEAN_STD)
    return view_CHW


def _normalised(pixels_HWC: np.ndarray, mean_std: tuple[tuple[float, ...], ...]) -> Tensor:
    mean, std = (np.asarray(values, dtype=np.float32) for values in mean_std)
    return torch.from_numpy(np.ascontiguousarray(((pixels_HWC - mean) / std).transpose(2, 0, 1)))
