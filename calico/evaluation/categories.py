"""Score each category by itself: where a model is good, and where not."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.recall import find_named

_NUM_DECIMALS = 6


def score_categories(
    cases: Sequence[PairCase], section: EvaluateSection
) -> dict[str, dict[str, dict[str, float]]]:
    """Score the true masks of each category.

    Args:
        cases: pairs of all tasks.
        section: thresholds of Recall.

    Returns:
        Task to category (the object of a label: "dog" for "dog's head") to `num_true`; `Recall`, the share of
        them that the paper's Recall counts as found; and `IoU`, their mean IoU in the optimal matching of the
        strict metrics, 0 where missed. Recall weighted by `num_true` is the task's Recall.
    """
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0, 0.0]))
    for case in cases:
        for image in case.images:
            for label, is_found, iou in zip(
                image.true_labels, _found(image, section), _ious(image), strict=True
            ):
                row = sums[case.task][label.partition("'s ")[0]]
                row[0] += 1
                row[1] += is_found
                row[2] += iou
    return {
        task: {category: _means(*by_category[category]) for category in sorted(by_category)}
        for task, by_category in sums.items()
    }


def _found(image: ImageCase, section: EvaluateSection) -> list[bool]:
    found = {truth for _, truth in find_named(image, section)}
    return [truth in found for truth in range(len(image.true_labels))]


def _ious(image: ImageCase) -> list[float]:
    matched: Mapping[int, float] = {
        truth: float(image.iou_PT[prediction, truth]) for prediction, truth in image.matches
    }
    return [matched.get(truth, 0.0) for truth in range(len(image.true_labels))]


def _means(num_true: float, num_found: float, iou: float) -> dict[str, float]:
    return {
        "num_true": int(num_true),
        "Recall": round(num_found / num_true, _NUM_DECIMALS),
        "IoU": round(iou / num_true, _NUM_DECIMALS),
    }
