"""What must not change, or change in a known way: translation, rotation, reflection, permutation, copies."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.doctor.check import Check, Skipped, judged, larger
from pyg_schnet.analysis.doctor.derivatives import DOUBLE, beyond, largest
from pyg_schnet.analysis.doctor.samples import Sample, repeated, scaled, with_positions
from pyg_schnet.analysis.doctor.subject import Evaluator, Subject

#: Largest relative difference: some thousand times what double precision rounds off.
BOUND = 1e-9
_HOW = "relative change of energy and forces, float64; rounding explains 1e-12"


def difference(
    subject: Subject,
    evaluator: Evaluator,
    first: Data,
    second: Data,
    *,
    matrix: Tensor | None = None,
    order: Tensor | None = None,
    times: int = 1,
) -> float:
    """How far the prediction for a second structure is from what the first one demands.

    Args:
        subject: The model.
        evaluator: Which copy of it.
        first: A structure.
        second: The same, moved.
        matrix: How vectors were moved, as rows [3, 3].
        order: Which atom of the first each one of the second is [M].
        times: How many copies of the first the second is.

    Returns:
        Largest difference, of energies relative to what is predicted beyond references or to a force times an Angstrom.
    """
    ratio = times if subject.kind == "add" else 1
    matrix = torch.eye(3, dtype=torch.float64) if matrix is None else matrix
    if subject.no_forces:
        y, found = evaluator.values(first)[0], evaluator.values(second)[0]
        expected = y @ matrix if y.numel() == 3 and _is_vector(subject) else ratio * y
        scale = max(float(subject.residual(evaluator, first).abs().max()), 1e-6)
        return beyond(float((found - expected).abs().max()), 16 * DOUBLE * float(y.abs().max()), scale)
    (energy, forces), (other, moved) = evaluator.both(first), evaluator.both(second)
    expected = forces @ matrix
    expected = expected if order is None else expected[order]
    expected = expected * (ratio / times)
    strength = largest(forces)
    noise = 16 * DOUBLE * float(energy.abs()) * times
    of_energy = beyond(abs(float(other) - ratio * float(energy)), noise, max(strength, 1e-3 * _depth(subject, first)))
    return larger(of_energy, float((moved - expected).abs().max()) / strength)


def _depth(subject: Subject, data: Data) -> float:
    return float(subject.residual(subject.exact, data).abs().max())


def _is_vector(subject: Subject) -> bool:
    return subject.members[0].config.get("readout") == "dipole"


def check_translation(subject: Subject, sample: Sample) -> Check:
    """The structure elsewhere; in a crystal, also an atom in another cell."""
    data = sample.data
    moved = data.pos + torch.tensor([1.7, -3.1, 12.3], dtype=torch.float64)
    if sample.periodic:
        axis = int(data.pbc[0].long().argmax())
        moved[0] += data.cell[0, axis]
    return judged(
        "translation",
        difference(subject, subject.exact, data, with_positions(data, moved)),
        BOUND,
        _HOW,
        "let the network see differences of positions (edges.edge_vec), never positions",
        structure=sample.name,
    )


def check_rotation(subject: Subject, sample: Sample) -> Check:
    """The structure turned, forces with it."""
    generator = torch.Generator().manual_seed(4)
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    matrix = q * torch.linalg.det(q)
    data = sample.data
    return judged(
        "rotation",
        difference(subject, subject.exact, data, scaled(data, matrix), matrix=matrix),
        BOUND,
        _HOW,
        "make energies of distances, angles and other quantities that do not depend on the axes",
        structure=sample.name,
    )


def check_reflection(subject: Subject, sample: Sample) -> Check:
    """The mirror image, forces with it."""
    matrix = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    data = sample.data
    return judged(
        "reflection",
        difference(subject, subject.exact, data, scaled(data, matrix), matrix=matrix),
        BOUND,
        _HOW,
        "mirror images have the same energy: leave out triple products, or take their squares",
        structure=sample.name,
    )


def check_permutation(subject: Subject, sample: Sample) -> Check:
    """The atoms in another order."""
    data = sample.data
    order = torch.randperm(data.z.numel(), generator=torch.Generator().manual_seed(5))
    if data.z.numel() > 1 and bool((data.z[order] == data.z).all()):
        order = order.flip(0)
    other = with_positions(data, data.pos[order])
    other.z = data.z[order]
    return judged(
        "permutation",
        difference(subject, subject.exact, data, other, order=order),
        BOUND,
        _HOW,
        "read out by sums or means over atoms, and keep every neighbour: nothing may depend on the order of atoms",
        structure=sample.name,
    )


def check_supercell(subject: Subject, sample: Sample) -> Check | Skipped:
    """A crystal twice, with a periodic cell of twice the length."""
    if not sample.periodic:
        return Skipped("supercell", "no structure is periodic")
    if subject.kind not in {"add", "mean"}:
        return Skipped("supercell", "the property is neither a sum nor a mean over atoms")
    data = sample.data
    axis = int(data.pbc[0].long().argmax())
    order = torch.arange(data.z.numel()).repeat(2)
    return judged(
        "supercell",
        difference(subject, subject.exact, data, repeated(data, axis), order=order, times=2),
        BOUND,
        _HOW,
        "count every periodic image within the cutoff, also those of an atom itself; no minimum-image convention",
        structure=sample.name,
    )


def check_extensivity(subject: Subject, sample: Sample) -> Check | Skipped:
    """Two copies so far apart that they cannot know of each other."""
    if sample.periodic:
        return Skipped("extensivity", "the structures are periodic; see the supercell")
    if subject.kind not in {"add", "mean"}:
        return Skipped("extensivity", "the property is neither a sum nor a mean over atoms")
    data = sample.data
    away = torch.tensor([2.0 * max(subject.cutoffs), 0, 0], dtype=torch.float64)
    away[0] += data.pos[:, 0].max() - data.pos[:, 0].min()
    both = Data(z=data.z.repeat(2), pos=torch.cat([data.pos, data.pos + away]))
    single = Data(z=data.z, pos=data.pos)
    order = torch.arange(data.z.numel()).repeat(2)
    return judged(
        "extensivity",
        difference(subject, subject.exact, single, both, order=order, times=2),
        BOUND,
        "relative change of energy and forces of two far copies against twice one, float64",
        "sum contributions of atoms; no normalisation by the number of atoms, edges or structures",
        structure=sample.name,
    )
