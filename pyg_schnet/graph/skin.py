r"""Verlet's rule: how long pairs that were searched up to cutoff + skin hold all neighbours within the cutoff.

All pairs within :math:`R = r_c + r_{skin}` of where atoms were, :math:`r^0`, with lattice vectors :math:`L^0`, are
kept. Since then the cell was strained, and atoms moved beside:

.. math:: L = L^0 (1 + \varepsilon), \quad r_i = r_i^0 (1 + \varepsilon) + u_i \quad\Rightarrow\quad
    d_{ij} \ge d_{ij}^0 (1 - \|\varepsilon\|) - |u_i| - |u_j|

so no other pair is closer than the cutoff as long as :math:`2 |u_i| + R\, \|\varepsilon\| \le r_{skin}` for all atoms
of a structure, with the Frobenius norm of the strain. This is Verlet's rule, Phys. Rev. 159, 98 (1967), for cells that
change.
"""

from torch import Tensor

#: Pairs are searched up to a distance that much larger than cutoff + skin, so that rounding never loses one.
SEARCH_MARGIN = 1 + 1e-9


def skin_left(displacement: Tensor, skin: float, reach: float = 0.0, strain: Tensor | None = None) -> Tensor:
    """How much of the skin is left for each atom.

    Args:
        displacement: How each atom has moved since pairs were searched, beside its cell, in Angstrom [N, 3] float64.
        skin: How much farther than the cutoff they were searched, in Angstrom.
        reach: Cutoff + skin in Angstrom, needed beside a strain.
        strain: How the cell of each atom was strained since then [N, 3, 3]; ``None`` if it was not.

    Returns:
        Distances in Angstrom [N]; pairs must be searched anew for structures where one is negative, or NaN.

    Example:
        >>> import torch
        >>> skin_left(torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.3, 0.0]]), skin=0.5)
        tensor([ 0.3000, -0.1000])
    """
    left = skin - 2 * displacement.norm(dim=1)
    return left if strain is None else left - reach * SEARCH_MARGIN * strain.flatten(1).norm(dim=1)
