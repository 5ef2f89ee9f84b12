"""Read a tar file forwards, strictly: ustar, GNU and pax headers of files and folders, nothing else.

Not the standard library's tarfile: before Python 3.11.13 its extraction filter can be bypassed
(CVE-2025-4517), and it takes a damaged header in the middle of an archive for its end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 512
_READ_BYTES = 1 << 20
# Longer than any path that a file system takes.
_MAX_HEADER_BYTES = 1 << 16
_MAX_PADDING_BYTES = 1 << 20
_FILE_TYPES = (b"0", b"\0", b"7")
_REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}


class TarError(Exception):
    """The archive is damaged, or holds what it should not; the message does not name the file."""


@dataclass(frozen=True)
class TarMember:
    """A file or folder; `content` must be read to its end before the next member is asked for."""

    name: str
    is_folder: bool
    size: int
    content: Iterator[bytes]


def read_members(stream: BinaryIO) -> Iterator[TarMember]:
    """Yield the members in their order, and read the stream to its end.

    Args:
        stream: positioned at the archive's first byte; a decompressor's errors pass through.

    Raises:
        TarError: a link, device or unknown member, a damaged header, or the archive ends too early.
    """
    long_name: bytes | None = None
    long_size: int | None = None
    while (header := _exactly(stream, _BLOCK)) != b"\0" * _BLOCK:
        name, size, kind = _parse(header)
        if kind in (b"x", b"L"):
            extended = _extended(stream, size)
            if kind == b"L":
                long_name = extended.split(b"\0", 1)[0]
            else:
                found = _pax_values(extended)
                long_name = found.get(b"path", long_name)
                long_size = _decimal(found[b"size"]) if b"size" in found else long_size
        elif kind in (b"g", b"K"):
            _extended(stream, size)
        else:
            yield from _member(stream, long_name or name, size if long_size is None else long_size, kind)
            long_name = long_size = None
    _drain(stream)


def _member(stream: BinaryIO, raw_name: bytes, size: int, kind: bytes) -> Iterator[TarMember]:
    try:
        name = raw_name.decode("utf-8")
    except UnicodeDecodeError:
        raise TarError(f"a name that is not UTF-8: {raw_name[:60]!r}") from None
    is_folder = kind == b"5" or (kind == b"\0" and name.endswith("/"))
    if not is_folder and kind not in _FILE_TYPES:
        what = _REFUSED_TYPES.get(kind, f"of unknown type {kind!r}")
        raise TarError(f"member {name!a} is {what}")
    content = _content(stream, 0 if is_folder else size)
    yield TarMember(name, is_folder, 0 if is_folder else size, content)
    # Also what the caller did not read: the next header begins behind it.
    for _ in content:
        pass


def _content(stream: BinaryIO, size: int) -> Iterator[bytes]:
    missing = size
    while missing:
        block = _exactly(stream, min(missing, _READ_BYTES))
        missing -= len(block)
        yield block
    _exactly(stream, -size % _BLOCK)


def _parse(header: bytes) -> tuple[bytes, int, bytes]:
    """Return name, size and type of a header block whose checksum is right."""
    stated = _number(header[148:156])
    if sum(header[:148]) + sum(header[156:]) + 8 * ord(" ") != stated:
        raise TarError("a damaged header")
    name = header[:100].split(b"\0", 1)[0]
    # GNU's own format has times where POSIX has the first half of a long name.
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    return name, _number(header[124:136]), header[156:157]


def _number(field: bytes) -> int:
    """Read an octal number, or a binary one where the first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.split(b"\0", 1)[0].strip(b" ") or b"0", 8)
    except ValueError:
        raise TarError("a damaged header") from None


def _extended(stream: BinaryIO, size: int) -> bytes:
    if not 0 <= size <= _MAX_HEADER_BYTES:
        raise TarError(f"a header of {size} bytes")
    return b"".join(_content(stream, size))


def _pax_values(content: bytes) -> dict[bytes, bytes]:
    r"""Read records of the form "<length> <key>=<value>\\n"."""
    values: dict[bytes, bytes] = {}
    while content.rstrip(b"\0"):
        digits, _, _ = content.partition(b" ")
        length = _decimal(digits)
        record = content[len(digits) + 1 : length]
        key, separator, value = record.partition(b"=")
        if length > len(content) or not separator or not value.endswith(b"\n"):
            raise TarError("a damaged header")
        values[key] = value[:-1]
        content = content[length:]
    return values


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise TarError("a damaged header")
    return int(digits)


def _drain(stream: BinaryIO) -> None:
    """Read what follows the end, so that a decompressor checks its checksum; only zeros belong there."""
    seen = 0
    while block := stream.read(_READ_BYTES):
        seen += len(block)
        if block.strip(b"\0") or seen > _MAX_PADDING_BYTES:
            raise TarError(f"more than padding behind its end ({seen} bytes)")


def _exactly(stream: BinaryIO, num_bytes: int) -> bytes:
    block = stream.read(num_bytes) if num_bytes else b""
    if len(block) != num_bytes:
        raise TarError("it ends too early")
    return block
