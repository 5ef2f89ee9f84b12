"""Draw the synthetic data sets and write them in the real layouts."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from calico.config import SynthesizeSection
from calico.core.files import sha256_of, write_manifest
from calico.data.synthetic import ade, grand, paco, partimagenet
from calico.data.synthetic.catalogue import ADE20K_PART_234, PACO_LVIS, PARTIMAGENET, SOURCES
from calico.data.synthetic.encoding import ImageRows
from calico.data.synthetic.renderer import render_scene

GRAND = "grand"
SPLITS = ("train", "val", "test")

_WRITE_IMAGE: Mapping[str, Callable[..., ImageRows]] = {
    PARTIMAGENET: partimagenet.write_image,
    PACO_LVIS: paco.write_image,
    ADE20K_PART_234: ade.write_image,
}
_WRITE_ANNOTATIONS: Mapping[str, Callable[[Path, dict[str, list[ImageRows]]], None]] = {
    PARTIMAGENET: partimagenet.write_annotations,
    PACO_LVIS: paco.write_annotations,
    ADE20K_PART_234: ade.write_annotations,
}
_CHUNK = 16


@dataclass(frozen=True)
class _Job:
    """One scene to draw and write; `dataset` is a source or GRAND."""

    dataset: str
    split: str
    index: int


@dataclass(frozen=True)
class _Plan:
    """What all jobs have in common."""

    output_path: Path
    seed: int
    difficulty: float
    image_size_px: int


def scene_generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """Return the generator of one scene, the same on every machine.

    Args:
        seed: the run's seed.
        purpose: what the scene is for; "<source>/<split>" and "grand" are taken by `synthesize`,
            so that scenes of any other purpose are never in the data sets.
        index: number of the scene within its purpose.
    """
    stable_hash = int.from_bytes(hashlib.sha256(purpose.encode("utf-8")).digest()[:8], "big")
    return np.random.default_rng([seed, stable_hash, index])


def synthesize(section: SynthesizeSection, output_path: Path, *, seed: int) -> dict[str, Any]:
    """Draw all data sets and write them, with manifest.json last.

    The same section and seed give the same bytes, whatever the number of workers.

    Args:
        section: how many scenes, how hard, how large. A source without images is left out.
        output_path: folder of the data sets; what an earlier run wrote there is removed first.
        seed: seed of all scenes.

    Returns:
        Counts of images, objects and parts per source and split, and of GranD images.

    Raises:
        DataError: a file cannot be written.
    """
    _remove_earlier_run(output_path)
    plan = _Plan(output_path, seed, section.difficulty, section.image_size_px)
    jobs = [
        _Job(source, split, index)
        for source in SOURCES
        if source in section.num_images
        for split in SPLITS
        for index in range(getattr(section.num_images[source], split))
    ]
    jobs += [_Job(GRAND, GRAND, index) for index in range(section.num_grand_images)]
    rows_by_dataset: dict[str, dict[str, list[ImageRows]]] = {}
    for job, rows in zip(jobs, _run_jobs(plan, jobs, section.num_workers), strict=True):
        if rows is not None:
            splits = rows_by_dataset.setdefault(job.dataset, {split: [] for split in SPLITS})
            splits[job.split].append(rows)
    for source, write_annotations in _WRITE_ANNOTATIONS.items():
        if source in rows_by_dataset:
            write_annotations(output_path / source, rows_by_dataset[source])
    counts = _count(rows_by_dataset)
    if section.num_grand_images:
        counts[GRAND] = {"images": section.num_grand_images}
    write_manifest(
        output_path,
        counts=counts,
        seed=seed,
        difficulty=section.difficulty,
        image_size_px=section.image_size_px,
        content_sha256=_content_sha256(output_path),
        ade20k_part_234_splits={
            split: [row.image["file_name"] for row in rows]
            for split, rows in rows_by_dataset.get(ADE20K_PART_234, {}).items()
        },
    )
    return counts


def _remove_earlier_run(output_path: Path) -> None:
    """Remove the folders and the manifest of an earlier run, and nothing else."""
    (output_path / "manifest.json").unlink(missing_ok=True)
    for dataset in (*SOURCES, GRAND):
        shutil.rmtree(output_path / dataset, ignore_errors=True)


def _run_jobs(plan: _Plan, jobs: list[_Job], num_workers: int) -> list[ImageRows | None]:
    """Run the jobs here or in worker processes; results keep the order of the jobs."""
    if num_workers <= 1:
        return [_run_job(plan, job) for job in jobs]
    # Not fork: a forked child of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(_run_job, plan), jobs, chunksize=_CHUNK))


def _run_job(plan: _Plan, job: _Job) -> ImageRows | None:
    """Draw one scene and write its files; GranD keeps its annotations beside the image."""
    is_grand = job.dataset == GRAND
    purpose = GRAND if is_grand else f"{job.dataset}/{job.split}"
    rng = scene_generator(plan.seed, purpose, job.index)
    scene = render_scene(
        rng,
        source=SOURCES[job.index % len(SOURCES)] if is_grand else job.dataset,
        difficulty=plan.difficulty,
        size_px=plan.image_size_px,
    )
    root = plan.output_path / job.dataset
    if is_grand:
        grand.write_image(root, index=job.index, scene=scene, rng=rng)
        return None
    write_image = _WRITE_IMAGE[job.dataset]
    return write_image(root, split=job.split, index=job.index, scene=scene, rng=rng)


def _count(rows_by_dataset: dict[str, dict[str, list[ImageRows]]]) -> dict[str, Any]:
    """Count images and annotations by data set and split."""
    return {
        dataset: {
            split: {
                "images": len(rows),
                "annotations": sum(len(row.annotations) for row in rows),
            }
            for split, rows in splits.items()
        }
        for dataset, splits in rows_by_dataset.items()
    }


def _content_sha256(folder: Path) -> str:
    """Hash the sorted list of (path, sha256) of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
