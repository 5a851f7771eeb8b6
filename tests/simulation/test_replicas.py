"""Replicas of one structure, as engines ask about them."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_stress

from pyg_schnet import Potential, SchNet
from pyg_schnet.models import Committee
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.simulation.replicas import ReplicaPotential


@pytest.fixture
def crystal():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def places(atoms, count):
    noise = 0.02 * np.random.default_rng(3).normal(size=(count, len(atoms), 3))
    return atoms.positions + noise


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("count", "repulsion"), [(1, None), (3, None), (2, "zbl")])
def test_as_the_calculator_of_ase(make_model, crystal, frozen, count, repulsion):
    model = make_model(repulsion=repulsion)
    for atoms in (molecule("CH3CH2OH"), crystal):
        potential = ReplicaPotential(model, atoms.numbers, atoms.pbc, frozen=frozen)
        where = places(atoms, count)
        cells = np.stack([(1 + 0.01 * number) * atoms.cell.array for number in range(count)])
        found = potential(where, cells)
        for number in range(count):
            one = atoms.copy()
            one.positions, one.cell[:] = where[number], cells[number]
            one.calc = SchNetCalculator(model, frozen=frozen)
            assert found.energy[number] == pytest.approx(one.get_potential_energy(), rel=1e-12)
            np.testing.assert_allclose(found.forces[number], one.get_forces(), atol=1e-10)
            if atoms.pbc.any():
                virial = -one.get_volume() * one.get_stress(voigt=False)
                np.testing.assert_allclose(found.virial[number], virial, atol=1e-9)


def test_virial_of_a_molecule_is_what_straining_its_box_does(make_model):
    atoms = molecule("H2O", vacuum=5.0)
    atoms.calc = SchNetCalculator(make_model())
    atoms.rotate(30, "x")
    virial = ReplicaPotential(atoms.calc.potential, atoms.numbers)(atoms.positions[None] + 900.0).virial[0]
    # central differences with 1e-4: third derivatives contribute some 1e-8 of the stress
    stress = calculate_numerical_stress(atoms, eps=1e-4, voigt=False)
    np.testing.assert_allclose(virial, -atoms.get_volume() * stress, atol=1e-6 * np.abs(virial).max())


def test_units_and_committees(make_model):
    atoms = molecule("H2O")
    models = [make_model(), make_model()]
    where = places(atoms, 2)
    every = ReplicaPotential(Committee(models), atoms.numbers, energy_unit="kcal/mol").of_members(where)
    mean = ReplicaPotential(Committee(models), atoms.numbers, energy_unit="kcal/mol")(where)
    for model, found in zip(models, every, strict=True):
        z, pos = torch.tensor(atoms.numbers).repeat(2), torch.tensor(where.reshape(-1, 3))
        out = Potential(model.eval())(z, pos, torch.arange(2).repeat_interleave(3))
        np.testing.assert_allclose(found.energy, out["energy"] * 0.04336410390059322, rtol=1e-12)
        np.testing.assert_allclose(found.forces.reshape(-1, 3), out["forces"] * 0.04336410390059322, atol=1e-12)
    np.testing.assert_allclose(mean.energy, (every[0].energy + every[1].energy) / 2, rtol=1e-12)
    assert abs(every[0].energy - every[1].energy).min() > 1e-3


def test_far_away_nothing_is_lost(make_model):
    atoms = molecule("CH4")
    potential = ReplicaPotential(make_model().float(), atoms.numbers)
    for count in (1, 2):
        near = potential(places(atoms, count))
        far = potential(places(atoms, count) + 65536.0)
        np.testing.assert_allclose(far.forces, near.forces, atol=1e-4 * np.abs(near.forces).max())


def test_what_is_refused(make_model):
    model = make_model()
    with pytest.raises(ValueError, match=r"readout='mean'.*needs? readout='add'|readout='mean'"):
        ReplicaPotential(SchNet(8, 8, 1, readout="mean"), [6])
    with pytest.raises(ValueError, match="atom 1 .* 300"):
        ReplicaPotential(model, [6, 300])
    with pytest.raises(ValueError, match="at least one atomic number"):
        ReplicaPotential(model, [])
    potential = ReplicaPotential(model, [6, 6], True)
    with pytest.raises(ValueError, match=r"shape \[B, 2, 3\].*got \[1, 3, 3\]"):
        potential(np.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match="needs cells"):
        potential(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="atom 1 is not finite"):
        potential([[[0, 0, 0], [0, np.nan, 0]]], np.eye(3)[None])


def test_a_potential_of_ones_own_is_refused(make_model):
    """What it adds to the forces would be lost."""
    with pytest.raises(TypeError, match="pass its model"):
        ReplicaPotential(type("Own", (Potential,), {})(make_model()), [8, 1, 1])
