"""The local chemical potential on a surface around a molecule: the numbers of figure 5."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.molecule import atoms_of
from pyg_schnet.analysis.surfaces.isosurface import LEVEL, POWER, isosurface
from pyg_schnet.analysis.surfaces.probing import feel


class PotentialSurface(NamedTuple):
    """A surface of triangles around a molecule, and what a probe feels on it.

    Attributes:
        vertices: Corners in Angstrom [V, 3] float64.
        triangles: Numbers of the corners of each triangle [T, 3] int64, counterclockwise as seen from outside.
        values: Local chemical potential at the corners [V] float64.
        reference: What the references of the model alone say of the probe; pictures show the difference.
        unit: Unit of both, eV for energies.
        probe: Atomic number of the probe.
        z: Atomic numbers of the molecule [N].
        pos: Positions in Angstrom [N, 3] float64.
    """

    vertices: Tensor
    triangles: Tensor
    values: Tensor
    reference: float
    unit: str
    probe: int
    z: Tensor
    pos: Tensor

    @property
    def data(self) -> Data:
        """The molecule."""
        return Data(z=self.z, pos=self.pos)

    @property
    def spread(self) -> float:
        """Standard deviation of the potential over the surface, each part by its area."""
        _, area = self._slopes()
        middle = self.values[self.triangles].mean(1)
        mean = (area * middle).sum() / area.sum()
        return float(((area * (middle - mean) ** 2).sum() / area.sum()).sqrt())

    @property
    def steepness(self) -> float:
        """Mean slope of the potential along the surface, per Angstrom: large where it changes within a short way."""
        slope, area = self._slopes()
        return float((area * slope).sum() / area.sum())

    def _slopes(self) -> tuple[Tensor, Tensor]:
        """Slope of the potential along each triangle [T], even over all of it, and areas of the triangles [T]."""
        a, b, c = self.vertices[self.triangles].unbind(1)
        u, v, w = self.values[self.triangles].unsqueeze(-1).unbind(1)
        double = torch.linalg.cross(b - a, c - a).norm(dim=1)
        # the sides, each times the value opposite to it, turned by a right angle
        rise = (u * (c - b) + v * (a - c) + w * (b - a)).norm(dim=1)
        return rise / double.clamp(min=1e-300), 0.5 * double


def potential_surface(
    model: Any,
    data: Data,
    probe: int = 6,
    *,
    level: float = LEVEL,
    power: float = POWER,
    spacing: float | None = None,
    target: int = 0,
    progress: bool = True,
) -> PotentialSurface:
    r"""The local chemical potential :math:`\Omega_{Z_\mathrm{probe}}(r)` on a surface around a molecule.

    As in figure 5 of Schütt et al., J. Chem. Phys. 148, 241722 (2018), by default with a carbon atom as probe and on
    the surface :math:`\sum_i \|r - r_i\|^{-2} = 3.7` Å\ :sup:`-2`, see
    :func:`~pyg_schnet.analysis.isosurface`. It passes the atoms at a distance of 0.6 to 0.9 Å, closer than
    any atoms of a training set get to one another: what the probe feels there is what the network makes of distances
    that it has never seen, in the paper as well. For a surface at distances that it knows pass
    ``power=-6, level=1.7**-6``.

    Args:
        model: As in :func:`~pyg_schnet.analysis.local_chemical_potential`.
        data: One molecule with ``z`` [N] and ``pos`` [N, 3].
        probe: Atomic number of the probe.
        level: Level of the surface in Angstrom to the power ``power``.
        power: Exponent of the surface.
        spacing: Distance of grid points of the surface in Angstrom; ``None`` for at most 0.1.
        target: Which of the model's targets, if it has several.
        progress: True to show a progress bar if it takes more than two seconds.

    Returns:
        The surface with the potential at its corners.

    Raises:
        ImportError: If scikit-image is missing.
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.isosurface` and
            :func:`~pyg_schnet.analysis.local_chemical_potential`.

    Example:
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> surface = potential_surface(SchNet(16, 16, 1), water, spacing=0.2)
        >>> surface.values.shape == surface.vertices.shape[:1], surface.unit
        (True, 'eV')
    """
    z, pos = atoms_of(data)
    surface = isosurface(data, level, power, spacing)
    felt = feel(model, data, surface.vertices, probe, target, progress)
    return PotentialSurface(*surface, felt.values, felt.reference, felt.unit, int(probe), z, pos)
