"""Validation while training: losses and IoU on a fixed part of the val pairs, with the true answers given."""

import time
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from calico.config import FinetuneSection, LossSection
from calico.core.pair_rows import PairTable
from calico.core.records import Batch, PairSample
from calico.data.loading.dataset import PairDataset
from calico.data.loading.feature_cache import FeatureCache
from calico.errors import DataError, TrainingError
from calico.models.losses import Output, at_target_size, compute_losses, count_terms
from calico.models.model import SegmentingModel
from calico.training.engine import Engine
from calico.training.samples import make_batches
from calico.training.step_log import ValidationRecord


def choose_pairs(pairs: PairTable, section: FinetuneSection) -> list[PairSample]:
    """Return `section.num_validation_pairs` of the val pairs, the same for a seed; all if there are fewer.

    Raises:
        DataError: there are none.
    """
    if not pairs:
        raise DataError(
            f"finetune.validate_every is {section.validate_every}, but there are no val pairs. Set it to 0, "
            "or raise pair.num_pairs.val."
        )
    generator = np.random.default_rng([section.seed, zlib.crc32(b"validation")])
    count = min(section.num_validation_pairs, len(pairs))
    return [pairs[row] for row in sorted(generator.choice(len(pairs), count, replace=False).tolist())]


class Validation:
    """Looks at a model between two steps and leaves no trace in it, nor in any generator.

    The processes share the batches; the figures of a validation do not depend on how many they are, but for
    the last bits.
    """

    def __init__(
        self,
        dataset: PairDataset,
        model: SegmentingModel,
        section: FinetuneSection,
        engine: Engine,
        *,
        pad_id: int,
    ) -> None:
        """Encode the images of this process's share; their features stay in memory.

        Args:
            dataset: the pairs to validate on; not empty.
            model: the engine's, in evaluation mode, its encoders on the device.
            pad_id: see `collate`.
        """
        rows_by_size = np.argsort(dataset.num_targets, kind="stable").tolist()
        size = section.batch_size
        groups = [rows_by_size[start : start + size] for start in range(0, len(rows_by_size), size)]
        self._groups: Sequence[Sequence[int]] = groups[engine.rank :: engine.world_size]
        own = dataset.with_samples([dataset.samples[row] for group in self._groups for row in group])
        stream = ((image_id, dataset.images.views(image_id)) for image_id in own.image_ids)
        self._features = FeatureCache(stream, model.encode_images, batch_size=size)
        self._dataset = dataset.without_views()
        self._section = section
        self._engine = engine
        self._ids = {"pad_id": pad_id, "seg_id": model.seg_id}

    def is_due(self, step: int) -> bool:
        """Tell whether to validate after a 1-based step: every so often, and after the last."""
        return step % self._section.validate_every == 0 or step == self._section.num_steps

    def run(self, step: int) -> ValidationRecord:
        """Validate after a 1-based step; every process calls it and gets the same figures.

        Raises:
            TrainingError: a loss is NaN or infinite; names the pairs.
        """
        start = time.perf_counter()
        engine, section = self._engine, self._section
        sums_6 = torch.zeros(6, dtype=torch.float64, device=engine.device)
        not_finite: list[str] = []
        engine.module.eval()
        for batch in make_batches(self._dataset, self._groups, num_workers=0, **self._ids):
            with torch.no_grad():
                output = engine.module(batch, self._features(batch))
                batch_sums_6 = _sums(output, batch, section.losses)
            if not torch.isfinite(batch_sums_6).all():
                not_finite += batch.pair_ids
            sums_6 += batch_sums_6
        engine.module.train()
        text, mask, dice, iou, num_tokens, num_masks = engine.sum_over_processes(sums_6).tolist()
        text, mask, dice, iou = text / num_tokens, mask / num_masks, dice / num_masks, iou / num_masks
        weights = section.losses
        loss = weights.text * text + weights.mask * mask + weights.dice * dice
        if not np.isfinite([loss, iou]).all():
            raise TrainingError(
                f"validation after step {step}: the losses are not finite (text {text:.4g}, mask {mask:.4g}, "
                f"dice {dice:.4g}); pairs: {', '.join(not_finite) or 'those of another process'}. The newest "
                "checkpoint is from before. Lower learning_rate, or train in float32."
            )
        return ValidationRecord(loss, text, mask, dice, iou, time.perf_counter() - start)


def mask_iou(mask_logits_MGG: Tensor, target_masks_MSS: Tensor) -> Tensor:
    """Return the IoU of each mask with the true one, shape (M,); 1 where both are empty.

    Args:
        mask_logits_MGG: in the padded frame; brought to the size of the true masks.
    """
    target_MSS = target_masks_MSS.to(mask_logits_MGG.device).bool()
    predicted_MSS = at_target_size(mask_logits_MGG, target_MSS) > 0
    overlap_M = (predicted_MSS & target_MSS).sum(dim=(-2, -1))
    union_M = (predicted_MSS | target_MSS).sum(dim=(-2, -1))
    return torch.where(union_M > 0, overlap_M / union_M.clamp(min=1), 1.0)


def _sums(output: Output, batch: Batch, section: LossSection) -> Tensor:
    """Return sums over a batch: text loss, mask loss, Dice loss, IoU, supervised tokens, masks; float64."""
    losses = compute_losses(output, batch, section)
    assert batch.target_masks_MSS is not None, "every pair has targets"
    iou_M = mask_iou(output.mask_logits_MGG.float(), batch.target_masks_MSS)
    num_tokens, num_masks = count_terms(batch).tolist()
    sums = [losses["text"] * num_tokens, losses["mask"] * num_masks, losses["dice"] * num_masks, iou_M.sum()]
    counts = torch.tensor([num_tokens, num_masks], dtype=torch.float64, device=iou_M.device)
    return torch.cat([torch.stack([one.double() for one in sums]), counts])
