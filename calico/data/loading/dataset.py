"""Rows of training and evaluation: row i is sample i, whatever the process, the worker or the order.

A row is made when it is read: wording drawn from (seed, sample id), token ids in one pass, target masks in
the frame of the grounding view. Masks of pairs are decoded once and kept packed, eight pixels a byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from calico.config import ModelSection, VariantName
from calico.core import tables
from calico.core.caption_rows import CaptionTable
from calico.core.masks import Rle, decode
from calico.core.pair_rows import PairTable
from calico.core.records import PairSample, Phrase
from calico.core.tokens import IMAGE_TOKEN_ID
from calico.data.loading.image_folder import ImageFolder, open_image_folder
from calico.data.loading.views import frame_mask, resized_size, view_sizes
from calico.data.pairs.conversation import (
    CAPTION,
    choose_wording,
    render_answer,
    render_caption,
    render_prompt,
)
from calico.errors import AlignmentError, DataError
from calico.language_models.tokenizer import encode_example, tokens_per_image

_NUM_KEPT_MASKS = 1 << 15


@dataclass(frozen=True)
class Example:
    """One sample, ready to be collated. M targets, side S = `mask_loss_px`.

    Attributes:
        sample_id: pair id, or "<image id>@<row>" of a caption.
        input_ids, labels: prompt and answer, of one length; see `calico.language_models.tokenizer`.
        prompt_last: position of the last prompt token.
        original_sizes, resized_sizes: (height, width) of each image file and of it inside the grounding view.
        views: one dictionary of views per image; empty when the features come from a cache.
        target_masks_MSS: uint8, in the order of the answer's [SEG] tokens.
        mask_image_index: image of each target mask, 0-based in the sample.
    """

    sample_id: str
    input_ids: list[int]
    labels: list[int]
    prompt_last: int
    image_ids: tuple[str, ...]
    original_sizes: tuple[tuple[int, int], ...]
    resized_sizes: tuple[tuple[int, int], ...]
    views: tuple[dict[str, Tensor], ...]
    target_masks_MSS: Tensor
    mask_image_index: tuple[int, ...]


@dataclass(frozen=True)
class TextEncoding:
    """How words become ids: the tokenizer, the visual tokens of an image, and the longest sample allowed."""

    tokenizer: PreTrainedTokenizerFast
    tokens_per_image: int
    max_length: int

    def encode(self, sample_id: str, prompt: str, answer: str) -> tuple[list[int], list[int], int]:
        """Return ids, labels and the position of the last prompt token.

        Raises:
            AlignmentError: more tokens than the model takes; nothing is ever cut off silently.
        """
        ids, labels, prompt_last = encode_example(self.tokenizer, prompt, answer, self.tokens_per_image)
        if len(ids) > self.max_length:
            raise AlignmentError(
                f"sample '{sample_id}': {len(ids)} tokens, but model.language_model.max_length is "
                f"{self.max_length}. Raise it, or lower pair.max_targets."
            )
        return ids, labels, prompt_last


class MaskFrames:
    """Target masks in the frame of the grounding view."""

    def __init__(self, side_px: int, *, num_kept: int) -> None:
        """Prepare.

        Args:
            side_px: of the frame.
            num_kept: masks drawn last that are kept, to be drawn again without work.
        """
        self._side_px = side_px
        self._packed = lru_cache(num_kept)(self._pack)

    def __call__(self, rles: Sequence[Rle]) -> Tensor:
        """Return uint8 masks of shape (len(rles), side, side).

        Raises:
            DataError: run lengths are damaged.
        """
        side_px = self._side_px
        frames_MSS = torch.zeros(len(rles), side_px, side_px, dtype=torch.uint8)
        for row, rle in enumerate(rles):
            bits = np.unpackbits(self._packed(rle), count=side_px * side_px)
            frames_MSS[row] = torch.from_numpy(bits.reshape(side_px, side_px))
        return frames_MSS

    def _pack(self, rle: Rle) -> np.ndarray:
        return np.packbits(frame_mask(decode(rle), self._side_px))


class SampleDataset(Protocol):
    """What the loops need of a dataset besides its rows."""

    images: ImageFolder

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that the rows name, once, in order of first appearance."""
        ...


