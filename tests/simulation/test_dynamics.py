"""Dynamics: ASE's trajectories, conservation, the canonical distribution, exact restarts, files that survive a kill."""

import copy
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet
from scipy import stats
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, fast, load
from pyg_schnet.convert import from_pretrained
from pyg_schnet.fast.dynamics import CompiledMotion
from pyg_schnet.fast.random_numbers import halves, mixed, normal_vectors
from pyg_schnet.models import AtomisticModel, Committee
from pyg_schnet.simulation import Dynamics, DynamicsError, atoms_to_data, engines
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.simulation.fragments import widest_gap
from pyg_schnet.simulation.restart import read_restart
from pyg_schnet.units import ACCELERATION, BOLTZMANN

NOBLE = {"mean": -3.0, "std": 0.05}  # weak forces, so that random weights move atoms as gently as trained ones


def ethanol():
    return molecule("CH3CH2OH")


def crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=0)
    return atoms


@pytest.fixture(scope="module")
def trained():
    return load("md17-ethanol")


def kinds(make_model):
    """What is moved in each of the ways, as models and structures; all frozen and in float64."""
    committee = Committee([make_model(**NOBLE), make_model(**NOBLE)])
    return {
        "compiled": (make_model(**NOBLE, cutoff=2.4), ethanol()),
        "many": (make_model(**NOBLE, cutoff=2.4), [ethanol(), molecule("CH4"), molecule("C6H6"), molecule("H2O")] * 6),
        "committee": (committee, [ethanol(), molecule("H2O")]),
        "crystal": (make_model(**NOBLE), crystal()),
        "crystals and a molecule": (make_model(**NOBLE), [crystal(), ethanol(), crystal()]),
        "normalised": (make_model(**NOBLE, normalization="mean"), ethanol()),
        "repelled": (make_model(**NOBLE, cutoff=2.4, repulsion="zbl"), ethanol()),
    }


KINDS = ["compiled", "many", "committee", "crystal", "crystals and a molecule", "normalised"]


@pytest.fixture(params=KINDS)
def kind(request, make_model):
    return request.param, *kinds(make_model)[request.param]


# Random numbers


