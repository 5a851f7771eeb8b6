r"""Derivatives of the energy: forces, virials and stress.

Everything a model of distances knows about a structure is in the vectors of its edges, so every first derivative is a
sum of the gradients :math:`g_p = \partial E / \partial r_p` over pairs p.
"""

import torch
from torch import Tensor

from pyg_schnet.segments import add_up, differences, in_segments


def forces_from_energy(energy: Tensor, pos: Tensor, create_graph: bool = False) -> Tensor:
    r"""Forces on the atoms, the negative gradient of the energy.

    .. math:: F_i = -\frac{\partial E}{\partial r_i}

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (4).

    Args:
        energy: Energies in eV, any shape, computed from ``pos``.
        pos: Positions in Angstrom [N, 3] that require gradients.
        create_graph: True if the forces shall be differentiable again, as training on forces needs it.

    Returns:
        Forces in eV/Angstrom [N, 3]; zero where the energy does not depend on an atom.

    Example:
        >>> pos = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
        >>> forces_from_energy(pos.square().sum(), pos)
        tensor([[-0., -0., -4.]])
    """
    return -gradient(energy, pos, create_graph=create_graph)


def gradient(
    output: Tensor,
    tensor: Tensor,
    direction: Tensor | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Tensor:
    r"""Gradient of a sum, zero where nothing depends on the tensor.

    .. math:: \frac{\partial}{\partial x} \sum_k v_k y_k

    Args:
        output: Values y, any shape.
        tensor: The tensor x they were computed from.
        direction: Weights v in the shape of ``output``; ``None`` for ones.
        create_graph: True if the gradient shall be differentiable again.
        retain_graph: True to keep the graph for another gradient; ``None`` for ``create_graph``.

    Returns:
        The gradient in the shape of ``tensor``.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradient(x.square(), x), gradient(torch.ones(2), x)
        (tensor([2., 4.]), tensor([0., 0.]))
    """
    if not output.requires_grad:  # no pair in the whole batch: the energy does not depend on positions
        return torch.zeros_like(tensor)
    (slope,) = torch.autograd.grad(
        output,
        tensor,
        torch.ones_like(output) if direction is None else direction,
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=True,
    )
    return torch.zeros_like(tensor) if slope is None else slope


def forces_from_edges(edge_gradient: Tensor, edge_index: Tensor, num_atoms: int) -> Tensor:
    r"""Forces from the gradients with respect to the vectors of edges.

    .. math:: F_i = -\frac{\partial E}{\partial r_i} = \sum_{p:\, j \to i} g_p - \sum_{p:\, i \to k} g_p, \quad
        g_p = \frac{\partial E}{\partial r_p}, \quad r_{j \to i} = r_j - r_i + s \cdot \mathrm{cell}

    Args:
        edge_gradient: Gradients :math:`g_p` in eV/Angstrom [P, 3].
        edge_index: Row 0 the source j, row 1 the target i [2, P].
        num_atoms: Number of atoms N.

    Returns:
        Forces in eV/Angstrom [N, 3]; those of a structure add up to zero.

    Example:
        >>> forces_from_edges(torch.tensor([[0.0, 0.0, 1.5]]), torch.tensor([[1], [0]]), 2)
        tensor([[ 0.0000,  0.0000,  1.5000],
                [ 0.0000,  0.0000, -1.5000]])
    """
    if in_segments(edge_gradient):
        return differences(edge_gradient, edge_index, num_atoms)
    forces = edge_gradient.new_zeros(num_atoms, 3).index_add(0, edge_index[1], edge_gradient)
    return forces.index_add(0, edge_index[0], edge_gradient, alpha=-1)


def virials_from_edges(edge_gradient: Tensor, edge_vec: Tensor, edge_index: Tensor, num_atoms: int) -> Tensor:
    r"""Virials of the atoms, of each pair one half for each of both atoms.

    .. math:: w_i = -\frac12 \sum_{p \ni i} r_p \otimes g_p, \qquad
        \sum_i w_i = W = -\frac{\partial E}{\partial \varepsilon} = -V \sigma

    with the strain :math:`\varepsilon` that takes positions and lattice vectors, as rows, to
    :math:`r (1 + \varepsilon)`. Positive traces push outwards. This is the virial of LAMMPS (whose ``stress/atom`` is
    its negative), of its extended XYZ files and of most data sets; no volume is needed. Each virial is symmetric if the
    energy sees the vectors only through their lengths, as that of SchNet does. An edge between an atom and its own
    image gives both halves to this atom.

    Args:
        edge_gradient: Gradients :math:`g_p = \partial E / \partial r_p` in eV/Angstrom [P, 3].
        edge_vec: Vectors :math:`r_p` in Angstrom [P, 3].
        edge_index: Row 0 the source j, row 1 the target i [2, P].
        num_atoms: Number of atoms N.

    Returns:
        Virials in eV [N, 3, 3].

    Example:
        >>> pull, vector = torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[0.0, 0.0, 3.0]])
        >>> virials_from_edges(pull, vector, torch.tensor([[1], [0]]), 2)[:, 2, 2]
        tensor([-3., -3.])
    """
    share = -0.5 * edge_vec.unsqueeze(2) * edge_gradient.unsqueeze(1)  # [P, 3, 3]
    if in_segments(share):
        return add_up(share, edge_index[1], num_atoms) + add_up(share, edge_index[0], num_atoms)
    virials = share.new_zeros(num_atoms, 3, 3).index_add(0, edge_index[1], share)
    return virials.index_add(0, edge_index[0], share)


def stress_from_virials(virials: Tensor, cell: Tensor, batch: Tensor) -> Tensor:
    r"""Stress of structures from the virials of their atoms, with the sign of ASE and symmetric.

    .. math:: \sigma = \frac{1}{V} \frac{\partial E}{\partial \varepsilon} = -\frac{1}{V} \sum_i w_i, \quad
        V = |\det \mathrm{cell}|

    Positive diagonal elements pull inwards: the cell would shrink. As in ASE, V is the volume of the whole cell
    whatever the periodic axes, vacuum of a slab included.

    Args:
        virials: Virials of the atoms in eV [N, 3, 3], see :func:`virials_from_edges`.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        batch: Structure of each atom [N].

    Returns:
        Stress in eV/Angstrom^3 [B, 3, 3]; NaN for structures whose cell spans no volume, with gradients of zero.

    Example:
        >>> stress_from_virials(-torch.eye(3)[None], 2 * torch.eye(3)[None], torch.tensor([0]))[0].diagonal()
        tensor([0.1250, 0.1250, 0.1250])
    """
    volume = cell_volume(cell).to(virials.dtype).view(-1, 1, 1)
    total = add_up(virials, batch, cell.size(0), ascending=True)
    spanned = (volume > 0) & volume.isfinite()
    stress = -0.5 * (total + total.mT) / torch.where(spanned, volume, 1.0)
    return torch.where(spanned, stress, torch.nan)


def first_derivatives(
    energy: Tensor,
    slope: Tensor,
    edge_vec: Tensor,
    edge_index: Tensor,
    batch: Tensor,
    cell: Tensor | None = None,
    *,
    stress: bool = False,
    virials: bool = False,
) -> dict[str, Tensor]:
    """Forces, virials and stress from the derivatives of the energy with respect to the vectors of edges.

    Args:
        energy: Energies [B].
        slope: Derivatives of their sum with respect to the vectors [E, 3].
        edge_vec: Vectors from target to source in Angstrom [E, 3].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        batch: Structure of each atom [N].
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        stress: True to return the stress, if there is a cell.
        virials: True to return the virials of the atoms.

    Returns:
        ``energy``, ``forces`` and, if asked for, ``virials`` and ``stress``.

    Example:
        >>> edge_vec, edge_index = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1], [0]])
        >>> spring = torch.tensor([2.0]), 4.0 * edge_vec, edge_vec, edge_index, torch.tensor([0, 0])  # 2 r^2
        >>> first_derivatives(*spring)["forces"][0]
        tensor([4., 0., 0.])
    """
    out = {"energy": energy, "forces": forces_from_edges(slope, edge_index, batch.size(0))}
    if stress or virials:
        w = virials_from_edges(slope, edge_vec, edge_index, batch.size(0))
        if virials:
            out["virials"] = w
        if stress and cell is not None:
            out["stress"] = stress_from_virials(w, cell, batch)
    return out


def cell_volume(cell: Tensor) -> Tensor:
    r"""Volumes of cells, right-handed or left-handed.

    .. math:: V = |a \cdot (b \times c)|

    Args:
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].

    Returns:
        Volumes in Angstrom^3 [B] float64; NaN if a lattice vector is not finite.

    Example:
        >>> cell_volume(torch.diag(torch.tensor([2.0, 3.0, -4.0]))[None])
        tensor([24.], dtype=torch.float64)
    """
    a, b, c = cell.double().unbind(1)
    return (a * torch.linalg.cross(b, c)).sum(1).abs()
