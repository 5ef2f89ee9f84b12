"""calico.data.validation.text_rules: the stated length is the longest wording's, as training encodes it."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from calico.config import load_config
from calico.core.records import PairSample, Phrase, Target
from calico.core.tokens import TASKS
from calico.data.pairs.conversation import OPENERS, QUESTIONS, corpus, render_answer, render_prompt
from calico.data.validation.rules import RuleBook
from calico.data.validation.text_rules import TextLimit, TextRules, text_limit
from calico.errors import CheckpointError
from calico.language_models.tokenizer import build_tokenizer, encode_example, save_tokenizer

TOKENS_PER_IMAGE = 8


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(corpus(["dog", "dog's head", "sofa's back pillow"]), 400)


def sample(task: str, count: int) -> PairSample:
    labels = ["dog's head", "sofa's back pillow", "zebra's hoof"]
    targets = [Target(number % 2, labels[number % 3], "o", f"p{number}") for number in range(count)]
    return PairSample("a/1", task, "a", ("a/1", "a/2"), tuple(targets))


def longest(tokenizer: PreTrainedTokenizerFast, pair: PairSample) -> int:
    """Encode every wording as training does."""
    phrases = [Phrase(target.label, target.image_index) for target in pair.targets]
    return max(
        len(
            encode_example(
                tokenizer,
                render_prompt(pair.task, 2, question_index=question),
                render_answer(pair.task, phrases, opener_index=opener),
                TOKENS_PER_IMAGE,
            )[0]
        )
        for question in range(len(QUESTIONS[pair.task]))
        for opener in range(len(OPENERS[pair.task]))
    )


def faults(pair: PairSample, max_length: int, tokenizer: PreTrainedTokenizerFast | None) -> list[str]:
    book = RuleBook()
    TextRules(book, TextLimit(max_length, TOKENS_PER_IMAGE, tokenizer)).check(pair, "here")
    assert not book["conversations"].num_violations
    return book["lengths"].offenders


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("count", [1, 2, 3, 9, 30])
def test_the_longest_wording_just_fits(task: str, count: int, tokenizer: PreTrainedTokenizerFast) -> None:
    pair = sample(task, count)
    num_tokens = longest(tokenizer, pair)
    assert faults(pair, num_tokens, tokenizer) == []
    (fault,) = faults(pair, num_tokens - 1, tokenizer)
    assert fault == (
        f"here: {num_tokens} tokens, but model.language_model.max_length is {num_tokens - 1}. "
        "Raise it, or lower pair.max_targets."
    )


@pytest.mark.parametrize("count", [1, 9, 30])
def test_without_a_tokenizer_only_what_is_surely_too_long_is_named(
    count: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    pair = sample("common_parts", count)
    assert faults(pair, longest(tokenizer, pair), None) == []
    assert faults(pair, 4 * count, None)


def test_the_limit_is_that_of_the_model_with_the_longest_images(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = load_config("tiny").model
    path = tmp_path / "tokenizer.json"
    limit = text_limit(model, path)
    # CLIP's 128 pixels in patches of 16, of the baseline GLaMM.
    assert (limit.max_length, limit.tokens_per_image, limit.tokenizer) == (512, 64, None)
    save_tokenizer(tokenizer, path)
    assert text_limit(model, path).tokenizer is not None
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not a tokenizer file"):
        text_limit(model, path)
