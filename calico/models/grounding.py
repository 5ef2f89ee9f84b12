"""SAM's image encoder, segment-anything's own class: the grounding encoder of figure 3."""

from functools import partial

from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from calico.model_config import GroundingSection


def build_grounding_encoder(section: GroundingSection) -> ImageEncoderViT:
    """Build SAM's image encoder with random weights.

    Source: facebookresearch/segment-anything build_sam.py. Position embeddings, which the class starts at
    zero because it expects a checkpoint, start as N(0, .02).
    """
    encoder = ImageEncoderViT(
        img_size=section.image_size_px,
        patch_size=section.patch_size_px,
        embed_dim=section.hidden_size,
        depth=section.num_layers,
        num_heads=section.num_heads,
        mlp_ratio=4,
        out_chans=section.prompt_width,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=section.window_size,
        global_attn_indexes=tuple(section.global_layers),
    )
    nn.init.normal_(encoder.pos_embed, std=0.02)
    return encoder


def encode_grounding(encoder: ImageEncoderViT, images_ICHW: Tensor) -> Tensor:
    """Return X_ground, (I, C, G, G), of images in SAM's padded frame."""
    grounding_ICGG: Tensor = encoder(images_ICHW.to(encoder.patch_embed.proj.weight.dtype))
    return grounding_ICGG
