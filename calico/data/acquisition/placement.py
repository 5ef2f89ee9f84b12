"""Bring an unpacked archive to the folder where the readers look, completely or not at all."""

import filecmp
import os
import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from calico.core.files import disk_fault, read_json, write_json
from calico.data.acquisition.manifest import Archive
from calico.data.acquisition.unpack import Limits, unpack
from calico.errors import DataError

RECEIPTS = "receipts"
_TEMPORARY_SUFFIX = ".calico-partial"


@dataclass(frozen=True)
class Placement:
    """Where one archive file belongs.

    Attributes:
        target: the folder that it becomes, or is added to where the archive is flat.
        receipts: folder of its source's receipts; a receipt is written when all files are in their place.
        file_name: name of the archive file.
    """

    archive: Archive
    target: Path
    receipts: Path
    file_name: str

    @property
    def receipt_path(self) -> Path:
        """Says that the archive is unpacked, and which sha256 it had."""
        return self.receipts / f"{self.file_name}.json"

    @property
    def pending_path(self) -> Path:
        """Becomes the receipt; while it is there, what is in `target` is ours to replace."""
        return self.receipts / f".{self.file_name}.pending.json"

    @property
    def temporary(self) -> Path:
        """Folder beside the target where the archive is unpacked first."""
        return self.target.with_name(f".{self.target.name}.{self.file_name}{_TEMPORARY_SUFFIX}")

    @property
    def missing(self) -> list[str]:
        """What the target lacks of what it must hold."""
        return _missing(self.archive, self.target)


def placed_sha256(placement: Placement) -> str | None:
    """Return the sha256 of the archive that was unpacked, None where that is not known or not complete.

    Raises:
        DataError: the receipt is damaged.
    """
    if not placement.receipt_path.is_file() or placement.missing:
        return None
    receipt = read_json(placement.receipt_path)
    sha256 = receipt.get("sha256") if isinstance(receipt, dict) else None
    if not isinstance(sha256, str):
        raise DataError(f"{placement.receipt_path}: not a receipt. Delete it; the archive is unpacked again.")
    return sha256


def is_placed_by_hand(placement: Placement) -> bool:
    """Tell whether a person put complete, unpacked files into the target.

    Raises:
        DataError: there are files of a person, but not all; names what is missing.
    """
    # Where this program has left a trace, the files are its own. Flat archives share a target.
    own = placement.receipt_path.exists() or placement.pending_path.exists()
    if own or (placement.archive.flat and any(placement.receipts.glob("*.json"))):
        return False
    missing = placement.missing
    if not missing:
        return True
    if not placement.archive.flat and placement.target.is_dir() and any(placement.target.iterdir()):
        raise DataError(
            f"{placement.target}: lacks {', '.join(missing)}, so it is not what comes out of "
            f"{placement.file_name}. Complete it, or move it away, and run again."
        )
    return False


def place(placement: Placement, archive_path: Path, sha256: str, *, limits: Limits | None = None) -> None:
    """Unpack a verified archive into its place.

    Args:
        placement: where it belongs.
        archive_path: the verified file.
        sha256: of the file.
        limits: caps of `unpack`.

    Raises:
        DataError: the archive is unsafe, damaged or not the right one, or a file cannot be written.
    """
    temporary = placement.temporary
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        patterns = placement.archive.holds if placement.archive.flat else ()
        unpack(archive_path, temporary, limits=limits, flat_patterns=patterns)
        _unpack_inner(placement.archive, temporary, limits)
        root = _root(placement.archive, temporary, archive_path)
        num_files = sum(len(names) for _, _, names in os.walk(root))
        # Once for all files: the receipt must not reach the disk before them.
        os.sync()
        write_json(
            placement.pending_path,
            {"archive": placement.file_name, "sha256": sha256, "num_files": num_files},
        )
        placement.receipt_path.unlink(missing_ok=True)
        (_merge if placement.archive.flat else _replace)(root, placement.target)
        # Before the receipt: with a receipt, nobody looks here again.
        shutil.rmtree(temporary, ignore_errors=True)
        os.sync()
        os.replace(placement.pending_path, placement.receipt_path)
    except OSError as error:
        raise disk_fault(error, placement.target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_inner(archive: Archive, folder: Path, limits: Limits | None) -> None:
    """Unpack the archives that came out of the archive, each into the folder where it lies."""
    if archive.inner is None:
        return
    for path in sorted(folder.rglob(archive.inner)):
        unpacked = path.with_name(f".{path.name}{_TEMPORARY_SUFFIX}")
        unpack(path, unpacked, limits=limits)
        path.unlink()
        _merge(unpacked, path.parent)
        unpacked.rmdir()


def _root(archive: Archive, folder: Path, archive_path: Path) -> Path:
    """Find the shallowest folder with everything that the archive must hold."""
    waiting = deque([folder])
    while waiting:
        candidate = waiting.popleft()
        if not _missing(archive, candidate):
            return candidate
        waiting.extend(sorted(path for path in candidate.iterdir() if path.is_dir()))
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    count = f", {archive.num_files} files in all" if archive.num_files else ""
    raise DataError(
        f"{archive_path}: no folder in it holds {', '.join(archive.holds)}{count}; "
        f"it begins with {found!a}. Check that it is the file that was asked for."
    )


def _missing(archive: Archive, folder: Path) -> list[str]:
    if not folder.is_dir():
        return list(archive.holds)
    missing = [pattern for pattern in archive.holds if not any(map(_is_filled, folder.glob(pattern)))]
    if not missing and archive.num_files is not None:
        with os.scandir(folder) as entries:
            count = sum(1 for _ in entries)
        if count != archive.num_files:
            missing = [f"{archive.num_files} files (it has {count})"]
    return missing


def _is_filled(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _replace(root: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(root, target)


def _merge(root: Path, target: Path) -> None:
    """Move what is in `root` to `target`; what is there already must be equal."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(root.iterdir()):
        place_of = target / path.name
        if not place_of.exists():
            os.replace(path, place_of)
        elif path.is_file() and place_of.is_file() and filecmp.cmp(path, place_of, shallow=False):
            path.unlink()
        else:
            raise DataError(
                f"{place_of}: another archive has put something else there. Move it away, run again."
            )
