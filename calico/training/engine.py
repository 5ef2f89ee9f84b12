"""The DeepSpeed fence: the only module that trains with it.

One process needs no launcher; under `torchrun`, `deepspeed` or Slurm the launcher's RANK, WORLD_SIZE,
LOCAL_RANK and MASTER_* are used as they are.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from calico.config import RuntimeSection, TrainSection
from calico.errors import CheckpointError, ConfigError
from calico.training.optimizer import build_optimizer, build_scheduler

TRAINED_PREFIX = "trained/"  # of a state's names of the model's trained tensors


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did: gradient norm before clipping, learning rate that was used."""

    grad_norm: float
    learning_rate: float


class Engine:
    """A model with its optimizer and schedule under DeepSpeed.

    Attributes:
        module: the model, on its device and in its precision.
        device: where the model computes.
        rank, world_size: this process among all.
    """

    def __init__(self, model: nn.Module, section: TrainSection, runtime: RuntimeSection) -> None:
        """Wrap `model` (moved to the device and cast to the precision of `runtime`, in place).

        Args:
            model: its parameters with `requires_grad` are trained; at least one.
            section: optimizer, schedule, clipping, accumulation and ZeRO stage.
            runtime: device and precision.

        Raises:
            ConfigError: `runtime.device` is "cuda" without one, or the processes cannot share the batch.
        """
        deepspeed = _import_deepspeed(runtime.device)
        join_processes(runtime.device)
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        micro_batch_size, num_micro_batches = share_of_process(section, self.world_size)
        self._processes_per_micro_batch = section.batch_size // micro_batch_size
        # deepspeed 0.19.8 keeps no gradient norm for ZeRO stage 0 in fp32; there this class clips.
        self._deepspeed_clips = section.zero_stage > 0 or runtime.dtype != "float32"
        self._max_grad_norm = section.max_grad_norm
        # DeepSpeed replaces the parameters inside it by its own, the fp32 shares of this process.
        self._adamw = optimizer = build_optimizer(model.parameters(), section)
        self._trained: list[nn.Parameter] = optimizer.param_groups[0]["params"]
        num_trained = sum(parameter.numel() for parameter in self._trained)
        self._engine, *_ = deepspeed.initialize(
            model=model,
            model_parameters=self._trained,
            optimizer=optimizer,
            lr_scheduler=build_scheduler(optimizer, section),
            config={
                "train_micro_batch_size_per_gpu": micro_batch_size,
                "gradient_accumulation_steps": num_micro_batches,
                "gradient_clipping": section.max_grad_norm if self._deepspeed_clips else 0.0,
                "bf16": {"enabled": runtime.dtype == "bfloat16"},
                # DeepSpeed reserves a bucket, by default of 500 M numbers, whatever there is to reduce.
                "zero_optimization": {"stage": section.zero_stage, "reduce_bucket_size": num_trained},
                "zero_allow_untested_optimizer": True,
                "steps_per_print": None,
            },
            dist_init_required=False,
        )
        self.module: nn.Module = self._engine.module
        self.device: torch.device = torch.device(self._engine.device)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model's forward."""
        return self._engine(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch's loss; DeepSpeed divides by the number of micro-batches."""
        self._engine.backward(loss)

    def mean_over_processes(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over all processes, so that every process sees the same numbers."""
        return self.sum_over_processes(values) / self.world_size

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """Return the sum of `values`, which may be mutated, over all processes; the same in each."""
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def weigh_share(self, counts_K: Tensor) -> Tensor | None:
        """Compare this process's part of a micro-batch with the mean part of those that share it.

        A loss that is a mean over a part, times the part's weight, has as its mean over the processes the
        mean over the whole micro-batch.

        Args:
            counts_K: how much of each of K kinds this process has; float32.

        Returns:
            K weights, 0 where no process has any of a kind; None where no micro-batch is shared.
        """
        if self._processes_per_micro_batch == 1:
            return None
        group = self.rank // self._processes_per_micro_batch
        counts_GK = torch.zeros(self.world_size // self._processes_per_micro_batch, len(counts_K))
        counts_GK[group] = counts_K
        counts_GK = counts_GK.to(self.device)
        torch.distributed.all_reduce(counts_GK)
        mean_K = counts_GK[group] / self._processes_per_micro_batch
        return torch.where(mean_K > 0, counts_K.to(self.device) / mean_K.clamp(min=1e-9), 0.0)

    def any_process(self, number: int) -> int:
        """Return the largest `number` of all processes, so that all of them decide alike."""
        if self.world_size == 1:
            return number
        found = torch.tensor(number, device=self.device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        return int(found)

    def wait_for_all(self) -> None:
        """Go on once every process is here."""
        torch.distributed.barrier()

    def state(self) -> dict[str, Tensor]:
        """Return what this process needs to go on from here, between two steps; not copies.

        "trained/<name>" are the model's trained tensors, "optimizer/<number>/..." the tensors that AdamW
        updates (for ZeRO and bf16 fp32 shares of this process) with its step count and moments.
        """
        tensors: dict[str, Tensor] = {f"{TRAINED_PREFIX}{name}": one for name, one in self._named_trained()}
        own = {id(parameter) for parameter in self._trained}
        for number, parameter in enumerate(self._updated()):
            if id(parameter) not in own:
                tensors[f"optimizer/{number}/value"] = parameter
            for name, value in self._adamw.state[parameter].items():
                tensors[f"optimizer/{number}/{name}"] = value
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on from what `state` returned after optimizer step `step`.

        Raises:
            CheckpointError: the tensors are of another model or another number of processes.
        """
        targets: dict[str, Tensor] = {f"{TRAINED_PREFIX}{name}": one for name, one in self._named_trained()}
        own = {id(parameter) for parameter in self._trained}
        moments: dict[int, dict[str, Tensor]] = {}
        for number, parameter in enumerate(self._updated()):
            prefix = f"optimizer/{number}/"
            if id(parameter) not in own:
                targets[f"{prefix}value"] = parameter
            moments[number] = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix) and name != f"{prefix}value"
            }
        _check_shapes(tensors, targets)
        for name, target in targets.items():
            target.copy_(tensors[name])
        for number, parameter in enumerate(self._updated()):
            self._adamw.state[parameter] = {
                # AdamW's fused kernel counts steps on the device of the parameter, in fp32.
                name: tensor.to(parameter.device).clone()
                for name, tensor in moments[number].items()
            }
        self._go_to(step)

    def _go_to(self, step: int) -> None:
        """Set the schedule and DeepSpeed's own counts."""
        scheduler = self._engine.lr_scheduler
        rates = [rate * scheduler.lr_lambdas[0](step) for rate in scheduler.base_lrs]
        scheduler.load_state_dict(
            {**scheduler.state_dict(), "last_epoch": step, "_step_count": step + 1, "_last_lr": rates}
        )
        for group, rate in zip(self._adamw.param_groups, rates, strict=True):
            group["lr"] = rate
        self._engine.global_steps = step

    def _named_trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, one) for name, one in self.module.named_parameters() if one.requires_grad]

    def _updated(self) -> list[Tensor]:
        """Return the tensors that AdamW updates, in its order."""
        return [parameter for group in self._adamw.param_groups for parameter in group["params"]]

    def end_micro_batch(self) -> StepReport | None:
        """Count the micro-batch; after the last one of a step clip, update and return the report."""
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()
            return None
        learning_rate = float(self._engine.get_lr()[0])
        if self._deepspeed_clips:
            self._engine.step()
            return StepReport(float(self._engine.get_global_grad_norm()), learning_rate)
        norm = torch.nn.utils.clip_grad_norm_(self._trained, self._max_grad_norm)
        self._engine.step()
        return StepReport(float(norm), learning_rate)


