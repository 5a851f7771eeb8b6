"""Checks that elements and distances were in the training, and that atoms repel each other when they come close."""

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.analysis.doctor.check import Check, Skipped, judged
from pyg_schnet.analysis.doctor.samples import Sample, with_positions
from pyg_schnet.analysis.doctor.subject import Subject
from pyg_schnet.models.elements import distances_of, nearest_known
from pyg_schnet.units import SYMBOLS

#: An element with fewer atoms in the training was hardly learned.
FEW_ATOMS = 50
#: The nearest pair of two elements is pushed together to that share of its distance, in so many steps.
CLOSEST, PUSHES = 0.6, 40
#: A barrier in eV that no atom crosses by heat.
HIGH = 2.0
#: Structures of so many atoms are computed all at once.
MOST_AT_ONCE = 24
#: Depth in eV of what is a hole: of a trained model, and of any one, whose energies may be as chance made them.
DEEP_IF_TRAINED, DEEP = 1.0, 5.0
#: Of so many elements, the commonest of the training, two atoms alone are looked at.
MOST_ELEMENTS = 6
#: Distances beyond those of the training that are tolerated, in Angstrom.
MARGIN = 0.05
#: So many structures of the training are looked at for distances.
MOST_STRUCTURES = 2000
#: Distances up to here count, in Angstrom; between atoms far apart there are all.
NEAR = 3.0


def check_known_elements(subject: Subject, samples: list[Sample]) -> Check:
    """Check that each element of the structures was in the training, often enough."""
    name, what = "elements", "elements of the structures that the training had never"
    sets = subject.network.training_sets
    if not sets:
        return Check(
            name, "WARN", None, None, "the training set is not known",
            "models that are trained here remember it; else make sure of it yourself",
        )  # fmt: skip
    known = set(subject.elements or [])
    needed = {int(z) for sample in samples for z in sample.data.z}
    missing = sorted(needed - known)
    if missing:
        symbols = ", ".join(SYMBOLS[z] for z in missing)
        return Check(name, "FAIL", float(len(missing)), 0.0, what, f"train on structures with {symbols}")
    counts = {z: min(one.elements.get(z, 0) for one in sets) for z in sorted(known)}
    rare = ", ".join(f"{SYMBOLS[z]} ({count})" for z, count in counts.items() if count < FEW_ATOMS)
    if rare:
        return Check(
            name, "WARN", 0.0, 0.0, what, f"hardly any atoms of {rare} in the training; do not use it for them"
        )
    return Check(name, "PASS", 0.0, 0.0, what)


def check_compositions(subject: Subject, samples: list[Sample]) -> Check | Skipped:
    """Check that the training could tell how the energy is shared among the elements."""
    sets = subject.network.training_sets
    if not sets:
        return Skipped("compositions", "the training set is not known")
    single = [one for one in sets if one.compositions == 1]
    what = "structures of another composition than the only one of the training"
    strange = sum(any(_shares(sample.data.z) != _normal(one.elements) for one in single) for sample in samples)
    remedy = "train on structures of several compositions, or use the model for its own one alone"
    return judged("compositions", float(strange), 0.0, what, remedy)


def check_distances(subject: Subject, samples: list[Sample], training: list[Data] | None) -> Check:
    """Check that pairs of elements in the structures are no nearer to each other than they were in the training."""
    reach = max(subject.cutoffs)
    sets = subject.network.training_sets
    seen = nearest_known(sets) if training is None else _nearest_in(training[:MOST_STRUCTURES], reach)
    if not seen:
        return Check(
            "distances", "WARN", None, None, "distances of the training are not known",
            "pass structures of the training (--training FILE) to compare them",
        )  # fmt: skip
    worst, where, names, what = 0.0, "", "", "a pair is nearer than any in the training"
    for sample in samples:
        for pair, (distance, _) in distances_of(sample.data, reach).items():
            short = seen.get(pair, NEAR) - distance
            if short > worst:
                worst, where, names = short, sample.name, pair
                before = f"the nearest of the training, {seen[pair]:.2f}" if pair in seen else "any of the training"
                what = f"a pair {pair}, {distance:.2f} apart, is nearer than {before}"
    remedy = f"train on structures with {names} as near, or relax the structure first"
    return judged("distances", worst, MARGIN, f"Angstrom that {what}", remedy, structure=where, worst="WARN")


def _nearest_in(training: list[Data], reach: float) -> dict[str, float]:
    """Smallest distances in structures."""
    seen: dict[str, float] = {}
    for data in training:
        for pair, (distance, _) in distances_of(data, reach).items():
            seen[pair] = min(distance, seen.get(pair, math.inf))
    return seen


def nearest_pairs(data: Data) -> dict[tuple[int, int], tuple[float, int, int]]:
    """The nearest pair of each two elements in the structure itself: its distance and atoms, images left out.

    Args:
        data: A structure.

    Returns:
        Distance in Angstrom and both atoms, by atomic numbers, the smaller one first.
    """
    pos, numbers = data.pos.double(), data.z.tolist()
    distances = torch.cdist(pos, pos)
    found: dict[tuple[int, int], tuple[float, int, int]] = {}
    for kinds in combinations_with_replacement(sorted(set(numbers)), 2):
        first, second = (torch.tensor([number == kind for number in numbers]) for kind in kinds)
        allowed = first.unsqueeze(1) & second & ~torch.eye(len(numbers), dtype=torch.bool)
        if allowed.any():
            place = int(torch.where(allowed, distances, torch.inf).argmin())
            i, j = divmod(place, len(numbers))
            found[kinds] = float(distances[i, j]), i, j
    return found


