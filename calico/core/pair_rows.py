"""Pairs in a form to read single rows of: arrays on disk, with names as numbers.

`pair/rows/<split>/` holds what `pair/<split>.parquet` holds: the arrays are the bytes of the ids, the images
and the targets; `names.parquet` says what the numbers stand for.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calico.core.files import PARQUET_DAMAGE, atomic_path, one_line
from calico.core.records import PairSample, Target
from calico.core.row_files import RowFiles, RowFileWriter, RowLayout, RowTable
from calico.errors import DataError

KINDS = ("task", "source", "image", "label", "object", "part")
TARGET = np.dtype([("image_index", "<i4"), ("label", "<i4"), ("object", "<i4"), ("part", "<i4")])
_LAYOUT = RowLayout(
    {"ids": np.dtype(np.uint8), "images": np.dtype("<i4"), "targets": TARGET}, ("task", "source")
)
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


class RowWriter(contextlib.AbstractContextManager["RowWriter"]):
    """Writes blocks of pairs, one after another; the files appear when the `with` block ends well."""

    def __init__(self, folder: Path, names: Mapping[str, pa.Array]) -> None:
        """Prepare.

        Args:
            folder: to write into.
            names: of each of KINDS.
        """
        self._folder, self._names = Path(folder), names
        self._rows = RowFileWriter(folder, _LAYOUT)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "RowWriter":
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(atomic_path(self._folder / "names.parquet"))
            kinds = [kind for kind in KINDS for _ in range(len(self._names[kind]))]
            names = pa.concat_arrays([self._names[kind] for kind in KINDS])
            pq.write_table(pa.Table.from_arrays([pa.array(kinds, pa.string()), names], schema=_NAMES), path)
            stack.enter_context(self._rows)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def write(self, block: RowBlock) -> None:
        """Append a block."""
        _, offsets, content = block.pair_ids.buffers()
        first_byte = np.frombuffer(offsets, dtype=np.int32)[block.pair_ids.offset :][: len(block.tasks) + 1]
        ids = np.frombuffer(content or b"", dtype=np.uint8)[first_byte[0] : first_byte[-1]]
        self._rows.write(
            {
                "ids": (first_byte, ids),
                "images": (block.first_image, block.images),
                "targets": (block.first_target, block.targets),
            },
            {"task": block.tasks, "source": block.sources},
        )


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


class PairTable(RowTable[PairSample]):
    """The pairs of one split, in the order of the parquet file."""

    def __init__(self, folder: Path) -> None:
        """Map the arrays and read the names.

        Args:
            folder: `pair/rows/<split>` of the pair stage.

        Raises:
            DataError: a file is missing or damaged, or another version wrote it.
        """
        self._names = _read_names(Path(folder) / "names.parquet")
        super().__init__(RowFiles(folder, _LAYOUT))

    def num_targets(self) -> np.ndarray:
        """Return the number of targets of each row, shape (rows,)."""
        return self._files.lengths("targets")

    def image_ids(self) -> tuple[str, ...]:
        """Return every image that the rows name, once, in order of first appearance.

        Raises:
            DataError: a row names an image that there is not.
        """
        with self._files.reading("images.bin"):
            codes = pa.array(self._files.array("images")).unique().tolist()
            return tuple(self._name("image", code) for code in codes)

    def _read(self, row: int) -> PairSample:
        entry = self._files.entries[row]
        images = tuple(self._name("image", code) for code in self._files.part("images", row).tolist())
        targets = tuple(
            Target(
                image_index,
                self._name("label", label),
                self._name("object", instance),
                None if part == -1 else self._name("part", part),
            )
            for image_index, label, instance, part in self._files.part("targets", row).tolist()
        )
        return PairSample(
            self._files.part("ids", row).tobytes().decode("utf-8"),
            self._name("task", int(entry["task"])),
            self._name("source", int(entry["source"])),
            images,
            targets,
        )

    def _name(self, kind: str, code: int) -> str:
        names = self._names[kind]
        if not 0 <= code < len(names):
            raise IndexError(f"{kind} {code} of {len(names)}")
        name: str = names[code].as_py()
        return name


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
