"""calico.data.pairs.pairing: balanced, reproducible pairs that keep splits and sources apart."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calico.config import PairSection
from calico.core import masks, tables
from calico.core.files import read_json, verify_manifest
from calico.core.records import ImageRecord, ObjectInstance, PartInstance
from calico.core.tokens import TASKS
from calico.data.pairs.curate import CategoryPair, write_category_pairs
from calico.data.pairs.pairing import Pairing, make_pairs, pair
from calico.errors import DataError

PARTS = {
    "dog": ("body", "head", "tail"),
    "cat": ("body", "head", "paw"),
    "mug": ("body", "handle"),
    "sun": ("ray",),
}
CATEGORY_PAIRS = [
    CategoryPair("a", "cat", "dog", ("body", "head"), 0.5, True, "animals"),
    CategoryPair("a", "dog", "mug", ("body",), 0.25, False, "no"),
    CategoryPair("b", "cat", "dog", ("body", "head"), 0.5, True, "animals"),
]
NUM_IMAGES = {"train": 24, "val": 8, "test": 10}


def section(**changes: Any) -> PairSection:
    values = {"seed": 1, "num_pairs": {"train": 20, "val": 4, "test": 7}, "max_targets": 8}
    return PairSection.model_validate(values | changes)


def make_tables(seed: int = 0) -> tuple[list[ImageRecord], list[ObjectInstance], list[PartInstance]]:
    """Return two sources of images with one or two objects, each part visible with probability 0.7."""
    rng = np.random.default_rng(seed)
    images, objects, parts = [], [], []
    for source in ("a", "b"):
        for split, count in NUM_IMAGES.items():
            for number in range(count):
                image_id = f"{source}/{split}-{number}"
                images.append(ImageRecord(image_id, source, f"{image_id}.jpg", 8, 8, split))
                for index, category in enumerate(rng.permutation(list(PARTS))[: rng.integers(1, 3)]):
                    mask_HW = np.zeros((8, 8), dtype=bool)
                    mask_HW[:, 7 - 4 * index] = True
                    rle = masks.encode(mask_HW)
                    object_id = f"{image_id}#{index}"
                    objects.append(ObjectInstance(object_id, image_id, str(category), rle))
                    names = [name for name in PARTS[category] if rng.random() < 0.7]
                    parts += [
                        PartInstance(f"{object_id}/{name}", object_id, image_id, name, rle) for name in names
                    ]
    return images, objects, parts


@pytest.fixture(scope="module")
def pairings() -> dict[str, Pairing]:
    return make_pairs(section(), *make_tables(), CATEGORY_PAIRS)


def test_tasks_and_sources_share_the_pairs_equally(pairings: dict[str, Pairing]) -> None:
    for split, total in section().num_pairs.model_dump().items():
        samples = pairings[split].samples
        assert Counter(sample.task for sample in samples) == dict.fromkeys(TASKS, total)
        per_cell = Counter((sample.source, sample.task) for sample in samples)
        assert max(per_cell.values()) - min(per_cell.values()) <= 1
        assert not pairings[split].missing


def test_no_image_is_in_two_splits_and_no_pair_twice(pairings: dict[str, Pairing]) -> None:
    seen: dict[str, str] = {}
    for split, pairing in pairings.items():
        assert len({sample.pair_id for sample in pairing.samples}) == len(pairing.samples)
        unordered = [(sample.task, frozenset(sample.image_ids)) for sample in pairing.samples]
        assert len(set(unordered)) == len(unordered)
        for sample in pairing.samples:
            assert len(set(sample.image_ids)) == 2
            for image_id in sample.image_ids:
                assert image_id.startswith(f"{sample.source}/{split}-")
                assert seen.setdefault(image_id, split) == split


def test_targets_are_instances_of_their_images(pairings: dict[str, Pairing]) -> None:
    _, objects, parts = make_tables()
    image_of = {one.object_id: one.image_id for one in objects}
    category_of = {one.object_id: one.category for one in objects}
    part_of = {part.part_id: part for part in parts}
    for sample in [sample for pairing in pairings.values() for sample in pairing.samples]:
        assert 1 <= len(sample.targets) <= 8
        for target in sample.targets:
            assert image_of[target.object_id] == sample.image_ids[target.image_index]
            category = category_of[target.object_id]
            if sample.task == "common_objects":
                assert (target.part_id, target.label) == (None, category)
            else:
                part = part_of[target.part_id or ""]
                assert part.object_id == target.object_id
                assert target.label == f"{category}'s {part.category}"


def test_instances_of_one_category_go_from_left_to_right(pairings: dict[str, Pairing]) -> None:
    _, objects, _ = make_tables()
    left = {one.object_id: masks.box_xyxy(one.rle)[0] for one in objects}
    for sample in pairings["train"].samples:
        if sample.task == "common_objects":
            keys = [(target.label, target.image_index, left[target.object_id]) for target in sample.targets]
            assert keys == sorted(keys)


def test_only_kept_pairs_and_equal_categories_are_compared(pairings: dict[str, Pairing]) -> None:
    found = Counter(
        tuple(sorted({target.label.partition("'s ")[0] for target in sample.targets}))
        for pairing in pairings.values()
        for sample in pairing.samples
        if sample.task == "common_parts"
    )
    assert set(found) <= {("cat",), ("dog",), ("mug",), ("sun",), ("cat", "dog")}
    assert found["cat", "dog"] > 5


def test_same_seed_gives_the_same_samples_and_another_seed_others(pairings: dict[str, Pairing]) -> None:
    again = make_pairs(section(), *make_tables(), CATEGORY_PAIRS)
    other = make_pairs(section(seed=2), *make_tables(), CATEGORY_PAIRS)
    assert again == pairings
    assert other["train"].samples != pairings["train"].samples


def test_more_training_pairs_leave_the_test_pairs_alone(pairings: dict[str, Pairing]) -> None:
    more = make_pairs(section(num_pairs={"train": 30, "val": 4, "test": 7}), *make_tables(), CATEGORY_PAIRS)
    assert more["test"].samples == pairings["test"].samples
    assert len(more["train"].samples) > len(pairings["train"].samples)


def test_what_cannot_be_filled_is_counted() -> None:
    pairings = make_pairs(
        section(num_pairs={"train": 1000, "val": 0, "test": 0}), *make_tables(), CATEGORY_PAIRS
    )
    found = Counter((sample.source, sample.task) for sample in pairings["train"].samples)
    for source in ("a", "b"):
        for task in TASKS:
            assert found[source, task] + pairings["train"].missing[f"{source}/{task}"] == 500
    assert pairings["val"].samples == []
    assert any(reason.endswith(": ambiguous") for reason in pairings["train"].rejected)


def test_bare_objects_and_large_samples_are_counted() -> None:
    images, objects, _ = make_tables()
    pairings = make_pairs(section(), images, objects, [], CATEGORY_PAIRS)
    bare = sum(one.image_id.startswith("a/train-") for one in objects)
    assert pairings["train"].rejected["a/common_parts: object without parts"] == bare
    assert pairings["train"].missing["a/common_parts"] == 10
    few = make_pairs(section(max_targets=2), *make_tables(), CATEGORY_PAIRS)
    assert few["train"].rejected["a/common_parts: too many targets"] > 0
    assert all(len(sample.targets) <= 2 for sample in few["train"].samples)


def test_split_without_any_pair_is_an_error() -> None:
    images, objects, parts = make_tables()
    with pytest.raises(DataError, match=r"split 'test' of a, b gives no image pair; rejected: \{"):
        make_pairs(
            section(), [image for image in images if image.split != "test"], objects, parts, CATEGORY_PAIRS
        )


def test_stage_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    images, objects, parts = make_tables()
    tables.write_images(tmp_path / "unify" / "images.parquet", images)
    tables.write_objects(tmp_path / "unify" / "objects.parquet", objects)
    tables.write_parts(tmp_path / "unify" / "parts.parquet", parts)
    write_category_pairs(tmp_path / "curate" / "category_pairs.csv", CATEGORY_PAIRS)
    for name in ("first", "second"):
        statistics = pair(section(), tmp_path / "unify", tmp_path / "curate", tmp_path / name)
    manifests = [verify_manifest(tmp_path / name) for name in ("first", "second")]
    assert manifests[0] == manifests[1]
    assert set(manifests[0]["files"]) == {"train.parquet", "val.parquet", "test.parquet", "statistics.json"}
    assert read_json(tmp_path / "second" / "statistics.json") == statistics
    assert statistics["splits"]["train"]["num_pairs"] == 60
    assert len(tables.read_pairs(tmp_path / "first" / "train.parquet")) == 60
