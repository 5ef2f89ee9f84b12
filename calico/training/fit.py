"""One training run: check what is trainable, train, save what was trained."""

import contextlib
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from calico.assembly import Assembly
from calico.checkpoints.loader import save_trained, write_tensors
from calico.config import FinetuneSection, RuntimeSection, TrainSection, VariantName
from calico.core.files import write_json, write_manifest
from calico.data.loading.dataset import CaptionDataset, PairDataset
from calico.errors import CheckpointError, DataError, TrainingError
from calico.models.lora import lora_layers
from calico.models.model import SegmentingModel
from calico.models.trainable import parameter_counts, set_trainable
from calico.tracking import Run
from calico.training.checkpoints import RunFolder
from calico.training.engine import Engine
from calico.training.interruption import end_with_parent
from calico.training.loop import train
from calico.training.samples import Samples, make_batches, make_features
from calico.training.step_log import StepRecord, best_step
from calico.training.validation import Validation

_LOGGER = logging.getLogger(__name__)
LOG_FILE = "log.jsonl"
BEST_FILE = "best.safetensors"
TRAINABLE_FILE = "trainable.json"
# Values that change how a result is reached, not the result: a run goes on when they are changed.
_FREE_VALUES = {
    "num_workers",
    "gradient_checkpointing",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
}

# What each stage may train, said a second time: `set_trainable` decides, `check_trainable` compares.
_TRAINED_PREFIXES = {
    "align": ("qformer.", "f_image."),
    "finetune": ("mask_decoder.", "cem.", "cams.", "patch_projector."),
}


@dataclass(frozen=True)
class Job:
    """What to train, on what, and how.

    Attributes:
        stage: "align" or "finetune".
        dataset: built with views where `section.feature_cache` is "none".
        sizes: one number per row of `dataset` that grows with its token count.
        trained_file: name of the file of trained tensors.
        runs_path: where checkpoints are kept until the run is done.
        tables: sha256 of every table that the samples come from.
        validation_pairs: to validate on as `section` says; None: never.
    """

    stage: Literal["align", "finetune"]
    variant: VariantName
    assembly: Assembly
    dataset: PairDataset | CaptionDataset
    sizes: np.ndarray
    section: TrainSection
    runtime: RuntimeSection
    trained_file: str
    runs_path: Path
    tables: Mapping[str, str]
    validation_pairs: PairDataset | None = None


def fit(job: Job, *, output_path: Path, run: Run) -> list[StepRecord]:
    """Train and write trainable.json, log.jsonl, the trained tensors and, last, manifest.json.

    With validation also best.safetensors, the tensors at the lowest validation loss. A run that was
    interrupted goes on from its last checkpoint, to the same bytes.

    Returns:
        The records of all steps.

    Raises:
        SystemExit: SIGTERM or SIGINT came; a checkpoint was written.
        TrainingError: a loss became NaN or infinite, something else than planned would be trained, or the
            same run is under way.
    """
    end_with_parent()
    model, section = job.assembly.model, job.section
    set_trainable(model, job.stage)
    trainable = check_trainable(model, job.stage)
    if section.gradient_checkpointing:
        model.language_model.checkpoint_layers()
    engine = Engine(model, section, job.runtime)
    validation = _validation(job, engine)  # before the encoders may leave the GPU
    features = make_features(
        job.dataset,
        model.eval(),
        section,
        engine,
        folder=job.runs_path.parent / "features",
        digests=dict(job.assembly.digests),
    )
    batches = partial(
        make_batches,
        job.dataset,
        pad_id=job.assembly.tokenizer.pad_token_id,
        seg_id=model.seg_id,
        num_workers=section.num_workers,
    )
    samples = Samples(job.sizes, batches, features)
    folder = RunFolder(
        job.runs_path,
        f"{job.stage}-{job.variant}",
        _identity(job, trainable, engine.world_size),
        keep=section.keep_checkpoints,
    )
    frozen = _frozen_digest(model)
    with folder.locked() if engine.rank == 0 else contextlib.nullcontext():
        if engine.rank == 0:
            write_json(output_path / TRAINABLE_FILE, {**trainable, "shapes": _trained_shapes(model)})
        records = train(
            engine,
            samples,
            section,
            validation=validation,
            folder=folder,
            log_path=output_path / LOG_FILE,
            run=run,
        )
        if _frozen_digest(model) != frozen:
            raise TrainingError(
                f"stage {job.stage}: weights that must stay frozen changed while training; nothing is saved. "
                f"This is a fault of the program or of the machine; the checkpoints stay in {folder.path}."
            )
        if engine.rank == 0:
            facts = {"stage": job.stage, "variant": job.variant}
            save_trained(model, output_path / job.trained_file, facts=facts)
            _save_best(folder, records, output_path / BEST_FILE, facts)
            write_manifest(output_path, **_facts(job, trainable), best_step=best_step(records))
            folder.remove()
    return records


