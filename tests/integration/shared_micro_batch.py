"""Three steps on a micro-batch whose second pair has no [SEG], on one process or on several that share it.

`torchrun --nproc-per-node 2 -m tests.integration.shared_micro_batch FILE` writes losses and trained weights.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from calico.config import load_config
from calico.core.records import Batch
from calico.models.model import SegmentingModel
from calico.models.trainable import set_trainable
from calico.training.engine import Engine
from calico.training.loop import run_step
from calico.training.sampler import MicroBatch
from calico.training.samples import Samples
from tests.unit.models.small import randomise, small_features, small_model, training_batch

NUM_STEPS = 3


def main(path: str) -> None:
    """Train and write `path`."""
    tiny = load_config("tiny")
    section = tiny.finetune.model_copy(
        update={"batch_size": 2, "zero_stage": 2, "num_steps": NUM_STEPS, "warmup_steps": 1}
    )
    model = randomise(small_model(), std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the processes draw from generators of their own
    set_trainable(model, "finetune")
    whole, features = _batch(model), small_features(model, 3)
    engine = Engine(model, section, tiny.runtime)
    rows = list(range(2))[engine.rank :: engine.world_size]
    batch = _part(whole, rows)
    images = [index for index, image_id in enumerate(whole.image_ids) if image_id in batch.image_ids]
    samples = Samples(np.ones(2), lambda groups: iter([batch]), lambda _: features.rows(torch.tensor(images)))
    model.train()
    records = []
    for step in range(NUM_STEPS):
        stream: Iterator[Batch] = iter([batch])
        records.append(run_step(engine, samples, section, [MicroBatch(tuple(rows), 0)], stream, step))
    if engine.rank == 0:
        weights = {
            name: parameter.detach().tolist()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        losses = [[one.loss, one.text, one.mask, one.dice, one.grad_norm] for one in records]
        Path(path).write_text(json.dumps({"losses": losses, "weights": weights}))


def _batch(model: SegmentingModel) -> Batch:
    """Return two pairs, of two images with three [SEG] and of one image with none."""
    return training_batch(model, (2, 1), (3, 0))


def _part(batch: Batch, rows: list[int]) -> Batch:
    if len(rows) == len(batch.pair_ids):
        return batch
    (row,) = rows
    images = slice(0, 2) if row == 0 else slice(2, 3)
    has_masks = row == 0
    return replace(
        batch,
        input_ids_BL=batch.input_ids_BL[rows],
        attention_mask_BL=batch.attention_mask_BL[rows],
        labels_BL=batch.labels_BL[rows],
        prompt_last_B=batch.prompt_last_B[rows],
        num_images_B=batch.num_images_B[rows],
        image_ids=batch.image_ids[images],
        pair_ids=(batch.pair_ids[row],),
        target_masks_MSS=batch.target_masks_MSS if has_masks else batch.target_masks_MSS[:0],
        mask_image_index_M=batch.mask_image_index_M if has_masks else batch.mask_image_index_M[:0],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
