"""Dense pretraining of an image encoder: which part of which object does every patch show?"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calico.config import ModelSection
from calico.data.loading.views import ViewSizes, make_views
from calico.standins.encoders import ENCODERS, EncoderKind
from calico.standins.muon import Muon
from calico.standins.scenes import BACKGROUND, NO_PART, ScenePool, object_categories, part_classes

_DENSE_SIDE = 32
_BACKGROUND_WEIGHT = 0.3
_AUXILIARY_WEIGHT = 0.5
_WARMUP_STEPS = 100
_DECAY_FROM = 0.3
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class DenseRun:
    """One dense pretraining.

    Attributes:
        sides_px: image sides; each step draws one. More than one trains interpolated positions too.
    """

    seed: int
    num_steps: int
    batch_size: int
    learning_rate: float = 2.0e-3
    matrix_learning_rate: float = 0.02
    sides_px: tuple[int, ...] = (128,)


class DenseHead(nn.Module):
    """Linear heads on patch tokens: part classes at 32 x 32, object and part names at every token."""

    def __init__(self, width: int, num_cells: int) -> None:
        super().__init__()
        self.part_names = sorted({name for _, name in part_classes()})
        self.num_cells = num_cells
        self.classes = nn.Linear(width, num_cells**2 * (1 + len(part_classes())))
        self.objects = nn.Linear(width, 1 + len(object_categories()))
        self.names = nn.Linear(width, 1 + len(self.part_names))

    def forward(self, tokens_IPF: Tensor) -> Tensor:
        """Return part class logits (I, S, S, classes), S = num_cells * sqrt(P)."""
        num_images, num_tokens, _ = tokens_IPF.shape
        side, cells = round(num_tokens**0.5), self.num_cells
        logits = self.classes(tokens_IPF).view(num_images, side, side, cells, cells, -1)
        return logits.transpose(2, 3).reshape(num_images, side * cells, side * cells, -1)


class _Teacher:
    """Dense targets: class weights and what object and part name a class means."""

    def __init__(self, head: DenseHead) -> None:
        categories = object_categories()
        self.object_of = torch.zeros(256, dtype=torch.long)
        self.name_of = torch.zeros(256, dtype=torch.long)
        for index, (category, name) in enumerate(part_classes(), start=1):
            self.object_of[index] = 1 + categories.index(category)
            self.name_of[index] = 1 + head.part_names.index(name)
        self.object_of[NO_PART] = self.name_of[NO_PART] = -100

    def loss(self, head: DenseHead, tokens_IPF: Tensor, parts_ISS: Tensor) -> Tensor:
        logits_ISSC = head(tokens_IPF)
        side = round(tokens_IPF.shape[1] ** 0.5)
        stride = parts_ISS.shape[1] // side
        centre_IP = parts_ISS[:, stride // 2 :: stride, stride // 2 :: stride].reshape(len(parts_ISS), -1)
        auxiliary = _cross_entropy(head.objects(tokens_IPF), self.object_of[centre_IP], ignored=-100)
        auxiliary = auxiliary + _cross_entropy(head.names(tokens_IPF), self.name_of[centre_IP], ignored=-100)
        return _cross_entropy(logits_ISSC, parts_ISS, ignored=NO_PART) + _AUXILIARY_WEIGHT * auxiliary


def train_encoder(
    name: str,
    model: ModelSection,
    run: DenseRun,
    pool: ScenePool,
    held_out: ScenePool,
    *,
    report: Callable[[int, nn.Module, Mapping[str, float]], None],
    report_every: int = 1000,
) -> tuple[nn.Module, dict[str, float]]:
    """Train one encoder and measure it on held-out scenes.

    Args:
        name: a key of ENCODERS.
        model: sizes.
        run: steps and rates.
        pool, held_out: scenes to learn from and scenes to measure on.
        report: called now and then with the step, the encoder and its figures.
        report_every: steps between reports.

    Returns:
        The encoder, and `dense_miou`: mean IoU over the part classes at 32 x 32.
    """
    torch.manual_seed(run.seed)
    rng = np.random.default_rng([run.seed, 1])
    kind = ENCODERS[name]
    encoder = kind.build(model)
    width, cells = _read_width(kind, encoder, run.sides_px[0])
    head = DenseHead(width, cells)
    teacher = _Teacher(head)
    optimizers = make_optimizers(encoder, head, run.learning_rate, run.matrix_learning_rate)
    started, smooth = time.process_time(), 0.0
    for step in range(run.num_steps):
        set_rates(optimizers, step, run.num_steps)
        side_px = run.sides_px[int(rng.integers(len(run.sides_px)))]
        images_ICHW, parts_ITT, _ = draw_scenes(pool, rng, rng.integers(0, len(pool), run.batch_size).tolist())
        tokens_IPF = kind.encode(encoder, to_view(images_ICHW, kind.view, side_px))
        targets_ISS = shrink_labels(torch.from_numpy(parts_ITT).long(), cells * round(tokens_IPF.shape[1] ** 0.5))
        loss = teacher.loss(head, tokens_IPF, targets_ISS)
        loss.backward()
        nn.utils.clip_grad_norm_([*encoder.parameters(), *head.parameters()], _MAX_GRAD_NORM)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        smooth += (loss.item() - smooth) / min(step + 1, 100)
        if (step + 1) % report_every == 0:
            miou = dense_miou(kind, encoder, head, held_out, run.sides_px[0])
            cpu_seconds = time.process_time() - started
            report(step + 1, encoder, {"loss": smooth, "dense_miou": miou, "cpu_seconds": cpu_seconds})
    figures = {
        f"dense_miou_{side_px}_px": dense_miou(kind, encoder, head, held_out, side_px) for side_px in run.sides_px
    }
    return encoder, figures


def draw_scenes(
    pool: ScenePool, rng: np.random.Generator, chosen: Sequence[int]
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Read scenes, each mirrored and with colour channels swapped or inverted at random.

    Shapes have no preferred direction and colours no meaning in the scenes, so this only adds variety.

    Returns:
        Images (I, 3, H, W) of 0 to 255, part maps and object maps (I, T, T).
    """
    images = np.empty((len(chosen), *pool.images_SHWC.shape[1:]), dtype=np.uint8)
    parts = np.empty((len(chosen), *pool.parts_STT.shape[1:]), dtype=np.uint8)
    objects = np.empty_like(parts)
    for row, index in enumerate(chosen):
        direction = -1 if rng.random() < 0.5 else 1
        is_inverted, order = rng.random() < 0.5, rng.permutation(3)
        image = pool.images_SHWC[index][:, ::direction, order]
        images[row] = 255 - image if is_inverted else image
        parts[row] = pool.parts_STT[index][:, ::direction]
        objects[row] = pool.objects_STT[index][:, ::direction]
    return raw_images(images), parts, objects


