"""Greedy decoding: a key-value cache, images and CAMs in the prompt only, the state of every [SEG] kept."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from calico.language_models.protocol import Injection, LanguageModel


@dataclass(frozen=True)
class Generated:
    """One generated answer.

    Attributes:
        ids: token ids without the end token.
        seg_states_MD: for each [SEG] in `ids`, in order, the state that predicted it.
        seg_log_probabilities_M: log-probability of each [SEG].
        is_complete: False where the answer was cut off at the length limit.
    """

    ids: tuple[int, ...]
    seg_states_MD: Tensor
    seg_log_probabilities_M: Tensor
    is_complete: bool


@dataclass(frozen=True)
class Prompt:
    """Left-padded prompts, images in place.

    Attributes:
        embeddings_BLD: input of the first layer.
        attention_mask_BL: True where a position is not padding.
        injections: the CAMs, by layer.
    """

    embeddings_BLD: Tensor
    attention_mask_BL: Tensor
    injections: Mapping[int, Injection]


@torch.no_grad()
def generate_greedily(
    language_model: LanguageModel,
    prompt: Prompt,
    *,
    seg_id: int,
    eos_id: int,
    max_new_tokens: int,
    use_cache: bool = True,
) -> list[Generated]:
    """Extend every prompt by its most probable tokens until "</s>".

    With a cache the CAMs run once: what they add lives on in the keys and values of the later layers. That is
    exact, because it depends on prompt tokens alone.

    Args:
        language_model: the backbone.
        prompt: B prompts.
        seg_id, eos_id: ids of [SEG] and "</s>".
        max_new_tokens: length limit.
        use_cache: False runs the whole sequence for every token, as GLaMM and LISA do; for cost figures.

    Returns:
        B answers.
    """
    cache = DynamicCache() if use_cache else None
    inputs_BLD, mask_BS = prompt.embeddings_BLD, prompt.attention_mask_BL
    injections: Mapping[int, Injection] | None = prompt.injections
    is_open_B = torch.ones(len(mask_BS), dtype=torch.bool, device=mask_BS.device)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(steps) < max_new_tokens and is_open_B.any():
        hidden_BLD = language_model.run(inputs_BLD, mask_BS, cache=cache, injections=injections)
        state_BD = hidden_BLD[:, -1]
        log_probability_B, id_B = language_model.head(state_BD).float().log_softmax(dim=-1).max(dim=-1)
        steps.append((id_B, log_probability_B, state_BD))
        is_open_B = is_open_B & (id_B != eos_id)
        mask_BS = torch.cat([mask_BS, torch.ones_like(mask_BS[:, :1])], dim=1)
        next_B1D = language_model.embed(id_B[:, None])
        if cache is None:
            inputs_BLD = torch.cat([inputs_BLD, next_B1D], dim=1)
        else:
            inputs_BLD, injections = next_B1D, None
    ids_BS, log_probabilities_BS, states_BSD = (
        torch.stack(column, dim=1) for column in zip(*steps, strict=True)
    )
    return [
        _answer(*row, seg_id=seg_id, eos_id=eos_id)
        for row in zip(ids_BS, log_probabilities_BS, states_BSD, strict=True)
    ]


def _answer(
    ids_S: Tensor, log_probabilities_S: Tensor, states_SD: Tensor, *, seg_id: int, eos_id: int
) -> Generated:
    ids = ids_S.tolist()
    length = ids.index(eos_id) if eos_id in ids else len(ids)
    seg_M = (ids_S[:length] == seg_id).nonzero(as_tuple=True)[0]
    return Generated(tuple(ids[:length]), states_SD[seg_M], log_probabilities_S[seg_M], length < len(ids))
