"""The ASE calculator."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_forces
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from pyg_schnet import Potential, SchNet, save
from pyg_schnet.analysis import energy_drift
from pyg_schnet.simulation.ase import SchNetCalculator


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SchNet.preset("jcp2018", num_interactions=2, hidden_channels=16, num_filters=16)


def test_same_as_the_potential(model):
    atoms = molecule("CH3CH2OH")
    atoms.calc = SchNetCalculator(model)
    out = Potential(model.eval())(torch.tensor(atoms.numbers), torch.tensor(atoms.positions).float())
    assert atoms.get_potential_energy() == float(out["energy"])
    assert atoms.get_potential_energy(force_consistent=True) == float(out["energy"])
    np.testing.assert_array_equal(atoms.get_forces(), out["forces"].numpy())


def test_forces_against_ase_differences(model):
    atoms = molecule("H2O")
    atoms.calc = SchNetCalculator(model, dtype=torch.float64)
    # central differences with 1e-3 Angstrom: error of third derivatives (1e-6) far below the forces (1e-2)
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-3), atol=1e-5)
    assert np.abs(atoms.get_forces()).max() > 1e-3


@pytest.mark.parametrize(
    "wrap", [lambda model, path: model, lambda model, path: Potential(model), lambda model, path: path]
)
def test_model_potential_or_path(model, wrap, tmp_path):
    save(model, tmp_path / "model.safetensors")
    atoms = molecule("H2O")
    atoms.calc = SchNetCalculator(wrap(model, tmp_path / "model.safetensors"))
    reference = SchNetCalculator(model)
    assert atoms.get_potential_energy() == reference.get_potential_energy(atoms)


def test_model_is_copied(model):
    before = model.output.lin2.bias.clone()
    calculator = SchNetCalculator(model, dtype=torch.float64)
    assert model.embedding.weight.dtype == torch.float32
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    energy = calculator.get_potential_energy(molecule("H2O"))
    with torch.no_grad():
        model.output.lin2.bias += 1.0
    assert calculator.get_potential_energy(molecule("H2O").copy()) == energy
    assert torch.equal(before + 1.0, model.output.lin2.bias)


def test_moved_atoms_are_evaluated_again(model):
    atoms = molecule("H2O")
    atoms.calc = SchNetCalculator(model)
    first = atoms.get_potential_energy()
    atoms.positions[0] += 0.1
    assert atoms.get_potential_energy() != first


def test_total_energy_keeps_its_digits(model):
    """A float32 model with a large reference: nothing is lost, although a float32 step of the total is 5e-4 eV."""
    atoms = molecule("H2O")
    bare = SchNetCalculator(model).get_potential_energy(atoms)
    model.reference.set(-2000.0, 1.0)
    total = SchNetCalculator(model).get_potential_energy(atoms)
    assert total + 6000.0 == pytest.approx(bare, abs=1e-9)


def test_energy_is_conserved(model):
    """NVE of a random, so smooth and soft, potential: the drift is that of the integrator, not of the forces."""
    atoms = molecule("CH3CH2OH")
    model.reference.set(0.0, 0.02)
    atoms.calc = SchNetCalculator(model, dtype=torch.float64)
    thermalize_momenta(atoms, temperature_K=50, rng=np.random.default_rng(0))
    dynamics, energies = VelocityVerlet(atoms, 0.25 * units.fs), []
    for _ in range(200):
        dynamics.run(1)
        energies.append(atoms.get_total_energy())
    drift = energy_drift(np.arange(200) * 0.00025, energies, len(atoms))
    assert abs(drift) < 1e-3
    assert np.ptp(energies) < 0.1 * np.ptp([0, atoms.get_kinetic_energy()])


def test_single_atom(model):
    atoms = Atoms("He")
    atoms.calc = SchNetCalculator(model)
    assert np.isfinite(atoms.get_potential_energy())
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_cell_without_periodic_axes(model):
    atoms = molecule("H2O")
    calculator = SchNetCalculator(model)
    energy = calculator.get_potential_energy(atoms)
    atoms.set_cell([9, 9, 9])
    assert calculator.get_potential_energy(atoms) == energy


def test_crystal():
    torch.manual_seed(0)
    model = SchNet.preset("jcp2018-materials", num_interactions=2, hidden_channels=16, num_filters=16, readout="add")
    calculator = SchNetCalculator(model, dtype=torch.float64)
    primitive, cubic = bulk("NaCl", "rocksalt", a=5.6), bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    energy = calculator.get_potential_energy(primitive)
    assert 4 * energy == pytest.approx(calculator.get_potential_energy(cubic), rel=1e-11)
    # by symmetry no atom of rock salt feels a force
    np.testing.assert_allclose(calculator.get_forces(cubic), np.zeros((8, 3)), atol=1e-13)


def test_bad_models(tmp_path):
    with pytest.raises(ValueError, match="predicts an energy per atom; dynamics need readout='add'"):
        SchNetCalculator(SchNet.preset("jcp2018-materials"))
    with pytest.raises(TypeError, match="must be a SchNet, a Potential or a path, got int"):
        SchNetCalculator(3)
    with pytest.raises(FileNotFoundError, match="no model file"):
        SchNetCalculator(tmp_path / "missing.safetensors")
