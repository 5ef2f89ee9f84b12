"""Correspondence Adaptation Module (section 3.4): the instruction asks the Q-Former again, amid the LLM."""

from torch import Tensor, nn

from calico.models.qformer import QFormer
from calico.models.splice import Positions, add_at_images


class CorrespondenceAdaptation(nn.Module):
    """The two projections of one CAM; the Q-Former is shared and passed in.

    Both start at zero, weights and biases, so that a new CAM changes nothing; its first step reaches only
    `f_reintegration`, from then on both learn. The paper's `f_integration` is `f_reintegration` too.

    Source: eq. 7 to 9; VPG-C, DCDmllm/Cheetah models/modeling_llama.py.
    """

    def __init__(self, *, hidden_size: int, qformer_width: int) -> None:
        super().__init__()
        self.f_adaptation = nn.Linear(hidden_size, qformer_width)
        self.f_reintegration = nn.Linear(qformer_width, hidden_size)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

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
            T^l with I^l + f_reintegration(Q(q + f_adaptation(t), X'_global)) at the images.
        """
        # t is the last prompt token, never one of the answer: it has seen all images and the instruction, is
        # the same in training and generation, and keeps a key-value cache exact.
        last_BD = hidden_BLD[positions.pair_B, positions.prompt_last_B]
        guidance_IF = self.f_adaptation(last_BD)[positions.pair_I]
        embed_IQF = qformer(image_IPF, guidance_IF)
        return add_at_images(hidden_BLD, self.f_reintegration(embed_IQF), positions)
