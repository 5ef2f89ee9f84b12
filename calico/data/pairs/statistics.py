"""What a data set of pairs holds: Table 3's rows, pairs by source and task, and category counts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from calico.core.records import ObjectInstance, PairSample, PartInstance
from calico.core.tokens import TASKS


def describe(
    samples_by_split: Mapping[str, Sequence[PairSample]],
    objects: Iterable[ObjectInstance],
    parts: Iterable[PartInstance],
) -> dict[str, Any]:
    """Return the statistics of appendix B, of all splits together and of each.

    Args:
        samples_by_split: all samples.
        objects, parts: all unified instances; those that no target names are not counted.
    """
    everything = [sample for samples in samples_by_split.values() for sample in samples]
    return {
        "all": _describe_samples(everything),
        "splits": {split: _describe_samples(samples) for split, samples in samples_by_split.items()},
        **_describe_categories(everything, objects, parts),
    }


def instances_per_sample(samples: Iterable[PairSample]) -> dict[str, Any]:
    """Return Table 3: total, mean, maximum and median number of instances per sample, by task."""
    counts: dict[str, list[int]] = {task: [] for task in TASKS}
    for sample in samples:
        counts[sample.task].append(len(sample.targets))
    return {
        task: {"samples": len(numbers), "total": sum(numbers), "mean": mean(numbers), "max": max(numbers),
               "median": median(numbers)}
        for task, numbers in counts.items()
        if numbers
    }  # fmt: skip


def _describe_samples(samples: Sequence[PairSample]) -> dict[str, Any]:
    by_source: dict[str, Counter[str]] = {}
    for sample in samples:
        by_source.setdefault(sample.source, Counter())[sample.task] += 1
    return {
        "num_pairs": len(samples),
        "num_images": len({image_id for sample in samples for image_id in sample.image_ids}),
        "pairs_by_source": {source: dict(tasks) for source, tasks in by_source.items()},
        "instances_per_sample": instances_per_sample(samples),
    }


def _describe_categories(
    samples: Sequence[PairSample], objects: Iterable[ObjectInstance], parts: Iterable[PartInstance]
) -> dict[str, Any]:
    object_ids = {target.object_id for sample in samples for target in sample.targets}
    part_ids = {target.part_id for sample in samples for target in sample.targets if target.part_id}
    categories = Counter(one.category for one in objects if one.object_id in object_ids)
    part_names = Counter(part.category for part in parts if part.part_id in part_ids)
    return {
        "num_objects": len(object_ids),
        "num_parts": len(part_ids),
        "num_object_categories": len(categories),
        "num_part_categories": len(part_names),
        "objects_by_category": dict(categories.most_common()),
        "parts_by_category": dict(part_names.most_common()),
    }
