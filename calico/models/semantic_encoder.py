"""DINOv2 with registers: the self-supervised features that the CEM draws correspondences from (eq. 5)."""

from typing import Any

from torch import Tensor
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from calico.config import SemanticEncoderSection


def build_semantic_encoder(section: SemanticEncoderSection) -> Dinov2WithRegistersModel:
    """Build DINOv2 with random weights."""
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=section.hidden_size,
            num_hidden_layers=section.num_layers,
            num_attention_heads=section.num_heads,
            mlp_ratio=section.mlp_ratio,
            use_swiglu_ffn=section.use_swiglu,
            image_size=section.image_size_px,
            patch_size=section.patch_size_px,
            num_register_tokens=section.num_register_tokens,
        )
    )


def encode_semantic(encoder: Dinov2WithRegistersModel, images_ICHW: Tensor) -> Tensor:
    """Return X_semantic, (I, P, F): the keys of the last block, heads side by side, patches only.

    The last block is not run further than its keys.

    Source: eq. 5, "similarly to [2]": ShirAmir/dino-vit-features, facet "key" of the last layer, no binning.
    """
    layers: list[Any] = list(encoder.encoder.layer)
    *blocks, last = layers
    hidden_IPF = encoder.embeddings(images_ICHW)
    for block in blocks:
        hidden_IPF = block(hidden_IPF)
    keys_IPF: Tensor = last.attention.k_proj(last.norm1(hidden_IPF))
    return keys_IPF[:, 1 + encoder.config.num_register_tokens :]
