"""What the model asks of a language model backbone."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn
from transformers import DynamicCache

Injection = Callable[[Tensor], Tensor]
"""Takes hidden_BLD, the input of a layer, and returns what the layer shall get instead."""


class LanguageModel(Protocol):
    """A causal transformer whose layers' inputs can be changed from outside."""

    hidden_size: int
    num_layers: int

    @property
    def stock(self) -> nn.Module:
        """The backbone's own module, as its published checkpoint names it."""
        ...

    def embed(self, input_ids_BL: Tensor) -> Tensor:
        """Return the token embeddings, (B, L, D)."""
        ...

    def run(
        self,
        embeddings_BLD: Tensor,
        attention_mask_BS: Tensor | None,
        *,
        cache: DynamicCache | None = None,
        injections: Mapping[int, Injection] | None = None,
    ) -> Tensor:
        """Return the states after the final norm, (B, L, D)."""
        ...

    def head(self, hidden_D: Tensor) -> Tensor:
        """Return vocabulary logits of states of any leading shape."""
        ...
