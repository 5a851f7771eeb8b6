"""What ASE does with a calculator, where the result is known: relaxation, dynamics, paths, vibrations, elasticity."""

import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.stress import voigt_6_to_full_3x3_strain
from ase.vibrations import Vibrations, VibrationsData
from scipy.optimize import minimize_scalar

from pyg_schnet.simulation.ase import SchNetCalculator

C11 = math.sqrt(2) * 2.0 / 2.6  # eV/Angstrom^3, of springs of 2 eV/Angstrom^2 and 2.6 Angstrom
MODULUS = 2 * C11 / 3


def copper(length=2.6, repeat=1, cubic=False):
    return bulk("Cu", "fcc", a=length * math.sqrt(2), cubic=cubic) * (repeat, repeat, repeat)


def length_under(pressure):
    """The length of the bonds of a crystal of Morse potentials where 6 E + P V of an atom is least."""

    def enthalpy(length):
        return 6 * 0.6 * (1 - math.exp(-1.7 * (length - 2.6))) ** 2 + pressure * length**3 / math.sqrt(2)

    return minimize_scalar(enthalpy, (2.4, 2.6), tol=1e-12).x


# Relaxation


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_a_relaxed_triangle_is_equilateral(springs, optimizer):
    atoms = Atoms("Cu3", [[0, 0, 0], [2.5, 0.1, 0], [1.0, 2.4, 0.2]])
    atoms.calc = SchNetCalculator(springs().double())
    assert optimizer(atoms, logfile=None).run(fmax=1e-6, steps=300)
    np.testing.assert_allclose(atoms.get_all_distances()[np.triu_indices(3, 1)], 2.6, atol=1e-6)


def test_a_relaxed_cell_has_the_stress_of_the_pressure(morse):
    """And a volume of the least enthalpy; without a pressure there is no stress."""
    calculator = SchNetCalculator(morse(cutoff=3.3).double())
    for pressure in (0.0, 0.05):
        atoms = copper(2.7, cubic=True)
        atoms.rattle(0.02, seed=0)
        atoms.set_cell(atoms.cell.array @ [[1, 0.02, 0], [0, 0.99, 0], [0.01, 0, 1]], scale_atoms=True)
        atoms.calc = calculator
        assert BFGS(FrechetCellFilter(atoms, scalar_pressure=pressure), logfile=None).run(fmax=1e-5, steps=200)
        np.testing.assert_allclose(atoms.get_stress(), -pressure * np.array([1, 1, 1, 0, 0, 0]), atol=1e-6)
        assert atoms.get_volume() / 4 == pytest.approx(length_under(pressure) ** 3 / math.sqrt(2), rel=1e-5)


# Elasticity


def test_equation_of_state_and_elastic_constants_agree(springs):
    """Curvature of the energy, differences of stresses and the theory of springs: one bulk modulus."""
    calculator, volumes, energies = SchNetCalculator(springs().double()), [], []
    for scale in np.linspace(0.985, 1.015, 7):
        atoms = copper(2.6 * scale)
        volumes.append(atoms.get_volume())
        energies.append(calculator.get_potential_energy(atoms))
    volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    assert volume == pytest.approx(2.6**3 / math.sqrt(2), rel=1e-4)
    assert energy == pytest.approx(0, abs=1e-4)
    assert modulus == pytest.approx(MODULUS, rel=0.01)  # of the third and higher orders of a fit to 1.5 %
    constants = np.zeros((6, 6))
    for number in range(6):
        stresses = []
        for sign in (1, -1):
            atoms = copper()
            strain = voigt_6_to_full_3x3_strain(sign * 1e-4 * np.eye(6)[number])
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            stresses.append(calculator.get_stress(atoms))
        constants[number] = (stresses[0] - stresses[1]) / 2e-4
    expected = np.diag([C11] * 3 + [C11 / 2] * 3)
    expected[:3, :3] += C11 / 2 * (1 - np.eye(3))
    np.testing.assert_allclose(constants, expected, atol=1e-5)  # squares of the strain, and no more
    assert constants[:3, :3].sum() / 9 == pytest.approx(MODULUS, rel=1e-5)


# Vibrations


def test_vibrations_of_a_diatomic(springs, tmp_path):
    """One frequency, (k / mu)^(1/2), from differences of forces and from the Hessian."""
    atoms = Atoms("Cu2", [[0, 0, 0], [1.5, 1.2, math.sqrt(2.6**2 - 1.5**2 - 1.2**2)]])
    atoms.calc = calculator = SchNetCalculator(springs().double())
    mass = atoms.get_masses()[0] / 2
    expected = units._hbar * 1e10 * math.sqrt(units._e / units._amu * 2.0 / mass) / units._e
    found = Vibrations(atoms, name=str(tmp_path / "vib"), delta=1e-3)
    found.run()
    assert found.get_energies()[-1].real == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(np.abs(found.get_energies()[:-1]), 0, atol=1e-4)
    data = VibrationsData(atoms, calculator.get_hessian(atoms))
    assert data.get_energies()[-1].real == pytest.approx(expected, rel=1e-9)


# Paths


