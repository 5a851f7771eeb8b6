"""What holds for baselines as for SchNet, whatever they are made of."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import Molecules


def assert_smooth_at_the_cutoff(model: Any) -> None:
    """Two atoms no longer feel each other beyond 4 Angstrom, and energy and force go to that without a step."""

    def energy(distance: float) -> Tensor:
        return model(torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=torch.float64))

    apart = energy(4.0)
    assert torch.equal(energy(50.0), apart)
    steps = [abs((energy(4.0 - h) - apart).item()) for h in (1e-3, 1e-4)]
    # quadratic in the distance to the cutoff: value and force are continuous; 2 % for the next order
    assert steps[0] / steps[1] == pytest.approx(100.0, rel=0.02)


def cell_and_two_of_them(model: Any) -> tuple[Tensor, Tensor]:
    """What a model predicts of a crystal by its cell, and by one of two cells."""
    z, pbc = torch.tensor([6, 7, 8]), torch.ones(1, 3, dtype=torch.bool)
    pos = 3 * torch.rand(3, 3, dtype=torch.float64)
    cell = torch.tensor([[[3.1, 0, 0], [0.4, 3.3, 0], [0, 0, 3.7]]], dtype=torch.float64)
    double = cell * torch.tensor([2.0, 1, 1], dtype=torch.float64)[:, None]
    together = model(z.repeat(2), torch.cat([pos, pos + cell[0, 0]]), cell=double, pbc=pbc)
    return model(z, pos, cell=cell, pbc=pbc), together


def assert_it_learns(model: Any, molecules: Molecules) -> None:
    """Forty steps take off 99 % of the loss of three molecules."""
    target = torch.tensor([[-1.0], [0.5], [2.0]])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (model(molecules.z, molecules.pos.float(), molecules.batch) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
