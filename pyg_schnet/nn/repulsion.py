"""A repulsion at short distance, which is there before anything is learnt."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyg_schnet.graph import Edges
from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.ops import polynomial_cutoff, zbl_repulsion
from pyg_schnet.ops.repulsion import ENVELOPE
from pyg_schnet.segments import add_up

_TABLE = """
0.31 0.28 1.28 0.96 0.84 0.76 0.71 0.66 0.57 0.58 1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06 2.03 1.76
1.70 1.60 1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16 2.20 1.95 1.90 1.75
1.64 1.54 1.47 1.46 1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40 2.44 2.15 2.07 2.04 2.03 2.01
1.99 1.98 1.98 1.96 1.94 1.92 1.92 1.89 1.90 1.87 1.87 1.75 1.70 1.62 1.51 1.44 1.41 1.36 1.36 1.32
1.45 1.46 1.48 1.40 1.50 1.50 2.60 2.21 2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69
"""
#: Covalent radii in Angstrom from hydrogen to curium, Cordero et al., Dalton Trans. 2832 (2008), as ASE has them.
COVALENT_RADII: tuple[float, ...] = tuple(map(float, _TABLE.split()))
#: Where a repulsion ends, in sums of covalent radii. In the frames of MD17's molecules at 500 K, the shortest bond has
#: 0.787 of the sum (a carbonyl group); triple bonds have 0.77 to 0.79 at their minima. With 1 instead of 0.8, networks
#: learn against a steep wall that bonds run into, and forces of ethanol are off by a quarter more.
REACH = 0.8


class ZBLRepulsion(nn.Module):
    r"""Universal screened repulsion of nuclei that ends before atoms are as far apart as in bonds.

    .. math::
        E = \frac12 \sum_{i \ne j} E_\mathrm{ZBL}(d_{ij}; Z_i, Z_j)\, C(d_{ij} / R_{ij}), \quad
        R_{ij} = \min\big(0.8 (R_i + R_j), r_\mathrm{cut}\big)

    with :func:`~pyg_schnet.ops.zbl_repulsion`, :func:`~pyg_schnet.ops.polynomial_cutoff` of exponent 6 for C, and
    covalent radii R (Cordero et al., Dalton Trans. 2832 (2008); elements beyond curium have its radius). Energy, forces
    and second derivatives are continuous, and zero beyond 0.8 of the sum of the radii. There is nothing to be
    learnt. Half of the energy of each pair belongs to each of its atoms.

    Args:
        max_z: Largest atomic number.
        cutoff: Distance in Angstrom up to which atoms interact.

    Raises:
        ValueError: If ``cutoff`` is not positive.

    Example:
        >>> z, pairs = torch.tensor([6, 8]), torch.tensor([[1], [0]])
        >>> edges = Edges(torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([0, 0]), pairs)
        >>> ZBLRepulsion(100, 5.0)(z, edges).round(decimals=1)
        tensor([[69.7000],
                [69.7000]])
    """

    reach: Tensor
    #: An electronvolt in the unit of the model's energy: 1 unless a model was converted.
    scale: Tensor

    def __init__(self, max_z: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = check_positive("cutoff", cutoff)
        known = [COVALENT_RADII[0], *COVALENT_RADII, *[COVALENT_RADII[-1]] * max_z][: max_z + 1]  # from 0, of ghosts
        reach = REACH * torch.tensor(known, dtype=torch.float64)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def forward(self, z: Tensor, edges: Edges) -> Tensor:
        """Share of each atom in the repulsion.

        Args:
            z: Atomic numbers [N].
            edges: Edges within the cutoff.

        Returns:
            Energies in eV times ``scale`` [N, 1], in the dtype of the vectors of the edges.
        """
        distance = edges.edge_weight  # [P]
        target, source = edges.pair_index[1], edges.pair_index[0]
        ends = (self.reach[z[target]] + self.reach[z[source]]).clamp(max=self.cutoff).to(distance.dtype)
        first, second = z[target].to(distance.dtype), z[source].to(distance.dtype)
        energy = zbl_repulsion(distance, first, second) * polynomial_cutoff(distance, ends, ENVELOPE)
        share = 0.5 * self.scale.to(energy.dtype) * energy.unsqueeze(1)  # [P, 1]
        shares = add_up(share, target, z.size(0))
        return shares if edges.edge_pair is None else shares + add_up(share, source, z.size(0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        state_dict.setdefault(f"{prefix}scale", torch.ones((), dtype=torch.float64))  # weights learnt without it
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the model to a device, not to a dtype."""
        device = fn(self.scale).device
        self.reach = type(self)(self.reach.numel() - 1, self.cutoff).reach.to(device)
        self.scale = torch.ones_like(self.scale, device=device) if self.scale.is_meta else self.scale.to(device)
        return self

    def extra_repr(self) -> str:
        """The cutoff, for printing."""
        return f"cutoff={self.cutoff}"


def make_repulsion(name: str | None, max_z: int, cutoff: float) -> ZBLRepulsion | None:
    """A repulsion by its name.

    Args:
        name: ``"zbl"``, see :class:`ZBLRepulsion`, or ``None`` for none.
        max_z: Largest atomic number.
        cutoff: Distance in Angstrom up to which atoms interact.

    Returns:
        The repulsion as a layer.

    Raises:
        ValueError: If there is none of this name.

    Example:
        >>> make_repulsion("zbl", 100, 5.0)
        ZBLRepulsion(cutoff=5.0)
    """
    if name is None:
        return None
    if name != "zbl":
        raise ValueError(f"`repulsion` must be 'zbl' or None for none, got {name!r}")
    return ZBLRepulsion(max_z, cutoff)
