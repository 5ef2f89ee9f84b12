"""A loop of the shape of the released GLaMM evaluator, on a few images: the peer of `benchmarks.evaluation`.

What makes it slow is kept: all annotations of the data set are searched for each image and each list, every
mask is decoded, overlaps are counted on dense masks, in one pass for mIoU and in another for Recall, and both
labels of every pair of a true and a predicted mask go through the text model, one at a time.

Source: [GLaMM] eval/gcg/evaluate.py.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

_THRESHOLD = 0.5

Annotations = Sequence[dict[str, Any]]


def miou_and_recall(
    image_ids: Sequence[int],
    truth: Annotations,
    results: Annotations,
    *,
    names: dict[int, str],
    embed: Callable[[Sequence[str]], np.ndarray],
) -> tuple[float, float]:
    """Return mIoU and Recall of some images of a data set."""
    means = [
        _mean_overlap(_overlaps(_masks(results, image_id), _masks(truth, image_id))) for image_id in image_ids
    ]
    num_found, num_true = 0, 0
    for image_id in image_ids:
        true_labels = [names[one["category_id"]] for one in _of_image(truth, image_id)]
        labels = [names[one["category_id"]] for one in _of_image(results, image_id)]
        overlaps_TP = _overlaps(_masks(truth, image_id), _masks(results, image_id))
        similar_TP = np.array([[_similarity(true, label, embed) for label in labels] for true in true_labels])
        num_found += _num_found(overlaps_TP, similar_TP)
        num_true += len(true_labels)
    return float(np.mean(means)), num_found / num_true


def _of_image(annotations: Annotations, image_id: int) -> Annotations:
    return [one for one in annotations if one["image_id"] == image_id]


def _masks(annotations: Annotations, image_id: int) -> list[np.ndarray]:
    return [coco_mask.decode(one["segmentation"]) for one in _of_image(annotations, image_id)]


def _overlaps(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> np.ndarray:
    matrix = np.zeros((len(rows), len(columns)))
    for row, mask_HW in enumerate(rows):
        for column, other_HW in enumerate(columns):
            shared, joined = np.logical_and(mask_HW, other_HW), np.logical_or(mask_HW, other_HW)
            matrix[row, column] = np.sum(shared) / np.sum(joined)
    return matrix


def _mean_overlap(overlaps_PT: np.ndarray) -> float:
    taken = []
    while overlaps_PT.size and overlaps_PT.max() > 0:
        row, column = np.unravel_index(overlaps_PT.argmax(), overlaps_PT.shape)
        taken.append(overlaps_PT[row, column])
        overlaps_PT = np.delete(np.delete(overlaps_PT, row, axis=0), column, axis=1)
    return float(np.mean(taken)) if taken else 0.0


def _similarity(label: str, other: str, embed: Callable[[Sequence[str]], np.ndarray]) -> float:
    (first_F,), (second_F,) = embed([label]), embed([other])
    return float(first_F @ second_F / np.linalg.norm(first_F) / np.linalg.norm(second_F))


def _num_found(overlaps_TP: np.ndarray, similar_TP: np.ndarray) -> int:
    num_found = 0
    while overlaps_TP.size:
        place = np.unravel_index(overlaps_TP.argmax(), overlaps_TP.shape)
        if overlaps_TP[place] < _THRESHOLD or similar_TP[place] < _THRESHOLD:
            break
        num_found += 1
        overlaps_TP[place[0], :] = 0
        overlaps_TP[:, place[1]] = 0
    return num_found
