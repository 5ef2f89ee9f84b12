"""Correspondence: is the same part given the same name in both images, right or wrong."""

from collections import defaultdict
from itertools import combinations

from calico.config import EvaluateSection
from calico.evaluation.cases import ImageCase, PairCase
from calico.evaluation.metrics.metric import SHARE_TYPE, Metric, Share, combine_if_any

_OWNER_MARK = "'s "


def part_name(label: str) -> str:
    """Return what a label says without its owner: "head" of "dog's head", "dog" of "dog"."""
    return label.rpartition(_OWNER_MARK)[2]


def given_names(image: ImageCase, section: EvaluateSection) -> dict[str, set[str]]:
    """Return for each true part name of an image the part names of the predictions that fit its masks."""
    given: dict[str, set[str]] = {part_name(label): set() for label in image.true_labels}
    for prediction, truth in image.matches:
        if image.iou_PT[prediction, truth] >= section.iou_threshold:
            given[part_name(image.true_labels[truth])].add(part_name(image.predicted_labels[prediction]))
    return given


def measure_correspondence(pair: PairCase, section: EvaluateSection) -> Share:
    """Count the part names that two images share, and those that the answer carries over.

    A name is carried over if the masks found for it are called the same in both images, and no other part is
    called so in either: else one word for everything would be right everywhere.
    """
    total, number = 0, 0
    for first, second in combinations([given_names(image, section) for image in pair.images], 2):
        owners: dict[str, set[str]] = defaultdict(set)
        for given in (first, second):
            for true_name, names in given.items():
                for name in names:
                    owners[name].add(true_name)
        for true_name in first.keys() & second.keys():
            names = first[true_name]
            number += 1
            is_unmistakable = all(len(owners[name]) == 1 for name in names)
            total += bool(names) and names == second[true_name] and is_unmistakable
    return Share(float(total), number)


CORRESPONDENCE = Metric(
    "share of part names (for objects: labels) true in two images of a pair whose masks, found with IoU >= "
    "iou_threshold in the optimal matching, are called the same in both and unlike every other part; left "
    "out for a task without such names",
    measure_correspondence,
    combine_if_any,
    SHARE_TYPE,
)
