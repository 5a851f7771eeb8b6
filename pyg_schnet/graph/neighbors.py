"""Radius graphs: every pair of atoms within a cutoff, none left out."""

import math
import numbers
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.search import candidate_pairs
from pyg_schnet.graph.structure import check_finite, check_sorted, check_structures, may_inspect


@dataclass(frozen=True)
class Graph:
    """Neighbours of every atom, sorted by target.

    Attributes:
        edge_index: Row 0 the source j, row 1 the target i [2, E] int64, sorted by target, then source.
        edge_shift: Image of the source in units of the cell [E, 3] int64; zero along open axes. The vector of an edge
        is
            ``pos[j] - pos[i] + edge_shift @ cell``.
        rowptr: Edges of target i are those from ``rowptr[i]`` up to ``rowptr[i + 1]`` [N + 1] int64.
        reverse: Position of the edge i -> j for each edge j -> i [E] int64; both have the same distance.
    """

    edge_index: Tensor
    edge_shift: Tensor
    rowptr: Tensor
    reverse: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """One edge of each pair of opposite edges, for what depends on the distance only.

        Returns:
            Positions of these edges [E / 2], and for every edge the pair it belongs to [E], counted in their order.

        Example:
            >>> edges, pair = radius_graph(torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]]), 1.5).pairs()
            >>> edges, pair
            (tensor([0, 2]), tensor([0, 0, 1, 1]))
        """
        edges = torch.arange(self.reverse.size(0), device=self.reverse.device)
        first = edges < self.reverse
        number = first.cumsum(0) - 1
        return edges[first], number[torch.minimum(edges, self.reverse)]


def radius_graph(
    pos: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
    *,
    batch_size: int | None = None,
) -> Graph:
    """All pairs of atoms of the same structure, and of their periodic images, closer than the cutoff; never truncated.

    Structures may be molecules, slabs and crystals in one batch, cells of any shape and size, also much smaller than
    the cutoff, atoms anywhere inside or outside. A pair is an edge when its distance is strictly below the cutoff, as
    in section II.D.2 of J. Chem. Phys. 148, 241722 (2018). The comparison is done in float64 with elementary
    operations, so float32 and float64 positions of equal value, CPU and GPU give the same edges.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom; ``math.inf`` connects all atoms of an open structure.
        batch: Structure of each atom [N] int64, sorted; ``None`` for a single structure.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3]; rows of open axes play no role.
        pbc: Periodic axes [B, 3] bool; needed beside ``cell``.
        batch_size: Number of structures, needed only if the last ones may be empty.

    Returns:
        The graph, both directions of every pair; an atom is a neighbour of its own images, not of itself.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes do not match, positions are not finite, ``batch`` is not sorted, the cutoff is not
            positive, periodic lattice vectors span no volume or two atoms of a structure are at the same place.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> radius_graph(pos, cutoff=2.5).edge_index
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
    """
    check_cutoff(cutoff)
    batch, batch_size = check_structures(pos, batch, batch_size)
    if not may_inspect(pos):
        check_finite(pos)
        check_sorted(batch)
    lattice = lattice_of(cell, pbc, batch_size, pos.device)
    if lattice is not None and math.isinf(cutoff):
        raise ValueError(
            "`cutoff` must be finite in periodic structures, where every atom has infinitely many neighbours"
        )
    exact = pos.detach().double()
    i, j, shift, image = candidate_pairs(exact, float(cutoff), batch, batch_size, lattice)
    squared = _squared_distance(exact, i, j, shift, None if lattice is None else lattice.cell[batch[i]])
    close = (squared < cutoff * cutoff).nonzero().squeeze(1)
    _check_coincident(squared[close], i[close], j[close], pos)
    return _both_directions(i[close], j[close], shift[close], image[close], pos.size(0))


def _squared_distance(pos: Tensor, i: Tensor, j: Tensor, shift: Tensor, cell: Tensor | None) -> Tensor:
    """Squared distance by elementary operations: equal to the last bit on every device and in both directions."""
    vector = pos.index_select(0, j) - pos.index_select(0, i)
    if cell is not None:
        steps = shift.to(pos.dtype)
        vector = vector + (steps[:, :1] * cell[:, 0] + steps[:, 1:2] * cell[:, 1] + steps[:, 2:] * cell[:, 2])
    x, y, z = vector.unbind(1)
    return x * x + y * y + z * z


def _check_coincident(squared: Tensor, i: Tensor, j: Tensor, pos: Tensor) -> None:
    if (squared == 0).any():
        pair = int((squared == 0).nonzero()[0])
        first, second = sorted((int(i[pair]), int(j[pair])))
        raise ValueError(
            f"atoms {first} and {second} are at the same place {pos[first].tolist()}, "
            "where forces are not defined; remove one of them"
        )


def _both_directions(i: Tensor, j: Tensor, shift: Tensor, image: Tensor, num_atoms: int) -> Graph:
    """All edges from one of each pair, sorted by target, source and image."""
    pairs = i.size(0)
    target, source, image = torch.cat([i, j]), torch.cat([j, i]), torch.cat([image, -image])
    reach = image.abs().amax(dim=0) if pairs else image.new_zeros(3)
    key = target * num_atoms + source
    for axis in range(3):
        key = key * (2 * reach[axis] + 1) + image[:, axis] + reach[axis]
    order = torch.argsort(key)
    place = torch.empty_like(order)
    place[order] = torch.arange(2 * pairs, device=order.device)
    opposite = torch.where(order < pairs, order + pairs, order - pairs)
    degree = torch.bincount(target, minlength=num_atoms)
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    edge_index = torch.stack([source, target])[:, order]
    return Graph(edge_index, torch.cat([shift, -shift])[order], rowptr, place[opposite])


def check_cutoff(cutoff: float) -> None:
    """Raise a TypeError or ValueError if the cutoff is no positive number."""
    if isinstance(cutoff, bool) or not isinstance(cutoff, numbers.Real):
        raise TypeError(f"`cutoff` must be a number in Angstrom, got {type(cutoff).__name__}")
    if math.isnan(cutoff) or cutoff <= 0:
        raise ValueError(f"`cutoff` must be positive, got {cutoff}")
