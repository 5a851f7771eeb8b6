"""Vibrations of a structure, from the exact Hessian of a model."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.vibrations.masses import atomic_masses
from pyg_schnet.analysis.vibrations.modes import NormalModes
from pyg_schnet.analysis.vibrations.rigid_motions import motions_of
from pyg_schnet.analysis.vibrations.single import single_structure
from pyg_schnet.models.exact import ExactPotential
from pyg_schnet.units import SPRING_QUANTUM, SYMBOLS, WAVENUMBER

#: Forces above which a structure is no minimum, in eV/Angstrom; what optimizers leave is below.
_AT_REST = 0.05
#: Negative eigenvalues that round-off may leave of zero ones, beside the largest eigenvalue.
_ROUND_OFF = 1e-10


def normal_modes(
    potential: Any,
    data: Data,
    *,
    masses: Tensor | Sequence[float] | None = None,
    energy_unit: str | None = None,
) -> NormalModes:
    r"""Normal modes: eigenvectors of the mass-weighted Hessian, less the motions of the structure as a whole.

    .. math::
        \tilde H_{ia,jb} = \frac{1}{\sqrt{m_i m_j}} \frac{\partial^2 \hat E}{\partial r_{ia} \partial r_{jb}}, \quad
        \tilde H v_k = \omega_k^2 v_k, \quad \tilde\nu_k = \frac{\omega_k}{2 \pi c}

    (E. B. Wilson, J. C. Decius and P. C. Cross, Molecular Vibrations, chapter 2.) The Hessian is analytic
    (:meth:`pyg_schnet.Potential.hessian`) and that of an exact copy in float64, also of a frozen model or of one in
    float32, whose rounding would hide the soft modes. It is diagonalised in the space without rigid motions: six for a
    molecule, five for a linear one, three for an atom, and the three translations for crystals and slabs; polymers also
    turn about their axis. These modes come back with the wavenumber 0, exactly. In a crystal the modes are those at the
    centre of the Brillouin zone; all others are for :func:`~pyg_schnet.analysis.phonons`.

    Vibrations belong to a minimum, see :func:`~pyg_schnet.analysis.relaxed`.

    Args:
        potential: A :class:`~pyg_schnet.Potential`, a model of energies in any unit, or a committee, of which the mean
            energy counts.
        data: One structure with ``z``, ``pos`` and, for crystals, ``cell`` and ``pbc``.
        masses: Masses in atomic mass units [n], for isotopes; ``None`` for ``data.mass`` or ``data.masses`` if there is
            one, else standard atomic weights.
        energy_unit: Unit of the model's energies; ``None`` for what the model says, eV if it says nothing.

    Returns:
        Wavenumbers, displacements and all that follows from them.

    Raises:
        ImportError: If standard masses are needed and ASE is missing.
        TypeError: If ``potential`` is no model of energies or ``data`` no ``Data``.
        ValueError: If there are several structures or none, or values and shapes do not fit.

    Example:
        >>> from pyg_schnet import Potential, SchNet
        >>> from pyg_schnet.analysis.vibrations.relaxation import relaxed
        >>> _ = torch.manual_seed(0)
        >>> potential = Potential(SchNet.preset("jcp2018"))
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> modes = normal_modes(potential, relaxed(potential, water))
        >>> modes.wavenumbers.shape, modes.displacements.shape, int(modes.rigid.sum())
        (torch.Size([9]), torch.Size([9, 3, 3]), 6)
    """
    exact = ExactPotential(potential, energy_unit)
    structure = single_structure(data)
    weights = atomic_masses(data, masses)
    energy, forces = exact(structure)
    hessian = exact.hessian(structure).cpu()
    wavenumbers, displacements, rigid = diagonalised(hessian, weights, motions_of(structure, weights))
    length = forces.norm(dim=1).cpu()
    modes = NormalModes(
        z=structure.z,
        pos=structure.pos,
        masses=weights,
        cell=structure.get("cell"),
        pbc=structure.get("pbc"),
        wavenumbers=wavenumbers,
        displacements=displacements,
        rigid=rigid,
        hessian=hessian,
        energy=float(energy),
        largest_force=float(length.max()),
    )
    _warn_of_slope(modes, int(length.argmax()))
    return modes


def diagonalised(hessian: Tensor, masses: Tensor, motions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors of a mass-weighted Hessian in the space without rigid motions, and these.

    Args:
        hessian: Second derivatives in eV/Angstrom^2 [n, 3, n, 3] float64.
        masses: Masses in atomic mass units [n].
        motions: Orthonormal rigid motions in mass-weighted coordinates [R, 3n].

    Returns:
        Wavenumbers in cm^-1 [3n], sorted; displacements [3n, n, 3] in u^-1/2; which of them are rigid motions [3n].
    """
    size, fixed = 3 * len(masses), len(motions)
    root = masses.sqrt().repeat_interleave(3)
    weighted = hessian.reshape(size, size) / (root.unsqueeze(1) * root)
    basis, _ = torch.linalg.qr(motions.T, mode="complete")
    rest = basis[:, fixed:]  # all that moves against each other
    values, vectors = torch.linalg.eigh(rest.T @ weighted @ rest)
    wavenumbers = values.sign() * values.abs().sqrt() * SPRING_QUANTUM / WAVENUMBER
    wavenumbers = torch.cat([wavenumbers, wavenumbers.new_zeros(fixed)])
    modes = torch.cat([(rest @ vectors).T, motions])
    rigid = torch.arange(size) >= size - fixed
    order = torch.argsort(wavenumbers, stable=True)
    return wavenumbers[order], (modes / root)[order].view(size, -1, 3), rigid[order]


def _warn_of_slope(modes: NormalModes, atom: int) -> None:
    """Say once what is against calling these vibrations."""
    stiffest = float(modes.wavenumbers.abs().max())
    imaginary = int((modes.wavenumbers < -math.sqrt(_ROUND_OFF) * stiffest).sum())
    if imaginary == 0 and modes.largest_force <= _AT_REST:
        return
    modes_are = (
        "1 of its modes is imaginary, a negative number"
        if imaginary == 1
        else (f"{imaginary} of its modes are imaginary, negative numbers")
    )
    found = f"; {modes_are} here" if imaginary else ""
    warnings.warn(
        f"the structure is no minimum: the largest force is {modes.largest_force:.3g} eV/Angstrom, on atom {atom} "
        f"({SYMBOLS[int(modes.z[atom])]}){found}; relax it first, for example relaxed(potential, data)",
        stacklevel=3,
    )