def _check_shapes(tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    wrong = [name for name, one in targets.items() if name not in tensors or tensors[name].shape != one.shape]
    if wrong:
        raise CheckpointError(
            f"the checkpoint does not fit: {len(wrong)} of {len(targets)} tensors are missing or of another "
            f"shape ({', '.join(wrong[:3])}). It was written by another model or number of processes."
        )


def share_of_process(section: TrainSection, world_size: int) -> tuple[int, int]:
    """Return (pairs per micro-batch, micro-batches per step) of one process.

    The pairs of an optimizer step, `batch_size * accumulation`, stay the same whatever the number of
    processes: processes first share the micro-batches, then the pairs of a micro-batch.

    Raises:
        ConfigError: the processes cannot share the batch equally.
    """
    if section.accumulation % world_size == 0:
        return section.batch_size, section.accumulation // world_size
    processes_per_micro_batch, rest = divmod(world_size, section.accumulation)
    if rest or section.batch_size % processes_per_micro_batch:
        raise ConfigError(
            f"{world_size} processes cannot share {section.accumulation} micro-batches of "
            f"{section.batch_size} pairs equally. Choose batch_size and accumulation so that the number of "
            "processes divides accumulation, or is accumulation times a divisor of batch_size."
        )
    return section.batch_size // processes_per_micro_batch, 1


def join_processes(device: str) -> None:
    """Join the launcher's process group, or found a group of one without any network port."""
    if torch.distributed.is_initialized():
        return
    backend = "nccl" if device == "cuda" else "gloo"
    if "RANK" in os.environ and "MASTER_ADDR" in os.environ:
        torch.distributed.init_process_group(backend)
        return
    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed reads it even when the group exists
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)


def _import_deepspeed(device: str) -> Any:
    """Import DeepSpeed for `device`, without the C++ extension that it would compile on a CPU.

    Source: deepspeed 0.19.8 comm/torch.py build_shm_op: a shared-memory all-reduce, compiled at the first
    `initialize` whatever the config; without a C++ compiler `initialize` fails. torch's gloo does the work.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device is 'cuda', but torch finds no CUDA device. Set it to 'cpu'.")
    os.environ.setdefault("DS_ACCELERATOR", device)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