@pytest.mark.parametrize(
    ("counters", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_random_numbers_are_those_of_the_authors(counters, key, expected):
    numbers = [tuple(np.uint64(int(word, 16)) for word in words.split()) for words in (counters, key)]
    assert [f"{int(one):08x}" for one in mixed(*numbers)] == expected.split()


def test_normal_numbers_are_normal_and_independent():
    structure, atom = np.divmod(np.arange(20000), 100)
    found = normal_vectors(5, 3, structure, atom)
    assert stats.kstest(found.reshape(-1), "norm").pvalue > 0.01
    others = [normal_vectors(6, 3, structure, atom), normal_vectors(5, 4, structure, atom), found[1:], found[:, ::-1]]
    for other in others:
        assert abs(np.corrcoef(found[: len(other), 0], other[:, 0])[0, 1]) < 0.03
    np.testing.assert_array_equal(normal_vectors(5, 3, structure[7:9], atom[7:9]), found[7:9])


def test_seeds_and_steps_of_64_bits_differ():
    atom = np.zeros(1, int)
    seen = {normal_vectors(seed, step, atom, atom).tobytes() for seed in (0, 2**32, -1) for step in (0, 2**32, -1)}
    assert len(seen) == 9
    assert [int(one) for one in halves(2**40 + 3)] == [3, 256]


# The equations of motion


def follow_ase(model, dynamics, atoms, steps, frozen=True):
    """Positions and velocities of ASE's integrator from the same beginning, in Angstrom and fs."""
    atoms = atoms.copy()
    atoms.calc = SchNetCalculator(model, dtype=torch.float64, frozen=frozen)
    atoms.set_velocities(dynamics.velocities / units.fs)
    VelocityVerlet(atoms, dynamics.motion.timestep * units.fs).run(steps)
    return atoms


@pytest.mark.parametrize("name", ["compiled", "committee", "crystal", "normalised", "repelled"])
def test_trajectory_of_ase(make_model, name):
    model, structures = kinds(make_model)[name]
    atoms = structures[0] if isinstance(structures, list) else structures
    dynamics = Dynamics(model, atoms, temperature=300, friction=0, frozen=True)
    assert dynamics.way == ("compiled" if name in {"compiled", "repelled"} else "stepped")
    expected = follow_ase(model, dynamics, atoms, 100)
    start = dynamics.positions
    dynamics.run(100)
    assert np.abs(dynamics.positions - start).max() > 0.1
    np.testing.assert_allclose(dynamics.positions, expected.positions, atol=1e-12)
    np.testing.assert_allclose(dynamics.velocities, expected.get_velocities() * units.fs, atol=1e-12)
    np.testing.assert_allclose(dynamics.forces, expected.get_forces(), atol=1e-10)
    np.testing.assert_allclose(dynamics.energies, expected.get_potential_energy(), rtol=1e-13)
    np.testing.assert_allclose(dynamics.kinetic_energies, expected.get_kinetic_energy(), rtol=1e-11)
    np.testing.assert_allclose(dynamics.temperature, expected.get_temperature(), rtol=1e-11)


def test_trained_ethanol_as_ase_moves_it(trained):
    dynamics = Dynamics(trained, ethanol(), temperature=300, friction=0, dtype=torch.float64, frozen=True)
    expected = follow_ase(trained, dynamics, ethanol(), 100)
    dynamics.run(100, interval=7)
    np.testing.assert_allclose(dynamics.positions, expected.positions, atol=1e-12)


def test_single_precision_and_units(trained):
    """In float32, to what it rounds off; a model in kcal/mol moves as one in eV."""
    other = from_pretrained("md17-ethanol", energy_unit="kcal/mol")
    single = Dynamics(trained, ethanol(), temperature=300, friction=0)
    double = Dynamics(trained, ethanol(), temperature=300, friction=0, dtype=torch.float64)
    scaled = Dynamics(other, ethanol(), temperature=300, friction=0)
    assert (single.way, double.way) == ("compiled", "stepped")
    np.testing.assert_allclose(scaled.forces, single.forces, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(scaled.energies, single.energies, rtol=1e-9)
    single.run(50)
    double.run(50)
    np.testing.assert_allclose(single.positions, double.positions, atol=2e-5)


def test_compiled_and_stepped_agree_with_a_thermostat(make_model):
    model, structures = kinds(make_model)["many"]
    options = {"temperature": 400, "friction": 0.02, "seed": 3, "frozen": True, "timestep": 1.0}
    compiled = Dynamics(model, structures, **options)
    with fast.without("molecules"):
        stepped = Dynamics(model, structures, **options)
    assert (compiled.way, stepped.way) == ("compiled", "stepped")
    compiled.run(60)
    stepped.run(60)
    for name in ("positions", "velocities", "forces", "energies"):
        np.testing.assert_allclose(getattr(compiled, name), getattr(stepped, name), atol=1e-10, err_msg=name)


def test_atoms_cross_the_cutoff_in_a_list_that_is_searched_now_and_then(make_model, monkeypatch):
    """The same to the last bit with any skin: no pair is ever missing, and their order is always the same."""
    model, structures = kinds(make_model)["many"]
    found = []
    for skin in (0.0, 0.05, 0.5, 50.0):
        monkeypatch.setattr(engines, "SKIN", skin)
        dynamics = Dynamics(model, structures, temperature=1500, frozen=True)
        start = dynamics.positions
        dynamics.run(80)
        assert np.abs(dynamics.positions - start).max() > 1  # several times as far as half the usual skin
        found.append(dynamics.positions)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_replicas_are_independent_of_each_other(make_model):
    model = make_model(**NOBLE)
    many = Dynamics(model, ethanol(), temperature=300, replicas=12, frozen=True)
    other = Dynamics(model, [ethanol()] * 3, temperature=300, frozen=True)
    assert many.system.count == 12
    many.run(30)
    other.run(30)
    np.testing.assert_allclose(many.positions[:27], other.positions, atol=1e-10)
    apart = many.positions.reshape(12, -1)
    assert np.unique(apart.round(3), axis=0).shape == (12, 27)


def test_crystals_far_away_and_together_move_as_each_by_itself(make_model):
    """Whole cells from the origin in float32, where three digits were lost if positions were rounded there."""
    model, far = make_model(**NOBLE).float(), crystal()
    far.positions += 200 * far.cell.array.sum(0)
    together = Dynamics(model, [crystal(), far, ethanol()], temperature=300, friction=0, velocities=np.zeros((41, 3)))
    alone = Dynamics(model.double(), crystal(), velocities=np.zeros((16, 3)), frozen=True)
    largest = np.abs(alone.forces).max()
    for part in together.system.parts[:2]:
        np.testing.assert_allclose(together.forces[part], alone.forces, atol=1e-4 * largest)
    together.run(20)
    alone.run(20)
    for part in together.system.parts[:2]:
        np.testing.assert_allclose(
            together.velocities[part], alone.velocities, atol=1e-3 * np.abs(alone.velocities).max()
        )


def test_energy_is_conserved(trained):
    """Less than 0.1 meV/atom/ps in 10 ps at 300 K, and the error of the energy falls with the square of the step."""
    errors = []
    for timestep, steps in ((0.5, 20000), (0.25, 2000)):
        dynamics = Dynamics(
            trained, ethanol(), temperature=300, friction=0, timestep=timestep, dtype=torch.float64, frozen=True
        )
        record = dynamics.run(steps, interval=10)
        slope = np.polyfit(record.time / 1000, record.total[:, 0], 1)[0]
        errors.append(record.total[:100, 0].std())
        if steps > 5000:
            assert abs(slope) / 9 < 1e-4
    assert errors[1] < errors[0] / 3


# The canonical ensemble


class Oscillator(AtomisticModel):
    """Pairs on a spring of length zero: E = 1/2 k d^2, three harmonic oscillators of the reduced mass."""

    stiffness = 20.0  # eV/Angstrom^2

    def __init__(self):
        super().__init__(8, 8.0, {"readout": "add"})

    def predict(self, z, pos, batch, batch_size, edges):
        energy = 0.5 * self.stiffness * edges.edge_vec.square().sum(1)
        return pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], energy).unsqueeze(1)


def test_canonical_distribution_of_a_harmonic_oscillator():
    """Positions are exact for any timestep, the mark of B A O A B; velocities are too slow by omega^2 h^2 / 4."""
    temperature, mass = 300.0, 12.0
    omega = math.sqrt(2 * Oscillator.stiffness / mass * ACCELERATION)  # 1/fs
    pair = Data(
        z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [0.03, 0.02, 0.01]]), mass=torch.full((2,), mass)
    )
    dynamics = Dynamics(
        Oscillator().double(), pair, temperature=temperature, friction=0.05, timestep=1.0 / omega, replicas=400, seed=1
    )
    lengths, speeds, centres = [], [], []
    dynamics.run(100)
    for _ in range(25):
        dynamics.run(25)
        both, velocities = dynamics.positions.reshape(-1, 2, 3), dynamics.velocities.reshape(-1, 2, 3)
        lengths.append((both[:, 1] - both[:, 0]).reshape(-1))
        speeds.append((velocities[:, 1] - velocities[:, 0]).reshape(-1))
        centres.append(velocities.mean(1).reshape(-1))
    lengths, speeds, centres = map(np.concatenate, (lengths, speeds, centres))
    reduced, number = mass / 2, len(lengths)
    error = 5 * math.sqrt(2 / number)  # five standard deviations of a variance
    configurational = Oscillator.stiffness * lengths.var() / BOLTZMANN
    assert configurational == pytest.approx(temperature, rel=error)
    assert reduced * speeds.var() / ACCELERATION / BOLTZMANN == pytest.approx(temperature * (1 - 1 / 4), rel=error)
    assert 2 * mass * centres.var() / ACCELERATION / BOLTZMANN == pytest.approx(temperature, rel=error)
    width = math.sqrt(BOLTZMANN * temperature / Oscillator.stiffness)
    assert stats.kstest(lengths, "norm", (0, width)).pvalue > 0.01
    assert stats.kstest(lengths, "norm", (0, 1.03 * width)).pvalue < 0.01  # the test would see 6 % in temperature


