"""The pairs as a COCO data set, and COCO results as predictions: how other people's code takes part.

Every image of every pair is an image of its own, numbered from 1 in order of pair and position; every
distinct normalised label is a category, numbered from 1 in alphabetical order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from pycocotools import mask as coco_mask

from calico.core.masks import Rle, box_xyxy
from calico.core.records import PairSample, PredictedMask
from calico.errors import DataError
from calico.evaluation.cases import Truth, look_up, normalise_label

_DAMAGED_COUNTS = b""  # run lengths of no pixels: they fit no mask, so they are counted as damaged


def truth_as_coco(pairs: Sequence[PairSample], truth: Truth) -> dict[str, Any]:
    """Return the true masks of the pairs as the content of a COCO annotation file."""
    categories = {label: number for number, label in _categories(pairs).items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (pair, image_index) in _images(pairs).items():
        image = look_up(truth.images, pair.image_ids[image_index], "image")
        images.append(
            {"id": number, "height": image.height, "width": image.width, "file_name": image.path}
            | {"pair_id": pair.pair_id, "task": pair.task, "image_index": image_index}
        )
        for target in pair.targets:
            if target.image_index == image_index:
                annotation = _annotation(truth.mask_of(target), number)
                annotation["id"] = len(annotations) + 1  # COCOeval takes an id of 0 for "unmatched"
                annotation["category_id"] = categories[normalise_label(target.label)]
                annotations.append(annotation)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }


def predictions_from_coco(entries: Any, pairs: Sequence[PairSample], *, name: str) -> list[PredictedMask]:
    """Read the content of a COCO results file; instead of `category_id` an entry may hold a free `label`.

    A damaged mask or a score outside [0, 1] passes here: it is left out and counted where predictions are
    compared with the truth.

    Args:
        entries: as JSON gives it; not trusted.
        name: of the file, for messages.

    Raises:
        DataError: it is no list of results of these pairs; names the entry.
    """
    if not isinstance(entries, list):
        raise DataError(
            f"{name}: holds a JSON {type(entries).__name__}; COCO results are a list of "
            '{"image_id", "category_id" or "label", "segmentation", "score"}.'
        )
    images, categories = _images(pairs), _categories(pairs)
    return [
        _prediction(entry, images, categories, place=f"{name}: result {row} of {len(entries)}")
        for row, entry in enumerate(entries, start=1)
    ]


def _images(pairs: Sequence[PairSample]) -> dict[int, tuple[PairSample, int]]:
    ordered = sorted(pairs, key=lambda pair: pair.pair_id)
    units = [(pair, image_index) for pair in ordered for image_index in range(len(pair.image_ids))]
    return dict(enumerate(units, start=1))


def _categories(pairs: Sequence[PairSample]) -> dict[int, str]:
    labels = {normalise_label(target.label) for pair in pairs for target in pair.targets}
    return dict(enumerate(sorted(labels), start=1))


def _annotation(mask: Rle, image_number: int) -> dict[str, Any]:
    left, top, right, bottom = box_xyxy(mask)
    return {
        "image_id": image_number,
        "iscrowd": 0,
        "segmentation": {"size": [mask.height, mask.width], "counts": mask.counts.decode("ascii")},
        "area": mask.area_px,
        "bbox": [left, top, right - left, bottom - top],
    }


def _prediction(
    entry: Any, images: Mapping[int, tuple[PairSample, int]], categories: Mapping[int, str], *, place: str
) -> PredictedMask:
    if not isinstance(entry, dict):
        raise DataError(f"{place}: is a JSON {type(entry).__name__}, not an object with image_id and others.")
    pair, image_index = _known(entry, "image_id", images, place)
    if isinstance(entry.get("label"), str):
        label = entry["label"]
    else:
        label = _known(entry, "category_id", categories, place)
    score = entry.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool):
        raise DataError(f"{place}: score is {score!r:.60}, expected a number between 0 and 1.")
    rle = _rle(entry.get("segmentation"), place)
    return PredictedMask(pair.pair_id, pair.task, image_index, label, rle, _as_float(score))


def _known(entry: Mapping[str, Any], key: str, table: Mapping[int, Any], place: str) -> Any:
    number = entry.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or number not in table:
        raise DataError(
            f"{place}: {key} is {number!r:.60}, expected 1 to {len(table)}. The numbers are those of the "
            "annotation file that `calico evaluate --coco-truth` writes for these pairs."
        )
    return table[number]


def _rle(segmentation: Any, place: str) -> Rle:
    fields = segmentation if isinstance(segmentation, dict) else {}
    size, counts = fields.get("size"), fields.get("counts")
    if not _is_size(size) or not isinstance(counts, str | list):
        raise DataError(
            f'{place}: segmentation is {segmentation!r:.60}, expected {{"size": [height, width], "counts": '
            "...}} with COCO's run lengths as text or as a list."
        )
    height, width = size
    if isinstance(counts, str):
        return Rle(height, width, counts.encode("utf-8", "surrogatepass"))
    return _compressed(height, width, counts)


def _is_size(size: Any) -> TypeGuard[list[int]]:
    return isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)


def _compressed(height: int, width: int, counts: list[Any]) -> Rle:
    """Compress a list of run lengths; pycocotools sees it only if the runs fill the mask."""
    is_whole = all(type(run) is int and run >= 0 for run in counts) and sum(counts) == height * width
    if not is_whole or height <= 0 or width <= 0:
        return Rle(height, width, _DAMAGED_COUNTS)
    coded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(height, width, bytes(coded["counts"]))


def _as_float(number: int | float) -> float:
    """Return the number as a float; one beyond any float is no score either way."""
    try:
        return float(number)
    except OverflowError:
        return float("nan")
