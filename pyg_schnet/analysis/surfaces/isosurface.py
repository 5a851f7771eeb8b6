r"""The surface around a molecule on which local chemical potentials are shown (extra ``plot``).

Figure 5 of Schütt et al., J. Chem. Phys. 148, 241722 (2018), names it :math:`\sum_i \|r - r_i\| = 3.7` Å. As printed it
does not exist: the sum of the distances from the 12 atoms of benzene is nowhere below 23 Å. The paper that introduced
these pictures, Schütt et al., Nat. Commun. 8, 13890 (2017), takes :math:`\sum_i \|r - r_i\|^{-2} = 3.8` Å\ :sup:`-2`,
so what got lost in print must be the exponent, of the sum and of its unit.
"""

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.checks import positive
from pyg_schnet.analysis.molecule import atoms_of

#: Exponent and level of figure 5, as we read it.
POWER, LEVEL = -2.0, 3.7
#: Distance of grid points: in Angstrom, and at most in units of the radius of the surface around a single atom.
SPACING, FINENESS = 0.1, 0.2
#: Largest number of grid points, and of distances that are held at a time.
MOST_POINTS, AT_A_TIME = 30_000_000, 1_000_000
#: What remains to the surface, in units of that radius, once vertices have been moved onto it.
TOLERANCE = 1e-12
_STEPS = 60


class Surface(NamedTuple):
    """A closed surface of triangles.

    Attributes:
        vertices: Corners in Angstrom [V, 3] float64.
        triangles: Numbers of the corners of each triangle [T, 3] int64, counterclockwise as seen from outside.
    """

    vertices: Tensor
    triangles: Tensor

    @property
    def area(self) -> float:
        """Area in Angstrom^2."""
        return float(0.5 * self._normals().norm(dim=1).sum())

    @property
    def volume(self) -> float:
        """Volume inside in Angstrom^3, by the divergence theorem."""
        return float((self._normals() * self.vertices[self.triangles[:, 0]]).sum() / 6.0)

    def _normals(self) -> Tensor:
        """Outward normals of the triangles, of twice their area [T, 3]."""
        a, b, c = self.vertices[self.triangles].unbind(1)
        return torch.linalg.cross(b - a, c - a)


def isosurface(data: Data, level: float = LEVEL, power: float = POWER, spacing: float | None = None) -> Surface:
    r"""The surface around a molecule on which the distances from its atoms, to a negative power, sum up to a level.

    .. math::
        \sum_i \|r - r_i\|^p = c

    By default p = -2 and c = 3.7 Å\ :sup:`-2`, see above: some 0.8 Å from the carbon atoms of benzene, smooth, with a
    dent in the middle of the ring on either side. Around a single atom it is a sphere of the radius
    :math:`c^{1/p}`, here 0.52 Å. Other exponents differ in how far the surface bridges the gaps between atoms:
    with p = -1 it is an egg around all of them, in which rings cannot be told; the more negative p, the more it is made
    of spheres around the atoms, which meet in creases. :math:`p = -6` and :math:`c = 1.7^{-6}` give what a
    chemist's space-filling model looks like, in reach of what a network has learned from molecules in equilibrium.

    The triangles are those of marching cubes (scikit-image) on a grid that encloses the whole surface; Newton's steps
    along the gradient then move their corners onto it.

    Args:
        data: One molecule with ``z`` [N] and ``pos`` [N, 3].
        level: The level c in Angstrom^p.
        power: The exponent p.
        spacing: Distance of grid points in Angstrom; ``None`` for 0.1, or a fifth of the radius around a single
            atom if that is less.

    Returns:
        The surface.

    Raises:
        ImportError: If scikit-image is missing.
        TypeError: If ``data`` is no ``Data``.
        ValueError: If the structure is periodic, where such a sum has no end, or impossible; if ``level`` is not
            positive, ``power`` not negative, or the grid too coarse for the surface or too fine for the memory.

    Example:
        >>> atom = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
        >>> surface = isosurface(atom, level=4.0)
        >>> bool((surface.vertices.norm(dim=1) - 0.5).abs().max() < 1e-12)
        True
        >>> round(surface.area / torch.pi, 2)
        0.99
    """
    pos = _molecule(data).numpy()
    radius = _radius(level, power)
    step = min(SPACING, FINENESS * radius) if spacing is None else spacing
    low, shape = _grid(pos, radius, power, step)
    return _surface(pos, radius, power, step, low, shape)


def _molecule(data: Any) -> Tensor:
    """Positions of an open structure [N, 3]."""
    _, pos = atoms_of(data)
    pbc = data.get("pbc")
    if isinstance(pbc, Tensor) and bool(pbc.any()):
        raise ValueError(
            "the isosurface sums over all atoms, of which a periodic structure has no end; expected a molecule, got "
            f"`pbc` {pbc.reshape(-1).tolist()}: look at crystals by `potential_cut` or `write_potential_cube`"
        )
    return pos


