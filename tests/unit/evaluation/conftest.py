"""A world of six images in which every number can be worked out by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from calico.config import EvaluateSection
from calico.core.masks import Rle, encode
from calico.core.records import ImageRecord, ObjectInstance, PairSample, PartInstance, PredictedMask, Target
from calico.evaluation.cases import ImageCase, Truth

HEIGHT, WIDTH = 20, 30


def rectangle(left: int, top: int, right: int, bottom: int) -> Rle:
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask_HW[top:bottom, left:right] = True
    return encode(mask_HW)


@dataclass(frozen=True)
class World:
    truth: Truth
    test_pairs: list[PairSample]
    train_pairs: list[PairSample]

    def perfect(self) -> list[PredictedMask]:
        return [
            PredictedMask(pair.pair_id, pair.task, one.image_index, one.label, self.truth.mask_of(one), 0.9)
            for pair in self.test_pairs
            for one in pair.targets
        ]


def make_world() -> World:
    """Dogs lie left, cats right; every dog shows head and tail except one train dog without a tail."""
    objects, parts = {}, {}

    def add(image_id: str, category: str, left: int, parts_shown: str) -> None:
        object_id = f"{image_id}#{category}"
        objects[object_id] = ObjectInstance(object_id, image_id, category, rectangle(left, 4, left + 10, 14))
        boxes = {"head": (left, 4, left + 5, 9), "tail": (left + 6, 10, left + 10, 14)}
        for name in parts_shown.split():
            part_id = f"{object_id}/{name}"
            parts[part_id] = PartInstance(part_id, object_id, image_id, name, rectangle(*boxes[name]))

    add("train/1", "dog", 0, "head tail")
    add("train/1", "cat", 18, "head")
    add("train/2", "dog", 0, "head tail")
    add("train/2", "cat", 18, "head tail")
    add("train/3", "dog", 1, "head")
    add("train/3", "cat", 18, "")
    add("test/1", "dog", 0, "head tail")
    add("test/2", "cat", 18, "head")
    add("test/3", "dog", 12, "head tail")
    add("test/3", "cat", 0, "")
    image_ids = [f"{split}/{number}" for split in ("train", "test") for number in (1, 2, 3)]
    images = {one: ImageRecord(one, "s", f"{one}.png", HEIGHT, WIDTH, one.split("/")[0]) for one in image_ids}

    def pair(pair_id: str, task: str, image_ids: str, *targets: str) -> PairSample:
        ids = tuple(image_ids.split())
        found = []
        for text in targets:
            image_index, category, name = [*text.split(), ""][:3]
            object_id = f"{ids[int(image_index)]}#{category}"
            label = f"{category}'s {name}" if name else category
            found.append(Target(int(image_index), label, object_id, f"{object_id}/{name}" if name else None))
        return PairSample(pair_id, task, "s", ids, tuple(found))

    test_pairs = [
        pair("o1", "common_objects", "test/1 test/3", "0 dog", "1 dog"),
        pair("p1", "common_parts", "test/1 test/2", "0 dog head", "1 cat head"),
        pair("u1", "unique_parts", "test/1 test/2", "0 dog tail"),
    ]
    train_pairs = [
        pair("t1", "common_objects", "train/1 train/2", "0 cat", "1 cat"),
        pair("t2", "common_objects", "train/1 train/2", "0 dog", "1 dog"),
        pair("t3", "common_objects", "train/2 train/3", "0 dog", "1 dog"),
        pair("t4", "common_parts", "train/1 train/2", "0 dog head", "1 dog head", "0 dog tail", "1 dog tail"),
        pair("t5", "unique_parts", "train/2 train/3", "0 dog tail"),
    ]
    return World(Truth(images, objects, parts), test_pairs, train_pairs)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def embed_words() -> Callable[[Sequence[str]], np.ndarray]:
    """Stand in for a sentence model: one axis per word, so the cosine counts shared words."""

    def embed(labels: Sequence[str]) -> np.ndarray:
        words = sorted({word for label in labels for word in label.split()})
        return np.array([[float(word in label.split()) for word in words] for label in labels])

    return embed


@pytest.fixture(scope="session")
def section() -> EvaluateSection:
    return EvaluateSection(
        seed=1, text_model="words", text_threshold=0.5, iou_threshold=0.5, num_bootstrap=50, glamm=False
    )


@pytest.fixture
def image_case() -> Callable[..., ImageCase]:
    """Make a case from matrices written as lists of rows, one row a prediction."""

    def make(
        iou_PT: list[list[float]],
        similarity_PT: list[list[float]] | None = None,
        *,
        true_labels: Sequence[str] | None = None,
        predicted_labels: Sequence[str] | None = None,
        scores_P: Sequence[float] | None = None,
        num_true: int | None = None,
    ) -> ImageCase:
        num_predicted = len(iou_PT)
        num_true = len(iou_PT[0]) if num_true is None else num_true
        iou = np.array(iou_PT, dtype=float).reshape(num_predicted, num_true)
        return ImageCase(
            tuple(true_labels if true_labels is not None else ["dog"] * num_true),
            tuple(predicted_labels if predicted_labels is not None else ["dog"] * num_predicted),
            np.array(scores_P if scores_P is not None else [1.0] * num_predicted, dtype=float),
            iou,
            np.ones_like(iou) if similarity_PT is None else np.array(similarity_PT, dtype=float),
        )

    return make
