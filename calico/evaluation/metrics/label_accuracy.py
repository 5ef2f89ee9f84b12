"""label_accuracy: how often a mask in the right place has the right name."""

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def measure_label_accuracy(pair: PairCase, section: EvaluateSection) -> Share:
    """Count the matches of a pair that fit in place, and those of them with equal labels."""
    is_named = [
        bool(image.is_named[match])
        for image in pair.images
        for match in image.matches
        if image.iou_PT[match] >= section.iou_threshold
    ]
    return Share(float(sum(is_named)), len(is_named))


LABEL_ACCURACY = Metric(
    "share of masks in the optimal matching with IoU >= iou_threshold that have the true label after "
    "normalisation; missed and surplus masks do not count",
    measure_label_accuracy,
    combine_shares,
    SHARE_TYPE,
)