@dataclass(frozen=True)
class ExampleBuilder:
    """Puts words, ids, images and masks of one sample together."""

    images: ImageFolder
    frames: MaskFrames
    encoding: TextEncoding
    with_views: bool

    def build(
        self,
        sample_id: str,
        image_ids: tuple[str, ...],
        prompt: str,
        answer: str,
        masks: Sequence[tuple[int, Rle]],
    ) -> Example:
        """Return the example of one sample.

        Args:
            masks: (image index, mask) of each [SEG] of `answer`, in order.

        Raises:
            AlignmentError: too many tokens, or not one place for each visual token.
            DataError: an image or a mask is missing or damaged.
        """
        ids, labels, prompt_last = self.encoding.encode(sample_id, prompt, answer)
        num_visual, num_expected = ids.count(IMAGE_TOKEN_ID), len(image_ids) * self.encoding.tokens_per_image
        if num_visual != num_expected:
            raise AlignmentError(
                f"sample '{sample_id}': the prompt has {num_visual} places for visual tokens, but "
                f"{len(image_ids)} images need {num_expected}; see calico/data/pairs/conversation.py."
            )
        sizes = tuple((record.height, record.width) for record in map(self.images.record, image_ids))
        return Example(
            sample_id=sample_id,
            input_ids=ids,
            labels=labels,
            prompt_last=prompt_last,
            image_ids=image_ids,
            original_sizes=sizes,
            resized_sizes=tuple(resized_size(*size, self.images.grounding_px) for size in sizes),
            views=tuple(map(self.images.views, image_ids)) if self.with_views else (),
            target_masks_MSS=self.frames([rle for _, rle in masks]),
            mask_image_index=tuple(image_index for image_index, _ in masks),
        )


class PairDataset(Dataset[Example]):
    """Pair samples as examples.

    Attributes:
        samples: the rows, in order.
        images: where their images are.
    """

    def __init__(
        self,
        samples: Sequence[PairSample],
        builder: ExampleBuilder,
        rles: Mapping[str, Rle],
        *,
        seed: int | None,
    ) -> None:
        """Wrap samples.

        Args:
            rles: masks by the id of an object or a part.
            seed: draws the wording of each row; None gives the wording of evaluation, question 0.
        """
        self.samples = samples
        self.images = builder.images
        self._builder = builder
        self._rles = rles
        self._seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Example:
        """Return row `index`; see `ExampleBuilder.build` for what it raises."""
        sample = self.samples[index]
        question, opener = (
            (0, 0) if self._seed is None else choose_wording(sample.task, sample.pair_id, self._seed)
        )
        phrases = [Phrase(target.label, target.image_index) for target in sample.targets]
        rles = [self._rle(target.part_id or target.object_id) for target in sample.targets]
        return self._builder.build(
            sample.pair_id,
            sample.image_ids,
            render_prompt(sample.task, len(sample.image_ids), question_index=question),
            render_answer(sample.task, phrases, opener_index=opener),
            [(phrase.image_index, rle) for phrase, rle in zip(phrases, rles, strict=True)],
        )

    def _rle(self, mask_id: str) -> Rle:
        if mask_id not in self._rles:
            raise DataError(
                f"mask '{mask_id}' is in a sample but not in the unified tables. Run unify and pair again."
            )
        return self._rles[mask_id]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that the rows name, once, in order of first appearance."""
        if isinstance(self.samples, PairTable):
            return self.samples.image_ids()
        return tuple(dict.fromkeys(image_id for sample in self.samples for image_id in sample.image_ids))

    @property
    def num_targets(self) -> np.ndarray:
        """Number of targets of each row; does not read the rows of a file."""
        if isinstance(self.samples, PairTable):
            return self.samples.num_targets()
        return np.array([len(sample.targets) for sample in self.samples])

    def with_samples(self, samples: Sequence[PairSample]) -> "PairDataset":
        """Return a dataset of other samples over the same images and masks (e.g. with images exchanged)."""
        return PairDataset(samples, self._builder, self._rles, seed=self._seed)

    def without_views(self) -> "PairDataset":
        """Return the same rows for image features that come from a cache: no image is decoded."""
        return PairDataset(
            self.samples, replace(self._builder, with_views=False), self._rles, seed=self._seed
        )


class CaptionDataset(Dataset[Example]):
    """Grounded captions of single images as examples, for alignment; attributes as `PairDataset`."""

    def __init__(self, samples: CaptionTable, builder: ExampleBuilder, *, seed: int | None) -> None:
        self.samples = samples
        self.images = builder.images
        self._builder = builder
        self._seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Example:
        """Return row `index`; see `ExampleBuilder.build` for what it raises."""
        caption = self.samples[index]
        sample_id = f"{caption.image_id}@{index}"  # an image may have several captions
        question, _ = (0, 0) if self._seed is None else choose_wording(CAPTION, sample_id, self._seed)
        spans = [(phrase.start, phrase.end) for phrase in caption.phrases]
        return self._builder.build(
            sample_id,
            (caption.image_id,),
            render_prompt(CAPTION, 1, question_index=question),
            render_caption(caption.text, spans),
            [(0, phrase.rle) for phrase in caption.phrases],
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that the rows name, once, in order of first appearance."""
        return self.samples.image_ids()

    @property
    def text_lengths(self) -> np.ndarray:
        """Number of characters of each row's text."""
        return self.samples.text_lengths()