def check_repulsion(subject: Subject, sample: Sample) -> Check | Skipped:
    """The nearest pair of each two elements pushed together: how high the energy rises, and how deep it may fall."""
    unit = subject.energy_unit
    if unit is None:
        return Skipped("repulsion", subject.no_forces or "what is predicted is no energy of a whole structure")
    pairs = nearest_pairs(sample.data)
    if not pairs:
        return Skipped("repulsion", "a single atom has no pair")
    lowest, depth, names = math.inf, 0.0, ""
    for pair, (_, i, j) in pairs.items():
        climb, fall = _climb_and_fall(unit * _pushed(subject, sample.data, i, j))
        if not climb >= HIGH and not fall <= depth:
            depth = fall
        if not climb >= lowest:
            lowest, names = climb, "-".join(SYMBOLS[z] for z in pair)
    what = f"eV that the energy rises, at least {HIGH:g}, when a pair is pushed to {CLOSEST:g} of its distance"
    if lowest >= HIGH:
        return Check("repulsion", "PASS", lowest, HIGH, what, "", sample.name)
    deep = not depth <= (DEEP_IF_TRAINED if subject.trained else DEEP)
    hole = f"a hole of {depth:.1f} eV lies" if deep else "hardly any repulsion is"
    remedy = f"{hole} behind {names} at short distance: {_remedy(subject, 'compressed structures')}"
    return Check("repulsion", "FAIL" if deep else "WARN", lowest, HIGH, what, remedy, sample.name)


def check_isolated_pairs(subject: Subject) -> Check | Skipped:
    """Two atoms alone, of each two elements that the model knows, from 2.5 to 0.4 Angstrom."""
    unit, known = subject.energy_unit, subject.elements
    if unit is None:
        return Skipped("isolated pairs", subject.no_forces or "what is predicted is no energy of a whole structure")
    if not known:
        return Skipped("isolated pairs", "the elements of the training are not known")
    counts = {z: min(one.elements.get(z, 0) for one in subject.network.training_sets) for z in known}
    common = sorted(sorted(known, key=lambda z: -counts[z])[:MOST_ELEMENTS])
    distances = torch.linspace(2.5, 0.4, 43, dtype=torch.float64)
    lowest, names = math.inf, ""
    for pair in combinations_with_replacement(common, 2):
        z = torch.tensor(pair)
        dimers = [
            Data(z=z, pos=torch.tensor([[0.0, 0, 0], [d, 0, 0]], dtype=torch.float64)) for d in distances.tolist()
        ]
        climb, _ = _climb_and_fall(unit * subject.exact.values(Batch.from_data_list(dimers))[:, 0])
        if not climb >= lowest:
            lowest, names = climb, "-".join(SYMBOLS[number] for number in pair)
    what = f"eV that the energy rises, at least {HIGH:g}, when two atoms alone approach to 0.4 Angstrom"
    if lowest >= HIGH:
        return Check("isolated pairs", "PASS", lowest, HIGH, what)
    remedy = f"two atoms {names} alone do not repel: {_remedy(subject, 'such pairs')}, before atoms meet at random"
    return Check("isolated pairs", "WARN", lowest, HIGH, what, remedy)


def _remedy(subject: Subject, examples: str) -> str:
    """What helps where atoms do not repel; a repulsion ends before bonds, and so helps where there are bonds."""
    has_one = all(one.config.get("repulsion") is not None for one in subject.members)
    return f"train on {examples}" + ("" if has_one else ", or give a new model repulsion='zbl'")


def _pushed(subject: Subject, data: Data, first: int, second: int) -> Tensor:
    """Energies [PUSHES + 1] while both atoms approach each other."""
    between = data.pos[second] - data.pos[first]
    found = []
    for step in range(PUSHES + 1):
        share = (1 - CLOSEST) * step / PUSHES / 2
        pos = data.pos.clone()
        pos[first] += share * between
        pos[second] -= share * between
        found.append(with_positions(data, pos))
    if data.z.numel() > MOST_AT_ONCE:
        return torch.cat([subject.exact.values(one)[:, 0] for one in found])
    return subject.exact.values(Batch.from_data_list(found))[:, 0]


def _climb_and_fall(energy: Tensor) -> tuple[float, float]:
    """How far the energy rises on its way to the highest point, and how far below the start it falls after that."""
    if not bool(energy.isfinite().all()):
        return math.nan, math.nan
    top = int(energy.argmax())
    return float(energy[top] - energy[: top + 1].min()), max(float(energy[0] - energy[top:].min()), 0.0)


def _shares(z: Tensor) -> dict[int, int]:
    numbers, counts = torch.unique(z, return_counts=True)
    return _normal(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def _normal(counts: dict[int, int]) -> dict[int, int]:
    divisor = math.gcd(*counts.values()) or 1
    return {z: count // divisor for z, count in counts.items()}
