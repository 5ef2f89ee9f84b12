"""Q-Former and its query tokens, InstructBLIP's, without text (eq. 2 and 8)."""

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

from calico.model_config import QFormerSection


class QFormer(nn.Module):
    """Query tokens q and the Q-Former, one object for the first pass and for every CAM.

    Attributes:
        query_tokens: (1, Q, F), initialised N(0, .02) as in LAVIS.
        qformer: transformers' module without its text half (embeddings and text feed-forward).
    """

    def __init__(self, section: QFormerSection, encoder_width: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, section.num_queries, section.hidden_size))
        nn.init.normal_(self.query_tokens, std=0.02)
        self.qformer = InstructBlipQFormerModel(
            InstructBlipQFormerConfig(
                vocab_size=1,
                max_position_embeddings=1,
                hidden_size=section.hidden_size,
                intermediate_size=section.intermediate_size,
                num_hidden_layers=section.num_layers,
                num_attention_heads=section.num_heads,
                cross_attention_frequency=section.cross_attention_frequency,
                encoder_hidden_size=encoder_width,
                # Frozen in finetuning, where dropout must be off; the short alignment does without as well.
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        _remove_text_half(self.qformer)

    def forward(self, image_IPF: Tensor, guidance_IF: Tensor | None = None) -> Tensor:
        """Query the image tokens.

        Args:
            image_IPF: keys and values, X_global (eq. 2) or X'_global (eq. 8).
            guidance_IF: added to every query token of its image (eq. 7).

        Returns:
            X_embed, (I, Q, F).
        """
        queries_IQF = self.query_tokens.expand(image_IPF.shape[0], -1, -1)
        if guidance_IF is not None:
            queries_IQF = queries_IQF + guidance_IF[:, None]
        embed_IQF: Tensor = self.qformer(
            input_ids=None, query_embeds=queries_IQF, encoder_hidden_states=image_IPF
        ).last_hidden_state
        return embed_IQF


def _remove_text_half(qformer: InstructBlipQFormerModel) -> None:
    """Delete what only text tokens pass through; eq. 2 and 8 have no text in the Q-Former, as in VPG-C."""
    del qformer.embeddings.word_embeddings
    del qformer.embeddings.position_embeddings
    for layer in qformer.encoder.layer:
        del layer.intermediate
        del layer.output
