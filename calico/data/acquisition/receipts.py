"""What an archive's bytes were when they were first seen, kept in a small file beside it.

Most publishers give no sha256. The first download is trusted and its sha256 recorded; whatever comes under
the same name later must be the same.
"""

import contextlib
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from calico.core.files import read_json, sha256_of, write_json
from calico.data.acquisition.manifest import Archive
from calico.errors import DataError

_MAGIC = {".zip": (0, b"PK"), ".tar.gz": (0, b"\x1f\x8b"), ".tgz": (0, b"\x1f\x8b"), ".tar": (257, b"ustar")}


@dataclass(frozen=True)
class Receipt:
    """Size and sha256 of an archive; `url` is None where a person placed it."""

    name: str
    bytes: int
    sha256: str
    url: str | None


class _StoredReceipt(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    bytes: int
    sha256: str
    url: str | None


def receipt_path(archive_path: Path) -> Path:
    """Return where the receipt of an archive lies."""
    return archive_path.with_name(f"{archive_path.name}.receipt.json")


def read_receipt(archive_path: Path) -> Receipt | None:
    """Read the receipt of an archive, None where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = receipt_path(archive_path)
    if not path.is_file():
        return None
    try:
        return Receipt(**_StoredReceipt.model_validate(read_json(path)).model_dump())
    except ValidationError as error:
        raise DataError(
            f"{path}: not a receipt of {archive_path.name} ({error.error_count()} wrong fields). "
            "Delete it; the archive is then trusted as it is."
        ) from error


def write_receipt(receipt: Receipt, archive_path: Path) -> None:
    """Write the receipt of an archive, unless the same is there."""
    if read_receipt(archive_path) != receipt:
        write_json(receipt_path(archive_path), asdict(receipt))


def verify(
    archive: Archive, content_path: Path, archive_path: Path, *, earlier: Receipt | None, url: str | None
) -> Receipt:
    """Check an archive's bytes against all that is known about them.

    Args:
        archive: its entry in the manifest.
        content_path: where its bytes are, `archive_path` or a partial download.
        archive_path: where it is or will be.
        earlier: what was seen when it first came.
        url: where the bytes came from; None for a file that a person placed.

    Returns:
        `earlier`, or the receipt of a first time.

    Raises:
        DataError: another size or sha256 than stated or seen before, or no archive at all.
    """
    advice = f"Delete it and get it again from {url or 'its publisher'}."
    try:
        size = content_path.stat().st_size
        if archive.bytes not in (None, size):
            raise DataError(
                f"{archive_path}: {size} bytes, but the published file has {archive.bytes}. {advice}"
            )
        _check_kind(content_path, archive_path)
        sha256 = sha256_of(content_path)
    except OSError as error:
        raise DataError(f"{content_path}: cannot be read ({error}).") from error
    if archive.sha256 not in (None, sha256):
        raise DataError(
            f"{archive_path}: sha256 is {sha256}, but the published file has {archive.sha256}. {advice}"
        )
    if earlier is not None and sha256 != earlier.sha256:
        raise DataError(
            f"{archive_path}: sha256 is {sha256}, but it was {earlier.sha256} when it was first seen. "
            "The publisher's file or yours has changed; if that is right, delete "
            f"{receipt_path(archive_path)}."
        )
    return earlier or Receipt(archive_path.name, size, sha256, url)


def archive_kind(name: str) -> str:
    """Return ".zip", ".tar.gz", ".tgz" or ".tar".

    Raises:
        DataError: another kind of file.
    """
    for suffix in _MAGIC:
        if name.endswith(suffix):
            return suffix
    raise DataError(f"{name}: not an archive that can be unpacked ({', '.join(_MAGIC)}).")


def _check_kind(content_path: Path, archive_path: Path) -> None:
    """Find out before anything is trusted that a file is no web page, and no zip without its end."""
    kind = archive_kind(archive_path.name)
    offset, magic = _MAGIC[kind]
    with content_path.open("rb") as stream:
        start = stream.read(offset + len(magic))
    is_kind = start[offset:] == magic
    if kind == ".zip":
        with contextlib.suppress(OSError):
            is_kind = is_kind and zipfile.is_zipfile(content_path)
    if not is_kind:
        raise DataError(
            f"{archive_path}: not a complete {kind} file (it begins with {start[:12]!r}). "
            "Delete it and get it again; a login or confirmation page may have been saved in its place."
        )
