"""Structures to check a model with: those of the user, or some of the elements that the model knows."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.doctor.subject import Subject
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.units import SYMBOLS

#: How far atoms are moved at random, in Angstrom: at a symmetric place forces vanish and hide what is wrong.
RATTLE = 0.03
#: No pair may come that near to the cutoff, in Angstrom, where derivatives are taken by finite differences.
CLEAR = 4e-3
#: A cluster has an atom with so many neighbours, or so many atoms.
NEIGHBOURS, LARGEST = 44, 120

_ACETAMIDE = (
    (8, 6, 7, 6, 1, 1, 1, 1, 1),
    (
        (0.425, 1.327, 0.008), (0.077, 0.150, -0.004), (0.986, -0.879, -0.049), (-1.371, -0.289, 0.0),
        (0.708, -1.824, 0.170), (-1.997, 0.585, -0.175), (-1.561, -1.039, -0.772), (-1.632, -0.723, 0.970),
        (1.953, -0.632, 0.112),
    ),
)  # fmt: skip
_METHANOL = (
    (6, 8, 1, 1, 1, 1),
    (
        (-0.047, 0.664, 0.0), (-0.047, -0.759, 0.0), (-1.093, 0.970, 0.0), (0.879, -1.048, 0.0),
        (0.437, 1.080, 0.892), (0.437, 1.080, -0.892),
    ),
)  # fmt: skip
_AMMONIA = ((7, 1, 1, 1), ((0.0, 0.0, 0.116), (0.0, 0.94, -0.272), (0.814, -0.47, -0.272), (-0.814, -0.47, -0.272)))
_METHANE = (
    (6, 1, 1, 1, 1),
    ((0.0, 0.0, 0.0), (0.629, 0.629, 0.629), (-0.629, -0.629, 0.629), (0.629, -0.629, -0.629), (-0.629, 0.629, -0.629)),
)
_WATERS = ((8, 1, 1, 8, 1, 1), ((0.0, 0.0, 0.119), (0.0, 0.763, -0.477), (0.0, -0.763, -0.477),
                                (0.9, 0.3, 2.9), (0.7, 0.2, 1.95), (1.8, 0.0, 3.1)))  # fmt: skip
_MOLECULES = {
    "acetamide": _ACETAMIDE,
    "methanol": _METHANOL,
    "ammonia": _AMMONIA,
    "methane": _METHANE,
    "two waters": _WATERS,
}
#: Frames of bundled trajectories.
_TRAJECTORIES = {"ethanol": "ethanol_xtb", "malonaldehyde": "malonaldehyde_xtb", "C20": "c20_xtb"}
_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_ROCKSALT = (*_FCC, *((x + 0.5, y, z) for x, y, z in _FCC))
_DIAMOND = (*_FCC, *((x + 0.25, y + 0.25, z + 0.25) for x, y, z in _FCC))
_BCC = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
#: Lattice constant in Angstrom, places, and the elements of the first and the second half of them.
_CRYSTALS = {
    "MgO": (4.21, _ROCKSALT, (12, 8)),
    "NaCl": (5.64, _ROCKSALT, (11, 17)),
    "LiF": (4.03, _ROCKSALT, (3, 9)),
    "silicon": (5.43, _DIAMOND, (14, 14)),
    "diamond": (3.57, _DIAMOND, (6, 6)),
    "aluminium": (4.05, _FCC, (13, 13)),
    "copper": (3.61, _FCC, (29, 29)),
    "iron": (2.87, _BCC, (26, 26)),
}


class Sample(NamedTuple):
    """A structure and its name.

    Attributes:
        name: What it is called in the report.
        data: ``z``, ``pos`` float64 and, if there is one, ``cell`` and ``pbc``, on the CPU.
        own: True if it was made here.
    """

    name: str
    data: Data
    own: bool = False

    @property
    def periodic(self) -> bool:
        """True if an axis is periodic."""
        pbc = self.data.get("pbc")
        return pbc is not None and bool(pbc.any())


def given_samples(structures: list[Data]) -> list[Sample]:
    """Structures of the user, by their formula.

    Args:
        structures: Structures with ``z`` and ``pos``.

    Returns:
        The samples, as they are but for numbers in double precision.
    """
    return [Sample(_formula(data.z), _double(data)) for data in structures]


def made_samples(subject: Subject) -> list[Sample]:
    """Structures of the elements that a model knows, a molecule or crystal and something periodic.

    Args:
        subject: The model.

    Returns:
        One or two samples.
    """
    known = subject.elements
    largest = min(member.embedding.max_z for member in subject.members)
    allowed = set(range(1, largest + 1) if known is None else known)
    molecule = _molecule(subject, allowed)
    crystal = next((_crystal(name) for name, (*_, z) in _CRYSTALS.items() if {*z} <= allowed), None)
    if molecule is None and crystal is None:
        crystal = _lattice(SYMBOLS[min(allowed)], 4.0, _FCC, (min(allowed), min(allowed)))
    for_crystals = subject.members[0].config.get("normalization") is not None or subject.kind == "mean"
    if molecule is None or (for_crystals and crystal is not None):
        return [crystal]  # type: ignore[list-item]
    if subject.jumps or subject.is_moment:  # images would cross the cutoff; crystals have no moments
        return [molecule]
    return [molecule, _in_a_box(molecule, max(subject.cutoffs))]


def rattled(sample: Sample, subject: Subject, seed: int = 0) -> Sample:
    """The same structure with atoms moved a little at random, and no pair just at a cutoff.

    Args:
        sample: The structure.
        subject: The model, whose cutoffs count.
        seed: Of the random numbers.

    Returns:
        The moved structure.
    """
    generator = torch.Generator().manual_seed(seed)
    data = sample.data
    moved = with_positions(data, data.pos + RATTLE * (2 * torch.rand(data.pos.shape, generator=generator).double() - 1))
    for step in range(12):
        stretched = scaled(moved, 1 - 1.3e-3 * step)
        if all(_clear(stretched, cutoff) for cutoff in subject.cutoffs):
            return sample._replace(data=stretched)
    return sample._replace(data=moved)


def _clear(data: Data, cutoff: float) -> bool:
    distances = pair_distances(data, cutoff + CLEAR)
    return not bool((distances - cutoff).abs().lt(CLEAR).any())


def pair_distances(data: Data, cutoff: float) -> Tensor:
    """Distances of all pairs within a cutoff, images included; by brute force, independent of any search.

    Args:
        data: A structure.
        cutoff: In Angstrom.

    Returns:
        Distances in Angstrom of all directed pairs [E].
    """
    vectors = data.pos.unsqueeze(0) - data.pos.unsqueeze(1)  # [N, N, 3]
    itself = torch.eye(len(data.pos), dtype=torch.bool)
    found = []
    for shift, offset in images(data, cutoff):
        distances = (vectors + offset).norm(dim=-1)
        near = distances < cutoff
        found.append(distances[near & ~itself] if not any(shift) else distances[near])
    return torch.cat(found)


def images(data: Data, cutoff: float) -> list[tuple[tuple[int, ...], Tensor]]:
    """Lattice translations that may bring atoms within a cutoff of each other, zero among them."""
    pbc, cell = data.get("pbc"), data.get("cell")
    if pbc is None or cell is None or not bool(pbc.any()):
        return [((0, 0, 0), torch.zeros(3, dtype=torch.float64))]
    cell, axes = cell.reshape(3, 3).double(), pbc.reshape(3).tolist()
    extent = float((data.pos.amax(0) - data.pos.amin(0)).norm())
    lattice = lattice_of(cell.unsqueeze(0), pbc.reshape(1, 3), 1, cell.device)  # open axes may have no vector
    heights = [0.0] * 3 if lattice is None else lattice.height[0].tolist()  # distances between lattice planes
    reach = [math.ceil((cutoff + extent) / height) if on else 0 for height, on in zip(heights, axes, strict=True)]
    steps = torch.cartesian_prod(*(torch.arange(-r, r + 1) for r in reach)).reshape(-1, 3)
    return [(tuple(step.tolist()), step.double() @ cell) for step in steps]


def cluster_of(sample: Sample, cutoff: float) -> Data:
    """Many atoms close to each other: copies of a structure side by side, without periodic axes.

    Args:
        sample: The structure.
        cutoff: Up to which neighbours count, in Angstrom.

    Returns:
        An open structure in which an atom has 44 neighbours, unless that takes more than 120 atoms.
    """
    data = sample.data
    size = data.pos.amax(0) - data.pos.amin(0)
    edges = torch.diag(size + 1.7)
    if sample.periodic:  # an open axis may have no vector, or one that leads to nowhere
        along = data.pbc.reshape(3, 1)
        lattice = lattice_of(data.cell.reshape(1, 3, 3).double(), data.pbc.reshape(1, 3), 1, data.pos.device)
        full = edges if lattice is None else lattice.cell[0] * (size.norm() + 1.7)
        edges = torch.where(along, data.cell.reshape(3, 3).double(), full)
    counts = [1, 1, 1]
    while True:
        steps = torch.cartesian_prod(*(torch.arange(count) for count in counts)).reshape(-1, 3).double()
        pos = (data.pos.unsqueeze(0) + (steps @ edges).unsqueeze(1)).reshape(-1, 3)
        near = torch.cdist(pos, pos).lt(cutoff).sum(1).max() - 1
        lengths = torch.tensor(counts) * edges.norm(dim=1)
        axis = int(lengths.argmin())
        if near >= NEIGHBOURS or len(pos) // counts[axis] * (counts[axis] + 1) > LARGEST:
            break
        counts[axis] += 1
    generator = torch.Generator().manual_seed(3)
    pos = pos + RATTLE * (2 * torch.rand(pos.shape, generator=generator).double() - 1)
    return Data(z=data.z.repeat(len(steps)), pos=pos)


def with_positions(data: Data, pos: Tensor) -> Data:
    """The same structure with other positions."""
    return Data(z=data.z, pos=pos, **{name: data[name] for name in ("cell", "pbc") if data.get(name) is not None})


def scaled(data: Data, factor: float | Tensor) -> Data:
    """The structure and its cell, as rows, times a number or a matrix [3, 3]."""
    matrix = factor * torch.eye(3, dtype=torch.float64) if isinstance(factor, float) else factor
    moved = with_positions(data, data.pos @ matrix)
    if data.get("cell") is not None:
        moved.cell = data.cell @ matrix
    return moved


def repeated(data: Data, axis: int) -> Data:
    """A crystal twice as long along a lattice vector, the copy behind the first one."""
    cell = data.cell.clone()
    pos = torch.cat([data.pos, data.pos + cell[0, axis]])
    cell[0, axis] *= 2
    return Data(z=data.z.repeat(2), pos=pos, cell=cell, pbc=data.pbc)


def _molecule(subject: Subject, allowed: set[int]) -> Sample | None:
    """A molecule of known elements; of the only composition, if all training examples had one."""
    sets = subject.network.training_sets
    if sets and all(one.compositions == 1 for one in sets):
        atoms = sets[0].elements
        shares = {z: count // math.gcd(*atoms.values()) for z, count in atoms.items()}
        for name in _TRAJECTORIES:
            found = _frame(name)
            if _shares(found.data.z) == shares:
                return found
    for name, (z, pos) in _MOLECULES.items():
        if {*z} <= allowed:
            data = Data(z=torch.tensor(z), pos=torch.tensor(pos, dtype=torch.float64))
            return Sample(name, data, own=True)
    return _frame("C20") if 6 in allowed else None


def _frame(name: str) -> Sample:
    """The first frame of a bundled trajectory."""
    folder = bundled_path(_TRAJECTORIES[name])
    with np.load(folder / f"{folder.name}.npz") as stored:
        z, pos = stored["z"], stored["R"][0]
    return Sample(name, Data(z=torch.tensor(z).long(), pos=torch.tensor(pos, dtype=torch.float64)), own=True)


def c20_sample() -> Sample:
    """The first frame of the bundled trajectory of C20."""
    return _frame("C20")


def _crystal(name: str) -> Sample:
    return _lattice(name, *_CRYSTALS[name])


def _lattice(
    name: str, length: float, places: tuple[tuple[float, float, float], ...], elements: tuple[int, int]
) -> Sample:
    half = len(places) // 2
    z = torch.tensor([elements[0]] * half + [elements[1]] * (len(places) - half))
    cell = length * torch.eye(3, dtype=torch.float64)[None]
    pos = length * torch.tensor(places, dtype=torch.float64)
    return Sample(f"crystal of {name}", Data(z=z, pos=pos, cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool)), own=True)


def _in_a_box(molecule: Sample, cutoff: float) -> Sample:
    """A molecule and its periodic images, not too many of which are within the cutoff."""
    data = molecule.data
    size = data.pos.amax(0) - data.pos.amin(0) + max(2.6, cutoff / 2)
    cell = torch.diag(size)[None]
    cell[0, 1, 0] = 0.15 * float(size[0])  # no angle is right, or errors of its sine could hide
    boxed = Data(z=data.z, pos=data.pos, cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))
    return Sample(f"{molecule.name} in a periodic box", boxed, own=True)


def _double(data: Data) -> Data:
    fields = {"z": data.z.cpu(), "pos": data.pos.detach().double().cpu()}
    cell, pbc = data.get("cell"), data.get("pbc")
    if cell is not None and bool(cell.any()):
        fields["cell"] = cell.detach().double().cpu().reshape(1, 3, 3)
        fields["pbc"] = torch.zeros(1, 3, dtype=torch.bool) if pbc is None else pbc.cpu().reshape(1, 3)
    return Data(**fields)


def _shares(z: Tensor) -> dict[int, int]:
    numbers, counts = torch.unique(z, return_counts=True)
    divisor = math.gcd(*counts.tolist())
    return {n: count // divisor for n, count in zip(numbers.tolist(), counts.tolist(), strict=True)}


def _formula(z: Tensor) -> str:
    numbers, counts = torch.unique(z, return_counts=True)
    found = zip(numbers.tolist(), counts.tolist(), strict=True)
    symbols = [(SYMBOLS[n] if 0 < n < len(SYMBOLS) else f"[{n}]", count) for n, count in found]
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in symbols)
