"""The scenes that the stand-ins learn from, rendered once and kept as arrays on disk.

They come from a random stream of their own, so no image of any split of the pipeline is among them.
"""

import functools
import multiprocessing
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calico.core.files import atomic_path, read_json, write_json
from calico.data.synthetic.catalogue import CATALOGUE, SOURCES
from calico.data.synthetic.renderer import Scene, render_scene

LABEL_SIDE_PX = 64
MAX_OBJECTS = 3
BACKGROUND = 0
NO_PART = 255  # a pixel of an object, but of none of its parts
_CHUNK = 100


@dataclass(frozen=True)
class SceneSpec:
    """What decides every pixel of a pool of scenes.

    `purpose` separates pools: equal seeds with different purposes never give equal scenes.
    """

    purpose: str
    seed: int
    num_scenes: int
    difficulty: float
    size_px: int


@dataclass(frozen=True)
class ScenePool:
    """Scenes as memory-mapped arrays; S scenes, T = LABEL_SIDE_PX.

    Attributes:
        images_SHWC: uint8 RGB.
        parts_STT: index of the part class (BACKGROUND, 1 + index into `part_classes()`, or NO_PART).
        objects_STT: 0, or 1 + number of the object in its scene.
        categories_SO: 1 + index into `object_categories()` of each object, 0 where a scene has fewer.
    """

    images_SHWC: np.ndarray
    parts_STT: np.ndarray
    objects_STT: np.ndarray
    categories_SO: np.ndarray

    def __len__(self) -> int:
        return len(self.images_SHWC)

    def head(self, num_scenes: int) -> "ScenePool":
        """Return the first scenes of the pool."""
        arrays = (self.images_SHWC, self.parts_STT, self.objects_STT, self.categories_SO)
        return ScenePool(*(array[:num_scenes] for array in arrays))


@functools.cache
def object_categories() -> tuple[str, ...]:
    """Return every object category of all sources, sorted."""
    return tuple(sorted({category for source in SOURCES for category in CATALOGUE[source]}))


@functools.cache
def part_classes() -> tuple[tuple[str, str], ...]:
    """Return every (category, part) of all sources, sorted."""
    return tuple(
        sorted(
            {
                (category, part.name)
                for source in SOURCES
                for category, parts in CATALOGUE[source].items()
                for part in parts
            }
        )
    )


def load_pool(folder: Path, spec: SceneSpec, *, num_workers: int) -> ScenePool:
    """Map the pool of `spec` from `folder`, rendering it first if it is not there yet.

    Args:
        folder: where pools are kept; each spec has a subfolder.
        spec: which scenes.
        num_workers: processes that render; their number does not change the scenes.
    """
    place = Path(folder) / f"{spec.purpose}-{spec.seed}-{spec.num_scenes}-{spec.difficulty}-{spec.size_px}"
    names = ("images", "parts", "objects", "categories")
    if not (place / "done.json").is_file():
        for name, array in zip(names, _render_all(spec, num_workers), strict=True):
            with atomic_path(place / f"{name}.npy") as path, open(path, "wb") as stream:
                np.save(stream, array)
        write_json(place / "done.json", {"num_scenes": spec.num_scenes})
    read_json(place / "done.json")
    return ScenePool(*(np.load(place / f"{name}.npy", mmap_mode="r") for name in names))


def scene_rng(spec: SceneSpec, index: int) -> np.random.Generator:
    """Return the generator of scene `index`."""
    return np.random.default_rng([spec.seed, zlib.crc32(spec.purpose.encode()), index])


def label_maps(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a scene's part map, object map (T, T) and its categories (MAX_OBJECTS,), all uint8."""
    size_px = scene.image_HWC.shape[0]
    parts_HW = np.zeros((size_px, size_px), dtype=np.uint8)
    objects_HW = np.zeros_like(parts_HW)
    categories_O = np.zeros(MAX_OBJECTS, dtype=np.uint8)
    for number, scene_object in enumerate(scene.objects):
        categories_O[number] = 1 + object_categories().index(scene_object.category)
        objects_HW[scene_object.mask_HW] = number + 1
        parts_HW[scene_object.mask_HW] = NO_PART
        for part in scene_object.parts:
            parts_HW[part.mask_HW] = 1 + part_classes().index((scene_object.category, part.name))
    joint_HW = parts_HW.astype(np.uint16) * (MAX_OBJECTS + 1) + objects_HW
    joint_TT = _shrink(joint_HW, size_px // LABEL_SIDE_PX)
    return (
        (joint_TT // (MAX_OBJECTS + 1)).astype(np.uint8),
        (joint_TT % (MAX_OBJECTS + 1)).astype(np.uint8),
        categories_O,
    )


def _shrink(labels_HW: np.ndarray, factor: int) -> np.ndarray:
    """Keep each block's most frequent label (the smallest one where labels tie)."""
    side = labels_HW.shape[0] // factor
    blocks = labels_HW.reshape(side, factor, side, factor).swapaxes(1, 2).reshape(side, side, factor**2)
    blocks = np.sort(blocks, axis=-1)
    counts = (blocks[..., :, None] == blocks[..., None, :]).sum(axis=-1)
    return np.take_along_axis(blocks, counts.argmax(axis=-1)[..., None], axis=-1)[..., 0]


def _render_all(spec: SceneSpec, num_workers: int) -> list[np.ndarray]:
    starts = range(0, spec.num_scenes, _CHUNK)
    with multiprocessing.get_context("spawn").Pool(num_workers) as workers:
        chunks = workers.starmap(_render_chunk, [(spec, start) for start in starts], chunksize=1)
    return [np.concatenate(arrays) for arrays in zip(*chunks, strict=True)]


def _render_chunk(spec: SceneSpec, start: int) -> list[np.ndarray]:
    rows = []
    for index in range(start, min(start + _CHUNK, spec.num_scenes)):
        scene = render_scene(
            scene_rng(spec, index),
            source=SOURCES[index % len(SOURCES)],
            difficulty=spec.difficulty,
            size_px=spec.size_px,
        )
        rows.append((scene.image_HWC, *label_maps(scene)))
    return [np.stack(column) for column in zip(*rows, strict=True)]
