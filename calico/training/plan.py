"""Say before a run how much GPU memory a training step needs, what fits, and which value to change.

The step is traced on the meta device, so the paper's size takes seconds and no GPU. What DeepSpeed and CUDA
hold beside it follows from their sources and is written down below.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from calico.config import Config, TrainSection, VariantName
from calico.data.loading.canonical import EOS_ID, SEG_ID, canonical_batch
from calico.data.loading.views import view_sizes
from calico.models.losses import compute_losses
from calico.models.model import ENCODERS, SegmentingModel, build_model
from calico.models.trainable import set_trainable
from calico.training.engine import share_of_process
from calico.training.memory_trace import MemoryTrace, tensor_bytes
from calico.training.switches import as_yaml, switches

GB = 10**9
# The CUDA context, cuBLAS and cuDNN workspaces. A "24 GB" card has 25.8e9 bytes; what it has more than its
# name says is left to the allocator's gaps.
_CONTEXT_BYTES = 1 * GB
_VOCABULARY_SIZE = 32007  # Vicuna's 32,000 and GLaMM's seven


@dataclass(frozen=True)
class SampleSize:
    """A pair: its words and [SEG] tokens, without image tokens, and how many of them are [SEG]."""

    text_tokens: int
    seg_tokens: int


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes on one GPU.

    Attributes:
        weights: of the model while it trains.
        optimizer: AdamW's moments, fp32 copies and DeepSpeed's buckets.
        step: the most that one micro-batch needs beside those: features, activations, gradients.
        filling: all of it while a cache of features is filled, before training; 0 without a cache.
    """

    weights: int
    optimizer: int
    step: int
    filling: int

    @property
    def total(self) -> int:
        """The most at any time."""
        return _CONTEXT_BYTES + max(self.weights + self.optimizer + self.step, self.filling)


