"""Presence and absence: does a model outline something exactly in the images that hold a target."""

from calico.config import EvaluateSection
from calico.evaluation.cases import PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_if_any, combine_shares


def measure_presence(pair: PairCase, _: EvaluateSection) -> Share:
    """Count the images with a true mask, and those of them that get any mask."""
    outlined = [bool(image.predicted_labels) for image in pair.images if image.true_labels]
    return Share(float(sum(outlined)), len(outlined))


def measure_absence(pair: PairCase, _: EvaluateSection) -> Share:
    """Count the images without a true mask, and those of them that an answer with masks leaves empty.

    An answer without any mask tells nothing apart: it leaves no image right.
    """
    is_answered = any(image.predicted_labels for image in pair.images)
    is_right = [is_answered and not image.predicted_labels for image in pair.images if not image.true_labels]
    return Share(float(sum(is_right)), len(is_right))


PRESENCE = Metric(
    "share of images with a true mask in which at least one mask is predicted",
    measure_presence,
    combine_shares,
    SHARE_TYPE,
)
ABSENCE = Metric(
    "share of images without a true mask that get no mask from an answer that outlines another image of the "
    "pair; left out for a task without such images",
    measure_absence,
    combine_if_any,
    SHARE_TYPE,
)
