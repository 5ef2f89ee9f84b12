"""Named masks: which masks are found and called by their exact label, and what the surplus costs."""

from collections.abc import Callable

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def measure_named_precision(pair: PairCase, section: EvaluateSection) -> Share:
    """Count the named and all predictions of a pair."""
    return Share(_num_named(pair, section), _num_predicted(pair))


def measure_named_recall(pair: PairCase, section: EvaluateSection) -> Share:
    """Count the named and all true masks of a pair."""
    return Share(_num_named(pair, section), _num_true(pair))


def measure_named_f1(pair: PairCase, section: EvaluateSection) -> Share:
    """Count the named masks on both sides, and all masks of both sides."""
    return Share(2 * _num_named(pair, section), _num_true(pair) + _num_predicted(pair))


def _num_named(pair: PairCase, section: EvaluateSection) -> int:
    return sum(
        bool(image.is_named[match]) and float(image.iou_PT[match]) >= section.iou_threshold
        for image in pair.images
        for match in image.matches
    )


def _num_true(pair: PairCase) -> int:
    return sum(len(image.true_labels) for image in pair.images)


def _num_predicted(pair: PairCase) -> int:
    return sum(len(image.predicted_labels) for image in pair.images)


def _metric(definition: str, measure: Callable[[PairCase, EvaluateSection], Share]) -> Metric[Share]:
    return Metric(definition, measure, combine_shares, SHARE_TYPE)


_NAMED = "in the optimal matching with IoU >= iou_threshold and the same label after normalisation"
NAMED_METRICS = {
    "named_precision": _metric(f"share of predictions that are {_NAMED}", measure_named_precision),
    "named_recall": _metric(f"share of true masks that are {_NAMED}", measure_named_recall),
    "named_F1": _metric("harmonic mean of named_precision and named_recall", measure_named_f1),
}
