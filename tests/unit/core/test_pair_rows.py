"""calico.core.pair_rows: pairs in arrays on disk, each row read alone."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calico.core import tables
from calico.core.pair_rows import KINDS, TARGET, PairTable, RowBlock, RowWriter, write_rows
from calico.core.records import PairSample, Target
from calico.errors import DataError

FILES = ("names.parquet", "rows.bin", "ids.bin", "images.bin", "targets.bin")


def make_samples(count: int) -> list[PairSample]:
    rng = np.random.default_rng(3)
    samples = []
    for number in range(count):
        image_ids = (f"a/{rng.integers(9)}", f"a/{rng.integers(9)}")
        targets = tuple(
            Target(index % 2, "dog's head", f"a/{number}#0", f"a/{number}#0/head" if index else None)
            for index in range(rng.integers(1, 5))
        )
        samples.append(PairSample(f"pair {number}", "common_parts", "a", image_ids, targets))
    return samples


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[PairSample]]:
    samples = make_samples(23)
    tables.write_pairs(tmp_path / "pairs.parquet", samples)
    return tmp_path / "rows" / "pairs", samples


def test_rows_are_those_of_the_parquet_file(written: tuple[Path, list[PairSample]]) -> None:
    path, samples = written
    found = PairTable(path)
    assert len(found) == 23
    assert [found[row] for row in range(23)] == samples == list(found)
    assert tables.read_pairs(path.parent.parent / "pairs.parquet") == samples
    assert found[-1] == samples[-1]
    assert found[3:17:4] == samples[3:17:4]
    with pytest.raises(IndexError):
        found[23]


def test_columns_need_no_rows(written: tuple[Path, list[PairSample]]) -> None:
    path, samples = written
    found = PairTable(path)
    assert found.num_targets().tolist() == [len(sample.targets) for sample in samples]
    assert found.image_ids() == tuple(dict.fromkeys(name for one in samples for name in one.image_ids))


def test_a_row_is_read_without_the_others(written: tuple[Path, list[PairSample]]) -> None:
    path, samples = written
    ids = (path / "ids.bin").read_bytes()
    assert ids.count(b"pair 12") == 1
    (path / "ids.bin").write_bytes(ids.replace(b"pair 12", b"\xff" * 7))
    found = PairTable(path)
    assert [found[row] for row in (11, 13, 22)] == [samples[row] for row in (11, 13, 22)]
    with pytest.raises(DataError, match=r"rows/pairs: row 12 is damaged"):
        found[12]


def test_blocks_follow_each_other(tmp_path: Path) -> None:
    """A block's arrays may be slices that begin anywhere."""
    names = {kind: pa.array(["x", "y"]) for kind in KINDS}
    ids = pa.array(["left out", "first", "second", "third"])
    targets = np.array([(0, 0, 1, -1), (1, 1, 0, 1), (0, 0, 0, 0)], dtype=TARGET)

    def block(start: int, stop: int) -> RowBlock:
        codes = np.zeros(stop - start, dtype=np.int32)
        places = np.arange(start, stop + 1)
        return RowBlock(
            ids[1:][start:stop], codes, codes + 1, places, codes + start % 2, places, targets[start:stop]
        )

    with RowWriter(tmp_path / "rows", names) as writer:
        writer.write(block(0, 1))
        writer.write(block(1, 3))
    assert list(PairTable(tmp_path / "rows")) == [
        PairSample("first", "x", "y", ("x",), (Target(0, "x", "y", None),)),
        PairSample("second", "x", "y", ("y",), (Target(1, "y", "x", "y"),)),
        PairSample("third", "x", "y", ("y",), (Target(0, "x", "x", "x"),)),
    ]


def test_an_interrupted_writer_leaves_what_was_there(written: tuple[Path, list[PairSample]]) -> None:
    path, samples = written
    with pytest.raises(RuntimeError), RowWriter(path, {kind: pa.array(["x"]) for kind in KINDS}):
        raise RuntimeError
    assert list(PairTable(path)) == samples
    assert not list(path.glob(".*"))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), start=st.floats(0, 1), noise=st.binary(min_size=1, max_size=24))
def test_damaged_bytes_never_crash(
    name: str, start: float, noise: bytes, written: tuple[Path, list[PairSample]]
) -> None:
    path, samples = written
    write_rows(path, samples)
    content = bytearray((path / name).read_bytes())
    place = int(start * (len(content) - 1))
    content[place : place + len(noise)] = noise
    (path / name).write_bytes(content)
    with suppress(DataError):
        found = PairTable(path)
        with suppress(DataError):
            found.image_ids()
        for row in range(len(found)):
            with suppress(DataError):
                assert isinstance(found[row], PairSample)


def test_empty_table(tmp_path: Path) -> None:
    write_rows(tmp_path, [])
    found = PairTable(tmp_path)
    assert (len(found), list(found), found.num_targets().tolist(), found.image_ids()) == (0, [], [], ())


def test_what_is_no_pair_table_is_named(written: tuple[Path, list[PairSample]]) -> None:
    path, _ = written
    with pytest.raises(DataError, match=r"absent/names\.parquet: no such file"):
        PairTable(path.parent / "absent")
    targets = (path / "targets.bin").read_bytes()
    (path / "targets.bin").write_bytes(targets[:-16])
    with pytest.raises(DataError, match=r"rows\.bin does not belong to the files beside it"):
        PairTable(path)
    (path / "targets.bin").write_bytes(targets[:-1])
    with pytest.raises(DataError, match=r"targets\.bin: \d+ bytes are not whole rows"):
        PairTable(path)
    (path / "names.parquet").write_text("text")
    with pytest.raises(DataError, match=r"names\.parquet: not a parquet file"):
        PairTable(path)