def test_free_atoms_forget_their_velocity_at_the_friction():
    """Without forces, <v(0) v(t)> falls by exp(-friction t) exactly, for any timestep."""
    atom = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3), mass=torch.tensor([12.0]))
    dynamics = Dynamics(Oscillator(), atom, temperature=300, friction=0.02, timestep=10.0, replicas=20000)
    start = dynamics.velocities
    dynamics.run(3)
    found = (start * dynamics.velocities).mean() / np.square(start).mean()
    assert found == pytest.approx(math.exp(-0.6), abs=0.02)
    assert dynamics.temperature.mean() == pytest.approx(300, rel=0.02)


def test_compiled_thermostat_keeps_its_temperature(trained):
    dynamics = Dynamics(trained, ethanol(), temperature=300, friction=0.02, replicas=20)
    assert dynamics.way == "compiled"
    record = dynamics.run(3000, interval=20)
    found = 2 * record.kinetic[30:].mean() / (27 * BOLTZMANN)
    assert found == pytest.approx(300, rel=0.03)  # 1 % of statistics, 1 % of the timestep at C-H vibrations


def test_velocities_at_the_beginning(make_model):
    model = make_model(**NOBLE)
    hot = Dynamics(model, ethanol(), temperature=500, replicas=300, frozen=True)
    assert hot.temperature.mean() == pytest.approx(500, rel=0.04)
    still = Dynamics(model, [ethanol(), molecule("CO2"), crystal()], temperature=500, friction=0)
    for part, periodic in zip(still.system.parts, (False, False, True), strict=True):
        masses, positions, velocities = still.system.masses[part, None], still.positions[part], still.velocities[part]
        momentum, spin = (masses * velocities).sum(0), np.cross(positions, masses * velocities).sum(0)
        np.testing.assert_allclose(momentum, 0, atol=1e-12)
        assert periodic or np.abs(spin).max() < 1e-12
        assert np.abs(velocities).max() > 1e-3
    assert not Dynamics(model, ethanol()).velocities.any()
    moving = ethanol()
    moving.set_velocities(np.full((9, 3), 0.25))
    assert Dynamics(model, moving, temperature=300).velocities == pytest.approx(0.25 * units.fs)
    given = np.full((9, 3), 0.001)
    assert Dynamics(model, moving, velocities=given).velocities == pytest.approx(given)


