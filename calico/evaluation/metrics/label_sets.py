"""Which labels an answer names at all: precision, recall and exactness of the set of labels of each image.

Beside the paper's metrics, because SS and S-IoU do not punish surplus labels and give credit to near misses.
"""

from collections.abc import Callable

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def measure_label_precision(pair: PairCase, _: EvaluateSection) -> Share:
    """Count the distinct predicted labels of each image that are true."""
    return Share(_num_shared(pair), sum(len(set(image.predicted_labels)) for image in pair.images))


def measure_label_recall(pair: PairCase, _: EvaluateSection) -> Share:
    """Count the distinct true labels of each image that are predicted."""
    return Share(_num_shared(pair), sum(len(set(image.true_labels)) for image in pair.images))


def measure_exact_set(pair: PairCase, _: EvaluateSection) -> Share:
    """Tell whether every image of a pair has exactly its true labels."""
    is_exact = all(set(image.true_labels) == set(image.predicted_labels) for image in pair.images)
    return Share(float(is_exact), 1)


def _num_shared(pair: PairCase) -> int:
    return sum(len(set(image.true_labels) & set(image.predicted_labels)) for image in pair.images)


def _metric(definition: str, measure: Callable[[PairCase, EvaluateSection], Share]) -> Metric[Share]:
    return Metric(definition, measure, combine_shares, SHARE_TYPE)


LABEL_METRICS = {
    "label_precision": _metric(
        "share of distinct predicted labels per image that are true, equal after normalisation",
        measure_label_precision,
    ),
    "label_recall": _metric(
        "share of distinct true labels per image that are predicted, equal after normalisation",
        measure_label_recall,
    ),
    "label_exact_set": _metric(
        "share of pairs whose images all have exactly their true labels", measure_exact_set
    ),
}
