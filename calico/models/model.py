"""CALICO and its baselines, wired as in figures 3 and 4; every box has a file of its own."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from calico.config import ModelSection
from calico.core.records import Batch, ImageFeatures
from calico.errors import AlignmentError, ConfigError
from calico.language_models.llama import LlamaLanguageModel
from calico.language_models.protocol import Injection
from calico.language_models.tokenizer import tokens_per_image
from calico.models.adaptation import CorrespondenceAdaptation
from calico.models.correspondence import CorrespondenceExtraction
from calico.models.generation import Generated, Prompt, generate_greedily
from calico.models.grounding import build_grounding_encoder, encode_grounding
from calico.models.lora import add_lora
from calico.models.losses import Output
from calico.models.mask_decoder import (
    build_f_segmentation,
    build_mask_decoder,
    build_prompt_encoder,
    decode,
    unused_heads,
)
from calico.models.projection import build_f_image, build_linear_projector, build_mlp_projector
from calico.models.qformer import QFormer
from calico.models.semantic_encoder import build_semantic_encoder, encode_semantic
from calico.models.splice import Positions, locate, put_images
from calico.models.vision_encoder import build_clip, build_vision_encoder, encode_clip, encode_global

# The frozen components that only `encode_images` runs.
ENCODERS = ("vision_encoder", "clip", "semantic_encoder", "grounding_encoder")


class SegmentingModel(nn.Module):
    """A multi-image segmenting language model; the variant decides which boxes it has.

    The children carry the names of the checkpoint components: `vision_encoder` with `qformer` and `f_image`
    (CALICO) or `patch_projector` (without its Q-Former); `clip` with `linear_projector` (LISA) or
    `mlp_projector` (GLaMM); `semantic_encoder`, `cem`, `cams` where the variant has them; `language_model`,
    `f_segmentation`, `grounding_encoder`, `prompt_encoder`, `mask_decoder`.

    Attributes:
        variant: its section of the params.
        tokens_per_image: length of an image in the prompt.
    """

    def __init__(
        self, section: ModelSection, name: str, *, vocabulary_size: int, seg_id: int, eos_id: int
    ) -> None:
        super().__init__()
        self.variant = variant = section.variants[name]
        self.seg_id, self.eos_id = seg_id, eos_id
        self.tokens_per_image = tokens_per_image(section, name)
        hidden_size, grounding = section.language_model.hidden_size, section.grounding
        if variant.reads_eva_clip:
            self.vision_encoder = build_vision_encoder(section.vision_encoder)
        else:
            self.clip = build_clip(section.clip)
        if variant.visual == "qformer":
            self.qformer = QFormer(section.qformer, section.vision_encoder.hidden_size)
            self.f_image = build_f_image(section.qformer.hidden_size, hidden_size)
        if variant.visual == "patches":
            self.patch_projector = build_linear_projector(section.vision_encoder.hidden_size, hidden_size)
        if variant.visual == "linear":
            self.linear_projector = build_linear_projector(section.clip.hidden_size, hidden_size)
        if variant.visual == "mlp":
            self.mlp_projector = build_mlp_projector(section.clip.hidden_size, hidden_size)
        if variant.cem:
            self.semantic_encoder = build_semantic_encoder(section.semantic_encoder)
            self.cem = CorrespondenceExtraction(
                width=section.vision_encoder.hidden_size,
                semantic_width=section.semantic_encoder.hidden_size,
                num_heads=section.cem.num_heads,
            )
        if variant.cam_layers:
            self.cams = nn.ModuleDict(
                {
                    str(layer): CorrespondenceAdaptation(
                        hidden_size=hidden_size,
                        qformer_width=section.qformer.hidden_size,
                        kind=variant.cam,
                    )
                    for layer in variant.cam_layers
                }
            )
        self.language_model = LlamaLanguageModel(section.language_model, vocabulary_size)
        add_lora(self.language_model.stock, section.lora)
        self.f_segmentation = build_f_segmentation(hidden_size, grounding.prompt_width)
        self.grounding_encoder = build_grounding_encoder(grounding)
        self.prompt_encoder = build_prompt_encoder(grounding)
        self.mask_decoder = build_mask_decoder(grounding)

    @property
    def components(self) -> dict[str, nn.Module]:
        """The boxes by checkpoint name; the language model without this project's wrapper."""
        return {**dict(self.named_children()), "language_model": self.language_model.stock}

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.f_segmentation.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.f_segmentation.parameters()).dtype

    @torch.no_grad()
    def encode_images(self, views: Mapping[str, Tensor]) -> ImageFeatures:
        """Run the frozen encoders.

        Args:
            views: "global", "grounding" and, for a model with CEM, "semantic"; each (I, 3, H, W).
        """
        moved = {name: view.to(self.device, self.dtype) for name, view in views.items()}
        if self.variant.reads_eva_clip:
            global_IPF = encode_global(self.vision_encoder, moved["global"])
        else:
            global_IPF = encode_clip(self.clip, moved["global"])
        grounding_ICGG = encode_grounding(self.grounding_encoder, moved["grounding"])
        semantic_IPF = encode_semantic(self.semantic_encoder, moved["semantic"]) if self.variant.cem else None
        return ImageFeatures(global_IPF, grounding_ICGG, semantic_IPF)

    def forward(self, batch: Batch, features: ImageFeatures) -> Output:
        """Run one training batch, the answers given.

        Args:
            batch: right-padded; best left on the CPU, the model moves what it needs.
            features: of the batch's images, in order.

        Raises:
            AlignmentError: tokens, images, features and masks do not match one to one.
        """
        positions = self._locate(batch, features)
        features = features.to(self.device, self.dtype)
        prompt = self._read(batch, features, positions)
        hidden_BLD = self.language_model.run(prompt.embeddings_BLD, None, injections=prompt.injections)
        # The state of a token is the one that predicts it, one position earlier; for [SEG] too ([GLaMM]).
        states_TD = hidden_BLD[positions.state_row_T, positions.state_column_T]
        seg_states_MD = states_TD[positions.seg_M]
        image_index_M = batch.mask_image_index_M
        if image_index_M is None:
            image_index_M = positions.seg_M[:0]
            seg_states_MD = seg_states_MD[:0]
        mask_logits_MGG, iou_M = self.decode_masks(seg_states_MD, image_index_M, features)
        return Output(
            text_logits_TV=self.language_model.head(states_TD),
            text_labels_T=positions.label_T,
            mask_logits_MGG=mask_logits_MGG + self._touch_unused_heads(),
            iou_M=iou_M,
        )

    def generate(
        self, batch: Batch, features: ImageFeatures, *, max_new_tokens: int, use_cache: bool = True
    ) -> list[Generated]:
        """Answer B left-padded prompts greedily; see `generate_greedily`.

        Raises:
            AlignmentError: tokens, images and features do not match, or the prompts are not left-padded.
        """
        last = batch.input_ids_BL.shape[1] - 1
        if (batch.prompt_last_B != last).any():
            raise AlignmentError(
                f"prompts end at columns {batch.prompt_last_B.tolist()}, not all at the last one, {last}. "
                "Collate for generation with left padding."
            )
        positions = self._locate(batch, features)
        with torch.no_grad():
            prompt = self._read(batch, features.to(self.device, self.dtype), positions)
        return generate_greedily(
            self.language_model,
            prompt,
            seg_id=self.seg_id,
            eos_id=self.eos_id,
            max_new_tokens=max_new_tokens,
            use_cache=use_cache,
        )

    def decode_masks(
        self, seg_states_MD: Tensor, image_index_M: Tensor, features: ImageFeatures
    ) -> tuple[Tensor, Tensor]:
        """Turn [SEG] states into masks (eq. 3).

        Args:
            seg_states_MD: states that predicted [SEG].
            image_index_M: packed index of the image that each mask lies in.
            features: of the batch's images.

        Returns:
            Low-resolution logits (M, G, G) in the padded frame, and the predicted IoU (M,).
        """
        prompts_ME = self.f_segmentation(seg_states_MD.to(self.device, self.dtype))
        grounding_ICGG = features.grounding_ICGG.to(self.device, self.dtype)
        return decode(
            self.mask_decoder, self.prompt_encoder, prompts_ME, grounding_ICGG[image_index_M.to(self.device)]
        )

    def _locate(self, batch: Batch, features: ImageFeatures) -> Positions:
        num_images, num_features = int(batch.num_images_B.sum()), len(features.global_IPF)
        if num_images != num_features:
            raise AlignmentError(
                f"pairs {', '.join(batch.pair_ids)}: the batch has {num_images} images but features of "
                f"{num_features}. Pass the features of the batch's images, in order."
            )
        positions = locate(batch, tokens_per_image=self.tokens_per_image, seg_id=self.seg_id)
        return positions.to(self.device)

    def _read(self, batch: Batch, features: ImageFeatures, positions: Positions) -> Prompt:
        """Put the images into the text, and set up the CAMs."""
        ids_BL = batch.input_ids_BL.to(self.device).clamp(min=0)
        text_BLD = self.language_model.embed(ids_BL)
        return Prompt(
            embeddings_BLD=put_images(text_BLD, self._visual_tokens(features), positions),
            attention_mask_BL=batch.attention_mask_BL.to(self.device).bool(),
            injections=self._injections(features, positions),
        )

    def _visual_tokens(self, features: ImageFeatures) -> Tensor:
        """Return I^0, (I, Q, D): eq. 1 and 2, or projected patches."""
        if self.variant.visual == "qformer":
            return self.f_image(self.qformer(features.global_IPF))
        if self.variant.visual == "patches":
            return self.patch_projector(features.global_IPF[:, 1:])  # without the class token
        projector = self.linear_projector if self.variant.visual == "linear" else self.mlp_projector
        return projector(features.global_IPF)

    def _injections(self, features: ImageFeatures, positions: Positions) -> dict[int, Injection]:
        """Return the CAMs by layer; they read X'_global, the first pass X_global (eq. 2, 6, 8)."""
        if not self.variant.cam_layers:
            return {}
        image_IPF = features.global_IPF
        if self.variant.cem:
            if features.semantic_IPF is None:
                raise AlignmentError(
                    "the image features lack the semantic ones that the CEM reads; encode again."
                )
            image_IPF = self.cem(image_IPF, features.semantic_IPF)
        return {
            int(layer): partial(cam, image_IPF=image_IPF, qformer=self.qformer, positions=positions)
            for layer, cam in self.cams.items()
        }

    def _touch_unused_heads(self) -> Tensor:
        """Return zero, connected to the heads that no loss reaches.

        They count among the paper's 29.14 M trainable parameters; so data-parallel training finds a (zero)
        gradient for every trainable parameter.
        """
        return 0.0 * torch.stack([parameter.sum() for parameter in unused_heads(self.mask_decoder)]).sum()


def build_model(
    section: ModelSection, variant: str, *, vocabulary_size: int, seg_id: int, eos_id: int
) -> SegmentingModel:
    """Build a model with random weights; under `torch.device("meta")` without memory, in seconds.

    Args:
        section: dimensions.
        variant: "calico", "lisa" or "glamm".
        vocabulary_size: `len(tokenizer)`.
        seg_id, eos_id: ids of [SEG] and "</s>" in the tokenizer.

    Raises:
        ConfigError: the variant is unknown.
    """
    if variant not in section.variants:
        raise ConfigError(f"model.variants has no '{variant}'; choose one of {', '.join(section.variants)}.")
    return SegmentingModel(section, variant, vocabulary_size=vocabulary_size, seg_id=seg_id, eos_id=eos_id)
