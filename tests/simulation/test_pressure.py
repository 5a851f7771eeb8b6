"""Dynamics at constant pressure: distributions that are known, minima of equations of state, restarts, refusals."""

import math

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.eos import EquationOfState
from scipy import stats

from pyg_schnet import Potential
from pyg_schnet.simulation import Dynamics, DynamicsError, engines
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.units import BOLTZMANN, STRESS

COPPER = bulk("Cu", "fcc", a=2.6 * math.sqrt(2))
#: Bulk modulus of the springs, 2^(3/2) k / (3 d0), in GPa.
MODULUS = 2**1.5 * 2.0 / (3 * 2.6) / STRESS["GPa"]


@pytest.fixture
def each_step(monkeypatch):
    """Cells move at each step, so that fewer evaluations make as many moves."""
    monkeypatch.setattr(engines, "STEPS_PER_MOVE", 1)


def crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.05, seed=0)
    return atoms


def sampled(dynamics, pause, samples):
    """What there is after each pause."""
    found = []
    for _ in range(samples):
        dynamics.run(pause, progress=False)
        found.append((dynamics.volumes, dynamics.cells))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


# Distributions


def test_volumes_of_an_ideal_gas(springs, each_step):
    """V^N exp(-P V / kT), a gamma distribution of N + 1; that of one atom more or fewer would be noticed."""
    atoms, pressure, temperature = 12, 1.0, 300.0
    unit = BOLTZMANN * temperature / (pressure * STRESS["GPa"])
    side = (13 * unit) ** (1 / 3)
    gas = Atoms(f"Au{atoms}", side * np.random.default_rng(0).random((atoms, 3)), cell=[side] * 3, pbc=True)
    dynamics = Dynamics(
        springs(0.0, cutoff=0.01).double(),
        gas,
        timestep=50.0,
        temperature=temperature,
        replicas=80,
        pressure=pressure,
        pressure_time=80 * 50.0,
        bulk_modulus=pressure,
        seed=3,
    )
    dynamics.run(150)
    volumes = sampled(dynamics, 110, 6)[0] / unit
    assert stats.kstest(volumes, "gamma", (atoms + 1,)).pvalue > 0.01
    for other in (atoms, atoms + 2):
        assert stats.kstest(volumes, "gamma", (other,)).pvalue < 1e-3


@pytest.mark.parametrize("pressure", [0.0, 8.0])
def test_volumes_of_a_crystal(springs, each_step, pressure):
    """Of one atom in a primitive cell, whose energy depends on nothing but the volume: an integral."""
    temperature = 100.0
    dynamics = Dynamics(
        springs().double(),
        COPPER,
        timestep=5.0,
        temperature=temperature,
        replicas=200,
        pressure=pressure,
        pressure_time=100.0,
        bulk_modulus=MODULUS,
        seed=1,
    )
    dynamics.run(80)
    volumes = sampled(dynamics, 40, 6)[0]
    grid = np.linspace(8.0, 16.0, 20001)
    energy = 6 * (np.cbrt(math.sqrt(2) * grid) - 2.6) ** 2 + pressure * STRESS["GPa"] * grid
    weight = grid * np.exp(-(energy - energy.min()) / (BOLTZMANN * temperature))
    truth = np.cumsum(weight) / weight.sum()
    assert stats.kstest(volumes, lambda volume: np.interp(volume, grid, truth)).pvalue > 0.01
    shifted = stats.kstest(volumes, lambda volume: np.interp(1.01 * volume, grid, truth))
    assert shifted.pvalue < 1e-3


