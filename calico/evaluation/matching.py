"""Pair predicted with true masks one to one; every metric that needs a matching takes it from here.

P predicted masks (best-ranked first) and T true masks of one image.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

# Far below any difference between two overlaps that matters, so it decides between equal ones only.
_TIE_BREAK = 1e-9


def greedy_by_overlap(
    iou_PT: np.ndarray, is_admissible_PT: np.ndarray | None = None
) -> list[tuple[int, int]]:
    """Take the largest positive IoU again and again, each mask once.

    A pair that is not admissible is passed over and the search goes on. (The released GLaMM evaluator stops
    there, which hides every later valid pair.)

    Args:
        iou_PT: intersection over union.
        is_admissible_PT: which pairs may match; all where None.

    Returns:
        (prediction, truth) indices, largest IoU first; equal IoUs in row-major order.

    Source: mIoU and Recall of [GLaMM] eval/gcg/evaluate.py.
    """
    is_candidate_PT = iou_PT > 0 if is_admissible_PT is None else (iou_PT > 0) & is_admissible_PT
    predictions, truths = np.nonzero(is_candidate_PT)
    order = np.argsort(-iou_PT[predictions, truths], kind="stable")
    pairs: list[tuple[int, int]] = []
    used_predictions: set[int] = set()
    used_truths: set[int] = set()
    for prediction, truth in zip(predictions[order].tolist(), truths[order].tolist(), strict=True):
        if prediction not in used_predictions and truth not in used_truths:
            pairs.append((prediction, truth))
            used_predictions.add(prediction)
            used_truths.add(truth)
    return pairs


def optimal_by_overlap(iou_PT: np.ndarray, is_preferred_PT: np.ndarray) -> list[tuple[int, int]]:
    """Match one to one so that the sum of the IoUs is as large as it can be.

    Args:
        iou_PT: intersection over union.
        is_preferred_PT: of assignments with the same sum, the one with most of these pairs is taken.

    Returns:
        (prediction, truth) indices with IoU above 0, in order of the predictions.
    """
    rows, columns = linear_sum_assignment(iou_PT + _TIE_BREAK * is_preferred_PT, maximize=True)
    return [
        (prediction, truth)
        for prediction, truth in zip(rows.tolist(), columns.tolist(), strict=True)
        if iou_PT[prediction, truth] > 0
    ]


def greedy_by_rank(iou_PT: np.ndarray, threshold: float) -> np.ndarray:
    """Give each prediction, in order of rank, the free true mask that it overlaps most.

    Args:
        iou_PT: rows in order of falling confidence.
        threshold: least IoU of a match.

    Returns:
        Boolean array of P: whether the prediction found a true mask.

    Source: pycocotools COCOeval.evaluateImg; of equal IoUs it takes the last.
    """
    num_predicted, num_true = iou_PT.shape
    is_hit_P = np.zeros(num_predicted, dtype=bool)
    is_free_T = np.ones(num_true, dtype=bool)
    for prediction in range(num_predicted if num_true else 0):
        free_iou_T = np.where(is_free_T, iou_PT[prediction], -1.0)
        truth = num_true - 1 - int(np.argmax(free_iou_T[::-1]))
        if free_iou_T[truth] >= threshold:
            is_hit_P[prediction] = True
            is_free_T[truth] = False
    return is_hit_P
