"""Image records in a form to look single ones up by id: arrays on disk.

`unify/rows/images/` holds what `unify/images.parquet` holds. A row's bytes are its four texts.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from calico.core.records import ImageRecord
from calico.core.row_files import RowFiles, RowLayout, Spans, split_bytes

_TEXTS = ("image_id", "source", "path", "split")
# by_id of entry i is the row of the i-th id in the order of their bytes.
LAYOUT = RowLayout(
    {"bytes": np.dtype(np.uint8)}, (*(f"{name}_bytes" for name in _TEXTS), "height", "width", "by_id")
)


def pack(images: Sequence[ImageRecord]) -> tuple[dict[str, Spans], Mapping[str, list[int]]]:
    """Return what a `RowFileWriter` of `LAYOUT` writes for all images."""
    texts = [[getattr(image, name).encode() for name in _TEXTS] for image in images]
    content = [b"".join(row) for row in texts]
    numbers = {f"{name}_bytes": [len(row[place]) for row in texts] for place, name in enumerate(_TEXTS)} | {
        "height": [image.height for image in images],
        "width": [image.width for image in images],
        "by_id": sorted(range(len(images)), key=lambda row: texts[row][0]),
    }
    first = np.cumsum([0, *map(len, content)])
    return {"bytes": (first, np.frombuffer(b"".join(content), dtype=np.uint8))}, numbers


class ImageTable(Mapping[str, ImageRecord]):
    """All images by id; each is read alone."""

    def __init__(self, folder: Path) -> None:
        """Map the arrays.

        Args:
            folder: `unify/rows/images` of the unify stage.

        Raises:
            DataError: a file is missing or damaged, or another version wrote it.
        """
        self._files = RowFiles(folder, LAYOUT)
        # Views, made once: a lookup goes through some twenty rows.
        self._rows_by_id = self._files.entries["by_id"]
        self._id_lengths = self._files.entries["image_id_bytes"]

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[str]:
        for row in range(len(self)):
            with self._files.reading(f"row {row}"):
                image_id = self._id(row).decode("utf-8")
            yield image_id

    def __getitem__(self, image_id: str) -> ImageRecord:
        """Return the record of an image.

        Raises:
            DataError: the bytes of a row are damaged.
            KeyError: there is no such image.
        """
        key = image_id.encode()
        with self._files.reading(f"the way to image '{image_id}'"):
            place = bisect_left(range(len(self)), key, key=lambda place: self._id(self._by_id(place)))
            if place < len(self) and self._id(self._by_id(place)) == key:
                return self._read(self._by_id(place))
        raise KeyError(image_id)

    def _by_id(self, place: int) -> int:
        row = int(self._rows_by_id[place])
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return row

    def _id(self, row: int) -> bytes:
        return self._files.part("bytes", row)[: self._id_lengths[row]].tobytes()

    def _read(self, row: int) -> ImageRecord:
        *lengths, height, width, _ = self._files.entries[row].tolist()[1:]
        pieces = split_bytes(self._files.part("bytes", row), lengths)
        image_id, source, path, split = (piece.decode("utf-8") for piece in pieces)
        return ImageRecord(image_id, source, path, height, width, split)
