"""Rule of the rows that training reads: they are those of the parquet files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calico.core.caption_rows import CaptionTable
from calico.core.files import PARQUET_DAMAGE
from calico.core.image_rows import ImageTable
from calico.core.records import ImageRecord
from calico.core.row_files import rows_path
from calico.core.tables import caption_from_row
from calico.data.validation.files import rows_of
from calico.data.validation.rules import Rule
from calico.errors import DataError

_Open = Callable[[Path], Sequence[Any] | Mapping[str, Any]]


class RowComparison:
    """The rows of one parquet file as training reads them."""

    def __init__(self, path: Path, open_rows: _Open, rule: Rule) -> None:
        """Open the rows and compare their number; what is wrong breaks the rule.

        Args:
            path: the parquet file.
            open_rows: makes a table of a folder.
        """
        folder = rows_path(path)
        self._place, self._file = f"{folder.parents[1].name}/rows/{folder.name}", path.name
        self._rule = rule
        self._rows: Sequence[Any] | Mapping[str, Any] | None = None
        try:
            self._rows = open_rows(folder)
            num_rows = pq.ParquetFile(path).metadata.num_rows
            if len(self._rows) != num_rows:
                rule.violate(f"{self._place}: {len(self._rows)} rows, {self._file} has {num_rows}.")
        except (DataError, *PARQUET_DAMAGE) as error:
            rule.violate(f"{self._place}: cannot be compared ({error}).")

    def compare(self, key: Any, record: object) -> None:
        """Compare a row, given by number or id, with what the parquet file has."""
        self._rule.count()
        if self._rows is None or (isinstance(key, int) and key >= len(self._rows)):
            return
        try:
            if self._rows[key] != record:
                self._rule.violate(f"{self._place}: row {key} is another than in {self._file}.")
        except KeyError:
            self._rule.violate(f"{self._place}: lacks '{key}'.")
        except DataError as error:
            self._rule.violate(f"{self._place}: {error}")


def check_unified_rows(artifacts_path: Path, unified: Mapping[str, pa.Table], rule: Rule) -> None:
    """Compare the rows of images and captions.

    Args:
        unified: tables by name, with the right columns.
    """
    rows = RowComparison(artifacts_path / "unify" / "images.parquet", ImageTable, rule)
    for row in rows_of(unified["images"]):
        rows.compare(row["image_id"], ImageRecord(**row))
    rows = RowComparison(artifacts_path / "unify" / "captions.parquet", CaptionTable, rule)
    for number, row in enumerate(rows_of(unified["captions"])):
        rows.compare(number, caption_from_row(row))
