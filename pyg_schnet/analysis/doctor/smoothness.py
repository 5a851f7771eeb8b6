"""Checks that all neighbours are there, and that energies and forces have no steps, at the cutoff or anywhere."""

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.doctor.check import Check, Skipped, judged, larger
from pyg_schnet.analysis.doctor.derivatives import DOUBLE, largest
from pyg_schnet.analysis.doctor.samples import Sample, cluster_of, pair_distances, with_positions
from pyg_schnet.analysis.doctor.subject import Subject
from pyg_schnet.models.structures import Structures

#: How far before and behind the cutoff a pair is looked at, in Angstrom.
ASIDE = 1e-5
#: Steps on the way of atoms, and their length in Angstrom.
STEPS, LENGTH = 30, 4e-3
#: So many of the steps are looked at closely, and so often halved.
SUSPECTS, HALVINGS = 3, 9
#: Without a cutoff function, a model is for structures that many times smaller than its cutoff.
ROOM = 1.5


def check_graph(subject: Subject, sample: Sample) -> Check:
    """The edges of the model in a dense cluster against those of brute force."""
    error, most = 0, 0
    data = cluster_of(sample, min(subject.cutoffs))
    structures = [data, sample.data] if sample.periodic else [data]
    for one in structures:
        for module in _networks(subject):
            given = Structures.of_data(with_positions(one, one.pos.to(subject.exact.device)), module.cutoff)
            given.z = one.z.to(subject.exact.device)
            given.cell = None if given.cell is None else given.cell.to(subject.exact.device)
            given.pbc = None if given.pbc is None else given.pbc.to(subject.exact.device)
            with torch.no_grad():
                edges = given.find_edges(module)
            found = edges.edge_weight if edges.edge_pair is None else edges.edge_weight[edges.edge_pair]
            expected = pair_distances(one, float(module.cutoff)).sort().values
            error = max(error, _missing(found.cpu().sort().values, expected))
            most = max(most, int(torch.bincount(edges.edge_index[1].cpu()).max()) if found.numel() else 0)
    return judged(
        "graph",
        float(error),
        0.0,
        f"edges that are missing or too many, of atoms with up to {most} neighbours, by brute force",
        "use radius_graph or the model's own search, which never truncate; max_num_neighbors must not be reached",
        structure=f"a cluster of {data.z.numel()} atoms of {sample.name}",
    )


def _networks(subject: Subject) -> list:
    module = subject.exact.module
    network = getattr(module, "model", module)
    return list(network.members) if hasattr(network, "members") else [network]


def _missing(found: Tensor, expected: Tensor) -> int:
    """How many distances differ."""
    if len(found) != len(expected):
        return abs(len(found) - len(expected))
    return int((found.detach() - expected).abs().gt(1e-6).sum())


def check_cutoff(subject: Subject, sample: Sample) -> Check | Skipped:
    """Energy and forces just before and just behind the cutoff, of a structure that an atom leaves."""
    if subject.no_forces:
        return Skipped("smooth cutoff", subject.no_forces)
    open_data = Data(z=sample.data.z, pos=sample.data.pos)
    energy_step = force_step = 0.0
    for cutoff in subject.cutoffs:
        (before, left), (behind, right) = (subject.exact.both(_leaving(open_data, cutoff + s * ASIDE)) for s in (-1, 1))
        strength = largest(left[:-1])
        noise = 16 * DOUBLE * float(before.abs())
        step = larger(abs(float(before - behind)) - noise, 0.0)
        energy_step = larger(energy_step, step / strength)
        force_step = larger(force_step, float((left - right).abs().max()) / strength)
    value = larger(energy_step, 1e-3 * force_step)  # a force may change by its slope over this way
    worst, remedy = _verdict_of_step(subject, sample)
    return judged(
        "smooth cutoff",
        value,
        1e-6,
        f"step of energy per force, Angstrom, or of forces per 1,000 forces, {2 * ASIDE:g} Angstrom across the cutoff",
        remedy,
        structure=f"{sample.name} and an atom that leaves",
        worst=worst,
    )