def test_structures_of_all_kinds(make_model):
    model, atoms = make_model(**NOBLE), ethanol()
    atoms.set_masses(np.arange(1.0, 10.0))
    data = atoms_to_data(atoms, torch.float64)
    data.mass, data.velocities = torch.arange(1.0, 10.0), torch.full((9, 3), 0.002)
    atoms.set_velocities(np.full((9, 3), 0.002) / units.fs)
    for structures in (atoms, [atoms], data, Batch.from_data_list([data])):
        dynamics = Dynamics(model, structures, frozen=True)
        dynamics.run(10)
        if structures is atoms:
            expected = dynamics.positions
        np.testing.assert_allclose(dynamics.positions, expected, atol=1e-12)


# Interruptions


def test_goes_on_as_if_it_had_not_been_interrupted(kind, tmp_path):
    """To the last bit, with other intervals before and after, for each way to move structures."""
    name, model, structures = kind
    options = {"temperature": 600, "frozen": name != "crystal", "seed": 7}
    whole = Dynamics(model, structures, **options)
    first = Dynamics(model, structures, **options)
    whole.run(80, interval=16)
    first.run(33, interval=5, checkpoint=tmp_path / "run.restart")
    second = Dynamics.resume(model, tmp_path / "run.restart", frozen=options["frozen"])
    assert second.step == 33
    for other in (first, second):
        other.run(47, interval=9)
        assert other.step == 80
        for field in ("positions", "velocities", "forces", "energies"):
            np.testing.assert_array_equal(getattr(other, field), getattr(whole, field), err_msg=field)


def test_pairs_are_searched_at_the_same_places_after_a_restart(make_model, tmp_path):
    """A skin list has a memory, which decides in which order forces are added up."""
    model = make_model(**NOBLE)
    whole = Dynamics(model, crystal(), temperature=3000, frozen=True, timestep=1.0)
    whole.run(40)
    whole.save(tmp_path / "run.restart")
    searched_at = read_restart(tmp_path / "run.restart").reference
    assert np.abs(whole.positions - searched_at).max() > 1e-3
    again = Dynamics.resume(model, tmp_path / "run.restart", frozen=True)
    again.save(tmp_path / "again.restart")
    np.testing.assert_array_equal(read_restart(tmp_path / "again.restart").reference, searched_at)
    whole.run(100)
    again.run(100)
    assert np.abs(whole.positions - crystal().positions).max() > 0.5
    np.testing.assert_array_equal(again.positions, whole.positions)


@pytest.mark.parametrize("suffix", [".extxyz", ".traj", ".h5"])
def test_files_end_where_the_restart_begins(make_model, tmp_path, suffix):
    """Frames that were written after the last checkpoint are written again, not twice."""
    if suffix == ".h5":
        pytest.importorskip("h5py")
    model, structures = kinds(make_model)["many"]
    path, restart, options = tmp_path / f"run{suffix}", tmp_path / "run.restart", {"interval": 4, "progress": False}
    dynamics = Dynamics(model, structures, temperature=300, frozen=True)
    dynamics.run(10, trajectory=path, checkpoint=restart, **options)
    dynamics.run(9, trajectory=path, **options)  # nobody writes another checkpoint: as if it were killed at step 19
    again = Dynamics.resume(model, restart, frozen=True)
    again.run(15, trajectory=path, checkpoint=restart, **options)
    whole = Dynamics(model, structures, temperature=300, frozen=True)
    other = tmp_path / f"whole{suffix}"
    record = whole.run(25, trajectory=other, **options)
    assert record.step.tolist() == [0, 4, 8, 12, 16, 20, 24]
    if suffix == ".extxyz":
        assert path.read_bytes() == other.read_bytes()
    elif suffix == ".h5":
        import h5py

        with h5py.File(path) as one, h5py.File(other) as two:
            for name in two:
                np.testing.assert_array_equal(one[name], two[name], err_msg=name)
            assert one["step"][:].tolist() == record.step.tolist()
    else:
        one, two = ase.io.read(path, ":"), ase.io.read(other, ":")
        assert len(one) == 7 * 24
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("suffix", [".extxyz", ".traj"])
def test_frames_are_read_by_ase(make_model, tmp_path, suffix):
    model, path = make_model(**NOBLE), tmp_path / f"run{suffix}"
    heavy = ethanol()
    heavy.set_masses(heavy.get_masses() + 1)
    dynamics = Dynamics(model, [crystal(), heavy], temperature=300, frozen=True)
    record = dynamics.run(6, interval=3, trajectory=path)
    frames = ase.io.read(path, "1::2")
    assert len(frames) == 3
    last, part = frames[-1], dynamics.system.parts[1]
    tolerance = 1e-8 if suffix == ".extxyz" else 1e-14
    np.testing.assert_allclose(last.positions, dynamics.positions[part], atol=tolerance)
    np.testing.assert_allclose(last.get_velocities() * units.fs, dynamics.velocities[part], atol=tolerance)
    np.testing.assert_allclose(last.get_forces(), dynamics.forces[part], atol=tolerance)
    assert last.get_potential_energy() == pytest.approx(record.potential[-1, 1], abs=1e-8)
    assert last.get_kinetic_energy() == pytest.approx(record.kinetic[-1, 1], abs=1e-6)
    assert (last.info["step"], last.info["time_fs"], last.info["structure"]) == (6, 3.0, 1)
    assert last.get_masses() == pytest.approx(heavy.get_masses())
    solid = ase.io.read(path, "0::2")[0]
    assert solid.pbc.all()
    np.testing.assert_allclose(solid.cell.array, crystal().cell.array, atol=1e-8)


