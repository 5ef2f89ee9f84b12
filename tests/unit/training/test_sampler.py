import itertools

import numpy as np
import pytest

from calico.training.sampler import Sampler


def make_sampler(num_samples=100, batch_size=4, accumulation=2, seed=3):
    sizes = np.random.default_rng(0).integers(20, 80, num_samples)
    return Sampler(sizes, batch_size=batch_size, accumulation=accumulation, seed=seed)


def indices_of(micro_batches):
    return [index for micro_batch in micro_batches for index in micro_batch.sample_indices]


def test_a_step_depends_on_seed_and_step_only():
    forwards, backwards = make_sampler(), make_sampler()
    steps = [forwards.step(step) for step in range(40)]
    assert [backwards.step(step) for step in reversed(range(40))] == steps[::-1]
    assert make_sampler(seed=4).step(0) != steps[0]


def test_every_sample_is_drawn_once_per_pass():
    sampler = make_sampler(num_samples=96)
    first_pass = list(itertools.chain.from_iterable(indices_of(sampler.step(step)) for step in range(12)))
    assert sorted(first_pass) == list(range(96))


def test_passes_follow_each_other_without_dropping_samples():
    sampler = make_sampler(num_samples=100)  # 8 a step: 12.5 steps a pass, windows of 12 steps
    drawn = list(itertools.chain.from_iterable(indices_of(sampler.step(step)) for step in range(300)))
    counts = np.bincount(drawn, minlength=100)
    assert counts.min() == counts.max() == 24


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_processes_share_a_step_without_overlap(world_size):
    sampler = make_sampler()
    for step in range(20):
        shares = [indices_of(sampler.step(step, rank, world_size)) for rank in range(world_size)]
        assert len({len(share) for share in shares}) == 1
        assert sorted(itertools.chain.from_iterable(shares)) == sorted(indices_of(sampler.step(step)))


def test_two_processes_take_whole_micro_batches_with_their_seeds():
    sampler = make_sampler()
    alone = sampler.step(5)
    assert [*sampler.step(5, 0, 2), *sampler.step(5, 1, 2)] == alone


def test_micro_batches_hold_samples_of_similar_size():
    sizes = np.random.default_rng(0).integers(20, 80, 1000)
    sampler = Sampler(sizes, batch_size=8, accumulation=1, seed=0)
    spreads = [np.ptp(sizes[indices_of(sampler.step(step))]) for step in range(100)]
    # Eight uniform draws from 20..79 spread over about 47; measured with grouping: 4.2.
    assert np.mean(spreads) < 8


def test_fewer_samples_than_a_batch_are_repeated():
    sampler = make_sampler(num_samples=3, batch_size=4, accumulation=1)
    assert set(indices_of(sampler.step(0))) == {0, 1, 2}
    assert len(indices_of(sampler.step(7))) == 4
