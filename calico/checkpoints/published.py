"""The published checkpoints of the paper profile (C.1). Reading their layouts is not built yet."""

from pathlib import Path
from typing import Any

from calico.errors import CheckpointError

# File or repository: the components that it holds.
SOURCES = {
    "MBZUAI/GLaMM-GranD-Pretrained": ("language_model", "f_segmentation", "mask_decoder", "mlp_projector"),
    "xinlai/LISA-7B-v1": ("linear_projector",),
    "sam_vit_h_4b8939.pth": ("grounding_encoder", "prompt_encoder"),
    "instruct_blip_vicuna7b_trimmed.pth": ("qformer", "f_image"),
    "eva_vit_g.pth": ("vision_encoder",),
    "openai/clip-vit-large-patch14-336": ("clip",),
    "facebook/dinov2-with-registers-giant": ("semantic_encoder",),
}


def install_published(folder: Path, output_path: Path) -> dict[str, Any]:
    """Refuse: converting the published files is not built yet.

    Args:
        folder: where the published files lie.
        output_path: folder of the run's checkpoints.

    Raises:
        CheckpointError: always; names what is missing.
    """
    raise CheckpointError(
        f"{output_path}: cannot be made from the published checkpoints in '{folder}', because readers are "
        f"missing for {', '.join(SOURCES)}. Run the tiny profile, which has stand-ins."
    )