KILLED = """
import sys
import pyg_schnet
from ase.build import molecule
from pyg_schnet.simulation import Dynamics, dynamics
dynamics._CHECKPOINT_SECONDS = 0.05
model, path, restart = sys.argv[1:]
Dynamics(model, molecule("CH3CH2OH"), temperature=300, replicas=2, seed=5).run(
    10**9, interval=2, trajectory=path, checkpoint=restart
)
"""


@pytest.mark.parametrize("suffix", [".extxyz", ".traj"])
def test_killed_run_is_readable_and_goes_on(tmp_path, suffix):
    model, path, restart = "md17-ethanol", tmp_path / f"run{suffix}", tmp_path / "run.restart"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(model), str(path), str(restart)])
    try:
        for _ in range(600):
            if restart.is_file() and path.is_file() and path.stat().st_size > 50_000:
                break
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(0.3)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    frames = ase.io.read(path, ":")
    assert len(frames) > 10
    again = Dynamics.resume(model, restart)
    assert again.step > 0
    steps = 6 + again.step % 2
    again.run(steps, interval=2, trajectory=path, checkpoint=restart)
    whole = Dynamics(model, molecule("CH3CH2OH"), temperature=300, replicas=2, seed=5)
    whole.run(again.step, interval=2, trajectory=tmp_path / f"whole{suffix}")
    np.testing.assert_array_equal(again.positions, whole.positions)
    one, two = ase.io.read(path, ":"), ase.io.read(tmp_path / f"whole{suffix}", ":")
    assert len(one) == len(two)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(one, two, strict=True))


def test_interrupted_by_hand(make_model, tmp_path, monkeypatch):
    model, path, restart = make_model(**NOBLE), tmp_path / "run.xyz", tmp_path / "run.restart"
    dynamics = Dynamics(model, ethanol(), temperature=300, frozen=True)
    assert dynamics.way == "compiled"
    plain, calls = CompiledMotion.advance, []

    def advance(*args):
        calls.append(args)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(CompiledMotion, "advance", advance)
    with pytest.raises(KeyboardInterrupt):
        dynamics.run(1000, interval=5, trajectory=path, checkpoint=restart)
    assert dynamics.step == 15
    assert [one.info["step"] for one in ase.io.read(path, ":")] == [0, 5, 10, 15]
    assert Dynamics.resume(model, restart, frozen=True).step == 15


# What goes wrong


@pytest.mark.parametrize("way", ["compiled", "stepped"])
@pytest.mark.parametrize(
    ("limit", "timestep", "text"),
    [(0.5, 40.0, "an atom of structure 1 moved by more than 0.5 Angstrom"), (np.inf, 1e160, "is not finite")],
)
def test_explosion(make_model, tmp_path, monkeypatch, way, limit, timestep, text):
    """The run ends at the last good frame, which is the last one in the file, and can be resumed there."""
    monkeypatch.setattr(engines, "LONGEST_MOVE", limit)
    velocities = np.zeros((18, 3))
    velocities[9:] = 0.012
    velocities[12] = 0.0125
    path, restart, model = tmp_path / "run.extxyz", tmp_path / "run.restart", make_model(mean=-3.0, std=0.5)
    with fast.without(*(["molecules"] if way == "stepped" else [])):
        dynamics = Dynamics(model, [ethanol()] * 2, velocities=velocities, timestep=timestep, frozen=True)
        assert dynamics.way == way
        with pytest.raises(DynamicsError, match=text) as caught:
            dynamics.run(1000, interval=1, trajectory=path, checkpoint=restart)
    assert caught.value.structure in {0, 1}
    assert caught.value.step == dynamics.step + 1
    assert f"step {caught.value.step}" in str(caught.value)
    assert np.isfinite(dynamics.positions).all()
    assert ase.io.read(path, -1).info["step"] == dynamics.step
    assert Dynamics.resume(model, restart, frozen=True).step == dynamics.step


