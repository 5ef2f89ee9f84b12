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
from calico.standins.scenes import BACKGROUND, ScenePool, object_categories, part_classes

_BACKGROUND_WEIGHT = 0.3
_AUXILIARY_WEIGHT = 0.5
_WARMUP_STEPS = 100
_DECAY_FROM = 0.3
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class DenseRun:
    """One dense pretraining.

    Attributes:
        stop_step: where to stop; the rates fall towards `num_steps`. None for the end.
        cells_per_token: side of the square of cells in which a token tells classes apart.
        sides_px: image sides; each step draws one. More than one trains interpolated positions too.
    """

    seed: int
    num_steps: int
    batch_size: int
    stop_step: int | None = None
    learning_rate: float = 2.0e-3
    matrix_learning_rate: float = 0.02
    cells_per_token: int = 1
    sides_px: tuple[int, ...] = (128,)


class DenseHead(nn.Module):
    """Linear heads: part classes at num_cells^2 cells a token, object category and part name of a token."""

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


class _Targets:
    """What every class means: its weight, its object category and its part name."""

    def __init__(self, head: DenseHead) -> None:
        num_classes, categories = 1 + len(part_classes()), object_categories()
        self.is_object_CO = torch.zeros(num_classes, 1 + len(categories))
        self.is_name_CN = torch.zeros(num_classes, 1 + len(head.part_names))
        self.is_object_CO[BACKGROUND, 0] = self.is_name_CN[BACKGROUND, 0] = 1.0
        for index, (category, name) in enumerate(part_classes(), start=1):
            self.is_object_CO[index, 1 + categories.index(category)] = 1.0
            self.is_name_CN[index, 1 + head.part_names.index(name)] = 1.0

    def loss(self, head: DenseHead, tokens_IPF: Tensor, parts_ITT: Tensor) -> Tensor:
        """Return the loss of all three heads.

        A token that stands for several cells learns the class at the centre of each; a token that stands for
        itself learns what share each class has of its square.
        """
        side = round(tokens_IPF.shape[1] ** 0.5)
        cells = head(tokens_IPF)
        if head.num_cells > 1:
            parts_ITT = centre_labels(parts_ITT, cells.shape[1])
            cell_shares = class_shares(parts_ITT, cells.shape[1])
            shares_IPC = class_shares(centre_labels(parts_ITT, side), side)
        else:
            cell_shares = shares_IPC = class_shares(parts_ITT, side)
        auxiliary = _soft_cross_entropy(head.objects(tokens_IPF), shares_IPC @ self.is_object_CO)
        auxiliary = auxiliary + _soft_cross_entropy(head.names(tokens_IPF), shares_IPC @ self.is_name_CN)
        return _soft_cross_entropy(cells.flatten(1, 2), cell_shares) + _AUXILIARY_WEIGHT * auxiliary


def centre_labels(labels_ITT: Tensor, side: int) -> Tensor:
    """Sample a map at the centres of side x side squares, (I, side, side)."""
    index = ((torch.arange(side) + 0.5) * labels_ITT.shape[-1] / side).long()
    return labels_ITT[:, index][:, :, index]


def class_shares(parts_ITT: Tensor, side: int) -> Tensor:
    """Return the share of each class in each of side x side squares, (I, side^2, classes).

    Object pixels without a part count for nothing; squares of such pixels alone have shares of zero. Where
    the squares are not whole pixels, the map is sampled finer first.
    """
    num_images, size = parts_ITT.shape[0], parts_ITT.shape[-1]
    step = -(-size // side)
    finer = centre_labels(parts_ITT, side * step)
    squares = finer.view(num_images, side, step, side, step).transpose(2, 3)
    labels = squares.reshape(num_images * side * side, step * step)
    rows = torch.arange(len(labels))[:, None] * 256
    counts = torch.bincount((labels + rows).flatten(), minlength=len(labels) * 256).view(len(labels), 256)
    counts = counts[:, : 1 + len(part_classes())].float()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1.0)
    return shares.view(num_images, side * side, -1)


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
        The encoder, and its mean IoU over the part classes, cell by cell, at each side.
    """
    torch.manual_seed(run.seed)
    rng = np.random.default_rng([run.seed, 1])
    kind = ENCODERS[name]
    encoder = kind.build(model)
    width = _read_width(kind, encoder, run.sides_px[0])
    head = DenseHead(width, run.cells_per_token)
    targets = _Targets(head)
    optimizers = make_optimizers(encoder, head, run.learning_rate, run.matrix_learning_rate)
    started, smooth = time.process_time(), 0.0
    for step in range(run.stop_step or run.num_steps):
        set_rates(optimizers, step, run.num_steps)
        side_px = run.sides_px[int(rng.integers(len(run.sides_px)))]
        chosen = rng.integers(0, len(pool), run.batch_size).tolist()
        images_ICHW, parts_ITT, _ = draw_scenes(pool, rng, chosen)
        tokens_IPF = kind.encode(encoder, to_view(images_ICHW, kind.view, side_px))
        loss = targets.loss(head, tokens_IPF, torch.from_numpy(parts_ITT).long())
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
        f"dense_miou_{side_px}_px": dense_miou(kind, encoder, head, held_out, side_px)
        for side_px in run.sides_px
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


@torch.no_grad()
def dense_miou(
    kind: EncoderKind, encoder: nn.Module, head: DenseHead, held_out: ScenePool, side_px: int
) -> float:
    """Return the mean IoU over part classes, each cell standing for its most frequent class."""
    num_classes = 1 + len(part_classes())
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for start in range(0, len(held_out), 50):
        images = raw_images(held_out.images_SHWC[start : start + 50])
        parts_ITT = torch.from_numpy(np.array(held_out.parts_STT[start : start + 50])).long()
        logits = head(kind.encode(encoder, to_view(images, kind.view, side_px)))
        if head.num_cells > 1:
            parts_ITT = centre_labels(parts_ITT, logits.shape[1])
        shares, predicted = class_shares(parts_ITT, logits.shape[1]), logits.argmax(dim=-1).flatten(1)
        is_counted = shares.sum(dim=-1) > 0
        pairs = shares.argmax(dim=-1)[is_counted] * num_classes + predicted[is_counted]
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
        if parameter.ndim == 2
        and any(f".{layers}." in f".{name}" for layers in ("blocks", "layers", "layer"))
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


def _soft_cross_entropy(logits_IPC: Tensor, shares_IPC: Tensor) -> Tensor:
    """Return the cross-entropy against class shares, background counted less."""
    weight_C = torch.ones(logits_IPC.shape[-1])
    weight_C[BACKGROUND] = _BACKGROUND_WEIGHT
    weighted_IPC = shares_IPC * weight_C
    return -(weighted_IPC * logits_IPC.log_softmax(dim=-1)).sum() / weighted_IPC.sum()


@torch.no_grad()
def _read_width(kind: EncoderKind, encoder: nn.Module, side_px: int) -> int:
    width: int = kind.encode(encoder, torch.zeros(1, 3, side_px, side_px)).shape[-1]
    return width


def _normalisation(view: str) -> tuple[Tensor, Tensor]:
    """Read offset and scale, (3, 1, 1), from the data loader's views of a black and a white pixel."""
    sizes = ViewSizes(global_px=1, semantic_px=1, grounding_px=1)
    black, white = (make_views(np.full((1, 1, 3), value, np.uint8), sizes)[view] for value in (0, 255))
    return black, (white - black) / 255.0
