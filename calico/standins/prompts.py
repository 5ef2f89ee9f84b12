"""Promptable masks: SAM's mask decoder learns to segment what a label embedding names in an image."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from calico.config import ModelSection
from calico.data.loading.views import GROUNDING_VIEW
from calico.models.grounding import encode_grounding
from calico.models.losses import binary_cross_entropy, dice_loss
from calico.models.mask_decoder import build_mask_decoder, build_prompt_encoder, decode
from calico.standins.scenes import ScenePool, object_categories, part_classes
from calico.standins.vision import draw_scenes, raw_images, to_view

_WARMUP_STEPS = 100
_MASK_WEIGHT, _DICE_WEIGHT = 2.0, 1.0
_MIN_AREA_CELLS = 4
_FIT_BATCH_SIZE, _FIT_LEARNING_RATE = 8, 0.05


@dataclass(frozen=True)
class PromptRun:
    """One pretraining of the mask decoder.

    Attributes:
        encoder_learning_rate: of SAM's image encoder, which learns along.
        several_objects_share: part of the images that hold more than one object.
    """

    seed: int
    num_steps: int
    batch_size: int
    learning_rate: float = 2.0e-3
    encoder_learning_rate: float = 3.0e-4
    several_objects_share: float = 0.5


class LabelPrompts(nn.Module):
    """One prompt for each object category and each (category, part), in this order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(object_categories()) + len(part_classes()), width)


@dataclass(frozen=True)
class SceneMasks:
    """Every mask of some scenes: its label, its scene and its pixels."""

    label_M: Tensor
    scene_M: Tensor
    masks_MTT: Tensor


def scene_masks(parts_ITT: np.ndarray, objects_ITT: np.ndarray, categories_IO: np.ndarray) -> SceneMasks:
    """List the objects and parts of scenes as masks; labels index `LabelPrompts`."""
    labels: list[int] = []
    scenes: list[int] = []
    masks: list[np.ndarray] = []
    for scene, (parts_TT, objects_TT) in enumerate(zip(parts_ITT, objects_ITT, strict=True)):
        for number in range(1, int(objects_TT.max()) + 1):
            object_TT = objects_TT == number
            found = [(int(categories_IO[scene, number - 1]) - 1, object_TT)]
            for part in np.unique(parts_TT[object_TT]):
                if 0 < part <= len(part_classes()):
                    found.append((len(object_categories()) + int(part) - 1, object_TT & (parts_TT == part)))
            for label, mask_TT in found:
                if mask_TT.sum() >= _MIN_AREA_CELLS:
                    labels.append(label)
                    scenes.append(scene)
                    masks.append(mask_TT)
    return SceneMasks(torch.tensor(labels), torch.tensor(scenes), torch.from_numpy(np.stack(masks)).float())


