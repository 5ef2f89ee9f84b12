"""calico.core.tables: every table gives back what was written, and refuses other tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calico.core import files, masks, tables
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
    stored = files.read_parquet(tmp_path / "objects.parquet")
    assert [row["area_px"] for row in stored] == [5, 0]


def test_other_columns_are_refused(tmp_path: Path) -> None:
    tables.write_answers(tmp_path / "images.parquet", CONTENTS["answers"])
    with pytest.raises(
        DataError, match="columns are pair_id, task, text, num_malformed, faults, expected image_id"
    ):
        tables.read_images(tmp_path / "images.parquet")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("pair_id", pa.array([None, "p2"]), "column pair_id has empty cells"),
        ("pair_id", pa.array([[1], [2]]), "wrong values .*[Uu]nsupported cast"),
        ("pair_id", pa.array([b"\xff", b"p2"]).cast(pa.string(), safe=False), "wrong values .*UTF"),
        ("image_ids", pa.array([["a/1", None], []]), "column image_ids has empty cells"),
        ("image_ids", pa.array([None, []], pa.list_(pa.string())), "column image_ids has empty cells"),
        ("targets", pa.array([[], [None]], tables.PAIRS.field("targets").type), "column targets has"),
        (
            "targets",
            pa.array([[{"image_index": 0, "label": None}], []], tables.PAIRS.field("targets").type),
            r"column targets\.label has empty cells",
        ),
    ],
)
def test_wrong_values_are_refused(column: str, values: pa.Array, message: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    tables.write_pairs(path, CONTENTS["pairs"])
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    with pytest.raises(DataError, match=rf"pairs\.parquet: {message}.*Delete it, run its stage again"):
        tables.read_pairs(path)


def test_any_changed_byte_is_harmless_or_named(tmp_path: Path) -> None:
    path = tmp_path / "parts.parquet"
    tables.write_parts(path, CONTENTS["parts"] * 20)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    faults: list[str] = []
    for place in rng.permutation(len(content))[:300].tolist():
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            tables.read_parts(path)
        except DataError as error:
            faults.append(str(error))
    assert len(faults) > 50
    assert all(str(path) in fault and "\n" not in fault for fault in faults)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.parquet: no such file"):
        tables.read_pairs(tmp_path / "pairs.parquet")
