"""The words around a pair: questions, prompts and grounded answers, rendered and read back.

A prompt has the shape of GLaMM's `llava_v1` conversation, an answer the grammar of the paper's section 3.2:

    opener item[, item ... and item].        item = "<p> the dog's head </p> [SEG] (IMAGE1)"

One [SEG] stands for one mask, in the order of the sample's targets.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from calico.core.records import Phrase
from calico.core.tokens import (
    IMAGE_END,
    IMAGE_START,
    PHRASE_END,
    PHRASE_START,
    SEG,
    TASKS,
    image_identifier,
)
from calico.errors import DataError

CAPTION = "caption"
IMAGE_PLACEHOLDER = "<image>"
MAX_IMAGES = 9

# Deviation: the first sentence only of llava_v1's system text; a CPU-sized model pays for every token.
_SYSTEM = "A chat between a curious human and an artificial intelligence assistant."
_TAIL = " ASSISTANT:"

# Question 0 is the one asked at evaluation. Source: the form of section 3.2.
QUESTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "common_objects": (
            "Can you segment the common object in these images?",
            "Please segment the common objects in these images.",
            "What objects do these images show? Please output segmentation masks.",
        ),
        "common_parts": (
            "Can you segment the common parts of the objects in these images?",
            "Please segment the parts that the objects in these images share.",
            "What parts do the objects in these images share? Please output segmentation masks.",
        ),
        "unique_parts": (
            "Can you segment the unique parts of the objects in these images?",
            "Please segment the parts that are unique to each object in these images.",
            "What parts are unique to each object in these images? Please output segmentation masks.",
        ),
        CAPTION: (
            "Can you describe the image in detail? Please output segmentation masks.",
            "Please describe the image in detail with segmentation masks.",
        ),
    }
)

# Source: the answers shown in figure 6 and section 3.2.
OPENERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "common_objects": ("The common object is", "The images show", "The images include"),
        "common_parts": ("The detected common parts are", "The common parts of the objects are"),
        "unique_parts": ("The unique parts present are", "The unique parts of the objects are"),
    }
)

_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)
_MARKER = f"{re.escape(PHRASE_START)}|{re.escape(PHRASE_END)}|{re.escape(SEG)}"
_ITEM = re.compile(
    rf"{re.escape(PHRASE_START)}(?P<words>(?:(?!{_MARKER}).)*){re.escape(PHRASE_END)}"
    rf"\s*{re.escape(SEG)}\s*\(IMAGE(?P<number>[0-9]{{1,3}})\)",
    re.DOTALL,
)


# What can be wrong with an answer. The last is known to the generator only: no end within the length limit.
FAULTS = (
    "empty_text",
    "no_seg",
    "seg_without_image",
    "unknown_image",
    "unbalanced_phrase",
    "empty_label",
    "unfinished",
)
_LONE_SEG = re.compile(rf"{re.escape(SEG)}(?!\s*\(IMAGE[0-9]{{1,3}}\))")


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says.

    Attributes:
        phrases: each usable phrase with the ordinal of its [SEG] among all [SEG] of the answer, from 0.
        num_seg: how many [SEG] the answer holds.
        num_malformed: how many phrases or [SEG] are part of no complete item, or name no image of the pair.
        faults: how often each of `FAULTS` but the last occurs; only those that do.
    """

    phrases: tuple[tuple[Phrase, int], ...]
    num_seg: int
    num_malformed: int
    faults: Mapping[str, int]


def choose_wording(task: str, pair_id: str, seed: int) -> tuple[int, int]:
    """Draw the question and the opener of a training sample, from the seed and the pair alone.

    Returns:
        Indices for `render_prompt` and `render_answer`.
    """
    rng = np.random.default_rng([seed, zlib.crc32(b"wording"), zlib.crc32(pair_id.encode())])
    num_openers = len(OPENERS.get(task, ("",)))
    return int(rng.integers(len(_questions(task)))), int(rng.integers(num_openers))


def render_prompt(task: str, num_images: int, *, question_index: int = 0) -> str:
    """Write the prompt of a task, up to and with "ASSISTANT:".

    Args:
        task: one of `calico.core.tokens.TASKS`, or `CAPTION` (one image).
        num_images: 1 to 9; each is one `<image>` between `<im_start>` and `<im_end>`.

    Raises:
        DataError: an unknown task or too many images.
    """
    head, tail = prompt_frame(num_images)
    return f"{head}{_questions(task)[question_index]}{tail}"


def prompt_frame(num_images: int) -> tuple[str, str]:
    """Return the prompt before and after the question.

    A question that a person typed stands between the two and is named `untrusted` to the tokenizer: it must
    not bring `[SEG]` or `<image>` into the prompt.

    Raises:
        DataError: fewer than one or more than nine images.
    """
    if not 1 <= num_images <= MAX_IMAGES:
        raise DataError(f"a prompt shows 1 to {MAX_IMAGES} images, not {num_images}.")
    images = [
        f"{IMAGE_START}{IMAGE_PLACEHOLDER}{IMAGE_END} {image_identifier(index)}"
        for index in range(num_images)
    ]
    says = "provides an overview of the picture" if num_images == 1 else "provide an overview of the pictures"
    return f"{_SYSTEM} USER: The {_enumerate(images)} {says}.\n", _TAIL


