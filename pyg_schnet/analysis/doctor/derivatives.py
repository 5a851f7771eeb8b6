"""Forces, stress and Hessian against finite differences of what they are derivatives of."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.doctor.check import Check, Skipped, judged, larger
from pyg_schnet.analysis.doctor.samples import Sample, scaled, with_positions
from pyg_schnet.analysis.doctor.subject import Evaluator, Subject

#: Step in Angstrom, or of a strain, in float64: five-point differences then err by some 1e-9 of the forces.
STEP, STRAIN = 5e-4, 1e-4
#: Step in Angstrom in single precision, whose energies are rounded to some 1e-7 of themselves.
WIDE_STEP = 0.01
#: So many components of the forces are looked at, and so many columns of the Hessian.
COMPONENTS, COLUMNS = 12, 4
#: Smallest force that errors are relative to, in the unit of the model per Angstrom.
FAINT = 1e-5
#: Of a Hessian of at most so many atoms.
MOST_ATOMS = 40
#: What a double keeps of a number, and a single.
DOUBLE, SINGLE = 2.2e-16, 1.2e-7
Value = TypeVar("Value", float, Tensor)


def slope(function: Callable[[float], Value], step: float) -> Value:
    """Derivative at zero by the five-point stencil, whose error is step^4 / 30 of the fifth derivative."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def largest(forces: Tensor) -> float:
    """The largest component, or :data:`FAINT` if that is smaller."""
    return max(float(forces.abs().max()), FAINT)


def beyond(error: float, noise: float, scale: float) -> float:
    """A relative error less what rounding explains; NaN if there is none."""
    return larger(error - noise, 0.0) / scale


def _force_error(evaluator: Evaluator, data: Data, step: float, epsilon: float, unrounded: float) -> float:
    """Largest relative difference of components, and of a direction that moves all atoms.

    Args:
        evaluator: The model.
        data: The structure.
        step: In Angstrom.
        epsilon: Relative rounding of an energy less its references.
        unrounded: What the energy less its references is.
    """
    _, forces = evaluator.both(data)
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(forces.numel(), generator=generator)[:COMPONENTS]
    directions = torch.zeros(len(order), forces.numel(), dtype=torch.float64)
    directions[torch.arange(len(order)), order] = 1.0
    everything = 2 * torch.rand(1, forces.numel(), generator=generator, dtype=torch.float64) - 1
    error = 0.0
    for direction in torch.cat([directions, everything]):
        along = direction.view_as(forces)
        found = -slope(lambda t: evaluator.energy(with_positions(data, data.pos + t * along)), step)  # noqa: B023
        difference = abs(found - float((forces * along).sum())) / max(1.0, float(along.abs().sum()) ** 0.5)
        error = larger(error, difference)
    noise = 4 * (epsilon * abs(unrounded) + DOUBLE * abs(evaluator.energy(data))) / step
    return beyond(error, noise, largest(forces))


def check_forces(subject: Subject, sample: Sample) -> Check | Skipped:
    """Forces against differences of energies, in float64 with exact filters."""
    if subject.no_forces:
        return Skipped("forces", subject.no_forces)
    return judged(
        "forces",
        _force_error(subject.exact, sample.data, STEP, DOUBLE, 0.0),
        1e-6,
        "relative error of forces against differences of the energy, float64; these err by 1e-9",
        "take forces as the exact derivative of the energy, cutoff function and unit included (Potential does); no "
        "rounding to fewer digits and no detach() inside the network",
        structure=sample.name,
    )


def check_forces_as_given(subject: Subject, sample: Sample) -> Check | Skipped:
    """The same of the model as it comes, with its own kind of numbers and its tables."""
    name = "forces as they come"
    if subject.no_forces:
        return Skipped(name, subject.no_forces)
    double = subject.dtype == torch.float64
    epsilon = DOUBLE if double else SINGLE
    residual = float(subject.residual(subject.given, sample.data).abs().max())
    error = _force_error(subject.given, sample.data, STEP if double else WIDE_STEP, epsilon, residual)
    return judged(
        name,
        error,
        1e-5 if double else 1e-2,
        f"the same of the model as it comes, {str(subject.dtype)[6:]}; rounding of energies taken off",
        "compare fast.exactly() with the usual way; freeze() again, or use float64",
        structure=sample.name,
    )


def check_stress(subject: Subject, sample: Sample) -> Check | Skipped:
    """The stress against differences of energies of strained structures, cells or not."""
    if subject.no_forces:
        return Skipped("stress", subject.no_forces)
    data = sample.data
    if data.get("cell") is None or not bool(data.cell.det().abs() > 1e-6):
        size = data.pos.amax(0) - data.pos.amin(0) + 10.0
        data = Data(z=data.z, pos=data.pos, cell=torch.diag(size)[None], pbc=torch.zeros(1, 3, dtype=torch.bool))
    volume = float(data.cell.det().abs())
    found = volume * subject.exact.stress(data)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for row in range(3):
        for column in range(row, 3):
            expected[row, column] = slope(lambda t: subject.exact.energy(_strained(data, row, column, t)), STRAIN)  # noqa: B023
            expected[column, row] = expected[row, column]
    noise = 4 * DOUBLE * abs(subject.exact.energy(data)) / STRAIN
    error = beyond(float((found - expected).abs().max()), noise, max(float(expected.abs().max()), FAINT))
    return judged(
        "stress",
        error,
        1e-6,
        "relative error of V times stress against differences of the energy under strain, float64",
        "the stress is (dE/dstrain) / V with ASE's sign: positive pulls inwards; edges need the cell in their graph",
        structure=sample.name,
    )


def _strained(data: Data, row: int, column: int, amount: float) -> Data:
    strain = torch.eye(3, dtype=torch.float64)
    strain[row, column] += amount / 2
    strain[column, row] += amount / 2
    return scaled(data, strain)


def check_hessian(subject: Subject, sample: Sample) -> Check | Skipped:
    """Columns of the Hessian against differences of forces, and its symmetry."""
    if subject.no_forces:
        return Skipped("Hessian", subject.no_forces)
    if not hasattr(subject.exact.module, "hessian"):
        return Skipped("Hessian", "the potential of a committee has none; its members have")
    data = sample.data
    if data.z.numel() > MOST_ATOMS:
        return Skipped("Hessian", f"{data.z.numel()} atoms; it is checked of at most {MOST_ATOMS}")
    hessian = subject.exact.hessian(data)
    generator = torch.Generator().manual_seed(2)
    error = float((hessian - hessian.T).abs().max())
    for _ in range(COLUMNS):
        along = 2 * torch.rand(data.pos.shape, generator=generator, dtype=torch.float64) - 1
        expected = -slope(lambda t: subject.exact.both(with_positions(data, data.pos + t * along))[1], STEP)  # noqa: B023
        difference = float((hessian @ along.flatten() - expected.flatten()).abs().max())
        error = larger(error, difference)
    return judged(
        "Hessian",
        error / max(float(hessian.abs().max()), 10 * FAINT),
        1e-5,
        "relative error of the Hessian against differences of forces, and of its symmetry, float64",
        "use activations and cutoff functions with two derivatives, and forces that are derivatives of the energy",
        structure=sample.name,
    )
