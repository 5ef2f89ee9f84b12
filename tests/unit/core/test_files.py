"""calico.core.files: a reader sees the old bytes or the new ones, whatever happens to the writer."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from calico.core import files
from calico.errors import DataError


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_at(call: Callable[..., object], number: int, error: OSError) -> Callable[..., object]:
    """Return `call`, failing the `number`-th time."""
    calls = iter(range(1000))

    def wrapped(*arguments: object) -> object:
        if next(calls) == number:
            raise error
        return call(*arguments)

    return wrapped


def test_content_arrives_and_nothing_else(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "new" / "folder" / "file.bin", b"content")
    assert (tmp_path / "new" / "folder" / "file.bin").read_bytes() == b"content"
    assert entries(tmp_path / "new" / "folder") == ["file.bin"]


def test_failing_block_keeps_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def write_half() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_text("half of the new ver")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_two_writers_of_one_file_do_not_meet(first_ends_first: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    writers = [files.atomic_path(path), files.atomic_path(path)]
    places = [writer.__enter__() for writer in writers]
    for place, text in zip(places, ("first", "second"), strict=True):
        place.write_text(text)
    for number in (0, 1) if first_ends_first else (1, 0):
        writers[number].__exit__(None, None, None)
        assert path.read_text() == ("first", "second")[number]
    assert entries(tmp_path) == ["file.txt"]


def test_failing_writer_leaves_the_file_of_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    slow, fast = files.atomic_path(path), files.atomic_path(path)
    place = slow.__enter__()
    fast.__enter__().write_text("fast")
    assert not fast.__exit__(KeyError, KeyError(), None)
    place.write_text("slow")
    slow.__exit__(None, None, None)
    assert path.read_text() == "slow"
    assert entries(tmp_path) == ["file.txt"]


def test_what_a_killed_writer_left_is_used_up(tmp_path: Path) -> None:
    (tmp_path / ".file.txt.calico-partial").write_text("half of a very long version")
    files.write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"
    assert entries(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", range(4))
def test_each_failing_call_leaves_old_or_new(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    error = OSError(errno.EIO, "Input/output error")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail_at(getattr(os, name), number, error))
        try:
            files.write_text(path, "new")
        except DataError as reported:
            message = str(reported)
        else:
            message = ""
    assert "file.txt: cannot be written (Input/output error)" in message or path.read_text() == "new"
    assert path.read_text() in {"old", "new"}
    assert entries(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_names_path_and_free_space(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_text(tmp_path / "file.txt", "old")
    monkeypatch.setattr(os, "fsync", fail_at(os.fsync, 0, OSError(code, "no space")))
    with pytest.raises(DataError, match=r"file\.txt: the disk is full \([0-9.]+ MB free\). The old version"):
        files.write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "old"


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"inner\.txt: cannot be written"):
        files.write_text(tmp_path / "file" / "inner.txt", "text")


def test_killed_writer_leaves_the_old_version_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    child = os.fork()
    if child == 0:
        with files.atomic_path(path) as temporary:
            temporary.write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert entries(tmp_path) == ["file.txt"]


def test_json_round_trips_with_sorted_keys(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5, None], "a": "ü"})
    files.write_json(tmp_path / "b.json", {"a": "ü", "b": [1, 2.5, None]})
    assert files.read_json(tmp_path / "a.json") == {"b": [1, 2.5, None], "a": "ü"}
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_json_lacks(number: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": number})
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000],
    ids=["empty", "cut", "bytes", "deep", "long"],
)
def test_damaged_json_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: not a JSON file"):
        files.read_json(tmp_path / "a.json")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json: no such file. Run the stage"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.parquet: no such file. Run the stage"):
        files.read_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r": cannot be read \(Is a directory\)"):
        files.read_json(tmp_path)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    files.write_parquet(path, [{"number": 1}], pa.schema([("number", pa.int64())]))
    assert files.read_parquet(path) == [{"number": 1}]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"a\.parquet: not a parquet file"):
        files.read_parquet(path)


def test_manifest_names_every_file_and_its_facts(tmp_path: Path) -> None:
    files.write_text(tmp_path / "one.txt", "1")
    files.write_text(tmp_path / "deep" / "two.txt", "22")
    files.write_manifest(tmp_path, seed=7)
    manifest = files.verify_manifest(tmp_path)
    assert manifest["seed"] == 7
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
        "deep/two.txt": 2,
        "one.txt": 1,
    }


@pytest.mark.parametrize(
    ("content", "match"), [("2", "sha256 is [0-9a-f]{64}, the manifest says"), (None, "missing")]
)
def test_manifest_finds_damage(content: str | None, match: str, tmp_path: Path) -> None:
    files.write_text(tmp_path / "one.txt", "1")
    files.write_manifest(tmp_path)
    (tmp_path / "one.txt").unlink()
    if content is not None:
        (tmp_path / "one.txt").write_text(content)
    with pytest.raises(DataError, match=rf"one\.txt: {match}"):
        files.verify_manifest(tmp_path)
