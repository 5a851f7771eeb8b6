"""Densities of states against oscillators of known frequency, and from positions against from velocities."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet.analysis.structure.density_of_states import PER_FS, density_of_states
from pyg_schnet.analysis.structure.snapshot import Snapshot
from pyg_schnet.analysis.structure.trajectories import Beads

ase = pytest.importorskip("ase")

OPEN = np.zeros(3, dtype=bool)


def oscillators(wavenumbers, z, frames=6000, timestep=0.5, energies=None, velocities=True, seed=0):
    """Atoms on springs along three axes [n, 3], with random phases and, on average, equal energies."""
    rng = np.random.default_rng(seed)
    masses = ase.data.atomic_masses[z]
    omega = 2 * np.pi * np.asarray(wavenumbers) / PER_FS
    energies = np.ones_like(omega) if energies is None else energies
    amplitude = np.sqrt(2 * energies / masses[:, None]) / omega
    phase = omega * timestep * np.arange(frames)[:, None, None] + 2 * np.pi * rng.random(omega.shape)
    pos, speed = amplitude * np.sin(phase), amplitude * omega * np.cos(phase)
    return [Snapshot(z, x, np.eye(3), OPEN, v if velocities else None) for x, v in zip(pos, speed, strict=True)]


Z = np.array([6, 1])
WAVENUMBERS = np.array([[300.0, 800.0, 1500.0], [1100.0, 2200.0, 3100.0]])


@pytest.mark.parametrize("source", ["velocities", "positions"])
def test_harmonic_oscillators(source):
    """Each line has one mode, at its place: within some lines of the Hann window nothing is lost."""
    frames = oscillators(WAVENUMBERS, Z)
    found = density_of_states(frames, 0.5, resolution=20, source=source)
    assert found.resolution == pytest.approx(20, rel=0.001)  # whole frames
    assert float(found.density.sum() * found.resolution) == pytest.approx(6.0)
    for wavenumber in WAVENUMBERS.ravel():
        near = (found.wavenumber - wavenumber).abs() < 80
        assert float(found.density[near].sum() * found.resolution) == pytest.approx(1.0, abs=0.01)
        centre = float((found.density[near] * found.wavenumber[near]).sum() / found.density[near].sum())
        assert centre == pytest.approx(wavenumber, abs=1.0)
    for symbol, z in (("C", 6), ("H", 1)):
        assert float(found.of_elements[symbol].sum() * found.resolution) == pytest.approx(3.0, abs=0.01)
        assert found.of_elements[symbol][found.wavenumber > 2500].sum() * found.resolution == pytest.approx(
            float(z == 1), abs=0.01
        )
    np.testing.assert_allclose(sum(found.of_elements.values()), found.density)
    assert found.wavenumber[-1] == pytest.approx(PER_FS / 2 / 0.5, rel=0.001)
    assert found.segments == 2  # of 3,336 frames that overlap by half, in 6,000 or less one


def test_from_positions_as_from_velocities():
    """The finite difference of an oscillation is smaller by a known factor, here down to 0.69 of the power."""
    frames = oscillators(WAVENUMBERS, Z, timestep=4.0, frames=3000)
    one, other = (density_of_states(frames, 4.0, resolution=10, source=name) for name in ("velocities", "positions"))
    # the leak of the window into places where the factor is another one
    np.testing.assert_allclose(one.density, other.density, atol=2e-3 * float(one.density.max()))
    auto = density_of_states([frame._replace(velocities=None) for frame in frames], 4.0, resolution=10)
    np.testing.assert_array_equal(auto.density, other.density)


def test_energy_is_what_counts():
    """The weight of a mode is its kinetic energy, whatever the mass."""
    energies = np.array([[1.0, 2.0, 3.0], [0.5, 0.5, 1.0]])
    found = density_of_states(oscillators(WAVENUMBERS, Z, energies=energies), 0.5, resolution=20, modes=8.0)
    for wavenumber, energy in zip(WAVENUMBERS.ravel(), energies.ravel(), strict=True):
        near = (found.wavenumber - wavenumber).abs() < 80
        assert float(found.density[near].sum() * found.resolution) == pytest.approx(energy, abs=0.02)


def test_through_periodic_boundaries():
    """Positions wrapped into a cell: no jump is seen, and the line stands where it is from velocities."""
    time = np.arange(3000.0)
    x = 0.2 * np.sin(2 * np.pi * 1000 / PER_FS * time)
    cell, pbc = 3.0 * np.eye(3), ~OPEN
    frames = [Snapshot(np.array([6]), np.array([[one % 3.0, 1.0, 1.0]]), cell, pbc) for one in x]
    found = density_of_states(frames, 1.0, resolution=20)
    near = (found.wavenumber - 1000).abs() < 80
    assert float(found.density[near].sum() * found.resolution) == pytest.approx(3.0, abs=0.01)


def test_diffusion_is_at_zero():
    """Velocities without memory have a flat spectrum; those of a drifting atom are all at zero."""
    rng = np.random.default_rng(0)
    noise = [Snapshot(np.array([18]), np.zeros((1, 3)), np.eye(3), OPEN, v) for v in rng.normal(size=(20_000, 1, 3))]
    found = density_of_states(noise, 1.0, resolution=200)
    flat = 3 / found.wavenumber[-1]
    assert float((found.density[2:-2] / flat - 1).abs().max()) < 0.35  # some 230 segments of three components
    # a steady drift beside an oscillation of the same mean square: half of the modes each
    speeds = 1 + 2**0.5 * np.cos(2 * np.pi * 2000 / PER_FS * np.arange(1000))
    drift = [noise[0]._replace(velocities=np.full((1, 3), speed)) for speed in speeds]
    found = density_of_states(drift, 1.0, modes=1.0)
    assert float(found.density[found.wavenumber < 1000].sum() * found.resolution) == pytest.approx(0.5, abs=1e-3)


def test_memory_does_not_grow():
    """One segment and a half is kept of an endless trajectory."""
    import tracemalloc

    def endless(count):
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield Snapshot(np.full(50, 18), np.zeros((50, 3)), np.eye(3), OPEN, rng.normal(size=(50, 3)))

    peaks = []
    for count in (400, 3200):
        tracemalloc.start()
        density_of_states(endless(count), 1.0, resolution=200, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_short_trajectories_are_one_segment():
    found = density_of_states(oscillators(WAVENUMBERS, Z, frames=200), 0.5, resolution=1.0)
    assert found.segments == 1
    assert found.resolution == pytest.approx(PER_FS / 100, rel=1e-9)
    assert float(found.density.sum() * found.resolution) == pytest.approx(6.0)


def test_from_a_file_of_ase(tmp_path):
    """Momenta and times of extended xyz, in ASE's units."""
    from ase import units
    from ase.calculators.calculator import Calculator
    from ase.io import write
    from ase.md.verlet import VelocityVerlet

    class Spring(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms, properties, system_changes):
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": 10 * (atoms.positions**2).sum() / 2, "forces": -10 * atoms.positions}

    atoms = ase.Atoms("C", [[0.1, 0, 0]], calculator=Spring())
    frames = []
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    for step in range(700):
        dynamics.run(1)
        frames.append(atoms.copy())
        frames[-1].info["time_fs"] = 0.5 * step
    write(tmp_path / "a.xyz", frames)
    expected = (10 / atoms.get_masses()[0]) ** 0.5 / (2 * np.pi) * units.fs * PER_FS  # 475 1/cm
    for source in ("velocities", "positions"):
        found = density_of_states(tmp_path / "a.xyz", source=source, resolution=50, progress=False)
        mean = float((found.density * found.wavenumber).sum() / found.density.sum())
        assert mean == pytest.approx(expected, rel=0.01)


