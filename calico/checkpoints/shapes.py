"""What every component must look like, by the very classes that the models are made of."""

from collections.abc import Callable

import torch
from torch import nn

from calico.checkpoints.loader import plain_state
from calico.config import ModelSection
from calico.language_models.llama import LlamaLanguageModel
from calico.models.grounding import build_grounding_encoder
from calico.models.mask_decoder import build_f_segmentation, build_mask_decoder, build_prompt_encoder
from calico.models.projection import build_f_image, build_linear_projector, build_mlp_projector
from calico.models.qformer import QFormer
from calico.models.semantic_encoder import build_semantic_encoder
from calico.models.vision_encoder import build_clip, build_vision_encoder

_BUILDERS: dict[str, Callable[[ModelSection, int], nn.Module]] = {
    "vision_encoder": lambda section, _: build_vision_encoder(section.vision_encoder),
    "semantic_encoder": lambda section, _: build_semantic_encoder(section.semantic_encoder),
    "clip": lambda section, _: build_clip(section.clip),
    "grounding_encoder": lambda section, _: build_grounding_encoder(section.grounding),
    "prompt_encoder": lambda section, _: build_prompt_encoder(section.grounding),
    "mask_decoder": lambda section, _: build_mask_decoder(section.grounding),
    "qformer": lambda section, _: QFormer(section.qformer, section.vision_encoder.hidden_size),
    "f_image": lambda section, _: build_f_image(
        section.qformer.hidden_size, section.language_model.hidden_size
    ),
    "linear_projector": lambda section, _: build_linear_projector(
        section.clip.hidden_size, section.language_model.hidden_size
    ),
    "mlp_projector": lambda section, _: build_mlp_projector(
        section.clip.hidden_size, section.language_model.hidden_size
    ),
    "language_model": lambda section, vocabulary: (
        LlamaLanguageModel(section.language_model, vocabulary).stock
    ),
    "f_segmentation": lambda section, _: build_f_segmentation(
        section.language_model.hidden_size, section.grounding.prompt_width
    ),
}


def component_shapes(section: ModelSection, component: str, *, vocabulary_size: int) -> dict[str, torch.Size]:
    """Return the shape of every tensor of a component, built without memory.

    Args:
        section: dimensions.
        component: one of `layout.PRETRAINED_COMPONENTS`.
        vocabulary_size: number of the language model's tokens.
    """
    with torch.device("meta"):
        module = _BUILDERS[component](section, vocabulary_size)
    return {name: tensor.shape for name, tensor in plain_state(module).items()}
