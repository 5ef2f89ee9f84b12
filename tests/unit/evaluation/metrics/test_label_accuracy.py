"""label_accuracy by hand."""

from collections.abc import Callable

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.label_accuracy import measure_label_accuracy


def test_only_masks_in_place_are_asked_for_their_name(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    image = image_case(
        [[0.9, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.4]],
        true_labels=["dog", "cat", "bird"],
        predicted_labels=["dog", "dog", "bird"],
    )
    assert measure_label_accuracy(PairCase("p", "common_objects", (image,)), section) == (1, 2)


def test_an_empty_answer_has_no_name_to_be_right(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    image = image_case([], num_true=2)
    assert measure_label_accuracy(PairCase("p", "common_objects", (image,)), section) == (0, 0)