def train_prompts(
    encoder: nn.Module,
    model: ModelSection,
    run: PromptRun,
    pool: ScenePool,
    held_out: ScenePool,
    *,
    report: Callable[[int, Mapping[str, nn.Module], Mapping[str, float]], None],
    report_every: int = 200,
) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """Train prompt encoder and mask decoder, and with them the encoder.

    Args:
        encoder: SAM's image encoder after dense pretraining; trained on.
        model: sizes.
        run: steps and rates.
        pool, held_out: scenes to learn from and scenes to measure on.
        report: called now and then with the step, the modules and their figures.
        report_every: steps between reports.

    Returns:
        The modules by component name, and their figures on held-out scenes (see `prompt_figures`).
    """
    torch.manual_seed(run.seed)
    rng = np.random.default_rng([run.seed, 1])
    section = model.grounding
    modules = {
        "grounding_encoder": encoder,
        "prompt_encoder": build_prompt_encoder(section),
        "mask_decoder": build_mask_decoder(section),
    }
    prompts = LabelPrompts(section.prompt_width)
    fresh = [
        *modules["prompt_encoder"].parameters(),
        *modules["mask_decoder"].parameters(),
        *prompts.parameters(),
    ]
    optimizer = torch.optim.AdamW(
        [
            {"params": fresh, "initial_lr": run.learning_rate},
            {"params": list(encoder.parameters()), "initial_lr": run.encoder_learning_rate},
        ],
        lr=run.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    has_several = pool.categories_SO[:, 1] > 0
    groups = (np.flatnonzero(~has_several), np.flatnonzero(has_several))
    started, smooth = time.process_time(), 0.0
    for step in range(run.num_steps):
        share = min(1.0, (step + 1) / _WARMUP_STEPS, 1.0 - step / run.num_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        chosen = [
            int(rng.choice(groups[int(rng.random() < run.several_objects_share)]))
            for _ in range(run.batch_size)
        ]
        images_ICHW, parts_ITT, objects_ITT = draw_scenes(pool, rng, chosen)
        found = scene_masks(parts_ITT, objects_ITT, pool.categories_SO[chosen])
        logits_MTT = _predict(modules, prompts, images_ICHW, found)
        loss = _loss(logits_MTT, found.masks_MTT)
        loss.backward()
        nn.utils.clip_grad_norm_([*fresh, *encoder.parameters()], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        smooth += (loss.item() - smooth) / min(step + 1, 50)
        if (step + 1) % report_every == 0:
            figures = {"loss": smooth, "cpu_seconds": time.process_time() - started}
            report(step + 1, modules, {**prompt_figures(modules, prompts, held_out), **figures})
    return modules, prompt_figures(modules, prompts, held_out)


def fit_label_prompts(
    modules: Mapping[str, nn.Module], width: int, pool: ScenePool, *, seed: int, num_steps: int
) -> LabelPrompts:
    """Find the prompt of every label that a trained SAM answers best; SAM stays as it is.

    Args:
        modules: "grounding_encoder", "prompt_encoder" and "mask_decoder", trained.
        width: of a prompt.
        pool: scenes to fit on.
        seed: of the start and of the scenes drawn.
        num_steps: batches of `_FIT_BATCH_SIZE` scenes.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 5])
    prompts = LabelPrompts(width)
    optimizer = torch.optim.AdamW(
        prompts.parameters(), lr=_FIT_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0
    )
    for module in modules.values():
        module.requires_grad_(False)
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = _FIT_LEARNING_RATE * (1.0 - step / num_steps)
        chosen = rng.integers(0, len(pool), _FIT_BATCH_SIZE).tolist()
        images_ICHW, parts_ITT, objects_ITT = draw_scenes(pool, rng, chosen)
        found = scene_masks(parts_ITT, objects_ITT, pool.categories_SO[chosen])
        _loss(_predict(modules, prompts, images_ICHW, found), found.masks_MTT).backward()
        optimizer.step()
        optimizer.zero_grad()
    return prompts.requires_grad_(False)


@torch.no_grad()
def prompt_figures(
    modules: Mapping[str, nn.Module], prompts: LabelPrompts, held_out: ScenePool
) -> dict[str, float]:
    """Return mean IoU and the share of masks with IoU of at least 0.5, of objects and of parts."""
    ious, labels = [], []
    for start in range(0, len(held_out), 20):
        rows = slice(start, start + 20)
        found = scene_masks(
            held_out.parts_STT[rows], held_out.objects_STT[rows], held_out.categories_SO[rows]
        )
        logits_MTT = _predict(modules, prompts, raw_images(held_out.images_SHWC[rows]), found)
        ious.append(mask_iou(logits_MTT > 0, found.masks_MTT > 0))
        labels.append(found.label_M)
    iou_M, is_part_M = torch.cat(ious), torch.cat(labels) >= len(object_categories())
    return {
        f"{kind}_{name}": float(value)
        for kind, chosen in (("object", iou_M[~is_part_M]), ("part", iou_M[is_part_M]))
        for name, value in (("iou", chosen.mean()), ("recall_50", (chosen >= 0.5).float().mean()))
    }


def mask_iou(predicted_MTT: Tensor, true_MTT: Tensor) -> Tensor:
    """Return the IoU of each of M pairs of boolean masks; 0 where both are empty."""
    shared_M = (predicted_MTT & true_MTT).flatten(1).sum(dim=1).float()
    joined_M = (predicted_MTT | true_MTT).flatten(1).sum(dim=1).float()
    return shared_M / joined_M.clamp(min=1.0)


def _loss(logits_MTT: Tensor, masks_MTT: Tensor) -> Tensor:
    pixel = binary_cross_entropy(logits_MTT, masks_MTT).mean()
    return _MASK_WEIGHT * pixel + _DICE_WEIGHT * dice_loss(logits_MTT, masks_MTT).mean()


def _predict(
    modules: Mapping[str, nn.Module], prompts: LabelPrompts, images_ICHW: Tensor, found: SceneMasks
) -> Tensor:
    views_ICHW = to_view(images_ICHW, GROUNDING_VIEW, images_ICHW.shape[-1])
    grounding_ICGG = encode_grounding(modules["grounding_encoder"], views_ICHW)
    logits_MTT, _ = decode(
        modules["mask_decoder"],
        modules["prompt_encoder"],
        prompts.embedding(found.label_M),
        grounding_ICGG[found.scene_M],
    )
    return logits_MTT
