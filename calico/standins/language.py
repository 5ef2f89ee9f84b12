"""The stand-in language model, with everything that reads images for it and everything that it prompts.

One language model serves the front ends of CALICO (Q-Former), LISA (linear) and GLaMM (MLP), so the three are
finetuned from the same knowledge. Batches take turns between them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from calico.config import LossSection, ModelSection
from calico.core.records import Batch
from calico.core.tokens import SEG
from calico.data.loading.collate import collate
from calico.data.pairs.conversation import parse_answer
from calico.language_models.tokenizer import build_tokenizer, decode_answer, encode_example
from calico.models.losses import compute_losses
from calico.models.model import SegmentingModel, build_model
from calico.models.qformer import QFormer
from calico.standins.features import SceneFeatures
from calico.standins.lessons import LESSON_SHARES, Lesson, SceneIndex, draw_lesson, text_corpus, to_example
from calico.standins.muon import Muon
from calico.standins.prompts import LabelPrompts, mask_iou
from calico.standins.scenes import ScenePool, object_categories, part_classes

LOSSES = LossSection(text=1.0, mask=2.0, dice=1.0, mask_kind="bce")
_WARMUP_STEPS = 100
_SHARED = ("language_model", "f_segmentation", "prompt_encoder", "mask_decoder", "grounding_encoder")
_SIZE_PX = 128
_PROMPT_WEIGHT = 1.0
_DECODER_RATE = 0.15
_FROZEN = ("vision_encoder.", "clip.", "grounding_encoder.", "prompt_encoder.")
_MAX_NEW_TOKENS = 112


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
    variant_shares: tuple[tuple[str, float], ...] = (("calico", 0.6), ("lisa", 0.2), ("glamm", 0.2))
    learning_rate: float = 2.0e-3
    matrix_learning_rate: float = 0.01


@dataclass(frozen=True)
class Classroom:
    """Scenes with their objects and their features."""

    index: SceneIndex
    features: SceneFeatures


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


def train_qformer(qformer: QFormer, pool: ScenePool, features: SceneFeatures, run: LanguageRun) -> float:
    """Teach the Q-Former which objects and parts an image shows, whichever query says so.

    Args:
        qformer: trained in place.
        pool, features: scenes; the last tenth is kept to measure on.
        run: steps and rates.

    Returns:
        The F1 of present classes, object categories and parts, on the kept scenes.
    """
    rng = np.random.default_rng([run.seed, 2])
    present_SC = torch.from_numpy(_presence(pool))
    head = nn.Linear(qformer.query_tokens.shape[-1], present_SC.shape[1])
    optimizer = torch.optim.AdamW(
        [*qformer.parameters(), *head.parameters()], lr=run.learning_rate, betas=(0.9, 0.98)
    )
    num_train = len(pool) - len(pool) // 10
    for step in range(run.qformer_steps):
        share = min(1.0, (step + 1) / _WARMUP_STEPS, 1.05 - step / run.qformer_steps)
        optimizer.param_groups[0]["lr"] = run.learning_rate * share
        index = torch.from_numpy(rng.integers(0, num_train, 48))
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
            seg_id=int(tokenizer.convert_tokens_to_ids(SEG)),  # type: ignore[arg-type]
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


@torch.no_grad()
def lesson_figures(
    model: SegmentingModel,
    variant: str,
    tokenizer: PreTrainedTokenizerFast,
    room: Classroom,
    *,
    num_lessons: int,
    seed: int,
    max_new_tokens: int = _MAX_NEW_TOKENS,
) -> dict[str, float]:
    """Let the model answer lessons and compare.

    Returns:
        Of each lesson: `exact`, the share of answers with exactly the true (image, label) pairs;
        `label_recall`; `mask_iou`, the mean over masks whose label is right; `recall_50`, the share of true
        masks found with the right label and IoU of at least 0.5.
    """
    figures: dict[str, float] = {}
    for name in LESSON_SHARES:
        rng = np.random.default_rng([seed, 4])
        lessons = [draw_lesson(name, room.index, rng) for _ in range(num_lessons)]
        counts = np.zeros(5)
        for start in range(0, num_lessons, 30):
            counts += _score(model, variant, tokenizer, room, lessons[start : start + 30], max_new_tokens)
        exact, named, wanted, iou, found = counts
        figures |= {
            f"{name}/exact": exact / num_lessons,
            f"{name}/label_recall": named / wanted,
            f"{name}/mask_iou": iou / max(named, 1.0),
            f"{name}/recall_50": found / wanted,
        }
    return figures


def _score(
    model: SegmentingModel,
    variant: str,
    tokenizer: PreTrainedTokenizerFast,
    room: Classroom,
    lessons: list[Lesson],
    max_new_tokens: int,
) -> np.ndarray:
    """Return exact answers, right labels, true labels, summed IoU of right labels, and masks found."""
    batch = to_batch(lessons, room.index, model, tokenizer, left=True)
    features = room.features.of(variant, [scene for lesson in lessons for scene in lesson.scenes])
    answers = model.generate(batch, features, max_new_tokens=max_new_tokens)
    counts, first_image = np.zeros(5), 0
    for lesson, answer in zip(lessons, answers, strict=True):
        num_images = len(lesson.scenes)
        parsed = parse_answer(decode_answer(tokenizer, answer.ids), num_images)
        true = parse_answer(lesson.answer, num_images).phrases
        predicted = {(phrase.label, phrase.image_index): ordinal for phrase, ordinal in parsed.phrases}
        wanted = {(phrase.label, phrase.image_index): ordinal for phrase, ordinal in true}
        matched = [(predicted[key], wanted[key]) for key in wanted if key in predicted]
        counts[:3] += [predicted.keys() == wanted.keys(), len(matched), len(wanted)]
        if matched:
            images = torch.tensor([first_image + lesson.mask_ids[place][0] for _, place in matched])
            states_MD = answer.seg_states_MD[torch.tensor([ordinal for ordinal, _ in matched])]
            logits_MGG, _ = model.decode_masks(states_MD, images, features)
            true_MTT = room.index.masks([lesson.mask_ids[place][1] for _, place in matched]) > 0
            iou_M = mask_iou(logits_MGG > 0, true_MTT)
            counts[3:] += [float(iou_M.sum()), float((iou_M >= 0.5).sum())]
        first_image += num_images
    return counts


def make_tokenizer(vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on every wording of the lessons and of the pipeline."""
    return build_tokenizer(text_corpus(), vocabulary_size)


def to_batch(
    lessons: list[Lesson],
    index: SceneIndex,
    model: SegmentingModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    left: bool = False,
) -> Batch:
    """Collate lessons for a model; `left` pads prompts for generation."""
    encode = partial(encode_example, tokenizer, tokens_per_image=model.tokens_per_image)
    examples = [to_example(lesson, index, encode, _SIZE_PX) for lesson in lessons]
    return collate(examples, pad_id=tokenizer.pad_token_id, seg_id=model.seg_id, left=left)


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
    groups = [
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


def _presence(pool: ScenePool) -> np.ndarray:
    """Return which part classes and object categories each scene shows, float32 (scenes, classes)."""
    num_parts, num_categories = len(part_classes()), len(object_categories())
    present = np.zeros((len(pool), num_parts + num_categories + 1), dtype=np.float32)
    for scene in range(len(pool)):
        parts = np.unique(pool.parts_STT[scene])
        present[scene, parts[(parts > 0) & (parts <= num_parts)].astype(int) - 1] = 1.0
        present[scene, num_parts + pool.categories_SO[scene].astype(int)] = 1.0
    return np.delete(present, num_parts, axis=1)  # category 0 stands for "no further object"
