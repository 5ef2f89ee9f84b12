"""Grounded questions and answers about scenes: what the stand-in language model learns to speak and to see.

Words and grammar are those of the conversation, so finetuning, which leaves embeddings frozen, meets no new
word. The two part comparisons are asked of categories only that the pipeline never compares, and of scenes
with one object; which categories are comparable is left to finetuning.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from calico.core.records import Phrase, part_label
from calico.core.tokens import TASKS
from calico.data.loading.dataset import Example
from calico.data.pairs.conversation import (
    CAPTION,
    OPENERS,
    QUESTIONS,
    corpus,
    prompt_frame,
    render_answer,
    render_caption,
    render_prompt,
)
from calico.data.pairs.targets import Comparable, PairableObject, UnusablePairError, targets_of
from calico.errors import DataError
from calico.standins.scenes import ScenePool, object_categories, part_classes

Choice = TypeVar("Choice")

_MAX_TARGETS = 8
_MAX_TRIES = 200
_SEVERAL_OBJECTS_SHARE = 0.6

# How often each lesson is drawn; one lesson fills a batch.
LESSON_SHARES: Mapping[str, float] = {
    "caption": 0.10,
    "referring": 0.06,
    "object_parts": 0.18,
    "object_list": 0.08,
    "common_objects": 0.12,
    "common_parts": 0.16,
    "unique_parts": 0.30,
}
_LIST_QUESTIONS = ("Can you segment the objects in {}?", "Please segment the objects in {}.")
_PARTS_QUESTIONS = ("Can you segment the parts of the {} in this image?", "Please segment the {}'s parts.")
_REFERRING_QUESTIONS = ("Can you segment the {} in this image?", "Please segment the {} in this image.")


@dataclass(frozen=True)
class Lesson:
    """One question and its grounded answer about some scenes.

    Attributes:
        scenes: indices into the pool, in the order of the prompt.
        mask_ids: (image index, mask id) of each [SEG] of the answer, in order.
    """

    scenes: tuple[int, ...]
    prompt: str
    answer: str
    mask_ids: tuple[tuple[int, str], ...]


class SceneIndex:
    """The objects and masks of a pool of scenes, by scene and by category.

    Args:
        pool: scenes.
        comparable: category pairs that the pipeline compares; the lessons compare all others.
    """

    def __init__(self, pool: ScenePool, comparable: Iterable[frozenset[str]]) -> None:
        self._pool = pool
        self.objects = [self._read(scene) for scene in range(len(pool))]
        self.with_one = [scene for scene, found in enumerate(self.objects) if len(found) == 1]
        self.with_several = [scene for scene, found in enumerate(self.objects) if len(found) > 1]
        self.by_category: dict[str, list[int]] = {category: [] for category in object_categories()}
        for scene, found in enumerate(self.objects):
            for one in found:
                self.by_category[one.category].append(scene)
        compared = set(comparable)
        self.others = Comparable(
            {
                category: frozenset(
                    other
                    for other in object_categories()
                    if other != category and frozenset((category, other)) not in compared
                )
                for category in object_categories()
            }
        )

    def masks(self, mask_ids: Sequence[str]) -> torch.Tensor:
        """Return uint8 masks (len(mask_ids), T, T)."""
        masks = []
        for mask_id in mask_ids:
            scene, number, part = (int(piece) for piece in mask_id.split("/"))
            mask_TT = self._pool.objects_STT[scene] == number
            masks.append(mask_TT & (self._pool.parts_STT[scene] == part) if part else mask_TT)
        return torch.from_numpy(np.stack(masks).astype(np.uint8))

    def label(self, mask_id: str) -> int:
        """Return the label of a mask as a row of `LabelPrompts`: categories first, then part classes."""
        scene, number, part = (int(piece) for piece in mask_id.split("/"))
        if part:
            return len(object_categories()) + part - 1
        return int(self._pool.categories_SO[scene, number - 1]) - 1

    def _read(self, scene: int) -> list[PairableObject]:
        """Return a scene's objects, left to right; a mask id is "scene/object number/part class or 0"."""
        parts_TT, objects_TT = self._pool.parts_STT[scene], self._pool.objects_STT[scene]
        found = []
        for number in range(1, int(objects_TT.max()) + 1):
            object_TT = objects_TT == number
            classes = [
                int(part) for part in np.unique(parts_TT[object_TT]) if 0 < part <= len(part_classes())
            ]
            found.append(
                PairableObject(
                    object_id=f"{scene}/{number}/0",
                    image_id=str(scene),
                    category=object_categories()[int(self._pool.categories_SO[scene, number - 1]) - 1],
                    left_px=float(object_TT.any(axis=0).argmax()),
                    part_ids={part_classes()[part - 1][1]: f"{scene}/{number}/{part}" for part in classes},
                )
            )
        return sorted((one for one in found if one.part_ids), key=lambda one: (one.left_px, one.object_id))


