"""CLIP ViT-L/14-336 from its Hugging Face repository: the vision encoder of GLaMM and, resized, of LISA."""

from calico.checkpoints.source import Rule, Source

SOURCE = Source(
    title="CLIP ViT-L/14-336",
    place="clip-vit-large-patch14-336",
    url="https://huggingface.co/openai/clip-vit-large-patch14-336",
    holds={"clip": ".+"},
    rules=[
        Rule(r"vision_model\.embeddings\.position_ids"),
        Rule(r"vision_model\.(.+)", "clip", r"\1"),
        Rule(r"text_model\..+|(text|visual)_projection\.weight|logit_scale"),
    ],
    example="vision_model.encoder.layers.0.self_attn.q_proj.weight",
)
