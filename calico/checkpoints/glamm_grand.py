"""GLaMM-GranD-Pretrained: language model, f_segmentation, mask decoder and GLaMM's projector (paper, C.1).

Source of the names: mbzuai-oryx/groundingLMM model/GLaMM.py.
"""

from calico.checkpoints.sam_vit_h import sam_rules
from calico.checkpoints.source import Rule, Source


def llama_rules() -> list[Rule]:
    """Return the key map of a LlamaForCausalLM; its rotary frequencies are computed, not loaded."""
    return [
        Rule(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"),
        Rule(r"model\.(embed_tokens|norm|layers)\..+|lm_head\.weight", "language_model"),
        Rule(r"model\.text_hidden_fcs\.0\.(.+)", "f_segmentation", r"\1"),
        # CLIP is read from its own checkpoint; it was never trained.
        Rule(r"model\.vision_tower\..+"),
    ]


SOURCE = Source(
    title="GLaMM-GranD-Pretrained",
    place="GLaMM-GranD-Pretrained",
    url="https://huggingface.co/MBZUAI/GLaMM-GranD-Pretrained",
    holds={"language_model": ".+", "f_segmentation": ".+", "mask_decoder": ".+", "mlp_projector": ".+"},
    rules=[
        *llama_rules(),
        *sam_rules(r"model\.grounding_encoder\.", needed=["mask_decoder"]),
        Rule(r"model\.mm_projector\.(.+)", "mlp_projector", r"\1"),
        Rule(r"model\.region_encoder\..+"),  # reads boxes in questions, which CALICO has none of
    ],
    example="model.text_hidden_fcs.0.0.weight",
    has_tokenizer=True,
)
