"""The stage finetune: the paper's training on image pairs (section 3.5, appendix C.1)."""

from pathlib import Path

import torch

from calico.assembly import TRAINED_FILE, open_aligned, torch_settings
from calico.config import Config, VariantName
from calico.core.files import sha256_of
from calico.core.pair_rows import PairTable
from calico.data.loading.dataset import build_pair_dataset
from calico.tracking import Run
from calico.training.fit import Job, fit
from calico.training.plan import warn_of_memory
from calico.training.validation import choose_pairs

_TABLES = ("unify/images.parquet", "unify/objects.parquet", "unify/parts.parquet", "pair/train.parquet")
_VALIDATION_TABLE = "pair/val.parquet"


def finetune(
    config: Config, variant: VariantName, *, artifacts_path: Path, output_path: Path, run: Run
) -> None:
    """Train LoRA and the mask decoder, and CALICO's CEM and CAMs, on the training pairs.

    Writes trained.safetensors, log.jsonl and manifest.json; best.safetensors where it validates.

    Args:
        config: one profile.
        variant: "calico", "lisa" or "glamm".
        artifacts_path: the profile's artefacts: sources, unify, pair, checkpoints and, for CALICO, align.
        output_path: folder to write to.
        run: receives losses, learning rate and timings.

    Raises:
        CheckpointError: pretrained parts are missing or damaged.
        DataError: a table or an image is missing or damaged.
        TrainingError: a loss became NaN or infinite.
    """
    section = config.finetune
    with torch_settings(config.runtime):
        torch.manual_seed(section.seed)
        warn_of_memory(config, variant)
        assembly = open_aligned(config.model, variant, artifacts_path)
        dataset = build_pair_dataset(
            artifacts_path / "unify",
            artifacts_path / "sources",
            artifacts_path / "pair" / "rows" / "train",
            tokenizer=assembly.tokenizer,
            model=config.model,
            variant=variant,
            mask_loss_px=section.mask_loss_px,
            seed=section.seed,
            with_views=section.feature_cache == "none",
        )
        validation_pairs, tables = None, list(_TABLES)
        if section.validate_every:
            tables.append(_VALIDATION_TABLE)
            pairs = choose_pairs(PairTable(artifacts_path / "pair" / "rows" / "val"), section)
            validation_pairs = dataset.with_samples(pairs)
        job = Job(
            stage="finetune",
            variant=variant,
            assembly=assembly,
            dataset=dataset,
            sizes=dataset.num_targets,
            section=section,
            runtime=config.runtime,
            trained_file=TRAINED_FILE,
            runs_path=artifacts_path / "runs",
            tables={name: sha256_of(artifacts_path / name) for name in tables},
            validation_pairs=validation_pairs,
        )
        fit(job, output_path=output_path, run=run)
