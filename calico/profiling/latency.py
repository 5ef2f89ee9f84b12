"""Seconds that one pair takes: encode its images, generate the answer, decode the masks."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from calico.core.records import Batch
from calico.models.mask_decoder import upsample_masks
from calico.models.model import SegmentingModel

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Timing:
    """One pair, timed; seconds.

    Attributes:
        encode: the frozen encoders on all images of the pair.
        prefill: the prompt with its images, up to the first token of the answer; part of `generate`.
        per_token: each further token; 0 where the first one ends the answer.
        generate: prompt and answer, token by token, with a key-value cache.
        masks: [SEG] states to masks at the size of the image files.
        num_tokens: length of the answer.
        num_masks: how many [SEG] it has.
    """

    encode: float
    prefill: float
    per_token: float
    generate: float
    masks: float
    num_tokens: float
    num_masks: float

    @property
    def total(self) -> float:
        """Encode, generate and masks together."""
        return self.encode + self.generate + self.masks

    def as_dict(self) -> dict[str, float]:
        """Return the fields and the total."""
        return {**asdict(self), "total": self.total}


@torch.no_grad()
def time_pair(model: SegmentingModel, batch: Batch, *, max_new_tokens: int, num_repeats: int) -> Timing:
    """Answer one pair `num_repeats` times and return the median of each phase.

    Reading and resizing the image files is not timed.

    Args:
        model: in evaluation mode, on its device.
        batch: one pair with its views, collated for generation.
    """
    timings = [_time_once(model, batch, max_new_tokens) for _ in range(num_repeats)]
    return _combine(timings, statistics.median)


def mean_timing(timings: Sequence[Timing]) -> Timing:
    """Return the mean of each phase over pairs."""
    return _combine(timings, statistics.fmean)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_gb`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")


def peak_memory_gb(device: torch.device) -> float:
    """Return the most memory in use since the last reset: of the GPU, or of this process.

    Where the kernel cannot reset (not Linux), the process's peak since its start.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e9
    # Only POSIX has this module, and only Linux the files above.
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def _time_once(model: SegmentingModel, batch: Batch, max_new_tokens: int) -> Timing:
    start = _now(model.device)
    features = model.encode_images(batch.views)
    encoded = _now(model.device)
    model.generate(batch, features, max_new_tokens=1)
    prefilled = _now(model.device)
    (answer,) = model.generate(batch, features, max_new_tokens=max_new_tokens)
    generated = _now(model.device)
    num_masks, num_images = len(answer.seg_states_MD), len(batch.image_ids)
    # Which image a mask lies in changes nothing of its cost; spread them evenly instead of reading the text.
    image_index_M = torch.arange(num_masks) * num_images // max(1, num_masks)
    mask_logits_MGG, _ = model.decode_masks(answer.seg_states_MD, image_index_M, features)
    for index in range(num_images):
        upsample_masks(
            mask_logits_MGG[image_index_M.to(mask_logits_MGG.device) == index],
            resized_size=tuple(batch.resized_size_I2[index].tolist()),
            original_size=tuple(batch.original_size_I2[index].tolist()),
            image_size_px=batch.views["grounding"].shape[-1],
        )
    masked = _now(model.device)
    prefill, generate = prefilled - encoded, generated - prefilled
    num_further = len(answer.ids) + answer.is_complete - 1  # the end is a token too, though not of the ids
    return Timing(
        encode=encoded - start,
        prefill=prefill,
        per_token=(generate - prefill) / num_further if num_further else 0.0,
        generate=generate,
        masks=masked - generated,
        num_tokens=len(answer.ids),
        num_masks=num_masks,
    )


def _combine(timings: Sequence[Timing], reduce: Callable[[Iterable[float]], float]) -> Timing:
    rows = [asdict(timing) for timing in timings]
    return Timing(**{name: reduce(row[name] for row in rows) for name in rows[0]})


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
