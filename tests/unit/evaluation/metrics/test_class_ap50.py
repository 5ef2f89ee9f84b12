"""class_AP50 by hand; COCOeval's verdict is a golden test."""

from collections.abc import Callable

import numpy as np
import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.class_ap50 import by_label, combine_class_ap50, measure_class_ap50


@pytest.fixture
def pair(image_case: Callable[..., ImageCase]) -> PairCase:
    """Two dogs and a cat; a dog is found, the cat is called a dog, and a bird is seen that nothing is."""
    image = image_case(
        [[0.9, 0.0, 0.0], [0.0, 0.0, 0.8], [0.0, 0.6, 0.0]],
        true_labels=["dog", "dog", "cat"],
        predicted_labels=["dog", "dog", "bird"],
        scores_P=[0.9, 0.8, 0.7],
    )
    return PairCase("p", "common_objects", (image,))


def test_a_prediction_competes_within_its_own_label(pair: PairCase, section: EvaluateSection) -> None:
    measured = measure_class_ap50(pair, section)
    assert measured.is_hit == [True, False, False]
    labels, ap_CR, num_true_CR = by_label([measured], np.ones((1, 1)))
    assert labels == ["cat", "dog"]
    # Of two dogs one is found at rank 1: precision 1 on 51 of 101 levels. Of the cats, none.
    assert ap_CR[:, 0].tolist() == pytest.approx([0.0, 51 / 101], abs=1e-12)
    assert num_true_CR[:, 0].tolist() == [1, 2]
    assert combine_class_ap50([measured], np.ones((1, 1)))[0] == pytest.approx(51 / 202, abs=1e-12)


def test_a_label_that_a_resample_lacks_is_not_counted_in_it(
    image_case: Callable[..., ImageCase], section: EvaluateSection
) -> None:
    right = image_case([[1.0]], true_labels=["dog"], predicted_labels=["dog"])
    wrong = image_case([[1.0]], true_labels=["cat"], predicted_labels=["dog"])
    measured = [
        measure_class_ap50(PairCase(name, "common_objects", (image,)), section)
        for name, image in (("a", right), ("b", wrong))
    ]
    weights_RK = np.array([[2, 0], [0, 2]])
    assert combine_class_ap50(measured, weights_RK).tolist() == pytest.approx([1.0, 0.0], abs=1e-12)


def test_nothing_true_is_zero(image_case: Callable[..., ImageCase], section: EvaluateSection) -> None:
    empty = measure_class_ap50(PairCase("p", "common_parts", (image_case([], num_true=0),)), section)
    assert combine_class_ap50([empty], np.ones((2, 1))).tolist() == [0.0, 0.0]
