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
    """Return the percentile interval that holds 95 % of the resampled values; NaN is none of them."""
    tail = (1.0 - _CONFIDENCE) / 2.0
    low, high = np.nanquantile(values_R, [tail, 1.0 - tail])
    return float(low), float(high)


def sign_probability(difference_R: np.ndarray) -> float:
    """Return how likely the resamples make it that the difference has the other sign, for both directions.

    Twice the smaller share of resamples on one side of 0, ties on both sides; never below 2 / (R + 1), which
    is all that R resamples can show. Resamples without a value do not count.
    """
    known_R = difference_R[~np.isnan(difference_R)]
    smaller = min(int((known_R <= 0).sum()), int((known_R >= 0).sum()))
    return min(1.0, 2.0 * (smaller + 1) / (len(known_R) + 1))


def resample_runs(values_SR: np.ndarray, *, seed: int, model: str) -> np.ndarray:
    """Average S runs of a model, drawn with replacement anew for each of R resamples of the pairs.

    Args:
        model: draws differ from name to name. Pairs are shared by two models, training seeds are not: drawn
            alike, the n-th run of one model would only ever be compared with the n-th of the other.

    Returns:
        R values that vary with the pairs and with the runs; those of the run itself for a single one.
    """
    num_runs, num_resamples = values_SR.shape
    weights_RS = resample(num_runs, num_resamples, seed=seed, task=f"runs of {model}")
    return (weights_RS * values_SR.T).sum(axis=1) / num_runs
