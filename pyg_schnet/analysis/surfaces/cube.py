"""Functions of space as Gaussian cube files, which programs that draw molecules and crystals read (extra ``md``)."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.checks import positive
from pyg_schnet.analysis.molecule import atoms_of
from pyg_schnet.analysis.surfaces.probing import atoms_near, closest, feel
from pyg_schnet.files import replacing
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.units import SYMBOLS

#: Largest number of points of a grid.
MOST_POINTS = 30_000_000


class Grid(NamedTuple):
    """A regular grid around a molecule, or over the cell of a crystal.

    Attributes:
        points: Points in Angstrom [X * Y * Z, 3] float64, the last axis fastest.
        shape: Number of points along each axis.
        origin: The first point [3].
        cell: What the grid spans, as rows [3, 3]: its steps times their numbers; along periodic axes the lattice
            vectors.
    """

    points: Tensor
    shape: tuple[int, int, int]
    origin: Tensor
    cell: Tensor


def grid_of(data: Data, spacing: float = 0.2, padding: float = 3.0) -> Grid:
    """A regular grid around a molecule, or over the cell of a crystal.

    Along periodic axes the grid divides the lattice vector, so that the image of its first plane follows upon the last
    one. Along open axes it goes beyond the atoms, along the axes of space if none is periodic, else at right angles to
    those that are.

    Args:
        data: One structure: ``z`` and ``pos``, in crystals ``cell`` and ``pbc``.
        spacing: Largest distance of grid planes along an axis, in Angstrom.
        padding: How far to go beyond the atoms along open axes, in Angstrom.

    Returns:
        The grid.

    Raises:
        TypeError: If ``data`` is no ``Data``.
        ValueError: If the structure, ``spacing`` or ``padding`` is impossible, or the grid would be too large.

    Example:
        >>> atom = Data(z=torch.tensor([6]), pos=torch.ones(1, 3))
        >>> grid = grid_of(atom, spacing=0.5, padding=2.0)
        >>> grid.shape, grid.origin.tolist(), grid.points[-1].tolist()
        ((9, 9, 9), [-1.0, -1.0, -1.0], [3.0, 3.0, 3.0])
    """
    _, pos = atoms_of(data)
    spacing = positive("spacing", spacing, "Angstrom")
    padding = positive("padding", padding, "Angstrom")
    cell, pbc = data.get("cell"), data.get("pbc")
    cell = None if cell is None else cell.detach().cpu()
    lattice = lattice_of(cell, None if pbc is None else pbc.cpu(), 1, pos.device)
    vectors = torch.eye(3, dtype=torch.float64) if lattice is None else lattice.cell[0]
    periodic = [False] * 3 if lattice is None else lattice.pbc[0].tolist()
    places = pos @ torch.linalg.inv(vectors)
    low, high = places.amin(0) - padding, places.amax(0) + padding  # of open axes, whose vectors have length one
    lengths = [float(vectors[axis].norm()) if periodic[axis] else float(high[axis] - low[axis]) for axis in range(3)]
    steps = [max(1, math.ceil(length / spacing - 1e-9)) for length in lengths]
    shape = tuple(n if closed else n + 1 for n, closed in zip(steps, periodic, strict=True))
    if math.prod(shape) > MOST_POINTS:
        raise ValueError(
            f"the grid would have {math.prod(shape):,} points, expected at most {MOST_POINTS:,}; pass a larger "
            "`spacing`"
        )
    step = torch.stack(
        [vectors[axis] * ((1.0 if periodic[axis] else lengths[axis]) / steps[axis]) for axis in range(3)]
    )
    origin = torch.where(torch.tensor(periodic), 0.0, low) @ vectors
    numbers = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in shape))
    return Grid(origin + numbers @ step, shape, origin, step * torch.tensor(shape).unsqueeze(1))  # type: ignore[arg-type]


def write_cube(
    path: str | Path,
    data: Data,
    function: Callable[[Tensor], Any],
    *,
    spacing: float = 0.2,
    padding: float = 3.0,
    comment: str = "",
) -> Path:
    """Write a function of space on a regular grid, with the atoms, as a Gaussian cube file.

    Lengths are in Bohr, as the format wants; numbers are those of the function, with seven digits. ASE reads them back
    by ``ase.io.cube.read_cube_data``; VMD, VESTA, Jmol, Avogadro and others draw them.

    Args:
        path: File to write, folders included.
        data: One structure: ``z`` and ``pos``, in crystals ``cell`` and ``pbc``.
        function: From points in Angstrom [P, 3] float64 to a number for each [P].
        spacing: Largest distance of grid planes along an axis, in Angstrom.
        padding: How far to go beyond the atoms along axes that are not periodic, in Angstrom.
        comment: One line that says what the numbers are.

    Returns:
        The path.

    Raises:
        ImportError: If ASE is missing.
        TypeError: If ``data`` is no ``Data``.
        ValueError: If the grid is impossible, or the function does not give a finite number for each point.

    Example:
        >>> import tempfile
        >>> from ase.io.cube import read_cube_data
        >>> atom = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
        >>> path = write_cube(Path(tempfile.mkdtemp()) / "distance.cube", atom, lambda r: r.norm(dim=1), padding=1.0)
        >>> values, atoms = read_cube_data(path)
        >>> values.shape, float(values.max().round(4)), atoms.get_chemical_formula()
        ((11, 11, 11), 1.7321, 'C')
    """
    try:
        from ase import Atoms  # noqa: PLC0415
        from ase.io.cube import write_cube as write  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('cube files need ASE; install it with pip install "pyg_schnet[md]"') from error
    z, pos = atoms_of(data)
    grid = grid_of(data, spacing, padding)
    values = _numbers(function(grid.points), len(grid.points))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atoms = Atoms(z.numpy(), pos.numpy(), cell=grid.cell.numpy())
    said = " ".join(comment.split()) or "written by pyg_schnet"
    with replacing(path) as part, part.open("w") as file:
        write(file, atoms, values.reshape(grid.shape), grid.origin.numpy(), said)
        file.write("\n")
    return path


def _numbers(given: Any, count: int) -> np.ndarray:
    values = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
    if values.shape != (count,):
        raise ValueError(
            f"`function` must give a number for each of {count} points [{count}], got {list(values.shape)}"
        )
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{bad} of {count} numbers of `function` are not finite, which a cube file cannot say")
    return values


def write_potential_cube(
    path: str | Path,
    model: Any,
    data: Data,
    probe: int = 6,
    *,
    spacing: float = 0.2,
    padding: float = 3.0,
    nearest: float = 0.3,
    target: int = 0,
    progress: bool = True,
) -> Path:
    r"""Write the local chemical potential :math:`\Omega_{Z_\mathrm{probe}}(r)` as a Gaussian cube file.

    Numbers are in eV, less the reference of the probe (the energy of its element without any network), which would use
    up the seven digits of the format; the first line of the file says how much that is. Closer to an atom than
    ``nearest``, where the potential means nothing, the number is that at this distance in the same direction.

    Args:
        path: File to write, folders included.
        model: As in :func:`~pyg_schnet.analysis.local_chemical_potential`.
        data: One structure: ``z`` and ``pos``, in crystals ``cell`` and ``pbc``.
        probe: Atomic number of the probe.
        spacing: Largest distance of grid planes along an axis, in Angstrom.
        padding: How far to go beyond the atoms along axes that are not periodic, in Angstrom.
        nearest: Smallest distance from an atom in Angstrom.
        target: Which of the model's targets, if it has several.
        progress: True to show a progress bar if it takes more than two seconds.

    Returns:
        The path.

    Raises:
        ImportError: If ASE is missing.
        TypeError, ValueError: As :func:`write_cube` and :func:`~pyg_schnet.analysis.local_chemical_potential`.
    """
    nearest = positive("nearest", nearest, "the smallest distance from an atom in Angstrom")
    felt = feel(model, data, torch.empty(0, 3, dtype=torch.float64), probe, target)
    unit = felt.unit or "the unit of the model"
    comment = f"local chemical potential of {SYMBOLS[int(probe)]} in {unit}, less its reference {felt.reference:.6f}"

    def potential(points: Tensor) -> Tensor:
        moved = _pushed_out(data, points, nearest)
        return feel(model, data, moved, probe, target, progress).values - felt.reference

    return write_cube(path, data, potential, spacing=spacing, padding=padding, comment=comment)


def _pushed_out(data: Data, points: Tensor, nearest: float) -> Tensor:
    """Points that are too close to an atom, moved away from it to the smallest distance."""
    distance, arrow = closest(atoms_near(data, points, nearest), len(points))
    inside = (distance < nearest).nonzero().squeeze(1)
    arrow, length = arrow[inside], distance[inside, None]
    somewhere = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    direction = torch.where(length > 0.0, arrow / length.clamp(min=1e-300), somewhere)
    return points.index_copy(0, inside, points[inside] - arrow + nearest * direction)
