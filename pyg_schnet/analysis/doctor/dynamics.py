"""A check that a short simulation keeps its energy."""

import math
from time import perf_counter

import torch
from torch import Tensor

from pyg_schnet.analysis.conservation import energy_drift
from pyg_schnet.analysis.doctor.check import Check, Skipped, judged
from pyg_schnet.analysis.doctor.samples import Sample, with_positions
from pyg_schnet.analysis.doctor.subject import Evaluator, Subject
from pyg_schnet.analysis.vibrations.masses import atomic_masses
from pyg_schnet.units import BOLTZMANN, DALTON, ELECTRONVOLT

#: Kelvin of the velocities at the beginning.
TEMPERATURE = 300.0
#: Femtoseconds of a long step; the short one is half of it.
TIME_STEP = 0.5
#: Number of long steps, unless they take more seconds than that.
STEPS, FEWEST_STEPS, SECONDS = 200, 80, 6.0
#: Atoms of the largest structure.
MOST_ATOMS = 200
#: One Angstrom * sqrt(u / eV) in fs.
_FS = math.sqrt(DALTON / ELECTRONVOLT) * 1e5


def check_drift(subject: Subject, sample: Sample) -> Check | Skipped:
    """Drift of the total energy of velocity Verlet, with the error of the finite step taken off."""
    name = "energy drift"
    unit = subject.energy_unit
    if unit is None:
        return Skipped(name, subject.no_forces or "what is predicted is no energy of a whole structure")
    number = sample.data.z.numel()
    if number > MOST_ATOMS:
        return Skipped(name, f"{number} atoms; it is checked of at most {MOST_ATOMS}")
    try:
        masses = atomic_masses(sample.data)
    except ImportError as error:
        return Skipped(name, str(error))
    generator = torch.Generator().manual_seed(7)
    width = (BOLTZMANN * TEMPERATURE / masses).sqrt().unsqueeze(1)
    velocity = width * torch.randn(number, 3, generator=generator, dtype=torch.float64)
    begin = perf_counter()
    subject.given.both(sample.data)
    steps = min(STEPS, max(FEWEST_STEPS, int(SECONDS / (3 * (perf_counter() - begin) + 1e-9))))
    coarse = _energies(subject.given, sample, masses, velocity, TIME_STEP, steps, unit)
    fine = _energies(subject.given, sample, masses, velocity, TIME_STEP / 2, 2 * steps, unit)[::2]
    both = fine, (4 * fine - coarse) / 3  # errors of the step go with its square, unless it is too long for that
    drift = min(_drift(total, number) for total in both)
    of_step = drift < _drift(coarse, number) / 3  # what is wrong with forces does not go away with shorter steps
    double = subject.dtype == torch.float64
    return judged(
        name,
        drift,
        0.1 if double else 1.0,
        f"meV/atom/ps, {steps * TIME_STEP / 1000:g} ps from {TEMPERATURE:g} K, as it comes",
        "forces are not those of the energy, or the energy has steps: see the other checks; start from a relaxed "
        "structure, or use float64",
        structure=sample.name,
        tolerated=1.0 if double else 10.0,
        worst="WARN" if of_step else "FAIL",
    )


def _drift(total: Tensor, number: int) -> float:
    """Drift in meV/atom/ps, NaN if the simulation broke down."""
    time = 1e-3 * TIME_STEP * torch.arange(len(total), dtype=torch.float64)
    if not bool(total.isfinite().all()):
        return math.nan
    return abs(energy_drift(time.numpy(), total.numpy(), number)) * 1e3


def _energies(
    evaluator: Evaluator, sample: Sample, masses: Tensor, velocity: Tensor, step: float, steps: int, unit: float
) -> Tensor:
    """Total energies in eV at all steps [steps + 1] of velocity Verlet."""
    step, inverse = step / _FS, 1 / masses.unsqueeze(1)
    pos = sample.data.pos
    energy, forces = evaluator.both(sample.data)
    found = [unit * energy[0] + (velocity.square() / inverse).sum() / 2]
    for _ in range(steps):
        velocity = velocity + step / 2 * unit * forces * inverse
        pos = pos + step * velocity
        if not bool(pos.isfinite().all()):
            return torch.full((steps + 1,), math.nan, dtype=torch.float64)
        energy, forces = evaluator.both(with_positions(sample.data, pos))
        velocity = velocity + step / 2 * unit * forces * inverse
        found.append(unit * energy[0] + (velocity.square() / inverse).sum() / 2)
    return torch.stack(found)
