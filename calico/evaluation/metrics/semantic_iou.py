"""S-IoU: overlap of the words of true and predicted labels."""

import numpy as np

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def word_iou(label: str, other: str) -> float:
    """Return shared over all words of two normalised labels; 0 for two empty ones.

    Source: paper, C.2. Words are split at spaces only: "dog's head" has the words "dog's" and "head".
    """
    words, other_words = set(label.split()), set(other.split())
    return len(words & other_words) / len(words | other_words) if words or other_words else 0.0


def best_word_ious(image: ImageCase) -> np.ndarray:
    """Return for each true label the word IoU with the closest predicted label, 0 without any."""
    return np.array(
        [
            max((word_iou(true, predicted) for predicted in set(image.predicted_labels)), default=0.0)
            for true in image.true_labels
        ]
    )


def measure_semantic_iou(pair: PairCase, _: EvaluateSection) -> Share:
    """Sum over the true masks of a pair."""
    best = [float(best_word_ious(image).sum()) for image in pair.images]
    return Share(sum(best), sum(len(image.true_labels) for image in pair.images))


SEMANTIC_IOU = Metric(
    "mean over true masks of the word IoU of its label with the closest predicted label of the same image; "
    "surplus labels do not count",
    measure_semantic_iou,
    combine_shares,
    SHARE_TYPE,
)
