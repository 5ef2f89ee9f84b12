"""Lessons as batches, and how well a model answers them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from calico.core.records import Batch
from calico.data.loading.collate import collate
from calico.data.pairs.conversation import parse_answer
from calico.language_models.tokenizer import decode_answer, encode_example
from calico.models.model import SegmentingModel
from calico.standins.features import SceneFeatures
from calico.standins.lessons import LESSON_SHARES, Lesson, SceneIndex, draw_lesson, to_example
from calico.standins.prompts import mask_iou

_SIZE_PX = 128
_MAX_NEW_TOKENS = 112


@dataclass(frozen=True)
class Classroom:
    """Scenes with their objects and their features."""

    index: SceneIndex
    features: SceneFeatures


def to_batch(
    lessons: list[Lesson],
    index: SceneIndex,
    model: SegmentingModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    left: bool = False,
) -> Batch:
    """Collate lessons for a model; `left` pads prompts for generation."""
    encode = partial(encode_example, tokenizer, tokens_per_image=model.tokens_per_image)
    examples = [to_example(lesson, index, encode, _SIZE_PX) for lesson in lessons]
    return collate(examples, pad_id=tokenizer.pad_token_id, seg_id=model.seg_id, left=left)


@torch.no_grad()
def lesson_figures(
    model: SegmentingModel,
    variant: str,
    tokenizer: PreTrainedTokenizerFast,
    room: Classroom,
    *,
    num_lessons: int,
    seed: int,
    max_new_tokens: int = _MAX_NEW_TOKENS,
) -> dict[str, float]:
    """Let the model answer lessons and compare.

    Returns:
        Of each lesson: `exact`, the share of answers with exactly the true (image, label) pairs;
        `label_recall`; `mask_iou`, the mean over masks whose label is right; `recall_50`, the share of true
        masks found with the right label and IoU of at least 0.5.
    """
    figures: dict[str, float] = {}
    for name in LESSON_SHARES:
        rng = np.random.default_rng([seed, 4])
        lessons = [draw_lesson(name, room.index, rng) for _ in range(num_lessons)]
        counts = np.zeros(5)
        for start in range(0, num_lessons, 30):
            counts += _score(model, variant, tokenizer, room, lessons[start : start + 30], max_new_tokens)
        exact, named, wanted, iou, found = counts
        figures |= {
            f"{name}/exact": exact / num_lessons,
            f"{name}/label_recall": named / wanted,
            f"{name}/mask_iou": iou / max(named, 1.0),
            f"{name}/recall_50": found / wanted,
        }
    return figures


def _score(
    model: SegmentingModel,
    variant: str,
    tokenizer: PreTrainedTokenizerFast,
    room: Classroom,
    lessons: list[Lesson],
    max_new_tokens: int,
) -> np.ndarray:
    """Return exact answers, right labels, true labels, summed IoU of right labels, and masks found."""
    batch = to_batch(lessons, room.index, model, tokenizer, left=True)
    features = room.features.of(variant, [scene for lesson in lessons for scene in lesson.scenes])
    answers = model.generate(batch, features, max_new_tokens=max_new_tokens)
    counts, first_image = np.zeros(5), 0
    for lesson, answer in zip(lessons, answers, strict=True):
        num_images = len(lesson.scenes)
        parsed = parse_answer(decode_answer(tokenizer, answer.ids), num_images)
        true = parse_answer(lesson.answer, num_images).phrases
        predicted = {(phrase.label, phrase.image_index): ordinal for phrase, ordinal in parsed.phrases}
        wanted = {(phrase.label, phrase.image_index): ordinal for phrase, ordinal in true}
        matched = [(predicted[key], wanted[key]) for key in wanted if key in predicted]
        counts[:3] += [predicted.keys() == wanted.keys(), len(matched), len(wanted)]
        if matched:
            images = torch.tensor([first_image + lesson.mask_ids[place][0] for _, place in matched])
            states_MD = answer.seg_states_MD[torch.tensor([ordinal for ordinal, _ in matched])]
            logits_MGG, _ = model.decode_masks(states_MD, images, features)
            true_MTT = room.index.masks([lesson.mask_ids[place][1] for _, place in matched]) > 0
            iou_M = mask_iou(logits_MGG > 0, true_MTT)
            counts[3:] += [float(iou_M.sum()), float((iou_M >= 0.5).sum())]
        first_image += num_images
    return counts
