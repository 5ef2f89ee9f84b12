"""Where images, supervised tokens and [SEG] stand in a batch; put image features there.

Positions are found on the batch's own device (the CPU) and moved to the model's as index tensors: the model
never asks a GPU, or the meta device, how many there are.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from calico.core.records import Batch
from calico.core.tokens import IGNORE_LABEL_ID, IMAGE_TOKEN_ID
from calico.errors import AlignmentError


@dataclass(frozen=True)
class Positions:
    """Index tensors of one batch; T counts supervised tokens, K image tokens (I x tokens per image).

    Attributes:
        image_row_K, image_column_K: place of every image token, images in packed order.
        pair_I: pair of every packed image.
        pair_B: 0, 1, ... B - 1.
        prompt_last_B: column of the last prompt token.
        state_row_T, state_column_T: the state that predicts each supervised token, one column before it.
        label_T: the supervised tokens.
        seg_M: which of the T are [SEG].
    """

    image_row_K: Tensor
    image_column_K: Tensor
    pair_I: Tensor
    pair_B: Tensor
    prompt_last_B: Tensor
    state_row_T: Tensor
    state_column_T: Tensor
    label_T: Tensor
    seg_M: Tensor

    def to(self, device: torch.device) -> "Positions":
        """Move every tensor to `device`."""
        return Positions(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def locate(batch: Batch, *, tokens_per_image: int, seg_id: int) -> Positions:
    """Find the positions of a batch and check that tokens, images and masks match one to one.

    Raises:
        AlignmentError: a pair's image tokens are not its images times `tokens_per_image`, or its answer's
            [SEG] tokens are not as many as its target masks.
    """
    is_image_BL = batch.input_ids_BL == IMAGE_TOKEN_ID
    _check_images(batch, is_image_BL, tokens_per_image)
    image_row_K, image_column_K = is_image_BL.nonzero(as_tuple=True)
    row_T, column_T = (batch.labels_BL != IGNORE_LABEL_ID).nonzero(as_tuple=True)
    label_T = batch.labels_BL[row_T, column_T]
    pair_B = torch.arange(batch.input_ids_BL.shape[0], device=batch.input_ids_BL.device)
    pair_I = pair_B.repeat_interleave(batch.num_images_B)
    if batch.mask_image_index_M is not None:
        _check_masks(batch, row_T[label_T == seg_id], pair_I[batch.mask_image_index_M])
    return Positions(
        image_row_K=image_row_K,
        image_column_K=image_column_K,
        pair_I=pair_I,
        pair_B=pair_B,
        prompt_last_B=batch.prompt_last_B,
        state_row_T=row_T,
        state_column_T=column_T - 1,
        label_T=label_T,
        seg_M=(label_T == seg_id).nonzero(as_tuple=True)[0],
    )


def put_images(embeddings_BLD: Tensor, visual_IQD: Tensor, positions: Positions) -> Tensor:
    """Return the embeddings with the image features at the image positions."""
    return embeddings_BLD.index_put(
        (positions.image_row_K, positions.image_column_K), visual_IQD.flatten(0, 1).to(embeddings_BLD.dtype)
    )


def add_at_images(hidden_BLD: Tensor, delta_IQD: Tensor, positions: Positions) -> Tensor:
    """Return the states with `delta_IQD` added at the image positions."""
    return hidden_BLD.index_put(
        (positions.image_row_K, positions.image_column_K),
        delta_IQD.flatten(0, 1).to(hidden_BLD.dtype),
        accumulate=True,
    )


def _check_images(batch: Batch, is_image_BL: Tensor, tokens_per_image: int) -> None:
    found, images = is_image_BL.sum(dim=1).tolist(), batch.num_images_B.tolist()
    for pair_id, num_tokens, num_images in zip(batch.pair_ids, found, images, strict=True):
        if num_tokens != num_images * tokens_per_image:
            raise AlignmentError(
                f"pair '{pair_id}': the prompt has {num_tokens} image tokens, but {num_images} images of "
                f"{tokens_per_image} tokens need {num_images * tokens_per_image}. Encode the prompt for this "
                "model; see calico/language_models/tokenizer.py."
            )


def _check_masks(batch: Batch, seg_pair_M: Tensor, mask_pair_M: Tensor) -> None:
    num_pairs = len(batch.pair_ids)
    tokens = torch.bincount(seg_pair_M, minlength=num_pairs).tolist()
    masks = torch.bincount(mask_pair_M, minlength=num_pairs).tolist()
    for pair_id, num_tokens, num_masks in zip(batch.pair_ids, tokens, masks, strict=True):
        if num_tokens != num_masks:
            raise AlignmentError(
                f"pair '{pair_id}': answer has {num_tokens} [SEG] tokens but {num_masks} target masks. "
                "Each target needs exactly one [SEG], in order; see calico/data/pairs/conversation.py."
            )
    if (mask_pair_M.diff() < 0).any():
        raise AlignmentError(f"pairs {batch.pair_ids}: target masks are not in the order of the pairs.")