class Planner:
    """Memory of one model in one stage, for any values of its section."""

    def __init__(self, config: Config, variant: VariantName, *, num_processes: int = 1) -> None:
        """Build the model on the meta device.

        Args:
            config: one profile; its stage finetune is planned.
            num_processes: GPUs that share a step.

        Raises:
            ConfigError: the model contradicts itself.
        """
        self._config = config
        self._variant = variant
        self._num_processes = num_processes
        self._model = self._build(is_checkpointed=False)
        self._checkpointed_model = self._build(is_checkpointed=True)
        self._step_bytes = lru_cache(self._trace_step)
        self._encoding_bytes = lru_cache(self._trace_encoding)

    def _build(self, *, is_checkpointed: bool) -> SegmentingModel:
        with torch.device("meta"):
            model = build_model(
                self._config.model,
                self._variant,
                vocabulary_size=_VOCABULARY_SIZE,
                seg_id=SEG_ID,
                eos_id=EOS_ID,
            )
        model = model.to(getattr(torch, self._config.runtime.dtype)).train()
        set_trainable(model, "finetune")
        if is_checkpointed:
            model.language_model.checkpoint_layers()
        return model

    def typical(self) -> SampleSize:
        """Return the pair of the cost figures (`profile` in the params)."""
        profile = self._config.profile
        return SampleSize(profile.num_text_tokens, profile.num_seg_tokens)

    def longest(self) -> SampleSize:
        """Return the longest pair that training can meet: every token and every target that is allowed."""
        room = self._config.model.language_model.max_length - 2 * self._model.tokens_per_image
        return SampleSize(room, min(self._config.pair.max_targets, room // 2))

    def need(self, section: TrainSection, sample: SampleSize) -> MemoryNeed:
        """Return what a step of equal samples needs on each GPU.

        Raises:
            ConfigError: the processes cannot share the batch.
        """
        num_pairs, _ = share_of_process(section, self._num_processes)
        parts = {name: tensor_bytes(part.parameters()) for name, part in self._model.components.items()}
        weights = tensor_bytes(self._model.parameters()) + tensor_bytes(self._model.buffers())
        step = self._step_bytes(num_pairs, sample, section.mask_loss_px, section.gradient_checkpointing)
        optimizer = self._optimizer_bytes(section)
        if section.feature_cache == "none":
            return MemoryNeed(weights, optimizer, max(step, self._encoding_bytes(2 * num_pairs)), 0)
        # Once every image is in the cache, the encoders leave the GPU (calico/training/samples.py).
        encoders = sum(parts.get(name, 0) for name in ENCODERS)
        filling = weights + optimizer + self._encoding_bytes(section.batch_size)
        return MemoryNeed(weights - encoders, optimizer, step, filling)

    def _trace_step(self, num_pairs: int, sample: SampleSize, mask_px: int, is_checkpointed: bool) -> int:
        """Return the peak of forward, losses and backward, with the images' features."""
        model = self._checkpointed_model if is_checkpointed else self._model
        batch = canonical_batch(
            model.tokens_per_image,
            num_text_tokens=sample.text_tokens,
            num_seg_tokens=sample.seg_tokens,
            num_pairs=num_pairs,
            mask_px=mask_px,
        )
        features = model.encode_images(self._views(2 * num_pairs))
        losses = self._config.finetune.losses
        with MemoryTrace() as trace:
            for parameter in model.parameters():
                trace.ignore(parameter)
            compute_losses(model(batch, features), batch, losses)["total"].backward()
        model.zero_grad()
        tensors = (features.global_IPF, features.grounding_ICGG, features.semantic_IPF)
        return trace.peak_bytes + tensor_bytes(one for one in tensors if one is not None)

    def _trace_encoding(self, num_images: int) -> int:
        """Return the peak of the frozen encoders on so many images at once."""
        views = self._views(num_images)
        with MemoryTrace() as trace:
            for parameter in self._model.parameters():
                trace.ignore(parameter)
            self._model.encode_images(views)
        return trace.peak_bytes

    def _views(self, num_images: int) -> dict[str, torch.Tensor]:
        return {
            name: torch.empty(num_images, 3, side, side, device="meta")
            for name, side in view_sizes(self._config.model, self._variant).sides.items()
        }

    def _optimizer_bytes(self, section: TrainSection) -> int:
        """Follow deepspeed 0.19.8: stage_1_and_2.py, bf16_optimizer.py; torch's AdamW."""
        num_trained = sum(one.numel() for one in self._model.parameters() if one.requires_grad)
        is_float32 = self._config.runtime.dtype == "float32"
        if section.zero_stage == 0 and is_float32:
            return 8 * num_trained  # two moments
        own_share = 12 * num_trained // self._num_processes  # two moments, fp32 weights
        if section.zero_stage == 0:
            return own_share + 4 * num_trained  # gradients are added up in fp32
        return own_share + (4 if is_float32 else 2) * num_trained  # the bucket that gradients are reduced in


def gpu_bytes_here() -> int | None:
    """Return the memory of the first GPU of this machine, None without one."""
    return torch.cuda.mem_get_info(0)[1] if torch.cuda.is_available() else None


def warn_of_memory(config: Config, variant: VariantName) -> None:
    """Say on stderr, before a finetuning on a GPU begins, whether it fits and what to set if not."""
    here = gpu_bytes_here()
    if config.runtime.device == "cuda" and here and os.environ.get("RANK", "0") == "0":
        num_processes = int(os.environ.get("WORLD_SIZE", "1"))
        planner = Planner(config, variant, num_processes=num_processes)
        sys.stderr.write(describe_fit(planner, config.finetune, here) + "\n")


def fitting(
    planner: Planner, section: TrainSection, gpu_bytes: int, sample: SampleSize
) -> tuple[dict[str, Any], MemoryNeed] | None:
    """Return the first of `switches` with which such samples fit, and what they need; None if none does."""
    for values in switches(section):
        need = planner.need(section.model_copy(update=values), sample)
        if need.total <= gpu_bytes:
            return values, need
    return None


def describe_fit(planner: Planner, section: TrainSection, gpu_bytes: int) -> str:
    """Return in words whether a GPU has room for `section` as it is, and if not, what to set."""
    parts = []
    for name, sample in (("typical", planner.typical()), ("longest", planner.longest())):
        need = planner.need(section, sample)
        text = f"{name} pairs need {need.total / GB:.1f} GB"
        if need.total > gpu_bytes:
            found = fitting(planner, section, gpu_bytes, sample)
            text += f" and do not fit; set {as_yaml(found[0])}" if found else " and never fit"
        parts.append(text)
    return f"GPU of {gpu_bytes / GB:.1f} GB: {', '.join(parts)}."


def plan_table(planner: Planner, section: TrainSection, gpu_gb: Sequence[int]) -> str:
    """Return a Markdown table: for each size of GPU what to set so that typical and longest pairs fit.

    Args:
        gpu_gb: sizes in units of 10^9 bytes.
    """
    lines = ["| GPU | pairs | values | GB |", "|---|---|---|---|"]
    for size in gpu_gb:
        for name, sample in (("typical", planner.typical()), ("longest", planner.longest())):
            found = fitting(planner, section, size * GB, sample)
            if found is None:
                lines.append(f"| {size} GB | {name} | do not fit | |")
                continue
            values, need = found
            lines.append(
                f"| {size} GB | {name} | {as_yaml(values) or 'as they are'} | {need.total / GB:.1f} |"
            )
    return "\n".join(lines)
