"""calico.data.pairs.sampling: categories in proportion, and each image before any comes again."""

from collections import Counter

import numpy as np

from calico.data.pairs.sampling import PairSampler

IMAGES_OF = [np.arange(0, 60), np.arange(60, 90), np.arange(90, 100)]


def sampler(may_compare: np.ndarray | None, seed: int = 0) -> PairSampler:
    return PairSampler(IMAGES_OF, may_compare, np.random.default_rng(seed))


def test_categories_come_in_proportion_to_their_images() -> None:
    drawn = sampler(None).draw_categories(20_000)
    assert (drawn[:, 0] == drawn[:, 1]).all()
    share = np.bincount(drawn[:, 0]) / len(drawn)
    # Standard error of a share is at most 0.0035; four of them.
    np.testing.assert_allclose(share, [0.6, 0.3, 0.1], atol=0.014)


def test_a_quarter_is_of_one_category_and_partners_weigh_as_their_images() -> None:
    drawn = sampler(np.ones((3, 3), dtype=bool)).draw_categories(20_000)
    assert abs((drawn[:, 0] == drawn[:, 1]).mean() - 0.25) < 0.014
    of_first = Counter(drawn[(drawn[:, 0] == 0) & (drawn[:, 1] != 0), 1].tolist())
    assert abs(of_first[1] / of_first.total() - 0.75) < 0.02


def test_only_what_may_be_compared_is_drawn() -> None:
    may_compare = np.eye(3, dtype=bool)
    may_compare[0, 2] = may_compare[2, 0] = True
    drawn = sampler(may_compare).draw_categories(5_000)
    # Images of category 1 are 30 %, more than a quarter: the others are never paired with themselves.
    assert {tuple(sorted(pair)) for pair in drawn.tolist()} == {(0, 2), (1, 1)}
    assert abs((drawn == 1).all(axis=1).mean() - 0.3) < 0.026


def test_every_image_comes_before_one_comes_again() -> None:
    one = sampler(None)
    categories = np.array([[0, 0]] * 30 + [[2, 2]] * 5 + [[0, 2]] * 10)
    images = one.draw_images(categories)
    assert sorted(images[:30].ravel().tolist()) == list(range(60))
    assert sorted(images[30:35].ravel().tolist()) == list(range(90, 100))
    assert sorted(images[35:, 1].tolist()) == list(range(90, 100))
    assert len(set(one.draw_images(np.array([[0, 0]] * 25)).ravel()) & set(images[35:, 0])) == 0


def test_draws_follow_the_generator() -> None:
    first, again, other = (sampler(None, seed).draw_categories(50) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
