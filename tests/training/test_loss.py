"""The loss of equation (5) against the formula written out."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_schnet.training import energy_forces_loss, huber_loss
from pyg_schnet.training.loss import scalar_loss
from pyg_schnet.training.weights import Weights, weights_of


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


@pytest.fixture
def labelled():
    """Predictions and labels of three structures of two atoms, some of them not known."""
    generator = torch.Generator().manual_seed(4)
    energy, target = torch.randn(2, 3, generator=generator)
    forces, forces_target = torch.randn(2, 6, 3, generator=generator)
    stress, stress_target = torch.randn(2, 3, 3, 3, generator=generator)
    target[1] = stress_target[2, 0, 0] = torch.nan
    forces_target[3] = torch.nan
    batch = torch.tensor([0, 0, 1, 1, 2, 2])
    return (energy, forces, target, forces_target, batch), {"stress": stress, "stress_target": stress_target}


KINDS = {
    "squared": lambda x: x**2,
    "absolute": lambda x: x,
    "huber": lambda x: x**2 if x < 0.7 else 2 * 0.7 * x - 0.49,
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_and_weights_by_hand(labelled, kind):
    """Lengths of differences, atom by atom; what is not known adds nothing, weights do not change the divisor."""
    (energy, forces, target, forces_target, batch), stress = labelled
    weights = Weights(*torch.tensor([[1.0, 2, 3], [0.5, 4, 0], [1.5, 2.5, 3.5]]), torch.tensor([1.0, 0, 2, 3, 1, 5]))
    options = {"rho_stress": 0.3, "loss": kind, "huber_delta": 0.7, "weights": weights}
    loss = energy_forces_loss(energy, forces, target, forces_target, batch, 0.1, **stress, **options)
    expected = 0.0
    for s in range(3):
        if s != 1:
            expected += 0.1 * float(weights.energy[s]) * KINDS[kind](abs(float(energy[s] - target[s])))
        for atom in (2 * s, 2 * s + 1):
            if atom != 3:
                size = float((forces[atom] - forces_target[atom]).norm())
                expected += float(weights.forces[s] * weights.atoms[atom]) * KINDS[kind](size) / 2
        if s != 2:
            size = float((stress["stress"][s] - stress["stress_target"][s]).norm())
            expected += 0.3 * float(weights.stress[s]) * KINDS[kind](size)
    assert float(loss) == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_one_change_nothing(labelled, kind):
    arguments, stress = labelled
    one = Weights(torch.ones(3), torch.ones(3), torch.ones(3), torch.ones(6))
    with_, without = (
        energy_forces_loss(*arguments, 0.1, **stress, rho_stress=1.0, loss=kind, weights=weights)
        for weights in (one, None)
    )
    assert torch.equal(with_, without)


@pytest.mark.parametrize("kind", KINDS)
def test_axes_do_not_matter_and_exact_predictions_have_a_gradient(labelled, kind, rotation):
    (energy, forces, target, forces_target, batch), _ = labelled
    turn = rotation.float()
    losses = [
        energy_forces_loss(energy, one, target, other, batch, 0.1, loss=kind)
        for one, other in ((forces, forces_target), (forces @ turn, forces_target @ turn))
    ]
    torch.testing.assert_close(*losses)
    exact = forces_target.nan_to_num().requires_grad_()
    energy_forces_loss(energy, exact, energy, forces_target, batch, 0.1, loss=kind).backward()
    assert torch.equal(exact.grad, torch.zeros(6, 3))


def test_unknown_kind(labelled):
    arguments, _ = labelled
    with pytest.raises(ValueError, match="unknown loss 'l1'; expected one of 'squared', 'absolute', 'huber'"):
        energy_forces_loss(*arguments, 0.1, loss="l1")
    with pytest.raises(ValueError, match="`huber_delta` must be positive, got 0"):
        energy_forces_loss(*arguments, 0.1, loss="huber", huber_delta=0.0)


def test_scalar_losses_by_hand():
    predicted, true = torch.tensor([[0.0, 1.0], [3.0, 2.0]]), torch.tensor([[0.5, torch.nan], [0.0, 6.0]])
    scale, weights = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert float(huber_loss(predicted, true, scale, 1.0, weights)) == pytest.approx((0.25 + 3 * (5 + 3)) / 4)
    assert float(scalar_loss("squared", predicted, true, scale, 1.0, weights)) == pytest.approx((0.25 + 3 * 13) / 4)
    assert float(scalar_loss("absolute", predicted, true, scale, 1.0, weights)) == pytest.approx((0.5 + 3 * 5) / 4)


def test_weights_by_keys():
    data = Batch.from_data_list(
        [
            Data(pos=torch.zeros(n, 3), config_weight=torch.tensor([w]), config_forces_weight=torch.tensor([2.0]))
            for n, w in ((1, 3.0), (2, 5.0))
        ]
    )
    weights = weights_of(data)
    assert weights.energy.tolist() == weights.stress.tolist() == [3, 5]
    assert weights.forces.tolist() == [6, 10]
    assert weights.atoms is None
    data.atom_weight = torch.ones(2)
    with pytest.raises(ValueError, match=r"`atom_weight` must have one value for each of the 3 atoms, got \[2\]"):
        weights_of(data)


@pytest.mark.parametrize("kind", ["squared", "absolute", "huber"])
def test_float64_labels_of_a_float32_model(labelled, kind):
    """Arrays of NumPy are float64; the model, and its loss, stay as they are."""
    (energy, forces, target, forces_target, batch), _ = labelled
    rough = energy_forces_loss(energy.float(), forces.float(), target, forces_target.double(), batch, 0.1, loss=kind)
    fine = energy_forces_loss(energy.double(), forces.double(), target, forces_target.double(), batch, 0.1, loss=kind)
    assert rough.dtype == torch.float32
    assert float(rough) == pytest.approx(float(fine), rel=1e-5)
