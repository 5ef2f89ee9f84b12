"""Curate and pair at the paper's size, beside pandas and DuckDB: `python -m benchmarks.mixedparts`.

The last line is one JSON object; benchmarks/README.md says what its figures mean. DuckDB comes with the
development extra (`pip install duckdb`).
"""

import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# One thread a side, before numpy starts its own.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.pair_peers import (
    Inputs,
    duckdb_pairs,
    duckdb_tables,
    duckdb_targets,
    pandas_pairs,
    pandas_tables,
    pandas_targets,
)
from benchmarks.real_shaped_tables import write_tables
from calico.config import CurateSection, PairSection
from calico.core.masks import Rle, box_xyxy
from calico.core.pair_rows import PairTable
from calico.core.tables import PAIRS
from calico.core.tokens import TASKS
from calico.data.pairs.curate import curate
from calico.data.pairs.pairing import pair

_SEED = 0
_PER_TASK = 800_000
_MAX_TARGETS = 72
_NUM_ROUNDS = 2
_NUM_ROWS = 2000


def main() -> None:
    """Measure and print; stop with one sentence where DuckDB is missing."""
    if importlib.util.find_spec("duckdb") is None:
        sys.exit("error: the peer DuckDB is not installed. Run `pip install duckdb` and try again.")
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(Path(folder))
    sys.stdout.write(json.dumps(result) + "\n")


