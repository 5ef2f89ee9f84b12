"""calico.evaluation.bootstrap: reproducible draws and intervals of the right width."""

import numpy as np
import pytest

from calico.evaluation.bootstrap import interval, resample


def test_rows_are_draws_with_replacement() -> None:
    weights_RK = resample(7, 40, seed=3, task="common_parts")
    assert weights_RK.shape == (40, 7)
    assert (weights_RK.sum(axis=1) == 7).all()
    assert weights_RK.max() > 1


def test_draws_depend_on_seed_and_task_only() -> None:
    first = resample(50, 5, seed=3, task="common_parts")
    assert np.array_equal(first, resample(50, 5, seed=3, task="common_parts"))
    assert not np.array_equal(first, resample(50, 5, seed=4, task="common_parts"))
    assert not np.array_equal(first, resample(50, 5, seed=3, task="unique_parts"))


def test_interval_holds_95_percent() -> None:
    assert interval(np.linspace(0.0, 1.0, 1001)) == pytest.approx((0.025, 0.975))


def test_interval_of_a_mean_is_the_textbook_one() -> None:
    values_K = np.random.default_rng(0).random(400)
    means_R = resample(400, 2000, seed=1, task="t") @ values_K / 400
    half_width = 1.96 * values_K.std() / 20
    # Worst deviation measured over 20 seeds: 0.0022.
    assert interval(means_R) == pytest.approx(
        (values_K.mean() - half_width, values_K.mean() + half_width), abs=4e-3
    )
