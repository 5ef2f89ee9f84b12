import pytest

from calico.core.records import PairSample
from calico.errors import DataError
from calico.predictors.shuffle import exchange_images


def make_pairs(task, num_pairs):
    return [
        PairSample(
            f"{task}/{row}", task, "paco_lvis", (f"{task}-{row}", f"{task}-{(row + 1) % num_pairs}"), ()
        )
        for row in range(num_pairs)
    ]


PAIRS = make_pairs("common_parts", 12) + make_pairs("unique_parts", 7)


def test_every_pair_gets_the_images_of_another_pair_of_its_task():
    exchanged = exchange_images(PAIRS, seed=1)
    images_of_task = {
        task: {pair.image_ids for pair in PAIRS if pair.task == task}
        for task in ("common_parts", "unique_parts")
    }
    for pair, image_ids in zip(PAIRS, exchanged, strict=True):
        assert not set(image_ids) & set(pair.image_ids)
        assert image_ids in images_of_task[pair.task]


def test_the_seed_decides_and_the_other_tasks_do_not():
    assert exchange_images(PAIRS, seed=1) == exchange_images(PAIRS, seed=1)
    assert exchange_images(PAIRS, seed=1) != exchange_images(PAIRS, seed=2)
    assert exchange_images(PAIRS[:12], seed=1) == exchange_images(PAIRS, seed=1)[:12]


def test_pairs_of_another_image_count_do_not_exchange():
    triple = PairSample("common_parts/triple", "common_parts", "paco_lvis", ("a", "b", "c"), ())
    with pytest.raises(DataError, match=r"pair 'common_parts/triple': the 12 other pairs .* another number"):
        exchange_images([*make_pairs("common_parts", 12), triple], seed=1)


def test_pairs_that_all_share_an_image_are_refused():
    pairs = [PairSample(f"p{row}", "common_parts", "paco_lvis", ("a", str(row)), ()) for row in range(3)]
    with pytest.raises(
        DataError, match=r"pair 'p\d': the 2 other pairs of task 'common_parts' share an image"
    ):
        exchange_images(pairs, seed=0)
