"""What path integrals and classical dynamics say of the cage at 300 K: distances and energies."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from classical import replicas_of
from numpy.typing import NDArray
from path_integrals import TIMESTEP, Run, Segment
from torch_geometric.data import Data

from pyg_schnet import SchNet
from pyg_schnet.analysis import (
    Beads,
    RingPolymer,
    cluster_distances,
    harmonic_energy,
    path_integral_energies,
    perturbed_distances,
)
from pyg_schnet.analysis.path_integrals.ring_polymer import primitive_kinetic_energy, virial_kinetic_energy
from pyg_schnet.simulation import Dynamics
from pyg_schnet.simulation.replicas import ReplicaPotential
from pyg_schnet.units import BOLTZMANN

#: Bonds of each atom; width of the bins in Angstrom.
NEIGHBORS, WIDTH = 3, 0.02
_KINDS = ("nearest", "diameter", "antipodal", "pair")


def rings_of(run: Run) -> Iterator[RingPolymer]:
    """All beads at one time after another."""
    for segment in run.segments():
        yield from _rings(segment)


def _rings(segment: Segment) -> Iterator[RingPolymer]:
    return map(RingPolymer, segment.positions.astype(float), segment.energies, segment.forces.astype(float))


def classical_distances(path: Path, replicas: int) -> Any:
    """Distances of a classical simulation."""
    return cluster_distances(Beads(replicas_of(path, replicas)), WIDTH, NEIGHBORS)


def path_integral(run: Run, atoms: Atoms) -> dict[str, Any]:
    """Distances and energies of a path integral, by plain and by perturbed estimators.

    Args:
        run: The simulation.
        atoms: The molecule.

    Returns:
        ``plain`` and ``perturbed`` distances, ``energies``, and ``masses`` in u.
    """
    z, masses = torch.from_numpy(atoms.numbers), atoms.get_masses()
    every = list(rings_of(run))
    beads = [[Data(z=z, pos=torch.from_numpy(ring.positions[bead])) for ring in every] for bead in range(run.beads)]
    return {
        "plain": cluster_distances(Beads(beads), WIDTH, NEIGHBORS),
        "perturbed": perturbed_distances(every, masses, run.temperature, WIDTH, NEIGHBORS),
        "energies": path_integral_energies(every, masses, run.temperature),
        "masses": masses,
    }


def summary(
    runs: dict[int, Run], results: dict[int, dict[str, Any]], classical: Any, rest: dict[str, Any], path: Path
) -> dict[str, Any]:
    """All figures of the study of quantum nuclei, written as JSON.

    Args:
        runs: The simulations by number of beads.
        results: What :func:`path_integral` gave of each.
        classical: What :func:`classical_distances` gave.
        rest: What :func:`cage.vibrations` found of the same network.
        path: Where to write it.

    Returns:
        The figures.
    """
    kelvin = next(iter(runs.values())).temperature
    rigid = 3 * BOLTZMANN * kelvin  # six translations and rotations, classical and without a potential
    harmonic = {
        name: [harmonic_energy(rest["quanta_eV"], kelvin, beads, perturbed=how) + rigid
               for beads in range(1, max(runs) + 1)]
        for name, how in (("plain", False), ("perturbed", True))
    }  # fmt: skip
    report: dict[str, Any] = {"classical": _distances(classical), "harmonic_by_beads_eV": harmonic, "beads": {}}
    for beads, result in results.items():
        run, energies, lowest = runs[beads], result["energies"], rest["energy_eV"]
        energy = {name: list(value) for name, value in energies._asdict().items() if name not in {"frames", "beads"}}
        for name in ("total", "potential", "perturbed_total", "perturbed_potential"):
            energy[name][0] -= lowest
        report["beads"][str(beads)] = {
            "frames": energies.frames,
            "picoseconds": run.picoseconds,
            "seconds_per_step": np.mean([one.seconds_per_step for one in run.segments()], axis=0).tolist(),
            "energies_eV": energy,
            "harmonic_eV": {name: values[beads - 1] for name, values in harmonic.items()},
            "plain": _distances(result["plain"]),
            "perturbed": _distances(result["perturbed"]),
            "against_ipi_eV": _against_ipi(run, result["masses"]),
        }
    exact = sum(_exact(quantum, kelvin) for quantum in rest["quanta_eV"])
    report["harmonic_exact_eV"] = exact + rigid
    path.write_text(json.dumps(report, indent=1))
    return report


def overlap_error(one: Any, other: Any) -> tuple[float, float]:
    """How far two distributions are apart, half the integral of their difference, and what errors alone would give."""
    length = min(len(one.r), len(other.r))
    gap = (one.density[:length] - other.density[:length]).abs().sum() * WIDTH / 2
    noise = (one.error[:length].square() + other.error[:length].square()).sqrt().sum() * WIDTH / 2
    return float(gap), float(noise) * (2 / np.pi) ** 0.5


def time_of_the_network(model: SchNet, atoms: Atoms, structures: int, repetitions: int) -> tuple[float, float]:
    """Seconds of a call with so many structures: on the wall, and of the processor; the median of some calls."""
    potential = ReplicaPotential(model, atoms.numbers, dtype=torch.float32)
    rng, times = np.random.default_rng(0), []
    for _ in range(repetitions + 2):
        places = atoms.positions + rng.normal(0.0, 0.03, (structures, *atoms.positions.shape))
        start = np.array([time.perf_counter(), time.process_time()])
        potential(places)
        times.append(np.array([time.perf_counter(), time.process_time()]) - start)
    wall, processor = np.median(times[2:], axis=0)
    return float(wall), float(processor)


def time_of_dynamics(model: SchNet, atoms: Atoms, steps: int) -> tuple[float, float]:
    """Seconds of a step of classical dynamics of one cage in compiled loops: on the wall, and of the processor."""
    dynamics = Dynamics(model, atoms, temperature=300.0, dtype=torch.float32)
    dynamics.run(10)
    start = np.array([time.perf_counter(), time.process_time()])
    dynamics.run(steps)
    wall, processor = (np.array([time.perf_counter(), time.process_time()]) - start) / steps
    return float(wall), float(processor)


def hours(seconds_per_step: float, nanoseconds: float = 1.25) -> float:
    """How long so much path-integral dynamics takes."""
    return nanoseconds * 1e6 / TIMESTEP * seconds_per_step / 3600


def _exact(quantum: float, temperature: float) -> float:
    return quantum / 2 / np.tanh(quantum / (2 * BOLTZMANN * temperature))


def _distances(found: Any) -> dict[str, Any]:
    names = ("mean", "mean_error", "deviation", "deviation_error", "peak")
    return {kind: {name: getattr(getattr(found, kind), name) for name in names} for kind in _KINDS}


def _against_ipi(run: Run, masses: NDArray) -> dict[str, float]:
    """Largest differences in a frame between i-PI's own estimators in eV and those of this package."""
    gaps = {"potential": 0.0, "virial": 0.0, "primitive": 0.0}
    for segment in run.segments():
        for ring, log in zip(_rings(segment), segment.log, strict=True):
            own = {
                "potential": ring.energies.mean(),
                "virial": virial_kinetic_energy(ring.positions, ring.forces, run.temperature),
                "primitive": primitive_kinetic_energy(ring.positions, masses, run.temperature),
            }
            for name, theirs in zip(gaps, log[1:4], strict=True):
                gaps[name] = max(gaps[name], abs(float(own[name] - theirs)))
    return gaps
