"""calico.evaluation.cases: canonical order, normalised labels, and predictions that cannot be used."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calico.core.masks import Rle, encode
from calico.core.records import PredictedMask
from calico.errors import DataError
from calico.evaluation.cases import FAULTS, build_cases, normalise_label, usable_predictions
from calico.evaluation.metrics.text_similarity import TextSimilarity

LABELS = ["dog", "cat", "dog's head", "cat's head", "dog's tail"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("The  Dog's\tHead ", "dog's head"),
        ("an arm", "arm"),
        ("a", "a"),
        ("theatre", "theatre"),
        ("", ""),
        ("the a dog", "a dog"),
    ],
)
def test_normalise_label(label: str, expected: str) -> None:
    assert normalise_label(label) == expected


def box(*bounds: int) -> Rle:
    mask_HW = np.zeros((20, 30), dtype=bool)
    left, top, right, bottom = bounds
    mask_HW[top:bottom, left:right] = True
    return encode(mask_HW)


def predict(label: str = "dog", score: float = 0.5, rle: Rle | None = None, **changes: Any) -> PredictedMask:
    prediction = PredictedMask("o1", "common_objects", 0, label, rle or box(0, 4, 10, 14), score)
    return replace(prediction, **changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"image_index": 2}, "unknown_image"),
        ({"image_index": -1}, "unknown_image"),
        ({"rle": encode(np.ones((30, 20), dtype=bool))}, "wrong_size"),
        ({"rle": Rle(20, 30, b"0000")}, "damaged_mask"),
        ({"rle": Rle(20, 30, b"\xff\xff")}, "damaged_mask"),
        ({"score": float("nan")}, "bad_score"),
        ({"score": 1.5}, "bad_score"),
    ],
)
def test_unusable_predictions_are_counted(world: Any, changes: dict[str, Any], fault: str) -> None:
    groups, num_unusable = usable_predictions([predict(), predict(**changes)], world.test_pairs, world.truth)
    assert num_unusable == dict.fromkeys(FAULTS, 0) | {fault: 1}
    assert groups == {("o1", 0): [predict()]}


@pytest.mark.parametrize("changes", [{"pair_id": "elsewhere"}, {"task": "common_parts"}])
def test_predictions_for_other_pairs_are_an_error(world: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"not among the 3 pairs to score.*predict again"):
        usable_predictions([predict(**changes)], world.test_pairs, world.truth)


def test_a_target_without_annotation_is_an_error(world: Any, embed_words: Any) -> None:
    truth = replace(world.truth, parts={})
    with pytest.raises(DataError, match=r"part 'test/1#dog/head' of a pair is not among the 0 annotated"):
        build_cases(world.test_pairs, truth, {}, TextSimilarity(LABELS, embed_words))


def test_a_damaged_true_mask_is_an_error(world: Any, embed_words: Any) -> None:
    damaged = replace(world.truth.objects["test/1#dog"], rle=Rle(20, 30, b"1"))
    truth = replace(world.truth, objects={**world.truth.objects, "test/1#dog": damaged})
    with pytest.raises(
        DataError, match=r"true mask 'test/1#dog': RLE runs cover 1 pixels.*Run the stage unify"
    ):
        build_cases(world.test_pairs, truth, {}, TextSimilarity(LABELS, embed_words))


def test_case_of_one_image(world: Any, embed_words: Any) -> None:
    predictions = [predict("the dog", 0.3), predict("cat", 0.8, box(0, 4, 10, 9))]
    groups, _ = usable_predictions(predictions, world.test_pairs, world.truth)
    cases = build_cases(world.test_pairs, world.truth, groups, TextSimilarity(LABELS, embed_words))
    image = cases[0].images[0]
    assert image.true_labels == ("dog",)
    assert image.predicted_labels == ("cat", "dog")
    assert image.scores_P.tolist() == [0.8, 0.3]
    assert image.iou_PT.tolist() == [[0.5], [1.0]]
    assert image.similarity_PT.tolist() == [[0.0], [1.0]]
    assert cases[0].images[1].iou_PT.shape == (0, 1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["dog", "the dog", "cat"]), st.sampled_from([0.5, 0.6]), st.integers(1, 3)),
        max_size=6,
    ),
    st.integers(0, 1000),
)
def test_the_order_of_records_changes_nothing(
    world: Any, embed_words: Any, contents: list[tuple[str, float, int]], seed: int
) -> None:
    predictions = [predict(label, score, box(0, 0, 5 * size, 20)) for label, score, size in contents]
    shuffled = random.Random(seed).sample(predictions, len(predictions))
    pairs = [replace(pair, targets=pair.targets[::-1]) for pair in world.test_pairs[::-1]]
    similarity = TextSimilarity(LABELS, embed_words)
    expected = usable_predictions(predictions, world.test_pairs, world.truth)
    actual = usable_predictions(shuffled, pairs, world.truth)
    assert actual == expected
    assert repr(build_cases(pairs, world.truth, actual[0], similarity)) == repr(
        build_cases(world.test_pairs, world.truth, expected[0], similarity)
    )
