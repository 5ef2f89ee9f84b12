"""S-IoU by hand."""

from collections.abc import Callable

import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.semantic_iou import measure_semantic_iou, word_iou


@pytest.mark.parametrize(
    ("label", "other", "expected"),
    [
        ("dog's head", "dog's head", 1.0),
        ("dog's head", "cat's head", 1 / 3),
        ("sofa's seat base", "sofa's seat", 2 / 3),
        ("dog", "dog's head", 0.0),  # "dog" and "dog's" are two words
        ("dog", "", 0.0),
        ("", "", 0.0),
    ],
)
def test_word_iou(label: str, other: str, expected: float) -> None:
    assert word_iou(label, other) == pytest.approx(expected, abs=1e-12)
    assert word_iou(other, label) == word_iou(label, other)


def test_each_true_label_takes_its_closest_prediction_of_its_image(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    first = image_case(
        [[0.0, 0.0], [0.0, 0.0]],
        true_labels=["dog's head", "dog's tail"],
        predicted_labels=["cat's head", "dog's tail"],
    )
    second = image_case([], num_true=1, true_labels=["dog's tail"])
    share = measure_semantic_iou(PairCase("p", "common_parts", (first, second)), section)
    assert share == pytest.approx((1 / 3 + 1.0 + 0.0, 3))
