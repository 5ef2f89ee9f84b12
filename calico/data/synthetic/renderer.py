"""Render one synthetic scene: an image and the visible masks of its objects and parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calico.data.synthetic.canvas import (
    draw_blob,
    draw_strokes,
    finish_image,
    start_canvas,
)
from calico.data.synthetic.catalogue import (
    ADE20K_PART_234,
    CATALOGUE,
    PACO_LVIS,
    PARTIMAGENET,
)
from calico.data.synthetic.shapes import SHAPES
from calico.data.synthetic.sketch import Sketch, Stroke
from calico.errors import ConfigError

# Objects an image: probability of one, two, three.
_NUM_OBJECTS = {
    PARTIMAGENET: (1.0, 0.0, 0.0),
    PACO_LVIS: (0.5, 0.35, 0.15),
    ADE20K_PART_234: (0.5, 0.5, 0.0),
}
_MIN_PART_AREA_128 = 24
_MIN_OBJECT_AREA_128 = 120
_MAX_ATTEMPTS = 20


@dataclass(frozen=True)
class ScenePart:
    """A visible part: its name and its (H, W) boolean mask."""

    name: str
    mask_HW: np.ndarray


@dataclass(frozen=True)
class SceneObject:
    """A visible object: category, (H, W) boolean mask, and its parts (sorted by name).

    The parts are disjoint and lie inside the object. The object may own pixels of no part.
    """

    category: str
    mask_HW: np.ndarray
    parts: tuple[ScenePart, ...]


@dataclass(frozen=True)
class Scene:
    """An RGB image (H, W, 3) and its objects, which are disjoint and in painter's order."""

    source: str
    image_HWC: np.ndarray
    objects: tuple[SceneObject, ...]


def render_scene(
    rng: np.random.Generator,
    *,
    source: str,
    difficulty: float,
    size_px: int = 128,
    categories: Sequence[str] | None = None,
) -> Scene:
    """Render a scene of one data set.

    Args:
        rng: source of every choice; the same state gives the same scene.
        source: a key of CATALOGUE. PartImageNet scenes hold one object, PACO 1-3, ADE20K 1-2.
        difficulty: 0 (plain) to 1 (clutter, noise, rotation, occlusion, small objects).
        size_px: side of the square image.
        categories: categories to choose from (without repetition); all of the source if None.

    Returns:
        A scene with at least one object, each with at least one part.

    Raises:
        ConfigError: a source, category or difficulty that does not exist, or too small a size.
    """
    choices = _checked_choices(source, difficulty, categories)
    for _ in range(_MAX_ATTEMPTS):
        num_objects = 1 + int(rng.choice(3, p=_NUM_OBJECTS[source]))
        picked = rng.permutation(len(choices))[: min(num_objects, len(choices))]
        scene = _render_once(rng, source, [choices[i] for i in picked], difficulty, size_px)
        if scene.objects:
            return scene
    raise ConfigError(
        f"render_scene: no visible object of {source!r} in {_MAX_ATTEMPTS} attempts at "
        f"{size_px} px and difficulty {difficulty}. Use a larger size_px."
    )


def _checked_choices(source: str, difficulty: float, categories: Sequence[str] | None) -> tuple[str, ...]:
    """Return the categories to choose from, or say which argument is wrong."""
    if source not in CATALOGUE:
        raise ConfigError(f"source {source!r} is not one of {sorted(CATALOGUE)}")
    if not 0.0 <= difficulty <= 1.0:
        raise ConfigError(f"difficulty {difficulty} is not in [0, 1]")
    choices = tuple(CATALOGUE[source] if categories is None else categories)
    unknown = [name for name in choices if name not in CATALOGUE[source]]
    if unknown or not choices:
        raise ConfigError(
            f"categories {unknown or choices} of {source!r} are not a choice of {sorted(CATALOGUE[source])}"
        )
    return choices


