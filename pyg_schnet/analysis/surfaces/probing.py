"""What a probe feels, in eV, and how far it is from the atoms: what surfaces, cuts and cube files share."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.chemical_potential import local_chemical_potential
from pyg_schnet.analysis.molecule import atoms_of
from pyg_schnet.graph.points import Surroundings
from pyg_schnet.models.committee import Committee
from pyg_schnet.units import ENERGY, target_unit


class Felt(NamedTuple):
    """What a probe feels at some points.

    Attributes:
        values: Local chemical potential [P] float64.
        reference: What the references of the model alone say of the probe: the energy of its element without any
            network. Pictures show the difference.
        unit: Unit of both: eV for energies, otherwise that of the model's target; empty if it is not known.
    """

    values: Tensor
    reference: float
    unit: str


class Near(NamedTuple):
    """Atoms, images among them, that are near some points.

    Attributes:
        point: Number of the point [E].
        atom: Number of the atom [E].
        arrow: From the atom to the point in Angstrom [E, 3] float64.
    """

    point: Tensor
    atom: Tensor
    arrow: Tensor


def feel(model: Any, data: Data, points: Tensor, probe: int = 6, target: int = 0, progress: bool = True) -> Felt:
    """The local chemical potential at points, in eV, without gradients.

    Args:
        model: As in :func:`~pyg_schnet.analysis.local_chemical_potential`.
        data: One structure.
        points: Places of the probe in Angstrom [P, 3].
        probe: Atomic number of the probe.
        target: Which of the model's targets, if it has several.
        progress: True to show a progress bar if it takes more than two seconds.

    Returns:
        The potential, on the CPU.

    Raises:
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.local_chemical_potential`; if there is no such target, or
            a result is not finite.
    """
    with torch.no_grad():
        values = local_chemical_potential(model, data, points, probe, progress=progress).detach().cpu()
    values = values.unsqueeze(-1) if values.dim() == 1 else values  # [P, C]
    target = count("target", target, least=0, most=values.size(1) - 1)
    if bad := int((~values[:, target].isfinite()).sum()):
        raise ValueError(
            f"the model gives a local chemical potential that is not finite at {bad} of {len(values)} points; look at "
            "its weights"
        )
    model = getattr(model, "model", model)  # of a potential
    members = list(model) if isinstance(model, Committee) else [model]
    element = torch.tensor([int(probe)])
    references = [float(one.reference(element.to(one.reference.mean.device))[0, target]) for one in members]
    factor, unit = _in_ev(members[0], target)
    return Felt(factor * values[:, target], factor * float(np.mean(references)), unit)


def _in_ev(model: Any, target: int) -> tuple[float, str]:
    """Factor to eV, and the unit in the end; the contribution of an atom to a mean is one per atom."""
    unit = target_unit(model.units, target, model.out_channels) if model.units else "eV"
    unit = unit.removesuffix("/atom")
    return (ENERGY[unit], "eV") if unit in ENERGY else (1.0, unit)


def atoms_near(data: Data, points: Tensor, reach: float) -> Near:
    """Which atoms are within reach of points, all images counted.

    Args:
        data: One structure.
        points: Points in Angstrom [P, 3] float64, on the CPU.
        reach: Largest distance in Angstrom.

    Returns:
        Pairs of points and atoms, sorted by the point.

    Raises:
        TypeError, ValueError: If ``data`` is no single structure.

    Example:
        >>> atoms = Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [0, 0, 2]]))
        >>> atoms_near(atoms, torch.tensor([[0.0, 0, 0.5], [0, 9, 0]]).double(), 1.6).arrow
        tensor([[ 0.0000,  0.0000,  0.5000],
                [ 0.0000,  0.0000, -1.5000]], dtype=torch.float64)
    """
    _, pos = atoms_of(data)
    cell, pbc = data.get("cell"), data.get("pbc")
    cell = None if cell is None else cell.detach().cpu().double()
    pbc = None if pbc is None else pbc.cpu()
    atom, point, shift = Surroundings(pos, reach, cell, pbc).around(points)
    arrow = points[point] - pos[atom]
    if cell is not None:
        # a lattice vector that is not periodic may be anything
        arrow = arrow - shift.double() @ torch.where(cell[0].isfinite(), cell[0], 0.0)
    order = torch.argsort(point, stable=True)
    return Near(point[order], atom[order], arrow[order])


def closest(near: Near, count: int) -> tuple[Tensor, Tensor]:
    """How far the closest atom is from each point, and the arrow from it.

    Args:
        near: Pairs within reach, of :func:`atoms_near`.
        count: Number of points P.

    Returns:
        Distances in Angstrom [P], infinite where no atom is within reach, and arrows from the atom [P, 3], zero there.
    """
    distance = near.arrow.norm(dim=1)
    order = torch.from_numpy(np.lexsort((distance.numpy(), near.point.numpy())))
    point, first = np.unique(near.point[order].numpy(), return_index=True)
    closest_ones = order[torch.from_numpy(first)]
    far = torch.full((count,), math.inf, dtype=torch.float64)
    arrow = torch.zeros(count, 3, dtype=torch.float64)
    far[point], arrow[point] = distance[closest_ones], near.arrow[closest_ones]
    return far, arrow
