"""mIoU: how well the masks that overlap at all fit each other."""

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.matching import greedy_by_overlap
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def mean_matched_iou(image: ImageCase) -> float:
    """Return the mean IoU of greedily matched masks of one image; 0 where none overlap.

    Source: [GLaMM] eval/gcg/evaluate.py, compute_miou.
    """
    ious = [float(image.iou_PT[match]) for match in greedy_by_overlap(image.iou_PT)]
    return sum(ious) / len(ious) if ious else 0.0


def measure_miou(pair: PairCase, _: EvaluateSection) -> Share:
    """Sum over the images of a pair that have a true mask."""
    means = [mean_matched_iou(image) for image in pair.images if image.true_labels]
    return Share(sum(means), len(means))


MIOU = Metric(
    "mean over images of the mean IoU of masks matched greedily one to one with IoU > 0, labels ignored; "
    "missed and surplus masks do not count, an image without any match counts 0",
    measure_miou,
    combine_shares,
    SHARE_TYPE,
)
