"""Show test pairs: true and predicted masks in shared colours, and the generated text."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from calico.config import ReportSection
from calico.core import masks, tables
from calico.core.files import read_parquet
from calico.core.images import read_image
from calico.core.records import Answer, PairSample, PredictedMask
from calico.core.tokens import TASKS
from calico.errors import DataError
from calico.reporting.overlays import Colour, assign_colours, draw_overlay, fit_scale, part_name, side_by_side

TRUTH = "truth"
_TILE_SIDE_PX = 448
_JPEG_QUALITY = 88
_PHRASE = re.compile(r"(<p>\s*)(.*?)(\s*</p>\s*\[SEG\](?:\s*\(IMAGE\d+\))?)", re.DOTALL)

LabelledMasks = list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Span:
    """A run of a generated text.

    Attributes:
        name: what a grounded phrase names, "" for other words.
        is_markup: the tags around a phrase.
    """

    text: str
    name: str = ""
    is_markup: bool = False


@dataclass(frozen=True)
class PairScore:
    """What a model got right on one pair; mIoU in [0, 1]."""

    num_found: int
    num_true: int
    miou: float

    @property
    def share(self) -> float:
        """The share of the true masks that are found and named."""
        return self.num_found / max(1, self.num_true)


@dataclass(frozen=True)
class LegendEntry:
    """One name of a pair: its colour and where it is true and predicted, as 0-based image indices."""

    name: str
    colour: Colour
    true_images: tuple[int, ...]
    predicted_images: tuple[int, ...]

    @property
    def hex_colour(self) -> str:
        """The colour as CSS writes it."""
        return _hex(self.colour)

    @property
    def note(self) -> str:
        """Say in which images the name is true, and what the first model made of it."""
        where = " and ".join(str(index + 1) for index in self.true_images)
        if not self.true_images:
            return "predicted, not true"
        place = f"image{'s' if len(self.true_images) > 1 else ''} {where}"
        missed = set(self.true_images) - set(self.predicted_images)
        extra = set(self.predicted_images) - set(self.true_images)
        remarks = [f"missed in {index + 1}" for index in sorted(missed)]
        remarks += [f"also predicted in {index + 1}" for index in sorted(extra)]
        return "; ".join([place, *remarks])


@dataclass(frozen=True)
class GalleryPair:
    """One pair, drawn.

    Attributes:
        colours: of every name in any of the pictures.
        pictures: JPEG tiles in image order, by "truth" and model.
        answers: what each model wrote.
        scores: what each model got right.
        subject: the categories of the images, e.g. "dog and cat".
    """

    pair_id: str
    task: str
    source: str
    subject: str
    legend: tuple[LegendEntry, ...]
    colours: Mapping[str, Colour]
    pictures: Mapping[str, tuple[bytes, ...]]
    answers: Mapping[str, tuple[Span, ...]]
    scores: Mapping[str, PairScore]

    def hex_colour_of(self, name: str) -> str:
        """Return the colour of a name as CSS writes it, "" if no mask has it."""
        return _hex(self.colours[name]) if name in self.colours else ""

    def text_of(self, model: str) -> str:
        """Return what a model wrote, on one line."""
        return " ".join("".join(span.text for span in self.answers[model]).split())


@dataclass(frozen=True)
class _Inputs:
    """Everything that a pair is drawn from."""

    sources_path: Path
    image_paths: Mapping[str, str]
    true_masks: Mapping[str, masks.Rle]
    predictions: Mapping[str, Mapping[str, Sequence[PredictedMask]]]
    answers: Mapping[str, Mapping[str, Answer]]
    scores: Mapping[tuple[str, str], PairScore]


def build_gallery(section: ReportSection, artifacts_path: Path, models: Sequence[str]) -> list[GalleryPair]:
    """Draw test pairs chosen by the seed, not by their result.

    Args:
        section: how many pairs a task, and the seed.
        artifacts_path: folder of the profile: reads sources, unify, pair, predict and evaluate.
        models: the first one is shown first, and the legend speaks of it.

    Returns:
        Pairs by task in the order of `TASKS`.

    Raises:
        DataError: a table, an image or a pair's instance is missing.
    """
    pairs = tables.read_pairs(artifacts_path / "pair" / "test.parquet")
    inputs = _read_inputs(artifacts_path, models)
    return [_draw_pair(pair, inputs, models) for pair in choose_pairs(pairs, section)]


def choose_pairs(pairs: Iterable[PairSample], section: ReportSection) -> list[PairSample]:
    """Choose `num_gallery_pairs` of each task at random, sources in turn.

    Returns:
        The chosen pairs by task; fewer where a task has fewer.
    """
    chosen: list[PairSample] = []
    by_id = sorted(pairs, key=lambda pair: pair.pair_id)
    for task_index, task in enumerate(TASKS):
        of_task = [pair for pair in by_id if pair.task == task]
        rng = np.random.default_rng([section.seed, task_index])
        shuffled = [of_task[index] for index in rng.permutation(len(of_task))]
        seen: dict[str, int] = {}
        turns = []
        for pair in shuffled:
            turns.append(seen.get(pair.source, 0))
            seen[pair.source] = turns[-1] + 1
        order = sorted(range(len(shuffled)), key=turns.__getitem__)
        chosen += [shuffled[index] for index in order[: section.num_gallery_pairs]]
    return chosen


def build_extremes(
    section: ReportSection, artifacts_path: Path, models: Sequence[str]
) -> dict[str, list[GalleryPair]]:
    """Draw the pairs that the first model did best and worst.

    Returns:
        "best" and "worst": `num_extreme_pairs` of each task in the order of `TASKS`, the most extreme first.

    Raises:
        DataError: see `build_gallery`.
    """
    pairs = tables.read_pairs(artifacts_path / "pair" / "test.parquet")
    inputs = _read_inputs(artifacts_path, models)
    chosen = choose_extremes(
        pairs, {pair.pair_id: inputs.scores[models[0], pair.pair_id] for pair in pairs}, section
    )
    return {end: [_draw_pair(pair, inputs, models) for pair in found] for end, found in chosen.items()}


def choose_extremes(
    pairs: Iterable[PairSample], scores: Mapping[str, PairScore], section: ReportSection
) -> dict[str, list[PairSample]]:
    """Choose the best and the worst pairs of each task: by share of masks found, then by mIoU, then by id.

    A pair is never both: a task with too few pairs for both ends shows fewer of the worst.
    """
    ordered = sorted(
        pairs, key=lambda pair: (-scores[pair.pair_id].share, -scores[pair.pair_id].miou, pair.pair_id)
    )
    best, worst = [], []
    for task in TASKS:
        of_task = [pair for pair in ordered if pair.task == task]
        best += of_task[: section.num_extreme_pairs]
        worst += of_task[section.num_extreme_pairs :][::-1][: section.num_extreme_pairs]
    return {"best": best, "worst": worst}


def split_answer(text: str) -> tuple[Span, ...]:
    """Cut a generated text into plain words, grounded phrases and their tags, losing nothing of it."""
    spans, end = [], 0
    for match in _PHRASE.finditer(text):
        before, phrase, after = match.groups()
        spans += [
            Span(text[end : match.start()]),
            Span(before, is_markup=True),
            Span(phrase, part_name(_without_article(phrase))),
            Span(after, is_markup=True),
        ]
        end = match.end()
    return tuple(span for span in [*spans, Span(text[end:])] if span.text)


def draw_sheet(pair: GalleryPair, models: Sequence[str], titles: Mapping[str, str]) -> bytes:
    """Draw all pictures of a pair on one JPEG: a row a model, then the truth, with legend and text."""
    rows = [*models, TRUTH]
    panels = [_decode(picture) for row in rows for picture in pair.pictures[row]]
    num_columns = len(pair.pictures[TRUTH])
    captions = [f"{titles[row]}, image {index + 1}" for row in rows for index in range(num_columns)]
    sheet = side_by_side(
        panels,
        titles=captions,
        colours={entry.name: entry.colour for entry in pair.legend},
        text=f"{titles[models[0]]}: {pair.text_of(models[0])}",
        num_columns=num_columns,
    )
    return _encode(sheet)


def _read_inputs(artifacts_path: Path, models: Sequence[str]) -> _Inputs:
    unify_path = artifacts_path / "unify"
    true_masks = {part.part_id: part.rle for part in tables.read_parts(unify_path / "parts.parquet")}
    true_masks |= {
        thing.object_id: thing.rle for thing in tables.read_objects(unify_path / "objects.parquet")
    }
    predictions: dict[str, dict[str, list[PredictedMask]]] = {model: {} for model in models}
    answers = {}
    for model in models:
        folder = artifacts_path / "predict" / model
        for prediction in tables.read_predictions(folder / "predictions.parquet"):
            predictions[model].setdefault(prediction.pair_id, []).append(prediction)
        answers[model] = {
            answer.pair_id: answer for answer in tables.read_answers(folder / "answers.parquet")
        }
    return _Inputs(
        sources_path=artifacts_path / "sources",
        image_paths={
            image.image_id: image.path for image in tables.read_images(unify_path / "images.parquet")
        },
        true_masks=true_masks,
        predictions=predictions,
        answers=answers,
        scores={
            (row["model"], row["pair_id"]): PairScore(
                num_found=round(row["Recall"]["total"]),
                num_true=row["Recall"]["number"],
                miou=row["mIoU"]["total"] / max(1, row["mIoU"]["number"]),
            )
            for row in read_parquet(artifacts_path / "evaluate" / "per_pair.parquet")
        },
    )


def _draw_pair(pair: PairSample, inputs: _Inputs, models: Sequence[str]) -> GalleryPair:
    num_images = len(pair.image_ids)
    labelled: dict[str, list[LabelledMasks]] = {TRUTH: _true_masks(pair, inputs)}
    for model in models:
        predicted = inputs.predictions[model].get(pair.pair_id, [])
        labelled[model] = [
            [(mask.label, masks.decode(mask.rle)) for mask in predicted if mask.image_index == index]
            for index in range(num_images)
        ]
    colours = assign_colours(label for rows in labelled.values() for row in rows for label, _ in row)
    images = [read_image(inputs.sources_path / inputs.image_paths[image_id]) for image_id in pair.image_ids]
    pictures = {
        row: tuple(
            _draw_tile(image, tile_masks, colours) for image, tile_masks in zip(images, tiles, strict=True)
        )
        for row, tiles in labelled.items()
    }
    return GalleryPair(
        pair_id=pair.pair_id,
        task=pair.task,
        source=pair.source,
        subject=_subject(pair),
        legend=_legend(colours, labelled[TRUTH], labelled[models[0]]),
        colours=colours,
        pictures=pictures,
        answers={model: split_answer(_answer(inputs, model, pair.pair_id)) for model in models},
        scores={model: inputs.scores[model, pair.pair_id] for model in models},
    )


def _draw_tile(image_HWC: np.ndarray, labelled: LabelledMasks, colours: Mapping[str, Colour]) -> bytes:
    height, width = image_HWC.shape[:2]
    scale = fit_scale(height, width, _TILE_SIDE_PX)
    return _encode(draw_overlay(image_HWC, labelled, scale=scale, colours=colours))


def _true_masks(pair: PairSample, inputs: _Inputs) -> list[LabelledMasks]:
    rows: list[LabelledMasks] = [[] for _ in pair.image_ids]
    for target in pair.targets:
        instance_id = target.part_id or target.object_id
        if instance_id not in inputs.true_masks:
            raise DataError(
                f"pair '{pair.pair_id}': instance '{instance_id}' is not in the unified tables. "
                "The pairs were made from other tables; run the pair stage again."
            )
        rows[target.image_index].append((target.label, masks.decode(inputs.true_masks[instance_id])))
    return rows


def _answer(inputs: _Inputs, model: str, pair_id: str) -> str:
    if pair_id not in inputs.answers[model]:
        raise DataError(f"pair '{pair_id}': no answer of {model}. Run its predict stage again.")
    return inputs.answers[model][pair_id].text


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _legend(
    colours: Mapping[str, Colour], true_rows: list[LabelledMasks], predicted_rows: list[LabelledMasks]
) -> tuple[LegendEntry, ...]:
    """Return the names that are true or predicted by the first model, true ones first."""
    entries = [
        LegendEntry(name, colour, _images_with(name, true_rows), _images_with(name, predicted_rows))
        for name, colour in colours.items()
    ]
    shown = [entry for entry in entries if entry.true_images or entry.predicted_images]
    return tuple(sorted(shown, key=lambda entry: (not entry.true_images, entry.true_images, entry.name)))


def _images_with(name: str, rows: list[LabelledMasks]) -> tuple[int, ...]:
    return tuple(index for index, row in enumerate(rows) if any(part_name(label) == name for label, _ in row))


def _subject(pair: PairSample) -> str:
    """Name the categories, e.g. "dog and cat", or "two dogs" as "dog and dog"."""
    categories: list[list[str]] = [[] for _ in pair.image_ids]
    for target in pair.targets:
        category = target.label.partition("'s ")[0]
        if category not in categories[target.image_index]:
            categories[target.image_index].append(category)
    return " and ".join(", ".join(names) for names in categories if names)


def _without_article(phrase: str) -> str:
    return re.sub(r"^\s*(?:the|an?)\s+", "", phrase.strip(), flags=re.IGNORECASE)


def _encode(picture_HWC: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _decode(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)))