def draw_lesson(name: str, index: SceneIndex, rng: np.random.Generator) -> Lesson:
    """Draw one lesson.

    Args:
        name: a key of LESSON_SHARES.
        index: scenes to ask about.
        rng: source of every choice.

    Raises:
        DataError: the pool is too small to ask this.
    """
    draw = _DRAWERS[name]
    for _ in range(_MAX_TRIES):
        lesson = draw(index, rng)
        if lesson is not None and len(lesson.mask_ids) <= _MAX_TARGETS:
            return lesson
    raise DataError(
        f"no lesson '{name}' in {_MAX_TRIES} draws from {len(index.objects)} scenes; render more."
    )


def text_corpus() -> list[str]:
    """Return every wording of every lesson, to train the tokenizer."""
    labels = [*object_categories(), *(part_label(*part_class) for part_class in part_classes())]
    lines = list(corpus(labels))
    for label in labels:
        lines += [question.format(label) for question in (*_PARTS_QUESTIONS, *_REFERRING_QUESTIONS)]
        lines += [
            f"The image shows the {label} with the {label}, and the {label}.",
            f"This is a picture of the {label}.",
        ]
    lines += [
        question.format(place) for question in _LIST_QUESTIONS for place in ("this image", "these images")
    ]
    return lines


def _draw_scene(index: SceneIndex, rng: np.random.Generator) -> int:
    group = index.with_several if rng.random() < _SEVERAL_OBJECTS_SHARE else index.with_one
    return group[int(rng.integers(len(group)))]


def _caption(index: SceneIndex, rng: np.random.Generator) -> Lesson | None:
    """Caption a scene in the form of the synthetic GranD."""
    scene = _draw_scene(index, rng)
    found = index.objects[scene]
    if rng.random() < 0.2:
        one = found[int(rng.integers(len(found)))]
        pieces = [("This is a picture of ", f"the {one.category}", one.object_id)]
    else:
        pieces = []
        for number, one in enumerate(found):
            pieces.append((", and " if number else "The image shows ", f"the {one.category}", one.object_id))
            named = sorted(one.part_ids.items())
            for place, (part, mask_id) in enumerate(named):
                joint = " with " if place == 0 else " and " if place == len(named) - 1 else ", "
                pieces.append((joint, f"the {part_label(one.category, part)}", mask_id))
    text, spans = "", []
    for joint, phrase, _ in pieces:
        start = len(text) + len(joint)
        spans.append((start, start + len(phrase)))
        text += joint + phrase
    question = int(rng.integers(len(QUESTIONS[CAPTION])))
    prompt = render_prompt(CAPTION, 1, question_index=question)
    return Lesson(
        (scene,), prompt, render_caption(text + ".", spans), tuple((0, piece[2]) for piece in pieces)
    )


def _referring(index: SceneIndex, rng: np.random.Generator) -> Lesson | None:
    """Ask for one named object or part."""
    scene = _draw_scene(index, rng)
    one = index.objects[scene][int(rng.integers(len(index.objects[scene])))]
    named = [(one.category, one.object_id)]
    named += [(part_label(one.category, part), mask_id) for part, mask_id in sorted(one.part_ids.items())]
    label, mask_id = named[0 if rng.random() < 0.3 else int(rng.integers(len(named)))]
    return _answered((scene,), _pick(_REFERRING_QUESTIONS, rng).format(label), [(0, label, mask_id)], rng)


