"""Start a plain vision transformer as a local one, which saves it from learning locality.

Every head starts by looking at one diagonal neighbourhood of its token (as the heads of ConViT do), from
position alone; values and everything else start random and everything stays trainable. The classes are stock.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_DIRECTIONS = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))
_REACH_TOKENS = (0.5, 0.5, 0.75, 1.0)
_FURTHEST_TOKENS = 6


@torch.no_grad()
def start_local_sam(encoder: Any) -> None:
    """Write Gaussian attention into SAM's relative position tables and query biases.

    A head's logit is q . R_h[dy] + q . R_w[dx], q its bias at the start. Table columns -d^2 / 4 and d / 2 and
    biases 4 and 4 s give -(d - s)^2 up to a constant, for a head that looks s tokens away.
    """
    side, width = encoder.pos_embed.shape[1], encoder.pos_embed.shape[-1]
    encoder.pos_embed.copy_(0.3 * sinusoids(side, width))
    depth = len(encoder.blocks)
    for layer, block in enumerate(encoder.blocks):
        attention = block.attn
        reach = _REACH_TOKENS[min(layer, len(_REACH_TOKENS) - 1)]
        length = attention.rel_pos_h.shape[0]
        distance = torch.arange(length) - float(length // 2)
        for table in (attention.rel_pos_h, attention.rel_pos_w):
            table.normal_(0.0, 0.02)
            table[:, 0] = -(distance**2).clamp(max=_FURTHEST_TOKENS**2) / 4.0
            table[:, 1:3] = 0.0
        attention.rel_pos_h[:, 1] = distance / 2.0
        attention.rel_pos_w[:, 2] = distance / 2.0
        bias_HE = attention.qkv.bias[:width].view(attention.num_heads, -1)
        bias_HE.zero_()
        for head in range(attention.num_heads):
            down, right = _DIRECTIONS[head % len(_DIRECTIONS)]
            bias_HE[head, 0] = 4.0
            bias_HE[head, 1], bias_HE[head, 2] = 4.0 * reach * down, 4.0 * reach * right
        attention.qkv.weight[: 2 * width].normal_(0.0, 0.1 / width**0.5)
        attention.qkv.weight[2 * width :].normal_(0.0, 1.0 / width**0.5)
        attention.proj.weight.normal_(0.0, 1.0 / (2.0 * depth * width) ** 0.5)


@torch.no_grad()
def start_local(position_PF: Tensor, attentions: Sequence[Sequence[Any]], *, num_heads: int) -> None:
    """Write sinusoids into position embeddings, and queries and keys that compare them.

    Args:
        position_PF: position embeddings, that of the class token first; written in place.
        attentions: (query weight, key weight) of each layer, (F, F); written in place.
        num_heads: of each layer.
    """
    num_patches, width = position_PF.shape[0] - 1, position_PF.shape[1]
    position_PF[0] = 0.0
    position_PF[1:] = sinusoids(round(num_patches**0.5), width).view(num_patches, width)
    num_frequencies, head_width = width // 4, width // num_heads
    frequencies = _frequencies(num_frequencies)
    used = range(0, min(num_frequencies, 2 * (head_width // 4)), 2)
    for layer, (query_FF, key_FF) in enumerate(attentions):
        for weight in (query_FF, key_FF):
            weight.normal_(0.0, 0.1 / width**0.5)
        reach = _REACH_TOKENS[min(layer, len(_REACH_TOKENS) - 1)]
        for head in range(num_heads):
            direction = _DIRECTIONS[head % len(_DIRECTIONS)]
            row = head * head_width
            for axis, shift in enumerate(direction):
                start = axis * 2 * num_frequencies
                for index in used:
                    sine, cosine = start + index, start + num_frequencies + index
                    angle = frequencies[index] * shift * reach
                    key_FF[row, sine] = key_FF[row + 1, cosine] = 1.0
                    query_FF[row, sine] = query_FF[row + 1, cosine] = 6.0 * torch.cos(angle)
                    query_FF[row, cosine], query_FF[row + 1, sine] = (
                        6.0 * torch.sin(angle),
                        -6.0 * torch.sin(angle),
                    )
                    row += 2


@torch.no_grad()
def start_linear(module: nn.Module, num_layers: int) -> None:
    """Give linear and patch layers variance 1 / fan-in, ends of residual branches 1 / (2 layers) of it."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            fan_in = layer.weight[0].numel()
            is_branch_end = name.rsplit(".", 1)[-1] in (
                "fc2",
                "projection",
                "out_proj",
                "dense",
                "proj",
                "o_proj",
            )
            share = 2 * num_layers if is_branch_end and isinstance(layer, nn.Linear) else 1
            layer.weight.normal_(0.0, (fan_in * share) ** -0.5)
            if layer.bias is not None:
                layer.bias.zero_()


def sinusoids(side: int, width: int) -> Tensor:
    """Return two-dimensional sinusoids (side, side, width): sines and cosines of row, then of column."""
    angles = torch.arange(side, dtype=torch.float32)[:, None] * _frequencies(width // 4)
    line = torch.cat([angles.sin(), angles.cos()], dim=-1)
    rows, columns = line[:, None].expand(side, side, -1), line[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=-1)


def _frequencies(num: int) -> Tensor:
    return 100.0 ** (-torch.arange(num) / num)
