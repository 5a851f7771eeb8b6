"""Infrared intensities of normal modes, from a model of the dipole moment."""

import math
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.vibrations.modes import NormalModes
from pyg_schnet.analysis.vibrations.single import single_structure
from pyg_schnet.models.dipoles import Dipoles
from pyg_schnet.models.structures import usable
from pyg_schnet.units import DALTON, ELECTRONVOLT

#: N_A / (12 epsilon_0 c^2) times e^2/u, in km/mol: the intensity of one elementary charge on one mass unit.
_KM_PER_MOL = 6.022140857e23 * 4 * math.pi * 1e-7 * ELECTRONVOLT**2 / (12 * DALTON) * 1e-3


def dipole_derivatives(dipole_model: Any, data: Data, *, dipole_unit: str | None = None) -> Tensor:
    r"""Derivatives of the dipole moment with respect to the positions of the atoms.

    Born's effective charges of a molecule, :math:`Z_{ia,b} = \partial \mu_b / \partial r_{ia}`.

    Args:
        dipole_model: A model with ``readout="dipole"`` or ``"dipole_magnitude"``, of which the vector before its length
            is taken counts, or a committee of such.
        data: One open structure.
        dipole_unit: ``"D"`` or ``"e*Ang"``; ``None`` for what the model says, Debye if it says nothing, which is the
            unit of QM9.

    Returns:
        Derivatives in units of the elementary charge [n, 3, 3] float64: atom, its direction, component of the dipole.

    Raises:
        TypeError: If ``dipole_model`` is no model.
        ValueError: If it predicts no dipole moment, the unit is none, or the structure is periodic.
    """
    dipoles, structure = Dipoles(dipole_model, dipole_unit), single_structure(data)
    if structure.get("pbc") is not None and bool(structure.pbc.any()):
        raise ValueError("a dipole moment is not defined in periodic structures; expected a molecule")
    with torch.inference_mode(False), torch.enable_grad():
        pos = usable(structure.pos).double().requires_grad_()
        moment = dipoles(usable(structure.z), pos)  # [3]
        columns = [torch.autograd.grad(component, pos, retain_graph=True)[0] for component in moment]
    return torch.stack(columns, dim=-1).cpu()


def infrared_intensities(
    modes: NormalModes, dipole_model: Any, data: Data | None = None, *, dipole_unit: str | None = None
) -> Tensor:
    r"""Integrated infrared absorption of each mode, in the double harmonic approximation.

    .. math::
        A_k = \frac{N_A}{12\, \varepsilon_0 c^2} \left| \frac{\partial \mu}{\partial Q_k} \right|^2, \quad
        \frac{\partial \mu}{\partial Q_k} = \sum_{ia} \frac{\partial \mu}{\partial r_{ia}} u_{k,ia}

    (E. B. Wilson, J. C. Decius and P. C. Cross, Molecular Vibrations, section 7-6.) With :math:`u_k` the displacements
    of :class:`NormalModes`; 42.256 km/mol for 1 (D/Angstrom)^2/u.

    Args:
        modes: Normal modes of the molecule.
        dipole_model: A model with a dipole readout, see :func:`dipole_derivatives`.
        data: The molecule; ``None`` for that of the modes.
        dipole_unit: Unit of the model's dipole moments.

    Returns:
        Intensities in km/mol [3n], zero for rigid motions.

    Raises:
        TypeError: If ``dipole_model`` is no model.
        ValueError: If it predicts no dipole moment, or the molecule is another one or periodic.
    """
    own = Data(z=modes.z, pos=modes.pos, pbc=modes.pbc, cell=modes.cell)
    given = own if data is None else data
    charges = dipole_derivatives(dipole_model, given, dipole_unit=dipole_unit)
    if len(charges) != len(modes.z) or not torch.equal(given.z.cpu(), modes.z):
        raise ValueError(
            f"`data` must be the molecule of the modes, {modes.z.tolist()}, got atomic numbers {given.z.tolist()}"
        )
    slopes = torch.einsum("iab,kia->kb", charges, modes.displacements)
    return torch.where(modes.rigid, 0.0, _KM_PER_MOL * slopes.square().sum(1))
