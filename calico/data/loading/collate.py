"""From examples to a batch: padding, packing, and the check that tokens and masks belong together."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from calico.core.records import Batch
from calico.core.tokens import IGNORE_LABEL_ID
from calico.data.loading.dataset import Example
from calico.errors import AlignmentError


def collate(examples: Sequence[Example], *, pad_id: int, seg_id: int, left: bool = False) -> Batch:
    """Collate examples into a batch.

    Args:
        examples: at least one; either all with views or all without.
        pad_id: token id for padding; masked out of attention and labels.
        seg_id: token id of [SEG].
        left: True to generate: prompts only, padded on the left, no labels and no target masks.

    Raises:
        AlignmentError: an answer has another number of [SEG] tokens than targets, or a mask lies in no image.
    """
    for example in examples:
        _check(example, seg_id)
    ids = [_ids(example.input_ids, example, left) for example in examples]
    labels = [
        torch.full_like(row, IGNORE_LABEL_ID) if left else torch.tensor(example.labels)
        for row, example in zip(ids, examples, strict=True)
    ]
    attention = [torch.ones_like(row, dtype=torch.bool) for row in ids]
    num_images = [len(example.image_ids) for example in examples]
    prompt_last_B = torch.tensor([example.prompt_last for example in examples])
    if left:
        prompt_last_B = torch.full_like(prompt_last_B, max(map(len, ids)) - 1)
    return Batch(
        input_ids_BL=_pad(ids, pad_id, left),
        attention_mask_BL=_pad(attention, False, left),
        labels_BL=_pad(labels, IGNORE_LABEL_ID, left),
        prompt_last_B=prompt_last_B,
        num_images_B=torch.tensor(num_images),
        image_ids=tuple(image_id for example in examples for image_id in example.image_ids),
        original_size_I2=torch.tensor([size for example in examples for size in example.original_sizes]),
        resized_size_I2=torch.tensor([size for example in examples for size in example.resized_sizes]),
        pair_ids=tuple(example.sample_id for example in examples),
        views=_stack_views(examples),
        target_masks_MSS=None if left else torch.cat([example.target_masks_MSS for example in examples]),
        mask_image_index_M=None if left else _packed_image_index(examples, num_images),
    )


def _check(example: Example, seg_id: int) -> None:
    num_seg, num_targets = example.labels.count(seg_id), len(example.target_masks_MSS)
    if num_seg != num_targets or num_targets != len(example.mask_image_index):
        raise AlignmentError(
            f"pair '{example.sample_id}': answer has {num_seg} [SEG] tokens but {num_targets} targets with "
            f"{len(example.mask_image_index)} image indices. Each target needs exactly one [SEG], in order; "
            "see calico/data/pairs/conversation.py."
        )
    if any(not 0 <= index < len(example.image_ids) for index in example.mask_image_index):
        raise AlignmentError(
            f"pair '{example.sample_id}': targets lie in images {sorted(set(example.mask_image_index))}, "
            f"but the pair has {len(example.image_ids)} images."
        )


def _ids(ids: list[int], example: Example, prompt_only: bool) -> Tensor:
    return torch.tensor(ids[: example.prompt_last + 1] if prompt_only else ids)


def _pad(rows: Sequence[Tensor], value: float, left: bool) -> Tensor:
    side = "left" if left else "right"
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side=side)


def _stack_views(examples: Sequence[Example]) -> dict[str, Tensor]:
    views = [view for example in examples for view in example.views]
    if not views:
        return {}
    return {name: torch.stack([view[name] for view in views]) for name in views[0]}


def _packed_image_index(examples: Sequence[Example], num_images: Sequence[int]) -> Tensor:
    offsets = torch.tensor([0, *num_images[:-1]]).cumsum(0).tolist()
    return torch.tensor(
        [
            offset + index
            for offset, example in zip(offsets, examples, strict=True)
            for index in example.mask_image_index
        ],
        dtype=torch.long,
    )
