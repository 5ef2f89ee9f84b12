"""Precision, recall and exactness of label sets by hand."""

from collections.abc import Callable

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.label_sets import (
    measure_exact_set,
    measure_label_precision,
    measure_label_recall,
)
from calico.evaluation.metrics.metric import Share


def make_pair(image_case: Callable[..., ImageCase], true: list[str], *predicted: str) -> PairCase:
    image = image_case(
        [[0.0] * len(true)] * len(predicted), true_labels=true, predicted_labels=predicted, num_true=len(true)
    )
    return PairCase("p", "common_objects", (image,))


def test_repeated_labels_count_once(image_case: Callable[..., ImageCase], section: EvaluateSection) -> None:
    pair = make_pair(image_case, ["dog", "dog", "cat"], "dog", "dog", "bird", "fish")
    assert measure_label_precision(pair, section) == Share(1, 3)
    assert measure_label_recall(pair, section) == Share(1, 2)
    assert measure_exact_set(pair, section) == Share(0.0, 1)


def test_exact_set_ignores_order_and_repetition(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    pair = make_pair(image_case, ["dog", "dog", "cat"], "cat", "dog")
    assert measure_exact_set(pair, section) == Share(1.0, 1)


def test_a_surplus_label_in_the_empty_image_is_not_exact(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    pair = make_pair(image_case, [], "dog")
    assert measure_exact_set(pair, section) == Share(0.0, 1)
    assert measure_label_precision(pair, section) == Share(0, 1)
    assert measure_label_recall(pair, section) == Share(0, 0)
