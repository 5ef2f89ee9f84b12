"""calico.evaluation.categories: the true masks of each category by themselves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.categories import score_categories
from calico.evaluation.compare import compare, measure_compared
from calico.evaluation.scoring import combine


def test_by_hand(image_case: Callable[..., ImageCase], section: Any) -> None:
    """A dog's head is found, its tail is drawn too small, the cat's head is missed."""
    dog = image_case(
        [[0.8, 0.0], [0.0, 0.25]],
        true_labels=["dog's head", "dog's tail"],
        predicted_labels=["dog's head", "dog's tail"],
    )
    cat = image_case([], true_labels=["cat's head"], num_true=1)
    found = score_categories([PairCase("a", "common_parts", (dog, cat))], section)
    assert found == {
        "common_parts": {
            "cat": {"num_true": 1, "Recall": 0.0, "IoU": 0.0},
            "dog": {"num_true": 2, "Recall": 0.5, "IoU": 0.525},
        }
    }


def test_tasks_are_kept_apart_and_categories_sorted(
    image_case: Callable[..., ImageCase], section: Any
) -> None:
    image = image_case([[1.0, 0.0]], true_labels=["mug", "dog"], predicted_labels=["mug"])
    found = score_categories([PairCase(task, task, (image,)) for task in ("one", "two")], section)
    assert {task: list(rows) for task, rows in found.items()} == {
        "one": ["dog", "mug"],
        "two": ["dog", "mug"],
    }


@pytest.mark.parametrize("fault", ["none", "no cats", "every label wrong", "second image empty"])
def test_recall_of_categories_adds_up_to_the_recall_of_the_task(
    world: Any, section: Any, embed_words: Any, fault: str
) -> None:
    predictions = {
        "none": world.perfect(),
        "no cats": [mask for mask in world.perfect() if "cat" not in mask.label],
        "every label wrong": [replace(mask, label="bird") for mask in world.perfect()],
        "second image empty": [mask for mask in world.perfect() if mask.image_index == 0],
    }[fault]
    compared = compare(
        {"m": predictions}, world.test_pairs, world.truth, embed=embed_words, is_file_order_needed=False
    )["m"]
    scores = combine(measure_compared(compared, section))
    for task, rows in score_categories(compared.cases, section).items():
        num_true = sum(row["num_true"] for row in rows.values())
        num_found = sum(row["num_true"] * row["Recall"] for row in rows.values())
        assert num_true == sum(len(pair.targets) for pair in world.test_pairs if pair.task == task)
        assert num_found / num_true == pytest.approx(scores[task]["Recall"], abs=1e-6)
