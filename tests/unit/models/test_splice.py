"""Positions of a hand-written batch."""

import torch

from calico.core.records import Batch
from calico.core.tokens import IGNORE_LABEL_ID, IMAGE_TOKEN_ID
from calico.models.splice import add_at_images, locate, put_images

SEG_ID = 7


def test_positions_by_hand() -> None:
    positions = locate(_batch(), tokens_per_image=2, seg_id=SEG_ID)
    assert positions.image_row_K.tolist() == [0, 0, 1, 1, 1, 1]
    assert positions.image_column_K.tolist() == [1, 2, 1, 2, 4, 5]
    assert positions.pair_I.tolist() == [0, 1, 1]
    assert positions.label_T.tolist() == [11, SEG_ID, 2, SEG_ID, 2]
    assert positions.state_row_T.tolist() == [0, 0, 0, 1, 1]
    assert positions.state_column_T.tolist() == [3, 4, 5, 6, 7]
    assert positions.seg_M.tolist() == [1, 3]
    assert positions.prompt_last_B.tolist() == [3, 6]


def test_images_are_put_and_added_at_their_places_only() -> None:
    positions = locate(_batch(), tokens_per_image=2, seg_id=SEG_ID)
    text, visual = torch.zeros(2, 9, 1), torch.arange(1.0, 7.0).reshape(3, 2, 1)
    expected = [[0, 1, 2, 0, 0, 0, 0, 0, 0], [0, 3, 4, 0, 5, 6, 0, 0, 0]]
    assert put_images(text + 9, visual, positions)[..., 0].tolist() == [
        [value or 9 for value in row] for row in expected
    ]
    assert add_at_images(text + 9, visual, positions)[..., 0].tolist() == [
        [value + 9 for value in row] for row in expected
    ]
    assert not text.any()


def test_gradients_reach_image_features() -> None:
    positions = locate(_batch(), tokens_per_image=2, seg_id=SEG_ID)
    visual = torch.ones(3, 2, 1, requires_grad=True)
    weights = torch.arange(18.0).reshape(2, 9, 1)
    (weights * put_images(torch.zeros(2, 9, 1), visual, positions)).sum().backward()
    assert visual.grad.flatten().tolist() == [1, 2, 10, 11, 13, 14]


def _batch() -> Batch:
    image, ignore = IMAGE_TOKEN_ID, IGNORE_LABEL_ID
    ids = [[1, image, image, 10, 11, SEG_ID, 2, 0, 0], [1, image, image, 10, image, image, 12, SEG_ID, 2]]
    labels = [[ignore] * 4 + [11, SEG_ID, 2] + [ignore] * 2, [ignore] * 7 + [SEG_ID, 2]]
    sizes = torch.full((3, 2), 8)
    return Batch(
        input_ids_BL=torch.tensor(ids),
        attention_mask_BL=torch.tensor(ids) != 0,
        labels_BL=torch.tensor(labels),
        prompt_last_B=torch.tensor([3, 6]),
        num_images_B=torch.tensor([1, 2]),
        image_ids=("a", "b", "c"),
        original_size_I2=sizes,
        resized_size_I2=sizes,
        pair_ids=("first", "second"),
        mask_image_index_M=torch.tensor([0, 2]),
    )
