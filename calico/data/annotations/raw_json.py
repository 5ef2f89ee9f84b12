"""Check JSON that others wrote before any of it is used."""

import json
import reprlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from calico.core.tokens import SPECIAL_TOKENS
from calico.errors import DataError

_MAX_REPORTED_FAULTS = 3
_MAX_SHOWN_CHARACTERS = 60
# Linux allows 255 and 4096; a reader changes endings, and puts folders in front.
_MAX_NAME_BYTES = 240
_MAX_PATH_BYTES = 1024
# Words of the conversation that no text of a source may smuggle in.
_MARKERS = (*SPECIAL_TOKENS, "<image>")


def _check_text(text: str) -> str:
    """Refuse half characters: json lets them through, no file and no table can hold them."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text should be Unicode, but holds an unpaired surrogate")
    return text


SidePx = Annotated[int, Field(gt=0, le=100_000)]
Text = Annotated[str, AfterValidator(_check_text)]


class RawRecord(BaseModel):
    """Base of the JSON records: named fields of the right types; other fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


RecordT = TypeVar("RecordT", bound=RawRecord)


def read_record(path: Path, record_type: type[RecordT]) -> RecordT:
    """Read a JSON file and check its fields.

    Raises:
        DataError: the file is missing or not JSON, or a field is missing or of the wrong type; names the
            file, how many fields are wrong, and the first of them with place and value.
    """
    return check_record(read_raw(path), record_type, path)


def read_raw(path: Path) -> Any:
    """Read a JSON file that others wrote; `read_json` would advise to delete it.

    Raises:
        DataError: the file is missing or not JSON; names the file and the place.
    """
    try:
        # Some programs on Windows begin a file with a byte order mark.
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file. Get the data set again, or correct unify's params."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Correct the path, or the file's permissions."
        ) from error
    # Not JSON, not UTF-8, or a number of thousands of digits are all ValueErrors.
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error}). Get the file again.") from error


def check_record(value: Any, record_type: type[RecordT], path: Path) -> RecordT:
    """Return `value`, read from `path`, as a `record_type`; raises as `read_record`."""
    try:
        return record_type.model_validate(value)
    except ValidationError as error:
        shown = error.errors()[:_MAX_REPORTED_FAULTS]
        faults = "; ".join(_describe(fault, value) for fault in shown)
        count = error.error_count()
        first = f" (the first {len(shown)} shown)" if count > len(shown) else ""
        raise DataError(f"{path}: {count} wrong field(s){first}: {faults}. Get the file again.") from error


def paths_below(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a glob pattern, sorted.

    Raises:
        DataError: a name that no table can hold, since it is not UTF-8, or that no message can show.
    """
    paths = sorted(folder.glob(pattern))
    for path in paths:
        if not str(path.relative_to(folder)).isprintable():
            raise DataError(f"{folder}: the name of {str(path)!a} is not printable UTF-8. Rename the file.")
    return paths


def check_file_name(file_name: str, path: Path) -> str:
    """Return a relative file name that stays in its folder and that a disk can hold.

    Raises:
        DataError: an absolute name, one that leaves the folder or is too long; names the annotation file.
    """
    parts = PurePosixPath(file_name).parts
    if not parts or "\\" in file_name or "\0" in file_name or file_name.startswith("/") or ".." in parts:
        raise DataError(
            f"{path}: file_name {reprlib.repr(file_name)} leaves the folder of images. Get the file again."
        )
    num_bytes = [len(name.encode()) for name in (file_name, *parts)]
    if num_bytes[0] > _MAX_PATH_BYTES or max(num_bytes[1:]) > _MAX_NAME_BYTES:
        raise DataError(f"{path}: file_name {reprlib.repr(file_name)} is too long. Get the file again.")
    return file_name


def has_marker(text: str) -> bool:
    """Tell whether a text holds a word that steers the model, such as "[SEG]"."""
    return any(marker in text for marker in _MARKERS)


def _describe(fault: Any, value: Any) -> str:
    place = ".".join(map(str, fault["loc"])) or "file"
    number = _enclosing_id(value, fault["loc"])
    where = "" if number is None else f" (id {_shown(number)})"
    return f"{place}{where} = {_shown(fault['input'])!r}: {fault['msg'].lower()}"


def _enclosing_id(value: Any, place: tuple[int | str, ...]) -> Any:
    """Return the id of the innermost record around `place`, None where no record has one."""
    number = None
    for step in place[:-1]:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(value, dict):
            number = value.get("id", number)
    return number


def _shown(value: Any) -> str:
    """Return a value as a short text, also where it is very long or deeply nested."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    return text[:_MAX_SHOWN_CHARACTERS]
