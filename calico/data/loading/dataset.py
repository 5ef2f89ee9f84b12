"""Rows of training and evaluation: row i is sample i, whatever the process, the worker or the order.

A row is made when it is read: wording drawn from (seed, sample id), token ids in one pass, target masks in
the frame of the grounding view. Masks are decoded once and kept packed, eight pixels a byte.
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
from calico.core.images import read_image
from calico.core.masks import Rle, decode
from calico.core.pair_rows import PairTable
from calico.core.records import ImageRecord, PairSample, Phrase
from calico.core.tables import CaptionRecord
from calico.core.tokens import IMAGE_TOKEN_ID
from calico.data.loading.views import ViewSizes, frame_mask, make_views, resized_size, view_sizes
from calico.data.pairs.conversation import (
    CAPTION,
    choose_wording,
    render_answer,
    render_caption,
    render_prompt,
)
from calico.errors import AlignmentError, DataError
from calico.language_models.tokenizer import encode_example, tokens_per_image

_MAX_CACHED_MASKS = 1 << 15


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


class ImageFolder:
    """The images that samples name, and the views of them."""

    def __init__(self, images: Mapping[str, ImageRecord], sources_path: Path, sizes: ViewSizes) -> None:
        self._images = images
        self._sources_path = Path(sources_path)
        self.sizes = sizes

    @property
    def grounding_px(self) -> int:
        """Side of the grounding view."""
        return self.sizes.grounding_px

    def record(self, image_id: str) -> ImageRecord:
        """Return an image's record.

        Raises:
            DataError: no such image.
        """
        if image_id not in self._images:
            raise DataError(
                f"image '{image_id}' is in a sample but not in images.parquet. Run unify and pair again."
            )
        return self._images[image_id]

    def pixels(self, image_id: str) -> np.ndarray:
        """Decode an image to uint8 RGB of shape (height, width, 3).

        Raises:
            DataError: the file is damaged or has another size than when it was annotated.
        """
        record = self.record(image_id)
        image_HWC = read_image(self._sources_path / record.path)
        if image_HWC.shape[:2] != (record.height, record.width):
            raise DataError(
                f"{record.path}: the file has {image_HWC.shape[0]} x {image_HWC.shape[1]} pixels, its "
                f"annotation {record.height} x {record.width}. The image was changed; restore it."
            )
        return image_HWC

    def file_state(self, image_id: str) -> tuple[int, int]:
        """Return the size of an image file in bytes and the time of its last change in ns.

        Raises:
            DataError: there is no such file.
        """
        path = self._sources_path / self.record(image_id).path
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}). Run the stage acquire.") from error
        return status.st_size, status.st_mtime_ns

    def views(self, image_id: str) -> dict[str, Tensor]:
        """Return the views of an image, each of shape (3, side, side)."""
        return make_views(self.pixels(image_id), self.sizes)


class MaskFolder:
    """Target masks by instance id, in the frame of the grounding view."""

    def __init__(self, rles: Mapping[str, Rle], side_px: int) -> None:
        self._rles = rles
        self._side_px = side_px
        self._packed = lru_cache(_MAX_CACHED_MASKS)(self._pack)

    def frames(self, mask_ids: Sequence[str]) -> Tensor:
        """Return uint8 masks of shape (len(mask_ids), side, side).

        Raises:
            DataError: no such mask, or its run lengths are damaged.
        """
        side_px = self._side_px
        frames_MSS = torch.zeros(len(mask_ids), side_px, side_px, dtype=torch.uint8)
        for row, mask_id in enumerate(mask_ids):
            bits = np.unpackbits(self._packed(mask_id), count=side_px * side_px)
            frames_MSS[row] = torch.from_numpy(bits.reshape(side_px, side_px))
        return frames_MSS

    def _pack(self, mask_id: str) -> np.ndarray:
        if mask_id not in self._rles:
            raise DataError(
                f"mask '{mask_id}' is in a sample but not in the unified tables. Run unify and pair again."
            )
        return np.packbits(frame_mask(decode(self._rles[mask_id]), self._side_px))


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
    masks: MaskFolder
    encoding: TextEncoding
    with_views: bool

    def build(
        self,
        sample_id: str,
        image_ids: tuple[str, ...],
        prompt: str,
        answer: str,
        masks: Sequence[tuple[int, str]],
    ) -> Example:
        """Return the example of one sample.

        Args:
            masks: (image index, mask id) of each [SEG] of `answer`, in order.

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
            target_masks_MSS=self.masks.frames([mask_id for _, mask_id in masks]),
            mask_image_index=tuple(image_index for image_index, _ in masks),
        )