def _verdict_of_step(subject: Subject, sample: Sample) -> tuple[str, str]:
    """How bad a step at the cutoff is: a model that says that it has one is for small structures."""
    if subject.jumps and subject.kind == "mean":
        return "WARN", "without a cutoff function, energies of given structures are right, but forces miss its steps"
    if subject.jumps and not sample.periodic:
        extent = float(torch.pdist(sample.data.pos).max()) if sample.data.z.numel() > 1 else 0.0
        if ROOM * extent < min(subject.cutoffs):
            return "WARN", (
                f"the model has no cutoff function: use it for structures smaller than {min(subject.cutoffs):g} "
                "Angstrom, or train with cutoff_function='cosine'"
            )
    return "FAIL", "multiply filters by a cutoff function that goes to zero, such as cutoff_function='cosine'"


def _leaving(data: Data, distance: float) -> Data:
    """The structure and one more atom at this distance from the nearest one, outwards."""
    centre = data.pos.mean(0)
    edge = int((data.pos - centre).norm(dim=1).argmax())
    out = data.pos[edge] - centre
    out = out / out.norm() if float(out.norm()) > 1e-3 else torch.tensor([1.0, 0, 0], dtype=torch.float64)
    return Data(
        z=torch.cat([data.z, data.z[edge : edge + 1]]),
        pos=torch.cat([data.pos, data.pos[edge : edge + 1] + distance * out]),
    )


def check_path(subject: Subject, sample: Sample) -> Check | Skipped:
    """Energy along a way of all atoms of a dense cluster, against the work of the forces.

    Where both differ most, the step is halved again and again: what is smooth is soon gone, a step of the energy stays.
    """
    if subject.no_forces:
        return Skipped("smooth path", subject.no_forces)
    data = cluster_of(sample, min(subject.cutoffs))
    generator = torch.Generator().manual_seed(6)
    along = LENGTH * (2 * torch.rand(data.pos.shape, generator=generator, dtype=torch.float64) - 1)

    def at(place: float) -> tuple[float, float, float]:
        energy, forces = subject.exact.both(with_positions(data, data.pos + place * along))
        return float(energy), float((forces * along).sum()), largest(forces)

    points = [at(float(step)) for step in range(STEPS + 1)]
    strength = max(point[2] for point in points)
    rests = torch.tensor([_rest(one, other, 1.0) for one, other in pairwise(points)], dtype=torch.float64)
    bends = torch.cat(
        [torch.zeros(1).double(), (rests[2:] - 2 * rests[1:-1] + rests[:-2]).abs(), torch.zeros(1).double()]
    )
    suspects = {*rests.abs().argsort()[-SUSPECTS:].tolist(), *bends.argsort()[-SUSPECTS:].tolist()}
    error = reduce(larger, (_remaining(at, points, step) for step in suspects))
    noise = 32 * DOUBLE * max(abs(point[0]) for point in points)
    worst, remedy = _verdict_of_step(subject, sample._replace(data=data))
    return judged(
        "smooth path",
        larger(error - noise, 0.0) / strength,
        1e-6,
        f"largest step of the energy per force, Angstrom, on a way of {STEPS * LENGTH:g} Angstrom",
        f"keep all neighbours within the cutoff; {remedy}" if worst == "FAIL" else remedy,
        structure=f"a cluster of {data.z.numel()} atoms of {sample.name}",
        worst=worst,
    )


def _rest(one: tuple[float, ...], other: tuple[float, ...], width: float) -> float:
    """What the work of the forces between two points does not explain of the energy."""
    return other[0] - one[0] + width * (one[1] + other[1]) / 2


def _remaining(at: Callable[[float], tuple[float, ...]], points: list[Any], step: int) -> float:
    """That rest of a step after it was halved so often, on the worse side each time."""
    low, high, begin, width = points[step], points[step + 1], float(step), 1.0
    for _ in range(HALVINGS):
        width /= 2
        middle = at(begin + width)
        left, right = abs(_rest(low, middle, width)), abs(_rest(middle, high, width))
        if left >= right:
            high = middle
        else:
            low, begin = middle, begin + width
    return abs(_rest(low, high, width))
