"""The section `model` of params.yaml: every dimension, and what tells the models apart."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from calico.section import EachOnce, Fraction, NonNegative, Positive, PositiveFloat, Section

ModelName = Literal["calico", "lisa", "glamm"]
VariantName = str  # a ModelName, or one of the ablations (calico/variants.py)


class TransformerSection(Section):
    """What every transformer has."""

    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "TransformerSection":
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} cannot be shared by {self.num_heads} num_heads")
        return self


class VisionEncoderSection(TransformerSection):
    """EVA-CLIP, as transformers' InstructBlipVisionModel."""

    intermediate_size: Positive
    image_size_px: Positive
    patch_size_px: Positive


class SemanticEncoderSection(TransformerSection):
    """DINOv2 with registers."""

    mlp_ratio: Positive
    use_swiglu: bool
    image_size_px: Positive
    patch_size_px: Positive
    num_register_tokens: NonNegative


class ClipSection(TransformerSection):
    """CLIP vision encoder of the baselines."""

    intermediate_size: Positive
    num_layers: Annotated[int, Field(ge=2)]
    patch_size_px: Positive
    trained_image_size_px: Positive


class QFormerSection(TransformerSection):
    """Q-Former without its text half."""

    num_queries: Positive
    intermediate_size: Positive
    cross_attention_frequency: Positive


class LanguageModelSection(TransformerSection):
    """LLaMA-architecture language model."""

    intermediate_size: Positive
    rms_norm_eps: PositiveFloat
    max_length: Positive


class GroundingSection(TransformerSection):
    """SAM: image encoder, prompt encoder and mask decoder; `window_size` 0 is global attention everywhere."""

    image_size_px: Positive
    patch_size_px: Positive
    global_layers: list[NonNegative]
    window_size: NonNegative
    prompt_width: Positive
    decoder_heads: Positive
    decoder_mlp: Positive


class CemSection(Section):
    """Correspondence Extraction Module (section 3.3)."""

    num_heads: Positive


class LoraSection(Section):
    """LoRA on the query and value projections of the language model."""

    rank: Positive
    alpha: Positive
    dropout: Fraction


class VariantSection(Section):
    """What tells one model from another.

    `visual` brings images to the language model: "qformer" (CALICO), "linear" (LISA), "mlp" (GLaMM); with
    "patches" CALICO lacks its Q-Former. `cam`: "full", "unqueried" (no second question) or "unguided"
    (the same question again).
    """

    visual: Literal["qformer", "linear", "mlp", "patches"]
    clip_image_size_px: Positive | None
    cem: bool
    cam: Literal["full", "unqueried", "unguided"]
    cam_layers: Annotated[list[NonNegative], EachOnce]

    @property
    def reads_eva_clip(self) -> bool:
        """Tell whether the images come from EVA-CLIP; otherwise from CLIP."""
        return self.visual in ("qformer", "patches")

    @model_validator(mode="after")
    def _has_what_it_reads(self) -> "VariantSection":
        if self.cam_layers and self.visual != "qformer":
            raise ValueError("a CAM queries a Q-Former; set visual: qformer, or cam_layers: []")
        if self.cem and (not self.cam_layers or self.cam == "unqueried"):
            raise ValueError(
                "only CAMs that ask the Q-Former read the CEM; set cam_layers, and cam to full or unguided; "
                "or cem: false"
            )
        return self


class ModelSection(Section):
    """Every dimension of CALICO and its baselines."""

    tokenizer: str
    vision_encoder: VisionEncoderSection
    semantic_encoder: SemanticEncoderSection
    clip: ClipSection
    qformer: QFormerSection
    language_model: LanguageModelSection
    grounding: GroundingSection
    cem: CemSection
    lora: LoraSection
    variants: dict[
        Annotated[VariantName, Field(pattern=f"^({'|'.join(get_args(ModelName))})$")], VariantSection
    ]

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelSection":
        width, prompt_width = self.vision_encoder.hidden_size, self.grounding.prompt_width
        if width % self.cem.num_heads:
            raise ValueError(
                f"vision_encoder.hidden_size {width} cannot be shared by {self.cem.num_heads} cem.num_heads"
            )
        # SAM's decoder halves its width in the attention between prompt and image.
        if prompt_width % (2 * self.grounding.decoder_heads):
            raise ValueError(
                f"half of grounding.prompt_width {prompt_width} cannot be shared by "
                f"{self.grounding.decoder_heads} grounding.decoder_heads"
            )
        for name, variant in self.variants.items():
            self.check_layers(f"variants.{name}", variant)
        return self

    def check_layers(self, name: str, variant: VariantSection) -> None:
        """Raise a ValueError if the language model lacks a layer that a variant adds a CAM to."""
        num_layers = self.language_model.num_layers
        if outside := [layer for layer in variant.cam_layers if layer >= num_layers]:
            raise ValueError(
                f"{name}.cam_layers has {outside}, but the language model has layers 0 to {num_layers - 1}"
            )
