"""Which files make up a source, where they come from and where they belong; the values: sources.json."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from calico.config import DownloadName
from calico.core.files import read_json
from calico.errors import DataError

_GLOB_CHARACTERS = "*?["


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError("leaves its folder")
    return path


def _file_name(name: str) -> str:
    if not name or "/" in _inside(name) or name.startswith("."):
        raise ValueError("is not the name of a file")
    return name


RelativePath = Annotated[str, AfterValidator(_inside)]
FileName = Annotated[str, AfterValidator(_file_name)]
Tuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Terms(_Record):
    """What a person must accept before a source may be downloaded; `where` is null if it is not known."""

    what: str
    where: str | None


class Archive(_Record):
    """One file as it is published; null means that the value is not known.

    Attributes:
        name: file name; with "*" any number of files that a person places by hand.
        urls: mirrors, the first that works is taken; none means that only a person can get it.
        bytes: size.
        unpack_to: folder below the source's folder, "" for that folder itself.
        holds: paths or patterns, all of which exist below `unpack_to` when it is complete. The shallowest
            folder of the archive that holds them becomes `unpack_to`.
        flat: several archives share `unpack_to`: files that match `holds` go there, no others.
        num_files: number of files in `unpack_to`.
        inner: archives inside the archive that are unpacked where they lie.
        optional: used where it is there, not missed where it is not.
        evidence: where these values were read.
    """

    name: FileName
    urls: Annotated[tuple[str, ...], Tuple]
    bytes: Annotated[int, Field(gt=0)] | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    unpack_to: RelativePath
    holds: Annotated[tuple[RelativePath, ...], Tuple, Field(min_length=1)]
    flat: bool = False
    num_files: Annotated[int, Field(gt=0)] | None = None
    inner: FileName | None = None
    optional: bool = False
    evidence: str

    @property
    def is_pattern(self) -> bool:
        """Whether `name` stands for any number of files."""
        return any(character in self.name for character in _GLOB_CHARACTERS)


class Source(_Record):
    """A data set: `folder` is its place below the folder of the sources, `page` where it is published."""

    title: str
    licence: str | None
    terms: Terms | None
    page: str
    folder: FileName
    archives: Annotated[tuple[Archive, ...], Tuple, Field(min_length=1)]


class _Manifest(_Record):
    sources: dict[DownloadName, Source]


@cache
def known_sources() -> Mapping[DownloadName, Source]:
    """Return the published sources by name."""
    return read_manifest(Path(__file__).with_name("sources.json"))


def read_manifest(path: Path) -> Mapping[DownloadName, Source]:
    """Read a manifest.

    Raises:
        DataError: it is no JSON, or a field is missing, unknown or wrong; names all of them.
    """
    try:
        return _Manifest.model_validate({"sources": read_json(path)}).sources
    except ValidationError as error:
        faults = "; ".join(map(_describe, error.errors()))
        raise DataError(f"{path}: {error.error_count()} wrong value(s): {faults}.") from error


def _describe(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"][1:])) or "file"
    return f"{place} = {repr(fault['input'])[:60]}: {fault['msg'].lower()}"
