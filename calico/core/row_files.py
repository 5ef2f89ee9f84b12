"""Rows of any length in arrays on disk, mapped into memory: each is read without the others.

A folder holds `rows.bin`, with one entry of fixed size for each row, and the arrays that the rows share: an
entry says where the row's part of each array ends, and has numbers of its own. Parquet gives a row only with
thousands of others.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, overload

import numpy as np

from calico.core.files import atomic_path
from calico.errors import DataError

_Record = TypeVar("_Record")

# What some rows have of an array: where each one's values begin and the last one's end, shape (rows + 1,) and
# counted from anywhere, and the values of just these rows.
Spans = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class RowLayout:
    """What a row consists of.

    Attributes:
        arrays: kind of the values of each array, by name of the file.
        numbers: names of the 32-bit integers of a row.
    """

    arrays: Mapping[str, np.dtype]
    numbers: Sequence[str]

    @property
    def entry(self) -> np.dtype:
        """One row of `rows.bin`."""
        ends = [(f"{name}_end", "<i8") for name in self.arrays]
        return np.dtype([*ends, *((name, "<i4") for name in self.numbers)])


def rows_path(parquet_path: Path) -> Path:
    """Return the folder that holds the rows of a parquet file."""
    return Path(parquet_path).parent / "rows" / Path(parquet_path).stem


class RowFileWriter(contextlib.AbstractContextManager["RowFileWriter"]):
    """Writes blocks of rows, one after another; the files appear when the `with` block ends well."""

    def __init__(self, folder: Path, layout: RowLayout) -> None:
        """Prepare to write into `folder`."""
        self._folder, self._layout = Path(folder), layout
        self._ends = dict.fromkeys(layout.arrays, 0)
        self._streams: dict[str, BinaryIO] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RowFileWriter":
        with contextlib.ExitStack() as stack:
            for name in ("rows", *self._layout.arrays):
                path = stack.enter_context(atomic_path(self._folder / f"{name}.bin"))
                self._streams[name] = stack.enter_context(open(path, "wb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def write(self, spans: Mapping[str, Spans], numbers: Mapping[str, Sequence[int] | np.ndarray]) -> None:
        """Append rows.

        Args:
            spans: of each array.
            numbers: of each name, shape (rows,).
        """
        entries = np.empty(len(next(iter(numbers.values()))), dtype=self._layout.entry)
        for name, kind in self._layout.arrays.items():
            first, values = spans[name]
            entries[f"{name}_end"] = first[1:].astype(np.int64) - first[0] + self._ends[name]
            self._ends[name] += int(first[-1]) - int(first[0])
            self._streams[name].write(np.asarray(values, dtype=kind).tobytes())
        for name in self._layout.numbers:
            entries[name] = numbers[name]
        self._streams["rows"].write(entries.tobytes())


class RowFiles:
    """The arrays of a folder, mapped.

    Attributes:
        entries: of `RowLayout.entry`.
    """

    def __init__(self, folder: Path, layout: RowLayout) -> None:
        """Map the files.

        Raises:
            DataError: a file is missing or damaged, or another version wrote it.
        """
        self.folder = Path(folder)
        self.entries = _map(self.folder / "rows.bin", layout.entry)
        self._arrays = {name: _map(self.folder / f"{name}.bin", kind) for name, kind in layout.arrays.items()}
        # A field of a structured array is a view; taking it anew for each row would cost as much as the row.
        self._ends = {name: self.entries[f"{name}_end"] for name in layout.arrays}
        lengths = {name: int(ends[-1]) if len(ends) else 0 for name, ends in self._ends.items()}
        if lengths != {name: len(array) for name, array in self._arrays.items()}:
            raise DataError(
                f"{folder}: rows.bin does not belong to the files beside it. Delete the folder, run its "
                "stage again."
            )

    def __len__(self) -> int:
        return len(self.entries)

    def array(self, name: str) -> np.ndarray:
        """Return the values of all rows, one row after another."""
        return self._arrays[name]

    def lengths(self, name: str) -> np.ndarray:
        """Return how many values of an array each row has."""
        return np.diff(self._ends[name], prepend=0)

    def part(self, name: str, row: int) -> np.ndarray:
        """Return a row's values of an array.

        Raises:
            IndexError: they would lie outside of it.
        """
        ends, array = self._ends[name], self._arrays[name]
        start, stop = int(ends[row - 1]) if row else 0, int(ends[row])
        if not 0 <= start <= stop <= len(array):
            raise IndexError(f"it spans {start} to {stop} of {len(array)}")
        return array[start:stop]

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn what damaged bytes lead to into an error that names the folder.

        Raises:
            DataError: the block read values that cannot be.
        """
        try:
            yield
        except (IndexError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self.folder}: {what} is damaged ({error}). Delete the folder, run its stage again."
            ) from error


class RowTable(Sequence[_Record]):
    """The rows of a folder as records, in the order in which they were written; each is read alone."""

    def __init__(self, files: RowFiles) -> None:
        """Keep the files."""
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> _Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Record]: ...
    def __getitem__(self, index: int | slice) -> _Record | list[_Record]:
        """Return row `index`, or the rows of a slice.

        Raises:
            DataError: the bytes of a row are damaged.
        """
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        with self._files.reading(f"row {row}"):
            return self._read(row)

    def __iter__(self) -> Iterator[_Record]:
        return (self[row] for row in range(len(self)))

    @abstractmethod
    def _read(self, row: int) -> _Record:
        """Return a row; IndexError and UnicodeDecodeError say that its bytes are damaged."""


def split_bytes(values: np.ndarray, lengths: Sequence[int]) -> list[bytes]:
    """Cut a row's bytes into pieces.

    Raises:
        IndexError: the lengths do not add up to the number of bytes.
    """
    if sum(lengths) != len(values) or min(lengths, default=0) < 0:
        raise IndexError(f"{len(values)} bytes are not pieces of {', '.join(map(str, lengths))}")
    pieces, start = [], 0
    content = values.tobytes()
    for length in lengths:
        pieces.append(content[start : start + length])
        start += length
    return pieces


def _map(path: Path, kind: np.dtype) -> np.ndarray:
    try:
        size = path.stat().st_size
        if size % kind.itemsize:
            raise DataError(
                f"{path}: {size} bytes are not whole rows. Delete the folder, run its stage again."
            )
        if not size:
            return np.empty(0, dtype=kind)
        # As a plain array: each slice of a memmap runs Python code of numpy's, most of the work.
        return np.memmap(path, dtype=kind, mode="r").view(np.ndarray)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
