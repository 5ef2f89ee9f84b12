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
    weights_RP = weights_RK[:, pair_index_P[order]]
    return np.array(
        [
            _average_precision(weights_P * is_hit_P[order], weights_P, num_true)
            for weights_P, num_true in zip(weights_RP, num_true_R, strict=True)
        ]
    )


def _average_precision(hits_P: np.ndarray, weights_P: np.ndarray, num_true: float) -> float:
    if len(hits_P) == 0 or num_true == 0:
        return 0.0
    num_hits_P = np.cumsum(hits_P)
    precision_P = num_hits_P / (np.cumsum(weights_P) + _SPACING)
    envelope_P = np.maximum.accumulate(precision_P[::-1])[::-1]
    first_P = np.searchsorted(num_hits_P / num_true, _RECALL_LEVELS, side="left")
    reached = first_P[first_P < len(envelope_P)]
    return float(envelope_P[reached].sum() / len(_RECALL_LEVELS))


AP50 = Metric(
    "average precision at IoU >= 0.5, labels ignored, predictions ranked by score, 101 recall levels (COCO)",
    measure_ap50,
    combine_ap50,
    pa.struct(
        [("num_true", pa.int32()), ("scores", pa.list_(pa.float64())), ("is_hit", pa.list_(pa.bool_()))]
    ),
)
