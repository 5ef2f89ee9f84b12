"""The image encoders to train: how each is built, started and read, all through `calico.models`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from calico.config import ModelSection
from calico.data.loading.views import GLOBAL_VIEW, GROUNDING_VIEW, SEMANTIC_VIEW
from calico.models.grounding import build_grounding_encoder, encode_grounding
from calico.models.semantic_encoder import build_semantic_encoder, encode_semantic
from calico.models.vision_encoder import build_clip, build_vision_encoder, encode_clip, encode_global
from calico.standins.initialization import start_linear, start_local, start_local_sam


@dataclass(frozen=True)
class EncoderKind:
    """One image encoder.

    Attributes:
        view: the view that it reads.
        build: gives the encoder, started locally.
        encode: gives the patch tokens (I, P, F) that the model reads, from views (I, 3, H, W).
    """

    view: str
    build: Callable[[ModelSection], nn.Module]
    encode: Callable[[Any, Tensor], Tensor]


def _build_grounding(model: ModelSection) -> nn.Module:
    encoder = build_grounding_encoder(model.grounding)
    start_local_sam(encoder)
    return encoder


def _build_vision(model: ModelSection) -> nn.Module:
    section = model.vision_encoder
    encoder = build_vision_encoder(section)
    start_linear(encoder, section.num_layers)
    weights = [layer.self_attn.qkv.weight.chunk(3)[:2] for layer in encoder.encoder.layers]
    embeddings = encoder.embeddings
    start_local(embeddings.position_embedding[0], weights, num_heads=section.num_heads)
    nn.init.normal_(embeddings.class_embedding, std=0.02)
    return encoder


def _build_clip(model: ModelSection) -> nn.Module:
    encoder = build_clip(model.clip)
    start_linear(encoder, model.clip.num_layers)
    attentions = [layer.self_attn for layer in encoder.encoder.layers]
    weights = [(attention.q_proj.weight, attention.k_proj.weight) for attention in attentions]
    start_local(encoder.embeddings.position_embedding.weight, weights, num_heads=model.clip.num_heads)
    return encoder


def _build_semantic(model: ModelSection) -> nn.Module:
    section = model.semantic_encoder
    encoder = build_semantic_encoder(section)
    start_linear(encoder, section.num_layers)
    attentions = [layer.attention for layer in encoder.encoder.layer]
    # The keys of the last block are the output; they must carry content, so that block starts random.
    weights = [(attention.q_proj.weight, attention.k_proj.weight) for attention in attentions[:-1]]
    start_local(encoder.embeddings.position_embeddings[0], weights, num_heads=section.num_heads)
    return encoder


ENCODERS = {
    "grounding_encoder": EncoderKind(
        GROUNDING_VIEW,
        _build_grounding,
        lambda encoder, views: encode_grounding(encoder, views).flatten(2).transpose(1, 2),
    ),
    "vision_encoder": EncoderKind(
        GLOBAL_VIEW, _build_vision, lambda encoder, views: encode_global(encoder, views)[:, 1:]
    ),
    "semantic_encoder": EncoderKind(SEMANTIC_VIEW, _build_semantic, encode_semantic),
    "clip": EncoderKind(GLOBAL_VIEW, _build_clip, encode_clip),
}
