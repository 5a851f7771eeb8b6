"""What a drawing of a structure needs: its atoms, its bonds, and a plane to lay it on."""

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.graph import check_structures, radius_graph

#: Atoms are bonded up to so many times the sum of their covalent radii.
BOND_TOLERANCE = 1.25
#: Degrees by which a structure is turned, the distance in Angstrom that shows two atoms, and when not to try.
_TILTS, _APART, _MANY_ATOMS = (-30, -15, 0, 15, 30), 0.5, 300


class View(NamedTuple):
    """A structure as seen along one direction.

    Attributes:
        points: Places of the atoms on the plane in Angstrom [N, 2] float64.
        depth: Distance towards the viewer in Angstrom [N] float64.
        axes: Directions to the right, up and towards the viewer, as rows [3, 3] float64.
        origin: The point of space that lies at zero [3] float64.
    """

    points: Tensor
    depth: Tensor
    axes: Tensor
    origin: Tensor


def atoms_of(data: Any) -> tuple[Tensor, Tensor]:
    """Atomic numbers and positions of one structure, checked, on the CPU.

    Args:
        data: A ``Data`` with ``z`` [N] and ``pos`` [N, 3] in Angstrom; a ``Batch`` of one structure is one, too.

    Returns:
        Atomic numbers [N] int64 and positions [N, 3] float64.

    Raises:
        TypeError: If ``data`` is no ``Data``, or holds others than tensors of the right kind.
        ValueError: If there is no atom or more than one structure, or a shape or a position is impossible.

    Example:
        >>> atoms_of(Data(z=torch.tensor([1, 1]), pos=torch.tensor([[0.0, 0, 0], [0, 0, 0.75]])))[0]
        tensor([1, 1])
    """
    if not isinstance(data, Data):
        hint = "; pyg_schnet.simulation.ase.atoms_to_data(atoms) makes one" if hasattr(data, "positions") else ""
        raise TypeError(f"`data` must be a Data of PyG with `z` and `pos`, got {type(data).__name__}{hint}")
    if isinstance(data, Batch) and data.num_graphs != 1:
        raise ValueError(
            f"`data` holds {data.num_graphs} structures, expected one; take them one by one from data.to_data_list()"
        )
    z, pos = data.get("z"), data.get("pos")
    for name, value in (("z", z), ("pos", pos)):
        if not isinstance(value, Tensor):
            raise ValueError(f"`data` must have `z` [N] and `pos` [N, 3]; `{name}` is missing")
    if z.dtype != torch.long:
        raise TypeError(f"`z` must hold atomic numbers as int64 [N], got {z.dtype}; convert them, for example z.long()")
    batch = data.get("batch")
    _, structures = check_structures(pos, batch)
    if structures != 1 or len(pos) == 0:
        raise ValueError(
            f"expected one structure with atoms, got {structures} with {len(pos)} atoms; pass them one by one"
        )
    if z.shape != pos.shape[:1]:
        raise ValueError(f"`z` must have shape [{pos.size(0)}] like `pos`, got {list(z.shape)}")
    if int(z.min()) < 1 or int(z.max()) > 118:
        raise ValueError(f"`z` must hold atomic numbers from 1 to 118, got {int(z.min())} to {int(z.max())}")
    return z.cpu(), pos.detach().cpu().double()


def covalent_radii(z: Tensor) -> Tensor:
    """Covalent radii, those of Cordero et al., Dalton Trans. 2832 (2008), from ASE (extra ``md``).

    Args:
        z: Atomic numbers [N].

    Returns:
        Radii in Angstrom [N] float64; 0.2 for elements without one.

    Raises:
        ImportError: If ASE is missing.

    Example:
        >>> covalent_radii(torch.tensor([1, 6])).tolist()
        [0.31, 0.76]
    """
    try:
        from ase.data import covalent_radii as radii  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('drawing atoms needs the radii of ASE; pip install "pyg_schnet[md]"') from error
    return torch.as_tensor(radii, dtype=torch.float64)[z.cpu()]


