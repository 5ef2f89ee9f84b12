"""full_IoU: how well all masks fit, with every missed and every surplus mask as a zero."""

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_shares


def measure_full_iou(pair: PairCase, _: EvaluateSection) -> Share:
    """Sum the IoUs of the optimal matching; count its matches, the missed and the surplus masks."""
    total, number = 0.0, 0
    for image in pair.images:
        total += sum(float(image.iou_PT[match]) for match in image.matches)
        number += len(image.true_labels) + len(image.predicted_labels) - len(image.matches)
    return Share(total, number)


FULL_IOU = Metric(
    "sum of the IoUs of masks matched one to one with the largest total IoU, over matched, missed and "
    "surplus masks; labels ignored",
    measure_full_iou,
    combine_shares,
    SHARE_TYPE,
)
