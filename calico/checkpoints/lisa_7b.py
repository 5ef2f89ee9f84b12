"""LISA-7B-v1: the baseline's own language model, f_segmentation, mask decoder and projector.

Source of the names: dvlab-research/LISA model/LISA.py. Its tokenizer has no `<p>` and `</p>`, which are
spelt in pieces of text.
"""

from calico.checkpoints.glamm_grand import llama_rules
from calico.checkpoints.sam_vit_h import sam_rules
from calico.checkpoints.source import Rule, Source

SOURCE = Source(
    title="LISA-7B-v1",
    place="LISA-7B-v1",
    url="https://huggingface.co/xinlai/LISA-7B-v1",
    holds={"language_model": ".+", "f_segmentation": ".+", "mask_decoder": ".+", "linear_projector": ".+"},
    rules=[
        *llama_rules(),
        *sam_rules(r"model\.visual_model\.", needed=["mask_decoder"]),
        Rule(r"model\.mm_projector\.(.+)", "linear_projector", r"\1"),
    ],
    example="model.visual_model.mask_decoder.iou_token.weight",
    folder="lisa",
    has_tokenizer=True,
)
