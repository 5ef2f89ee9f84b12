"""Very small models with every box, and batches of random tokens for them."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch

from calico.config import ModelSection, load_config
from calico.core.records import Batch, ImageFeatures
from calico.core.tokens import IGNORE_LABEL_ID, IMAGE_TOKEN_ID
from calico.models.model import SegmentingModel, build_model

VOCABULARY, SEG_ID, EOS_ID, PAD_ID = 40, 7, 2, 0
FRAME_PX = 32


def small_section(**variant: object) -> ModelSection:
    """Return dimensions of a few units; `variant` changes values of the variant "calico"."""
    model: dict[str, Any] = copy.deepcopy(_tiny())
    encoder = {"hidden_size": 24, "num_layers": 2, "num_heads": 2, "image_size_px": 32, "patch_size_px": 16}
    model["vision_encoder"] |= encoder | {"intermediate_size": 48}
    model["semantic_encoder"] |= encoder | {"hidden_size": 16}
    model["clip"] |= {"hidden_size": 24, "intermediate_size": 48, "num_layers": 3, "num_heads": 2}
    model["clip"] |= {"trained_image_size_px": 48}
    model["qformer"] |= {"num_queries": 3, "hidden_size": 12, "intermediate_size": 24, "num_heads": 2}
    model["language_model"] |= {"hidden_size": 16, "intermediate_size": 32, "num_layers": 4, "num_heads": 2}
    model["grounding"] |= {"image_size_px": FRAME_PX, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    model["grounding"] |= {"global_layers": [0], "prompt_width": 16, "decoder_heads": 2, "decoder_mlp": 32}
    model["cem"] |= {"num_heads": 2}
    model["variants"]["calico"] |= {"cam_layers": [1, 3]} | variant
    model["variants"]["lisa"] |= {"clip_image_size_px": 32}
    model["variants"]["glamm"] |= {"clip_image_size_px": 48}
    return ModelSection.model_validate(model)


def small_model(
    variant: str = "calico", *, seed: int = 0, section: ModelSection | None = None
) -> SegmentingModel:
    """Build a small model in evaluation mode."""
    torch.manual_seed(seed)
    section = section or small_section()
    return build_model(section, variant, vocabulary_size=VOCABULARY, seg_id=SEG_ID, eos_id=EOS_ID).eval()


def randomise(model: SegmentingModel, *, std: float = 0.3, seed: int = 1) -> SegmentingModel:
    """Give every parameter, the zero-initialised ones too, a random value large enough to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return model


def small_features(model: SegmentingModel, num_images: int, *, seed: int = 2) -> ImageFeatures:
    """Encode random views."""
    generator = torch.Generator().manual_seed(seed)
    side = 48 if model.tokens_per_image == 9 else 32
    views = {
        "global": torch.randn(num_images, 3, side, side, generator=generator),
        "semantic": torch.randn(num_images, 3, 32, 32, generator=generator),
        "grounding": torch.randn(num_images, 3, FRAME_PX, FRAME_PX, generator=generator),
    }
    return model.encode_images(views)


def prompts(model: SegmentingModel, num_images: Sequence[int], *, seed: int = 3) -> list[list[int]]:
    """Return one prompt of random words and image places per pair; lengths differ."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for pair, count in enumerate(num_images):
        ids = [1]
        for _ in range(count):
            ids += [*_words(2, generator), *[IMAGE_TOKEN_ID] * model.tokens_per_image]
        rows.append(ids + _words(3 + pair, generator))
    return rows


def training_batch(
    model: SegmentingModel, num_images: Sequence[int] = (2, 1, 3), num_segs: Sequence[int] = (2, 1, 3)
) -> Batch:
    """Collate prompts and answers with padding at the right; mask k of a pair lies in its image k mod N."""
    generator = torch.Generator().manual_seed(4)
    prompt_rows = prompts(model, num_images)
    answers = [
        [word for _ in range(count) for word in (*_words(2, generator), SEG_ID)] + [EOS_ID]
        for count in num_segs
    ]
    length = max(len(prompt) + len(answer) for prompt, answer in zip(prompt_rows, answers, strict=True))
    ids = torch.full((len(answers), length), PAD_ID)
    labels = torch.full((len(answers), length), IGNORE_LABEL_ID)
    mask = torch.zeros((len(answers), length), dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompt_rows, answers, strict=True)):
        ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        mask[row, : len(prompt) + len(answer)] = True
    first = [sum(num_images[:pair]) for pair in range(len(num_images))]
    image_index = [
        first[pair] + number % num_images[pair]
        for pair, count in enumerate(num_segs)
        for number in range(count)
    ]
    side = 2 * FRAME_PX // 4
    return _batch(
        ids,
        mask,
        num_images,
        labels_BL=labels,
        prompt_last_B=torch.tensor([len(prompt) - 1 for prompt in prompt_rows]),
        target_masks_MSS=torch.randint(0, 2, (len(image_index), side, side), generator=generator).to(
            torch.uint8
        ),
        mask_image_index_M=torch.tensor(image_index, dtype=torch.long),
    )


def prompt_batch(rows: Sequence[Sequence[int]], num_images: Sequence[int]) -> Batch:
    """Collate prompts with padding at the left."""
    length = max(map(len, rows))
    ids = torch.tensor([[PAD_ID] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (length - len(row)) + [True] * len(row) for row in rows])
    return _batch(
        ids,
        mask,
        num_images,
        labels_BL=torch.full_like(ids, IGNORE_LABEL_ID),
        prompt_last_B=torch.full((len(rows),), length - 1),
    )


@functools.cache
def _tiny() -> dict[str, Any]:
    return load_config("tiny").model.model_dump()


def _batch(ids: torch.Tensor, mask: torch.Tensor, num_images: Sequence[int], **rest: torch.Tensor) -> Batch:
    total = sum(num_images)
    return Batch(
        input_ids_BL=ids,
        attention_mask_BL=mask,
        num_images_B=torch.tensor(num_images),
        image_ids=tuple(f"image{index}" for index in range(total)),
        original_size_I2=torch.full((total, 2), FRAME_PX),
        resized_size_I2=torch.full((total, 2), FRAME_PX),
        pair_ids=tuple(f"pair{index}" for index in range(len(num_images))),
        **rest,
    )


def _words(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(10, VOCABULARY, (count,), generator=generator).tolist()
