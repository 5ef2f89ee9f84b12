"""calico.data.pairs.statistics: hand-counted figures of a handful of samples."""

import numpy as np

from calico.core import masks
from calico.core.records import ObjectInstance, PairSample, PartInstance, Target
from calico.data.pairs.statistics import describe, instances_per_sample

RLE = masks.encode(np.ones((2, 2), dtype=bool))


def sample(task: str, num_targets: int, source: str = "a", *, number: int = 0) -> PairSample:
    part_id = None if task == "common_objects" else "a/1#0/head"
    targets = tuple(Target(index % 2, "dog", "a/1#0", part_id) for index in range(num_targets))
    return PairSample(f"{source}/{number}", task, source, (f"{source}/1", f"{source}/{number + 2}"), targets)


def test_table_3_is_counted_by_hand() -> None:
    samples = [sample("common_parts", count) for count in (2, 4, 9, 5)] + [sample("unique_parts", 1)]
    assert instances_per_sample(samples) == {
        "common_parts": {"samples": 4, "total": 20, "mean": 5, "max": 9, "median": 4.5},
        "unique_parts": {"samples": 1, "total": 1, "mean": 1, "max": 1, "median": 1},
    }


def test_only_what_samples_name_is_counted() -> None:
    objects = [ObjectInstance("a/1#0", "a/1", "dog", RLE), ObjectInstance("a/9#0", "a/9", "cat", RLE)]
    parts = [
        PartInstance("a/1#0/head", "a/1#0", "a/1", "head", RLE),
        PartInstance("a/9#0/tail", "a/9#0", "a/9", "tail", RLE),
    ]
    samples = {
        "train": [sample("common_parts", 2), sample("common_objects", 3, number=1)],
        "test": [sample("common_objects", 2, "b")],
    }
    found = describe(samples, objects, parts)
    assert found["all"]["num_pairs"] == 3
    assert found["all"]["num_images"] == 5
    assert found["all"]["pairs_by_source"] == {
        "a": {"common_parts": 1, "common_objects": 1},
        "b": {"common_objects": 1},
    }
    assert found["splits"]["test"]["instances_per_sample"]["common_objects"]["total"] == 2
    assert (found["num_objects"], found["num_parts"]) == (1, 1)
    assert (found["objects_by_category"], found["parts_by_category"]) == ({"dog": 1}, {"head": 1})
