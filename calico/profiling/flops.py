"""Operations of one teacher-forced forward pass over one pair, counted without weights or memory.

Counted are matrix products, convolutions and attention, two operations for a multiply and an add.

Deviation: the paper names DeepSpeed's profiler for its TFLOPS, not what it counted; this definition is ours.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from calico.config import ModelSection, ProfileSection, VariantName
from calico.data.loading.canonical import EOS_ID, NUM_IMAGES, SEG_ID, canonical_batch
from calico.data.loading.views import GLOBAL_VIEW, GROUNDING_VIEW, SEMANTIC_VIEW, view_sizes
from calico.models.model import SegmentingModel, build_model
from calico.models.trainable import set_trainable


@dataclass(frozen=True)
class FlopCount:
    """Operations of one pair.

    Attributes:
        total: all of them.
        components: by component of the model, "other" for what lies between them; sums to `total`.
    """

    total: int
    components: Mapping[str, int]


def count_flops(
    model: ModelSection, variant: VariantName, profile: ProfileSection, *, vocabulary_size: int
) -> FlopCount:
    """Count the operations of encoding each image once and one forward pass with the answer given.

    Args:
        model: dimensions; built on the meta device, so any size counts in seconds.
        profile: the canonical sample: how many text and [SEG] tokens.
        vocabulary_size: rows of the language model's head.

    Raises:
        ConfigError: the [SEG] tokens do not fit into the answer.
    """
    with torch.device("meta"):
        built = build_model(model, variant, vocabulary_size=vocabulary_size, seg_id=SEG_ID, eos_id=EOS_ID)
        sizes = view_sizes(model, variant)
        sides = {
            GLOBAL_VIEW: sizes.global_px,
            SEMANTIC_VIEW: sizes.semantic_px,
            GROUNDING_VIEW: sizes.grounding_px,
        }
        views = {name: torch.empty(NUM_IMAGES, 3, side, side) for name, side in sides.items() if side}
    batch = canonical_batch(
        built.tokens_per_image, num_text_tokens=profile.num_text_tokens, num_seg_tokens=profile.num_seg_tokens
    )
    # As in training. In evaluation torch's fused attention would hide the CEM from the counter.
    set_trainable(built, "finetune")
    built.train()
    counter = FlopCounterMode(display=False)
    with counter, _ComponentCounter(built, counter) as components:
        built(batch, built.encode_images(views))
    total = counter.get_total_flops()
    return FlopCount(total, {**components.flops, "other": total - sum(components.flops.values())})


class _ComponentCounter:
    """Attributes operations to the outermost component: a CAM's Q-Former query counts as the CAM's."""

    def __init__(self, model: SegmentingModel, counter: FlopCounterMode) -> None:
        self.flops: Counter[str] = Counter()
        self._counter = counter
        self._model = model
        self._starts: list[int] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "_ComponentCounter":
        for name, component in self._model.components.items():
            for module in component.modules():
                self._handles.append(module.register_forward_pre_hook(self._start))
                self._handles.append(module.register_forward_hook(partial(self._stop, name)))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _start(self, module: nn.Module, inputs: object) -> None:
        del module, inputs
        self._starts.append(self._counter.get_total_flops())

    def _stop(self, name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        del module, inputs, output
        start = self._starts.pop()
        if not self._starts:
            self.flops[name] += self._counter.get_total_flops() - start
