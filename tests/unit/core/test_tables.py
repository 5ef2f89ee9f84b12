"""calico.core.tables: every table gives back what was written, and refuses other tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calico.core import masks, tables
from calico.core.records import (
    Answer,
    ImageRecord,
    ObjectInstance,
    PairSample,
    PartInstance,
    PredictedMask,
    Target,
)
from calico.errors import DataError

RLE = masks.encode(np.eye(6, 5, dtype=bool))
EMPTY = masks.encode(np.zeros((3, 4), dtype=bool))

CONTENTS: dict[str, list[Any]] = {
    "images": [ImageRecord("a/1", "a", "a/images/1.jpg", 6, 5, "train")],
    "objects": [ObjectInstance("a/1#7", "a/1", "dog", RLE), ObjectInstance("a/1#8", "a/1", "dog", EMPTY)],
    "parts": [PartInstance("a/1#9", "a/1#7", "a/1", "head", RLE)],
    "rejected": [tables.Rejection("a", "a/1", "12", "empty mask", "a/train.json")],
    "pairs": [
        PairSample("p1", "common_parts", "a", ("a/1", "a/2"), (Target(0, "dog's head", "a/1#7", "a/1#9"),)),
        PairSample("p2", "common_objects", "a", ("a/1", "a/2", "a/3"), (Target(2, "dog", "a/3#1", None),)),
    ],
    "predictions": [PredictedMask("p1", "common_parts", 1, "dog's head", RLE, 0.25)],
    "answers": [Answer("p1", "common_parts", "Both show ünïcode [SEG].", 2)],
}


@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_table_round_trips(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.parquet"
    getattr(tables, f"write_{name}")(path, iter(CONTENTS[name]))
    assert getattr(tables, f"read_{name}")(path) == CONTENTS[name]


@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_empty_table_round_trips(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.parquet"
    getattr(tables, f"write_{name}")(path, [])
    assert getattr(tables, f"read_{name}")(path) == []


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        tables.write_pairs(tmp_path / name, CONTENTS["pairs"])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_area_is_stored(tmp_path: Path) -> None:
    tables.write_objects(tmp_path / "objects.parquet", CONTENTS["objects"])
    stored = tables.read_parquet(tmp_path / "objects.parquet")
    assert [row["area_px"] for row in stored] == [5, 0]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    tables.write_answers(tmp_path / "images.parquet", CONTENTS["answers"])
    with pytest.raises(
        DataError, match="columns are pair_id, task, text, num_malformed, faults, expected image_id"
    ):
        tables.read_images(tmp_path / "images.parquet")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.parquet: no such file"):
        tables.read_pairs(tmp_path / "pairs.parquet")
