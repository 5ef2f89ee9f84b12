"""From the vision encoder's width to the language model's: f_image, and the projectors of the baselines."""

from torch import nn


def build_f_image(qformer_width: int, hidden_size: int) -> nn.Linear:
    """Build f_image of eq. 1 (InstructBLIP's `llm_proj`)."""
    return nn.Linear(qformer_width, hidden_size)


def build_linear_projector(clip_width: int, hidden_size: int) -> nn.Linear:
    """Build LISA's projector (LLaVA v1 `mm_projector`)."""
    return nn.Linear(clip_width, hidden_size)


def build_mlp_projector(clip_width: int, hidden_size: int) -> nn.Sequential:
    """Build GLaMM's projector (LLaVA v1.5 `mlp2x_gelu`)."""
    return nn.Sequential(nn.Linear(clip_width, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
