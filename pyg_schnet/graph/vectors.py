"""The edges of a batch of structures, as a network sees them."""

from typing import NamedTuple

from torch import Tensor


class Edges(NamedTuple):
    """Edges with the vectors that everything depends on.

    Attributes:
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        edge_vec: Vectors from target to source in Angstrom [P, 3], where opposite edges may share one.
        edge_pair: Row of ``edge_vec`` (or of its opposite) that belongs to each edge [E]; ``None`` if P = E.
        pair_index: Source and target of the rows of ``edge_vec`` [2, P].
    """

    edge_index: Tensor
    edge_vec: Tensor
    edge_pair: Tensor | None
    pair_index: Tensor

    @property
    def edge_weight(self) -> Tensor:
        """Distances in Angstrom [P]."""
        return self.edge_vec.norm(dim=-1)