class PairDataset(Dataset[Example]):
    """Pair samples as examples.

    Attributes:
        samples: the rows, in order.
        images: where their images are.
    """

    def __init__(self, samples: Sequence[PairSample], builder: ExampleBuilder, *, seed: int | None) -> None:
        """Wrap samples.

        Args:
            seed: draws the wording of each row; None gives the wording of evaluation, question 0.
        """
        self.samples = samples
        self.images = builder.images
        self._builder = builder
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
        return self._builder.build(
            sample.pair_id,
            sample.image_ids,
            render_prompt(sample.task, len(sample.image_ids), question_index=question),
            render_answer(sample.task, phrases, opener_index=opener),
            [(target.image_index, target.part_id or target.object_id) for target in sample.targets],
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that the rows name, once, in order of first appearance."""
        if isinstance(self.samples, PairTable):
            return self.samples.image_ids()
        return tuple(dict.fromkeys(image_id for sample in self.samples for image_id in sample.image_ids))

    @property
    def num_targets(self) -> list[int]:
        """Number of targets of each row; does not read the rows of a file."""
        if isinstance(self.samples, PairTable):
            return self.samples.num_targets().tolist()
        return [len(sample.targets) for sample in self.samples]

    def with_samples(self, samples: Sequence[PairSample]) -> "PairDataset":
        """Return a dataset of other samples over the same images and masks (e.g. with images exchanged)."""
        return PairDataset(samples, self._builder, seed=self._seed)

    def without_views(self) -> "PairDataset":
        """Return the same rows for image features that come from a cache: no image is decoded."""
        return PairDataset(self.samples, replace(self._builder, with_views=False), seed=self._seed)


class CaptionDataset(Dataset[Example]):
    """Grounded captions of single images as examples, for alignment; attributes as `PairDataset`."""

    def __init__(
        self, samples: Sequence[CaptionRecord], builder: ExampleBuilder, *, seed: int | None
    ) -> None:
        self.samples = samples
        self.images = builder.images
        self._builder = builder
        self._seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Example:
        """Return row `index`; see `ExampleBuilder.build` for what it raises."""
        caption = self.samples[index]
        sample_id = _caption_id(caption, index)
        question, _ = (0, 0) if self._seed is None else choose_wording(CAPTION, sample_id, self._seed)
        spans = [(phrase.start, phrase.end) for phrase in caption.phrases]
        return self._builder.build(
            sample_id,
            (caption.image_id,),
            render_prompt(CAPTION, 1, question_index=question),
            render_caption(caption.text, spans),
            [(0, f"{sample_id}/{ordinal}") for ordinal in range(len(spans))],
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that the rows name, once, in order of first appearance."""
        return tuple(dict.fromkeys(caption.image_id for caption in self.samples))


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
    masks = MaskFolder(rles, mask_loss_px)
    images = _image_folder(unify_path, sources_path, view_sizes(model, variant))
    encoding = _text_encoding(tokenizer, model, variant)
    return PairDataset(samples, ExampleBuilder(images, masks, encoding, with_views), seed=seed)


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
    captions = tables.read_captions(unify_path / "captions.parquet")
    rles = {
        f"{_caption_id(caption, index)}/{ordinal}": phrase.rle
        for index, caption in enumerate(captions)
        for ordinal, phrase in enumerate(caption.phrases)
    }
    images = _image_folder(unify_path, sources_path, view_sizes(model, variant))
    encoding = _text_encoding(tokenizer, model, variant)
    builder = ExampleBuilder(images, MaskFolder(rles, mask_loss_px), encoding, with_views)
    return CaptionDataset(captions, builder, seed=seed)


def _image_folder(unify_path: Path, sources_path: Path, sizes: ViewSizes) -> ImageFolder:
    images = {image.image_id: image for image in tables.read_images(unify_path / "images.parquet")}
    return ImageFolder(images, sources_path, sizes)


def _text_encoding(
    tokenizer: PreTrainedTokenizerFast, model: ModelSection, variant: VariantName
) -> TextEncoding:
    return TextEncoding(tokenizer, tokens_per_image(model, variant), model.language_model.max_length)


def _caption_id(caption: CaptionRecord, index: int) -> str:
    """Return the id of row `index`; an image may have several captions."""
    return f"{caption.image_id}@{index}"
