"""Greedy generation: the cache is exact, padding is invisible, [SEG] states are the training ones."""

from dataclasses import replace

import pytest
import torch

from calico.core.records import ImageFeatures
from calico.core.tokens import IGNORE_LABEL_ID
from calico.errors import AlignmentError
from calico.models.generation import Generated
from calico.models.model import SegmentingModel
from tests.unit.models.small import (
    EOS_ID,
    prompt_batch,
    prompts,
    randomise,
    small_features,
    small_model,
    training_batch,
)

NUM_IMAGES = (2, 1, 3)
NUM_TOKENS = 12


@pytest.mark.parametrize("variant", ["calico", "lisa", "glamm"])
def test_cached_and_uncached_generation_agree_token_for_token(variant: str) -> None:
    model, features = _model(variant)
    batch = prompt_batch(prompts(model, NUM_IMAGES), NUM_IMAGES)
    cached = model.generate(batch, features, max_new_tokens=NUM_TOKENS)
    uncached = model.generate(batch, features, max_new_tokens=NUM_TOKENS, use_cache=False)
    assert [answer.ids for answer in cached] == [answer.ids for answer in uncached]
    assert sum(len(answer.seg_states_MD) for answer in cached) > 0
    for one, other in zip(cached, uncached, strict=True):
        # Measured worst case 6.2e-6.
        torch.testing.assert_close(one.seg_states_MD, other.seg_states_MD, rtol=0, atol=6e-5)


def test_a_batch_answers_as_each_prompt_alone() -> None:
    model, features = _model("calico")
    rows = prompts(model, NUM_IMAGES)
    together = model.generate(prompt_batch(rows, NUM_IMAGES), features, max_new_tokens=NUM_TOKENS)
    first = 0
    for row, count, answer in zip(rows, NUM_IMAGES, together, strict=True):
        alone_features = features.rows(torch.arange(first, first + count))
        (alone,) = model.generate(prompt_batch([row], [count]), alone_features, max_new_tokens=NUM_TOKENS)
        assert alone.ids == answer.ids
        # Measured worst case 7.2e-7.
        torch.testing.assert_close(alone.seg_states_MD, answer.seg_states_MD, rtol=0, atol=7e-6)
        first += count


def test_generation_repeats_what_a_teacher_forced_pass_predicts() -> None:
    model, features = _model("calico")
    rows = prompts(model, NUM_IMAGES)
    for pair, answer in enumerate(
        model.generate(prompt_batch(rows, NUM_IMAGES), features, max_new_tokens=NUM_TOKENS)
    ):
        first = sum(NUM_IMAGES[:pair])
        forced = _teacher_force(model, features, rows[pair], answer, range(first, first + NUM_IMAGES[pair]))
        assert tuple(forced.text_logits_TV.argmax(dim=-1).tolist()) == answer.ids
        masks, iou_M = model.decode_masks(
            answer.seg_states_MD, torch.full((len(answer.seg_states_MD),), first), features
        )
        # Measured worst case 1.7e-6.
        torch.testing.assert_close(masks, forced.mask_logits_MGG, rtol=0, atol=2e-5)
        torch.testing.assert_close(iou_M, forced.iou_M, rtol=0, atol=2e-5)


def test_log_probabilities_are_those_of_the_seg_tokens() -> None:
    model, features = _model("calico")
    rows = prompts(model, NUM_IMAGES)
    answers = model.generate(prompt_batch(rows, NUM_IMAGES), features, max_new_tokens=NUM_TOKENS)
    first = 0
    for row, count, answer in zip(rows, NUM_IMAGES, answers, strict=True):
        forced = _teacher_force(model, features, row, answer, range(first, first + count))
        is_seg = forced.text_labels_T == model.seg_id
        expected = forced.text_logits_TV.log_softmax(dim=-1)[is_seg, model.seg_id]
        # Measured worst case 3.6e-7.
        torch.testing.assert_close(answer.seg_log_probabilities_M, expected, rtol=0, atol=4e-6)
        first += count


def test_an_answer_ends_at_the_end_token() -> None:
    model, features = _model("calico")
    batch = prompt_batch(prompts(model, NUM_IMAGES), NUM_IMAGES)
    before = model.generate(batch, features, max_new_tokens=NUM_TOKENS)
    assert not any(answer.is_complete for answer in before)
    model.eos_id = before[0].ids[4]
    after = model.generate(batch, features, max_new_tokens=NUM_TOKENS)
    for one, other in zip(after, before, strict=True):
        length = other.ids.index(model.eos_id) if model.eos_id in other.ids else NUM_TOKENS
        assert one.ids == other.ids[:length]
        assert one.is_complete == (length < NUM_TOKENS)
    assert after[0].is_complete


def test_right_padded_prompts_are_refused() -> None:
    model, features = _model("calico")
    with pytest.raises(AlignmentError, match="Collate for generation with left padding"):
        model.generate(training_batch(model), features, max_new_tokens=2)


def _model(variant: str) -> tuple[SegmentingModel, ImageFeatures]:
    """Return a random model that never ends by itself, and whose [SEG] is a token that it says."""
    model = randomise(small_model(variant))
    with torch.no_grad():
        model.language_model.stock.lm_head.weight[EOS_ID] = 0.0
    features = small_features(model, sum(NUM_IMAGES))
    batch = prompt_batch(prompts(model, NUM_IMAGES), NUM_IMAGES)
    model.seg_id = model.generate(batch, features, max_new_tokens=3)[0].ids[2]
    return model, features


def _teacher_force(
    model: SegmentingModel, features: ImageFeatures, row: list[int], answer: Generated, image_indices: range
) -> object:
    """Run a prompt with the generated answer behind it; every [SEG] gets the pair's first image."""
    ids = [*row, *answer.ids]
    batch = prompt_batch([ids], [len(image_indices)])
    labels = torch.tensor([[IGNORE_LABEL_ID] * len(row) + list(answer.ids)])
    batch = replace(
        batch,
        labels_BL=labels,
        prompt_last_B=torch.tensor([len(row) - 1]),
        mask_image_index_M=torch.zeros(len(answer.seg_states_MD), dtype=torch.long),
    )
    with torch.no_grad():
        return model(batch, features.rows(torch.tensor(list(image_indices))))
