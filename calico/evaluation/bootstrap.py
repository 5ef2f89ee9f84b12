"""Confidence intervals by resampling pairs.

The resamples of a task depend on the seed, the task and the number of its pairs only, so two models that are
scored on the same pairs are resampled alike.
"""

import zlib

import numpy as np

_CONFIDENCE = 0.95


def resample(num_pairs: int, num_resamples: int, *, seed: int, task: str) -> np.ndarray:
    """Draw pairs with replacement.

    Returns:
        Integers of shape (num_resamples, num_pairs): how often each pair was drawn; a row sums to num_pairs.
    """
    generator = np.random.default_rng([seed, zlib.crc32(b"bootstrap"), zlib.crc32(task.encode())])
    return generator.multinomial(num_pairs, np.full(num_pairs, 1.0 / num_pairs), size=num_resamples)


def interval(values_R: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval that holds 95 % of the resampled values."""
    tail = (1.0 - _CONFIDENCE) / 2.0
    low, high = np.quantile(values_R, [tail, 1.0 - tail])
    return float(low), float(high)
