"""Hand a finetuned model on: what was trained over pretrained parts that it names, or all of it merged.

config.json               which model, its dimensions, how to run and ask it
tokenizer.json
adapter.safetensors       not merged: LoRA, mask decoder, CEM, CAMs, and what the alignment trained
<component>.safetensors   merged: every box, LoRA added into the language model's weights
manifest.json             digests of these files; not merged: of the pretrained parts that must be there too
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from calico.assembly import ALIGNED, Assembly, check_digests, open_base
from calico.checkpoints.layout import component_path, tokenizer_path
from calico.checkpoints.loader import load_pretrained, load_trained, plain_state, save_trained, write_tensors
from calico.config import ModelSection, PredictSection, RuntimeSection, Section, VariantName
from calico.core.files import read_json, verify_manifest, write_json, write_manifest
from calico.core.tokens import SEG
from calico.errors import CheckpointError
from calico.language_models.tokenizer import load_tokenizer, save_tokenizer
from calico.models.lora import merged_weights
from calico.models.model import SegmentingModel, build_model
from calico.models.trainable import set_trainable

CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter.safetensors"
_FORMAT = 1


class SavedConfig(Section):
    """config.json of a saved model.

    Attributes:
        format: version of this layout.
        merged: whether every weight is in the folder.
    """

    format: int
    variant: VariantName
    merged: bool
    model: ModelSection
    predict: PredictSection
    runtime: RuntimeSection


@dataclass(frozen=True)
class Saved:
    """A saved model, opened."""

    assembly: Assembly
    config: SavedConfig


def save_model(
    assembly: Assembly,
    variant: VariantName,
    folder: Path,
    *,
    model: ModelSection,
    predict: PredictSection,
    runtime: RuntimeSection,
    merged: bool = False,
) -> None:
    """Write a finetuned model to a folder of its own.

    Args:
        assembly: the model; not changed.
        variant: which model it is.
        folder: where to; must not hold another model.
        model, predict, runtime: its sections of the params, for whoever opens it.
        merged: write all weights, LoRA merged, instead of what was trained alone.

    Raises:
        CheckpointError: the folder is not empty.
        DataError: the disk is full or not writable.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"{folder}: not empty. Name a new folder for the saved model.")
    config = SavedConfig(
        format=_FORMAT, variant=variant, merged=merged, model=model, predict=predict, runtime=runtime
    )
    save_tokenizer(assembly.tokenizer, tokenizer_path(folder))
    if merged:
        merged_lora = merged_weights(assembly.model.components["language_model"])
        for name, component in assembly.model.components.items():
            extra = merged_lora if name == "language_model" else {}
            write_tensors(component_path(folder, name), {**plain_state(component), **extra})
        base = {}
    else:
        with _all_that_was_trained(assembly.model):
            save_trained(assembly.model, folder / ADAPTER_FILE, facts={"variant": variant})
        base = {name: digest for name, digest in assembly.digests.items() if name != ALIGNED}
    write_json(folder / CONFIG_FILE, config.model_dump(mode="json"))
    write_manifest(folder, pretrained=base)


def open_saved(
    folder: Path, *, checkpoints_path: Path | None = None, runtime: RuntimeSection | None = None
) -> Saved:
    """Open what `save_model` wrote, in evaluation mode.

    Args:
        folder: of the saved model.
        checkpoints_path: the pretrained parts, which only a model that is not merged needs.
        runtime: device and precision; by default as it was saved.

    Raises:
        CheckpointError: not a saved model, no pretrained parts given, or others than it was trained on.
        DataError: a file differs from the manifest.
    """
    folder = Path(folder)
    if not (folder / CONFIG_FILE).is_file() or not (folder / "manifest.json").is_file():
        raise CheckpointError(f"{folder}: no {CONFIG_FILE} with a manifest.json; not a saved model.")
    manifest = verify_manifest(folder)
    config = _read_config(folder / CONFIG_FILE)
    if config.merged:
        assembly = _open_merged(config, folder)
    elif checkpoints_path is None:
        raise CheckpointError(
            f"{folder}: holds only what was trained. Name the folder of the pretrained parts too, or save "
            "the model merged."
        )
    else:
        assembly = open_base(config.model, config.variant, Path(checkpoints_path))
        check_digests(manifest["pretrained"], assembly.digests, folder)
        with _all_that_was_trained(assembly.model):
            load_trained(assembly.model, folder / ADAPTER_FILE, facts={"variant": config.variant})
    chosen = runtime or config.runtime
    assembly.model.requires_grad_(False).eval().to(chosen.device, getattr(torch, chosen.dtype))
    return Saved(assembly, config)


def _open_merged(config: SavedConfig, folder: Path) -> Assembly:
    tokenizer = load_tokenizer(tokenizer_path(folder))
    model = build_model(
        config.model,
        config.variant,
        vocabulary_size=len(tokenizer),
        seg_id=tokenizer.get_vocab()[SEG],
        eos_id=tokenizer.eos_token_id,
    )
    # The model's LoRA is new and adds nothing to the merged weights.
    load_pretrained(model, folder, variant=config.variant, components=list(model.components))
    return Assembly(model, tokenizer, {})


def _read_config(path: Path) -> SavedConfig:
    content: Any = read_json(path)
    version = content.get("format") if isinstance(content, dict) else None
    if version != _FORMAT:
        raise CheckpointError(
            f"{path}: format {version!r}, this version reads {_FORMAT}. Save the model again."
        )
    try:
        config = SavedConfig.model_validate(content)
    except ValidationError as error:
        names = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors()[:5])
        raise CheckpointError(
            f"{path}: {error.error_count()} wrong value(s): {names}. Save the model again."
        ) from error
    if config.variant not in config.model.variants:
        raise CheckpointError(
            f"{path}: variant '{config.variant}' is none of its model's: {', '.join(config.model.variants)}. "
            "Save the model again."
        )
    return config


@contextmanager
def _all_that_was_trained(model: SegmentingModel) -> Iterator[None]:
    """Mark what any stage trained as trainable inside the block."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    stages = ("align", "finetune") if model.variant.visual == "qformer" else ("finetune",)
    trained: set[str] = set()
    for stage in stages:
        set_trainable(model, stage)
        trained |= {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    try:
        yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