def test_data():
    frames = [
        Data(z=torch.tensor(one.z), pos=torch.tensor(one.pos), velocities=torch.tensor(one.velocities).float())
        for one in oscillators(WAVENUMBERS, Z, frames=300)
    ]
    found = density_of_states(frames, 0.5, resolution=300)
    np.testing.assert_allclose(
        found.density,
        density_of_states(oscillators(WAVENUMBERS, Z, frames=300), 0.5, resolution=300).density,
        rtol=1e-4,
        atol=1e-9,
    )


def test_bad_input():
    frames = oscillators(WAVENUMBERS, Z, frames=20)
    positions = [frame._replace(velocities=None) for frame in frames]
    with pytest.raises(ValueError, match="too few frames, 3 velocities; expected 4"):
        density_of_states(positions[:4], 1.0)
    with pytest.raises(ValueError, match="the trajectory has one frame; a spectrum needs at least 4"):
        density_of_states(positions[:1], 1.0)
    with pytest.raises(ValueError, match="frame 5 has no velocities; take those of positions by source='positions'"):
        density_of_states([*frames[:5], *positions], 1.0)
    with pytest.raises(ValueError, match="frame 0 has no velocities"):
        density_of_states(positions, 1.0, source="velocities")
    with pytest.raises(ValueError, match="`source` must be 'auto', 'velocities' or 'positions', got 'forces'"):
        density_of_states(frames, 1.0, source="forces")
    with pytest.raises(ValueError, match="no atom moves in any frame"):
        density_of_states([frames[0]._replace(velocities=None)] * 9, 1.0)
    with pytest.raises(ValueError, match="pass `timestep`"):
        density_of_states(frames)
    with pytest.raises(ValueError, match="`resolution` must be positive"):
        density_of_states(frames, 1.0, resolution=0.0)
    with pytest.raises(ValueError, match="`modes` must be positive"):
        density_of_states(frames, 1.0, modes=-3)
    with pytest.raises(ValueError, match="frame 1 has 1 atoms, but motion"):
        density_of_states([frames[0], *oscillators(WAVENUMBERS[:1], Z[:1], frames=5)], 1.0)
    with pytest.raises(TypeError, match="got 2 beads"):
        density_of_states(Beads([frames, frames]), 1.0)
