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


def stresses(known):
    stress, target = torch.randn(2, len(known), 3, 3, dtype=torch.float64)
    target[~torch.tensor(known)] = torch.nan
    return stress.requires_grad_(), target


def loss_of(stress, target, rho_stress, **options):
    zero, batch = torch.zeros(len(stress), 3, dtype=torch.float64), torch.arange(len(stress))
    energy = torch.zeros(len(stress), dtype=torch.float64)
    options |= {"stress": stress, "stress_target": target, "rho_stress": rho_stress}
    return energy_forces_loss(energy, zero, energy, zero, batch, 0.01, **options)


def test_term_of_the_stresses():
    """Mean over all structures of the squared norm; those without a true stress add nothing."""
    stress, target = stresses([True, False, True])
    with torch.no_grad():
        stress[1] = torch.nan  # of a molecule, which has no volume
    expected = 20.0 * sum(float((target[k] - stress[k]).detach().square().sum()) for k in (0, 2)) / 3
    loss = loss_of(stress, target, 20.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    torch.testing.assert_close(stress.grad[0], 40.0 / 3 * (stress - target)[0].detach(), rtol=1e-12, atol=0)
    assert torch.equal(stress.grad[1], torch.zeros(3, 3, dtype=torch.float64))


def test_one_unknown_element_makes_a_stress_unknown():
    stress, target = stresses([True, True])
    target[0, 2, 1] = torch.nan
    assert loss_of(stress, target, 1.0).item() == pytest.approx(
        float((target[1] - stress[1]).detach().square().sum()) / 2
    )


@pytest.mark.parametrize("shape", [(6, 3), (2, 6), (1, 3, 3)])
def test_stresses_of_another_shape_are_refused(shape):
    stress, _ = stresses([True, True])
    with pytest.raises(ValueError, match=r"`stress_target` must have shape \[2, 3, 3\], \[1, 3, 3\] in each Data, got"):
        loss_of(stress, torch.zeros(shape), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": torch.zeros(2, 2)}, r"`energy` of the data must have shape \[2\], got \[2, 2\]"),
        ({"energy": torch.zeros(3)}, r"`energy` of the data must have shape \[2\], got \[3\]"),
        ({"forces": torch.zeros(1, 3)}, r"`forces` of the data must have shape \[4, 3\], got \[1, 3\]"),
    ],
)
def test_targets_of_another_shape_are_refused(changes, message):
    """They would broadcast, and nobody would see it."""
    target = {"energy": torch.zeros(2), "forces": torch.zeros(4, 3)} | changes
    batch = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match=message):
        energy_forces_loss(torch.zeros(2), torch.zeros(4, 3), target["energy"], target["forces"], batch, 0.1)


def test_energies_as_a_column_are_taken():
    """[1, 1] in each Data is a habit of PyG."""
    energy, forces, batch = torch.randn(2), torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    target = torch.randn(2)
    losses = [energy_forces_loss(energy, forces, one, 0 * forces, batch, 0.1) for one in (target, target.unsqueeze(1))]
    assert losses[0] == losses[1]
