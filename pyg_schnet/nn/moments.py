"""From latent charges of the atoms to moments of the structure."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyg_schnet.segments import add_up


class DipoleMoment(nn.Module):
    r"""Dipole moment of a neutral structure from latent charges.

    .. math:: \mu = \sum_i \Big(q_i - \frac1n \sum_j q_j\Big)\, r_i

    The charges add up to zero by construction, so the dipole moment does not depend on the origin. Not in the papers,
    which sum contributions of the atoms to its magnitude; the form is that of SchNetPack (Schütt et al., J. Chem.
    Theory Comput. 15, 448 (2019)). PyG's SchNet and SchNetPack before version 2 take the charges as they are, about the
    centre of mass: with ``masses``, so does this.

    Args:
        magnitude: True to return the length of the vector.
        masses: Masses by atomic number for the centre of mass about which charges count that need not add up to zero;
            ``None`` for neutral charges.

    Example:
        >>> charges, pos = torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0, 0, 0], [0.0, 0, 0]])
        >>> DipoleMoment()(charges, torch.tensor([0, 0]), 1, torch.tensor([1, 1]), pos)
        tensor([[1., 0., 0.]])
    """

    channels = 1
    reference = None
    masses: Tensor | None

    def __init__(self, magnitude: bool = False, masses: Sequence[float] | None = None) -> None:
        super().__init__()
        self.magnitude = magnitude
        #: True if what is returned has no gradient where all latent charges are zero.
        self.flat_at_zero = magnitude
        table = None if masses is None else torch.tensor(masses, dtype=torch.float64)
        self.register_buffer("masses", table, persistent=False)

    def forward(self, y: Tensor, batch: Tensor, batch_size: int, z: Tensor, pos: Tensor) -> Tensor:
        """Dipole moment of each structure.

        Args:
            y: Latent charges [N, 1].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.
            z: Atomic numbers [N], of which only masses depend.
            pos: Positions in Angstrom [N, 3].

        Returns:
            Vectors [B, 3], or their lengths [B, 1]; in units of charge times Angstrom, or whatever the targets teach.
        """
        if self.masses is None:
            y = neutral(y, batch, batch_size)
        else:
            pos = from_center(pos, self.masses[z], batch, batch_size)
        moment = _sum(y * pos, batch, batch_size)  # [B, 3]
        return _length(moment) if self.magnitude else moment

    def extra_repr(self) -> str:
        """What is returned, for printing."""
        return f"magnitude={self.magnitude}, center={'none' if self.masses is None else 'mass'}"


class SpatialExtent(nn.Module):
    r"""Electronic spatial extent from latent charges.

    .. math:: \langle R^2 \rangle = \sum_i q_i\, |r_i - r_0|^2, \quad r_0 = \sum_i Z_i r_i \Big/ \sum_i Z_i

    about the centre of nuclear charge, the origin of QM9's values. Not in the papers, which sum contributions of the
    atoms; the form is that of SchNetPack (Schütt et al., J. Chem. Theory Comput. 15, 448 (2019)).

    Example:
        >>> charges, pos = torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0, 0, 0], [1.0, 0, 0]])
        >>> SpatialExtent()(charges, torch.tensor([0, 0]), 1, torch.tensor([1, 1]), pos)
        tensor([[2.]])
    """

    channels = 1
    reference = "add"

    def forward(self, y: Tensor, batch: Tensor, batch_size: int, z: Tensor, pos: Tensor) -> Tensor:
        """Spatial extent of each structure.

        Args:
            y: Latent charges [N, 1].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.
            z: Atomic numbers [N].
            pos: Positions in Angstrom [N, 3].

        Returns:
            Spatial extents [B, 1].
        """
        return _sum(y * squared_radius(z, pos, batch, batch_size), batch, batch_size)


class Polarizability(nn.Module):
    r"""Isotropic polarizability from local polarizabilities and a charge-flow term.

    .. math:: \alpha = \sum_i \alpha_i + \tfrac23 \sum_i c_i\, |r_i - r_0|^2

    with the centre of nuclear charge :math:`r_0`: the trace of PaiNN's polarizability tensor (Schütt et al., ICML 2021,
    section 4.3) for vectors that point away from the centre. Not in the SchNet papers, which sum contributions of the
    atoms (``readout="add"``).

    Example:
        >>> latent, pos = torch.tensor([[1.0, 0.0], [1.0, 3.0]]), torch.tensor([[2.0, 0, 0], [0.0, 0, 0]])
        >>> Polarizability()(latent, torch.tensor([0, 0]), 1, torch.tensor([1, 1]), pos)
        tensor([[4.]])
    """

    channels = 2
    reference = "add"

    def forward(self, y: Tensor, batch: Tensor, batch_size: int, z: Tensor, pos: Tensor) -> Tensor:
        """Isotropic polarizability of each structure.

        Args:
            y: Local polarizability and charge-flow coefficient of each atom [N, 2].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.
            z: Atomic numbers [N].
            pos: Positions in Angstrom [N, 3].

        Returns:
            Polarizabilities [B, 1].
        """
        flow = 2.0 / 3.0 * y[:, 1:] * squared_radius(z, pos, batch, batch_size)
        return _sum(y[:, :1] + flow, batch, batch_size)


def neutral(charges: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Charges less their mean in each structure, so that they add up to zero.

    Args:
        charges: Charges [N, 1].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.

    Returns:
        Neutral charges [N, 1].
    """
    count = _sum(torch.ones_like(charges), batch, batch_size).clamp(min=1)
    return charges - (_sum(charges, batch, batch_size) / count).index_select(0, batch)


def from_center(pos: Tensor, weight: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Positions from the weighted centre of their structure.

    Args:
        pos: Positions in Angstrom [N, 3].
        weight: Weight of each atom [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.

    Returns:
        Positions [N, 3].
    """
    weight = weight.to(pos.dtype).unsqueeze(-1)
    total = _sum(weight, batch, batch_size)
    center = _sum(weight * pos, batch, batch_size) / torch.where(total > 0, total, 1.0)  # of an empty structure too
    return pos - center.index_select(0, batch)


def squared_radius(z: Tensor, pos: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Squared distance of each atom from the centre of nuclear charge of its structure.

    Args:
        z: Atomic numbers [N].
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.

    Returns:
        Squared distances in Angstrom^2 [N, 1].
    """
    return from_center(pos, z, batch, batch_size).square().sum(-1, keepdim=True)


def _sum(values: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    return add_up(values, batch, batch_size, ascending=True)


def _length(vectors: Tensor) -> Tensor:
    """Lengths with gradient zero, not NaN, at zero."""
    squared = vectors.square().sum(-1, keepdim=True)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