def raw_images(images_IHWC: np.ndarray) -> Tensor:
    """Return uint8 images as float (I, 3, H, W) of 0 to 255."""
    return torch.from_numpy(np.array(images_IHWC)).permute(0, 3, 1, 2).float()


def to_view(images_ICHW: Tensor, view: str, side_px: int) -> Tensor:
    """Resize and normalise raw images as the data loader does for this view."""
    if images_ICHW.shape[-1] != side_px:
        size = (side_px, side_px)
        images_ICHW = F.interpolate(images_ICHW, size, mode="bicubic", antialias=True).clamp(0.0, 255.0)
    offset, scale = _normalisation(view)
    return images_ICHW * scale + offset


def shrink_labels(labels_ITT: Tensor, side: int) -> Tensor:
    """Sample (I, T, T) labels at the centres of side x side cells."""
    size = labels_ITT.shape[-1]
    index = ((torch.arange(side) + 0.5) * size / side).long()
    return labels_ITT[:, index][:, :, index]


@torch.no_grad()
def dense_miou(kind: EncoderKind, encoder: nn.Module, head: DenseHead, held_out: ScenePool, side_px: int) -> float:
    """Return the mean IoU over part classes, object pixels without a part ignored."""
    num_classes = 1 + len(part_classes())
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for start in range(0, len(held_out), 50):
        images = raw_images(held_out.images_SHWC[start : start + 50])
        parts_ITT = torch.from_numpy(np.array(held_out.parts_STT[start : start + 50])).long()
        predicted_ISS = head(kind.encode(encoder, to_view(images, kind.view, side_px))).argmax(dim=-1)
        true_ISS = shrink_labels(parts_ITT, predicted_ISS.shape[-1])
        is_counted = true_ISS != NO_PART
        pairs = true_ISS[is_counted] * num_classes + predicted_ISS[is_counted]
        confusion += np.bincount(pairs.numpy(), minlength=num_classes**2).reshape(num_classes, num_classes)
    shared = np.diag(confusion)[1:]
    joined = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:] - shared
    return float((shared[joined > 0] / joined[joined > 0]).mean())


def make_optimizers(
    encoder: nn.Module, head: nn.Module, learning_rate: float, matrix_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """Split parameters: Muon for the weight matrices of the blocks, AdamW for all others."""
    matrices = [
        parameter
        for name, parameter in encoder.named_parameters()
        if parameter.ndim == 2 and any(f".{layers}." in f".{name}" for layers in ("blocks", "layers", "layer"))
        and "rel_pos" not in name
    ]
    chosen = {id(parameter) for parameter in matrices}
    others = [p for p in [*encoder.parameters(), *head.parameters()] if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=matrix_learning_rate),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.02),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def set_rates(optimizers: list[torch.optim.Optimizer], step: int, num_steps: int) -> None:
    """Warm up, stay, then fall linearly to a hundredth."""
    progress = step / num_steps
    share = min(1.0, (step + 1) / _WARMUP_STEPS, (1.0 - progress) / (1.0 - _DECAY_FROM) + 0.01)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share


def _cross_entropy(logits: Tensor, labels: Tensor, *, ignored: int) -> Tensor:
    num_classes = logits.shape[-1]
    weight = torch.ones(num_classes)
    weight[BACKGROUND] = _BACKGROUND_WEIGHT
    return F.cross_entropy(logits.reshape(-1, num_classes), labels.reshape(-1), weight, ignore_index=ignored)


@torch.no_grad()
def _read_width(kind: EncoderKind, encoder: nn.Module, side_px: int) -> tuple[int, int]:
    """Return the width of the tokens and the cells of a token's side that make 32 x 32."""
    _, num_tokens, width = kind.encode(encoder, torch.zeros(1, 3, side_px, side_px)).shape
    return width, _DENSE_SIDE // round(num_tokens**0.5)


def _normalisation(view: str) -> tuple[Tensor, Tensor]:
    """Read offset and scale, (3, 1, 1), from the data loader's views of a black and a white pixel."""
    sizes = ViewSizes(global_px=1, semantic_px=1, grounding_px=1)
    black, white = (make_views(np.full((1, 1, 3), value, np.uint8), sizes)[view] for value in (0, 255))
    return black, (white - black) / 255.0


