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
from calico.data.loading.views import view_sizes
from calico.models.losses import Output
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


class CanonicalPair(nn.Module):
    """A model on the meta device with the canonical pair: calling it is one forward pass.

    Each image is encoded once, and the answer is given, as in training.
    """

    def __init__(
        self, model: ModelSection, variant: VariantName, profile: ProfileSection, *, vocabulary_size: int
    ) -> None:
        """Build the model and its inputs, without memory.

        Args:
            model: dimensions; built on the meta device, so any size counts in seconds.
            profile: the canonical sample: how many text and [SEG] tokens.
            vocabulary_size: rows of the language model's head.

        Raises:
            ConfigError: the [SEG] tokens do not fit into the answer.
        """
        super().__init__()
        with torch.device("meta"):
            self.model = build_model(
                model, variant, vocabulary_size=vocabulary_size, seg_id=SEG_ID, eos_id=EOS_ID
            )
        self.batch = canonical_batch(
            self.model.tokens_per_image,
            num_text_tokens=profile.num_text_tokens,
            num_seg_tokens=profile.num_seg_tokens,
        )
        self.views = {
            name: torch.empty(NUM_IMAGES, 3, side, side, device="meta")
            for name, side in view_sizes(model, variant).sides.items()
        }
        # As in training. In evaluation torch's fused attention would hide the CEM from the counters.
        set_trainable(self.model, "finetune")
        self.train()

    def forward(self) -> Output:
        """Encode the images and run the model."""
        output: Output = self.model(self.batch, self.model.encode_images(self.views))
        return output


def count_flops(pair: CanonicalPair) -> FlopCount:
    """Count the operations of encoding each image once and one forward pass with the answer given."""
    counter = FlopCounterMode(display=False)
    with counter, _ComponentCounter(pair.model, counter) as components:
        pair()
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
