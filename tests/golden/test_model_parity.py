"""Every box against the stock modules of transformers and segment-anything, random weights, no downloads."""

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from transformers import (
    CLIPVisionModel,
    Dinov2WithRegistersModel,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
    InstructBlipVisionModel,
    LlamaForCausalLM,
)

from calico.language_models.llama import LlamaLanguageModel
from calico.model_config import LanguageModelSection, QFormerSection
from calico.models.correspondence import CorrespondenceExtraction
from calico.models.mask_decoder import build_mask_decoder, build_prompt_encoder, decode, position_encoding
from calico.models.qformer import QFormer
from calico.models.semantic_encoder import build_semantic_encoder, encode_semantic
from calico.models.vision_encoder import build_clip, build_vision_encoder, encode_clip, encode_global
from tests.unit.models.small import small_section

SECTION = small_section()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_vision_encoder() -> None:
    encoder = build_vision_encoder(SECTION.vision_encoder).eval()
    assert type(encoder) is InstructBlipVisionModel
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(encode_global(encoder, images), encoder(images).last_hidden_state)
    assert encode_global(encoder, images).shape == (2, 1 + 4, 24)


@pytest.mark.parametrize("side", [48, 32])
def test_clip_is_the_last_layer_but_one_without_the_class_token(side: int) -> None:
    encoder = build_clip(SECTION.clip).eval()
    assert type(encoder) is CLIPVisionModel
    images = torch.randn(2, 3, side, side)
    tokens = encode_clip(encoder, images)
    embedded = encoder.pre_layrnorm(encoder.embeddings(images, interpolate_pos_encoding=side != 48))
    for layer in encoder.encoder.layers[:-1]:
        embedded = layer(embedded, attention_mask=None)
    # Measured worst case 0.
    torch.testing.assert_close(tokens, embedded[:, 1:], rtol=0, atol=1e-6)
    assert tokens.shape == (2, (side // 16) ** 2, 24)


def test_semantic_encoder_gives_the_keys_of_the_last_block() -> None:
    encoder = build_semantic_encoder(SECTION.semantic_encoder).eval()
    assert type(encoder) is Dinov2WithRegistersModel
    captured = []
    attention = encoder.encoder.layer[-1].attention
    projection = attention.k_proj if hasattr(attention, "k_proj") else attention.attention.key
    hook = projection.register_forward_hook(lambda _, __, output: captured.append(output))
    images = torch.randn(2, 3, 32, 32)
    encoder(images)
    hook.remove()
    keys = encode_semantic(encoder, images)
    assert keys.shape == (2, 4, 16)
    # Measured worst case 0.
    torch.testing.assert_close(keys, captured[0][:, 1 + 4 :], rtol=0, atol=1e-6)


def test_qformer_without_its_text_half_is_the_whole_one_on_queries() -> None:
    section: QFormerSection = SECTION.qformer
    ours = QFormer(section, 24).eval()
    whole = InstructBlipQFormerModel(
        InstructBlipQFormerConfig(
            vocab_size=13,
            hidden_size=section.hidden_size,
            intermediate_size=section.intermediate_size,
            num_hidden_layers=section.num_layers,
            num_attention_heads=section.num_heads,
            cross_attention_frequency=section.cross_attention_frequency,
            encoder_hidden_size=24,
        )
    ).eval()
    report = whole.load_state_dict(ours.qformer.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(
        ".intermediate." in key or ".output." in key or "_embeddings." in key for key in report.missing_keys
    )
    image, guidance = torch.randn(2, 5, 24), torch.randn(2, section.hidden_size)
    queries = ours.query_tokens + guidance[:, None]
    expected = whole(input_ids=None, query_embeds=queries, encoder_hidden_states=image).last_hidden_state
    assert torch.equal(ours(image, guidance), expected)


def test_cem_is_residual_multi_head_attention() -> None:
    cem = CorrespondenceExtraction(width=24, semantic_width=16, num_heads=2).eval()
    for parameter in cem.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    query, source = torch.randn(2, 5, 24), torch.randn(2, 4, 16)
    attention = cem.attention
    bias_q, bias_k, bias_v = attention.in_proj_bias.chunk(3)
    q, k, v = (
        (inputs @ weight.T + bias).unflatten(2, (2, 12)).transpose(1, 2)
        for inputs, weight, bias in (
            (query, attention.q_proj_weight, bias_q),
            (source, attention.k_proj_weight, bias_k),
            (source, attention.v_proj_weight, bias_v),
        )
    )
    mixed = (q @ k.transpose(2, 3) / 12**0.5).softmax(dim=-1) @ v
    expected = query + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    # Measured worst case 7.2e-7.
    torch.testing.assert_close(cem(query, source), expected, rtol=0, atol=7e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_llama_layer_by_layer_is_llama(side: str) -> None:
    section: LanguageModelSection = SECTION.language_model
    ours = LlamaLanguageModel(section, 40).eval()
    assert type(ours.stock) is LlamaForCausalLM
    ids = torch.randint(3, 40, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, : 3 if side == "left" else None] = False
    if side == "right":
        mask[1] = torch.arange(9) < 6
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    expected = ours.stock(ids, attention_mask=mask.long(), position_ids=positions).logits
    logits = ours.head(ours.run(ours.embed(ids), mask))
    # Measured worst case 0.
    torch.testing.assert_close(logits[mask], expected[mask], rtol=0, atol=1e-6)
    if side == "right":
        causal_only = ours.head(ours.run(ours.embed(ids), None))
        torch.testing.assert_close(causal_only[mask], expected[mask], rtol=0, atol=1e-6)


def test_masks_of_many_images_at_once_are_the_stock_decoders_one_image_at_a_time() -> None:
    decoder = build_mask_decoder(SECTION.grounding).eval()
    prompt_encoder = build_prompt_encoder(SECTION.grounding).eval()
    assert type(decoder) is MaskDecoder
    assert type(prompt_encoder) is PromptEncoder
    for parameter in (*decoder.parameters(), *prompt_encoder.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    grounding, prompts = torch.randn(3, 16, 4, 4), torch.randn(7, 16)
    image_index = torch.tensor([2, 0, 0, 1, 2, 0, 1])
    masks, iou = decode(decoder, prompt_encoder, prompts, grounding[image_index])
    _, dense = prompt_encoder(points=None, boxes=None, masks=None)
    for image in range(3):
        chosen = image_index == image
        expected_masks, expected_iou = decoder(
            image_embeddings=grounding[image : image + 1],
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts[chosen][:, None],
            dense_prompt_embeddings=dense.expand(int(chosen.sum()), -1, -1, -1),
            multimask_output=False,
        )
        # Measured worst case 1.8e-7.
        torch.testing.assert_close(masks[chosen], expected_masks[:, 0], rtol=0, atol=2e-6)
        torch.testing.assert_close(iou[chosen], expected_iou[:, 0], rtol=0, atol=2e-6)


def test_position_encoding_is_the_stock_one_and_works_in_bfloat16() -> None:
    prompt_encoder = build_prompt_encoder(SECTION.grounding)
    assert torch.equal(position_encoding(prompt_encoder), prompt_encoder.get_dense_pe())
    assert position_encoding(prompt_encoder.to(torch.bfloat16)).dtype == torch.bfloat16
