"""The stand-in language model, with everything that reads images for it and everything that it prompts.

One language model serves the front ends of CALICO (Q-Former), LISA (linear) and GLaMM (MLP), so the three are
finetuned from the same knowledge. Batches take turns between them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from calico.config import LossSection, ModelSection
from calico.core.tokens import SEG
from calico.language_models.tokenizer import build_tokenizer
from calico.models.losses import compute_losses
from calico.models.model import SegmentingModel, build_model
from calico.standins.lessons import LESSON_SHARES, Lesson, SceneIndex, draw_lesson, text_corpus
from calico.standins.muon import Muon
from calico.standins.prompts import LabelPrompts
from calico.standins.scoring import Classroom, lesson_figures, to_batch

LOSSES = LossSection(text=1.0, mask=2.0, dice=1.0, mask_kind="bce")
_WARMUP_STEPS = 100
_SHARED = ("language_model", "f_segmentation", "prompt_encoder", "mask_decoder", "grounding_encoder")
_PROMPT_WEIGHT = 1.0
_DECODER_RATE = 0.15
_FROZEN = ("vision_encoder.", "clip.", "grounding_encoder.", "prompt_encoder.")


@dataclass(frozen=True)
class LanguageRun:
    """Pretraining of the language model.

    Attributes:
        num_scenes: how many scenes of the pool are asked about; their features are kept in memory.
        prompt_steps: steps in which the prompt of every label is fitted to SAM.
        qformer_steps: steps in which the Q-Former learns alone to name what is there.
        variant_shares: how often each front end gets the batch.
    """

    seed: int
    num_scenes: int
    num_steps: int
    batch_size: int
    prompt_steps: int
    qformer_steps: int
    vocabulary_size: int
    variant_shares: tuple[tuple[str, float], ...] = (("calico", 0.4), ("lisa", 0.3), ("glamm", 0.3))
    learning_rate: float = 2.0e-3
    matrix_learning_rate: float = 0.01


class _PromptTargets:
    """Pulls f_segmentation's output towards the prompt that SAM already answers for the label.

    Without it the mask decoder unlearns its prompts while f_segmentation still speaks another language.
    """

    def __init__(self, f_segmentation: nn.Module, prompts: LabelPrompts) -> None:
        self._table = prompts.embedding.weight.detach()
        self._prompts_ME = self._table[:0]
        f_segmentation.register_forward_hook(self._keep)

    def loss(self, lessons: Sequence[Lesson], index: SceneIndex) -> Tensor:
        """Return the mean squared distance for the lessons of the last forward pass."""
        labels = [index.label(mask_id) for lesson in lessons for _, mask_id in lesson.mask_ids]
        return F.mse_loss(self._prompts_ME, self._table[labels])

    def _keep(self, module: nn.Module, inputs: object, prompts_ME: Tensor) -> None:
        self._prompts_ME = prompts_ME


def build_models(
    model: ModelSection, components: Mapping[str, nn.Module], tokenizer: PreTrainedTokenizerFast
) -> dict[str, SegmentingModel]:
    """Build the three variants, without CEM and CAM, around one language model and one mask decoder.

    Args:
        model: sizes.
        components: trained so far, by name; put into the models.
        tokenizer: decides the vocabulary.
    """
    plain = {
        name: variant.model_copy(update={"cem": False, "cam_layers": []})
        for name, variant in model.variants.items()
    }
    section = model.model_copy(update={"variants": plain})
    models: dict[str, SegmentingModel] = {
        name: build_model(
            section,
            name,
            vocabulary_size=len(tokenizer),
            seg_id=tokenizer.get_vocab()[SEG],
            eos_id=tokenizer.eos_token_id,
        )
        for name in plain
    }
    shared: dict[str, nn.Module] = {name: getattr(models["calico"], name) for name in _SHARED}
    shared.update(components)
    for built in models.values():
        for name, module in shared.items():
            if hasattr(built, name):
                setattr(built, name, module)
    return models


def train_language(
    models: Mapping[str, SegmentingModel],
    tokenizer: PreTrainedTokenizerFast,
    run: LanguageRun,
    rooms: tuple[Classroom, Classroom],
    prompts: LabelPrompts,
    *,
    report: Callable[[int, Mapping[str, float]], None],
    report_every: int = 200,
) -> None:
    """Train language model, f_segmentation, mask decoder and front ends on grounded lessons.

    Args:
        models: from `build_models`; trained in place, encoders and LoRA excepted.
        tokenizer: of the models.
        run: steps and rates.
        rooms: scenes to learn from and scenes to measure on.
        prompts: of every label, as SAM takes them.
        report: called now and then with the step and its figures.
        report_every: steps between reports.
    """
    torch.manual_seed(run.seed)
    rng = np.random.default_rng([run.seed, 3])
    train, held_out = rooms
    optimizers = _optimizers(models, run)
    targets = _PromptTargets(models["calico"].f_segmentation, prompts)
    trained = [
        parameter
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    lessons, lesson_shares = zip(*LESSON_SHARES.items(), strict=True)
    variants, variant_shares = zip(*run.variant_shares, strict=True)
    started, smooth = time.process_time(), np.zeros(3)
    for step in range(run.num_steps):
        share = min(1.0, (step + 1) / _WARMUP_STEPS, 1.01 - step / run.num_steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * share
        variant = str(rng.choice(variants, p=variant_shares))
        name = str(rng.choice(lessons, p=lesson_shares))
        drawn = [draw_lesson(name, train.index, rng) for _ in range(run.batch_size)]
        batch = to_batch(drawn, train.index, models[variant], tokenizer)
        scenes = [scene for lesson in drawn for scene in lesson.scenes]
        output = models[variant](batch, train.features.of(variant, scenes))
        losses = compute_losses(output, batch, LOSSES)
        (losses["total"] + _PROMPT_WEIGHT * targets.loss(drawn, train.index)).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        terms = np.array([losses[term].item() for term in ("text", "mask", "dice")])
        smooth += (terms - smooth) / min(step + 1, 100)
        if (step + 1) % report_every == 0:
            facts = {"text": smooth[0], "mask": smooth[1], "dice": smooth[2]}
            figures = lesson_figures(
                models["calico"], "calico", tokenizer, held_out, num_lessons=24, seed=run.seed
            )
            report(step + 1, {**facts, **figures, "cpu_seconds": time.process_time() - started})


def make_tokenizer(vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on every wording of the lessons and of the pipeline."""
    return build_tokenizer(text_corpus(), vocabulary_size)


def _optimizers(models: Mapping[str, SegmentingModel], run: LanguageRun) -> list[torch.optim.Optimizer]:
    """Freeze what is not trained; Muon for matrices of the language model's layers, AdamW for the rest."""
    matrices: dict[int, nn.Parameter] = {}
    fresh: dict[int, nn.Parameter] = {}
    decoder: dict[int, nn.Parameter] = {}
    for model in models.values():
        for name, parameter in model.named_parameters():
            is_frozen = name.startswith(_FROZEN) or ".lora_" in name
            parameter.requires_grad_(not is_frozen)
            if is_frozen:
                continue
            if name.startswith("language_model.stock.model.layers.") and parameter.ndim == 2:
                matrices[id(parameter)] = parameter
            elif name.startswith("mask_decoder."):
                decoder[id(parameter)] = parameter
            else:
                fresh[id(parameter)] = parameter
    groups: list[dict[str, Any]] = [
        {"params": list(fresh.values())},
        {"params": list(decoder.values()), "lr": _DECODER_RATE * run.learning_rate},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices.values(), lr=run.matrix_learning_rate, weight_decay=0.01),
        torch.optim.AdamW(groups, lr=run.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers
