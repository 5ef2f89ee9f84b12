"""calico.data.pairs.pairing: balanced, reproducible pairs that keep splits and sources apart."""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from calico.config import PairSection
from calico.core import masks, tables
from calico.core.files import read_json, verify_manifest
from calico.core.pair_rows import PairTable
from calico.core.records import ImageRecord, ObjectInstance, PairSample, PartInstance
from calico.core.tokens import TASKS
from calico.data.pairs.category_pairs import CategoryPair, write_category_pairs
from calico.data.pairs.pairing import pair
from calico.errors import DataError

ROOT = Path(__file__).parents[4]
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
    values = {
        "seed": 1,
        "num_pairs": {"train": dict.fromkeys(TASKS, 20), "val": 4, "test": 7},
        "max_targets": 8,
    }
    return PairSection.model_validate(values | changes)


Tables = tuple[list[ImageRecord], list[ObjectInstance], list[PartInstance]]
Samples = dict[str, list[PairSample]]


def make_tables(seed: int = 0) -> Tables:
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


def write(folder: Path, unified: Tables) -> None:
    tables.write_images(folder / "unify" / "images.parquet", unified[0])
    tables.write_objects(folder / "unify" / "objects.parquet", unified[1])
    tables.write_parts(folder / "unify" / "parts.parquet", unified[2])
    write_category_pairs(folder / "curate" / "category_pairs.csv", CATEGORY_PAIRS)


def run(folder: Path, unified: Tables, **changes: Any) -> tuple[Samples, dict[str, Any]]:
    """Run the stage and read the samples of each split back, and what the stage returns."""
    write(folder, unified)
    statistics = pair(section(**changes), folder / "unify", folder / "curate", folder / "pair")
    return {
        split: tables.read_pairs(folder / "pair" / f"{split}.parquet") for split in NUM_IMAGES
    }, statistics


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    found, statistics = run(tmp_path_factory.mktemp("pairing"), make_tables())
    assert not any(statistics["missing"].values())
    return found


def test_tasks_and_sources_share_the_pairs_equally(samples: Samples) -> None:
    for split in ("train", "val", "test"):
        expected = {task: section().num_pairs.of(split, task) for task in TASKS}
        assert Counter(sample.task for sample in samples[split]) == expected
        per_cell = Counter((sample.source, sample.task) for sample in samples[split])
        assert max(per_cell.values()) - min(per_cell.values()) <= 1


def test_no_image_is_in_two_splits_and_no_pair_twice(samples: Samples) -> None:
    seen: dict[str, str] = {}
    for split, found in samples.items():
        assert len({sample.pair_id for sample in found}) == len(found)
        unordered = [(sample.task, frozenset(sample.image_ids)) for sample in found]
        assert len(set(unordered)) == len(unordered)
        for sample in found:
            assert len(set(sample.image_ids)) == 2
            for image_id in sample.image_ids:
                assert image_id.startswith(f"{sample.source}/{split}-")
                assert seen.setdefault(image_id, split) == split


@pytest.mark.parametrize("names", [("x", "x-1", "1-2", "2"), ("x", "x%2D1", "x-1", "1%2D2", "1-2", "2")])
def test_dashes_in_names_leave_the_ids_of_pairs_distinct(names: tuple[str, ...], tmp_path: Path) -> None:
    """Joined by a dash alone, (x, 1-2) and (x-1, 2) would be one pair."""
    rle = masks.encode(np.ones((8, 8), dtype=bool))
    images = [ImageRecord(f"a/{name}", "a", f"{name}.jpg", 8, 8, "train") for name in names]
    objects = [ObjectInstance(f"{one.image_id}#0", one.image_id, "dog", rle) for one in images]
    parts = [
        PartInstance(f"{one.object_id}/head", one.object_id, one.image_id, "head", rle) for one in objects
    ]
    num_pairs = {"train": {"common_objects": 99, "common_parts": 0, "unique_parts": 0}, "val": 0, "test": 0}
    for seed in range(8):
        found, _ = run(tmp_path / str(seed), (images, objects, parts), num_pairs=num_pairs, seed=seed)
        assert len({sample.pair_id for sample in found["train"]}) == len(names) * (len(names) - 1) // 2


def test_targets_are_instances_of_their_images(samples: Samples) -> None:
    _, objects, parts = make_tables()
    image_of = {one.object_id: one.image_id for one in objects}
    category_of = {one.object_id: one.category for one in objects}
    part_of = {part.part_id: part for part in parts}
    for sample in [sample for found in samples.values() for sample in found]:
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


def test_instances_of_one_category_go_from_left_to_right(samples: Samples) -> None:
    _, objects, _ = make_tables()
    left = {one.object_id: masks.box_xyxy(one.rle)[0] for one in objects}
    for sample in samples["train"]:
        if sample.task == "common_objects":
            keys = [(target.label, target.image_index, left[target.object_id]) for target in sample.targets]
            assert keys == sorted(keys)


def test_only_kept_pairs_and_equal_categories_are_compared(samples: Samples) -> None:
    found = Counter(
        tuple(sorted({target.label.partition("'s ")[0] for target in sample.targets}))
        for of_split in samples.values()
        for sample in of_split
        if sample.task == "common_parts"
    )
    assert set(found) <= {("cat",), ("dog",), ("mug",), ("sun",), ("cat", "dog")}
    assert found["cat", "dog"] > 5


def test_same_seed_gives_the_same_samples_and_another_seed_others(samples: Samples, tmp_path: Path) -> None:
    again, _ = run(tmp_path / "again", make_tables())
    other, _ = run(tmp_path / "other", make_tables(), seed=2)
    assert again == samples
    assert other["train"] != samples["train"]


def test_more_training_pairs_leave_the_test_pairs_alone(samples: Samples, tmp_path: Path) -> None:
    more, _ = run(tmp_path, make_tables(), num_pairs={"train": dict.fromkeys(TASKS, 30), "val": 4, "test": 7})
    assert more["test"] == samples["test"]
    assert len(more["train"]) > len(samples["train"])


def test_what_cannot_be_filled_is_counted(tmp_path: Path) -> None:
    found, statistics = run(
        tmp_path, make_tables(), num_pairs={"train": dict.fromkeys(TASKS, 1000), "val": 0, "test": 0}
    )
    per_cell = Counter((sample.source, sample.task) for sample in found["train"])
    for source in ("a", "b"):
        for task in TASKS:
            assert 0 < per_cell[source, task] < 300
            assert per_cell[source, task] + statistics["missing"]["train"][f"{source}/{task}"] == 500
    assert found["val"] == []
    assert any(reason.endswith(": ambiguous") for reason in statistics["rejected"]["train"])


def test_bare_objects_and_large_samples_are_counted(tmp_path: Path) -> None:
    images, objects, parts = make_tables()
    _, statistics = run(tmp_path / "bare", (images, objects, []))
    bare = sum(one.image_id.startswith("a/train-") for one in objects)
    assert statistics["rejected"]["train"]["a/common_parts: object without parts"] == bare
    assert statistics["missing"]["train"]["a/common_parts"] == 10
    few, statistics = run(tmp_path / "few", (images, objects, parts), max_targets=2)
    assert statistics["rejected"]["train"]["a/common_parts: too many targets"] > 0
    assert all(len(sample.targets) <= 2 for sample in few["train"])


def test_split_without_any_pair_is_an_error(tmp_path: Path) -> None:
    images, objects, parts = make_tables()
    images = [replace(image, split="train") if image.split == "test" else image for image in images]
    with pytest.raises(DataError, match=r"split 'test' of a, b gives no image pair; rejected: \{"):
        run(tmp_path, (images, objects, parts))


def test_data_without_an_object_is_an_error(tmp_path: Path) -> None:
    images, _, _ = make_tables()
    for name, unified in {"bare": (images, [], []), "empty": ([], [], [])}.items():
        with pytest.raises(DataError, match=r"split 'train' of no source gives no image pair; .* Add images"):
            run(tmp_path / name, unified)