def _render_once(
    rng: np.random.Generator, source: str, picked: list[str], difficulty: float, size_px: int
) -> Scene:
    """Draw background, distractors, objects and occluders once."""
    canvas = start_canvas(rng, difficulty, size_px)
    for _ in range(int(rng.integers(0, 2 + round(4 * difficulty)))):
        draw_blob(canvas, float(rng.uniform(0.06, 0.3)))
    regions: list[dict[str | None, int]] = []
    poses = _choose_poses(rng, len(picked), difficulty)
    next_region = 1
    for category, pose in zip(picked, poses, strict=True):
        strokes = _sketch_object(rng, source, category, difficulty)
        names = [None, *sorted({stroke.part for stroke in strokes if stroke.part is not None})]
        numbers = {name: next_region + i for i, name in enumerate(names)}
        next_region += len(names)
        draw_strokes(canvas, strokes, numbers, pose)
        regions.append(numbers)
    if rng.random() < difficulty:
        for _ in range(int(rng.integers(1, 2 + round(2 * difficulty)))):
            draw_blob(canvas, float(rng.uniform(0.07, 0.1 + 0.15 * difficulty)))
    regions_HW = np.asarray(canvas.regions)
    image_HWC = finish_image(canvas, regions_HW, next_region, difficulty)
    objects = tuple(
        scene_object
        for category, numbers in zip(picked, regions, strict=True)
        if (scene_object := _read_object(regions_HW, category, numbers)) is not None
    )
    return Scene(source=source, image_HWC=image_HWC, objects=objects)


def _choose_poses(
    rng: np.random.Generator, num_objects: int, difficulty: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Choose a (2, 2) matrix and an offset for each object; the frame spans [-1, 1]."""
    low, high = {1: (0.80, 0.95), 2: (0.49, 0.58), 3: (0.40, 0.46)}[num_objects]
    low *= 1.0 - 0.33 * difficulty
    scales = rng.uniform(low, high, num_objects)
    if num_objects == 1:
        slack = 1.0 - scales[0]
        centers = rng.uniform(-slack, slack, (1, 2))
    elif num_objects == 2:
        centers = np.array([[-0.46, 0.0], [0.46, 0.0]]) + rng.uniform(-0.05, 0.05, (2, 2))
        centers[:, 1] += rng.uniform(-0.36, 0.36, 2)
    else:
        centers = np.array([[-0.5, -0.48], [0.5, -0.48], [0.0, 0.5]])
        centers += rng.uniform(-0.06, 0.06, (3, 2))
        centers[:, 1] *= rng.choice((-1.0, 1.0))
    if num_objects == 2 and rng.random() < 0.5:
        centers = centers[:, ::-1]
    poses = []
    for scale, center in zip(scales, centers, strict=True):
        angle = rng.uniform(-1.0, 1.0) * (0.08 + 0.24 * difficulty)
        flip = rng.choice((-1.0, 1.0))
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        stretch = rng.uniform(0.94, 1.06)
        matrix = np.array([[cos * flip * stretch, -sin], [sin * flip * stretch, cos]])
        poses.append((matrix, center))
    return poses


def _sketch_object(rng: np.random.Generator, source: str, category: str, difficulty: float) -> list[Stroke]:
    """Decide which parts show, and draw them in the object's own frame."""
    shown = frozenset(spec.name for spec in CATALOGUE[source][category] if rng.random() < spec.probability)
    sketch = Sketch(rng, shown, jitter=0.8 + 0.7 * difficulty)
    SHAPES[source][category](sketch)
    return sketch.strokes


def _read_object(regions_HW: np.ndarray, category: str, numbers: dict[str | None, int]) -> SceneObject | None:
    """Cut an object's masks from the regions; None if too little of it is visible."""
    area_scale = regions_HW.size / (128 * 128)
    first = numbers[None]
    mask_HW = (regions_HW >= first) & (regions_HW < first + len(numbers))
    if mask_HW.sum() < _MIN_OBJECT_AREA_128 * area_scale:
        return None
    parts = []
    for name, number in numbers.items():
        part_HW = regions_HW == number
        if name is not None and part_HW.sum() >= _MIN_PART_AREA_128 * area_scale:
            parts.append(ScenePart(name, part_HW))
    return SceneObject(category, mask_HW, tuple(parts)) if parts else None
