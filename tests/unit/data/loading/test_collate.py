"""calico.data.loading.collate: padding on the right side, images packed, and no batch out of step."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from calico.core.tokens import IGNORE_LABEL_ID
from calico.data.loading.collate import collate
from calico.data.loading.dataset import Example
from calico.errors import AlignmentError

PAD, SEG_ID = 0, 9


def example(
    name: str, *, num_prompt: int, answer: list[int], image_index: tuple[int, ...], num_images: int = 2
) -> Example:
    prompt = list(range(100, 100 + num_prompt))
    return Example(
        sample_id=name,
        input_ids=prompt + answer,
        labels=[IGNORE_LABEL_ID] * num_prompt + answer,
        prompt_last=num_prompt - 1,
        image_ids=tuple(f"{name}/{number}" for number in range(num_images)),
        original_sizes=((30, 40),) * num_images,
        resized_sizes=((96, 128),) * num_images,
        views=tuple({"global": torch.full((3, 2, 2), number)} for number in range(num_images)),
        target_masks_MSS=torch.ones(len(image_index), 4, 4, dtype=torch.uint8),
        mask_image_index=image_index,
    )


FIRST = example("x", num_prompt=3, answer=[5, 9, 9, 2], image_index=(1, 0))
SECOND = example("y", num_prompt=2, answer=[9, 2], image_index=(2,), num_images=3)
THIRD = example("z", num_prompt=4, answer=[9, 2], image_index=(0,), num_images=1)


def test_training_batch_is_padded_on_the_right() -> None:
    batch = collate([FIRST, SECOND], pad_id=PAD, seg_id=SEG_ID)
    assert batch.input_ids_BL.tolist() == [[100, 101, 102, 5, 9, 9, 2], [100, 101, 9, 2, 0, 0, 0]]
    assert batch.attention_mask_BL.tolist() == [[True] * 7, [True] * 4 + [False] * 3]
    ignored = IGNORE_LABEL_ID
    assert batch.labels_BL.tolist() == [[ignored] * 3 + [5, 9, 9, 2], [ignored] * 2 + [9, 2] + [ignored] * 3]
    assert batch.prompt_last_B.tolist() == [2, 1]
    assert batch.pair_ids == ("x", "y")


def test_generation_batch_holds_prompts_padded_on_the_left() -> None:
    batch = collate([FIRST, SECOND, THIRD], pad_id=PAD, seg_id=SEG_ID, left=True)
    assert batch.input_ids_BL.tolist() == [[0, 100, 101, 102], [0, 0, 100, 101], [100, 101, 102, 103]]
    assert batch.attention_mask_BL.tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [True] * 4,
    ]
    assert (batch.labels_BL == IGNORE_LABEL_ID).all()
    assert batch.prompt_last_B.tolist() == [3, 3, 3]
    assert batch.target_masks_MSS is None
    assert batch.mask_image_index_M is None


def test_images_are_packed_in_pair_order() -> None:
    batch = collate([FIRST, SECOND, THIRD], pad_id=PAD, seg_id=SEG_ID)
    assert batch.num_images_B.tolist() == [2, 3, 1]
    assert batch.image_ids == ("x/0", "x/1", "y/0", "y/1", "y/2", "z/0")
    assert batch.mask_image_index_M is not None
    assert batch.mask_image_index_M.tolist() == [1, 0, 2 + 2, 5]
    assert batch.target_masks_MSS is not None
    assert batch.target_masks_MSS.shape == (4, 4, 4)
    assert batch.views["global"].shape == (6, 3, 2, 2)
    assert batch.views["global"][:, 0, 0, 0].tolist() == [0, 1, 0, 1, 2, 0]
    assert batch.original_size_I2.tolist() == [[30, 40]] * 6
    assert batch.resized_size_I2.tolist() == [[96, 128]] * 6


def test_batch_without_views_and_without_masks() -> None:
    plain = replace(example("w", num_prompt=2, answer=[2], image_index=()), views=())
    batch = collate([plain], pad_id=PAD, seg_id=SEG_ID)
    assert batch.views == {}
    assert batch.mask_image_index_M is not None
    assert batch.mask_image_index_M.dtype == torch.long
    assert batch.target_masks_MSS is not None
    assert batch.target_masks_MSS.shape == (0, 4, 4)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"target_masks_MSS": torch.ones(1, 4, 4)},
            r"pair 'x': answer has 2 \[SEG\] tokens but 1 targets .* see calico/data/pairs/conversation\.py",
        ),
        ({"mask_image_index": (0, 1, 1)}, r"2 \[SEG\] tokens but 2 targets with 3 image indices"),
        ({"labels": [9] * 7}, r"answer has 7 \[SEG\] tokens but 2 targets"),
        ({"mask_image_index": (0, 2)}, r"targets lie in images \[0, 2\], but the pair has 2 images"),
        ({"mask_image_index": (0, -1)}, r"targets lie in images \[-1, 0\]"),
    ],
)
def test_tokens_and_masks_out_of_step_are_refused(changes: dict[str, Any], match: str, left: bool) -> None:
    with pytest.raises(AlignmentError, match=match):
        collate([SECOND, replace(FIRST, **changes)], pad_id=PAD, seg_id=SEG_ID, left=left)