def test_failure_inside_of_a_call_leaves_the_last_frame(make_model):
    model = make_model(mean=-3.0, std=0.5)
    dynamics = Dynamics(model, ethanol(), timestep=15.0, frozen=True, temperature=300)
    with pytest.raises(DynamicsError) as caught:
        dynamics.run(10000, interval=7)
    assert dynamics.step % 7 == 0 or dynamics.step % 16 == 0
    assert dynamics.step < caught.value.step
    assert np.isfinite(dynamics.positions).all()


def test_fragments_that_fly_apart(make_model):
    velocities = np.zeros((9, 3))
    velocities[2] = [0.2, 0.0, 0.0]  # an oxygen of 30 eV: nothing holds it
    dynamics = Dynamics(make_model(**NOBLE), ethanol(), velocities=velocities, frozen=True, timestep=1.0)
    with pytest.raises(DynamicsError, match="parts of a structure have flown apart by step") as caught:
        dynamics.run(1000, interval=10)
    assert 4 < widest_gap(dynamics.positions) < widest_gap(ethanol().positions) + 5
    assert caught.value.step - dynamics.step <= 10


def test_a_molecule_that_moves_as_a_whole_is_not_broken(make_model):
    dynamics = Dynamics(make_model(**NOBLE), ethanol(), velocities=np.full((9, 3), 0.2), frozen=True)
    dynamics.run(500)
    assert np.abs(dynamics.positions).max() > 45


def test_models_that_are_not_finite(make_model):
    model = make_model()
    with torch.no_grad():
        model.output.lin2.bias.fill_(math.nan)
    with pytest.raises(DynamicsError, match=r"the energy or a force is not finite at step 0"):
        Dynamics(model, ethanol(), frozen=False)


def constrained():
    atoms = ethanol()
    atoms.set_constraint(FixAtoms([0]))
    return atoms


BAD = {
    "timestep": ({"timestep": 0}, "`timestep` must be finite and positive, in fs, for example 0.5; got 0"),
    "timestep kind": ({"timestep": "1"}, "`timestep` must be a number in fs"),
    "temperature": ({"temperature": -1}, "`temperature` must be finite and not negative"),
    "friction": ({"friction": math.inf}, "`friction` must be finite and not negative, in 1/fs"),
    "seed": ({"seed": 0.5}, "`seed` must be a whole number, got float"),
    "replicas": ({"replicas": 0}, "`replicas` must be a whole number from 1, got 0"),
    "velocities": ({"velocities": np.zeros((3, 3))}, r"`velocities` must have the shape \[9, 3\], one for each atom"),
    "nan": ({"velocities": np.full((9, 3), np.nan)}, "`velocities` must be finite"),
    "dtype": ({"dtype": torch.float16}, "`dtype` must be torch.float32 or torch.float64, got torch.float16"),
    "unit": ({"energy_unit": "erg"}, "`energy_unit` must be one of"),
    "constraints": ({"structures": constrained()}, r"structure 0 has constraints \(FixAtoms\)"),
    "no structure": ({"structures": []}, "there are no structures to move"),
    "no atoms": ({"structures": [ethanol(), Atoms()]}, "structure 1 has no atoms; leave it out"),
    "a word": ({"structures": "CH4"}, "`structures` must be Data, Batch or Atoms"),
    "a number": ({"structures": [3]}, "structure 0 must be a Data or Atoms, got int"),
    "element": ({"structures": Atoms("H2X", np.eye(3))}, "atom 2 is 'X' with the atomic number 0"),
    "bare": ({"structures": Data(z=torch.tensor([1]))}, "structure 0 lacks `z` or `pos`"),
    "mass": ({"structures": Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), mass=torch.zeros(1))}, "a positive mass"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(make_model, name):
    options, text = BAD[name]
    with pytest.raises((TypeError, ValueError), match=text):
        Dynamics(
            make_model(), options.get("structures", ethanol()), **{k: options[k] for k in options if k != "structures"}
        )


