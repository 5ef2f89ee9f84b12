"""The stage align: fit CALICO's images to its language model on grounded captions (appendix C.1)."""

from pathlib import Path

import torch

from calico.assembly import ALIGNED_FILE, open_pretrained, torch_settings
from calico.config import Config
from calico.core.files import sha256_of
from calico.data.loading.dataset import build_caption_dataset
from calico.tracking import Run
from calico.training.fit import Job, fit

_TABLES = ("unify/images.parquet", "unify/captions.parquet")


def align(config: Config, *, artifacts_path: Path, output_path: Path, run: Run) -> None:
    """Train the Q-Former and f_image on captions whose phrases have masks; everything else is frozen.

    The baselines take their projectors as published and skip this stage. Writes aligned.safetensors,
    log.jsonl and manifest.json.

    Args:
        config: one profile.
        artifacts_path: the profile's artefacts: sources, unify, checkpoints.
        output_path: folder to write to.
        run: receives losses, learning rate and timings.

    Raises:
        CheckpointError: pretrained parts are missing or damaged.
        DataError: a table or an image is missing or damaged.
        TrainingError: a loss became NaN or infinite.
    """
    section = config.align
    with torch_settings(config.runtime):
        torch.manual_seed(section.seed)
        assembly = open_pretrained(config.model, "calico", artifacts_path)
        dataset = build_caption_dataset(
            artifacts_path / "unify",
            artifacts_path / "sources",
            tokenizer=assembly.tokenizer,
            model=config.model,
            variant="calico",
            mask_loss_px=section.mask_loss_px,
            seed=section.seed,
            with_views=section.feature_cache == "none",
        )
        job = Job(
            stage="align",
            variant="calico",
            assembly=assembly,
            dataset=dataset,
            sizes=dataset.text_lengths,
            section=section,
            runtime=config.runtime,
            trained_file=ALIGNED_FILE,
            runs_path=artifacts_path / "runs",
            tables={name: sha256_of(artifacts_path / name) for name in _TABLES},
        )
        fit(job, output_path=output_path, run=run)