def build_pair_dataset(  # noqa: PLR0913 - where, what and for which model: one call says it all
    unify_path: Path,
    sources_path: Path,
    pairs_path: Path,
    *,
    tokenizer: PreTrainedTokenizerFast,
    model: ModelSection,
    variant: VariantName,
    mask_loss_px: int,
    seed: int | None,
    with_views: bool = True,
) -> PairDataset:
    """Open the pairs of one split.

    Args:
        unify_path: folder of the unify stage.
        sources_path: folder that image paths are relative to.
        pairs_path: a folder `pair/rows/<split>` of the pair stage.
        mask_loss_px: side of the target masks.
        seed: of the wording; None for evaluation.
        with_views: False when image features come from a cache; then no image is decoded.
    """
    samples = PairTable(pairs_path)
    objects = tables.read_objects(unify_path / "objects.parquet")
    parts = tables.read_parts(unify_path / "parts.parquet")
    rles = {one.object_id: one.rle for one in objects} | {part.part_id: part.rle for part in parts}
    images = open_image_folder(unify_path, sources_path, view_sizes(model, variant))
    encoding = _text_encoding(tokenizer, model, variant)
    builder = ExampleBuilder(images, MaskFrames(mask_loss_px, num_kept=_NUM_KEPT_MASKS), encoding, with_views)
    return PairDataset(samples, builder, rles, seed=seed)


def build_caption_dataset(  # noqa: PLR0913 - as build_pair_dataset
    unify_path: Path,
    sources_path: Path,
    *,
    tokenizer: PreTrainedTokenizerFast,
    model: ModelSection,
    variant: VariantName,
    mask_loss_px: int,
    seed: int | None,
    with_views: bool = True,
) -> CaptionDataset:
    """Open the grounded captions; arguments as `build_pair_dataset`."""
    captions = CaptionTable(unify_path / "rows" / "captions")
    images = open_image_folder(unify_path, sources_path, view_sizes(model, variant))
    encoding = _text_encoding(tokenizer, model, variant)
    # A caption is drawn once a pass: its masks would only fill memory.
    builder = ExampleBuilder(images, MaskFrames(mask_loss_px, num_kept=0), encoding, with_views)
    return CaptionDataset(captions, builder, seed=seed)


def _text_encoding(
    tokenizer: PreTrainedTokenizerFast, model: ModelSection, variant: VariantName
) -> TextEncoding:
    return TextEncoding(tokenizer, tokens_per_image(model, variant), model.language_model.max_length)
