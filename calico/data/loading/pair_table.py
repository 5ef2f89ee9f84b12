"""The pair table as a sequence: opened in milliseconds, row i read with its row group only.

2.4 M pairs do not fit into Python objects. The file is parquet in small row groups; opening it reads the
footer, and a row costs the decoding of one group.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calico.core.records import PairSample
from calico.core.tables import PAIRS, pair_from_row
from calico.errors import DataError

_NUM_CACHED_GROUPS = 8


class PairTable(Sequence[PairSample]):
    """The pairs of one file, in its order."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            DataError: the file is missing, is not parquet or has other columns.
        """
        self._path = Path(path)
        try:
            self._file = pq.ParquetFile(self._path)
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{path}: not a parquet file ({error}). Delete it, run its stage again."
            ) from error
        if self._file.schema_arrow.names != PAIRS.names:
            raise DataError(
                f"{path}: columns are {', '.join(self._file.schema_arrow.names)}, expected "
                f"{', '.join(PAIRS.names)}. Another version wrote it; run its stage again."
            )
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._first = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._group = lru_cache(_NUM_CACHED_GROUPS)(self._read_group)

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, index: int) -> PairSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[PairSample]: ...
    def __getitem__(self, index: int | slice) -> PairSample | list[PairSample]:
        """Return row `index`, or the rows of a slice."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        group = int(np.searchsorted(self._first, row, side="right")) - 1
        rows = self._group(group).slice(row - int(self._first[group]), 1).to_pylist()
        return pair_from_row(rows[0])

    def __iter__(self) -> Iterator[PairSample]:
        for group in range(len(self._first) - 1):
            yield from map(pair_from_row, self._group(group).to_pylist())

    def num_targets(self) -> list[int]:
        """Return the number of targets of each row."""
        column = self._column("targets.list.element.image_index")["targets"]
        return [] if not len(self) else pc.list_value_length(column).to_pylist()

    def image_ids(self) -> tuple[str, ...]:
        """Return every image that the rows name, once, in order of first appearance."""
        column = self._column("image_ids")["image_ids"]
        return tuple(pc.unique(pc.list_flatten(column)).to_pylist())

    def _column(self, name: str) -> pa.Table:
        return self._file.read(columns=[name], use_threads=False)

    def _read_group(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, use_threads=False)
