"""The files of a data set: there, unchanged, and with the columns that every reader expects."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calico.config import UnifySection
from calico.core.files import PARQUET_DAMAGE, one_line, read_json, sha256_of
from calico.core.tables import CAPTIONS, IMAGES, OBJECTS, PAIRS, PARTS, gaps
from calico.data.validation.rules import Rule, RuleBook
from calico.errors import DataError

FOLDERS = ("unify", "curate", "pair")
SPLITS = ("train", "val", "test")
UNIFIED: Mapping[str, pa.Schema] = MappingProxyType(
    {"images": IMAGES, "objects": OBJECTS, "parts": PARTS, "captions": CAPTIONS}
)
_FILES = (
    *(f"unify/{name}.parquet" for name in UNIFIED),
    *(f"unify/rows/{name}/rows.bin" for name in ("captions", "images")),
    "curate/category_pairs.csv",
    *(f"pair/{name}" for split in SPLITS for name in (f"{split}.parquet", f"rows/{split}/rows.bin")),
)
_ROWS_PER_BATCH = 16_384


class ImageFolders:
    """Where image files may lie: below the sources, or in the folder of a person's own source."""

    def __init__(self, sources_path: Path, section: UnifySection) -> None:
        own = (Path(source.images) for source in section.own_sources)
        self._sources_path = Path(sources_path).resolve()
        self._folders = [self._sources_path, *(Path(os.path.abspath(folder)) for folder in own)]

    def __str__(self) -> str:
        return " or ".join(map(str, self._folders))

    def hold(self, path: str) -> bool:
        """Tell whether a file, relative to the sources, lies in one of the folders."""
        if not path or "\0" in path:
            return False
        place = Path(os.path.abspath(self._sources_path / path))
        return any(folder in place.parents for folder in self._folders)


def check_files(artifacts_path: Path, book: RuleBook) -> None:
    """Compare every file with the size and the sha256 in its folder's manifest.

    Raises:
        DataError: a table is missing, so that there is no finished data set to check.
    """
    for name in _FILES:
        if not (artifacts_path / name).is_file():
            raise DataError(f"{artifacts_path / name}: no such file. Run the stage '{name.split('/')[0]}'.")
    for folder in FOLDERS:
        for name, digest in _manifest(artifacts_path / folder, book["files"]):
            _check_digest(artifacts_path / folder, name, digest, book["files"])


def _manifest(folder: Path, rule: Rule) -> list[tuple[str, str]]:
    """Return (name, sha256) of the files that the manifest lists."""
    place = f"{folder.name}/manifest.json"
    rule.count()
    try:
        manifest = read_json(folder / "manifest.json")
        return [(str(name), str(entry["sha256"])) for name, entry in manifest["files"].items()]
    except (DataError, KeyError, TypeError, AttributeError):
        rule.violate(f"{place}: missing or no manifest, so the stage did not finish. Run it again.")
        return []


def _check_digest(folder: Path, name: str, digest: str, rule: Rule) -> None:
    rule.count()
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        rule.violate(f"{folder.name}/manifest.json: '{name}' leaves the folder.")
    elif not path.is_file():
        rule.violate(f"{folder.name}/{name}: missing, though the manifest lists it.")
    elif sha256_of(path) != digest:
        rule.violate(f"{folder.name}/{name}: changed after its stage wrote it. Run the stage again.")


def read_unified(artifacts_path: Path, rule: Rule) -> dict[str, pa.Table]:
    """Return the unified tables that have their schema; the others break the rule."""
    found = {}
    for name, schema in UNIFIED.items():
        place = f"unify/{name}.parquet"
        file = _open(artifacts_path / place, place, schema, rule)
        try:
            table = file.read(use_threads=False) if file else None
            if table is not None and _is_whole(table, place, rule):
                found[name] = table
        except PARQUET_DAMAGE as error:
            rule.violate(f"{place}: cannot be read ({one_line(error)}).")
    return found


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table that may be large; some thousand are unfolded at a time."""
    for batch in table.to_batches(_ROWS_PER_BATCH):
        yield from batch.to_pylist()


def pair_batches(artifacts_path: Path, split: str, rule: Rule) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (first row, pairs) of a split, some thousand at a time; those with gaps break the rule."""
    place = f"pair/{split}.parquet"
    file = _open(artifacts_path / place, place, PAIRS, rule)
    try:
        start = 0
        for batch in file.iter_batches(_ROWS_PER_BATCH, use_threads=False) if file else ():
            if _is_whole(batch, place, rule):
                yield start, batch
            start += batch.num_rows
    except PARQUET_DAMAGE as error:
        rule.violate(f"{place}: cannot be read ({one_line(error)}).")


def _open(path: Path, place: str, schema: pa.Schema, rule: Rule) -> pq.ParquetFile | None:
    rule.count(len(schema))
    try:
        file = pq.ParquetFile(path)
    except PARQUET_DAMAGE as error:
        rule.violate(f"{place}: not a parquet file ({one_line(error)}).")
        return None
    if not file.schema_arrow.equals(schema):
        found = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
        expected = dict(zip(schema.names, schema.types, strict=True))
        wrong = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
        faults = ", ".join(f"{name} is {found.get(name)}, not {expected.get(name)}" for name in wrong)
        rule.violate(f"{place}: {faults or 'the columns stand in another order'}.")
        return None
    return file


def _is_whole(rows: pa.Table | pa.RecordBatch, place: str, rule: Rule) -> bool:
    """Tell whether the rows are sound and without gaps; only an object target has no part."""
    rows.validate(full=True)
    found = [path for name in rows.column_names for path in gaps(rows[name], name)]
    for path in found:
        rule.violate(f"{place}: column {path} has empty cells.")
    return not found
