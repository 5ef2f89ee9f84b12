"""class_AP50: average precision at IoU 0.5 of each label by itself, averaged over the labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.matching import greedy_by_rank
from calico.evaluation.metrics.ap50 import average_precisions
from calico.evaluation.metrics.metric import Metric

_IOU_THRESHOLD = 0.5


class LabelledDetections(NamedTuple):
    """The true labels and the predictions of one pair: image after image, best score first."""

    true_labels: list[str]
    labels: list[str]
    scores: list[float]
    is_hit: list[bool]


def measure_class_ap50(pair: PairCase, _: EvaluateSection) -> LabelledDetections:
    """Decide which predictions of a pair find a true mask of their own label."""
    measured = LabelledDetections([], [], [], [])
    for image in pair.images:
        measured.true_labels.extend(image.true_labels)
        measured.labels.extend(image.predicted_labels)
        measured.scores.extend(image.scores_P.tolist())
        measured.is_hit.extend(_hits(image).tolist())
    return measured


def combine_class_ap50(detections: Sequence[LabelledDetections], weights_RK: np.ndarray) -> np.ndarray:
    """Average over the labels that have a true mask; each ranks its own predictions over all pairs."""
    labels, ap_CR, num_true_CR = by_label(detections, weights_RK)
    if not labels:
        return np.zeros(len(weights_RK))
    has_truth_CR = num_true_CR > 0
    return np.where(has_truth_CR, ap_CR, 0.0).sum(axis=0) / np.maximum(has_truth_CR.sum(axis=0), 1)


def by_label(
    detections: Sequence[LabelledDetections], weights_RK: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the C labels with a true mask; their average precisions and numbers of true masks, (C, R)."""
    labels = sorted({label for pair in detections for label in pair.true_labels})
    row_of = {label: row for row, label in enumerate(labels)}
    pair_index_T = _pair_index([len(pair.true_labels) for pair in detections])
    label_T = np.array([row_of[label] for pair in detections for label in pair.true_labels], dtype=int)
    pair_index_P = _pair_index([len(pair.labels) for pair in detections])
    label_P = np.array([row_of.get(label, -1) for pair in detections for label in pair.labels], dtype=int)
    scores_P = np.array([score for pair in detections for score in pair.scores])
    is_hit_P = np.array([hit for pair in detections for hit in pair.is_hit], dtype=bool)
    ap_CR = np.zeros((len(labels), len(weights_RK)))
    num_true_CR = np.zeros_like(ap_CR)
    order = np.argsort(-scores_P, kind="stable")
    for row in range(len(labels)):
        ranked = order[label_P[order] == row]
        num_true_CR[row] = weights_RK[:, pair_index_T[label_T == row]].sum(axis=1)
        ap_CR[row] = average_precisions(
            is_hit_P[ranked], weights_RK[:, pair_index_P[ranked]], num_true_CR[row]
        )
    return labels, ap_CR, num_true_CR


def _hits(image: ImageCase) -> np.ndarray:
    is_hit_P = np.zeros(len(image.predicted_labels), dtype=bool)
    for label in set(image.predicted_labels) & set(image.true_labels):
        rows = [row for row, other in enumerate(image.predicted_labels) if other == label]
        columns = [column for column, other in enumerate(image.true_labels) if other == label]
        is_hit_P[rows] = greedy_by_rank(image.iou_PT[np.ix_(rows, columns)], _IOU_THRESHOLD)
    return is_hit_P


def _pair_index(numbers: Sequence[int]) -> np.ndarray:
    return np.repeat(np.arange(len(numbers)), numbers)


CLASS_AP50 = Metric(
    "mean over the task's true labels of the average precision at IoU >= 0.5 of that label alone, "
    "predictions ranked by score, 101 recall levels (COCO); labels that no true mask has are not among them",
    measure_class_ap50,
    combine_class_ap50,
    pa.struct(
        [
            ("true_labels", pa.list_(pa.string())),
            ("labels", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float64())),
            ("is_hit", pa.list_(pa.bool_())),
        ]
    ),
)
