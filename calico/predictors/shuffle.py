"""The control without sight: every question asked about the images of another pair."""

import zlib
from collections.abc import Sequence

import numpy as np

from calico.core.records import PairSample
from calico.errors import DataError


def exchange_images(pairs: Sequence[PairSample], *, seed: int) -> list[tuple[str, ...]]:
    """Choose for every pair the images of another pair of the same task, none of them its own.

    Within a task the pairs stand in a random ring; each takes the images of the next one that shares no image
    with it and shows as many.

    Args:
        pairs: any number of tasks.
        seed: of the rings.

    Returns:
        Image ids for each pair, in the order of `pairs`.

    Raises:
        DataError: a pair shares an image with every other pair of its task.
    """
    exchanged: list[tuple[str, ...]] = [()] * len(pairs)
    for task in sorted({pair.task for pair in pairs}):
        rows = [row for row, pair in enumerate(pairs) if pair.task == task]
        rng = np.random.default_rng([seed, zlib.crc32(b"exchange_images"), zlib.crc32(task.encode())])
        ring = [rows[position] for position in rng.permutation(len(rows))]
        for position, row in enumerate(ring):
            others = [pairs[other] for other in ring[position + 1 :] + ring[:position]]
            exchanged[row] = _first_stranger(pairs[row], others)
    return exchanged


def _first_stranger(pair: PairSample, others: Sequence[PairSample]) -> tuple[str, ...]:
    for other in others:
        if len(other.image_ids) == len(pair.image_ids) and not set(other.image_ids) & set(pair.image_ids):
            return other.image_ids
    raise DataError(
        f"pair '{pair.pair_id}': the {len(others)} other pairs of task '{pair.task}' share an image with it "
        "or show another number of images, so its images cannot be exchanged. Make more test pairs "
        "(pair.num_pairs.test)."
    )
