"""The loss of equation (5) against the formula written out."""

import pytest
import torch

from pyg_schnet.training import energy_forces_loss


@pytest.mark.parametrize("rho", [0.0, 0.01, 1.0])
def test_equation_5(rho):
    sizes = [3, 1, 4]
    batch = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    energy, target = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    forces, forces_target = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    expected = 0.0
    for structure, n in enumerate(sizes):
        difference = (forces_target - forces)[batch == structure]
        per_structure = sum(float(row @ row) for row in difference) / n
        expected += (rho * float(target[structure] - energy[structure]) ** 2 + per_structure) / 3
    loss = energy_forces_loss(energy, forces, target, forces_target, batch, rho)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_total_energies_keep_their_digits():
    """An error of 1e-4 eV on a total energy of 4000 eV, half a float32 step, is still seen."""
    energy = torch.tensor([-4000.0001], dtype=torch.float64)
    target = torch.tensor([-4000.0], dtype=torch.float64)
    none, batch = torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)
    assert float(energy_forces_loss(energy, none, target, none, batch, 1.0)) == pytest.approx(1e-8, rel=1e-4)


def test_empty_structure_counts_as_a_structure():
    energy, target = torch.tensor([1.0, 0.0]), torch.zeros(2)
    none, batch = torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)
    assert float(energy_forces_loss(energy, none, target, none, batch, 1.0)) == 0.5
