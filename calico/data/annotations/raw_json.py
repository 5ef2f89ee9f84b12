"""Check JSON that others wrote before any of it is used."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calico.core.files import read_json
from calico.errors import DataError

SidePx = Annotated[int, Field(gt=0, le=100_000)]
_MAX_REPORTED_FAULTS = 3
_MAX_SHOWN_CHARACTERS = 60


class RawRecord(BaseModel):
    """Base of the JSON records: named fields of the right types; other fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


RecordT = TypeVar("RecordT", bound=RawRecord)


def read_record(path: Path, record_type: type[RecordT]) -> RecordT:
    """Read a JSON file and check its fields.

    Raises:
        DataError: the file is missing or not JSON, or a field is missing or of the wrong type; names the
            file and the first faults with their place and value.
    """
    return check_record(read_json(path), record_type, path)


def check_record(value: Any, record_type: type[RecordT], path: Path) -> RecordT:
    """Return `value`, read from `path`, as a `record_type`; raises as `read_record`."""
    try:
        return record_type.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(_describe(fault) for fault in error.errors()[:_MAX_REPORTED_FAULTS])
        count = error.error_count()
        raise DataError(f"{path}: {count} wrong field(s): {faults}. Get the file again.") from error


def check_file_name(file_name: str, path: Path) -> str:
    """Return a relative file name that stays in its folder.

    Raises:
        DataError: an absolute name, or one that leaves the folder; names the annotation file.
    """
    parts = PurePosixPath(file_name).parts
    if not parts or "\\" in file_name or "\0" in file_name or file_name.startswith("/") or ".." in parts:
        raise DataError(f"{path}: file_name {file_name!r} leaves the folder of images. Get the file again.")
    return file_name


def _describe(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"])) or "file"
    return f"{place} = {str(fault['input'])[:_MAX_SHOWN_CHARACTERS]!r}: {fault['msg'].lower()}"
