"""Muon: orthogonal updates, and progress on a toy problem."""

import pytest
import torch
from torch import nn

from calico.standins.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8)])
def test_orthogonalise_singular_values_are_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape)))
    # The smallest values of square random matrices lag behind.
    assert values.max() < 1.3
    assert values.median() > 0.7


def test_step_fits_a_linear_map():
    torch.manual_seed(0)
    true, layer = torch.randn(6, 6), nn.Linear(6, 6, bias=False)
    optimizer = Muon(layer.parameters(), lr=0.05, weight_decay=0.0)
    inputs = torch.randn(64, 6)
    losses = []
    for _ in range(200):
        loss = ((layer(inputs) - inputs @ true.T) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_step_fused_matrix_counts_as_three_squares():
    torch.manual_seed(0)
    fused = nn.Parameter(torch.zeros(12, 4))
    fused.grad = torch.randn(12, 4)
    Muon([fused], lr=1.0, weight_decay=0.0).step()
    for square in fused.detach().chunk(3):
        assert torch.linalg.svdvals(square).max() < 1.3


def test_step_without_gradient_changes_nothing():
    matrix = nn.Parameter(torch.ones(3, 3))
    Muon([matrix], lr=1.0).step()
    assert torch.equal(matrix, torch.ones(3, 3))
