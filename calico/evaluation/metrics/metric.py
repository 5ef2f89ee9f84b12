"""What a metric is: a measurement of each pair, and a way to combine measurements over weighted pairs.

Combining takes weights, so that a bootstrap resample is a row of counts and no metric needs a second code
path. K pairs of one task, R rows of weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase

Measurement = TypeVar("Measurement", bound=NamedTuple)


@dataclass(frozen=True)
class Metric(Generic[Measurement]):
    """One metric.

    Attributes:
        definition: one sentence for metrics.json; docs/metrics.md holds the worked example.
        measure: gives what one pair contributes.
        combine: gives R values in [0, 1] for K measurements and weights of shape (R, K); NaN where the pairs
            offer nothing to measure, and then the value is left out.
        arrow_type: type of a measurement in per_pair.parquet.
    """

    definition: str
    measure: Callable[[PairCase, EvaluateSection], Measurement]
    combine: Callable[[Sequence[Measurement], np.ndarray], np.ndarray]
    arrow_type: pa.DataType


class Share(NamedTuple):
    """A sum and the number of things summed: the measurement of every metric that is a mean."""

    total: float
    number: int


SHARE_TYPE = pa.struct([("total", pa.float64()), ("number", pa.int32())])


def combine_shares(shares: Sequence[Share], weights_RK: np.ndarray) -> np.ndarray:
    """Return the weighted sum of totals over the weighted sum of numbers; 0 where nothing was counted."""
    totals_K, numbers_K = np.array(shares, dtype=np.float64).reshape(-1, 2).T
    numbers_R = weights_RK @ numbers_K
    return np.divide(weights_RK @ totals_K, numbers_R, out=np.zeros_like(numbers_R), where=numbers_R > 0)


def combine_if_any(shares: Sequence[Share], weights_RK: np.ndarray) -> np.ndarray:
    """Return the same as `combine_shares`, but NaN where nothing was counted: for what few pairs offer."""
    numbers_R = weights_RK @ np.array([share.number for share in shares], dtype=np.float64)
    return np.where(numbers_R > 0, combine_shares(shares, weights_RK), np.nan)
