"""The graph, and how it is made of candidate pairs: the exact test of distances, and both directions in order."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.graph.lattice import Lattice

#: Atoms closer than this, in Angstrom, are at the same place.
SAME_PLACE = 1e-8
SAME_PLACE_SQUARED = SAME_PLACE * SAME_PLACE
#: Largest number that says target, source and image of an edge.
LARGEST_KEY = (1 << 63) - 1


@dataclass(frozen=True)
class Graph:
    """Neighbours of every atom, sorted by target.

    Attributes:
        edge_index: Row 0 the source j, row 1 the target i [2, E] int64, sorted by target, then source.
        edge_shift: Image of the source in units of the cell [E, 3] int64, zero along open axes: the vector of an edge
            is ``pos[j] - pos[i] + edge_shift @ cell``.
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
            >>> from pyg_schnet import radius_graph
            >>> edges, pair = radius_graph(torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]]), 1.5).pairs()
            >>> edges, pair
            (tensor([0, 2]), tensor([0, 0, 1, 1]))
        """
        if self.reverse.device.type == "cpu":  # the same in numpy, much faster for a few edges
            reverse = self.reverse.numpy()
            one, pair = (np.arange(len(reverse)) < reverse).nonzero()[0], np.empty_like(reverse)
            pair[one] = pair[reverse[one]] = np.arange(len(one))
            return torch.from_numpy(one), torch.from_numpy(pair)
        edges = torch.arange(self.reverse.size(0), device=self.reverse.device)
        first = (edges < self.reverse).long()
        number = first.cumsum(0) - 1
        places = torch.repeat_interleave(first, output_size=edges.size(0) // 2)  # their number is known
        return places, number.index_select(0, torch.minimum(edges, self.reverse))


def graph_of(
    pos: Tensor,
    cutoff: float,
    batch: Tensor,
    lattice: Lattice | None,
    pairs: tuple[Tensor, Tensor, Tensor, Tensor],
) -> Graph:
    """The graph of those candidate pairs that are closer than the cutoff.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        lattice: Lattices, or ``None`` if all structures are open.
        pairs: What :func:`pyg_schnet.graph.search.candidate_pairs` returns.

    Returns:
        The graph.

    Raises:
        ValueError: If two atoms of a pair are at the same place.
    """
    i, j, shift, image = pairs
    offset = None
    if lattice is not None:
        cells = lattice.cell if lattice.cell.size(0) == 1 else lattice.cell.index_select(0, batch.index_select(0, i))
        offset = shift_vectors(shift, cells)
    squared = squared_distance(pos, i, j, offset)
    close = (squared < cutoff * cutoff).nonzero().squeeze(1)
    if close.size(0) < squared.size(0):
        squared, i, j, shift, image = (values.index_select(0, close) for values in (squared, i, j, shift, image))
    check_coincident(squared, i, j, pos)
    return both_directions(i, j, shift, image, pos.size(0))


def shift_vectors(shift: Tensor, cell: Tensor) -> Tensor:
    """Vectors ``shift @ cell`` in Angstrom [P, 3] for shifts [P, 3] and the cell of each [P, 3, 3], elementary too."""
    steps = shift.to(cell.dtype)
    return steps[:, :1] * cell[:, 0] + steps[:, 1:2] * cell[:, 1] + steps[:, 2:] * cell[:, 2]


def squared_distance(pos: Tensor, i: Tensor, j: Tensor, offset: Tensor | None) -> Tensor:
    """Squared distance by elementary operations: equal to the last bit on every device and in both directions."""
    return squared_norm(between(pos, i, j, offset))


def between(pos: Tensor, i: Tensor, j: Tensor, offset: Tensor | None) -> Tensor:
    """Vectors from i to j, or to an image of j [P, 3]."""
    vector = pos.index_select(0, j) - pos.index_select(0, i)
    return vector if offset is None else vector + offset


def squared_norm(vector: Tensor) -> Tensor:
    """Squared length of vectors [P], by elementary operations."""
    x, y, z = vector.unbind(1)
    return x * x + y * y + z * z


def check_coincident(squared: Tensor, i: Tensor, j: Tensor, pos: Tensor) -> None:
    """Raise a ValueError that names two atoms at the same place (up to rounding), if there are any."""
    same = squared < SAME_PLACE_SQUARED
    if same.any():
        pair = int(same.nonzero()[0])
        first, second = sorted((int(i[pair]), int(j[pair])))
        raise ValueError(same_place(first, second, pos))


def same_place(first: int, second: int, pos: Tensor) -> str:
    """What is wrong with two atoms at the same place."""
    return (
        f"atoms {first} and {second} are at the same place {pos[first].tolist()}, "
        "where forces are not defined; remove one of them"
    )


def both_directions(i: Tensor, j: Tensor, shift: Tensor, image: Tensor, num_atoms: int) -> Graph:
    """All edges from one of each pair, sorted by target, source and image."""
    pairs = i.size(0)
    target, source = torch.cat([i, j]), torch.cat([j, i])
    key = target * num_atoms + source
    reach = [0, 0, 0] if pairs == 0 else torch.maximum(image.amax(dim=0), -image.amin(dim=0)).tolist()
    if num_atoms**2 * math.prod(2 * steps + 1 for steps in reach) > LARGEST_KEY:
        key = key * (2 * pairs) + torch.unique(torch.cat([image, -image]), dim=0, return_inverse=True)[1]
    else:
        for axis in range(3):
            if reach[axis] > 0:
                steps = image[:, axis]
                key = key * (2 * reach[axis] + 1) + torch.cat([steps, -steps]) + reach[axis]
    order = _argsort(key)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(2 * pairs, device=order.device))
    opposite = torch.where(order < pairs, order + pairs, order - pairs)
    degree = torch.bincount(target, minlength=num_atoms)
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    edge_index = torch.stack([source.index_select(0, order), target.index_select(0, order)])
    edge_shift = shift.new_zeros(2 * pairs, 3)
    if any(reach) or shift.any():
        edge_shift = torch.cat([shift, -shift]).index_select(0, order)
    return Graph(edge_index, edge_shift, rowptr, place.index_select(0, opposite))


def _argsort(key: Tensor) -> Tensor:
    """Order of distinct, non-negative keys.

    On a CPU numpy sorts values several times faster than torch sorts values and indices, so the index is put into the
    low bits, if there is room.
    """
    bits = key.numel().bit_length()
    if key.device.type != "cpu" or key.numel() == 0 or int(key.max()).bit_length() + bits > 63:
        return torch.argsort(key)
    packed = (key << bits) | torch.arange(key.numel())
    packed.numpy().sort()
    return packed & ((1 << bits) - 1)
