"""Put a model together: architecture, pretrained parts, what the alignment and the finetuning trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from calico.checkpoints.layout import find_tokenizer
from calico.checkpoints.loader import load_pretrained, load_trained
from calico.config import ModelSection, RuntimeSection, VariantName
from calico.core.files import sha256_of, verify_manifest
from calico.core.tokens import SEG
from calico.errors import CheckpointError
from calico.language_models.tokenizer import load_tokenizer
from calico.models.model import SegmentingModel, build_model
from calico.models.trainable import set_trainable

ALIGNED_FILE = "aligned.safetensors"
TRAINED_FILE = "trained.safetensors"
ALIGNED = "aligned"  # among an assembly's digests


@dataclass(frozen=True)
class Assembly:
    """A model with its tokenizer.

    Attributes:
        digests: sha256 of every weight file in it by component; "aligned" for the alignment's.
    """

    model: SegmentingModel
    tokenizer: PreTrainedTokenizerFast
    digests: Mapping[str, str]


@contextmanager
def torch_settings(runtime: RuntimeSection) -> Iterator[None]:
    """Use the number of threads of `runtime` and flush denormal numbers inside the block.

    The last bits of a result depend on the number of threads. Measured when the masks of four pairs were
    learnt by heart: gradients below 1e-38 made a step on a CPU take up to 50 s instead of 0.2 s.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(runtime.num_threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        torch.set_flush_denormal(False)


def open_pretrained(section: ModelSection, variant: VariantName, artifacts_path: Path) -> Assembly:
    """Build a model from its pretrained parts; everything else in it is random, from torch's generator.

    Args:
        section: dimensions.
        variant: which model.
        artifacts_path: the profile's artefacts; the stage checkpoints has run.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
    """
    return open_base(section, variant, artifacts_path / "checkpoints")


def open_base(section: ModelSection, variant: VariantName, checkpoints_path: Path) -> Assembly:
    """Build a model from a folder of pretrained parts; see `open_pretrained`."""
    tokenizer = load_tokenizer(find_tokenizer(checkpoints_path, variant))
    model = build_model(
        section,
        variant,
        vocabulary_size=len(tokenizer),
        seg_id=tokenizer.get_vocab()[SEG],
        eos_id=tokenizer.eos_token_id,
    )
    loaded = load_pretrained(model, checkpoints_path, variant=variant)
    digests = {name: sha256_of(Path(report["file"])) for name, report in loaded.items()}
    return Assembly(model, tokenizer, digests)


def open_aligned(section: ModelSection, variant: VariantName, artifacts_path: Path) -> Assembly:
    """Build a model as finetuning finds it: `open_pretrained`, then the alignment's Q-Former and f_image.

    The baselines have neither and take their projectors as published.

    Raises:
        CheckpointError: see `open_pretrained`.
    """
    assembly = open_pretrained(section, variant, artifacts_path)
    if section.variants[variant].visual != "qformer":
        return assembly
    aligned_path = artifacts_path / "align" / ALIGNED_FILE
    set_trainable(assembly.model, "align")
    load_trained(assembly.model, aligned_path)
    return Assembly(
        assembly.model, assembly.tokenizer, {**assembly.digests, ALIGNED: sha256_of(aligned_path)}
    )


def open_finetuned(
    section: ModelSection, variant: VariantName, artifacts_path: Path, *, runtime: RuntimeSection
) -> Assembly:
    """Build a finetuned model, in evaluation mode, on the device and in the precision of `runtime`.

    Raises:
        CheckpointError: a file is missing, of another model, or finetuned on other pretrained parts.
        DataError: a finetuned file differs from its manifest.
    """
    folder = artifacts_path / "finetune" / variant
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            f"{folder}: no finetuned '{variant}' here. Run the pipeline up to its stage finetune."
        )
    manifest = verify_manifest(folder)
    assembly = open_aligned(section, variant, artifacts_path)
    check_digests(manifest["pretrained"], assembly.digests, folder)
    set_trainable(assembly.model, "finetune")
    load_trained(assembly.model, folder / TRAINED_FILE, facts={"variant": variant})
    assembly.model.requires_grad_(False).eval().to(runtime.device, getattr(torch, runtime.dtype))
    return assembly


def check_digests(trained_on: Mapping[str, str], digests: Mapping[str, str], folder: Path) -> None:
    """Compare the pretrained parts of a trained model with those present.

    Raises:
        CheckpointError: they differ; names which.
    """
    differing = sorted(name for name in {*trained_on, *digests} if trained_on.get(name) != digests.get(name))
    if differing:
        raise CheckpointError(
            f"{folder}: finetuned on other weights than those present: {', '.join(differing)} changed since. "
            "Run the stage finetune again, or put those weights back."
        )
