"""Rules of the words: what a pair's answer says comes back from it, and it fits into what the models read.

Many pairs have the same words; each text is looked at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from calico.config import ModelSection
from calico.core.records import PairSample, Phrase
from calico.core.tokens import TASKS
from calico.data.pairs.conversation import (
    IMAGE_PLACEHOLDER,
    OPENERS,
    QUESTIONS,
    parse_answer,
    render_answer,
    render_prompt,
)
from calico.data.validation.rules import RuleBook
from calico.errors import DataError
from calico.language_models.tokenizer import encode_example, encode_prompt, load_tokenizer, tokens_per_image

_Faults = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TextLimit:
    """How long a conversation may be.

    Attributes:
        max_length: tokens of a whole sample.
        tokens_per_image: of the model that spends most on an image.
        tokenizer: None before the stage checkpoints; then only what is surely too long is found.
    """

    max_length: int
    tokens_per_image: int
    tokenizer: PreTrainedTokenizerFast | None

    def num_prompt_tokens(self, prompt: str) -> int:
        """Return the tokens of a prompt, or without a tokenizer a number that it has at least."""
        if self.tokenizer is None:
            return len(prompt.split()) + prompt.count(IMAGE_PLACEHOLDER) * self.tokens_per_image
        return len(encode_prompt(self.tokenizer, prompt, self.tokens_per_image))

    def num_answer_tokens(self, answer: str) -> int:
        """Return the tokens of an answer with its end, or at least so many."""
        if self.tokenizer is None:
            return len(answer.split()) + 1
        return len(encode_example(self.tokenizer, "", answer, 0)[0]) - 1


def text_limit(model: ModelSection, tokenizer_file: Path) -> TextLimit:
    """Return the limit of a profile's models.

    Raises:
        CheckpointError: the tokenizer is there, but damaged.
    """
    largest = max(tokens_per_image(model, variant) for variant in model.variants)
    tokenizer = load_tokenizer(tokenizer_file) if tokenizer_file.is_file() else None
    return TextLimit(model.language_model.max_length, largest, tokenizer)


class TextRules:
    """Checks the words of pairs."""

    def __init__(self, book: RuleBook, limit: TextLimit) -> None:
        self._book, self._limit = book, limit
        self._seen: set[int] = set()
        self._faults: dict[int, _Faults] = {}
        if limit.tokenizer is None:
            book["lengths"].note = "counted in words: the tokenizer comes with the stage checkpoints"

    def check(self, pair: PairSample, place: str) -> None:
        """Check one pair; an unknown task is another rule's."""
        if pair.task not in TASKS or not pair.targets:
            return
        phrases = tuple((target.label, target.image_index) for target in pair.targets)
        # 64 bits of hash in place of the texts: the texts of 2.4 M pairs would take a gigabyte.
        key = hash((pair.task, len(pair.image_ids), phrases))
        if key not in self._seen:
            self._seen.add(key)
            if faults := self._look(pair):
                self._faults[key] = faults
        for rule, fault in self._faults.get(key, ()):
            self._book[rule].violate(f"{place}: {fault}")

    def _look(self, pair: PairSample) -> _Faults:
        phrases = tuple(Phrase(target.label, target.image_index) for target in pair.targets)
        try:
            answer = render_answer(pair.task, phrases, opener_index=self._longest_opener(pair.task))
        except DataError as error:
            return (("conversations", str(error)),)
        parsed = parse_answer(answer, len(pair.image_ids))
        if parsed.phrases != tuple((phrase, ordinal) for ordinal, phrase in enumerate(phrases)):
            back = ", ".join(f"'{phrase.label}'" for phrase, _ in parsed.phrases) or "nothing"
            return (("conversations", f"the answer {answer!r} is read back as {back}."),)
        num_tokens = self._num_tokens(pair, phrases, answer)
        if num_tokens > self._limit.max_length:
            return ((
                "lengths",
                f"{num_tokens} tokens, but model.language_model.max_length is {self._limit.max_length}. "
                "Raise it, or lower pair.max_targets.",
            ),)  # fmt: skip
        return ()

    def _num_tokens(self, pair: PairSample, phrases: Sequence[Phrase], answer: str) -> int:
        """Return the tokens of the longest wording, or a bound where that is short enough.

        Markers and phrases are tokenised apart, so a phrase costs the same in every answer, but for the one
        word or sign between two of them.
        """
        prompt = self._longest_prompt(pair.task, len(pair.image_ids))
        alone = [self._num_alone(pair.task, phrase) for phrase in phrases]
        bound = prompt + sum(alone) + len(alone)
        return bound if bound <= self._limit.max_length else prompt + self._limit.num_answer_tokens(answer)

    @cache  # noqa: B019 - lives as long as one validation
    def _num_alone(self, task: str, phrase: Phrase) -> int:
        opener = self._longest_opener(task)
        return self._limit.num_answer_tokens(render_answer(task, [phrase], opener_index=opener))

    @cache  # noqa: B019
    def _longest_prompt(self, task: str, num_images: int) -> int:
        indices = range(len(QUESTIONS[task]))
        prompts = [render_prompt(task, num_images, question_index=index) for index in indices]
        return max(map(self._limit.num_prompt_tokens, prompts))

    @cache  # noqa: B019
    def _longest_opener(self, task: str) -> int:
        openers = OPENERS[task]
        return max(range(len(openers)), key=lambda index: self._limit.num_answer_tokens(openers[index]))
