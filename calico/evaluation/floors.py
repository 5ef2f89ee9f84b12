"""Predictions that need no model: what any number in the report has to beat, and by how much.

Each floor returns ordinary predictions with score 1, scored by the same code as a model's.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from calico.core.masks import Rle, box_xyxy, encode, union
from calico.core.records import ObjectInstance, PairSample, PartInstance, PredictedMask, part_label
from calico.errors import DataError
from calico.evaluation.cases import Truth, look_up
from calico.evaluation.templates import Box, Template, mean_template

_Instance = TypeVar("_Instance", ObjectInstance, PartInstance)

_MAX_EXAMPLES = 300  # a mean mask hardly moves after that many
_USUAL_SHARE = 0.5


@dataclass(frozen=True)
class TrainSplit:
    """What the annotations of the train images say about categories.

    Attributes:
        objects, parts: instances by label ("dog", "dog's head"), at most `_MAX_EXAMPLES` evenly spread ones.
        usual_parts: the part names that more than half of a category's train objects show.
    """

    objects: Mapping[str, Sequence[ObjectInstance]]
    parts: Mapping[str, Sequence[PartInstance]]
    usual_parts: Mapping[str, frozenset[str]]


def summarise_train(truth: Truth) -> TrainSplit:
    """Collect the train split's instances by label. Objects without any part do not count as showing none."""
    train_objects = [
        instance
        for _, instance in sorted(truth.objects.items())
        if look_up(truth.images, instance.image_id, "image").split == "train"
    ]
    parts_of = parts_by_object(truth)
    objects: dict[str, list[ObjectInstance]] = defaultdict(list)
    parts: dict[str, list[PartInstance]] = defaultdict(list)
    shown: dict[str, Counter[str]] = defaultdict(Counter)
    for instance in train_objects:
        objects[instance.category].append(instance)
        for part in parts_of[instance.object_id]:
            parts[part_label(instance.category, part.category)].append(part)
        shown[instance.category].update({part.category for part in parts_of[instance.object_id]})
    num_with_parts = Counter(one.category for one in train_objects if parts_of[one.object_id])
    usual_parts = {
        category: frozenset(name for name in counts if counts[name] > _USUAL_SHARE * num_with_parts[category])
        for category, counts in shown.items()
    }
    return TrainSplit(_thin_out(objects), _thin_out(parts), usual_parts)


def majority(
    test_pairs: Sequence[PairSample], train_pairs: Iterable[PairSample], truth: Truth, train: TrainSplit
) -> list[PredictedMask]:
    """Answer each task with its most frequent train answer, each label with its mean mask in the image.

    An answer is the labels of each image, with repetitions; ties go to the alphabetically first.

    Raises:
        DataError: a task of the test pairs has no train pair.
    """
    counts: dict[str, Counter[tuple[tuple[str, ...], ...]]] = defaultdict(Counter)
    for pair in train_pairs:
        counts[pair.task][_labels_by_image(pair)] += 1
    answers = {}
    for task in sorted({pair.task for pair in test_pairs}):
        if not counts[task]:
            raise DataError(f"task '{task}' has test pairs but no train pairs. Raise pair.num_pairs.train.")
        answers[task] = min(counts[task], key=lambda answer: (-counts[task][answer], answer))
    templates: dict[str, Template] = {}
    predictions = []
    for pair in test_pairs:
        for image_index, labels in enumerate(answers[pair.task][: len(pair.image_ids)]):
            image = look_up(truth.images, pair.image_ids[image_index], "image")
            for label in labels:
                if label not in templates:
                    examples = _examples(train, label)
                    templates[label] = mean_template([(one.rle, _frame(one.rle)) for one in examples])
                mask_HW = templates[label].paste((0, 0, image.width, image.height), image.height, image.width)
                predictions.append(_predict(pair, image_index, label, encode(mask_HW)))
    return predictions


def whole_object(test_pairs: Sequence[PairSample], truth: Truth) -> list[PredictedMask]:
    """Answer with the true labels and the mask of the whole object that a part belongs to.

    An object target, whose own mask would be the truth, gets the union of all annotated objects of its image.
    """
    foreground: dict[str, list[Rle]] = defaultdict(list)
    for instance in truth.objects.values():
        foreground[instance.image_id].append(instance.rle)
    predictions = []
    for pair in test_pairs:
        for target in pair.targets:
            if target.part_id is None:
                mask = union(foreground[pair.image_ids[target.image_index]])
            else:
                mask = look_up(truth.objects, target.object_id, "object").rle
            predictions.append(_predict(pair, target.image_index, target.label, mask))
    return predictions


