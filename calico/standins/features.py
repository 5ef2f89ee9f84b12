"""What the frozen stand-in encoders say of every scene, computed once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calico.config import ModelSection
from calico.core.records import ImageFeatures
from calico.data.loading.views import GLOBAL_VIEW, GROUNDING_VIEW
from calico.models.grounding import encode_grounding
from calico.models.vision_encoder import encode_clip, encode_global
from calico.standins.scenes import ScenePool
from calico.standins.vision import raw_images, to_view

_BATCH_SIZE = 32


@dataclass(frozen=True)
class SceneFeatures:
    """Features of S scenes in float16: the global tokens of each variant, and SAM's, which all share."""

    global_SPF: Mapping[str, Tensor]
    grounding_SCGG: Tensor

    def of(self, variant: str, scenes: list[int]) -> ImageFeatures:
        """Return what a variant's model reads of some scenes."""
        index = torch.tensor(scenes)
        return ImageFeatures(self.global_SPF[variant][index].float(), self.grounding_SCGG[index].float())


@torch.no_grad()
def scene_features(pool: ScenePool, encoders: Mapping[str, Any], model: ModelSection) -> SceneFeatures:
    """Encode every scene of a pool.

    Args:
        encoders: "vision_encoder", "clip" and "grounding_encoder".
        model: decides at what size each variant reads an image.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in (*model.variants, GROUNDING_VIEW)}
    for start in range(0, len(pool), _BATCH_SIZE):
        images_ICHW = raw_images(np.asarray(pool.images_SHWC[start : start + _BATCH_SIZE]))
        grounding = to_view(images_ICHW, GROUNDING_VIEW, model.grounding.image_size_px)
        rows[GROUNDING_VIEW].append(encode_grounding(encoders["grounding_encoder"], grounding).half())
        for name, variant in model.variants.items():
            if variant.reads_eva_clip:
                view = to_view(images_ICHW, GLOBAL_VIEW, model.vision_encoder.image_size_px)
                tokens_IPF = encode_global(encoders["vision_encoder"], view)
            else:
                side_px = variant.clip_image_size_px or model.clip.trained_image_size_px
                tokens_IPF = encode_clip(encoders["clip"], to_view(images_ICHW, GLOBAL_VIEW, side_px))
            rows[name].append(tokens_IPF.half())
    joined = {name: torch.cat(found) for name, found in rows.items()}
    grounding_SCGG = joined.pop(GROUNDING_VIEW)
    return SceneFeatures(joined, grounding_SCGG)
