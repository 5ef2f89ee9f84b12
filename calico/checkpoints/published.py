"""The published checkpoints of the paper profile (C.1): verified and brought into the layout of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from calico.checkpoints import (
    clip_l_336,
    dinov2_g,
    eva_clip_g,
    glamm_grand,
    instructblip_vicuna_7b,
    lisa_7b,
    sam_vit_h,
)
from calico.checkpoints.layout import component_path, tokenizer_path
from calico.checkpoints.llama_tokenizer import read_llama_tokenizer
from calico.checkpoints.loader import check_digest, write_tensors
from calico.checkpoints.shapes import component_shapes
from calico.checkpoints.source import Source, Taken, take
from calico.checkpoints.weight_files import read_weights, weight_files
from calico.config import ModelSection
from calico.core.files import sha256_of
from calico.errors import CheckpointError
from calico.language_models.tokenizer import save_tokenizer

SOURCES: tuple[Source, ...] = (
    sam_vit_h.SOURCE,
    eva_clip_g.SOURCE,
    instructblip_vicuna_7b.SOURCE,
    dinov2_g.SOURCE,
    clip_l_336.SOURCE,
    glamm_grand.SOURCE,
    lisa_7b.SOURCE,
)


def install_published(
    folder: Path, output_path: Path, section: ModelSection, *, sources: tuple[Source, ...] = SOURCES
) -> dict[str, Any]:
    """Convert the published files to one safetensors file per component, in the precision of publication.

    Args:
        folder: where the published files lie, each at its `Source.place`.
        output_path: folder of the run's checkpoints.
        section: dimensions that the files must have.
        sources: what to convert.

    Returns:
        The load report: for each component where its tensors come from, how many were loaded, how many of the
        file were not needed, and the sha256 of what was read.

    Raises:
        CheckpointError: files are missing (all are named at once), a file is damaged or another one, or its
            tensors are not exactly those that the key map and the params say.
    """
    folder = Path(folder)
    absent = [source for source in sources if not (folder / source.place).exists()]
    if absent:
        listed = "; ".join(f"{source.place} ({source.url})" for source in absent)
        raise CheckpointError(
            f"{folder}: {len(absent)} of {len(sources)} published checkpoints are missing: {listed}. Put "
            "them there, a repository as a folder of its files, or run the tiny profile, which has stand-ins."
        )
    report: dict[str, Any] = {}
    unfinished: dict[str, dict[str, Tensor]] = {}
    for source in sources:
        _install(source, folder / source.place, Path(output_path), section, unfinished, report)
    return report


def _install(
    source: Source,
    place: Path,
    output_path: Path,
    section: ModelSection,
    unfinished: dict[str, dict[str, Tensor]],
    report: dict[str, Any],
) -> None:
    """Convert one checkpoint; a component that another one completes waits in `unfinished`."""
    files = weight_files(place)
    facts = _verify(source, files)
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_weights(path, root=source.root)
    tokenizer = read_llama_tokenizer(place) if source.has_tokenizer else None
    vocabulary_size = 1 if tokenizer is None else len(tokenizer)
    shapes = {
        component: component_shapes(section, component, vocabulary_size=vocabulary_size)
        for component in source.holds
    }
    taken = take(source, tensors, section, shapes, path=place)
    target = output_path / source.folder
    for component, given in taken.components.items():
        name = f"{source.folder}/{component}" if source.folder else component
        whole = {**unfinished.pop(name, {}), **given}
        report.setdefault(name, []).append(_loaded(source, given, taken, facts))
        if len(whole) < len(shapes[component]):
            unfinished[name] = whole
        else:
            write_tensors(component_path(target, component), whole)
    if tokenizer is not None:
        _install_tokenizer(tokenizer, target, source, report)


def _verify(source: Source, files: list[Path]) -> dict[str, str]:
    """Return the sha256 of each file; the one of a source that states it is compared."""
    if source.sha256 is not None:
        (path,) = files
        size = path.stat().st_size
        if source.num_bytes is not None and size != source.num_bytes:
            raise CheckpointError(
                f"{path}: has {size} bytes, {source.title} has {source.num_bytes}. The file is incomplete or "
                f"another one; get it from {source.url}."
            )
        check_digest(path, source.sha256)
        return {path.name: source.sha256}
    return {path.name: sha256_of(path) for path in files}


def _loaded(
    source: Source, given: Mapping[str, Tensor], taken: Taken, facts: dict[str, str]
) -> dict[str, Any]:
    return {
        "source": source.title,
        "url": source.url,
        "sha256": facts,
        "loaded": len(given),
        "parameters": sum(tensor.numel() for tensor in given.values()),
        "missing": 0,
        "unexpected": 0,
        "not_needed_in_file": taken.num_unneeded,
        "tensors_in_file": taken.num_tensors,
    }


def _install_tokenizer(
    tokenizer: PreTrainedTokenizerFast, target: Path, source: Source, report: dict[str, Any]
) -> None:
    save_tokenizer(tokenizer, tokenizer_path(target))
    name = f"{source.folder}/tokenizer" if source.folder else "tokenizer"
    report[name] = [{"source": source.title, "url": source.url, "tokens": len(tokenizer)}]
