"""Dipole moments by the calculator: the vectors of a model, ASE's infrared spectrum, bad input."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.vibrations import Infrared

from pyg_schnet import SchNet, save
from pyg_schnet.analysis.vibrations.infrared import dipole_derivatives
from pyg_schnet.models import Committee
from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data

SIZES = {"hidden_channels": 8, "num_filters": 8, "num_interactions": 1, "num_gaussians": 10, "cutoff": 4.0}


@pytest.fixture
def models(scramble):
    """One of energies and one of dipole moments."""
    return tuple(scramble(SchNet(**SIZES, readout=readout)).double() for readout in ("add", "dipole"))


def vector(model, atoms):
    data = atoms_to_data(atoms, torch.float64)
    return model(data.z, data.pos)[0].detach().numpy()


def test_is_the_vector_of_the_model_in_electrons_times_angstrom(models, tmp_path):
    energies, dipoles = models
    water = molecule("H2O")
    water.positions += [1e4, 0, 0]  # anywhere
    expected = vector(dipoles, molecule("H2O"))
    save(dipoles, tmp_path / "dipole.safetensors")
    for model, unit, factor in (
        (dipoles, None, units.Debye),
        (dipoles, "e*Ang", 1.0),
        (tmp_path / "dipole.safetensors", "D", units.Debye),
        (Committee([dipoles, dipoles]), "D", units.Debye),
    ):
        water.calc = SchNetCalculator(energies, dipole_model=model, dipole_unit=unit)
        np.testing.assert_allclose(water.get_dipole_moment(), factor * expected, rtol=1e-7, atol=1e-9)
    before = water.get_potential_energy()
    assert SchNetCalculator(energies).get_potential_energy(water) == before
    water.positions[0, 2] += 0.1  # results of the structure before are not kept
    moved = water.copy()
    moved.positions -= [1e4, 0, 0]
    np.testing.assert_allclose(water.get_dipole_moment(), units.Debye * vector(dipoles, moved), rtol=1e-6, atol=1e-8)


def test_infrared_spectrum_of_ase(models, tmp_path, monkeypatch):
    """All its intensities add up to what the derivatives of the dipole moment give, whatever the modes are."""
    monkeypatch.chdir(tmp_path)
    energies, dipoles = models
    water = molecule("H2O")
    water.calc = SchNetCalculator(energies, dipole_model=dipoles)
    spectrum = Infrared(water, delta=1e-3)
    spectrum.run()
    spectrum.read()
    charges = dipole_derivatives(dipoles, atoms_to_data(water, torch.float64)).numpy() / units.Debye  # D/Angstrom
    expected = (charges**2 / water.get_masses()[:, None, None]).sum()
    assert expected > 1e-4
    assert spectrum.intensities.sum() == pytest.approx(expected, rel=1e-4)  # central differences


def test_bad_input(models):
    energies, dipoles = models
    with pytest.raises(ValueError, match="`dipole_model` must predict a dipole moment, got readout='add'"):
        SchNetCalculator(energies, dipole_model=energies)
    with pytest.raises(TypeError, match="`dipole_model` must be a model with readout='dipole', got int"):
        SchNetCalculator(energies, dipole_model=3)
    with pytest.raises(ValueError, match="`dipole_unit` must be one of 'D', .* got 'au'"):
        SchNetCalculator(energies, dipole_model=dipoles, dipole_unit="au")
    crystal = bulk("Cu")
    crystal.calc = SchNetCalculator(energies, dipole_model=dipoles)
    assert np.isfinite(crystal.get_potential_energy())
    with pytest.raises(ValueError, match="not defined in periodic structures"):
        crystal.get_dipole_moment()
    water = molecule("H2O")
    water.calc = SchNetCalculator(energies)
    with pytest.raises(PropertyNotImplementedError):
        water.get_dipole_moment()
