"""LLaMA (Vicuna): transformers' own modules, run layer by layer so that CAMs can reach a layer's input."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from calico.language_models.protocol import Injection
from calico.model_config import LanguageModelSection


class LlamaLanguageModel(nn.Module):
    """A LlamaForCausalLM and the way to run it.

    Attributes:
        stock: transformers' model, its parameter names untouched; LoRA is put into it in place.
        hidden_size: D.
        num_layers: number of decoder layers.
    """

    def __init__(self, section: LanguageModelSection, vocabulary_size: int) -> None:
        super().__init__()
        self.hidden_size = section.hidden_size
        self.num_layers = section.num_layers
        # sdpa, not eager: without a mask eager attention would not be causal.
        self.stock = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary_size,
                hidden_size=section.hidden_size,
                intermediate_size=section.intermediate_size,
                num_hidden_layers=section.num_layers,
                num_attention_heads=section.num_heads,
                rms_norm_eps=section.rms_norm_eps,
                max_position_embeddings=section.max_length,
                tie_word_embeddings=False,
                pad_token_id=None,
                attn_implementation="sdpa",  # type: ignore[call-arg]
            )
        )

    def checkpoint_layers(self) -> None:
        """Keep only the input of each layer for its gradient, and run the layer again: less memory."""
        # transformers 5.17 says "gradient", 5.23 "activation" and warns about the other name.
        kind = "activation" if hasattr(self.stock, "activation_checkpointing_enable") else "gradient"
        # The other kind, reentrant, needs an input with a gradient.
        how = {f"{kind}_checkpointing_kwargs": {"use_reentrant": False}}
        getattr(self.stock, f"{kind}_checkpointing_enable")(**how)

    def embed(self, input_ids_BL: Tensor) -> Tensor:
        """Return the token embeddings, (B, L, D)."""
        embeddings_BLD: Tensor = self.stock.model.embed_tokens(input_ids_BL)
        return embeddings_BLD

    def run(
        self,
        embeddings_BLD: Tensor,
        attention_mask_BS: Tensor | None,
        *,
        cache: DynamicCache | None = None,
        injections: Mapping[int, Injection] | None = None,
    ) -> Tensor:
        """Run all layers and the final norm.

        Args:
            embeddings_BLD: the last L positions; with a cache, those before are in it.
            attention_mask_BS: True where a position is not padding, for all S = cached + L positions. None,
                which is a fifth faster, if there is no padding, or at the right only, where no token sees it.
            cache: keys and values of earlier positions; extended in place.
            injections: by 0-based layer index; applied to the layer's input, once per call.

        Returns:
            States after the final norm, (B, L, D).
        """
        length = embeddings_BLD.shape[1]
        if attention_mask_BS is None:
            assert cache is None, "a cache needs the attention mask"
            mask_B1LS = None
            positions_BL = torch.arange(length, device=embeddings_BLD.device)[None]
        else:
            mask_B1LS = _causal_mask(attention_mask_BS, length, embeddings_BLD.dtype)
            positions_BL = (attention_mask_BS.long().cumsum(dim=1) - 1).clamp(min=0)[:, -length:]
        rotary = self.stock.model.rotary_emb(embeddings_BLD, position_ids=positions_BL)
        hidden_BLD = embeddings_BLD
        for index, layer in enumerate(self.stock.model.layers):
            if injections and index in injections:
                hidden_BLD = injections[index](hidden_BLD)
            hidden_BLD = layer(
                hidden_BLD,
                attention_mask=mask_B1LS,
                position_ids=positions_BL,
                past_key_values=cache,
                use_cache=cache is not None,
                position_embeddings=rotary,
            )
        normed_BLD: Tensor = self.stock.model.norm(hidden_BLD)
        return normed_BLD

    def head(self, hidden_D: Tensor) -> Tensor:
        """Return vocabulary logits of states of any leading shape."""
        logits_V: Tensor = self.stock.lm_head(hidden_D)
        return logits_V


def _causal_mask(attention_mask_BS: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return the additive mask, (B, 1, L, S), of the last `length` of S positions.

    A mask of our own: it works on the meta device, and a padding row that may see nothing gets finite numbers
    instead of NaN.
    """
    total = attention_mask_BS.shape[1]
    device = attention_mask_BS.device
    columns_S = torch.arange(total, device=device)
    rows_L1 = torch.arange(total - length, total, device=device)[:, None]
    visible_BLS = (columns_S <= rows_L1) & attention_mask_BS.bool()[:, None, :]
    blocked = torch.zeros(visible_BLS.shape, dtype=dtype, device=device)
    return blocked.masked_fill(~visible_BLS, torch.finfo(dtype).min)[:, None]