def _measure(folder: Path) -> dict[str, float]:
    write_tables(folder / "unify", _SEED)
    _write_lefts(folder)
    summary = curate(CurateSection(reviewed=None, min_jaccard=0.2), folder / "unify", folder / "curate")
    _check_peers(folder)
    runs: dict[str, list[tuple[float, float, int]]] = {
        name: [] for name in ("full", "tenth", "pandas", "duckdb")
    }
    for number in range(_NUM_ROUNDS):
        runs["full"].append(_apart(_ours, folder, _PER_TASK))
        runs["tenth"].append(_apart(_ours, folder, _PER_TASK // 10))
        runs["pandas"].append(_apart(_pandas, folder, _PER_TASK // 10))
        runs["duckdb"].append(_apart(_duckdb, folder, _PER_TASK // 10))
        for name, found in runs.items():
            seconds, peak_gb, num_pairs = found[-1]
            sys.stdout.write(
                f"round {number}: {name} {num_pairs} pairs, {seconds:.2f} s, peak {peak_gb:.2f} GB\n"
            )
    totals = {name: min(run[0] for run in found) for name, found in runs.items()}
    per_pair = {name: min(run[0] / run[2] for run in found) for name, found in runs.items()}
    num_pairs = runs["full"][0][2]
    sys.stdout.write(f"{platform.processor() or platform.machine()}, load {os.getloadavg()}\n")
    return {
        "pairs": num_pairs,
        "seconds": round(totals["full"], 2),
        "peak_gb": round(max(run[1] for run in runs["full"]), 2),
        "vs_pandas": round(per_pair["pandas"] / per_pair["full"], 1),
        "vs_duckdb": round(per_pair["duckdb"] / per_pair["full"], 1),
        "seconds_240k": round(totals["tenth"], 2),
        "open_seconds": round(_open_seconds(folder / f"pair{_PER_TASK}" / "rows" / "train"), 4),
        "row_seconds": round(_row_seconds(folder / f"pair{_PER_TASK}" / "rows" / "train"), 6),
        "candidate_pairs": summary["num_candidates"],
        "curated_pairs": summary["num_kept"],
    }


def _write_lefts(folder: Path) -> None:
    """Write the left edges, which the peers cannot read from the masks."""
    objects = pq.ParquetFile(folder / "unify" / "objects.parquet").read().to_pylist()
    lefts = [box_xyxy(Rle(one["height"], one["width"], one["rle_counts"]))[0] for one in objects]
    ids = [one["object_id"] for one in objects]
    pq.write_table(pa.table({"object_id": ids, "left_px": lefts}), folder / "lefts.parquet")


def _check_peers(folder: Path) -> None:
    """Check that pandas and DuckDB list the targets that we list, for the same images."""
    import duckdb

    _ours(folder, 340)
    path = folder / "pair340" / "train.parquet"
    inputs = _inputs(folder, 340)
    ours = pq.read_table(path).sort_by("pair_id").to_pylist()
    draws = pd.DataFrame(
        {
            "task": [row["task"] for row in ours],
            "source": [row["source"] for row in ours],
            "a": [row["image_ids"][0] for row in ours],
            "b": [row["image_ids"][1] for row in ours],
        }
    )
    by_pandas = pandas_targets(draws, *pandas_tables(inputs))
    table = pa.Table.from_pandas(by_pandas[PAIRS.names], schema=PAIRS, preserve_index=False)
    assert table.sort_by("pair_id").to_pylist() == ours, "pandas lists other targets"
    connection = duckdb.connect()
    duckdb_tables(connection, inputs)
    connection.register("drawn", draws.assign(pair=range(len(draws))))
    connection.execute(
        "CREATE TABLE draw AS SELECT pair, task, d.source, x.i AS a, y.i AS b FROM drawn d "
        "JOIN image x ON x.image_id = d.a JOIN image y ON y.image_id = d.b"
    )
    duckdb_targets(connection)
    found = connection.sql("SELECT * FROM samples ORDER BY pair_id").to_arrow_table()
    assert found.cast(PAIRS).to_pylist() == ours, "DuckDB lists other targets"


def _ours(folder: Path, per_task: int) -> int:
    section = PairSection.model_validate(
        {
            "seed": _SEED,
            "num_pairs": {"train": dict.fromkeys(TASKS, per_task), "val": 340, "test": 340},
            "max_targets": _MAX_TARGETS,
        }
    )
    found = pair(section, folder / "unify", folder / "curate", folder / f"pair{per_task}")
    return int(found["all"]["num_pairs"])


def _inputs(folder: Path, per_task: int) -> Inputs:
    category_pairs_path = folder / "curate" / "category_pairs.csv"
    return Inputs(folder / "unify", category_pairs_path, folder / "lefts.parquet", per_task, _MAX_TARGETS)


def _pandas(folder: Path, per_task: int) -> int:
    return pandas_pairs(_inputs(folder, per_task), folder / "pandas.parquet")


def _duckdb(folder: Path, per_task: int) -> int:
    return duckdb_pairs(_inputs(folder, per_task), folder / "duckdb.parquet", num_threads=1)


def _apart(work: Callable[[Path, int], int], folder: Path, per_task: int) -> tuple[float, float, int]:
    """Run in a fresh process; return seconds without imports, peak memory with them, and pairs made."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_timed, args=(work, folder, per_task, sender))
    process.start()
    result: tuple[float, float, int] = receiver.recv()
    process.join()
    return result


def _timed(work: Callable[[Path, int], int], folder: Path, per_task: int, sender: object) -> None:
    pa.set_cpu_count(1)
    start = time.perf_counter()
    num_pairs = work(folder, per_task)
    seconds = time.perf_counter() - start
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    sender.send((seconds, peak_gb, num_pairs))  # type: ignore[attr-defined]


def _open_seconds(path: Path) -> float:
    """Return the median time to open the file and read one row."""
    rng, found = np.random.default_rng(_SEED), []
    for _ in range(7):
        start = time.perf_counter()
        samples = PairTable(path)
        assert samples[int(rng.integers(len(samples)))].targets
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _row_seconds(path: Path) -> float:
    """Return the mean time to read a row."""
    samples = PairTable(path)
    rows = np.random.default_rng(_SEED).integers(len(samples), size=_NUM_ROWS).tolist()
    start = time.perf_counter()
    for row in rows:
        assert samples[row].targets
    return (time.perf_counter() - start) / _NUM_ROWS


if __name__ == "__main__":
    main()