def test_bad_runs(make_model, tmp_path):
    model = make_model(**NOBLE)
    dynamics = Dynamics(model, ethanol(), frozen=True)
    for name in ("there.xyz", "there.restart"):
        (tmp_path / name).write_text("mine")
    bad = [
        ({"steps": -1}, ValueError, "`steps` must be a whole number from 0, got -1"),
        ({"interval": 0}, ValueError, "`interval` must be a whole number from 1, got 0"),
        ({"trajectory": tmp_path / "run.pdb"}, ValueError, "must end in one of .xyz, .extxyz, .traj, .h5"),
        ({"trajectory": tmp_path / "no" / "run.xyz"}, FileNotFoundError, "there is no folder"),
        ({"trajectory": tmp_path / "there.xyz"}, FileExistsError, "there already, of other dynamics"),
        ({"checkpoint": tmp_path / "there.restart"}, FileExistsError, "resume them, or name another"),
        ({"checkpoint": tmp_path / "no" / "run.restart"}, FileNotFoundError, "there is no folder"),
    ]
    for options, kind, text in bad:
        with pytest.raises(kind, match=re.escape(text)):
            dynamics.run(**({"steps": 1} | options))
    assert [(tmp_path / name).read_text() for name in ("there.xyz", "there.restart")] == ["mine", "mine"]
    with pytest.raises(ValueError, match=r"there.restart is no file of dynamics"):
        Dynamics.resume(model, tmp_path / "there.restart")
    with pytest.raises(FileNotFoundError, match="to go on from"):
        Dynamics.resume(model, tmp_path / "nothing.restart")
    dynamics.save(tmp_path / "run.restart")
    for other in ({"frozen": False}, {"dtype": torch.float32, "frozen": True}):
        with pytest.raises(ValueError, match="written with another model"):
            Dynamics.resume(model, tmp_path / "run.restart", **other)
    with torch.no_grad():
        model.output.lin2.bias.add_(1)
    with pytest.raises(ValueError, match="written with another model"):
        Dynamics.resume(model, tmp_path / "run.restart", frozen=True)


def test_trajectory_that_was_shortened(make_model, tmp_path):
    model, path, restart = make_model(**NOBLE), tmp_path / "run.xyz", tmp_path / "run.restart"
    Dynamics(model, ethanol(), frozen=True).run(4, interval=1, trajectory=path, checkpoint=restart)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="shorter than it was"):
        Dynamics.resume(model, restart, frozen=True).run(4, trajectory=path)
    assert path.stat().st_size == 100


def test_a_potential_with_forces_of_its_own_is_asked(make_model):
    """Compiled loops do not stand for it."""

    class Doubled(Potential):
        def forward(self, *args, **kwargs):
            return {name: 2 * value for name, value in super().forward(*args, **kwargs).items()}

    model = make_model(**NOBLE)
    plain, doubled = Dynamics(model, ethanol(), frozen=True), Dynamics(Doubled(model), ethanol())
    assert doubled.way == "stepped"
    np.testing.assert_allclose(doubled.forces, 2 * plain.forces, rtol=1e-5, atol=1e-9)


class Bare(Potential):
    """A potential with a `forward` of its own, which knows no stress."""

    def forward(self, z, pos, batch=None, cell=None, pbc=None):
        out = super().forward(z, pos, batch, cell=cell, pbc=pbc)
        return {"energy": 2 * out["energy"], "forces": 2 * out["forces"]}


class Open(Potential):
    """One that takes molecules alone."""

    def forward(self, z, pos):
        return super().forward(z, pos)


@pytest.mark.parametrize("count", [1, 2])
def test_a_potential_that_knows_no_stress(count, make_model):
    model, atoms = make_model(**NOBLE), [ethanol()] * count
    plain, bare = (Dynamics(kind(model), atoms, temperature=300, seed=1) for kind in (Potential, Bare))
    np.testing.assert_allclose(bare.forces, 2 * plain.forces, rtol=1e-6, atol=1e-12)
    bare.run(2, progress=False)
    crystal = Atoms("Ar4", 2.6 * np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]), cell=[5.2] * 3, pbc=True)
    with pytest.raises(ValueError, match="Bare returns no virials, which a barostat needs; .* leave out `pressure`"):
        Dynamics(Bare(model), [crystal] * count, temperature=300, pressure=0.0)
    calculator = SchNetCalculator(Bare(model))
    energies = [one.get_potential_energy(crystal) for one in (calculator, SchNetCalculator(model))]
    assert energies[0] == pytest.approx(2 * energies[1], rel=1e-6)
    assert "stress" not in calculator.results


def test_a_potential_that_cannot_be_asked(make_model):
    Dynamics(Open(make_model(**NOBLE)), ethanol()).run(1, progress=False)
    with pytest.raises(TypeError, match=r"Open cannot be called with \(z, pos, batch\): too many .*; give it"):
        Dynamics(Open(make_model(**NOBLE)), [ethanol(), ethanol()])
    with pytest.raises(TypeError, match=r"called with \(z, pos, cell=..., pbc=...\): got an .*; give it these"):
        Dynamics(Open(make_model(**NOBLE)), Atoms("Ar", cell=[5.2] * 3, pbc=True))


def test_atoms_beyond_each_others_cutoff(make_model):
    """No pairs at all, in a compiled loop and outside of it."""
    far = Atoms("H2", [[0, 0, 0], [0, 0, 3.0]])
    model = make_model(cutoff=2.0)
    dynamics = Dynamics(model, far, temperature=300, frozen=True)
    assert dynamics.way == "compiled"
    assert not dynamics.forces.any()
    z, pos = torch.tensor([1, 1]), torch.tensor(far.positions)
    assert dynamics.energies == pytest.approx(Potential(model)(z, pos)["energy"].detach().numpy())
    dynamics.run(10)
    assert not dynamics.forces.any()


