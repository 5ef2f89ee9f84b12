"""A download that is not finished: the bytes so far, and from which version of which file they are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calico.core.files import fsync, read_json, write_json
from calico.errors import DataError


class Version(BaseModel):
    """What tells two versions of a file apart.

    Attributes:
        validator: what `If-Range` takes: a strong ETag, or the time of the last change.
        total: size of the complete file.
        synced: bytes that are known to be on the disk.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    url: str
    validator: str | None = None
    total: int | None = None
    synced: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Partial:
    """The two files of an unfinished download, beside the finished one; their OSErrors pass through."""

    archive_path: Path

    @property
    def path(self) -> Path:
        """The bytes so far."""
        return self.archive_path.with_name(f".{self.archive_path.name}.partial")

    @property
    def state_path(self) -> Path:
        """The version that they are of."""
        return self.archive_path.with_name(f".{self.archive_path.name}.partial.json")

    def version(self) -> Version | None:
        """Return the version that the bytes so far are of, None where they are of no use."""
        try:
            version = Version.model_validate(read_json(self.state_path))
            size = self.path.stat().st_size
        # Whatever is wrong with an unfinished download, it starts anew.
        except (DataError, ValidationError, OSError):
            return None
        return version if version.synced <= size else None

    def synced_bytes(self) -> int:
        """Return how many bytes another attempt could build on."""
        version = self.version()
        return version.synced if version else 0

    def open(self, offset: int) -> BinaryIO:
        """Open for writing at `offset`; what lies behind it is cut off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stream = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
        stream.truncate(offset)
        stream.seek(offset)
        return stream

    def write(self, stream: BinaryIO, block: bytes) -> None:
        """Append a block."""
        stream.write(block)

    def checkpoint(self, stream: BinaryIO, version: Version) -> None:
        """Put all bytes so far on the disk, then record how many they are."""
        stream.flush()
        os.fsync(stream.fileno())
        write_json(self.state_path, version.model_copy(update={"synced": stream.tell()}).model_dump())

    def finish(self) -> None:
        """Give the verified bytes their final name."""
        os.replace(self.path, self.archive_path)
        fsync(self.archive_path.parent)
        self.discard()

    def discard(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)
