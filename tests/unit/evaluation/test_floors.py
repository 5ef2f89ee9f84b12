"""calico.evaluation.floors: what each floor answers in the world of conftest.py."""

from dataclasses import replace
from typing import Any

import pytest

from calico.core.masks import decode, iou_matrix
from calico.core.records import PredictedMask
from calico.errors import DataError
from calico.evaluation import floors


def answers(predictions: list[PredictedMask]) -> set[tuple[str, int, str]]:
    assert all(prediction.score == 1.0 for prediction in predictions)
    return {(prediction.pair_id, prediction.image_index, prediction.label) for prediction in predictions}


def test_summarise_train(world: Any) -> None:
    train = floors.summarise_train(world.truth)
    # 2 of 3 dogs show a tail; of the 2 cats with parts 1 does, which is not more than half.
    assert train.usual_parts == {"dog": {"head", "tail"}, "cat": {"head"}}
    assert {label: len(found) for label, found in train.objects.items()} == {"dog": 3, "cat": 3}
    assert {label: len(found) for label, found in train.parts.items()} == {
        "dog's head": 3,
        "dog's tail": 2,
        "cat's head": 2,
        "cat's tail": 1,
    }


def test_examples_are_thinned_out_evenly(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_MAX_EXAMPLES", 2)
    dogs = floors.summarise_train(world.truth).objects["dog"]
    assert [one.image_id for one in dogs] == ["train/1", "train/3"]


def test_majority(world: Any) -> None:
    train = floors.summarise_train(world.truth)
    predictions = floors.majority(world.test_pairs, world.train_pairs, world.truth, train)
    assert answers(predictions) == {
        ("o1", 0, "dog"),
        ("o1", 1, "dog"),
        *(("p1", index, f"dog's {name}") for index in (0, 1) for name in ("head", "tail")),
        ("u1", 0, "dog's tail"),
    }
    dog, elsewhere = (mask.rle for mask in predictions if mask.pair_id == "o1")
    # Two train dogs lie where test/1 has its own, one a column further right; 64 cells over 30 columns.
    assert iou_matrix([dog], [world.truth.objects["test/1#dog"].rle])[0, 0] == pytest.approx(1.0, abs=0.1)
    assert dog == elsewhere


def test_majority_takes_the_first_of_equally_frequent_answers(world: Any) -> None:
    train = floors.summarise_train(world.truth)
    predictions = floors.majority(world.test_pairs, world.train_pairs[1:], world.truth, train)
    assert ("o1", 0, "dog") in answers(predictions)
    fewer = [pair for pair in world.train_pairs if pair.pair_id != "t3"]
    predictions = floors.majority(world.test_pairs, fewer[::-1], world.truth, train)
    assert ("o1", 0, "cat") in answers(predictions)


def test_majority_needs_train_pairs_of_every_task(world: Any) -> None:
    train = floors.summarise_train(world.truth)
    with pytest.raises(DataError, match=r"task 'unique_parts' has test pairs but no train pairs"):
        floors.majority(world.test_pairs, world.train_pairs[:4], world.truth, train)


def test_whole_object(world: Any) -> None:
    predictions = floors.whole_object(world.test_pairs, world.truth)
    targets = {
        (pair.pair_id, one.image_index, one.label) for pair in world.test_pairs for one in pair.targets
    }
    assert answers(predictions) == targets
    by_pair = {(mask.pair_id, mask.image_index): mask.rle for mask in predictions}
    assert by_pair["u1", 0] == world.truth.objects["test/1#dog"].rle
    # test/3 holds a dog and a cat of 100 pixels each: together they are the answer to "dog".
    assert by_pair["o1", 0].area_px == 100
    assert by_pair["o1", 1].area_px == 200


def test_usual_parts_answers_from_the_categories(world: Any) -> None:
    predictions = floors.usual_parts(world.test_pairs, world.truth, floors.summarise_train(world.truth))
    assert answers(predictions) == {
        ("o1", 0, "dog"),
        ("o1", 1, "dog"),
        ("p1", 0, "dog's head"),
        ("p1", 1, "cat's head"),
        ("u1", 0, "dog's tail"),
    }
    head = next(mask for mask in predictions if mask.label == "cat's head")
    assert iou_matrix([head.rle], [world.truth.parts["test/2#cat/head"].rle])[0, 0] > 0.8


def test_usual_parts_finds_the_object_of_an_image_without_targets(world: Any) -> None:
    pair = replace(world.test_pairs[2], image_ids=("test/1", "test/3"))
    truth = replace(world.truth, parts={**world.truth.parts})
    predictions = floors.usual_parts([pair], truth, floors.summarise_train(truth))
    # test/3 holds a dog with parts: by habit the two dogs show the same parts, so nothing is unique.
    assert predictions == []


def test_usual_parts_know_the_box_of_the_object_but_not_the_place_of_an_object(world: Any) -> None:
    predictions = floors.usual_parts(world.test_pairs, world.truth, floors.summarise_train(world.truth))
    cat_HW = decode(world.truth.objects["test/2#cat"].rle)
    head_HW = next(decode(mask.rle) for mask in predictions if mask.label == "cat's head")
    assert head_HW.any()
    assert not (head_HW & ~cat_HW).any()
    # Train dogs lie left; the dog of test/3 does not.
    left, elsewhere = (mask.rle for mask in predictions if mask.label == "dog")
    assert left == elsewhere
