"""DINOv2 with registers: the self-supervised features that the CEM draws correspondences from (eq. 5)."""

from typing import Any

from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from calico.model_config import SemanticEncoderSection


def build_semantic_encoder(section: SemanticEncoderSection) -> Dinov2WithRegistersModel:
    """Build DINOv2 with random weights; its `state_dict` has the same names under any transformers."""
    encoder = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=section.hidden_size,
            num_hidden_layers=section.num_layers,
            num_attention_heads=section.num_heads,
            mlp_ratio=section.mlp_ratio,
            use_swiglu_ffn=section.use_swiglu,
            image_size=section.image_size_px,
            patch_size=section.patch_size_px,
            num_register_tokens=section.num_register_tokens,
        )
    )
    encoder.register_state_dict_post_hook(_use_current_names)
    return encoder


def encode_semantic(encoder: Dinov2WithRegistersModel, images_ICHW: Tensor) -> Tensor:
    """Return X_semantic, (I, P, F): the keys of the last block, heads side by side, patches only.

    The last block is not run further than its keys.

    Source: eq. 5, "similarly to [2]": ShirAmir/dino-vit-features, facet "key" of the last layer, no binning.
    """
    layers: list[Any] = list(encoder.encoder.layer)
    *blocks, last = layers
    hidden_IPF = encoder.embeddings(images_ICHW)
    for block in blocks:
        hidden_IPF = block(hidden_IPF)
    keys_IPF: Tensor = _key_projection(last)(last.norm1(hidden_IPF))
    return keys_IPF[:, 1 + encoder.config.num_register_tokens :]


# transformers 5.17 (left) named what 5.23 (right) does; both are supported.
_NAMES = {
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.",
    ".mlp.weights_out.": ".mlp.down_proj.",
}


def _key_projection(block: Any) -> nn.Module:
    attention = block.attention
    projection: nn.Module = attention.k_proj if hasattr(attention, "k_proj") else attention.attention.key
    return projection


def _use_current_names(_: nn.Module, state: dict[str, Tensor], prefix: str, __: object) -> None:
    """Rename the entries of `state` below `prefix` in place; fused gates are split into views."""
    for name in [name for name in state if name.startswith(prefix)]:
        if ".mlp.weights_in." in name:
            gate, up = state.pop(name).chunk(2)
            state[name.replace(".weights_in.", ".gate_proj.")] = gate
            state[name.replace(".weights_in.", ".up_proj.")] = up
        else:
            current = name
            for old, new in _NAMES.items():
                current = current.replace(old, new)
            state[current] = state.pop(name)
