"""Path integrals of harmonic molecules, whose rings are normally distributed and whose energies are known exactly."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms, units

from pyg_schnet.analysis import (
    RingPolymer,
    cluster_distances,
    harmonic_energy,
    path_integral_energies,
    perturbed_distances,
)

TEMPERATURE = 300.0
KT = units.kB * TEMPERATURE
HBAR = units._hbar * units.J * units.s  # in ASE's units, eV and its time
MASSES = np.array([12.0, 1.0, 16.0])
SQRT_MASSES = np.repeat(MASSES, 3) ** 0.5
CENTRE = np.array([[0.0, 0, 0], [1.6, 0, 0], [0.8, 0.8 * 3**0.5, 0]])
QUANTA = np.linspace(0.02, 0.27, 9)


def modes_of_the_well():
    """Modes in u^-1/2 [9, 9] as rows of three atoms in a harmonic well, whose quanta in eV are those above."""
    return np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0] / SQRT_MASSES


def sampled(beads, count, seed=0, quanta=QUANTA):
    """Independent rings from the exact distribution of the primitive path integral."""
    modes, omega = modes_of_the_well(), quanta / HBAR
    ring = (
        np.array(
            [
                [math.cos(2 * math.pi * k * j / beads) + math.sin(2 * math.pi * k * j / beads) for j in range(beads)]
                for k in range(beads)
            ]
        )
        / beads**0.5
    )  # fmt: skip  Hartley's orthonormal transform
    stiffness = (2 * np.sin(math.pi * np.arange(beads) / beads) * beads * KT / HBAR) ** 2 / (beads * KT)
    precision = stiffness[:, None] + omega**2 / (beads * KT)  # of q [P, 9]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        q = ring.T @ (rng.normal(size=(beads, 9)) / precision**0.5)
        x = (q @ modes).reshape(beads, 3, 3) + CENTRE
        forces = -(omega**2 * q) @ modes * np.repeat(MASSES, 3)
        yield RingPolymer(x, 0.5 * (omega**2 * q**2).sum(1) - 1000.0, forces.reshape(beads, 3, 3))


def exact():
    """Energy of the quantum oscillators in eV."""
    return float((QUANTA / 2 / np.tanh(QUANTA / (2 * KT))).sum())


def partition(beads, kt, quanta, perturbed, scale=1.0):
    """ln Z of the path integral of oscillators, less the perturbation, from the determinants of their actions."""
    total = 0.0
    for quantum in quanta:
        # in units of length of hbar / sqrt(m kT); the potential times `scale`
        springs = beads * (2 * np.eye(beads) - np.roll(np.eye(beads), 1, 0) - np.roll(np.eye(beads), -1, 0))
        well = scale * (quantum / kt) ** 2 / beads
        action = springs + well * np.eye(beads)
        total += 0.5 * (beads * math.log(beads) - np.linalg.slogdet(action)[1])
        if perturbed:
            total -= (well * beads) ** 2 / (24 * beads**3) * np.trace(np.linalg.inv(action))
    return total


@pytest.mark.parametrize("perturbed", [False, True])
@pytest.mark.parametrize("beads", [1, 2, 3, 8])
def test_harmonic_energy_is_the_derivative_of_the_partition_function(beads, perturbed):
    quanta, step = [0.05, 0.21], 1e-4
    beta = 1 / KT
    lower, upper = (partition(beads, 1 / (beta * (1 + sign * step)), quanta, perturbed) for sign in (-1, 1))
    expected = (lower - upper) / (2 * step * beta)
    assert harmonic_energy(quanta, TEMPERATURE, beads, perturbed=perturbed) == pytest.approx(expected, rel=1e-6)


def test_harmonic_energy_converges_faster_if_perturbed():
    quanta, true = torch.from_numpy(QUANTA), exact()
    plain, better = (
        [abs(harmonic_energy(quanta, TEMPERATURE, beads, perturbed=how) / true - 1) for beads in (64, 128)]
        for how in (False, True)
    )
    assert plain[0] / plain[1] == pytest.approx(2**2, rel=0.02)
    assert better[0] / better[1] == pytest.approx(2**4, rel=0.05)
    assert better[0] < 0.01 * plain[0]


@pytest.fixture(scope="module")
def eight():
    """Energies with eight beads."""
    return path_integral_energies(sampled(8, 3_000), MASSES, TEMPERATURE, progress=False)


def test_energies_of_a_harmonic_molecule(eight):
    """All estimators against closed forms; 4 standard errors, which are small beside what the perturbation changes."""
    plain, better = (harmonic_energy(QUANTA, TEMPERATURE, 8, perturbed=how) for how in (False, True))
    expected = {
        "total": plain - 1000,
        "potential": plain / 2 - 1000,
        "kinetic": plain / 2,
        "kinetic_primitive": plain / 2,
        "perturbed_total": better - 1000,
        "perturbed_potential": better / 2 - 1000,
        "perturbed_kinetic": better / 2,
    }
    for name, value in expected.items():
        found = getattr(eight, name)
        assert abs(found.value - value) < 4 * found.error, name
        assert found.error < 0.1 * (better - plain), name
    assert eight.kinetic.error < 0.7 * eight.kinetic_primitive.error
    assert (eight.frames, eight.beads) == (3_000, 8)


def test_perturbed_energies_are_nearer_to_the_exact_ones(eight):
    plain, better = eight.total.value + 1000, eight.perturbed_total.value + 1000
    assert plain / exact() - 1 < -0.05
    assert abs(better / exact() - 1) < 0.2 * abs(plain / exact() - 1)


def test_errors_are_those_of_repetitions():
    """Twenty short simulations scatter as the errors say; an error of an error from 20 is 16 per cent."""
    every = [path_integral_energies(sampled(4, 160, seed), MASSES, TEMPERATURE, progress=False) for seed in range(20)]
    for name in ("total", "perturbed_total", "perturbed_kinetic"):
        values, errors = zip(*(getattr(one, name) for one in every), strict=True)
        assert np.std(values, ddof=1) == pytest.approx(np.mean(errors), rel=0.5), name


def test_delocalisation(eight):
    """The ring's mean square about its centroid: that of the path integral less that of the classical centroid."""
    modes, omega, u = modes_of_the_well(), QUANTA / HBAR, QUANTA / KT / 8
    variance = (u[:, None] ** 2 / (4 * np.sin(math.pi * np.arange(8) / 8) ** 2 + u[:, None] ** 2)).sum(1) - 1
    squares = (variance * KT / omega**2) @ modes**2
    expected = (squares.sum() / 3) ** 0.5
    assert eight.gyration.value == pytest.approx(expected, abs=4 * eight.gyration.error)
    assert eight.gyration.error < 0.01 * expected


