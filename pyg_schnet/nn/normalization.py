"""Normalisation of the convolution by the number of neighbours."""

import torch
from torch import Tensor, nn

from pyg_schnet.nn.cutoff import NoCutoff
from pyg_schnet.segments import add_up


class NeighborNormalization(nn.Module):
    r"""Factor on the sum over the neighbours of an atom.

    ``"mean"``, as for crystals in Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.2:

    .. math:: 1 / n_i, \quad n_i = \sum_{j \in \mathcal N(i)} 1

    counts all neighbours, periodic images too, and jumps when one crosses the cutoff. ``"smooth"`` counts with the
    cutoff function,

    .. math:: 1 / \Big(1 + \sum_{j \in \mathcal N(i)} C(d_{ij})\Big)

    so that the energy stays continuous, and differentiable as often as the cutoff function.

    Args:
        kind: ``"mean"`` or ``"smooth"``.
        cutoff: Cutoff function C, needed for ``"smooth"``.

    Raises:
        ValueError: If ``kind`` is neither, or ``"smooth"`` has no cutoff function.

    Example:
        >>> edge_index = torch.tensor([[1, 2], [0, 0]])
        >>> NeighborNormalization("mean", NoCutoff())(edge_index, torch.ones(2), 3).flatten()
        tensor([0.5000, 1.0000, 1.0000])
    """

    def __init__(self, kind: str, cutoff: nn.Module) -> None:
        super().__init__()
        if kind not in {"mean", "smooth"}:
            raise ValueError(f"`normalization` must be 'mean', 'smooth' or None, got {kind!r}")
        if kind == "smooth" and isinstance(cutoff, NoCutoff):
            raise ValueError("`normalization='smooth'` needs a cutoff function; pass cutoff_function='cosine'")
        self.kind, self.cutoff = kind, cutoff

    def forward(self, edge_index: Tensor, edge_weight: Tensor, num_targets: int) -> Tensor:
        """Factors of the targets.

        Args:
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            edge_weight: Distances in Angstrom [E].
            num_targets: Number of target atoms.

        Returns:
            Factors [num_targets, 1]; one for an atom without neighbours.
        """
        each = torch.ones_like(edge_weight) if self.kind == "mean" else self.cutoff(edge_weight)
        total = add_up(each, edge_index[1], num_targets)
        total = total.clamp(min=1) if self.kind == "mean" else 1 + total
        return total.reciprocal().unsqueeze(-1)

    def extra_repr(self) -> str:
        """The kind, for printing."""
        return repr(self.kind)
