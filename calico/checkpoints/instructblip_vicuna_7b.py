"""InstructBLIP Vicuna-7B as LAVIS published it: Q-Former, query tokens, f_image, EVA-CLIP's last norm.

Source of the names: salesforce/LAVIS models/blip2_models/blip2_vicuna_instruct.py and Qformer.py.
"""

from calico.checkpoints.source import Rule, Source

_BERT, _LAYER = r"Qformer\.bert\.", r"Qformer\.bert\.encoder\.layer\.(\d+)\."
_OURS = r"qformer.encoder.layer.\1."

SOURCE = Source(
    title="InstructBLIP Vicuna-7B",
    place="instruct_blip_vicuna7b_trimmed.pth",
    url=(
        "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/InstructBLIP/"
        "instruct_blip_vicuna7b_trimmed.pth"
    ),
    holds={"qformer": ".+", "f_image": ".+", "vision_encoder": r"post_layernorm\..+"},
    rules=[
        Rule("query_tokens", "qformer", "query_tokens"),
        Rule(rf"{_BERT}embeddings\.LayerNorm\.(.+)", "qformer", r"qformer.embeddings.layernorm.\1"),
        Rule(rf"{_LAYER}(attention|crossattention)\.self\.(.+)", "qformer", rf"{_OURS}\2.attention.\3"),
        Rule(rf"{_LAYER}((attention|crossattention)\.output\..+)", "qformer", rf"{_OURS}\2"),
        Rule(rf"{_LAYER}((intermediate|output)_query\..+)", "qformer", rf"{_OURS}\2"),
        # The Q-Former's text half: eq. 2 and 8 give it no text.
        Rule(rf"{_BERT}embeddings\.(word_embeddings|position_embeddings)\.weight"),
        Rule(rf"{_BERT}embeddings\.position_ids"),
        Rule(rf"{_LAYER}(intermediate|output)\..+"),
        Rule(r"llm_proj\.(.+)", "f_image", r"\1"),
        Rule(r"ln_vision\.(.+)", "vision_encoder", r"post_layernorm.\1"),
    ],
    example="Qformer.bert.encoder.layer.0.crossattention.self.key.weight",
    root="model",
)
