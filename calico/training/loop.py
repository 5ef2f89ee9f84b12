"""The training loop: draw, forward, losses, backward, update, log."""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from calico.config import TrainSection
from calico.core.records import Batch
from calico.errors import TrainingError
from calico.models.losses import compute_losses
from calico.tracking import Run
from calico.training.checkpoints import RunFolder
from calico.training.engine import Engine, StepReport
from calico.training.interruption import Interruption
from calico.training.sampler import MicroBatch, Sampler
from calico.training.samples import Samples
from calico.training.step_log import StepLog, StepRecord

_LOSS_NAMES = ("total", "text", "mask", "dice")


def train(
    engine: Engine, samples: Samples, section: TrainSection, *, folder: RunFolder, log_path: Path, run: Run
) -> list[StepRecord]:
    """Train `engine.module` for `section.num_steps` optimizer steps, or what a checkpoint leaves of them.

    Args:
        folder: of the checkpoints; one is written every `section.checkpoint_every` steps.
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
    engine.module.train()
    records = _resume(engine, folder)
    is_writer = engine.rank == 0
    with (
        StepLog(log_path, run, section, is_writer=is_writer, earlier=tuple(records)) as log,
        Interruption() as interruption,
    ):
        for step in range(len(records), section.num_steps):
            record = _run_step(engine, samples, section, sampler, step)
            log.add(record)
            records.append(record)
            signal_number = engine.any_process(interruption.signal_number)
            if signal_number or len(records) % section.checkpoint_every == 0:
                _save(engine, folder, records)
            if signal_number:
                raise SystemExit(128 + signal_number)
    return records


def _resume(engine: Engine, folder: RunFolder) -> list[StepRecord]:
    """Go on from the newest checkpoint; return the records of the steps before it."""
    checkpoint = folder.latest(rank=engine.rank)
    if checkpoint is None:
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


def _run_step(
    engine: Engine, samples: Samples, section: TrainSection, sampler: Sampler, step: int
) -> StepRecord:
    start = time.perf_counter()
    sums = torch.zeros(len(_LOSS_NAMES), device=engine.device)
    report: StepReport | None = None
    micro_batches = sampler.step(step, engine.rank, engine.world_size)
    for micro_batch in micro_batches:
        losses, report = _run_micro_batch(engine, samples, section, micro_batch, step)
        sums += losses
    assert report is not None, "the engine counts as many micro-batches to a step as the sampler"
    loss, text, mask, dice = (sums / len(micro_batches)).tolist()
    seconds = time.perf_counter() - start
    return StepRecord(step + 1, loss, text, mask, dice, report.learning_rate, report.grad_norm, seconds)


def _run_micro_batch(
    engine: Engine, samples: Samples, section: TrainSection, micro_batch: MicroBatch, step: int
) -> tuple[Tensor, StepReport | None]:
    """Run one micro-batch; return its losses, over all processes, and the report if it ends the step."""
    torch.manual_seed(micro_batch.seed)
    batch = samples.batch(micro_batch.sample_indices)
    losses = compute_losses(engine(batch, samples.features(batch)), batch, section.losses)
    values = engine.mean_over_processes(torch.stack([losses[name].detach().float() for name in _LOSS_NAMES]))
    _check_finite(values, step, batch)
    engine.backward(losses["total"])
    return values, engine.end_micro_batch()


def _check_finite(values: Tensor, step: int, batch: Batch) -> None:
    if torch.isfinite(values).all():
        return
    named = ", ".join(f"{name} {value:.4g}" for name, value in zip(_LOSS_NAMES, values.tolist(), strict=True))
    raise TrainingError(
        f"step {step + 1}: the losses are not finite ({named}); pairs of the batch: "
        f"{', '.join(batch.pair_ids)}. The step was not applied. Lower learning_rate or look at these pairs' "
        "masks and images."
    )
