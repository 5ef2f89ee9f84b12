"""The folder that every run starts from: one safetensors file per component, and the tokenizer."""

from pathlib import Path

PRETRAINED_COMPONENTS = (
    "vision_encoder",  # EVA-CLIP
    "semantic_encoder",  # DINOv2 with registers
    "clip",  # of LISA and GLaMM
    "grounding_encoder",  # SAM image encoder
    "prompt_encoder",
    "mask_decoder",
    "qformer",  # with its query tokens
    "f_image",
    "linear_projector",  # LISA
    "mlp_projector",  # GLaMM
    "language_model",
    "f_segmentation",
)
TOKENIZER_FILE = "tokenizer.json"
REPORT_FILE = "report.json"


def component_path(folder: Path, component: str) -> Path:
    """Return the file of a component."""
    return Path(folder) / f"{component}.safetensors"


def variant_folder(folder: Path, variant: str) -> Path:
    """Return where a variant's own components lie, if it has some."""
    return Path(folder) / variant


def find_component(folder: Path, component: str, variant: str) -> Path:
    """Return the file of a component for a variant: its own if there is one, else the one that all share."""
    own = component_path(variant_folder(folder, variant), component)
    return own if own.is_file() else component_path(folder, component)


def find_tokenizer(folder: Path, variant: str) -> Path:
    """Return the tokenizer of a variant: its own if there is one, else the one that all share."""
    own = tokenizer_path(variant_folder(folder, variant))
    return own if own.is_file() else tokenizer_path(folder)


def tokenizer_path(folder: Path) -> Path:
    """Return the tokenizer's file."""
    return Path(folder) / TOKENIZER_FILE
