"""calico.data.pairs.statistics: hand-counted figures of a handful of samples."""

from pathlib import Path

import numpy as np
import pytest

from calico.core import masks, tables
from calico.core.records import ImageRecord, ObjectInstance, PairSample, PartInstance, Target
from calico.data.pairs.annotation_arrays import AnnotationArrays, read_annotations
from calico.data.pairs.statistics import Tally, instances_per_sample
from tests.pair_blocks import to_blocks

RLE = masks.encode(np.ones((2, 2), dtype=bool))
CATEGORY_OF = {"a/1": "dog", "a/2": "cat", "a/3": "dog", "b/4": "dog", "b/5": "dog", "b/9": "emu"}


@pytest.fixture
def annotations(tmp_path: Path) -> AnnotationArrays:
    """Return images of one object with a head and a tail each; no sample names that of b/9."""
    images = [ImageRecord(key, key[0], f"{key}.png", 2, 2, "train") for key in CATEGORY_OF]
    objects = [ObjectInstance(f"{key}#0", key, category, RLE) for key, category in CATEGORY_OF.items()]
    parts = [
        PartInstance(f"{key}#0/{name}", f"{key}#0", key, name, RLE)
        for key in CATEGORY_OF
        for name in ("head", "tail")
    ]
    tables.write_images(tmp_path / "images.parquet", images)
    tables.write_objects(tmp_path / "objects.parquet", objects)
    tables.write_parts(tmp_path / "parts.parquet", parts)
    return read_annotations(tmp_path)


def sample(task: str, image_ids: tuple[str, str], *names: tuple[int, str]) -> PairSample:
    """Return a sample whose targets are (image index, part name), or objects where the name is empty."""
    targets = tuple(
        Target(index, "", f"{image_ids[index]}#0", f"{image_ids[index]}#0/{name}" if name else None)
        for index, name in names
    )
    return PairSample("-".join(image_ids), task, image_ids[0][0], image_ids, targets)


def test_table_3_is_counted_by_hand() -> None:
    assert instances_per_sample(np.array([2, 4, 9, 5])) == {
        "samples": 4,
        "total": 20,
        "mean": 5.0,
        "max": 9,
        "median": 4.5,
    }


def test_only_what_samples_name_is_counted(annotations: AnnotationArrays) -> None:
    train = [
        sample("common_objects", ("a/1", "a/3"), (0, ""), (1, "")),
        sample("common_parts", ("a/1", "a/2"), (0, "head"), (1, "head"), (0, "tail"), (1, "tail")),
        sample("unique_parts", ("a/2", "a/3"), (1, "tail")),
    ]
    test = [sample("common_objects", ("b/4", "b/5"), (0, ""), (1, ""))]
    tally = Tally(annotations)
    assert len(list(tally.watch("train", to_blocks(train, annotations)))) == 3
    list(tally.watch("test", to_blocks(test, annotations)))
    found = tally.describe(["train", "test"])
    assert (found["all"]["num_pairs"], found["all"]["num_images"]) == (4, 5)
    assert (found["splits"]["train"]["num_pairs"], found["splits"]["train"]["num_images"]) == (3, 3)
    assert found["all"]["pairs_by_source"] == {
        "a": {"common_objects": 1, "common_parts": 1, "unique_parts": 1},
        "b": {"common_objects": 1},
    }
    assert found["all"]["instances_per_sample"]["common_objects"]["total"] == 4
    assert found["splits"]["test"]["instances_per_sample"].keys() == {"common_objects"}
    assert (found["num_objects"], found["num_parts"]) == (5, 5)
    assert (found["num_object_categories"], found["num_part_categories"]) == (2, 2)
    assert found["objects_by_category"] == {"dog": 4, "cat": 1}
    assert found["parts_by_category"] == {"tail": 3, "head": 2}
    assert tally.rows()[:5] == [
        ("pairs", "a/common_objects", 1),
        ("pairs", "a/common_parts", 1),
        ("pairs", "a/unique_parts", 1),
        ("pairs", "b/common_objects", 1),
        ("objects", "dog", 6),
    ]
    # a/3 is named twice, for itself and for its tail; a/2 has no target in the last pair of train.
    assert found["occurrences"] == {
        "objects": {"dog": 6, "cat": 1},
        "parts": {"tail": 3, "head": 2},
        "common_parts": {"head": 2, "tail": 2},
        "unique_parts": {"tail": 1},
    }
