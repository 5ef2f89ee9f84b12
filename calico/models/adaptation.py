"""Correspondence Adaptation Module (section 3.4): the instruction asks the Q-Former again, amid the LLM."""

from typing import Literal

from torch import Tensor, nn

from calico.models.qformer import QFormer
from calico.models.splice import Positions, add_at_images


class CorrespondenceAdaptation(nn.Module):
    """The two projections of one CAM; the Q-Former is shared and passed in.

    Both start at zero, weights and biases, so that a new CAM changes nothing; its first step reaches only
    `f_reintegration`, from then on both learn. The paper's `f_integration` is `f_reintegration` too.

    Two ablations of Table 2 leave a step out. "unqueried" ("w/o CEM": images are fused with only the state of
    the layer before) adds f_reintegration(f_adaptation(t)) to every image token; its `f_adaptation` starts at
    random, since two zero layers in a row never learn. "unguided" ("w/o CAM") asks the Q-Former with its own
    queries and has no `f_adaptation`.

    Source: eq. 7 to 9; VPG-C, DCDmllm/Cheetah models/modeling_llama.py.
    """

    def __init__(
        self, *, hidden_size: int, qformer_width: int, kind: Literal["full", "unqueried", "unguided"] = "full"
    ) -> None:
        super().__init__()
        self._kind = kind
        self.f_adaptation = None if kind == "unguided" else nn.Linear(hidden_size, qformer_width)
        self.f_reintegration = nn.Linear(qformer_width, hidden_size)
        for layer in (self.f_reintegration, self.f_adaptation if kind == "full" else None):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, hidden_BLD: Tensor, image_IPF: Tensor, qformer: QFormer, positions: Positions
    ) -> Tensor:
        """Add context-guided image information at the image positions of a layer's input.

        Args:
            hidden_BLD: T^l, the input of 0-based layer l; not mutated.
            image_IPF: X'_global.
            qformer: the one Q-Former of the model.
            positions: where images and the last prompt tokens stand.

        Returns:
            T^l with I^l + f_reintegration(Q(q + f_adaptation(t), X'_global)) at the images, or what the kind
            leaves of it.
        """
        guidance_IF = self._guidance(hidden_BLD, positions)
        if self._kind == "unqueried":
            assert guidance_IF is not None
            embed_IQF = guidance_IF[:, None].expand(-1, qformer.query_tokens.shape[1], -1)
        else:
            embed_IQF = qformer(image_IPF, guidance_IF)
        return add_at_images(hidden_BLD, self.f_reintegration(embed_IQF), positions)

    def _guidance(self, hidden_BLD: Tensor, positions: Positions) -> Tensor | None:
        """Return f_adaptation(t) for every image (eq. 7)."""
        if self.f_adaptation is None:
            return None
        # t is the last prompt token, never one of the answer: it has seen all images and the instruction, is
        # the same in training and generation, and keeps a key-value cache exact.
        last_BD = hidden_BLD[positions.pair_B, positions.prompt_last_B]
        guidance_IF: Tensor = self.f_adaptation(last_BD)[positions.pair_I]
        return guidance_IF
