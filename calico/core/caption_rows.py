"""Grounded captions in a form to read single ones of: arrays on disk.

`unify/rows/captions/` holds what `unify/captions.parquet` holds. A caption's bytes are its image id, its text
and, for each phrase, the label and the run lengths.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from calico.core.masks import Rle
from calico.core.records import CaptionPhrase, CaptionRecord
from calico.core.row_files import RowFiles, RowLayout, RowTable, Spans, split_bytes

_PHRASE = np.dtype(
    [(name, "<i4") for name in ("start", "end", "height", "width", "label_bytes", "counts_bytes")]
)
# text_length counts characters.
LAYOUT = RowLayout(
    {"bytes": np.dtype(np.uint8), "phrases": _PHRASE}, ("image_id_bytes", "text_bytes", "text_length")
)


def pack(captions: Sequence[CaptionRecord]) -> tuple[dict[str, Spans], Mapping[str, list[int]]]:
    """Return what a `RowFileWriter` of `LAYOUT` writes for captions."""
    content: list[bytes] = []
    phrases: list[tuple[int, ...]] = []
    last_byte, last_phrase = [0], [0]
    numbers: dict[str, list[int]] = {name: [] for name in LAYOUT.numbers}
    num_bytes = 0
    for caption in captions:
        pieces = [caption.image_id.encode(), caption.text.encode()]
        for name, number in zip(LAYOUT.numbers, (*map(len, pieces), len(caption.text)), strict=True):
            numbers[name].append(number)
        for one in caption.phrases:
            label, rle = one.label.encode(), one.rle
            phrases.append((one.start, one.end, rle.height, rle.width, len(label), len(rle.counts)))
            pieces += [label, rle.counts]
        num_bytes += sum(map(len, pieces))
        content += pieces
        last_byte.append(num_bytes)
        last_phrase.append(len(phrases))
    spans = {
        "bytes": (np.array(last_byte), np.frombuffer(b"".join(content), dtype=np.uint8)),
        "phrases": (np.array(last_phrase), np.array(phrases, dtype=_PHRASE)),
    }
    return spans, numbers


class CaptionTable(RowTable[CaptionRecord]):
    """The captions of all images, in the order of the parquet file."""

    def __init__(self, folder: Path) -> None:
        """Map the arrays.

        Args:
            folder: `unify/rows/captions` of the unify stage.

        Raises:
            DataError: a file is missing or damaged, or another version wrote it.
        """
        super().__init__(RowFiles(folder, LAYOUT))

    def text_lengths(self) -> np.ndarray:
        """Return the number of characters of each text, shape (rows,)."""
        return np.array(self._files.entries["text_length"])

    def image_ids(self) -> tuple[str, ...]:
        """Return every image that has a caption, once, in order of first appearance.

        Raises:
            DataError: the bytes of a row are damaged.
        """
        with self._files.reading("an image id"):
            return tuple(dict.fromkeys(map(self._image_id, range(len(self)))))

    def _image_id(self, row: int) -> str:
        length = int(self._files.entries[row]["image_id_bytes"])
        return self._files.part("bytes", row)[:length].tobytes().decode("utf-8")

    def _read(self, row: int) -> CaptionRecord:
        *_, image_id_bytes, text_bytes, _ = self._files.entries[row].tolist()
        phrases = self._files.part("phrases", row).tolist()
        lengths = [image_id_bytes, text_bytes, *(length for phrase in phrases for length in phrase[4:])]
        image_id, text, *pieces = split_bytes(self._files.part("bytes", row), lengths)
        return CaptionRecord(
            image_id.decode("utf-8"),
            text.decode("utf-8"),
            tuple(
                CaptionPhrase(start, end, label.decode("utf-8"), Rle(height, width, counts))
                for (start, end, height, width, *_), label, counts in zip(
                    phrases, pieces[::2], pieces[1::2], strict=True
                )
            ),
        )
