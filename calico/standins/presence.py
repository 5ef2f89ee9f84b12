"""A first lesson for the Q-Former: say which objects and parts an image shows."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from calico.models.qformer import QFormer
from calico.standins.features import SceneFeatures
from calico.standins.scenes import ScenePool, object_categories, part_classes

_BATCH_SIZE = 48
_WARMUP_STEPS = 100
_LEARNING_RATE = 2.0e-3


def train_qformer(
    qformer: QFormer, pool: ScenePool, features: SceneFeatures, *, seed: int, num_steps: int
) -> float:
    """Teach the Q-Former which objects and parts an image shows, whichever query says so.

    Args:
        qformer: trained in place.
        pool, features: scenes; the last tenth is kept to measure on.
        seed: of the scenes drawn.
        num_steps: batches of `_BATCH_SIZE` scenes.

    Returns:
        The F1 of present classes, object categories and parts, on the kept scenes.
    """
    rng = np.random.default_rng([seed, 2])
    present_SC = torch.from_numpy(_presence(pool))
    head = nn.Linear(qformer.query_tokens.shape[-1], present_SC.shape[1])
    optimizer = torch.optim.AdamW(
        [*qformer.parameters(), *head.parameters()], lr=_LEARNING_RATE, betas=(0.9, 0.98)
    )
    num_train = len(pool) - len(pool) // 10
    for step in range(num_steps):
        share = min(1.0, (step + 1) / _WARMUP_STEPS, 1.05 - step / num_steps)
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * share
        index = torch.from_numpy(rng.integers(0, num_train, _BATCH_SIZE))
        logits_IC = head(qformer(features.global_SPF["calico"][index].float())).logsumexp(dim=1)
        loss = F.binary_cross_entropy_with_logits(logits_IC, present_SC[index])
        loss.backward()
        nn.utils.clip_grad_norm_(qformer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        kept = features.global_SPF["calico"][num_train:].float()
        predicted_SC = head(qformer(kept)).logsumexp(dim=1) > 0
    true_SC = present_SC[num_train:] > 0
    return float(2 * (predicted_SC & true_SC).sum() / (predicted_SC.sum() + true_SC.sum()).clamp(min=1))


def _presence(pool: ScenePool) -> np.ndarray:
    """Return which part classes and object categories each scene shows, float32 (scenes, classes)."""
    num_parts, num_categories = len(part_classes()), len(object_categories())
    present = np.zeros((len(pool), num_parts + num_categories + 1), dtype=np.float32)
    for scene in range(len(pool)):
        parts = np.unique(pool.parts_STT[scene])
        present[scene, parts[(parts > 0) & (parts <= num_parts)].astype(int) - 1] = 1.0
        present[scene, num_parts + pool.categories_SO[scene].astype(int)] = 1.0
    return np.delete(present, num_parts, axis=1)  # category 0 stands for "no further object"
