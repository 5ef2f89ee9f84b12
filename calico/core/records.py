"""The nouns: what one stage hands to the next.

torch is only named here, not imported: it takes two seconds and half a gigabyte, and half of the stages do
without.

Shape letters (house legend): B pairs, N images per pair, I images packed over the pairs of a batch, C H W
channels and pixels, P patches, Q query tokens, L tokens, D LLM width, F encoder width, M masks = [SEG] tokens
packed over pairs, G low-resolution mask side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from calico.core.masks import Rle

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class ImageRecord:
    """One image of a source.

    Attributes:
        image_id: "<source>/<id in the source>", unique over sources.
        path: file, relative to the folder that the unify stage names in its manifest.
        split: "train", "val" or "test".
    """

    image_id: str
    source: str
    path: str
    height: int
    width: int
    split: str


@dataclass(frozen=True)
class ObjectInstance:
    """One object of an image; `object_id` is "<image_id>#<number>"."""

    object_id: str
    image_id: str
    category: str
    rle: Rle


@dataclass(frozen=True)
class PartInstance:
    """One part of an object; parts of one name of one object are one instance.

    `category` is the bare part name.
    """

    part_id: str
    object_id: str
    image_id: str
    category: str
    rle: Rle


def part_label(object_category: str, part_category: str) -> str:
    """Return the label of a part target, e.g. "dog's head" (paper, figure 6)."""
    return f"{object_category}'s {part_category}"


@dataclass(frozen=True)
class Target:
    """One mask that an answer must contain.

    Attributes:
        image_index: 0-based position of the image in the pair.
        label: "dog" for an object, "dog's head" for a part.
        part_id: None for an object target.
    """

    image_index: int
    label: str
    object_id: str
    part_id: str | None


@dataclass(frozen=True)
class PairSample:
    """One sample: images, a task and the ordered targets; ids, never masks."""

    pair_id: str
    task: str
    source: str
    image_ids: tuple[str, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class CaptionPhrase:
    """A grounded phrase of a caption.

    Attributes:
        start, end: the phrase is `text[start:end]` of its caption.
        label: the words of the phrase.
        rle: everything that the phrase names, as one mask.
    """

    start: int
    end: int
    label: str
    rle: Rle


@dataclass(frozen=True)
class CaptionRecord:
    """A plain caption of an image with its grounded phrases, in the order of the text and without overlap."""

    image_id: str
    text: str
    phrases: tuple[CaptionPhrase, ...]


@dataclass(frozen=True)
class Phrase:
    """A grounded noun phrase of an answer: label without article, and the image that its mask lies in."""

    label: str
    image_index: int


@dataclass(frozen=True)
class PredictedMask:
    """One predicted mask with its label; `score` in [0, 1]; size is the original image's."""

    pair_id: str
    task: str
    image_index: int
    label: str
    rle: Rle
    score: float


@dataclass(frozen=True)
class Answer:
    """The text that a model generated for one pair.

    Attributes:
        num_malformed: how many of its phrases could not be used.
        faults: what is wrong with the text as (reason, count), sorted; see `calico.data.pairs.conversation`.
    """

    pair_id: str
    task: str
    text: str
    num_malformed: int
    faults: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ImageFeatures:
    """What the frozen encoders say of I images; computed once per image, reused over pairs and tasks.

    Attributes:
        global_IPF: tokens of the vision encoder that feeds the LLM (EVA-CLIP after its LayerNorm, with the
            class token; CLIP patch tokens for LISA and GLaMM).
        grounding_ICGG: SAM image embedding; here G is the side of SAM's feature map.
        semantic_IPF: DINOv2 patch features; None for a model without CEM.
    """

    global_IPF: Tensor
    grounding_ICGG: Tensor
    semantic_IPF: Tensor | None = None

    def rows(self, index_I: Tensor) -> ImageFeatures:
        """Return the features of the chosen images, in that order."""
        semantic_IPF = None if self.semantic_IPF is None else self.semantic_IPF[index_I]
        return ImageFeatures(self.global_IPF[index_I], self.grounding_ICGG[index_I], semantic_IPF)

    @staticmethod
    def join(parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Return the features of several groups of images as one group, in that order."""
        from torch import cat

        semantic = [part.semantic_IPF for part in parts if part.semantic_IPF is not None]
        return ImageFeatures(
            global_IPF=cat([part.global_IPF for part in parts]),
            grounding_ICGG=cat([part.grounding_ICGG for part in parts]),
            semantic_IPF=cat(semantic) if semantic else None,
        )

    def to(self, *args: object) -> ImageFeatures:
        """Move or cast every tensor, as `Tensor.to`."""
        semantic_IPF = None if self.semantic_IPF is None else self.semantic_IPF.to(*args)  # type: ignore[call-overload]
        return ImageFeatures(
            self.global_IPF.to(*args),  # type: ignore[call-overload]
            self.grounding_ICGG.to(*args),  # type: ignore[call-overload]
            semantic_IPF,
        )


@dataclass(frozen=True)
class Batch:
    """B pairs, ready for a model. Images are packed: I = sum of the pairs' image counts, in pair order.

    Attributes:
        input_ids_BL: token ids; `IMAGE_TOKEN_ID` once per visual token; right-padded (training) or
            left-padded (generation).
        attention_mask_BL: True where a token is not padding.
        labels_BL: ids to predict, `IGNORE_LABEL_ID` elsewhere; all ignored when generating.
        prompt_last_B: position of the last prompt token (the ":" of "ASSISTANT:"), the CAM's t (eq. 7).
        num_images_B: images of each pair.
        image_ids: I ids, for the feature cache and for messages.
        views: preprocessed images by view name ("global", "semantic", "grounding"), each I x 3 x H x W; empty
            when the features come from a cache.
        original_size_I2: (height, width) of each image file.
        resized_size_I2: (height, width) of each image inside the grounding view, before padding.
        target_masks_MSS: true masks in the frame of the grounding view, side S = mask_loss_px, in the order
            of the answers' [SEG] tokens; None when generating.
        mask_image_index_M: packed image index of each target mask; None when generating.
        pair_ids: B ids, for messages.
    """

    input_ids_BL: Tensor
    attention_mask_BL: Tensor
    labels_BL: Tensor
    prompt_last_B: Tensor
    num_images_B: Tensor
    image_ids: tuple[str, ...]
    original_size_I2: Tensor
    resized_size_I2: Tensor
    pair_ids: tuple[str, ...]
    views: dict[str, Tensor] = field(default_factory=dict)
    target_masks_MSS: Tensor | None = None
    mask_image_index_M: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to `device`."""
        from torch import Tensor

        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, views={name: view.to(device) for name, view in self.views.items()}, **moved)