def usual_parts(test_pairs: Sequence[PairSample], truth: Truth, train: TrainSplit) -> list[PredictedMask]:
    """Answer from what the question takes for granted, without a look at the pixels.

    Part tasks: the category and box of each compared object are given; the answer is the categories' usual
    parts, intersected or subtracted as the task asks, each with its mean mask in the object's box. Objects:
    the true categories are given, but not their places; each gets its mean mask in the image.
    """
    parts_of = parts_by_object(truth)
    objects_of = _partial_objects_by_image(truth, parts_of)
    templates: dict[str, Template] = {}
    predictions = []
    for pair in test_pairs:
        for image_index, instance, label in _usual_answer(pair, truth, train, objects_of):
            if label not in templates:
                examples = _examples(train, label)
                templates[label] = mean_template([(one.rle, _given_box(one, truth)) for one in examples])
            box = _frame(instance.rle) if pair.task == "common_objects" else _pixel_box(instance.rle)
            mask_HW = templates[label].paste(box, instance.rle.height, instance.rle.width)
            predictions.append(_predict(pair, image_index, label, encode(mask_HW)))
    return predictions


def parts_by_object(truth: Truth) -> Mapping[str, Sequence[PartInstance]]:
    """Return the parts of each object; nothing for an object without parts."""
    parts_of: dict[str, list[PartInstance]] = defaultdict(list)
    for part in truth.parts.values():
        parts_of[part.object_id].append(part)
    return parts_of


def _usual_answer(
    pair: PairSample, truth: Truth, train: TrainSplit, objects_of: Mapping[str, Sequence[ObjectInstance]]
) -> list[tuple[int, ObjectInstance, str]]:
    """Return (image index, object, label) of every mask that the categories alone suggest."""
    if pair.task == "common_objects":
        return [
            (target.image_index, look_up(truth.objects, target.object_id, "object"), target.label)
            for target in pair.targets
        ]
    instances = _compared_objects(pair, truth, train, objects_of)
    usual = {index: train.usual_parts.get(one.category, frozenset()) for index, one in instances.items()}
    shared = frozenset.intersection(*usual.values()) if len(usual) == len(pair.image_ids) else frozenset()
    names = {index: shared if pair.task == "common_parts" else usual[index] - shared for index in usual}
    return [
        (index, instances[index], part_label(instances[index].category, name))
        for index in sorted(names)
        for name in sorted(names[index])
    ]


def _compared_objects(
    pair: PairSample, truth: Truth, train: TrainSplit, objects_of: Mapping[str, Sequence[ObjectInstance]]
) -> dict[int, ObjectInstance]:
    """Return the object that a part pair compares in each image.

    An image without targets does not name its object; it is the one whose usual parts overlap most with those
    of the named object.
    """
    named = {
        target.image_index: look_up(truth.objects, target.object_id, "object") for target in pair.targets
    }
    anchor = train.usual_parts.get(named[min(named)].category, frozenset())

    def kinship(instance: ObjectInstance) -> float:
        usual = train.usual_parts.get(instance.category, frozenset())
        return len(usual & anchor) / max(1, len(usual | anchor))

    for image_index, image_id in enumerate(pair.image_ids):
        if image_index not in named and objects_of[image_id]:
            named[image_index] = max(objects_of[image_id], key=kinship)
    return named


def _partial_objects_by_image(
    truth: Truth, parts_of: Mapping[str, Sequence[PartInstance]]
) -> Mapping[str, Sequence[ObjectInstance]]:
    """Return the objects with at least one part of each image, by id."""
    objects_of: dict[str, list[ObjectInstance]] = defaultdict(list)
    for object_id, instance in sorted(truth.objects.items()):
        if parts_of[object_id]:
            objects_of[instance.image_id].append(instance)
    return objects_of


def _thin_out(instances: Mapping[str, Sequence[_Instance]]) -> dict[str, list[_Instance]]:
    """Keep at most `_MAX_EXAMPLES` evenly spread instances of each label."""
    return {label: list(found[:: -(-len(found) // _MAX_EXAMPLES)]) for label, found in instances.items()}


def _labels_by_image(pair: PairSample) -> tuple[tuple[str, ...], ...]:
    labels: list[list[str]] = [[] for _ in pair.image_ids]
    for target in pair.targets:
        # One string for each label: the answers of millions of pairs are kept to be counted.
        labels[target.image_index].append(sys.intern(target.label))
    return tuple(tuple(sorted(names)) for names in labels)


def _examples(train: TrainSplit, label: str) -> Sequence[ObjectInstance | PartInstance]:
    return train.parts[label] if label in train.parts else train.objects.get(label, ())


def _given_box(instance: ObjectInstance | PartInstance, truth: Truth) -> Box:
    """Return the box that a part's object or an object's image gives."""
    if isinstance(instance, ObjectInstance):
        return _frame(instance.rle)
    return _pixel_box(look_up(truth.objects, instance.object_id, "object").rle)


def _pixel_box(rle: Rle) -> Box:
    left, top, right, bottom = (round(side) for side in box_xyxy(rle))
    return left, top, right, bottom


def _frame(rle: Rle) -> Box:
    return 0, 0, rle.width, rle.height


def _predict(pair: PairSample, image_index: int, label: str, rle: Rle) -> PredictedMask:
    return PredictedMask(pair.pair_id, pair.task, image_index, label, rle, 1.0)