def test_file_without_a_bar_and_with(make_model, tmp_path, capfd):
    dynamics = Dynamics(make_model(**NOBLE), ethanol(), frozen=True)
    dynamics.run(3, progress=False)
    assert not capfd.readouterr().err
    dynamics.run(3, progress=True)
    assert "dynamics" in capfd.readouterr().err


# Copies, units, files and potentials of others


@pytest.mark.parametrize("atoms", [ethanol(), crystal()], ids=["open", "periodic"])
def test_a_potential_of_ones_own_moves_by_its_own_forces(atoms, make_model):
    class Twice(Potential):
        def forward(self, *given, **options):
            return {name: 2 * value for name, value in super().forward(*given, **options).items()}

    model = make_model(**NOBLE).float()
    plain, twice = (Dynamics(kind(model), atoms) for kind in (Potential, Twice))
    np.testing.assert_allclose(twice.energies, 2 * plain.energies, rtol=1e-6)
    np.testing.assert_allclose(twice.forces, 2 * plain.forces, rtol=1e-4, atol=1e-6)


def test_a_file_of_the_same_name_elsewhere_is_somebody_elses(tmp_path, make_model):
    model = make_model(**NOBLE)
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    theirs, mine = (tmp_path / name / "md.extxyz" for name in ("theirs", "mine"))
    Dynamics(model, ethanol(), temperature=10.0).run(8, interval=1, trajectory=theirs)
    before, dynamics = theirs.read_bytes(), Dynamics(model, ethanol(), temperature=10.0)
    dynamics.run(4, interval=2, trajectory=mine, checkpoint=tmp_path / "restart")
    with pytest.raises(FileExistsError, match="of other dynamics"):
        dynamics.run(4, interval=2, trajectory=theirs)
    assert theirs.read_bytes() == before
    Dynamics.resume(model, tmp_path / "restart").run(4, interval=2, trajectory=mine)
    assert len(ase.io.read(mine, ":")) == 5


def test_restart_where_the_next_step_searches_pairs(tmp_path, make_model):
    """Whether a list has been of use decides which way the steps after a search take."""
    options = {"temperature": 300.0, "timestep": 1.0, "dtype": torch.float32, "frozen": True}
    model, whole = make_model(**NOBLE), []
    watched = Dynamics(model, crystal(), **options)
    for _ in range(40):
        watched.run(1)
        watched.save(tmp_path / "watched")
        whole.append(read_restart(tmp_path / "watched").reference)
    searched = [step for step in range(1, 40) if (whole[step] != whole[step - 1]).any()]
    assert searched
    for stop in (searched[0] - 1, searched[0], searched[0] + 1):
        first = Dynamics(model, crystal(), **options)
        first.run(stop, checkpoint=tmp_path / f"{stop}")
        second = Dynamics.resume(model, tmp_path / f"{stop}", dtype=torch.float32, frozen=True)
        for dynamics in (first, second):
            dynamics.run(20)
        np.testing.assert_array_equal(second.positions, first.positions)


def test_another_unit_is_another_model(tmp_path, make_model):
    model = make_model(**NOBLE)
    Dynamics(model, ethanol(), energy_unit="kcal/mol").run(2, checkpoint=tmp_path / "restart")
    with pytest.raises(ValueError, match="`energy_unit`"):
        Dynamics.resume(model, tmp_path / "restart")
    Dynamics.resume(model, tmp_path / "restart", energy_unit="kcal/mol").run(2)


def test_copies_go_the_same_way(make_model):
    dynamics = Dynamics(make_model(**NOBLE), ethanol(), temperature=50.0, replicas=np.int64(2), frozen=True)
    assert dynamics.way == "compiled"
    dynamics.run(2)
    copies = copy.deepcopy(dynamics), pickle.loads(pickle.dumps(dynamics))
    for one in (dynamics, *copies):
        one.run(5)
    for one in copies:
        np.testing.assert_array_equal(one.positions, dynamics.positions)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_a_torn_frame_is_not_in_the_way(tmp_path, make_model, part):
    """A frame of which a kill has left a part; the first line of a frame is written last."""
    path, model = tmp_path / "run.extxyz", make_model(**NOBLE)
    dynamics = Dynamics(model, [ethanol(), molecule("H2O")], temperature=100.0)
    dynamics.run(2, interval=1, trajectory=path, checkpoint=tmp_path / "restart")
    size = path.stat().st_size
    dynamics.run(1, interval=1, trajectory=path)
    content = path.read_bytes()
    torn = size + int(part * (len(content) - size))
    path.write_bytes(content[:size] + b" \n" + content[size + 2 : max(torn, size + 2)])
    assert len(ase.io.read(path, ":")) == 6
    again = Dynamics.resume(model, tmp_path / "restart")
    again.run(1, interval=1, trajectory=path)
    assert path.read_bytes() == content