def test_barrier_of_an_atom_that_goes_through_a_triangle(morse):
    """Like ammonia. At the saddle point the atom is in the plane: 3 E(R), from a path beside the axis."""
    radius = 2.2
    angles = 2 * math.pi / 3 * np.arange(3)
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.zeros(3)], 1)
    height = math.sqrt(2.6**2 - radius**2)
    calculator = SchNetCalculator(morse(cutoff=3.3).double())
    images = [Atoms("Cu4", [*ring, [0, 0, z]]) for z in np.linspace(height, -height, 7)]
    for image in images:
        image.set_constraint(FixAtoms([0, 1, 2]))
        image.calc = calculator
    for image in images[1:-1]:
        image.positions[3, :2] += [0.25, 0.1]
    band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    assert FIRE(band, logfile=None).run(fmax=1e-3, steps=200)
    energies = [image.get_potential_energy() for image in images]
    assert energies[0] == pytest.approx(0, abs=1e-12)
    barrier = 3 * 0.6 * (1 - math.exp(-1.7 * (radius - 2.6))) ** 2
    assert max(energies) == pytest.approx(barrier, abs=1e-5)
    scan = []
    for z in np.linspace(height, -height, 41):
        atoms = Atoms("Cu4", [*ring, [0, 0, z]])
        scan.append(calculator.get_potential_energy(atoms))
    assert max(energies) == pytest.approx(max(scan), abs=1e-5)
    assert abs(images[int(np.argmax(energies))].positions[3, 2]) < 1e-2


# Dynamics


def test_thermostats_share_energy_equally(springs):
    """A crystal of springs at 100 K: half of the energy is potential, 3/2 kT for each atom but one."""
    calculator = SchNetCalculator(springs().double())
    for thermostat in ("Langevin", "Nose-Hoover chain"):
        atoms = copper(repeat=4)
        atoms.calc = calculator
        thermalize_momenta(atoms, temperature_K=200, rng=np.random.default_rng(1))  # half becomes potential energy
        if thermostat == "Langevin":
            rng = np.random.default_rng(2)
            dynamics = Langevin(atoms, 4 * units.fs, temperature_K=100, friction=0.02 / units.fs, fixcm=False, rng=rng)
        else:
            Stationary(atoms, preserve_temperature=False)
            dynamics = NoseHooverChainNVT(atoms, 4 * units.fs, temperature_K=100, tdamp=100 * units.fs)
        dynamics.run(150)
        kinetic, potential = [], []
        for _ in range(150):
            dynamics.run(3)
            kinetic.append(atoms.get_kinetic_energy())
            potential.append(atoms.get_potential_energy())
        expected = 1.5 * units.kB * 100 * (len(atoms) - 1)
        # 192 modes, some 15 independent times: 2 %; what is not harmonic, and the step: 2 %
        assert np.mean(kinetic) == pytest.approx(expected, rel=0.07), thermostat
        assert np.mean(potential) == pytest.approx(expected, rel=0.09), thermostat


@pytest.mark.parametrize("barostat", [IsotropicMTKNPT, MTKNPT])
def test_barostats_find_the_least_enthalpy(morse, barostat):
    """At 20 K, where heat expands the crystal by 0.1 %, and under 0.03 eV/Angstrom^3, which compresses it by 2 %."""
    pressure = 0.03
    length = length_under(pressure)
    atoms = copper(1.003 * length, repeat=2)
    atoms.calc = SchNetCalculator(morse(cutoff=3.3).double())
    thermalize_momenta(atoms, temperature_K=20, rng=np.random.default_rng(1))
    Stationary(atoms)
    # the mass of the barostat is made for a gas, k T times the square of its time: for a cold crystal far too light
    dynamics = barostat(
        atoms, 4 * units.fs, temperature_K=20, pressure_au=pressure, tdamp=100 * units.fs, pdamp=4000 * units.fs
    )
    volumes, stresses = [], []
    for _ in range(220):
        dynamics.run(2)
        volumes.append(atoms.get_volume() / 8)
        stresses.append(atoms.get_stress(include_ideal_gas=True)[:3].mean())
    expected = length**3 / math.sqrt(2)
    assert expected < 0.985 * 2.6**3 / math.sqrt(2)
    assert np.mean(volumes[100:]) == pytest.approx(expected, rel=4e-3)
    assert np.mean(stresses[100:]) == pytest.approx(-pressure, rel=0.05)
    assert np.ptp(volumes) > 5e-3 * expected


def test_constant_energy_of_a_crystal(morse):
    """Less than 0.1 meV/atom/ps in ASE's own velocity Verlet, cell and neighbours across its faces included."""
    from ase.md.verlet import VelocityVerlet

    atoms = copper(repeat=2)
    atoms.calc = SchNetCalculator(morse(cutoff=3.3).double())
    thermalize_momenta(atoms, temperature_K=50, rng=np.random.default_rng(0))
    dynamics, times, energies = VelocityVerlet(atoms, 1 * units.fs), [], []
    for step in range(500):
        dynamics.run(1)
        times.append(step / 1000)
        energies.append(atoms.get_total_energy())
    drift = np.polyfit(times, energies, 1)[0] / len(atoms)
    assert abs(drift) < 1e-4
    assert atoms.get_kinetic_energy() > 0.01


def test_free_energy_is_the_energy(springs):
    """There are no electrons at a temperature: what ASE's optimizers with line searches ask for."""
    atoms = copper(2.7)
    atoms.calc = SchNetCalculator(springs().double())
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy() > 0
    assert atoms.calc.results["free_energy"] == atoms.calc.results["energy"]
