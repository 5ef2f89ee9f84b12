"""The scores that the released GLaMM evaluator would print, with its departures from the usual definitions.

These metrics read cases whose predictions stand in the order of the file. Its text model is not among the
departures: see docs/metrics.md.

Source: [GLaMM] eval/gcg/evaluate.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.matching import greedy_by_overlap
from calico.evaluation.metrics.ap50 import AP50, Detections, combine_ap50, measure_ap50
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares
from calico.evaluation.metrics.miou import mean_matched_iou

_MAX_DETECTIONS = 100  # COCOeval's own limit per image


def measure_glamm_ap50(pair: PairCase, section: EvaluateSection) -> Detections:
    """Give every prediction the score 1.0, so that the order of the file is the ranking."""
    return measure_ap50(replace(pair, images=tuple(_unranked(image) for image in pair.images)), section)


def measure_glamm_miou(pair: PairCase, _: EvaluateSection) -> Share:
    """Sum over all images of a pair; one without a true mask counts 0."""
    return Share(sum(mean_matched_iou(image) for image in pair.images), len(pair.images))


def stopping_count(iou_TP: np.ndarray, similarity_TP: np.ndarray, section: EvaluateSection) -> int:
    """Count matches, largest IoU first, up to the first that fails a threshold; both may be met exactly."""
    count = 0
    for match in greedy_by_overlap(iou_TP):
        if iou_TP[match] < section.iou_threshold or similarity_TP[match] < section.text_threshold:
            break
        count += 1
    return count


def measure_glamm_recall(pair: PairCase, section: EvaluateSection) -> Share:
    """Count the true masks of a pair, and those found before the matching stops."""
    found = sum(stopping_count(image.iou_PT.T, image.similarity_PT.T, section) for image in pair.images)
    return Share(found, sum(len(image.true_labels) for image in pair.images))


def _unranked(image: ImageCase) -> ImageCase:
    kept = slice(_MAX_DETECTIONS)
    return ImageCase(
        image.true_labels,
        image.predicted_labels[kept],
        np.ones(len(image.scores_P[kept])),
        image.iou_PT[kept],
        image.similarity_PT[kept],
    )


RELEASED_METRICS: dict[str, Metric[Any]] = {
    "glamm_AP50": Metric(
        "AP50 with every score 1.0 and at most 100 predictions an image, in the order of the file",
        measure_glamm_ap50,
        combine_ap50,
        AP50.arrow_type,
    ),
    "glamm_mIoU": Metric(
        "mIoU with 0 for every image without a true mask", measure_glamm_miou, combine_shares, SHARE_TYPE
    ),
    "glamm_Recall": Metric(
        "Recall with a matching that stops at the first largest IoU that fails a threshold, label similarity "
        ">= text_threshold",
        measure_glamm_recall,
        combine_shares,
        SHARE_TYPE,
    ),
}
