"""calico.core.caption_rows: grounded captions in arrays on disk, each read alone."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calico.core import masks, tables
from calico.core.caption_rows import CaptionTable
from calico.core.files import read_parquet
from calico.core.records import CaptionPhrase, CaptionRecord
from calico.errors import DataError

FILES = ("rows.bin", "bytes.bin", "phrases.bin")
Written = tuple[Path, list[CaptionRecord]]


def make_captions(count: int) -> list[CaptionRecord]:
    """Return captions of two images in turn: words of one to three bytes a letter, none to three phrases."""
    rng = np.random.default_rng(3)
    captions = []
    for number in range(count):
        words = [["dog", "größe", "犬", "cat's head"][code] for code in rng.integers(4, size=4)]
        phrases, start = [], 0
        for word in words[: number % 4]:
            rle = masks.encode(rng.random((5, 7)) < 0.5)
            phrases.append(CaptionPhrase(start, start + len(word), word, rle))
            start += len(word) + 1
        captions.append(CaptionRecord(f"grand/sa_{number // 2}", " ".join(words), tuple(phrases)))
    return captions


@pytest.fixture
def written(tmp_path: Path) -> Written:
    captions = make_captions(23)
    tables.write_captions(tmp_path / "captions.parquet", iter(captions))
    return tmp_path / "rows" / "captions", captions


def test_rows_are_what_was_written(written: Written) -> None:
    path, captions = written
    found = CaptionTable(path)
    assert len(found) == 23
    assert [found[row] for row in reversed(range(23))][::-1] == captions == list(found)
    assert found[-1] == captions[-1]
    assert found[3:17:4] == captions[3:17:4]


def test_parquet_holds_the_same(written: Written) -> None:
    path, captions = written
    rows = read_parquet(path.parent.parent / "captions.parquet")
    assert [tables.caption_from_row(row) for row in rows] == captions


def test_many_blocks_are_one_table(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a generator holds one block of it at a time."""
    path, captions = written
    bytes_of = {name: (path / name).read_bytes() for name in FILES}
    num_drawn, num_written = 0, []
    write = tables.RowFileWriter.write

    def stream() -> Iterator[CaptionRecord]:
        nonlocal num_drawn
        for caption in captions:
            num_drawn += 1
            yield caption

    def count(*arguments: object) -> None:
        num_written.append(num_drawn)
        write(*arguments)

    monkeypatch.setattr(tables, "_CAPTIONS_AT_ONCE", 5)
    monkeypatch.setattr(tables.RowFileWriter, "write", count)
    tables.write_captions(path.parent.parent / "captions.parquet", stream())
    assert num_written == [5, 10, 15, 20, 23]
    assert {name: (path / name).read_bytes() for name in FILES} == bytes_of
    assert [row["text"] for row in read_parquet(path.parent.parent / "captions.parquet")] == [
        caption.text for caption in captions
    ]


def test_columns_need_no_records(written: Written) -> None:
    path, captions = written
    found = CaptionTable(path)
    assert found.text_lengths().tolist() == [len(caption.text) for caption in captions]
    assert found.image_ids() == tuple(dict.fromkeys(caption.image_id for caption in captions))


def test_a_row_is_read_without_the_others(written: Written) -> None:
    path, captions = written
    content = (path / "bytes.bin").read_bytes()
    assert content.count(b"grand/sa_11") == 1
    (path / "bytes.bin").write_bytes(content.replace(b"grand/sa_11", b"\xff" * 11))
    found = CaptionTable(path)
    assert found[21] == captions[21]
    with pytest.raises(DataError, match=r"rows/captions: row 22 is damaged"):
        found[22]
    with pytest.raises(DataError, match=r"rows/captions: an image id is damaged"):
        found.image_ids()


def test_a_stream_that_fails_leaves_what_was_there(written: Written) -> None:
    path, captions = written

    def stream() -> Iterator[CaptionRecord]:
        yield captions[0]
        raise DataError("a file is damaged")

    with pytest.raises(DataError, match="a file is damaged"):
        tables.write_captions(path.parent.parent / "captions.parquet", stream())
    assert list(CaptionTable(path)) == captions
    assert not list(path.parent.parent.rglob(".*"))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), start=st.floats(0, 1), noise=st.binary(min_size=1, max_size=24))
def test_damaged_bytes_never_crash(name: str, start: float, noise: bytes, written: Written) -> None:
    path, captions = written
    tables.write_captions(path.parent.parent / "captions.parquet", captions)
    content = bytearray((path / name).read_bytes())
    place = int(start * (len(content) - 1))
    content[place : place + len(noise)] = noise
    (path / name).write_bytes(content)
    with suppress(DataError):
        found = CaptionTable(path)
        with suppress(DataError):
            found.image_ids()
        for row in range(len(found)):
            with suppress(DataError):
                assert isinstance(found[row], CaptionRecord)


def test_empty_table(tmp_path: Path) -> None:
    tables.write_captions(tmp_path / "captions.parquet", [])
    found = CaptionTable(tmp_path / "rows" / "captions")
    assert (len(found), list(found), found.text_lengths().tolist(), found.image_ids()) == (0, [], [], ())
    assert read_parquet(tmp_path / "captions.parquet") == []