def _object_parts(index: SceneIndex, rng: np.random.Generator) -> Lesson | None:
    """Ask for all parts of one named object."""
    scene = _draw_scene(index, rng)
    one = index.objects[scene][int(rng.integers(len(index.objects[scene])))]
    items = [(0, part_label(one.category, part), mask_id) for part, mask_id in sorted(one.part_ids.items())]
    return _answered((scene,), _pick(_PARTS_QUESTIONS, rng).format(one.category), items, rng)


def _object_list(index: SceneIndex, rng: np.random.Generator) -> Lesson | None:
    """Ask for all objects of one or two scenes."""
    scenes = tuple(_draw_scene(index, rng) for _ in range(2 if rng.random() < 0.7 else 1))
    place = "these images" if len(scenes) == 2 else "this image"
    items = [
        (image, one.category, one.object_id)
        for image, scene in enumerate(scenes)
        for one in index.objects[scene]
    ]
    return _answered(scenes, _pick(_LIST_QUESTIONS, rng).format(place), items, rng)


def _compare(task: str, index: SceneIndex, rng: np.random.Generator) -> Lesson | None:
    """Ask one of the pipeline's tasks of two scenes."""
    if task == "common_objects":
        first = _draw_scene(index, rng)
        found = index.objects[first]
        candidates = index.by_category[found[int(rng.integers(len(found)))].category]
    else:
        first, candidates = _pick(index.with_one, rng), index.with_one
    second = _pick(candidates, rng)
    if rng.random() < 0.5:
        first, second = second, first
    try:
        targets = targets_of(task, index.objects[first], index.objects[second], index.others)
    except UnusablePairError:
        return None
    is_same_category = (
        task != "common_objects" and len({target.label.split("'s ")[0] for target in targets}) == 1
    )
    if first == second or (
        is_same_category and index.objects[first][0].category == index.objects[second][0].category
    ):
        return None
    prompt = render_prompt(task, 2, question_index=int(rng.integers(len(QUESTIONS[task]))))
    phrases = [Phrase(target.label, target.image_index) for target in targets]
    answer = render_answer(task, phrases, opener_index=int(rng.integers(len(OPENERS[task]))))
    masks = tuple((target.image_index, target.part_id or target.object_id) for target in targets)
    return Lesson((first, second), prompt, answer, masks)


def _answered(
    scenes: tuple[int, ...], question: str, items: Sequence[tuple[int, str, str]], rng: np.random.Generator
) -> Lesson:
    """Put a free question into the prompt and the items (image index, label, mask id) into a plain answer."""
    head, tail = prompt_frame(len(scenes))
    task = TASKS[0]
    openers = range(1, len(OPENERS[task]))  # "The images show", "The images include"
    phrases = [Phrase(label, image) for image, label, _ in items]
    answer = render_answer(task, phrases, opener_index=_pick(openers, rng))
    return Lesson(
        scenes, f"{head}{question}{tail}", answer, tuple((image, mask_id) for image, _, mask_id in items)
    )


def _pick(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    return choices[int(rng.integers(len(choices)))]


_DRAWERS: Mapping[str, Callable[[SceneIndex, np.random.Generator], Lesson | None]] = {
    "caption": _caption,
    "referring": _referring,
    "object_parts": _object_parts,
    "object_list": _object_list,
    **{task: (lambda index, rng, task=task: _compare(task, index, rng)) for task in TASKS},  # type: ignore[misc]
}


def to_example(
    lesson: Lesson,
    index: SceneIndex,
    encode: Callable[[str, str], tuple[list[int], list[int], int]],
    size_px: int,
) -> Example:
    """Turn a lesson into the example that the data loader would make.

    Args:
        lesson: from `draw_lesson`.
        index: where its scenes are.
        encode: gives ids, labels and the last position of the prompt, from prompt and answer.
        size_px: side of the scenes.
    """
    ids, labels, prompt_last = encode(lesson.prompt, lesson.answer)
    sizes = ((size_px, size_px),) * len(lesson.scenes)
    return Example(
        sample_id="/".join(map(str, lesson.scenes)),
        input_ids=ids,
        labels=labels,
        prompt_last=prompt_last,
        image_ids=tuple(map(str, lesson.scenes)),
        original_sizes=sizes,
        resized_sizes=sizes,
        views=(),
        target_masks_MSS=index.masks([mask_id for _, mask_id in lesson.mask_ids]),
        mask_image_index=tuple(image for image, _ in lesson.mask_ids),
    )
