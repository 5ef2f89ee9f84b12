"""Time training steps with and without the feature cache, and checkpoints: `python -m benchmarks.training`.

The last line is one JSON object; benchmarks/README.md says what its figures mean.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch

from calico.assembly import Assembly, open_pretrained, torch_settings
from calico.checkpoints.prepare import prepare_checkpoints
from calico.config import Config, TrainSection, load_config
from calico.core.files import fsync
from calico.core.records import Batch
from calico.data.annotations.unify import unify
from calico.data.loading.dataset import PairDataset, build_pair_dataset
from calico.data.pairs.curate import curate
from calico.data.pairs.pairing import pair
from calico.data.synthetic.generate import synthesize
from calico.models.losses import compute_losses
from calico.models.trainable import set_trainable
from calico.training.checkpoints import RunFolder
from calico.training.engine import Engine
from calico.training.loop import run_step
from calico.training.optimizer import build_optimizer, build_scheduler
from calico.training.sampler import Sampler
from calico.training.samples import Samples, make_batches, make_features
from calico.training.step_log import StepRecord

_NUM_ROUNDS = 7
_STEPS_PER_ROUND = 3
_NUM_IMAGES = {"train": 40, "val": 0, "test": 0}  # of each of three sources
_NUM_PAIRS = 200  # of each task
# Encoders of twelve images round otherwise than of a batch's. Measured worst difference: 3e-7 relative.
_TOLERANCE = 1e-5
_LOSSES = ("loss", "text", "mask", "dice")


def main() -> None:
    """Measure and print."""
    config = _config()
    with tempfile.TemporaryDirectory() as name, torch_settings(config.runtime):
        folder = Path(name)
        _write_artifacts(config, folder)
        result = _measure(config, folder)
    sys.stdout.write(json.dumps(result) + "\n")


def _config() -> Config:
    """Return the tiny profile with less data."""
    values = load_config("tiny").model_dump()
    values["synthesize"] |= {"num_workers": 1, "num_grand_images": 0}
    values["synthesize"]["num_images"] = dict.fromkeys(values["synthesize"]["num_images"], _NUM_IMAGES)
    tasks = values["pair"]["num_pairs"]["train"]
    values["pair"]["num_pairs"] = {"train": dict.fromkeys(tasks, _NUM_PAIRS), "val": 0, "test": 0}
    return Config.model_validate(values)


def _write_artifacts(config: Config, folder: Path) -> None:
    synthesize(config.synthesize, folder / "sources", seed=config.synthesize.seed)
    unify(config.unify, folder / "sources", folder / "unify")
    curate(config.curate, folder / "unify", folder / "curate")
    pair(config.pair, folder / "unify", folder / "curate", folder / "pair")
    prepare_checkpoints(config.checkpoints, config.model, folder / "checkpoints")


def _measure(config: Config, folder: Path) -> dict[str, float]:
    uncached = config.finetune.model_copy(update={"feature_cache": "none"})
    sides: dict[str, Any] = {
        "cached": _Ours(config, config.finetune, folder),
        "uncached": _Ours(config, uncached, folder),
        "plain_torch_cached": _PlainTorch(config, config.finetune, folder),
        "plain_torch_uncached": _PlainTorch(config, uncached, folder),
    }
    _check_equal({name: side.step() for name, side in sides.items()})
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(_NUM_ROUNDS):
        for name, side in sides.items():
            seconds[name].append(_seconds(partial(_run_steps, side)))
    seconds = {name: [one / _STEPS_PER_ROUND for one in found] for name, found in seconds.items()}
    checkpoints = _time_checkpoints(sides["cached"], folder)
    _print_sides({**seconds, **checkpoints})
    medians = {name: statistics.median(found) for name, found in {**seconds, **checkpoints}.items()}
    records = sides["cached"].records[1:]
    return {
        "step_seconds_cached": round(medians["cached"], 4),
        "step_seconds_uncached": round(medians["uncached"], 4),
        "ratio": round(medians["uncached"] / medians["cached"], 2),
        "samples_per_second": round(statistics.median(one.samples_per_second for one in records), 2),
        "data_share": round(statistics.median(one.data_share + one.encode_share for one in records), 4),
        "checkpoint_vs_torch_save": round(medians["torch_save"] / medians["checkpoint"], 2),
    }


class _Side:
    """CALICO before finetuning, with the features of its images at hand or encoded in every step."""

    def __init__(self, config: Config, section: TrainSection, folder: Path) -> None:
        torch.manual_seed(section.seed)
        self.section = section
        self.assembly: Assembly = open_pretrained(config.model, "calico", folder)
        set_trainable(self.assembly.model, "finetune")
        self.dataset: PairDataset = build_pair_dataset(
            folder / "unify",
            folder / "sources",
            folder / "pair" / "rows" / "train",
            tokenizer=self.assembly.tokenizer,
            model=config.model,
            variant="calico",
            mask_loss_px=section.mask_loss_px,
            seed=section.seed,
            with_views=section.feature_cache == "none",
        )
        self.engine = Engine(self.assembly.model, section, config.runtime)
        self.features = make_features(
            self.dataset,
            self.assembly.model.eval(),
            section,
            self.engine,
            folder=folder / "features",
            digests=dict(self.assembly.digests),
        )
        self.assembly.model.train()
        self.batches = partial(
            make_batches,
            self.dataset,
            pad_id=self.assembly.tokenizer.pad_token_id,
            seg_id=self.assembly.model.seg_id,
            num_workers=0,
        )
        self.sampler = Sampler(
            self.dataset.num_targets,
            batch_size=section.batch_size,
            accumulation=section.accumulation,
            seed=section.seed,
        )


class _Ours(_Side):
    """A step as the stage finetune runs it."""

    def __init__(self, config: Config, section: TrainSection, folder: Path) -> None:
        super().__init__(config, section, folder)
        self.records: list[StepRecord] = []
        self._samples = Samples(self.dataset.num_targets, self.batches, self.features)
        self._stream = self.batches(
            one.sample_indices for step in range(section.num_steps) for one in self.sampler.step(step)
        )

    def step(self) -> dict[str, float]:
        step = len(self.records)
        record = run_step(
            self.engine, self._samples, self.section, self.sampler.step(step), self._stream, step
        )
        self.records.append(record)
        return {name: getattr(record, name) for name in _LOSSES}


class _PlainTorch(_Side):
    """The peer: the same step in plain PyTorch, without DeepSpeed, log or checks."""

    def __init__(self, config: Config, section: TrainSection, folder: Path) -> None:
        super().__init__(config, section, folder)
        self._model = self.assembly.model
        self._optimizer = build_optimizer(self._model.parameters(), section)
        self._scheduler = build_scheduler(self._optimizer, section)
        self._step = 0

    def step(self) -> dict[str, float]:
        micro_batches = self.sampler.step(self._step)
        sums = dict.fromkeys(_LOSSES, 0.0)
        for micro_batch in micro_batches:
            (batch,) = self.batches([micro_batch.sample_indices])
            torch.manual_seed(micro_batch.seed)
            losses = compute_losses(self._forward(batch), batch, self.section.losses)
            (losses["total"] / len(micro_batches)).backward()
            for name in _LOSSES:
                value = losses["total" if name == "loss" else name].detach()
                sums[name] += float(value) / len(micro_batches)
        trained = [one for one in self._model.parameters() if one.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, self.section.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._scheduler.step()
        self._step += 1
        return sums

    def _forward(self, batch: Batch) -> Any:
        return self._model(batch, self.features(batch))


def _run_steps(side: Any) -> None:
    for _ in range(_STEPS_PER_ROUND):
        side.step()


def _check_equal(losses: Mapping[str, Mapping[str, float]]) -> None:
    """Stop unless every side has the same losses at the first step."""
    first = losses["cached"]
    worst = max(abs(side[name] / first[name] - 1) for side in losses.values() for name in _LOSSES)
    if worst > _TOLERANCE:
        sys.exit(f"error: the sides' losses differ by {worst:.2g} (relative); there is nothing to time.")
    print(json.dumps({"losses": losses, "max_relative_difference": worst}))


def _time_checkpoints(side: _Ours, folder: Path) -> dict[str, list[float]]:
    """Write the same tensors as a checkpoint (hashed, with its log and manifest) and with torch.save.

    Both end with fsync. The third is the whole model, as training codes that do not tell frozen from trained
    tensors save it.
    """
    engine = side.engine
    run = RunFolder(folder / "runs", "benchmark", {"purpose": "timing"}, keep=1)

    def save_ours() -> None:
        run.save(len(side.records), engine.state(), rank=0)
        run.commit(side.records)

    def save_torch(tensors: Mapping[str, torch.Tensor]) -> None:
        path = folder / "checkpoint.pt"
        torch.save(dict(tensors), path)
        fsync(path)

    writers: dict[str, Callable[[], None]] = {
        "checkpoint": save_ours,
        "torch_save": lambda: save_torch(engine.state()),
        "torch_save_whole_model": lambda: save_torch({**engine.state(), **engine.module.state_dict()}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(_NUM_ROUNDS):
        for name, write in writers.items():
            seconds[name].append(_seconds(write))
    return seconds


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _print_sides(seconds: Mapping[str, list[float]]) -> None:
    sides = {
        name: {"min": round(min(found), 4), "median": round(statistics.median(found), 4)}
        for name, found in seconds.items()
    }
    machine = {
        "threads": torch.get_num_threads(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "deepspeed", "transformers")},
    }
    print(json.dumps({"seconds": sides, **machine}))


if __name__ == "__main__":
    main()
