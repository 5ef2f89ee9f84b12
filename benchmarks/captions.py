"""Grounded captions at the paper's number, written and drawn in bounded memory: `benchmarks.captions`.

The last line is one JSON object; benchmarks/README.md says what its figures mean. Needs Linux: memory is read
from /proc.
"""

import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One thread a side, before numpy starts its own.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calico.core import tables
from calico.core.caption_rows import CaptionTable
from calico.core.image_rows import ImageTable
from calico.core.masks import encode
from calico.core.records import CaptionPhrase, CaptionRecord, ImageRecord
from calico.training.sampler import Sampler

_SEED = 0
_NUM_CAPTIONS = 200_000
_NUM_STEPS = 1000
_BATCH = {"batch_size": 4, "accumulation": 4}
_MASK_SIZE = (480, 640)
_NUM_MASKS = 256
_PHRASES = ("a small dog", "the wooden table", "two red mugs")
_TEXT = f"In the picture {_PHRASES[0]} sits beside {_PHRASES[1]} with {_PHRASES[2]} on it."
_STATUS = Path("/proc/self/status")
_SECONDS_BETWEEN_LOOKS = 0.005


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), _NUM_CAPTIONS)
    sys.stdout.write(f"{platform.processor() or platform.machine()}, load {os.getloadavg()}\n")
    sys.stdout.write(json.dumps(result) + "\n")


def measure(folder: Path, num_captions: int) -> dict[str, float]:
    """Return the figures of the last line.

    Args:
        folder: to write into; 3 KB a caption.
        num_captions: each of an image of its own.
    """
    num_tenth = num_captions // 10
    written = _apart(_write, folder / "all", num_captions)
    drawn = _apart(_draw, folder / "all", num_captions)
    written_tenth = _apart(_write, folder / "tenth", num_tenth)
    drawn_tenth = _apart(_draw, folder / "tenth", num_tenth)
    whole_tenth = _apart(_read_whole, folder / "tenth", num_tenth)
    size = sum(path.stat().st_size for path in (folder / "all" / "rows").rglob("*.bin"))
    return {
        "captions": num_captions,
        "rows_mb": round(size / 1e6, 1),
        "write_seconds": round(written["seconds"], 1),
        "write_mb": round(written["mb"], 1),
        "write_mb_tenth": round(written_tenth["mb"], 1),
        "open_seconds": round(drawn["open_seconds"], 4),
        "caption_seconds": round(drawn["caption_seconds"], 6),
        "draw_mb": round(drawn["mb"], 1),
        "draw_mb_tenth": round(drawn_tenth["mb"], 1),
        "read_whole_mb_tenth": round(whole_tenth["mb"], 1),
    }


def _write(folder: Path, num_captions: int) -> dict[str, float]:
    """Write captions as the stage unify does, and their images."""
    start = time.perf_counter()
    with _Memory() as memory:
        tables.write_captions(folder / "captions.parquet", _captions(num_captions))
    found = {"seconds": time.perf_counter() - start, "mb": memory.growth_mb}
    images = (
        ImageRecord(_image_id(number), "grand", f"grand/sa_{number}.jpg", *_MASK_SIZE, "train")
        for number in range(num_captions)
    )
    tables.write_images(folder / "images.parquet", images)
    return found


def _draw(folder: Path, num_captions: int) -> dict[str, float]:
    """Open the captions and draw the first steps of a training, each caption with its image."""
    with _Memory() as memory:
        start = time.perf_counter()
        captions = CaptionTable(folder / "rows" / "captions")
        images = ImageTable(folder / "rows" / "images")
        sampler = Sampler(captions.text_lengths(), **_BATCH, seed=_SEED)
        rows = [row for part in sampler.step(0) for row in part.sample_indices]
        opened = time.perf_counter()
        for step in range(_NUM_STEPS):
            rows = [row for part in sampler.step(step) for row in part.sample_indices]
            for row in rows:
                assert captions[row].image_id == _image_id(row)
                assert images[_image_id(row)].path == f"grand/sa_{row}.jpg"
    assert len(captions) == num_captions
    return {
        "open_seconds": opened - start,
        "caption_seconds": (time.perf_counter() - opened) / (_NUM_STEPS * len(rows)),
        "mb": memory.growth_mb,
    }


def _read_whole(folder: Path, num_captions: int) -> dict[str, float]:
    """Read all captions into memory, as a list of plain rows."""
    with _Memory() as memory:
        rows = pq.read_table(folder / "captions.parquet").to_pylist()
    assert len(rows) == num_captions
    return {"mb": memory.growth_mb}


def _apart(
    work: Callable[[Path, int], dict[str, float]], folder: Path, num_captions: int
) -> dict[str, float]:
    """Run in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, initializer=pa.set_cpu_count, initargs=(1,)) as pool:
        return pool.apply(work, (folder, num_captions))


class _Memory:
    """The most private memory of this process while the block runs, looked at all the time.

    Pages of mapped files do not count: the kernel takes them back when it needs them.

    Attributes:
        growth_mb: over what it was before.
    """

    def __enter__(self) -> "_Memory":
        self._before = self._peak = _private_mb()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._is_over.set()
        self._thread.join()
        self.growth_mb = max(self._peak, _private_mb()) - self._before

    def _look(self) -> None:
        while not self._is_over.wait(_SECONDS_BETWEEN_LOOKS):
            self._peak = max(self._peak, _private_mb())


def _private_mb() -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", _STATUS.read_text())
    assert found, f"{_STATUS} does not say RssAnon"
    return int(found[1]) * 1024 / 1e6


def _captions(count: int) -> Iterator[CaptionRecord]:
    """Yield captions of three phrases; the masks are ovals somewhere."""
    rng = np.random.default_rng(_SEED)
    ys, xs = np.ogrid[: _MASK_SIZE[0], : _MASK_SIZE[1]]
    rles = []
    for _ in range(_NUM_MASKS):
        top, left, height, width = rng.uniform((50, 50, 20, 20), (400, 550, 150, 150))
        rles.append(encode(((ys - top) / height) ** 2 + ((xs - left) / width) ** 2 < 1))
    starts = [_TEXT.index(phrase) for phrase in _PHRASES]
    for number in range(count):
        phrases = tuple(
            CaptionPhrase(start, start + len(label), label, rles[(3 * number + place) % _NUM_MASKS])
            for place, (start, label) in enumerate(zip(starts, _PHRASES, strict=True))
        )
        yield CaptionRecord(_image_id(number), _TEXT, phrases)


def _image_id(number: int) -> str:
    return f"grand/sa_{number}"


if __name__ == "__main__":
    main()
