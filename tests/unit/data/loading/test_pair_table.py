"""calico.data.loading.pair_table: the rows of the file, one group at a time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calico.core import tables
from calico.core.records import PairSample, Target
from calico.core.tables import PAIRS
from calico.data.loading.pair_table import PairTable
from calico.errors import DataError


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
    """Write 23 samples in row groups of 5, the last one smaller."""
    samples = make_samples(23)
    tables.write_pairs(tmp_path / "plain.parquet", samples)
    pq.write_table(pq.read_table(tmp_path / "plain.parquet"), tmp_path / "pairs.parquet", row_group_size=5)
    return tmp_path / "pairs.parquet", samples


def test_rows_are_those_of_the_file(written: tuple[Path, list[PairSample]]) -> None:
    path, samples = written
    found = PairTable(path)
    assert len(found) == 23
    assert [found[row] for row in range(23)] == samples == list(found)
    assert found[-1] == samples[-1]
    assert found[3:17:4] == samples[3:17:4]
    with pytest.raises(IndexError):
        found[23]


def test_columns_need_no_rows(written: tuple[Path, list[PairSample]]) -> None:
    path, samples = written
    found = PairTable(path)
    assert found.num_targets() == [len(sample.targets) for sample in samples]
    assert found.image_ids() == tuple(dict.fromkeys(name for one in samples for name in one.image_ids))


def test_a_row_reads_its_group_only(
    written: tuple[Path, list[PairSample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, samples = written
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def watched(self: pq.ParquetFile, group: int, **options: object) -> pa.Table:
        read.append(group)
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", watched)
    found = PairTable(path)
    assert read == []
    assert (found[12], found[13], found[22]) == (samples[12], samples[13], samples[22])
    assert read == [2, 4]


def test_empty_table(tmp_path: Path) -> None:
    tables.write_pairs(tmp_path / "pairs.parquet", [])
    found = PairTable(tmp_path / "pairs.parquet")
    assert (len(found), list(found), found.num_targets(), found.image_ids()) == (0, [], [], ())


def test_what_is_no_pair_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.parquet: no such file"):
        PairTable(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(DataError, match=r"text\.parquet: not a parquet file"):
        PairTable(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: columns are a, expected pair_id"):
        PairTable(tmp_path / "other.parquet")


def test_schema_is_that_of_small_tables(written: tuple[Path, list[PairSample]]) -> None:
    assert pq.read_schema(written[0]).equals(PAIRS)
