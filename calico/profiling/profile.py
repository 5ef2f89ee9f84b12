"""The stage profile: what each finetuned model costs, in parameters, operations, seconds and memory."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from calico.assembly import Assembly, open_finetuned, torch_settings
from calico.config import Config, VariantName
from calico.core.files import write_json
from calico.core.tokens import TASKS
from calico.data.loading.collate import collate
from calico.data.loading.dataset import PairDataset, build_pair_dataset
from calico.errors import DataError
from calico.models.trainable import parameter_counts, set_trainable
from calico.profiling.deepspeed_flops import count_with_deepspeed
from calico.profiling.flops import CanonicalPair, count_flops
from calico.profiling.latency import Timing, mean_timing, peak_memory_gb, reset_peak_memory, time_pair


def profile(config: Config, *, artifacts_path: Path, output_path: Path) -> dict[str, Any]:
    """Measure every variant and write profile.json.

    Seconds and memory differ from run to run and from machine to machine; nothing else may depend on them.

    Args:
        config: one profile.
        artifacts_path: the profile's artefacts: sources, unify, pair, checkpoints, align, finetune.
        output_path: folder to write.

    Returns:
        The content of profile.json.

    Raises:
        CheckpointError: weights are missing or damaged.
        ConfigError: the canonical sample contradicts itself.
        DataError: a table or an image is missing or damaged, or a task has no test pairs.
    """
    with torch_settings(config.runtime):
        section = config.profile
        models = {
            variant: _measure_variant(config, variant, artifacts_path) for variant in config.model.variants
        }
        # Last, because DeepSpeed, which is imported for it, would count as memory of the models.
        for variant, costs in models.items():
            costs["flops"] = _count_operations(config, variant, costs["vocabulary_size"])
        report = {
            "device": _describe_device(config),
            "sample": {"text_tokens": section.num_text_tokens, "seg_tokens": section.num_seg_tokens},
            "num_latency_pairs": section.num_latency_pairs,
            "num_repeats": section.num_repeats,
            "models": models,
        }
        write_json(output_path / "profile.json", report)
        return report


def _measure_variant(config: Config, variant: VariantName, artifacts_path: Path) -> dict[str, Any]:
    device = torch.device(config.runtime.device)
    reset_peak_memory(device)
    assembly = open_finetuned(config.model, variant, artifacts_path, runtime=config.runtime)
    dataset = build_pair_dataset(
        artifacts_path / "unify",
        artifacts_path / "sources",
        artifacts_path / "pair" / "rows" / "test",
        tokenizer=assembly.tokenizer,
        model=config.model,
        variant=variant,
        mask_loss_px=config.finetune.mask_loss_px,
        seed=None,
    )
    latency = _measure_latency(config, assembly, dataset)
    peak_gb = peak_memory_gb(device)
    set_trainable(assembly.model, "finetune")
    return {
        "parameters": parameter_counts(assembly.model),
        "image_tokens": assembly.model.tokens_per_image,
        "vocabulary_size": len(assembly.tokenizer),
        "latency": latency,
        "peak_gb": round(peak_gb, 3),
    }


def _count_operations(config: Config, variant: VariantName, vocabulary_size: int) -> dict[str, Any]:
    pair = CanonicalPair(config.model, variant, config.profile, vocabulary_size=vocabulary_size)
    flops = count_flops(pair)
    return {
        "total": flops.total,
        "components": dict(flops.components),
        "deepspeed": count_with_deepspeed(pair),
    }


def _measure_latency(config: Config, assembly: Assembly, dataset: PairDataset) -> dict[str, dict[str, float]]:
    """Return the mean timing of each task's first pairs, and of the three tasks."""
    rows = {task: _first_rows(dataset, task, config.profile.num_latency_pairs) for task in TASKS}
    _time_row(config, assembly, dataset, rows[TASKS[0]][0], num_repeats=1)  # warms caches up; not counted
    by_task: dict[str, Timing] = {
        task: mean_timing(
            [
                _time_row(config, assembly, dataset, row, num_repeats=config.profile.num_repeats)
                for row in task_rows
            ]
        )
        for task, task_rows in rows.items()
    }
    return {
        task: timing.as_dict()
        for task, timing in {**by_task, "mean": mean_timing([*by_task.values()])}.items()
    }


def _time_row(
    config: Config, assembly: Assembly, dataset: PairDataset, row: int, *, num_repeats: int
) -> Timing:
    batch = collate(
        [dataset[row]], pad_id=assembly.tokenizer.pad_token_id, seg_id=assembly.model.seg_id, left=True
    )
    return time_pair(
        assembly.model, batch, max_new_tokens=config.predict.max_new_tokens, num_repeats=num_repeats
    )


def _first_rows(dataset: PairDataset, task: str, num_rows: int) -> Sequence[int]:
    rows = [row for row, sample in enumerate(dataset.samples) if sample.task == task]
    if not rows:
        raise DataError(
            f"task '{task}' has no pair among {len(dataset)} test pairs. Raise pair.num_pairs.test."
        )
    return rows[:num_rows]


def _describe_device(config: Config) -> dict[str, Any]:
    is_cuda = config.runtime.device == "cuda"
    return {
        "name": torch.cuda.get_device_name() if is_cuda else f"CPU, {platform.machine()}",
        "num_threads": config.runtime.num_threads,
        "dtype": config.runtime.dtype,
        "torch": torch.__version__,
    }
