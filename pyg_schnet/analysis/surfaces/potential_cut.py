"""The local chemical potential on a plane through a molecule or crystal: the numbers of figure 6."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.checks import positive
from pyg_schnet.analysis.molecule import atoms_of, view_of
from pyg_schnet.analysis.surfaces.probing import Near, atoms_near, closest, feel

#: Atoms within this distance in Angstrom of a plane are said to be in it.
IN_PLANE = 0.3
#: Size of a cut of a crystal, and how far it goes beyond a molecule, in Angstrom.
CRYSTAL, AROUND = 8.0, 2.0
#: Largest number of points of a cut.
MOST_POINTS = 4_000_000


class PotentialCut(NamedTuple):
    """What a probe feels on a plane.

    Attributes:
        x: Coordinates along the first axis in Angstrom [X] float64, zero at the origin of the cut.
        y: Coordinates along the second axis in Angstrom [Y] float64.
        values: Local chemical potential [Y, X] float64; NaN closer than ``nearest`` to an atom.
        reference: What the references of the model alone say of the probe; pictures show the difference.
        unit: Unit of both, eV for energies.
        probe: Atomic number of the probe.
        nearest: Distance in Angstrom from an atom below which nothing is said.
        atoms: Places on the plane [M, 2], in Angstrom, of the atoms and images in it.
        z: Their atomic numbers [M].
        axes: The axes of the plane and its normal, as rows [3, 3].
        origin: The point of space at zero [3].
    """

    x: Tensor
    y: Tensor
    values: Tensor
    reference: float
    unit: str
    probe: int
    nearest: float
    atoms: Tensor
    z: Tensor
    axes: Tensor
    origin: Tensor


def potential_cut(
    model: Any,
    data: Data,
    origin: Sequence[float] | Tensor | None = None,
    axes: Sequence[Sequence[float]] | Tensor | None = None,
    size: float | tuple[float, float] | None = None,
    resolution: float = 0.05,
    probe: int = 6,
    *,
    nearest: float = 0.25,
    target: int = 0,
    progress: bool = True,
) -> PotentialCut:
    r"""The local chemical potential :math:`\Omega_{Z_\mathrm{probe}}(r)` on a plane.

    As in figure 6 of Schütt et al., J. Chem. Phys. 148, 241722 (2018), by default with a carbon atom as probe. No atoms
    of a training set are so close to one another as a probe on the plane of the atoms gets to them; the closer it
    gets, the more what it feels is an accident of the network, and on top of an atom it is not defined. Points closer
    than ``nearest`` to an atom are left out. What is beyond, up to about the shortest bond that the model has seen, is
    extrapolated too.

    Args:
        model: As in :func:`~pyg_schnet.analysis.local_chemical_potential`.
        data: One structure: ``z`` and ``pos``, in crystals ``cell`` and ``pbc``.
        origin: The point of space in the middle of the cut [3] in Angstrom; ``None`` for the middle of a molecule, or
            the first atom of a crystal.
        axes: Two directions that span the plane [2, 3], of any length; the first one points to the right, the second
            one, made orthogonal to it, up. ``None`` for the plane of the largest extent of a molecule, or of the
            first two periodic lattice vectors of a crystal.
        size: Width and height in Angstrom, or one number for both; ``None`` for 2 Å around a molecule, or 8 Å of a
            crystal.
        resolution: Distance of the points in Angstrom.
        probe: Atomic number of the probe.
        nearest: Distance from an atom below which the potential is not shown, in Angstrom.
        target: Which of the model's targets, if it has several.
        progress: True to show a progress bar if it takes more than two seconds.

    Returns:
        The potential on the plane, and the atoms in it.

    Raises:
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.local_chemical_potential`; if the plane, its size or its
            resolution is impossible.

    Example:
        >>> from pyg_schnet import SchNet
        >>> copper = Data(z=torch.tensor([29]), pos=torch.zeros(1, 3))
        >>> copper.cell, copper.pbc = 2.5 * torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
        >>> cut = potential_cut(SchNet(16, 16, 1, cutoff=5.0), copper, size=6.0, resolution=0.5)
        >>> cut.values.shape, len(cut.atoms), round(float(cut.values.isnan().double().mean()), 3)
        (torch.Size([13, 13]), 9, 0.053)
    """
    z, pos = atoms_of(data)
    nearest = positive("nearest", nearest, "the smallest distance from an atom in Angstrom")
    crystal = _is_crystal(data)
    directions = _default_axes(data, crystal) if axes is None else _plane(axes)
    middle = _middle(pos, directions, crystal) if origin is None else _vector("origin", origin, (3,))
    if size is None:
        seen = pos @ directions[:2].T  # [N, 2]
        size = CRYSTAL if crystal else tuple((seen.amax(0) - seen.amin(0) + 2 * AROUND).tolist())
    x, y = _sides(size, resolution)
    grid = torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], 1)  # [Y * X, 2]
    points = middle + grid @ directions[:2]
    near = atoms_near(data, points, max(nearest, math.hypot(IN_PLANE, resolution)))
    outside = closest(near, len(points))[0] >= nearest
    felt = feel(model, data, points[outside], probe, target, progress)
    values = torch.full((len(points),), torch.nan, dtype=torch.float64)
    values[outside] = felt.values
    places, atoms = _in_plane(near, grid, directions, x, y)
    values = values.view(len(y), len(x))
    facts = (felt.reference, felt.unit, int(probe), nearest)
    return PotentialCut(x, y, values, *facts, places, z[atoms], directions, middle)


def _vector(name: str, given: Any, shape: tuple[int, ...]) -> Tensor:
    try:
        found = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be numbers {list(shape)} in Angstrom, got {given!r}") from None
    if found.shape != shape or not found.isfinite().all():
        raise ValueError(f"`{name}` must be finite numbers {list(shape)} in Angstrom, got {found.tolist()}")
    return found


def _is_crystal(data: Data) -> bool:
    """True if two axes are periodic, which make a plane."""
    pbc = data.get("pbc")
    return pbc is not None and data.get("cell") is not None and int(pbc.sum()) >= 2


def _middle(pos: Tensor, axes: Tensor, crystal: bool) -> Tensor:
    """The first atom of a crystal; of a molecule the middle of its extent, as far above the plane as its atoms are."""
    if crystal:
        return pos[0]
    seen = pos @ axes.T
    middle = 0.5 * (seen.amin(0) + seen.amax(0))
    middle[2] = seen[:, 2].mean()
    return middle @ axes


def _plane(axes: Any) -> Tensor:
    """Orthonormal axes of a plane and its normal [3, 3]."""
    first, second = _vector("axes", axes, (2, 3))
    first_length, second_length = float(first.norm()), float(second.norm())
    first = first / max(first_length, 1e-300)
    rest = second - (second @ first) * first
    if min(first_length, second_length) == 0.0 or float(rest.norm()) < 1e-6 * second_length:
        raise ValueError(
            f"`axes` must be two directions that are not parallel [2, 3], got {torch.as_tensor(axes).tolist()}"
        )
    second = rest / rest.norm()
    return torch.stack([first, second, torch.linalg.cross(first, second)])


def _default_axes(data: Data, crystal: bool) -> Tensor:
    if not crystal:
        return view_of(data).axes
    return _plane(data.cell.detach().cpu().double().view(3, 3)[data.pbc.cpu().view(3)][:2])


def _sides(size: Any, resolution: float) -> tuple[Tensor, Tensor]:
    both = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(both) != 2:
        raise ValueError(f"`size` must be a width and a height in Angstrom, or one number for both, got {size}")
    width, height = both
    width, height = positive("size", width, "Angstrom"), positive("size", height, "Angstrom")
    resolution = positive("resolution", resolution, "Angstrom")
    if resolution > min(width, height):
        raise ValueError(
            f"`resolution` must not be larger than the cut, {width:g} by {height:g} Angstrom, got {resolution}"
        )
    counts = [round(side / resolution) + 1 for side in (width, height)]
    if math.prod(counts) > MOST_POINTS:
        raise ValueError(
            f"the cut would have {math.prod(counts):,} points, expected at most {MOST_POINTS:,}; pass a smaller `size` "
            "or a larger `resolution`"
        )
    x, y = (
        torch.linspace(-0.5 * side, 0.5 * side, n, dtype=torch.float64)
        for side, n in zip((width, height), counts, strict=True)
    )
    return x, y


def _in_plane(near: Near, grid: Tensor, axes: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Places on the plane [M, 2] and numbers [M] of the atoms and images in it, each once."""
    turned = near.arrow @ axes.T  # [E, 3]
    places, high = grid[near.point] - turned[:, :2], turned[:, 2].abs()
    slack = 1e-6
    inside = (high <= IN_PLANE) & (places[:, 0].abs() <= x[-1] + slack) & (places[:, 1].abs() <= y[-1] + slack)
    places, atoms = places[inside], near.atom[inside]
    same = torch.cat([atoms[:, None], (places * 1e4).round().long()], 1)
    _, which = torch.unique(same, dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1 if len(which) else 0,), len(which), dtype=torch.long)
    first = first.scatter_reduce(0, which, torch.arange(len(which)), "amin")
    return places[first], atoms[first]
