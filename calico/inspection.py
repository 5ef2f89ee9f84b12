"""Draw pairs of a finished data set: both images with their masks, the legend, and the conversation."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from calico.config import Config
from calico.core.files import PARQUET_DAMAGE, one_line
from calico.core.images import read_image
from calico.core.masks import Rle, decode
from calico.core.pair_rows import PairTable
from calico.core.records import PairSample, Phrase
from calico.core.row_files import rows_path
from calico.core.tokens import TASKS
from calico.data.pairs.conversation import QUESTIONS, choose_wording, render_answer, render_prompt
from calico.data.validation.files import SPLITS, ImageFolders
from calico.errors import DataError
from calico.reporting.overlays import Colour, assign_colours, draw_overlay, fit_scale, part_name, side_by_side

_PANEL_SIDE_PX = 640
_ADVICE = "`calico validate` names what is wrong with the data set."


@dataclass(frozen=True)
class PairPlace:
    """Where a pair stands: file of the pair stage and row."""

    split: str
    row: int


@dataclass(frozen=True)
class DrawnPair:
    """A pair as a person looks at it.

    Attributes:
        file_name: safe on every file system, whatever the pair is called.
        conversation: prompt and answer as a model reads them.
        picture_HWC: uint8 RGB.
    """

    sample: PairSample
    split: str
    file_name: str
    conversation: str
    picture_HWC: np.ndarray


class Inspection:
    """The pairs of a profile, opened without reading them."""

    def __init__(self, config: Config, artifacts_path: Path) -> None:
        """Remember where the data set lies.

        Args:
            config: gives the seeds of choice and wording, and the folders of own images.
            artifacts_path: folder of the profile: reads sources, unify and pair.
        """
        self._config = config
        self._path = Path(artifacts_path)
        self._folders = ImageFolders(self._path / "sources", config.unify)
        self._tables: dict[str, PairTable] = {}

    def count(self, split: str) -> int:
        """Return how many pairs a split has.

        Raises:
            DataError: the file is missing or damaged.
        """
        return len(self._table(split))

    def choose(self, split: str) -> list[PairPlace]:
        """Choose some pairs of each task by the report's seed.

        Raises:
            DataError: the file is missing or damaged, or holds no pair.
        """
        tasks = np.asarray(_column(self._file(split), "task").to_pylist(), dtype=object)
        section, chosen = self._config.report, []
        for index, task in enumerate(TASKS):
            rows = np.flatnonzero(tasks == task)
            rng = np.random.default_rng([section.seed, zlib.crc32(f"inspect/{split}".encode()), index])
            count = min(section.num_gallery_pairs, len(rows))
            chosen += sorted(rng.choice(rows, size=count, replace=False).tolist())
        if not chosen:
            raise DataError(f"{self._file(split)}: none of {len(tasks)} pairs has a known task. {_ADVICE}")
        return [PairPlace(split, row) for row in chosen]

    def find(self, pair_ids: Iterable[str], splits: Sequence[str] = SPLITS) -> list[PairPlace]:
        """Find pairs by id; only the ids are read.

        Raises:
            DataError: a file is missing or damaged, or there is no such pair.
        """
        columns = {split: _column(self._file(split), "pair_id") for split in splits}
        return [self._find(pair_id, columns) for pair_id in pair_ids]

    def draw(self, places: Sequence[PairPlace]) -> Iterator[DrawnPair]:
        """Draw pairs one after another; of the tables only their images and masks are kept.

        Raises:
            DataError: an image, an object or a part is missing or damaged.
        """
        samples = [self._table(place.split)[place.row] for place in places]
        image_paths = self._image_paths({image_id for one in samples for image_id in one.image_ids})
        targets = [target for sample in samples for target in sample.targets]
        rles = self._rles("objects", "object_id", {one.object_id for one in targets if one.part_id is None})
        rles |= self._rles("parts", "part_id", {one.part_id for one in targets if one.part_id is not None})
        for place, sample in zip(places, samples, strict=True):
            yield self._draw(place, sample, image_paths, rles)

    def _draw(
        self, place: PairPlace, sample: PairSample, image_paths: Mapping[str, str], rles: Mapping[str, Rle]
    ) -> DrawnPair:
        labels = [target.label for target in sample.targets]
        colours = assign_colours(labels)
        panels = [
            self._panel(sample, index, self._image_file(image_id, image_paths), rles, colours)
            for index, image_id in enumerate(sample.image_ids)
        ]
        question, prompt, answer = self._words(sample, place.split)
        picture_HWC = side_by_side(
            panels,
            titles=[f"IMAGE{index + 1}: {image_id}" for index, image_id in enumerate(sample.image_ids)],
            colours={label: colours[part_name(label)] for label in dict.fromkeys(labels)},
            text=f"{sample.task}, {place.split}: {sample.pair_id}\nUSER: {question}\nASSISTANT: {answer}",
        )
        return DrawnPair(sample, place.split, _file_name(place, sample), f"{prompt} {answer}", picture_HWC)

    @staticmethod
    def _panel(
        sample: PairSample,
        image_index: int,
        path: Path,
        rles: Mapping[str, Rle],
        colours: Mapping[str, Colour],
    ) -> np.ndarray:
        """Draw one image with its masks; a tag says which [SEG] of the answer a mask belongs to."""
        image_HWC = read_image(path)
        shown = [
            (number, target)
            for number, target in enumerate(sample.targets, start=1)
            if target.image_index == image_index
        ]
        return draw_overlay(
            image_HWC,
            [
                (target.label, _decode(target.part_id or target.object_id, rles, sample))
                for _, target in shown
            ],
            scale=fit_scale(image_HWC.shape[0], image_HWC.shape[1], _PANEL_SIDE_PX),
            colours=colours,
            tags=[f"{number} {part_name(target.label)}" for number, target in shown],
        )

    def _words(self, sample: PairSample, split: str) -> tuple[str, str, str]:
        """Return question, prompt and answer: drawn as in training, or the wording of evaluation."""
        question = opener = 0
        if split == "train":
            question, opener = choose_wording(sample.task, sample.pair_id, self._config.finetune.seed)
        phrases = [Phrase(target.label, target.image_index) for target in sample.targets]
        prompt = render_prompt(sample.task, len(sample.image_ids), question_index=question)
        answer = render_answer(sample.task, phrases, opener_index=opener)
        return QUESTIONS[sample.task][question], prompt, answer

    def _file(self, split: str) -> Path:
        return self._path / "pair" / f"{split}.parquet"

    def _table(self, split: str) -> PairTable:
        if split not in self._tables:
            self._tables[split] = PairTable(rows_path(self._file(split)))
        return self._tables[split]

    def _find(self, pair_id: str, columns: Mapping[str, pa.ChunkedArray]) -> PairPlace:
        for split, column in columns.items():
            row = pc.index(column, pair_id).as_py()
            if row >= 0:
                return PairPlace(split, row)
        counts = ", ".join(f"{split} {len(column)}" for split, column in columns.items())
        raise DataError(
            f"{self._path / 'pair'}: no pair '{pair_id}' (pairs searched: {counts}). Without an id, some "
            "pairs are drawn and their ids are printed."
        )

    def _image_paths(self, image_ids: set[str]) -> dict[str, str]:
        table = _rows(self._path / "unify" / "images.parquet", "image_id", image_ids, ["image_id", "path"])
        return dict(zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True))

    def _image_file(self, image_id: str, paths: Mapping[str, str]) -> Path:
        if image_id not in paths:
            raise DataError(f"image '{image_id}' is in a pair but not in images.parquet. {_ADVICE}")
        if not self._folders.hold(paths[image_id]):
            raise DataError(
                f"image '{image_id}': its file '{paths[image_id]}' is not in {self._folders}. {_ADVICE}"
            )
        return self._path / "sources" / paths[image_id]

    def _rles(self, name: str, key: str, ids: set[str]) -> dict[str, Rle]:
        columns = [key, "height", "width", "rle_counts"]
        rows = _rows(self._path / "unify" / f"{name}.parquet", key, ids, columns).to_pylist()
        return {row[key]: Rle(row["height"], row["width"], row["rle_counts"]) for row in rows}


def _decode(mask_id: str, rles: Mapping[str, Rle], sample: PairSample) -> np.ndarray:
    if mask_id not in rles:
        raise DataError(f"pair '{sample.pair_id}': mask '{mask_id}' is not in the unified tables. {_ADVICE}")
    try:
        return decode(rles[mask_id])
    except DataError as error:
        raise DataError(f"pair '{sample.pair_id}': mask '{mask_id}': {error} {_ADVICE}") from error


def _column(path: Path, name: str) -> pa.ChunkedArray:
    try:
        return pq.ParquetFile(path).read(columns=[name], use_threads=False)[name]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage that writes it.") from error
    except KeyError as error:
        raise DataError(
            f"{path}: no column '{name}'. Another version wrote it; run its stage again."
        ) from error
    except PARQUET_DAMAGE as error:
        raise DataError(
            f"{path}: cannot be read ({one_line(error)}). Delete it, run its stage again."
        ) from error


def _rows(path: Path, key: str, ids: set[str], columns: list[str]) -> pa.Table:
    """Return the rows with the given ids."""
    try:
        return pq.read_table(
            path,
            columns=columns,
            filters=pc.field(key).isin(pa.array(sorted(ids), pa.string())),
            use_threads=False,
        )
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Run the stage 'unify'.") from error
    except PARQUET_DAMAGE as error:
        raise DataError(
            f"{path}: cannot be read ({one_line(error)}). Delete it, run its stage again."
        ) from error


def _file_name(place: PairPlace, sample: PairSample) -> str:
    words = re.sub(r"[^A-Za-z0-9.-]+", "_", sample.pair_id)[:120]
    return f"{place.split}_{place.row}_{words}.png"
