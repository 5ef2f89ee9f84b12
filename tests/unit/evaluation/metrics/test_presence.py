"""presence and absence by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.metric import Share
from calico.evaluation.metrics.presence import ABSENCE, measure_absence, measure_presence


@pytest.mark.parametrize(
    ("outlined", "presence", "absence"),
    [
        ((1, 0), (1, 1), (1, 1)),  # right: something in the image with a target, nothing in the other
        ((1, 2), (1, 1), (0, 1)),
        ((0, 2), (0, 1), (0, 1)),
        ((0, 0), (0, 1), (0, 1)),  # an empty answer tells nothing apart
    ],
)
def test_one_image_holds_a_target_and_one_does_not(
    image_case: Callable[..., ImageCase],
    section: EvaluateSection,
    outlined: tuple[int, int],
    presence: tuple[float, int],
    absence: tuple[float, int],
) -> None:
    images = (
        image_case([[0.1]] * outlined[0], num_true=1),
        image_case([[]] * outlined[1], num_true=0),
    )
    pair = PairCase("p", "unique_parts", images)
    assert measure_presence(pair, section) == presence
    assert measure_absence(pair, section) == absence


def test_without_an_image_without_a_target_there_is_no_absence() -> None:
    values_R = ABSENCE.combine([Share(0.0, 0), Share(1.0, 1)], np.array([[2, 0], [1, 1]]))
    assert np.isnan(values_R[0])
    assert values_R[1] == 1.0