def test_distances_of_a_harmonic_molecule():
    """Against positions from the exact density of quantum oscillators, which four beads are far from."""
    quanta = np.linspace(0.12, 0.2, 9)
    spread = (HBAR**2 / (2 * quanta) / np.tanh(quanta / (2 * KT))) ** 0.5
    rng = np.random.default_rng(1)
    places = ((rng.normal(size=(4_000, 9)) * spread) @ modes_of_the_well()).reshape(-1, 3, 3) + CENTRE
    atoms = [Atoms("CHO", place) for place in places]
    true = cluster_distances(atoms, width=0.05, progress=False).pair
    rings = list(sampled(4, 2_000, seed=2, quanta=quanta))
    better = perturbed_distances(rings, MASSES, TEMPERATURE, width=0.05, progress=False).pair
    beads = [Atoms("CHO", place) for ring in rings for place in ring.positions]
    plain = cluster_distances(beads, width=0.05, progress=False).pair
    assert abs(better.mean - true.mean) < 4 * math.hypot(better.mean_error, true.mean_error)
    error = math.hypot(better.deviation_error, true.deviation_error)
    off, before = (one.deviation - true.deviation for one in (better, plain))
    assert abs(before) > 6 * error
    assert abs(off) < 0.25 * abs(before) + 3 * error  # what is left is of the next order
    assert float(better.density.sum()) * 0.05 == pytest.approx(1.0, abs=1e-9)
    length = min(len(true.r), len(better.r), len(plain.r))
    off, before = ((one.density[:length] - true.density[:length]).abs().sum() * 0.05 for one in (better, plain))
    assert off < 0.5 * before
    assert torch.isfinite(better.error).all()


def test_one_bead_without_forces_is_classical():
    x = np.random.default_rng(0).normal(size=(10, 1, 3, 3))
    frames = [(one, np.zeros(1), np.zeros_like(one)) for one in x]
    found = path_integral_energies(frames, MASSES, TEMPERATURE, progress=False)
    assert found.kinetic.value == pytest.approx(4.5 * KT)
    assert found.perturbed_total.value == pytest.approx(4.5 * KT)
    assert (found.gyration.value, found.spread.value) == (0.0, 0.0)
    distances = perturbed_distances(frames, MASSES, TEMPERATURE, progress=False)
    plain = cluster_distances([Atoms("CHO", one[0]) for one in x], progress=False)
    for kind in ("nearest", "diameter", "antipodal", "pair"):
        torch.testing.assert_close(getattr(distances, kind).density, getattr(plain, kind).density)
        assert getattr(distances, kind).deviation == pytest.approx(getattr(plain, kind).deviation)


@pytest.mark.parametrize("function", [path_integral_energies, perturbed_distances])
def test_what_is_refused(function):
    ring = RingPolymer(np.zeros((2, 3, 3)) + CENTRE, np.zeros(2), np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="there are no frames; expected at least one"):
        function([], MASSES, 300.0)
    with pytest.raises(ValueError, match=r"frame 1: expected positions and forces \[P, 3, 3\] .* got \[2, 2, 3\]"):
        function([ring, ring._replace(positions=np.zeros((2, 2, 3)))], MASSES, 300.0)
    with pytest.raises(ValueError, match="frame 0 has numbers that are not finite"):
        function([ring._replace(energies=np.array([0.0, np.nan]))], MASSES, 300.0)
    with pytest.raises(ValueError, match="`masses` must be a positive number in u for each atom"):
        function([ring], [1.0, -1.0, 1.0], 300.0)
    with pytest.raises(ValueError, match="`temperature`, in K, must be positive"):
        function([ring], MASSES, 0.0)


def test_what_numbers_of_beads_are_refused():
    ring = RingPolymer(np.zeros((2, 3, 3)) + CENTRE, np.zeros(2), np.zeros((2, 3, 3)))
    other = RingPolymer(*(part[:1] for part in ring))
    with pytest.raises(ValueError, match="frame 1 has 1 beads, those before 2; expected the same"):
        path_integral_energies([ring, other], MASSES, 300.0)
    with pytest.raises(ValueError, match="`beads` must be at least 1"):
        harmonic_energy([0.1], 300.0, 0)
    with pytest.raises(ValueError, match="`quanta` must be positive and finite"):
        harmonic_energy([0.1, 0.0], 300.0, 4)