def _radius(level: float, power: float) -> float:
    if isinstance(power, bool) or not isinstance(power, numbers.Real):
        raise TypeError(f"`power` must be a number, got {type(power).__name__}")
    if not (math.isfinite(power) and power < 0):
        raise ValueError(
            f"`power` must be negative, got {power}: sums of distances themselves have no such surface, see the DTNN "
            "paper's -2"
        )
    radius = positive("level", level, f"in Angstrom to the power {power:g}") ** (1.0 / power)
    if not 1e-3 < radius < 1e3:
        raise ValueError(
            f"`level` {level} and `power` {power} are a sphere of {radius:.3g} Angstrom around a single atom; expected "
            "0.001 to 1000"
        )
    return radius


def _grid(pos: NDArray, radius: float, power: float, step: float) -> tuple[NDArray, tuple[int, ...]]:
    """Lowest corner and shape of a grid with all of the surface inside.

    Where all of N atoms are farther than R, the sum is below N R^p; at the level, one is within (c / N)^(1/p).
    """
    if not positive("spacing", step, "in Angstrom") <= 0.5 * radius:
        raise ValueError(
            f"`spacing` must be at most half the radius {radius:.3g} Angstrom of the surface around a "
            f"single atom, got {step}"
        )
    reach = radius * len(pos) ** (-1.0 / power) + 2.0 * step
    low = pos.min(0) - reach - 0.123 * step  # off the planes of symmetry
    shape = tuple(int(n) for n in np.ceil((pos.max(0) + reach - low) / step) + 1)
    if (points := math.prod(shape)) > MOST_POINTS:
        raise ValueError(
            f"the grid would have {points:,} points, expected at most {MOST_POINTS:,}; pass a larger `spacing` or a "
            "more negative `power`"
        )
    return low, shape


def _surface(pos: NDArray, radius: float, power: float, step: float, low: NDArray, shape: tuple[int, ...]) -> Surface:
    try:
        from skimage.measure import marching_cubes  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('isosurfaces need scikit-image; install it with pip install "pyg_schnet[plot]"') from error
    field = _on_grid(pos, radius, power, [low[axis] + step * np.arange(shape[axis]) for axis in range(3)])
    corners, triangles, *_ = marching_cubes(field, 1.0, gradient_direction="ascent", allow_degenerate=False)
    vertices = _onto(low + step * corners.astype(np.float64), pos, radius, power, step)
    return Surface(torch.from_numpy(vertices), torch.from_numpy(triangles[:, ::-1].astype(np.int64)))


def _on_grid(pos: NDArray, radius: float, power: float, axes: list[NDArray]) -> NDArray:
    """Effective distances on a grid [X, Y, Z], in units of the radius; the surface is at 1, nothing is above 10."""
    total = np.zeros([len(axis) for axis in axes])
    with np.errstate(divide="ignore", over="ignore"):  # at an atom
        for atom in pos:
            x, y, z = (((axis - at) / radius) ** 2 for axis, at in zip(axes, atom, strict=True))
            square = (x[:, None] + y)[:, :, None] + z
            total += 1.0 / square if power == -2.0 else square ** (0.5 * power)  # 20 times as fast
        return np.minimum(total ** (1.0 / power), 10.0)


def effective_distance(points: NDArray, pos: NDArray, power: float) -> tuple[NDArray, NDArray]:
    r"""What the surface is a level of, as a distance, and its gradient.

    .. math::
        s(r) = \Big(\sum_i \|r - r_i\|^p\Big)^{1/p}, \quad
        \nabla s = \sum_i \Big(\frac{\|r - r_i\|}{s}\Big)^{p-1} \frac{r - r_i}{\|r - r_i\|}

    Other than the sum itself, it is zero at the atoms, and close to a straight line away from them.

    Args:
        points: Points r [P, 3].
        pos: Positions of the atoms [N, 3].
        power: The exponent p < 0.

    Returns:
        Distances s [P] and their gradients [P, 3]; the gradient at an atom is zero.
    """
    distances, gradients, size = np.empty(len(points)), np.empty_like(points), max(1, AT_A_TIME // len(pos))
    for start in range(0, len(points), size):
        some = slice(start, start + size)
        arrows = points[some, None] - pos  # [P, N, 3]
        far = np.sqrt((arrows**2).sum(-1))
        near = far.min(1)
        on_atom = near == 0.0
        near[on_atom] = 1.0
        ratio = far / near[:, None]
        ratio[on_atom] = 1.0
        s = near * (ratio**power).sum(1) ** (1.0 / power)
        far[far == 0.0] = 1.0
        weight = (far / s[:, None]) ** (power - 1.0) / far
        gradients[some] = (weight[:, :, None] * arrows).sum(1)
        distances[some] = np.where(on_atom, 0.0, s)
        gradients[some][on_atom] = 0.0
    return distances, gradients


def _onto(points: NDArray, pos: NDArray, radius: float, power: float, step: float) -> NDArray:
    """Move points along the gradient onto the surface, by no more than a grid step at a time."""
    for _ in range(_STEPS):
        distance, gradient = effective_distance(points, pos, power)
        off = distance - radius
        if np.abs(off).max() <= TOLERANCE * radius:
            return points
        square = np.maximum((gradient**2).sum(1), np.finfo(np.float64).tiny)
        length = np.clip(off / np.sqrt(square), -0.5 * step, 0.5 * step)
        points = points - (length / np.sqrt(square))[:, None] * gradient
    raise ValueError(
        "the surface passes through a point where two of its parts touch, and has no direction there; change `level` "
        "a little"
    )