def test_shapes_of_a_crystal_fluctuate_as_its_elastic_constants_say(springs, each_step):
    """At a low temperature, <e_a e_b> = kT S_ab / V with S the inverse of the known elastic constants."""
    temperature = 50.0
    dynamics = Dynamics(
        springs().double(),
        COPPER,
        timestep=20.0,
        temperature=temperature,
        replicas=200,
        pressure=0.0,
        barostat="full",
        pressure_time=200.0,
        bulk_modulus=MODULUS,
        seed=2,
    )
    dynamics.run(120)
    cells = sampled(dynamics, 30, 12)[1]
    deformation = np.linalg.inv(COPPER.cell.array) @ cells
    values, vectors = np.linalg.eigh(deformation @ np.swapaxes(deformation, 1, 2))  # without rotations
    strain = (vectors * (0.5 * np.log(values))[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    voigt = np.stack([strain[:, 0, 0], strain[:, 1, 1], strain[:, 2, 2], *(2 * strain[:, [1, 0, 0], [2, 2, 1]].T)], 1)
    found = np.cov(voigt.T) * COPPER.get_volume() / (BOLTZMANN * temperature)
    c11 = math.sqrt(2) * 2.0 / 2.6
    stiffness = np.diag([c11] * 3 + [c11 / 2] * 3)
    stiffness[:3, :3] += c11 / 2 * (1 - np.eye(3))
    expected = np.linalg.inv(stiffness)
    for kind in (((0, 1, 2), (0, 1, 2)), ((3, 4, 5), (3, 4, 5)), ((0, 0, 1), (1, 2, 2))):
        # 2400 samples, three of each kind: 2 %; as much of the length of a move and of what is not harmonic
        assert found[kind].mean() == pytest.approx(expected[kind].mean(), rel=0.1)
    assert np.abs(found[:3, 3:]).max() < 0.1 * expected[3, 3]


# Crystals


@pytest.mark.parametrize("barostat", ["isotropic", "full"])
def test_a_crystal_relaxes_to_the_minimum_of_its_equation_of_state(morse, barostat):
    """Without any heat, from a cell that is far too large and, if it may change, sheared; at a pressure, too."""
    model = morse(cutoff=3.3).double()
    calculator, volumes, energies = SchNetCalculator(model), [], []
    for scale in np.linspace(0.97, 1.03, 9):
        atoms = COPPER.copy()
        atoms.set_cell(scale * atoms.cell.array, scale_atoms=True)
        volumes.append(atoms.get_volume())
        energies.append(calculator.get_potential_energy(atoms))
    minimum, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    start = bulk("Cu", "fcc", a=2.68 * math.sqrt(2), cubic=True)
    start.rattle(0.03, seed=1)
    if barostat == "full":
        start.set_cell(start.cell.array @ [[1, 0.03, 0], [0, 0.98, 0], [0.02, 0, 1.01]], scale_atoms=True)
    dynamics = Dynamics(
        model,
        start,
        timestep=2.0,
        temperature=0.0,
        friction=0.02,
        pressure=0.0,
        barostat=barostat,
        pressure_time=100.0,
        bulk_modulus=modulus / STRESS["GPa"],
    )
    record = dynamics.run(800, interval=800)
    assert record.volume[0, 0] > 1.05 * 4 * minimum
    assert record.volume[-1, 0] == pytest.approx(4 * minimum, rel=1e-3)  # the fit has errors of its own
    assert dynamics.energies == pytest.approx(4 * min(energies), abs=1e-3)
    angles = np.linalg.det(dynamics.cells[0]) / np.prod(np.linalg.norm(dynamics.cells[0], axis=1))
    assert angles == pytest.approx(1, abs=1e-4)


def test_stress_of_a_crystal_becomes_the_pressure(morse):
    pressure, model = 5.0, morse(cutoff=3.3).double()
    dynamics = Dynamics(
        model,
        COPPER,
        timestep=2.0,
        temperature=0.0,
        friction=0.05,
        pressure=pressure,
        barostat="full",
        pressure_time=50.0,
        bulk_modulus=100.0,
    )
    dynamics.run(1000)
    atoms = Atoms("Cu", dynamics.positions, cell=dynamics.cells[0], pbc=True)
    stress = SchNetCalculator(model).get_stress(atoms)
    np.testing.assert_allclose(stress, -pressure * STRESS["GPa"] * np.array([1, 1, 1, 0, 0, 0]), atol=1e-5)


def test_atoms_without_forces_move_with_their_cell(springs):
    """Their places within the cell stay as they were, but for a common shift."""
    start = crystal()
    dynamics = Dynamics(
        springs(0.0, cutoff=0.01).double(),
        start,
        temperature=0.0,
        pressure=20.0,
        pressure_time=10.0,
        bulk_modulus=200.0,
    )
    dynamics.run(10)
    assert dynamics.volumes[0] < 0.99 * start.get_volume()
    found, expected = dynamics.positions @ np.linalg.inv(dynamics.cells[0]), start.get_scaled_positions(wrap=False)
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-12)


# Restarts and files


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("barostat", ["isotropic", "full"])
def test_goes_on_as_if_it_had_not_been_interrupted(make_model, tmp_path, barostat, frozen):
    """To the last bit, wherever it stops between two moves of the cell, with lists of pairs and without."""
    model, options = make_model(mean=-3.0, std=0.05), {"interval": 4, "progress": False}
    motion = {"temperature": 600, "pressure": 1.0, "barostat": barostat, "pressure_time": 100.0, "frozen": frozen}
    structures = [crystal()] * (1 if frozen else 2)  # a single one of a frozen model has a list
    whole = Dynamics(model, structures, **motion)
    whole.run(34, trajectory=tmp_path / "whole.extxyz", **options)
    assert np.abs(whole.volumes / crystal().get_volume() - 1).min() > 1e-5
    assert (barostat == "full") == bool(np.abs(np.diff(np.linalg.norm(whole.cells[0], axis=1))).max() > 1e-6)
    for stop in (15, 18):
        path, restart = tmp_path / f"{stop}.extxyz", tmp_path / f"{stop}.restart"
        Dynamics(model, structures, **motion).run(stop, trajectory=path, checkpoint=restart, **options)
        again = Dynamics.resume(model, restart, frozen=frozen)
        again.run(34 - stop, trajectory=path, checkpoint=restart, **options)
        for field in ("positions", "velocities", "forces", "energies", "cells"):
            np.testing.assert_array_equal(getattr(again, field), getattr(whole, field), err_msg=field)
        assert path.read_bytes() == (tmp_path / "whole.extxyz").read_bytes()


def test_replicas_breathe_each_by_itself(make_model):
    model = make_model(mean=-3.0, std=0.05)
    options = {"temperature": 300, "pressure": 0.0, "pressure_time": 100.0, "frozen": True}
    many, one = Dynamics(model, crystal(), replicas=3, **options), Dynamics(model, crystal(), **options)
    for dynamics in (many, one):
        dynamics.run(20)
    np.testing.assert_allclose(many.cells[0], one.cells[0], rtol=1e-12)
    assert len(np.unique(many.volumes.round(3))) == 3


@pytest.mark.parametrize("suffix", [".extxyz", ".traj", ".h5"])
def test_files_have_the_cell_of_each_frame(make_model, tmp_path, suffix):
    if suffix == ".h5":
        pytest.importorskip("h5py")
    path, restart = tmp_path / f"run{suffix}", tmp_path / "restart"
    model = make_model(mean=-3.0, std=0.05)
    dynamics = Dynamics(model, crystal(), temperature=300, pressure=0.0, barostat="full", pressure_time=50.0)
    dynamics.run(6, interval=2, trajectory=path, checkpoint=restart)
    dynamics.run(2, interval=2, trajectory=path)  # of which the restart knows nothing
    dynamics = Dynamics.resume(model, restart)
    record = dynamics.run(6, interval=6, trajectory=path)
    if suffix == ".h5":
        import h5py

        with h5py.File(path) as file:
            cells, steps = file["cells"][:, 0], file["step"][:].tolist()
    else:
        frames = ase.io.read(path, ":")
        cells, steps = np.stack([one.cell.array for one in frames]), [one.info["step"] for one in frames]
    assert steps == [0, 2, 4, 6, 12]
    np.testing.assert_allclose(cells[0], crystal().cell.array, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(cells[-1]), record.volume[-1, 0], rtol=1e-8)
    np.testing.assert_allclose(cells[-1], dynamics.cells[0], rtol=1e-8, atol=1e-8)
    assert np.abs(cells[-1] - cells[0]).max() > 1e-4


def test_cells_stay_as_they_are_without_a_pressure(make_model):
    dynamics = Dynamics(make_model(mean=-3.0, std=0.05), [crystal(), molecule("H2O")], temperature=300)
    record = dynamics.run(6, interval=3)
    np.testing.assert_array_equal(dynamics.cells[0], crystal().cell.array)
    np.testing.assert_allclose(record.volume, [[crystal().get_volume(), 0.0]] * 3)


# What goes wrong

BAD = {
    "molecule": ({"structures": molecule("H2O")}, "structure 0 has no volume .* its axes are open, open, open"),
    "slab": ({"structures": [crystal(), fcc111("Cu", (1, 1, 2), vacuum=5.0)]}, "structure 1 .* periodic, open"),
    "no thermostat": ({"friction": 0}, "needs a thermostat, too: give a `temperature` and a `friction` above 0"),
    "no temperature": ({"temperature": None}, "needs a thermostat"),
    "kind": ({"pressure": "1 bar"}, "`pressure` must be a number in GPa, for example 0, or None; got '1 bar'"),
    "nan": ({"pressure": math.nan}, "`pressure` must be finite, in GPa"),
    "barostat": ({"barostat": "cubic"}, "`barostat` must be one of 'isotropic', 'full', got 'cubic'"),
    "no pressure": ({"pressure": None, "barostat": "full"}, "`barostat` 'full' needs a `pressure` in GPa"),
    "time": ({"pressure_time": 0}, "`pressure_time` must be finite and positive, in fs"),
    "modulus": ({"bulk_modulus": -1.0}, "`bulk_modulus` must be finite and positive, in GPa"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(make_model, name):
    given, text = BAD[name]
    options = {"structures": crystal(), "temperature": 300, "pressure": 0.0} | given
    with pytest.raises((TypeError, ValueError), match=text):
        Dynamics(make_model(), options.pop("structures"), **options)


def test_a_potential_without_virials(make_model):
    class Silent(Potential):
        def forward(self, *given, **options):
            return {name: value for name, value in super().forward(*given, **options).items() if name != "virials"}

    model = make_model(mean=-3.0, std=0.05)
    Dynamics(Silent(model), crystal(), temperature=300)
    with pytest.raises(ValueError, match="Silent returns no virials, which a barostat needs; .* leave out `pressure`"):
        Dynamics(Silent(model), crystal(), temperature=300, pressure=0.0)


def test_a_cell_that_explodes(make_model):
    dynamics = Dynamics(make_model(), crystal(), temperature=300, pressure=1e5, pressure_time=1.0)
    with pytest.raises(
        DynamicsError, match="the cell was strained by more than 10% at step 1; .* pressure_time"
    ) as said:
        dynamics.run(10)
    assert (said.value.step, dynamics.step) == (1, 0)
    np.testing.assert_array_equal(dynamics.cells[0], crystal().cell.array)
