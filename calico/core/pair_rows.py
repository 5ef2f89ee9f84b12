"""Pairs in a form to read single rows of: arrays mapped into memory, with names as numbers.

`pair/rows/<split>/` holds what `pair/<split>.parquet` holds: `rows.bin` says for each pair where its id, its
images and its targets end in the three other arrays, `names.parquet` what the numbers stand for. Parquet
itself gives a row only with thousands of others.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calico.core.files import PARQUET_DAMAGE, atomic_path, one_line
from calico.core.records import PairSample, Target
from calico.errors import DataError

KINDS = ("task", "source", "image", "label", "object", "part")
TARGET = np.dtype([("image_index", "<i4"), ("label", "<i4"), ("object", "<i4"), ("part", "<i4")])
_ENDS = ("id_end", "image_end", "target_end")
_ROW = np.dtype([*((name, "<i8") for name in _ENDS), ("task", "<i4"), ("source", "<i4")])
_IMAGE = np.dtype("<i4")
_FILES = {"rows": _ROW, "ids": np.dtype(np.uint8), "images": _IMAGE, "targets": TARGET}
_NAMES = pa.schema([("kind", pa.string()), ("name", pa.string())])


@dataclass(frozen=True)
class RowBlock:
    """Some pairs in order; codes are places in the names of their kind.

    Attributes:
        pair_ids: strings, one a pair.
        tasks, sources: a code each.
        first_image: the images of pair i are `images[first_image[i]:first_image[i + 1]]`, codes.
        first_target: its targets, likewise.
        targets: of dtype TARGET; the part of an object is -1.
    """

    pair_ids: pa.Array
    tasks: np.ndarray
    sources: np.ndarray
    first_image: np.ndarray
    images: np.ndarray
    first_target: np.ndarray
    targets: np.ndarray


def rows_path(parquet_path: Path) -> Path:
    """Return the folder that holds the rows of a parquet file of pairs."""
    return Path(parquet_path).parent / "rows" / Path(parquet_path).stem


class RowWriter(contextlib.AbstractContextManager["RowWriter"]):
    """Writes blocks of pairs, one after another; the files appear when the `with` block ends well."""

    def __init__(self, folder: Path, names: Mapping[str, pa.Array]) -> None:
        """Prepare.

        Args:
            folder: to write into.
            names: of each of KINDS.
        """
        self._folder, self._names = Path(folder), names
        self._ends = np.zeros(3, dtype=np.int64)
        self._streams: dict[str, BinaryIO] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RowWriter":
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(atomic_path(self._folder / "names.parquet"))
            kinds = [kind for kind in KINDS for _ in range(len(self._names[kind]))]
            names = pa.concat_arrays([self._names[kind] for kind in KINDS])
            pq.write_table(pa.Table.from_arrays([pa.array(kinds, pa.string()), names], schema=_NAMES), path)
            for name in _FILES:
                path = stack.enter_context(atomic_path(self._folder / f"{name}.bin"))
                self._streams[name] = stack.enter_context(open(path, "wb"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self._stack.__exit__(*error)  # type: ignore[arg-type]

    def write(self, block: RowBlock) -> None:
        """Append a block."""
        first_byte = np.frombuffer(block.pair_ids.buffers()[1], dtype=np.int32)[block.pair_ids.offset :]
        first_byte = first_byte[: len(block.tasks) + 1]
        rows = np.empty(len(block.tasks), dtype=_ROW)
        firsts = (first_byte, block.first_image, block.first_target)
        for place, (name, first) in enumerate(zip(_ENDS, firsts, strict=True)):
            rows[name] = first[1:].astype(np.int64) - first[0] + self._ends[place]
            self._ends[place] += int(first[-1]) - int(first[0])
        rows["task"], rows["source"] = block.tasks, block.sources
        data = block.pair_ids.buffers()[2]
        self._streams["rows"].write(rows.tobytes())
        self._streams["ids"].write(memoryview(data)[first_byte[0] : first_byte[-1]] if data else b"")
        self._streams["images"].write(np.asarray(block.images, dtype=_IMAGE).tobytes())
        self._streams["targets"].write(np.asarray(block.targets, dtype=TARGET).tobytes())


def write_rows(folder: Path, pairs: Sequence[PairSample]) -> None:
    """Write a few pairs."""
    found: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}

    def code(kind: str, name: str) -> int:
        return found[kind].setdefault(name, len(found[kind]))

    tasks = [code("task", pair.task) for pair in pairs]
    sources = [code("source", pair.source) for pair in pairs]
    images = [code("image", image_id) for pair in pairs for image_id in pair.image_ids]
    targets = [
        (
            target.image_index,
            code("label", target.label),
            code("object", target.object_id),
            -1 if target.part_id is None else code("part", target.part_id),
        )
        for pair in pairs
        for target in pair.targets
    ]
    block = RowBlock(
        pa.array([pair.pair_id for pair in pairs], pa.string()),
        np.array(tasks, dtype=np.int32),
        np.array(sources, dtype=np.int32),
        np.cumsum([0, *(len(pair.image_ids) for pair in pairs)]),
        np.array(images, dtype=np.int32),
        np.cumsum([0, *(len(pair.targets) for pair in pairs)]),
        np.array(targets, dtype=TARGET),
    )
    with RowWriter(
        folder, {kind: pa.array(list(names), pa.string()) for kind, names in found.items()}
    ) as writer:
        writer.write(block)


class PairTable(Sequence[PairSample]):
    """The pairs of one split, in the order of the parquet file; each row is read alone."""

    def __init__(self, folder: Path) -> None:
        """Map the arrays and read the names.

        Args:
            folder: `pair/rows/<split>` of the pair stage.

        Raises:
            DataError: a file is missing or damaged, or another version wrote it.
        """
        self._folder = Path(folder)
        self._names = _read_names(self._folder / "names.parquet")
        arrays = {name: _map(self._folder / f"{name}.bin", kind) for name, kind in _FILES.items()}
        self._rows, self._ids, self._images, self._targets = arrays.values()
        ends = [int(self._rows[name][-1]) if len(self._rows) else 0 for name in _ENDS]
        if ends != [len(self._ids), len(self._images), len(self._targets)]:
            raise DataError(
                f"{folder}: rows.bin does not belong to the files beside it. Delete the folder, run its "
                "stage again."
            )

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> PairSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[PairSample]: ...
    def __getitem__(self, index: int | slice) -> PairSample | list[PairSample]:
        """Return row `index`, or the rows of a slice.

        Raises:
            DataError: the bytes of a row are damaged.
        """
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        try:
            return self._read(row)
        except (IndexError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self._folder}: row {row} is damaged ({error}). Delete the folder, run its stage again."
            ) from error

    def __iter__(self) -> Iterator[PairSample]:
        return (self[row] for row in range(len(self)))

    def num_targets(self) -> np.ndarray:
        """Return the number of targets of each row, shape (rows,)."""
        return np.diff(self._rows["target_end"], prepend=0)

    def image_ids(self) -> tuple[str, ...]:
        """Return every image that the rows name, once, in order of first appearance.

        Raises:
            DataError: a row names an image that there is not.
        """
        try:
            return tuple(self._name("image", code) for code in pa.array(self._images).unique().tolist())
        except IndexError as error:
            raise DataError(
                f"{self._folder}: images.bin is damaged ({error}). Delete the folder, run its stage again."
            ) from error

    def _read(self, row: int) -> PairSample:
        entry = self._rows[row]
        start, stop = self._span("id_end", row, len(self._ids))
        pair_id = self._ids[start:stop].tobytes().decode("utf-8")
        start, stop = self._span("image_end", row, len(self._images))
        images = tuple(self._name("image", code) for code in self._images[start:stop].tolist())
        start, stop = self._span("target_end", row, len(self._targets))
        targets = tuple(
            Target(
                image_index,
                self._name("label", label),
                self._name("object", instance),
                None if part == -1 else self._name("part", part),
            )
            for image_index, label, instance, part in self._targets[start:stop].tolist()
        )
        task, source = self._name("task", int(entry["task"])), self._name("source", int(entry["source"]))
        return PairSample(pair_id, task, source, images, targets)

    def _span(self, name: str, row: int, length: int) -> tuple[int, int]:
        start, stop = int(self._rows[name][row - 1]) if row else 0, int(self._rows[name][row])
        if not 0 <= start <= stop <= length:
            raise IndexError(f"it spans {start} to {stop} of {length}")
        return start, stop

    def _name(self, kind: str, code: int) -> str:
        names = self._names[kind]
        if not 0 <= code < len(names):
            raise IndexError(f"{kind} {code} of {len(names)}")
        name: str = names[code].as_py()
        return name


def _map(path: Path, kind: np.dtype) -> np.ndarray:
    try:
        size = path.stat().st_size
        if size % kind.itemsize:
            raise DataError(
                f"{path}: {size} bytes are not whole rows. Delete the folder, run its stage again."
            )
        return np.memmap(path, dtype=kind, mode="r") if size else np.empty(0, dtype=kind)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _read_names(path: Path) -> dict[str, pa.Array]:
    try:
        table = pq.ParquetFile(path).read(use_threads=False)
        if not table.schema.equals(_NAMES):
            raise DataError(f"{path}: another version wrote it. Delete the folder, run its stage again.")
        kinds = table["kind"].combine_chunks()
        names = table["name"].combine_chunks()
        return {kind: names.filter(pc.equal(kinds, kind)) for kind in KINDS}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except PARQUET_DAMAGE as error:
        raise DataError(
            f"{path}: not a parquet file ({one_line(error)}). Delete it, run its stage again."
        ) from error
