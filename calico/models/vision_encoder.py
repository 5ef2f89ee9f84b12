"""Vision encoders that feed the language model: EVA-CLIP (CALICO, eq. 4) and CLIP (LISA, GLaMM)."""

from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, InstructBlipVisionConfig, InstructBlipVisionModel

from calico.model_config import ClipSection, VisionEncoderSection


def build_vision_encoder(section: VisionEncoderSection) -> InstructBlipVisionModel:
    """Build EVA-CLIP with random weights."""
    return InstructBlipVisionModel(
        InstructBlipVisionConfig(
            hidden_size=section.hidden_size,
            intermediate_size=section.intermediate_size,
            num_hidden_layers=section.num_layers,
            num_attention_heads=section.num_heads,
            image_size=section.image_size_px,
            patch_size=section.patch_size_px,
        )
    )


def encode_global(encoder: InstructBlipVisionModel, images_ICHW: Tensor) -> Tensor:
    """Return X_global, (I, 1 + P, F): class token and patches after the final LayerNorm.

    Source: eq. 4; salesforce/LAVIS models/blip2_models/blip2.py (`ln_vision`).
    """
    global_IPF: Tensor = encoder(images_ICHW).last_hidden_state
    return global_IPF


def build_clip(section: ClipSection) -> CLIPVisionModel:
    """Build CLIP's vision tower with random weights."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=section.hidden_size,
            intermediate_size=section.intermediate_size,
            num_hidden_layers=section.num_layers,
            num_attention_heads=section.num_heads,
            image_size=section.trained_image_size_px,
            patch_size=section.patch_size_px,
        )
    )


def encode_clip(encoder: CLIPVisionModel, images_ICHW: Tensor) -> Tensor:
    """Return the patch tokens of the last layer but one, (I, P, F), without the class token.

    Position embeddings are interpolated where the image is not of the size that CLIP was trained at.

    Source: LLaVA's `mm_vision_select_layer = -2`, which LISA and GLaMM inherit.
    """
    is_resized = images_ICHW.shape[-1] != encoder.config.image_size
    output = encoder(images_ICHW, output_hidden_states=True, interpolate_pos_encoding=is_resized)
    tokens_IPF: Tensor = output.hidden_states[-2][:, 1:]
    return tokens_IPF
