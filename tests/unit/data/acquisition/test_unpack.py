"""calico.data.acquisition.unpack: what is inside comes out inside, or nothing comes out."""

import contextlib
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from calico.core import files
from calico.data.acquisition.unpack import Limits, unpack
from calico.errors import DataError
from tests.unit.data.acquisition.archives import CONTENT, noise, tar_of, zip_of

BUILDERS: dict[str, Callable[..., bytes]] = {
    "a.zip": zip_of,
    "a.tar.gz": tar_of,
    "a.tar": lambda content=CONTENT: tar_of(content, mode="w"),
}
each_kind = pytest.mark.parametrize("name", BUILDERS)
ESCAPES = ["/etc/evil", "../evil", "a/../../evil", "a\\..\\evil", "..", "//evil"]


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archive(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "archives" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def assert_refused(path: Path, match: str, limits: Limits | None = None) -> None:
    """Unpack into a folder and find nothing outside of it."""
    root = path.parents[1]
    with pytest.raises(DataError, match=match) as caught:
        unpack(path, root / "inside" / "out", limits=limits)
    assert str(path) in str(caught.value)
    assert {entry.name for entry in root.iterdir()} <= {"archives", "inside"}
    assert {entry.name for entry in (root / "inside").glob("*")} <= {"out"}


@each_kind
def test_files_come_out_as_they_are(tmp_path: Path, name: str) -> None:
    unpack(archive(tmp_path, name, BUILDERS[name](CONTENT)), tmp_path / "out")

    assert written(tmp_path / "out") == CONTENT


@each_kind
def test_flat_takes_only_what_matches(tmp_path: Path, name: str) -> None:
    content = {"x/sa_1.json": b"1", "y/z/sa_2.json": b"2", "x/sa_1.jpg": noise(3000), "README": b""}

    unpack(archive(tmp_path, name, BUILDERS[name](content)), tmp_path / "out", flat_patterns=("sa_*.json",))

    assert written(tmp_path / "out") == {"sa_1.json": b"1", "sa_2.json": b"2"}


@each_kind
@pytest.mark.parametrize("member", ESCAPES)
def test_member_outside_is_refused(tmp_path: Path, name: str, member: str) -> None:
    path = archive(tmp_path, name, BUILDERS[name]({"good": b"", member: b"evil"}))

    assert_refused(path, "member .* leaves its folder")


@each_kind
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("./a", "a")])
def test_member_that_replaces_another_is_refused(tmp_path: Path, name: str, names: tuple[str, str]) -> None:
    path = archive(tmp_path, name, BUILDERS[name](dict.fromkeys(names, b"x")))

    assert_refused(path, "stands twice, as a file or a folder")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_link_and_device_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    """A link to the outside, then a file through it: the usual way out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, str(tmp_path)
        tar.addfile(link)
        through = tarfile.TarInfo("link/evil")
        through.size = 4
        tar.addfile(through, io.BytesIO(b"evil"))

    assert_refused(archive(tmp_path, "a.tar.gz", stream.getvalue()), "member 'link' is a")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_link_and_device_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        member = zipfile.ZipInfo("link")
        member.external_attr = (kind | 0o777) << 16
        made.writestr(member, "/etc/passwd")

    assert_refused(archive(tmp_path, "a.zip", stream.getvalue()), "member 'link' is a link, device or pipe")


@each_kind
def test_bomb_is_stopped_by_its_ratio(tmp_path: Path, name: str) -> None:
    limits = Limits(max_ratio=100, free_ratio_bytes=1 << 20)
    path = archive(tmp_path, name, BUILDERS[name]({f"{number}": bytes(3 << 20) for number in range(3)}))
    if name == "a.tar":
        unpack(path, tmp_path / "out", limits=limits)  # not compressed: as large as it says
        return

    assert_refused(path, r"more than \d+ bytes come out of it", limits)
    assert sum(entry.stat().st_size for entry in (tmp_path / "inside").rglob("*")) <= 2 << 20


@each_kind
def test_bomb_is_stopped_where_it_is_not_wanted(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, name, BUILDERS[name]({"zeros": bytes(4 << 20), "sa_1.json": b""}))
    limits = Limits(max_bytes=1 << 20)

    with pytest.raises(DataError, match=f"more than {1 << 20} bytes come out of it"):
        unpack(path, tmp_path / "out", limits=limits, flat_patterns=("*.json",))


@each_kind
def test_too_many_bytes_and_members_are_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path, name, BUILDERS[name]({str(number): noise(100) for number in range(30)}))

    assert_refused(path, "more than 2000 bytes come out of it", Limits(max_bytes=2000))
    (tmp_path / "inside" / "out").rename(tmp_path / "archives" / "first")
    assert_refused(path, "more than 10 members", Limits(max_files=10))


@each_kind
def test_every_truncation_is_noticed(tmp_path: Path, name: str) -> None:
    # 6144: where the end marker of the tar begins.
    content = BUILDERS[name]({"a": noise(2000), "b": noise(3000)})[: 6144 + 512]
    for number, size in enumerate(
        [0, 1, 10, 600, len(content) // 2, len(content) * 3 // 4, len(content) - 1]
    ):
        path = archive(tmp_path, name, content[:size])
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(path, tmp_path / str(number))


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_flipped_bytes_are_noticed_by_the_checksum(tmp_path: Path, name: str) -> None:
    content = bytearray(BUILDERS[name]({"a": noise(5000)}))
    content[len(content) // 2] ^= 1

    assert_refused(archive(tmp_path, name, bytes(content)), "cannot be unpacked")


@each_kind
@pytest.mark.parametrize("content", [b"", b"<html>", noise(3000), b"PK\x05\x06" + bytes(17), b"\x1f\x8b\x08"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    assert_refused(archive(tmp_path, name, content), "cannot be unpacked")


@each_kind
def test_random_damage_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    """Whatever the bytes are: a DataError or files inside the folder."""
    rng = random.Random(5)
    content = BUILDERS[name]({"a/one.txt": b"one" * 50, "a/two.bin": noise(700), "empty": b""})
    for number in range(150):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 8])):
            damaged[rng.randrange(len(damaged))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        path = archive(tmp_path, name, bytes(damaged))
        with contextlib.suppress(DataError):
            unpack(path, tmp_path / "inside" / str(number), limits=Limits(free_ratio_bytes=1 << 20))
    assert {entry.name for entry in tmp_path.iterdir()} == {"archives", "inside"}


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_of({"a": b"secret"}))
    for place in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1

    assert_refused(archive(tmp_path, "a.zip", bytes(content)), "cannot be unpacked: .*encrypted")


def test_other_files_are_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.rar: not an archive that can be unpacked \(\.zip, "):
        unpack(archive(tmp_path, "a.rar", b"Rar!"), tmp_path / "out")


@each_kind
def test_full_disk_is_seen_before_anything_is_written(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path, name, BUILDERS[name]({"a": noise(5000)}))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=4000))

    with pytest.raises(DataError, match=r"at least \d{4,} bytes come out of it, but only 4000 are free"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