def _validation(job: Job, engine: Engine) -> Validation | None:
    if job.validation_pairs is None:
        return None
    assert isinstance(job.section, FinetuneSection), "only finetune validates"
    pad_id = job.assembly.tokenizer.pad_token_id
    return Validation(job.validation_pairs, job.assembly.model.eval(), job.section, engine, pad_id=pad_id)


def _save_best(
    folder: RunFolder, records: Sequence[StepRecord], path: Path, facts: Mapping[str, str]
) -> None:
    """Write the tensors of the best checkpoint; a damaged one does not undo a training that is done."""
    path.unlink(missing_ok=True)
    step = best_step(records)
    if step is None:
        return
    try:
        tensors = folder.trained(step)
    except (DataError, CheckpointError) as error:
        _LOGGER.warning("%s %s is left out; the last weights are whole.", error, path)
        return
    write_tensors(path, tensors, facts={**facts, "step": str(step)})


def check_trainable(model: SegmentingModel, stage: str) -> dict[str, int]:
    """Compare the model's trainable parameters with what `stage` may train.

    Returns:
        {"tensors", "parameters"}: how many are trainable.

    Raises:
        TrainingError: a parameter is trainable that must be frozen, or the reverse; names the first.
    """
    prefixes = _TRAINED_PREFIXES[stage]
    wrong = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        != (name.startswith(prefixes) or (stage == "finetune" and ".lora_" in name))
    ]
    num_lora, num_projections = len(lora_layers(model)), 2 * model.language_model.num_layers
    if wrong or num_lora != num_projections:
        raise TrainingError(
            f"stage {stage}: {len(wrong)} parameters are trainable or frozen against the plan "
            f"({', '.join(wrong[:5]) or 'none'}), and {num_lora} layers have LoRA where {num_projections} "
            "should. See calico/models/trainable.py."
        )
    return {
        "tensors": sum(parameter.requires_grad for parameter in model.parameters()),
        "parameters": parameter_counts(model)["all"]["trainable"],
    }


def _trained_shapes(model: SegmentingModel) -> dict[str, list[int]]:
    return {name: list(one.shape) for name, one in model.named_parameters() if one.requires_grad}


def _frozen_digest(model: SegmentingModel) -> str:
    """Return the sha256 of all that does not train."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _identity(job: Job, trainable: dict[str, int], world_size: int) -> dict[str, Any]:
    """Return what decides the result."""
    facts = _facts(job, trainable)
    del facts["params_sha256"]  # of all values; here are those that count
    return {
        **facts,
        "section": job.section.model_dump(mode="json", exclude=_FREE_VALUES),
        "runtime": job.runtime.model_dump(mode="json"),
        "model": job.assembly.model.variant.model_dump(mode="json"),
        "tables": dict(job.tables),
        "num_processes": world_size,
    }


def _facts(job: Job, trainable: dict[str, int]) -> dict[str, Any]:
    values = job.section.model_dump_json().encode()
    return {
        "stage": job.stage,
        "variant": job.variant,
        "num_samples": len(job.sizes),
        "num_steps": job.section.num_steps,
        "params_sha256": hashlib.sha256(values).hexdigest(),
        "pretrained": dict(job.assembly.digests),
        "trainable": trainable,
    }
