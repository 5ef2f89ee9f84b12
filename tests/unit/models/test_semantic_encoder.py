"""DINOv2's weight names, which differ between releases of transformers."""

import torch

from calico.models.semantic_encoder import _use_current_names, build_semantic_encoder
from tests.unit.models.small import small_section


def test_names_are_the_current_ones() -> None:
    names = set(build_semantic_encoder(small_section().semantic_encoder).state_dict())
    block = "encoder.layer.0."
    expected = {f"{block}attention.{letter}_proj.weight" for letter in "qkvo"} | {f"{block}mlp.fc1.weight"}
    assert expected <= names


def test_old_names_are_brought_up_to_date() -> None:
    fused = torch.arange(8.0).reshape(4, 2)
    block = "semantic_encoder.encoder.layer.0."
    state = {
        f"{block}attention.attention.key.weight": torch.zeros(1),
        f"{block}attention.output.dense.bias": torch.zeros(1),
        f"{block}mlp.weights_in.weight": fused,
        f"{block}mlp.weights_out.weight": torch.zeros(1),
        "qformer.encoder.layer.0.attention.attention.key.weight": torch.zeros(1),
    }
    _use_current_names(torch.nn.Identity(), state, "semantic_encoder.", {})
    assert set(state) == {
        f"{block}attention.k_proj.weight",
        f"{block}attention.o_proj.bias",
        f"{block}mlp.gate_proj.weight",
        f"{block}mlp.up_proj.weight",
        f"{block}mlp.down_proj.weight",
        "qformer.encoder.layer.0.attention.attention.key.weight",
    }
    assert torch.equal(state[f"{block}mlp.gate_proj.weight"], fused[:2])
    assert (
        state[f"{block}mlp.up_proj.weight"].data_ptr() == fused[2:].data_ptr()
    )  # a view: loading fills the whole
