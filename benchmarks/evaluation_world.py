"""Drawn truth and predictions as many as in the paper's test: 1,000 pairs, 2,000 images, 12,000 masks."""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from calico.core import tables
from calico.core.masks import Rle
from calico.core.records import ImageRecord, ObjectInstance, PairSample, PartInstance, PredictedMask, Target
from calico.core.tokens import TASKS
from calico.evaluation.external import write_coco_truth

NUM_PAIRS, MASKS_PER_IMAGE = 1000, 3
HEIGHT, WIDTH = 480, 640
_NUM_CORNERS = 120
_ANIMALS = ("dog", "cat", "horse", "cow", "bear", "bird", "boat", "car", "bus", "chair")
_PARTS = ("head", "tail", "leg", "body", "neck", "wheel", "seat", "back")


def write_world(folder: Path, *, seed: int) -> None:
    """Write pair/test.parquet, unify/, predictions.parquet, truth.json and results.json (COCO)."""
    rng = np.random.default_rng(seed)
    images, objects, parts, pairs, predictions = [], [], [], [], []
    for number in range(NUM_PAIRS):
        pair_id, task = f"pair/{number:04d}", TASKS[number % len(TASKS)]
        image_ids = (f"image/{2 * number:05d}", f"image/{2 * number + 1:05d}")
        targets = []
        for image_index, image_id in enumerate(image_ids):
            images.append(ImageRecord(image_id, "drawn", f"{image_id}.png", HEIGHT, WIDTH, "test"))
            for row in range(MASKS_PER_IMAGE):
                animal, part = str(rng.choice(_ANIMALS)), str(rng.choice(_PARTS))
                object_id, label = f"{image_id}#{row}", f"{animal}'s {part}"
                star = _Star(rng)
                objects.append(ObjectInstance(object_id, image_id, animal, star.draw()))
                parts.append(PartInstance(f"{object_id}/0", object_id, image_id, part, star.draw()))
                targets.append(Target(image_index, label, object_id, f"{object_id}/0"))
                said = label if rng.random() < 0.7 else f"{rng.choice(_ANIMALS)}'s {rng.choice(_PARTS)}"
                score = float(rng.random())
                near = star.draw(shift=rng.normal(0, 18, size=2), scale=rng.uniform(0.7, 1.2))
                predictions.append(PredictedMask(pair_id, task, image_index, said, near, score))
        pairs.append(PairSample(pair_id, task, "drawn", image_ids, tuple(targets)))
    tables.write_images(folder / "unify" / "images.parquet", images)
    tables.write_objects(folder / "unify" / "objects.parquet", objects)
    tables.write_parts(folder / "unify" / "parts.parquet", parts)
    tables.write_pairs(folder / "pair" / "test.parquet", pairs)
    tables.write_predictions(folder / "predictions.parquet", predictions)
    write_coco_truth(
        folder / "truth.json", pairs_path=folder / "pair" / "test.parquet", truth_path=folder / "unify"
    )
    _write_results(folder, predictions)


class _Star:
    """A jagged closed outline, whose run lengths are as long as those of a hand-drawn mask."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._centre = rng.uniform((120, 100), (WIDTH - 120, HEIGHT - 100))
        self._radii = rng.uniform(40, 90) * rng.uniform(0.6, 1.0, size=_NUM_CORNERS)

    def draw(self, shift: np.ndarray | None = None, scale: float = 1.0) -> Rle:
        """Rasterise the outline, moved and scaled."""
        angles = np.linspace(0, 2 * np.pi, _NUM_CORNERS, endpoint=False)
        corners = scale * self._radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        corners = corners + self._centre + (0 if shift is None else shift)
        (coded,) = coco_mask.frPyObjects([corners.ravel().tolist()], HEIGHT, WIDTH)
        return Rle(HEIGHT, WIDTH, bytes(coded["counts"]))


def _write_results(folder: Path, predictions: list[PredictedMask]) -> None:
    """Write the predictions as COCO results."""
    truth = json.loads((folder / "truth.json").read_text())
    image_of = {(image["pair_id"], image["image_index"]): image["id"] for image in truth["images"]}
    category_of = {category["name"]: category["id"] for category in truth["categories"]}
    results = [
        {
            "image_id": image_of[mask.pair_id, mask.image_index],
            "category_id": category_of[mask.label],
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": mask.rle.counts.decode("ascii")},
            "score": mask.score,
        }
        for mask in predictions
    ]
    (folder / "results.json").write_text(json.dumps(results))
