"""DINOv2-g with registers from its Hugging Face repository: the semantic encoder."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from calico.checkpoints.source import Rule, Source
from calico.config import ModelSection

# As published (left), and as transformers 5.23 names it (right).
_NAMES = {
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.",
    ".mlp.weights_out.": ".mlp.down_proj.",
}
_POSITIONS = "embeddings.position_embeddings"


def _adapt(tensors: Mapping[str, Tensor], section: ModelSection) -> dict[str, Tensor]:
    """Use current names, split fused gates, and fit the position embeddings to the image size in use."""
    adapted: dict[str, Tensor] = {}
    for published, tensor in tensors.items():
        if ".mlp.weights_in." in published:
            gate, up = tensor.chunk(2)
            adapted[published.replace(".weights_in.", ".gate_proj.")] = gate
            adapted[published.replace(".weights_in.", ".up_proj.")] = up
            continue
        current = published
        for old, new in _NAMES.items():
            current = current.replace(old, new)
        adapted[current] = tensor
    if _POSITIONS in adapted:
        encoder = section.semantic_encoder
        adapted[_POSITIONS] = _resize(adapted[_POSITIONS], encoder.image_size_px // encoder.patch_size_px)
    return adapted


def _resize(positions_1PF: Tensor, side: int) -> Tensor:
    """Interpolate position embeddings, the class token's first, to `side` x `side` patches.

    Source: facebookresearch/dinov2 hub/backbones.py: models with registers use antialiasing and no offset.
    """
    trained_side = round((positions_1PF.shape[1] - 1) ** 0.5)
    if side == trained_side or trained_side**2 + 1 != positions_1PF.shape[1]:
        return positions_1PF
    grid_1FSS = positions_1PF[:, 1:].unflatten(1, (trained_side, trained_side)).permute(0, 3, 1, 2)
    resized_1FSS = F.interpolate(grid_1FSS.float(), (side, side), mode="bicubic", antialias=True)
    resized_1PF = resized_1FSS.flatten(2).transpose(1, 2).to(positions_1PF.dtype)
    return torch.cat([positions_1PF[:, :1], resized_1PF], dim=1)


SOURCE = Source(
    title="DINOv2-g with registers",
    place="dinov2-with-registers-giant",
    url="https://huggingface.co/facebook/dinov2-with-registers-giant",
    holds={"semantic_encoder": ".+"},
    rules=[Rule(r"(embeddings|encoder|layernorm)\..+", "semantic_encoder")],
    example="encoder.layer.0.attention.attention.query.weight",
    adapt=_adapt,
)
