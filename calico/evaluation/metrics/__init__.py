"""The metrics, one file each, in families; the dictionaries are the registry.

`METRICS` is the family "paper" (C.2), `STRICT_METRICS` the family "strict", `GLAMM_METRICS` what the released
GLaMM evaluator computes; `EXTRA_METRICS` look at labels alone.
"""

from typing import Any

from calico.evaluation.metrics.ap50 import AP50
from calico.evaluation.metrics.class_ap50 import CLASS_AP50
from calico.evaluation.metrics.correspondence import CORRESPONDENCE
from calico.evaluation.metrics.full_iou import FULL_IOU
from calico.evaluation.metrics.glamm import RELEASED_METRICS
from calico.evaluation.metrics.label_accuracy import LABEL_ACCURACY
from calico.evaluation.metrics.label_sets import LABEL_METRICS
from calico.evaluation.metrics.metric import Metric
from calico.evaluation.metrics.miou import MIOU
from calico.evaluation.metrics.named_masks import NAMED_METRICS
from calico.evaluation.metrics.presence import ABSENCE, PRESENCE
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
STRICT_METRICS: dict[str, Metric[Any]] = {
    "class_AP50": CLASS_AP50,
    "full_IoU": FULL_IOU,
    **NAMED_METRICS,
    "label_accuracy": LABEL_ACCURACY,
    "presence": PRESENCE,
    "absence": ABSENCE,
    "correspondence": CORRESPONDENCE,
}
EXTRA_METRICS: dict[str, Metric[Any]] = {**LABEL_METRICS}
GLAMM_METRICS: dict[str, Metric[Any]] = {**RELEASED_METRICS}
