"""A batch of pairs of given sizes, for counting operations and memory: no words, no pixels."""

import torch

from calico.core.records import Batch
from calico.core.tokens import IGNORE_LABEL_ID, IMAGE_TOKEN_ID
from calico.errors import ConfigError

NUM_IMAGES = 2
EOS_ID, SEG_ID, _WORD_ID = 0, 1, 2


def canonical_batch(
    tokens_per_image: int,
    *,
    num_text_tokens: int,
    num_seg_tokens: int,
    num_pairs: int = 1,
    mask_px: int | None = None,
) -> Batch:
    """Return equal pairs: two images, then half of the text as prompt and half as answer.

    The answer's [SEG] tokens are spread evenly and alternate between the images.

    Args:
        num_text_tokens: of a pair, [SEG] included, images not.
        mask_px: side of the target masks; None leaves them out.

    Raises:
        ConfigError: the answer is too short for its [SEG] tokens.
    """
    num_answer = num_text_tokens // 2
    num_prompt = num_text_tokens - num_answer
    if num_seg_tokens > num_answer:
        raise ConfigError(
            f"{num_seg_tokens} [SEG] tokens do not fit into the answer, half of {num_text_tokens} text "
            "tokens. Raise num_text_tokens."
        )
    answer = [_WORD_ID] * num_answer
    for ordinal in range(num_seg_tokens):
        answer[ordinal * num_answer // num_seg_tokens] = SEG_ID
    prompt = [IMAGE_TOKEN_ID] * (NUM_IMAGES * tokens_per_image) + [_WORD_ID] * num_prompt
    index_PM = (torch.arange(num_seg_tokens) * NUM_IMAGES // max(1, num_seg_tokens)).expand(num_pairs, -1)
    num_images = num_pairs * NUM_IMAGES
    return Batch(
        input_ids_BL=torch.tensor([prompt + answer]).repeat(num_pairs, 1),
        attention_mask_BL=torch.ones(num_pairs, len(prompt) + num_answer, dtype=torch.bool),
        labels_BL=torch.tensor([[IGNORE_LABEL_ID] * len(prompt) + answer]).repeat(num_pairs, 1),
        prompt_last_B=torch.full((num_pairs,), len(prompt) - 1),
        num_images_B=torch.full((num_pairs,), NUM_IMAGES),
        image_ids=tuple(f"image {index + 1}" for index in range(num_images)),
        original_size_I2=torch.ones(num_images, 2, dtype=torch.long),
        resized_size_I2=torch.ones(num_images, 2, dtype=torch.long),
        pair_ids=tuple(f"canonical {index + 1}" for index in range(num_pairs)),
        target_masks_MSS=None
        if mask_px is None
        else torch.zeros(num_pairs * num_seg_tokens, mask_px, mask_px, dtype=torch.uint8),
        mask_image_index_M=(index_PM + NUM_IMAGES * torch.arange(num_pairs)[:, None]).flatten(),
    )
