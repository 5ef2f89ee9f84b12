"""AP50: average precision at IoU 0.5 over masks of any label, ranked by confidence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase
from calico.evaluation.matching import greedy_by_rank
from calico.evaluation.metrics.metric import Metric

_IOU_THRESHOLD = 0.5
_RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
_MAX_CELLS = 1 << 21  # of a resamples x predictions array: 16 MB each
_SPACING = np.spacing(1)  # COCOeval's guard against 0 / 0; kept so that the values are its own


class Detections(NamedTuple):
    """The predictions of one pair: image after image, best score first."""

    num_true: int
    scores: list[float]
    is_hit: list[bool]


def measure_ap50(pair: PairCase, _: EvaluateSection) -> Detections:
    """Decide which predictions of a pair find a true mask; labels play no part."""
    scores: list[float] = []
    is_hit: list[bool] = []
    for image in pair.images:
        scores += image.scores_P.tolist()
        is_hit += greedy_by_rank(image.iou_PT, _IOU_THRESHOLD).tolist()
    return Detections(sum(len(image.true_labels) for image in pair.images), scores, is_hit)


def combine_ap50(detections: Sequence[Detections], weights_RK: np.ndarray) -> np.ndarray:
    """Rank the predictions of all pairs together and average precision over 101 recall levels.

    Equal scores keep the order of `detections`, which is canonical.

    Source: pycocotools COCOeval.accumulate. Weighting a prediction by w equals listing it w times: in a
    block of equal predictions precision is best at its end or before its start, so the envelope agrees.
    """
    num_true_R = weights_RK @ np.array([pair.num_true for pair in detections], dtype=np.float64)
    pair_index_P = np.repeat(np.arange(len(detections)), [len(pair.scores) for pair in detections])
    scores_P = np.array([score for pair in detections for score in pair.scores])
    is_hit_P = np.array([hit for pair in detections for hit in pair.is_hit], dtype=bool)
    order = np.argsort(-scores_P, kind="stable")
    return average_precisions(is_hit_P[order], weights_RK[:, pair_index_P[order]], num_true_R)


def average_precisions(is_hit_P: np.ndarray, weights_RP: np.ndarray, num_true_R: np.ndarray) -> np.ndarray:
    """Average precision over 101 recall levels, for R weightings of P ranked predictions at once.

    Returns:
        R values; 0 where a weighting has no true mask or there is no prediction.

    Source: pycocotools COCOeval.accumulate. A level counts the best precision at any recall from it on; here
    each prediction takes the levels that it is the first to reach.
    """
    values_R = np.zeros(len(weights_RP))
    chunk = max(1, _MAX_CELLS // max(1, len(is_hit_P)))
    for start in range(0, len(weights_RP) if len(is_hit_P) else 0, chunk):
        rows = slice(start, start + chunk)
        values_R[rows] = _average_precisions(is_hit_P, weights_RP[rows], num_true_R[rows])
    return values_R


def _average_precisions(is_hit_P: np.ndarray, weights_RP: np.ndarray, num_true_R: np.ndarray) -> np.ndarray:
    num_hits_RP = np.cumsum(weights_RP * is_hit_P, axis=1, dtype=np.float64)
    precision_RP = num_hits_RP / (np.cumsum(weights_RP, axis=1) + _SPACING)
    envelope_RP = np.maximum.accumulate(precision_RP[:, ::-1], axis=1)[:, ::-1]
    recall_RP = num_hits_RP / np.maximum(num_true_R, 1)[:, None]
    num_reached_RP = np.searchsorted(_RECALL_LEVELS, recall_RP, side="right")
    num_first_RP = np.diff(num_reached_RP, axis=1, prepend=0)
    return np.where(num_true_R > 0, (num_first_RP * envelope_RP).sum(axis=1) / len(_RECALL_LEVELS), 0.0)


AP50 = Metric(
    "average precision at IoU >= 0.5, labels ignored, predictions ranked by score, 101 recall levels (COCO)",
    measure_ap50,
    combine_ap50,
    pa.struct(
        [("num_true", pa.int32()), ("scores", pa.list_(pa.float64())), ("is_hit", pa.list_(pa.bool_()))]
    ),
)
