"""What follows from normal modes, and thermochemistry against ASE's."""

import math

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.thermochemistry import HarmonicThermo, IdealGasThermo
from torch_geometric.data import Data

from pyg_schnet.analysis.vibrations import oscillators
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes

from .springs import Springs

WATER = [1595.0, 3657.0, 3756.0]


@pytest.fixture
def quanta():
    return torch.tensor(WATER, dtype=torch.float64) * units.invcm


@pytest.mark.parametrize("temperature", [20.0, 77.0, 298.15, 3000.0, 1e6])
def test_thermochemistry_of_ase(quanta, temperature):
    theirs = HarmonicThermo(quanta.tolist())
    args = {"rel": 1e-10, "abs": 1e-14}
    assert oscillators.internal_energy(quanta, temperature) == pytest.approx(
        theirs.get_internal_energy(temperature, verbose=False), **args
    )
    assert oscillators.entropy(quanta, temperature) == pytest.approx(
        theirs.get_entropy(temperature, verbose=False), **args
    )
    assert oscillators.free_energy(quanta, temperature) == pytest.approx(
        theirs.get_helmholtz_energy(temperature, verbose=False), **args
    )


def test_heat_capacity_is_the_slope_of_the_energy_and_classical_in_the_end(quanta):
    for temperature in (100.0, 500.0):
        energies = oscillators.internal_energy(quanta, [temperature - 0.01, temperature + 0.01])
        slope = float(energies[1] - energies[0]) / 0.02  # error of the third derivative, 1e-8
        assert oscillators.heat_capacity(quanta, temperature) == pytest.approx(slope, rel=1e-6)
    assert oscillators.heat_capacity(quanta, 1e7) == pytest.approx(3 * units.kB, rel=1e-6)


def test_at_zero_temperature_and_of_many(quanta):
    assert oscillators.heat_capacity(quanta, 0.0) == oscillators.entropy(quanta, 0) == 0.0
    assert oscillators.internal_energy(quanta, 0.0) == pytest.approx(sum(WATER) / 2 * units.invcm, rel=1e-12)
    assert oscillators.free_energy(quanta, 0) == oscillators.internal_energy(quanta, 0)
    many = oscillators.entropy(quanta, np.array([[0.0, 300.0], [600.0, 5.0]]))
    assert many.shape == (2, 2)
    assert many.dtype == torch.float64
    assert float(many[0, 1]) == oscillators.entropy(quanta, 300.0)
    assert oscillators.entropy(quanta[:0], 300.0) == 0.0  # an atom
    for wrong in (-1.0, math.nan, [300.0, -5.0]):
        with pytest.raises(ValueError, match="must be finite and not negative, in K"):
            oscillators.heat_capacity(quanta, wrong)


def dimer(k=36.0):
    data = Data(z=torch.tensor([1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0, 0.74]], dtype=torch.float64))
    return normal_modes(Springs(k, 0.74), data)


def test_rigid_and_imaginary_modes_have_no_part_in_it():
    modes = dimer()
    assert modes.quanta.tolist() == pytest.approx([float(modes.wavenumbers[-1]) * units.invcm])
    assert modes.heat_capacity(500.0) == oscillators.heat_capacity(modes.quanta, 500.0)
    assert modes.entropy(500.0) == oscillators.entropy(modes.quanta, 500.0)
    assert modes.internal_energy(500.0) - 500.0 * modes.entropy(500.0) == pytest.approx(modes.free_energy(500.0))
    with pytest.warns(UserWarning, match="1 of its modes is imaginary, a negative number here"):
        assert dimer(-36.0).zero_point_energy == 0.0


def test_levels():
    modes = dimer()
    object.__setattr__(modes, "wavenumbers", torch.tensor([-5.0, 0, 0, 0, 100.0, 100.5, 101.2, 300.0]))
    object.__setattr__(modes, "rigid", torch.tensor([False, True, True, True, False, False, False, False]))
    assert [n for _, n in modes.levels(1.0)] == [1, 3, 1]
    assert modes.levels(0.0)[1] == (100.0, 1)
    with pytest.raises(ValueError, match="`tolerance` must not be negative"):
        modes.levels(-1.0)


def test_ideal_gas():
    modes = dimer()
    gas = modes.ideal_gas(symmetry_number=2)
    expected = IdealGasThermo(modes.quanta.tolist(), "linear", modes.energy, modes.atoms(), symmetrynumber=2, spin=0)
    assert gas.get_gibbs_energy(300.0, 1e5, verbose=False) == expected.get_gibbs_energy(300.0, 1e5, verbose=False)
    assert modes.ideal_gas(2, energy=1.0).potentialenergy == 1.0
    with pytest.warns(UserWarning, match="imaginary"):
        saddle = dimer(-36.0)
    with pytest.raises(ValueError, match="needs a minimum; the lowest wavenumber is -"):
        saddle.ideal_gas(2)
    object.__setattr__(modes, "pbc", torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="this structure is periodic"):
        modes.ideal_gas(2)


def test_printed():
    modes = dimer()
    assert repr(modes) == f"NormalModes(H2, 1 vibrations: {modes.vibrations[0]:.1f} to {modes.vibrations[0]:.1f} cm^-1)"
    lines = str(modes).splitlines()
    assert len(lines) == 8
    assert sum("rigid" in line for line in lines) == 5
    assert modes.atoms().get_masses().tolist() == molecule("H2").get_masses().tolist()
    assert len(modes) == 6
