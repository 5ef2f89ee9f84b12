"""Every encoder is built through calico.models, starts local, and is read as the model reads it."""

import pytest
import torch

from calico.config import load_config
from calico.standins.encoders import ENCODERS

MODEL = load_config("tiny").model


@pytest.mark.parametrize(("name", "num_tokens"), [
    ("grounding_encoder", 256), ("vision_encoder", 64), ("semantic_encoder", 64), ("clip", 64),
])  # fmt: skip
def test_encode_gives_patch_tokens_that_differ(name, num_tokens):
    torch.manual_seed(0)
    encoder = ENCODERS[name].build(MODEL)
    tokens_IPF = ENCODERS[name].encode(encoder, torch.randn(2, 3, 128, 128))
    assert tokens_IPF.shape[:2] == (2, num_tokens)
    assert torch.isfinite(tokens_IPF).all()
    assert tokens_IPF.std(dim=1).mean() > 0.05


def test_clip_reads_a_smaller_image():
    torch.manual_seed(0)
    kind = ENCODERS["clip"]
    assert kind.encode(kind.build(MODEL), torch.randn(1, 3, 96, 96)).shape[1] == 36


@pytest.mark.parametrize("name", ["vision_encoder", "clip"])
def test_start_local_a_head_prefers_its_neighbourhood(name):
    """The first layer's logits from position alone are highest within two tokens."""
    torch.manual_seed(0)
    encoder = ENCODERS[name].build(MODEL)
    if name == "clip":
        position_PF = encoder.embeddings.position_embedding.weight[1:]
        attention = encoder.encoder.layers[0].self_attn
        query_FF, key_FF = attention.q_proj.weight, attention.k_proj.weight
    else:
        position_PF = encoder.embeddings.position_embedding[0, 1:]
        query_FF, key_FF = encoder.encoder.layers[0].self_attn.qkv.weight.chunk(3)[:2]
    queries_PHE, keys_PHE = ((position_PF @ weight.T).unflatten(1, (4, -1)) for weight in (query_FF, key_FF))
    best_HP = torch.einsum("phe,qhe->hpq", queries_PHE, keys_PHE).argmax(dim=-1)
    row_P, column_P = torch.arange(64) // 8, torch.arange(64) % 8
    far_HP = torch.maximum((best_HP // 8 - row_P).abs(), (best_HP % 8 - column_P).abs())
    assert far_HP.max() <= 2
    assert far_HP.float().mean() < 1.0


def test_start_local_sam_attention_falls_with_distance():
    torch.manual_seed(0)
    encoder = ENCODERS["grounding_encoder"].build(MODEL)
    attention = encoder.blocks[1].attn
    bias_HE = attention.qkv.bias[: attention.qkv.in_features].view(attention.num_heads, -1)
    logits_HR = bias_HE @ attention.rel_pos_h.T
    centre = attention.rel_pos_h.shape[0] // 2
    assert ((logits_HR.argmax(dim=1) - centre).abs() <= 1).all()
    assert (logits_HR[:, centre] - logits_HR[:, centre + 5] > 5).all()
