"""Muon in float32: momentum whose matrices are orthogonalised before they are applied."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_NUM_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon for hidden weight matrices; a fused (3 F, F) matrix counts as its three squares.

    torch.optim.Muon orthogonalises in bfloat16 and one matrix at a time, which costs a quarter of a training
    step on a CPU (measured 110 ms against 11 ms).

    Source: Keller Jordan, github.com/KellerJordan/Muon.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            updates: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    direction = self._direction(matrix, group["momentum"])
                    for target, square in zip(_split(matrix), _split(direction), strict=True):
                        updates[target.shape].append((target, square))
            for shape, pairs in updates.items():
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                orthogonal = orthogonalise(torch.stack([direction for _, direction in pairs]))
                for (target, _), update in zip(pairs, orthogonal, strict=True):
                    target.mul_(1.0 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)

    def _direction(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        gradient: Tensor = matrix.grad  # type: ignore[assignment]
        state["momentum"].lerp_(gradient, 1.0 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def orthogonalise(matrices_KRC: Tensor) -> Tensor:
    """Return matrices of the same row and column spaces with singular values near 1 (0.7 to 1.2)."""
    is_tall = matrices_KRC.shape[1] > matrices_KRC.shape[2]
    x = matrices_KRC.transpose(1, 2) if is_tall else matrices_KRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if is_tall else x


def _split(matrix: Tensor) -> tuple[Tensor, ...]:
    return matrix.chunk(3) if matrix.shape[0] == 3 * matrix.shape[1] else (matrix,)
