"""LoRA on the query and value projections of the language model, and of nothing else."""

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from calico.model_config import LoraSection

_TARGETS = ("q_proj", "v_proj")


def add_lora(language_model: nn.Module, section: LoraSection) -> None:
    """Put LoRA into `language_model` in place; outputs stay the same until it is trained.

    SAM's mask decoder, CLIP and DINOv2 have layers of the same names: pass the language model alone.
    """
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        bias="none",
        target_modules=list(_TARGETS),
    )
    inject_adapter_in_model(config, language_model)


def lora_layers(module: nn.Module) -> list[LoraLayer]:
    """Return the layers with LoRA: two per layer of the language model."""
    return [layer for layer in module.modules() if isinstance(layer, LoraLayer)]


def lora_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the matrices A and B of every LoRA."""
    return [parameter for name, parameter in module.named_parameters() if "lora_" in name]


def merged_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the weight of every layer with LoRA, by its stock name, LoRA added; `module` is not changed."""
    return {
        f"{name}.weight": layer.get_base_layer().weight + layer.get_delta_weight("default")  # type: ignore[attr-defined]
        for name, layer in module.named_modules()
        if isinstance(layer, LoraLayer)
    }


def merge_lora(module: nn.Module) -> None:
    """Add every LoRA into its weight, in place, for faster inference; the model must not be trained on."""
    for layer in lora_layers(module):
        layer.merge()
