"""Bring truth and predictions of every pair into one canonical form that all metrics read.

The order of records in a file must change no metric, so masks are sorted here: true masks by label and run
lengths, predicted masks by falling score, then label, then run lengths; pairs by id.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from calico.core import tables
from calico.core.masks import Rle, are_valid, iou_matrix, validate
from calico.core.records import ImageRecord, ObjectInstance, PairSample, PartInstance, PredictedMask, Target
from calico.errors import DataError
from calico.evaluation.matching import optimal_by_overlap

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
PredictionGroups = dict[tuple[str, int], list[PredictedMask]]
Record = TypeVar("Record")

FAULTS = ("unknown_image", "wrong_size", "damaged_mask", "bad_score")


@dataclass(frozen=True)
class Truth:
    """Everything that is annotated, by id."""

    images: Mapping[str, ImageRecord]
    objects: Mapping[str, ObjectInstance]
    parts: Mapping[str, PartInstance]

    def mask_of(self, target: Target) -> Rle:
        """Return the true mask of a target.

        Raises:
            DataError: the tables do not hold it.
        """
        if target.part_id is None:
            return look_up(self.objects, target.object_id, "object").rle
        return look_up(self.parts, target.part_id, "part").rle


@dataclass(frozen=True)
class ImageCase:
    """One image of one pair: P usable predictions, best score first, against T true masks.

    Attributes:
        true_labels, predicted_labels: normalised labels of the T and P masks.
        scores_P: confidences, falling.
        iou_PT: intersection over union.
        similarity_PT: similarity of the labels' meanings in [0, 1].
    """

    true_labels: tuple[str, ...]
    predicted_labels: tuple[str, ...]
    scores_P: np.ndarray
    iou_PT: np.ndarray
    similarity_PT: np.ndarray

    @cached_property
    def is_named(self) -> np.ndarray:
        """Which predictions have exactly the label of which true mask."""
        return np.array(
            [[predicted == true for true in self.true_labels] for predicted in self.predicted_labels],
            dtype=bool,
        ).reshape(self.iou_PT.shape)

    @cached_property
    def matches(self) -> list[tuple[int, int]]:
        """The one optimal matching that all strict metrics count on, as (prediction, truth) indices."""
        return optimal_by_overlap(self.iou_PT, self.is_named)


@dataclass(frozen=True)
class PairCase:
    """All images of one pair."""

    pair_id: str
    task: str
    images: tuple[ImageCase, ...]


def read_truth(unify_path: Path) -> Truth:
    """Read the images, objects and parts that the unify stage wrote."""
    return Truth(
        images={one.image_id: one for one in tables.read_images(unify_path / "images.parquet")},
        objects={one.object_id: one for one in tables.read_objects(unify_path / "objects.parquet")},
        parts={one.part_id: one for one in tables.read_parts(unify_path / "parts.parquet")},
    )


def look_up(table: Mapping[str, Record], identifier: str, kind: str) -> Record:
    """Return the record with an id.

    Raises:
        DataError: there is none.
    """
    if identifier not in table:
        raise DataError(f"{kind} '{identifier}' of a pair is not among the {len(table)} annotated ones.")
    return table[identifier]


def normalise_label(label: str) -> str:
    """Return the label in lower case with single spaces and without a leading article."""
    words = label.casefold().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def usable_predictions(
    predictions: Iterable[PredictedMask],
    pairs: Sequence[PairSample],
    truth: Truth,
    *,
    is_file_order_kept: bool = False,
) -> tuple[PredictionGroups, dict[str, int]]:
    """Group predictions by pair and image in canonical order; leave out and count what cannot be scored.

    Args:
        is_file_order_kept: leave each group as it stands in the file, as the released GLaMM evaluator does.

    Returns:
        The groups, and the number left out for each of `FAULTS`.

    Raises:
        DataError: a prediction names a pair that is not scored, or another task than its pair's.
    """
    predictions = list(predictions)
    known = {pair.pair_id: pair for pair in pairs}
    is_whole = are_valid([prediction.rle for prediction in predictions])
    groups: PredictionGroups = defaultdict(list)
    num_unusable = dict.fromkeys(FAULTS, 0)
    for prediction, is_mask_whole in zip(predictions, is_whole.tolist(), strict=True):
        pair = known.get(prediction.pair_id)
        if pair is None or pair.task != prediction.task:
            raise DataError(
                f"prediction for pair '{prediction.pair_id}', task '{prediction.task}': not among the "
                f"{len(pairs)} pairs to score. The predictions belong to other pairs; predict again."
            )
        fault = _fault(prediction, pair, truth, is_mask_whole)
        if fault is None:
            groups[prediction.pair_id, prediction.image_index].append(prediction)
        else:
            num_unusable[fault] += 1
    for group in () if is_file_order_kept else groups.values():
        group.sort(key=lambda prediction: (-prediction.score, prediction.label, prediction.rle.counts))
    return groups, num_unusable


def build_cases(
    pairs: Sequence[PairSample],
    truth: Truth,
    predictions: PredictionGroups,
    similarity: Similarity,
) -> list[PairCase]:
    """Compare the predictions of every pair with its true masks.

    Args:
        predictions: as `usable_predictions` returns them; nothing for a pair counts as an empty answer.
        similarity: gives the matrix of similarities between two lists of normalised labels.

    Returns:
        One case per pair, sorted by pair id.

    Raises:
        DataError: a true mask is missing or damaged.
    """
    _check_truth(pairs, truth)
    return [
        PairCase(
            pair.pair_id,
            pair.task,
            tuple(
                _image_case(
                    [target for target in pair.targets if target.image_index == image_index],
                    predictions.get((pair.pair_id, image_index), ()),
                    truth,
                    similarity,
                )
                for image_index in range(len(pair.image_ids))
            ),
        )
        for pair in sorted(pairs, key=lambda pair: pair.pair_id)
    ]


def _check_truth(pairs: Sequence[PairSample], truth: Truth) -> None:
    mask_of = {
        target.part_id or target.object_id: truth.mask_of(target) for pair in pairs for target in pair.targets
    }
    for row in np.flatnonzero(~are_valid(list(mask_of.values()))).tolist():
        identifier = list(mask_of)[row]
        try:
            validate(mask_of[identifier])
        except DataError as error:
            raise DataError(f"true mask '{identifier}': {error} Run the stage unify again.") from error


def _image_case(
    targets: Sequence[Target], predictions: Sequence[PredictedMask], truth: Truth, similarity: Similarity
) -> ImageCase:
    true = sorted(
        ((normalise_label(target.label), truth.mask_of(target)) for target in targets),
        key=lambda labelled: (labelled[0], labelled[1].counts),
    )
    true_labels = tuple(label for label, _ in true)
    predicted_labels = tuple(normalise_label(prediction.label) for prediction in predictions)
    return ImageCase(
        true_labels,
        predicted_labels,
        np.array([prediction.score for prediction in predictions], dtype=np.float64),
        iou_matrix(
            [prediction.rle for prediction in predictions], [mask for _, mask in true], is_checked=True
        ),
        similarity(predicted_labels, true_labels),
    )


def _fault(prediction: PredictedMask, pair: PairSample, truth: Truth, is_mask_whole: bool) -> str | None:
    """Return why a prediction cannot be scored, or None."""
    if not 0 <= prediction.image_index < len(pair.image_ids):
        return "unknown_image"
    image = look_up(truth.images, pair.image_ids[prediction.image_index], "image")
    if (prediction.rle.height, prediction.rle.width) != (image.height, image.width):
        return "wrong_size"
    if not is_mask_whole:
        return "damaged_mask"
    return None if 0.0 <= prediction.score <= 1.0 else "bad_score"
