"""Recall: the share of true masks that are found and named."""

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.matching import greedy_by_overlap
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def find_named(image: ImageCase, section: EvaluateSection) -> list[tuple[int, int]]:
    """Match true masks one to one with predictions that fit in place and in meaning.

    Returns:
        (prediction, truth) indices.

    Source: paper, C.2 (IoU at least 0.5, SentenceBERT similarity above 0.5).
    """
    is_admissible_PT = (image.iou_PT >= section.iou_threshold) & (
        image.similarity_PT > section.text_threshold
    )
    return greedy_by_overlap(image.iou_PT, is_admissible_PT)


def count_found(image: ImageCase, section: EvaluateSection) -> int:
    """Count the true masks that `find_named` matches."""
    return len(find_named(image, section))


def measure_recall(pair: PairCase, section: EvaluateSection) -> Share:
    """Count found and all true masks of a pair."""
    num_true = sum(len(image.true_labels) for image in pair.images)
    return Share(sum(count_found(image, section) for image in pair.images), num_true)


RECALL = Metric(
    "share of true masks matched greedily one to one by a prediction with IoU >= iou_threshold and label "
    "similarity > text_threshold",
    measure_recall,
    combine_shares,
    SHARE_TYPE,
)
