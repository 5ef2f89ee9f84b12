"""Unpack an archive of others: regular files, inside one folder, within stated limits."""

import gzip
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tqdm import tqdm

from calico.core.files import disk_fault, free_bytes
from calico.data.acquisition.receipts import archive_kind
from calico.data.acquisition.tar_stream import TarError, read_members
from calico.errors import DataError

_READ_BYTES = 1 << 20
# What Python's zip and gzip readers raise on damaged input.
_DAMAGE = (
    TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold; far above every published source, far below what harms.

    Attributes:
        max_ratio: bytes unpacked for each byte of the archive.
        free_ratio_bytes: up to here the ratio is not looked at; a small text may well compress 1000 to 1.
    """

    max_files: int = 3_000_000
    max_bytes: int = 1 << 40
    max_ratio: int = 200
    free_ratio_bytes: int = 1 << 24


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    content: Callable[[], Iterator[bytes]]


class _Budget:
    """Counts what comes out of an archive, shows it where someone looks, and stops it at its limits."""

    def __init__(self, archive_path: Path, limits: Limits, bar: "tqdm[None]") -> None:
        self._bar = bar
        by_ratio = limits.max_ratio * archive_path.stat().st_size
        self._limits = limits
        self._max_bytes = min(limits.max_bytes, max(by_ratio, limits.free_ratio_bytes))
        self._num_members = 0
        self._num_bytes = 0

    def count_member(self) -> None:
        self._num_members += 1
        if self._num_members > self._limits.max_files:
            raise TarError(f"more than {self._limits.max_files} members")

    def count_bytes(self, block: bytes) -> bytes:
        self._num_bytes += len(block)
        self._bar.update(len(block))
        if self._num_bytes > self._max_bytes:
            raise TarError(f"more than {self._max_bytes} bytes come out of it")
        return block


def unpack(
    archive_path: Path, folder: Path, *, limits: Limits | None = None, flat_patterns: tuple[str, ...] = ()
) -> None:
    """Unpack into a new folder.

    Args:
        archive_path: zip, tar or tar.gz.
        folder: must not exist; the caller removes it after an error.
        limits: caps on members and bytes.
        flat_patterns: where given, only files with such a name are unpacked, side by side.

    Raises:
        DataError: a member leaves the folder, is a link or device, or stands twice; a limit is exceeded; the
            archive is damaged; the disk is full.
    """
    try:
        _check_space(archive_path, folder)
        folder.mkdir(parents=True)
        name = f"unpacking {archive_path.name}"
        with tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            budget = _Budget(archive_path, limits or Limits(), bar)
            for member in _members(archive_path):
                budget.count_member()
                _unpack_member(member, folder, flat_patterns, budget)
    except _DAMAGE as error:
        raise DataError(
            f"{archive_path}: cannot be unpacked: {_text(error)}. Nothing of it is kept. Delete the archive "
            "and its receipt and get it again; if it stays so, the publisher's file is not what it should be."
        ) from error
    except OSError as error:
        raise disk_fault(error, folder) from error


def member_path(name: str) -> PurePosixPath:
    """Return the path of a member within the folder, "." for the folder itself.

    Raises:
        TarError: the name is absolute, leaves the folder, or is none.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise TarError(f"member {name!a} leaves its folder")
    return path


def _check_space(archive_path: Path, folder: Path) -> None:
    """Stop early where the disk is too small; what comes out of a tar is at least as large as the tar."""
    needed, free = archive_path.stat().st_size, free_bytes(folder)
    if archive_kind(archive_path.name) == ".zip":
        with zipfile.ZipFile(archive_path) as archive:
            needed = sum(info.file_size for info in archive.infolist())
    if needed > free:
        raise DataError(
            f"{archive_path}: at least {needed} bytes come out of it, but only {free} are free for {folder}. "
            "Make room and run again."
        )


def _unpack_member(member: _Member, folder: Path, flat_patterns: tuple[str, ...], budget: _Budget) -> None:
    path = member_path(member.name)
    if flat_patterns:
        is_wanted = any(fnmatchcase(path.name, pattern) for pattern in flat_patterns)
        path = PurePosixPath(path.name)
        if member.is_folder or not is_wanted:
            # A tar has to be read through, and a bomb is one also where it is not wanted.
            for block in member.content():
                budget.count_bytes(block)
            return
    place = folder / path
    try:
        if member.is_folder:
            place.mkdir(parents=True, exist_ok=True)
        else:
            _write(place, member, budget)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise TarError(f"member {member.name!a} stands twice, as a file or a folder") from None


def _write(place: Path, member: _Member, budget: _Budget) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as stream:
        for block in member.content():
            stream.write(budget.count_bytes(block))


def _members(archive_path: Path) -> Iterator[_Member]:
    if archive_kind(archive_path.name) == ".zip":
        yield from _zip_members(archive_path)
        return
    is_plain = archive_kind(archive_path.name) == ".tar"
    with archive_path.open("rb") if is_plain else gzip.open(archive_path, "rb") as stream:
        for member in read_members(cast(BinaryIO, stream)):
            yield _Member(member.name, member.is_folder, partial(iter, member.content))


def _zip_members(archive_path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive_path) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise TarError(f"member {info.filename!a} is a link, device or pipe")
            if info.orig_filename.split("\0", 1)[0] != info.orig_filename:
                raise TarError(f"member {info.orig_filename!a} leaves its folder")
            yield _Member(info.filename, info.is_dir(), partial(_zip_content, archive, info))


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.is_dir():
        return
    with archive.open(info) as stream:
        while block := stream.read(_READ_BYTES):
            yield block


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
