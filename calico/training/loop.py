"""The training loop: draw, forward, losses, backward, update, log."""

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calico.config import TrainSection
from calico.core.records import Batch
from calico.errors import TrainingError
from calico.models.losses import compute_losses, count_terms
from calico.tracking import Run
from calico.training.checkpoints import RunFolder
from calico.training.engine import Engine, StepReport
from calico.training.interruption import Interruption
from calico.training.sampler import MicroBatch, Sampler
from calico.training.samples import Samples
from calico.training.step_log import StepLog, StepRecord, best_step
from calico.training.stopwatch import Stopwatch
from calico.training.switches import advice
from calico.training.validation import Validation

_LOSS_NAMES = ("total", "text", "mask", "dice")
_PHASES = ("data", "encode", "forward", "backward", "optimizer")


def train(
    engine: Engine,
    samples: Samples,
    section: TrainSection,
    *,
    validation: Validation | None,
    folder: RunFolder,
    log_path: Path,
    run: Run,
) -> list[StepRecord]:
    """Train `engine.module` for `section.num_steps` optimizer steps, or what a checkpoint leaves of them.

    Args:
        validation: looks at the model after the steps that it names; None: never.
        folder: of the checkpoints; one is written every `section.checkpoint_every` steps, and whenever the
            validation loss is lower than ever before.
        log_path: one JSON line per step is appended as training goes; only process 0 writes.
        run: receives the means over every `section.log_every` steps.

    Returns:
        One record per step.

    Raises:
        SystemExit: SIGTERM or SIGINT came; a checkpoint was written. The code is 128 + the signal's number.
        CheckpointError: the newest checkpoint is of another run.
        TrainingError: a loss is NaN or infinite; names the step and the pairs. That step is not applied.
    """
    sampler = Sampler(
        samples.sizes, batch_size=section.batch_size, accumulation=section.accumulation, seed=section.seed
    )
    own_part = partial(sampler.step, rank=engine.rank, world_size=engine.world_size)
    engine.module.train()
    records = _resume(engine, folder)
    is_writer = engine.rank == 0
    with (
        StepLog(log_path, run, section, is_writer=is_writer, earlier=tuple(records)) as log,
        Interruption() as interruption,
    ):
        steps = range(len(records), section.num_steps)
        stream = samples.batches(
            micro_batch.sample_indices for step in steps for micro_batch in own_part(step)
        )
        for step in steps:
            record = run_step(engine, samples, section, own_part(step), stream, step)
            if validation is not None and validation.is_due(record.step):
                record = replace(record, validation=validation.run(record.step))
            log.add(record)
            records.append(record)
            signal_number = engine.any_process(interruption.signal_number)
            is_due = record.step % section.checkpoint_every == 0 or best_step(records) == record.step
            if signal_number or is_due:
                _save(engine, folder, records)
            if signal_number:
                raise SystemExit(128 + signal_number)
    return records


def _resume(engine: Engine, folder: RunFolder) -> list[StepRecord]:
    """Go on from the newest checkpoint; return the records of the steps before it."""
    checkpoint = folder.latest(rank=engine.rank)
    if checkpoint is None:
        if engine.rank == 0:
            for other in folder.others():
                sys.stderr.write(f"training starts from the beginning; of another run there is {other}\n")
        return []
    engine.load_state(checkpoint.tensors, len(checkpoint.records))
    if engine.rank == 0:
        sys.stderr.write(f"{folder.path}: going on after step {len(checkpoint.records)}.\n")
    return list(checkpoint.records)


def _save(engine: Engine, folder: RunFolder, records: list[StepRecord]) -> None:
    """Write a checkpoint; it counts once every process has written its part."""
    folder.save(len(records), engine.state(), rank=engine.rank)
    engine.wait_for_all()
    if engine.rank == 0:
        folder.commit(records)
    engine.wait_for_all()


def run_step(
    engine: Engine,
    samples: Samples,
    section: TrainSection,
    micro_batches: Sequence[MicroBatch],
    stream: Iterator[Batch],
    step: int,
) -> StepRecord:
    """Run one optimizer step.

    Args:
        micro_batches: this process's part of the step.
        stream: gives their batches next.
        step: 0-based.

    Raises:
        TrainingError: a loss or the gradients are not finite.
    """
    watch = Stopwatch(engine.device)
    sums = torch.zeros(len(_LOSS_NAMES), device=engine.device)
    report: StepReport | None = None
    for micro_batch in micro_batches:
        batch = next(stream)
        watch.lap("data")
        torch.manual_seed(micro_batch.seed)
        with _explained(step, batch, section):
            features = samples.features(batch)
            watch.lap("encode")
            share_2 = engine.weigh_share(count_terms(batch))
            losses = compute_losses(engine(batch, features), batch, section.losses, share_2=share_2)
            values = engine.mean_over_processes(
                torch.stack([losses[name].detach().float() for name in _LOSS_NAMES])
            )
            _check_finite(values, step, batch)
            watch.lap("forward")
            engine.backward(losses["total"])
            watch.lap("backward")
            report = engine.end_micro_batch()
            watch.lap("optimizer")
        sums += values
    assert report is not None, "the engine counts as many micro-batches to a step as the sampler"
    if not math.isfinite(report.grad_norm):
        raise TrainingError(
            f"step {step + 1}: the norm of the gradients is {report.grad_norm}. The last checkpoint is from "
            "before this step. Lower learning_rate, or train in float32."
        )
    loss, text, mask, dice = (sums / len(micro_batches)).tolist()
    shares: dict[str, Any] = {f"{name}_share": watch.share(name) for name in _PHASES}
    return StepRecord(
        step=step + 1,
        loss=loss,
        text=text,
        mask=mask,
        dice=dice,
        lr=report.learning_rate,
        grad_norm=report.grad_norm,
        seconds=watch.total,
        samples_per_second=section.batch_size * section.accumulation / watch.total,
        **shares,
    )


@contextlib.contextmanager
def _explained(step: int, batch: Batch, section: TrainSection) -> Iterator[None]:
    """Say what to change when the memory does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        num_pairs, length = batch.input_ids_BL.shape
        num_masks = int(count_terms(batch)[1])
        raise TrainingError(
            f"step {step + 1}: out of memory with {num_pairs} pairs of up to {length} tokens and {num_masks} "
            f"masks ({', '.join(batch.pair_ids)}). {advice(section)} `calico plan` says what fits. With "
            "gradient_checkpointing training goes on from the last checkpoint, with other values anew."
        ) from error


def _check_finite(values: Tensor, step: int, batch: Batch) -> None:
    if torch.isfinite(values).all():
        return
    named = ", ".join(f"{name} {value:.4g}" for name, value in zip(_LOSS_NAMES, values.tolist(), strict=True))
    raise TrainingError(
        f"step {step + 1}: the losses are not finite ({named}); pairs of the batch: "
        f"{', '.join(batch.pair_ids)}. The step was not applied. Lower learning_rate or look at these pairs' "
        "masks and images."
    )
