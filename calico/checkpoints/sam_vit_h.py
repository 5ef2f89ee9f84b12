"""SAM ViT-H as Meta published it: the grounding encoder and the prompt encoder (paper, C.1)."""

from collections.abc import Sequence

from calico.checkpoints.source import Rule, Source


def sam_rules(prefix: str, *, needed: Sequence[str]) -> list[Rule]:
    """Return the key map of a SAM, by itself or inside another checkpoint.

    Args:
        prefix: in front of SAM's own names, as a regular expression.
        needed: of "grounding_encoder", "prompt_encoder" and "mask_decoder"; the others are left out.
    """
    parts = {"grounding_encoder": "image_encoder"} | {
        name: name for name in ("prompt_encoder", "mask_decoder")
    }
    rules = [
        Rule(rf"{prefix}{theirs}\.(.+)", ours if ours in needed else None, r"\1")
        for ours, theirs in parts.items()
    ]
    return [*rules, Rule(rf"{prefix}pixel_(mean|std)")]  # the preprocessing states them itself


# Its mask decoder is left out: training starts from GLaMM's, which was trained to read [SEG].
SOURCE = Source(
    title="SAM ViT-H",
    place="sam_vit_h_4b8939.pth",
    url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",
    num_bytes=2_564_550_879,
    sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    holds={"grounding_encoder": ".+", "prompt_encoder": ".+"},
    rules=sam_rules("", needed=("grounding_encoder", "prompt_encoder")),
    example="image_encoder.blocks.0.attn.qkv.weight",
)
