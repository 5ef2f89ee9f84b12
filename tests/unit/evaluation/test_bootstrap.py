"""calico.evaluation.bootstrap: reproducible draws and intervals of the right width."""

import numpy as np
import pytest

from calico.evaluation.bootstrap import interval, resample, resample_runs, sign_probability


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


def test_resamples_without_a_value_do_not_count() -> None:
    values_R = np.concatenate([np.linspace(0.0, 1.0, 1001), np.full(50, np.nan)])
    assert interval(values_R) == pytest.approx((0.025, 0.975))


@pytest.mark.parametrize(
    ("difference_R", "expected"),
    [
        (np.full(999, 0.1), 2 / 1000),
        (np.full(999, -0.1), 2 / 1000),
        (np.zeros(999), 1.0),
        (np.array([-1.0] * 9 + [1.0] * 90), 2 * 10 / 100),
        (np.array([-1.0] * 9 + [1.0] * 90 + [np.nan] * 50), 2 * 10 / 100),
    ],
)
def test_sign_probability_by_hand(difference_R: np.ndarray, expected: float) -> None:
    assert sign_probability(difference_R) == pytest.approx(expected)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    """The same pairs are hard for both models: their difference varies less than either."""
    generator = np.random.default_rng(5)
    hardness_K = generator.random(200)
    weights_RK = resample(200, 1000, seed=1, task="t")
    first_R, second_R = weights_RK @ (hardness_K + 0.05) / 200, weights_RK @ hardness_K / 200
    assert interval(first_R)[0] < interval(second_R)[1]
    assert interval(first_R - second_R) == pytest.approx((0.05, 0.05))
    assert sign_probability(first_R - second_R) == pytest.approx(2 / 1001)


def test_runs_add_their_own_spread() -> None:
    values_R = np.random.default_rng(0).normal(0.5, 0.01, size=500)
    assert np.array_equal(resample_runs(values_R[None], seed=1, model="m"), values_R)
    runs_SR = values_R[None] + np.array([[-0.1], [0.0], [0.1]])
    low, high = interval(resample_runs(runs_SR, seed=1, model="m"))
    assert high - low > 2 * (interval(values_R)[1] - interval(values_R)[0])
    assert np.array_equal(
        resample_runs(runs_SR, seed=1, model="m"), resample_runs(runs_SR, seed=1, model="m")
    )


def test_runs_of_two_models_are_drawn_apart() -> None:
    """The n-th seed of one model has nothing to do with the n-th of another."""
    runs_SR = np.repeat(np.array([[0.0], [1.0]]), 400, axis=1)
    first_R, second_R = (resample_runs(runs_SR, seed=1, model=name) for name in ("first", "second"))
    assert abs(np.corrcoef(first_R, second_R)[0, 1]) < 0.15
    assert interval(first_R - second_R) == (-1.0, 1.0)