def bonds(data: Data, tolerance: float = BOND_TOLERANCE) -> Tensor:
    """Pairs of atoms that a chemist would connect: those not much farther apart than the sum of their covalent radii.

    Of a crystal only the bonds between atoms as they stand in the cell are found, not those to images.

    Args:
        data: One structure.
        tolerance: Largest distance in units of that sum.

    Returns:
        Numbers of the atoms [2, M], the smaller one first, sorted.

    Raises:
        ImportError: If ASE is missing.
        TypeError, ValueError: As :func:`atoms_of`; if two atoms are at the same place or ``tolerance`` is not positive.

    Example:
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> bonds(water)
        tensor([[0, 0],
                [1, 2]])
    """
    z, pos = atoms_of(data)
    radii = covalent_radii(z)
    reach = 2.0 * tolerance * float(radii.max())
    if not 0.0 < reach < float("inf"):
        raise ValueError(f"`tolerance` must be positive, got {tolerance}")
    i, j = radius_graph(pos, reach).edge_index
    bonded = (i < j) & ((pos[i] - pos[j]).norm(dim=1) <= tolerance * (radii[i] + radii[j]))
    found = torch.stack([i[bonded], j[bonded]])
    return found[:, torch.argsort(found[0] * len(z) + found[1])]


def view_of(data: Data, axes: Tensor | None = None, origin: Tensor | None = None) -> View:
    """Lay a structure on a plane, by default nearly the one in which it extends most.

    The directions of largest extent are the principal axes of the positions, each with its largest component
    positive; the longest one points to the right. Where an atom would hide another, as hydrogen atoms of ethanol do,
    the structure is turned by the smallest angle, up to 30 degrees about either axis, that separates them.

    Args:
        data: One structure.
        axes: Directions to the right and up [2, 3], which must be orthogonal; ``None`` for those of largest extent.
        origin: The point of space [3] that lies at zero; ``None`` for the centre of the atoms.

    Returns:
        The places of the atoms.

    Raises:
        TypeError, ValueError: As :func:`atoms_of`; if ``axes`` span no plane or are not orthogonal.

    Example:
        >>> upright = Data(z=torch.tensor([6, 8]), pos=torch.tensor([[0.0, 0, -0.5], [0, 0, 0.5]]))
        >>> view_of(upright).points.abs()  # it lies on its side
        tensor([[0.5000, 0.0000],
                [0.5000, 0.0000]], dtype=torch.float64)
    """
    _, pos = atoms_of(data)
    zero = pos.mean(0) if origin is None else torch.as_tensor(origin, dtype=torch.float64)
    turned = _separating(pos, _principal_axes(pos - pos.mean(0))) if axes is None else _checked_axes(axes)
    places = (pos - zero) @ turned.T  # [N, 3]
    return View(places[:, :2], places[:, 2], turned, zero)


def _principal_axes(pos: Tensor) -> Tensor:
    rows = torch.linalg.svd(pos, full_matrices=True).Vh[:2]  # [2, 3], longest first
    largest = rows.abs().argmax(1, keepdim=True)
    rows = rows * rows.gather(1, largest).sign()
    return torch.cat([rows, torch.linalg.cross(rows[:1], rows[1:])])


def _separating(pos: Tensor, axes: Tensor) -> Tensor:
    """Axes turned so far that no atom hides another, or as far apart as they come."""
    if not 1 < len(pos) <= _MANY_ATOMS:
        return axes
    best, apart = axes, -1.0
    for turn in sorted(itertools.product(_TILTS, _TILTS), key=lambda tilts: (abs(tilts[0]) + abs(tilts[1]), tilts)):
        turned = _rotation(0, turn[0]) @ _rotation(1, turn[1]) @ axes
        nearest = float(torch.pdist(pos @ turned[:2].T).min())
        if nearest > apart + 1e-6:
            best, apart = turned, nearest
        if apart > _APART:
            break
    return best


def _rotation(axis: int, degrees: int) -> Tensor:
    angle = math.radians(degrees)
    matrix = torch.eye(3, dtype=torch.float64)
    i, j = (place for place in range(3) if place != axis)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def _checked_axes(axes: Tensor) -> Tensor:
    rows = torch.as_tensor(axes, dtype=torch.float64).cpu()
    if rows.shape not in {(2, 3), (3, 3)}:
        raise ValueError(f"`axes` must be the directions to the right and up [2, 3], got {list(rows.shape)}")
    rows = rows[:2] / rows[:2].norm(dim=1, keepdim=True)
    if not float((rows[0] @ rows[1]).abs()) < 1e-6:
        raise ValueError(f"`axes` must be two orthogonal directions [2, 3], got {torch.as_tensor(axes).tolist()}")
    return torch.cat([rows, torch.linalg.cross(rows[:1], rows[1:])])
