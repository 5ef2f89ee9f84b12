"""What each stage trains; everything else is frozen."""

from calico.models.lora import lora_parameters
from calico.models.model import SegmentingModel

# Section 3.2 and Table 4: 29.14 M, that is LoRA, the mask decoder, the CEM and the CAMs; f_image, the
# Q-Former, the embeddings and f_segmentation stay frozen. The alignment before fits images to the LLM.
# No published checkpoint holds the projector of the ablation without a Q-Former, so it is trained too.
_TRAINED_COMPONENTS = {
    "finetune": ("mask_decoder", "cem", "cams", "patch_projector"),
    "align": ("qformer", "f_image", "linear_projector", "mlp_projector"),
}


def set_trainable(model: SegmentingModel, stage: str) -> None:
    """Let gradients reach exactly what `stage` trains.

    Args:
        model: mutated.
        stage: "finetune" (LoRA, mask decoder, CEM, CAMs, `patch_projector`) or "align" (Q-Former with its
            queries, f_image; the projector of a baseline).
    """
    components = model.components
    model.requires_grad_(False)
    for name in _TRAINED_COMPONENTS[stage]:
        if name in components:
            components[name].requires_grad_(True)
    if stage == "finetune":
        for parameter in lora_parameters(components["language_model"]):
            parameter.requires_grad_(True)


def parameter_counts(model: SegmentingModel) -> dict[str, dict[str, int]]:
    """Return {"total", "trainable"} of each component, of "lora" (in "language_model") and of "all"."""
    parts = {name: list(component.parameters()) for name, component in model.components.items()}
    parts["lora"] = lora_parameters(model.components["language_model"])
    parts["all"] = list(model.parameters())
    return {
        name: {
            "total": sum(parameter.numel() for parameter in parameters),
            "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        }
        for name, parameters in parts.items()
    }