def test_no_pair_asked_for_is_no_error(tmp_path: Path) -> None:
    num_pairs = {"train": dict.fromkeys(TASKS, 0), "val": 0, "test": 0}
    found, statistics = run(tmp_path, make_tables(), num_pairs=num_pairs)
    assert found == {"train": [], "val": [], "test": []}
    assert statistics["all"]["num_pairs"] == 0
    assert verify_manifest(tmp_path / "pair")


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (1, r"objects\.parquet: 1 rows belong to nothing; first 'a/train-0#0', whose image_id 'nowhere'"),
        (2, r"parts\.parquet: 1 rows belong to nothing; first 'a/train-0#0/.*', whose object_id 'nothing'"),
    ],
)
def test_an_id_that_points_nowhere_is_named(table: int, match: str, tmp_path: Path) -> None:
    unified = make_tables()
    owner = {"image_id": "nowhere"} if table == 1 else {"object_id": "nothing"}
    unified[table][0] = replace(unified[table][0], **owner)
    with pytest.raises(DataError, match=match):
        run(tmp_path, unified)


def test_stage_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    write(tmp_path, make_tables())
    for name in ("first", "second"):
        statistics = pair(section(), tmp_path / "unify", tmp_path / "curate", tmp_path / name)
    manifests = [verify_manifest(tmp_path / name) for name in ("first", "second")]
    assert manifests[0] == manifests[1]
    plotted = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    plots = {path.partition("/pair/")[2] for plot in plotted for path in plot if "/pair/" in path}
    assert plots == {f"plots/{kind}.csv" for kind in ("pairs", *statistics["occurrences"])}
    tables_written = {"train.parquet", "val.parquet", "test.parquet", "plots/counts.parquet"}
    files = ("names.parquet", "rows.bin", "ids.bin", "images.bin", "targets.bin")
    tables_written |= {f"rows/{split}/{name}" for split in ("train", "val", "test") for name in files}
    assert set(manifests[0]["files"]) == {"statistics.json", *plots, *tables_written}
    lines = (tmp_path / "first" / "plots" / "common_parts.csv").read_text().splitlines()
    counts = statistics["occurrences"]["common_parts"]
    assert lines == ["name,count", *(f"{name},{count}" for name, count in counts.items())]
    assert read_json(tmp_path / "second" / "statistics.json") == statistics
    assert statistics["splits"]["train"]["num_pairs"] == 60
    assert len(PairTable(tmp_path / "first" / "rows" / "train")) == 60


STAGE = """
import sys
from pathlib import Path
import pyarrow as pa
from calico.config import PairSection
from calico.data.pairs.pairing import pair
pa.set_cpu_count(int(sys.argv[2]))
folder = Path(sys.argv[1])
section = PairSection.model_validate(
    {"seed": 1, "num_pairs": COUNTS, "max_targets": 8}
)
print("ready", flush=True)
pair(section, folder / "unify", folder / "curate", folder / sys.argv[3])
"""


COUNTS = {"train": dict.fromkeys(TASKS, 60), "val": 4, "test": 7}


def start(folder: Path, num_threads: int, name: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-c",
        STAGE.replace("COUNTS", str(COUNTS)),
        str(folder),
        str(num_threads),
        name,
    ]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_threads_and_kills_leave_the_bytes_as_they_are(tmp_path: Path) -> None:
    """A process that is killed while it writes, and runs again, leaves what an undisturbed one does."""
    write(tmp_path, make_tables())
    pair(section(num_pairs=COUNTS), tmp_path / "unify", tmp_path / "curate", tmp_path / "whole")
    whole = verify_manifest(tmp_path / "whole")
    for delay in (0.02, 0.1):
        process = start(tmp_path, 1, "killed")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.kill()
        process.wait()
    # What a kill in the middle of a file leaves behind.
    (tmp_path / "killed").mkdir(exist_ok=True)
    (tmp_path / "killed" / ".train.parquet.calico-partial").write_bytes(b"half")
    assert start(tmp_path, 2, "killed").wait() == 0
    assert verify_manifest(tmp_path / "killed") == whole
    assert not list((tmp_path / "killed").glob(".*"))