def render_answer(task: str, phrases: Sequence[Phrase], *, opener_index: int = 0) -> str:
    """Write the grounded answer of a task; one [SEG] for each phrase, in the order given.

    Raises:
        DataError: no phrase, an unknown task, or a label that the grammar cannot hold.
    """
    if not phrases:
        raise DataError(
            f"an answer to '{task}' needs at least one phrase; pairs without targets are not samples."
        )
    items = [_item(f"the {_checked(phrase.label)}", phrase.image_index) for phrase in phrases]
    return f"{_openers(task)[opener_index]} {_enumerate(items)}."


def render_caption(text: str, spans: Sequence[tuple[int, int]], *, image_index: int = 0) -> str:
    """Write a caption as a GLaMM answer: every grounded span becomes "<p> span </p> [SEG] (IMAGE1)".

    Args:
        text: plain caption.
        spans: (start, end) of each grounded phrase in `text`, in order and without overlap.

    Raises:
        DataError: spans out of order or outside the text, or text that holds a marker of the grammar.
    """
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        if not position <= start < end <= len(text):
            raise DataError(
                f"caption span ({start}, {end}) does not follow position {position} of {len(text)}."
            )
        pieces += [_unmarked(text[position:start]), _item(_checked(text[start:end]), image_index)]
        position = end
    return "".join([*pieces, _unmarked(text[position:])])


def parse_answer(text: str, num_images: int) -> ParsedAnswer:
    """Read a generated answer; never fails, whatever the model wrote.

    Labels lose a leading article and surrounding spaces. A phrase without [SEG] and image, a [SEG] without
    phrase, an empty label and an image outside the pair count as malformed.

    Args:
        text: the answer, special tokens kept.
        num_images: images of the pair.
    """
    num_seg, num_opened = text.count(SEG), text.count(PHRASE_START)
    phrases: list[tuple[Phrase, int]] = []
    faults = {
        "empty_text": int(not text.strip()),
        "no_seg": int(bool(text.strip()) and num_seg == 0),
        "seg_without_image": len(_LONE_SEG.findall(text)),
        "unbalanced_phrase": abs(num_opened - text.count(PHRASE_END)),
        "unknown_image": 0,
        "empty_label": 0,
    }
    for match in _ITEM.finditer(text):
        label = _ARTICLE.sub("", " ".join(match["words"].split()))
        image_index = int(match["number"]) - 1
        if label and 0 <= image_index < num_images:
            phrases.append((Phrase(label, image_index), text.count(SEG, 0, match.start())))
        faults["empty_label"] += not label
        faults["unknown_image"] += not 0 <= image_index < num_images
    num_malformed = max(num_seg, num_opened) - len(phrases)
    found = {reason: count for reason, count in faults.items() if count}
    return ParsedAnswer(tuple(phrases), num_seg, num_malformed, found)


def corpus(labels: Iterable[str]) -> Iterator[str]:
    """Yield every prompt for one to three images and every answer form over `labels`, to train a tokenizer.

    Args:
        labels: answer labels without article, e.g. "dog" and "dog's head".
    """
    for task in (*TASKS, CAPTION):
        for num_images in (1,) if task == CAPTION else (1, 2, 3):
            for question_index in range(len(_questions(task))):
                yield render_prompt(task, num_images, question_index=question_index)
    all_images = [Phrase("object", index) for index in range(MAX_IMAGES)]
    yield from (render_answer(TASKS[0], all_images[:count]) for count in range(1, MAX_IMAGES + 1))
    for label in sorted(set(labels)):
        phrases = [Phrase(label, 0), Phrase(label, 1)]
        for task in TASKS:
            for opener_index in range(len(_openers(task))):
                yield render_answer(task, phrases, opener_index=opener_index)


def _questions(task: str) -> tuple[str, ...]:
    return _of_task(QUESTIONS, task)


def _openers(task: str) -> tuple[str, ...]:
    return _of_task(OPENERS, task)


def _of_task(templates: Mapping[str, tuple[str, ...]], task: str) -> tuple[str, ...]:
    if task not in templates:
        raise DataError(f"no template for task '{task}'; choose one of {', '.join(templates)}.")
    return templates[task]


def _item(words: str, image_index: int) -> str:
    return f"{PHRASE_START} {words} {PHRASE_END} {SEG} {image_identifier(image_index)}"


def _checked(label: str) -> str:
    """Return the label if the grammar gives it back unchanged."""
    if not label.strip() or " ".join(label.split()) != label:
        raise DataError(f"label {label!r} is empty or holds stray spaces.")
    return _unmarked(label)


def _unmarked(text: str) -> str:
    if re.search(_MARKER, text):
        raise DataError(f"{text!r} holds a marker of the answer grammar ({PHRASE_START} {PHRASE_END} {SEG}).")
    return text


def _enumerate(items: Sequence[str]) -> str:
    """Join as English does: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
