"""Write artefacts so that a reader sees the old bytes or the new ones, never a mixture.

Every writer goes through `atomic_path`: a temporary file beside the target, fsync, rename, fsync of the
directory. A manifest of sha256 digests, written last, marks a folder as complete.
"""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calico.errors import DataError

# What pyarrow raises on a damaged parquet file.
PARQUET_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
_TEMPORARY_SUFFIX = ".calico-partial"
_HASH_BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and move it there once the block ends without an error.

    Args:
        path: final place; missing parent folders are created.

    Raises:
        DataError: the disk is full or not writable; names the path and the free space.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as temporary:
            yield temporary
            fsync(temporary)
            os.replace(temporary, path)
        fsync(path.parent)
    except OSError as error:
        raise disk_fault(error, path) from error


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` that no other writer has; it is gone after an error."""
    # One name per target, so that what a killed writer left is used up by the next one; another name only
    # while another writer of the same target is at work.
    for token in ("", f".{uuid.uuid4().hex[:8]}"):
        temporary = path.with_name(f".{path.name}{token}{_TEMPORARY_SUFFIX}")
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o666)
        if _is_ours(descriptor, temporary):
            break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int, path: Path) -> bool:
    """Lock an open file and tell whether that succeeded and it still stands at `path`."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks
        return True


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically.

    Raises:
        DataError: the disk is full or not writable.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, so that equal values give equal bytes.

    Raises:
        ValueError: a number is NaN or infinite (JSON has no such numbers).
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or not JSON; names the file and the place.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    # Not JSON, not UTF-8, or a number of thousands of digits are all ValueErrors.
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error}). Delete it and run its stage again.") from error


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a csv file that has exactly the given columns; a byte order mark, as Excel writes, is skipped.

    Raises:
        DataError: the file is missing, is not csv or has other columns; names the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its stage."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a csv file ({error}).") from error
    for line, row in enumerate(rows, start=2):
        if set(row) != set(columns) or None in row.values():
            raise DataError(f"{path}: line {line}: columns must be {', '.join(columns)}.")
    return rows


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write `rows` as one parquet file with the given schema, atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Read all rows of a parquet file as dictionaries.

    Raises:
        DataError: the file is missing, not parquet, or holds text that is not UTF-8.
    """
    try:
        return pq.ParquetFile(path).read().to_pylist()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except PARQUET_DAMAGE as error:
        raise DataError(
            f"{path}: not a parquet file ({one_line(error)}). Delete it, run its stage again."
        ) from error


def one_line(error: BaseException) -> str:
    """Return an error's text without line breaks, cut where it becomes long."""
    return " ".join(str(error).split())[:200]


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, **facts: Any) -> None:
    """Write `manifest.json` with size and sha256 of every file below `folder`; call it last.

    Args:
        folder: a finished folder of artefacts.
        facts: what else a reader should know (counts, seed, ...); JSON values.
    """
    folder = Path(folder)
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    write_json(folder / "manifest.json", {**facts, "files": files})


def verify_manifest(folder: Path) -> dict[str, Any]:
    """Check every file that `folder/manifest.json` names and return the manifest.

    Raises:
        DataError: the manifest or a file is missing, or a file's content changed.
    """
    folder = Path(folder)
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: missing, though the manifest lists it. Run its stage again.")
        actual = sha256_of(path)
        if actual != expected["sha256"]:
            raise DataError(
                f"{path}: sha256 is {actual}, the manifest says {expected['sha256']}. "
                "The file was changed or damaged; run the stage that writes it again."
            )
    return manifest


def fsync(path: Path) -> None:
    """Make sure that a file's bytes, or a folder's names, outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Return how much a user may still write where `path` is or will be."""
    return shutil.disk_usage(_existing_parent(path)).free


def disk_fault(error: OSError, path: Path) -> DataError:
    """Say in a user's words why `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"{path}: the disk is full ({free_bytes(path) / 1e6:.1f} MB free). The old version, if any, is "
            "untouched; free some space and run again."
        )
    return DataError(f"{path}: cannot be written ({error.strerror}). Check the folder and its permissions.")


def _existing_parent(path: Path) -> Path:
    for parent in path.absolute().parents:
        if parent.exists():
            return parent
    return Path("/")
