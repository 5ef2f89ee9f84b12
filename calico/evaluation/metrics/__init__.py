"""The metrics of the paper's C.2, one file each; `METRICS` is the registry."""

from typing import Any

from calico.evaluation.metrics.ap50 import AP50
from calico.evaluation.metrics.label_sets import LABEL_METRICS
from calico.evaluation.metrics.metric import Metric
from calico.evaluation.metrics.miou import MIOU
from calico.evaluation.metrics.recall import RECALL
from calico.evaluation.metrics.semantic_iou import SEMANTIC_IOU
from calico.evaluation.metrics.text_similarity import TEXT_SIMILARITY

METRICS: dict[str, Metric[Any]] = {
    "AP50": AP50,
    "mIoU": MIOU,
    "Recall": RECALL,
    "SS": TEXT_SIMILARITY,
    "S-IoU": SEMANTIC_IOU,
}
EXTRA_METRICS: dict[str, Metric[Any]] = {**LABEL_METRICS}
