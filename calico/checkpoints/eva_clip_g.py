"""EVA-CLIP-g as LAVIS published it for BLIP-2: the vision encoder but for its last LayerNorm.

Source of the names: salesforce/LAVIS models/eva_vit.py. The last LayerNorm, `ln_vision`, is BLIP-2's.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from calico.checkpoints.source import Rule, Source
from calico.config import ModelSection

_ENCODER = "vision_encoder"
_BLOCK, _LAYER = r"blocks\.(\d+)\.", r"encoder.layers.\1."


def _join_biases(tensors: Mapping[str, Tensor], section: ModelSection) -> dict[str, Tensor]:
    """Join each block's query and value biases, keys have none; drop the block that BLIP-2 leaves out."""
    last = f"blocks.{section.vision_encoder.num_layers}."
    adapted = {name: tensor for name, tensor in tensors.items() if not name.startswith(last)}
    for name in [name for name in adapted if re.fullmatch(rf"{_BLOCK}attn\.q_bias", name)]:
        value_name = name.replace("q_bias", "v_bias")
        if value_name in adapted:
            query, value = adapted.pop(name), adapted.pop(value_name)
            adapted[name.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return adapted


SOURCE = Source(
    title="EVA-CLIP-g",
    place="eva_vit_g.pth",
    url="https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/eva_vit_g.pth",
    holds={_ENCODER: r"(?!post_layernorm\.).+"},
    rules=[
        Rule("cls_token", _ENCODER, "embeddings.class_embedding"),
        Rule("pos_embed", _ENCODER, "embeddings.position_embedding"),
        Rule(r"patch_embed\.proj\.(.+)", _ENCODER, r"embeddings.patch_embedding.\1"),
        Rule(rf"{_BLOCK}norm([12])\.(.+)", _ENCODER, rf"{_LAYER}layer_norm\2.\3"),
        Rule(rf"{_BLOCK}attn\.qkv\.(.+)", _ENCODER, rf"{_LAYER}self_attn.qkv.\2"),
        Rule(rf"{_BLOCK}attn\.proj\.(.+)", _ENCODER, rf"{_LAYER}self_attn.projection.\2"),
        Rule(rf"{_BLOCK}mlp\.(fc[12]\..+)", _ENCODER, rf"{_LAYER}mlp.\2"),
        # EVA's own end, which BLIP-2 replaces by ln_vision.
        Rule(r"(norm|fc_norm|head|lm_head)\..+|mask_token"),
    ],
    example="blocks.0.attn.q_bias",
    adapt=_join_biases,
)
