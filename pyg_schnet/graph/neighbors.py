"""Radius graphs: every pair of atoms within a cutoff, none left out."""

import math
import numbers
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_schnet.graph.backends import find_search
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.structure import check_finite, check_sorted, check_structures, may_inspect

#: Atoms closer than this, in Angstrom, are at the same place.
SAME_PLACE = 1e-8


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
    backend: str = "auto",
    *,
    batch_size: int | None = None,
    max_num_neighbors: int | None = None,
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
        backend: Who searches: ``"torch"``, ``"torch_cluster"``, ``"pyg_lib"`` (both for open structures), ``"vesin"``
            (CPU) or ``"nvalchemi"``; ``"auto"`` takes the fastest installed one. All give the identical graph.
        batch_size: Number of structures, needed only if the last ones may be empty.
        max_num_neighbors: More neighbours of an atom than this are an error; they are never cut off.

    Returns:
        The graph, both directions of every pair; an atom is a neighbour of its own images, not of itself.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ImportError: If the package of the back end is not installed.
        ValueError: If shapes do not match, positions are not finite, ``batch`` is not sorted, the cutoff is not
            positive, periodic lattice vectors span no volume, two atoms of a structure are at the same place, an atom
            has more than ``max_num_neighbors`` neighbours or the back end cannot do this search.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> radius_graph(pos, cutoff=2.5).edge_index
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
    """
    check_cutoff(cutoff)
    cutoff = float(cutoff)
    _check_limit(max_num_neighbors)
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
    search = find_search(backend, pos.device, pos.size(0), batch_size, periodic=lattice is not None)
    i, j, shift, image = search(exact, cutoff, batch, batch_size, lattice)
    offset = None
    if lattice is not None:
        cells = lattice.cell if batch_size == 1 else lattice.cell.index_select(0, batch.index_select(0, i))
        offset = shift_vectors(shift, cells)
    squared = squared_distance(exact, i, j, offset)
    close = (squared < cutoff * cutoff).nonzero().squeeze(1)
    if close.size(0) < squared.size(0):
        squared, i, j, shift, image = (values.index_select(0, close) for values in (squared, i, j, shift, image))
    check_coincident(squared, i, j, pos)
    graph = both_directions(i, j, shift, image, pos.size(0))
    if max_num_neighbors is not None:
        _check_degree(graph.rowptr.diff(), max_num_neighbors, cutoff)
    return graph


def within_cutoff(
    pos: Tensor, edge_index: Tensor, edge_shift: Tensor | None, cell: Tensor | None, batch: Tensor, cutoff: float
) -> Tensor:
    """Which edges of a graph are closer than a cutoff, by the exact rule of :func:`radius_graph`.

    Args:
        pos: Positions in Angstrom [N, 3].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        edge_shift: Image of the source in cells [E, 3], or ``None`` for open structures.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3], or ``None``.
        batch: Structure of each atom [N].
        cutoff: Cutoff distance in Angstrom.

    Returns:
        Whether each edge is closer [E] bool.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> within_cutoff(pos, torch.tensor([[1, 2], [0, 1]]), None, None, torch.zeros(3, dtype=torch.long), 1.5)
        tensor([ True, False])
    """
    source, target = edge_index[0], edge_index[1]
    offset = None
    if cell is not None and edge_shift is not None:
        offset = shift_vectors(edge_shift, cell.detach().double()[batch.index_select(0, target)])
    return squared_distance(pos.detach().double(), target, source, offset) < cutoff * cutoff


def shift_vectors(shift: Tensor, cell: Tensor) -> Tensor:
    """Vectors ``shift @ cell`` in Angstrom [P, 3] for shifts [P, 3] and the cell of each [P, 3, 3], elementary too."""
    steps = shift.to(cell.dtype)
    return steps[:, :1] * cell[:, 0] + steps[:, 1:2] * cell[:, 1] + steps[:, 2:] * cell[:, 2]


def squared_distance(pos: Tensor, i: Tensor, j: Tensor, offset: Tensor | None) -> Tensor:
    """Squared distance by elementary operations: equal to the last bit on every device and in both directions."""
    vector = pos.index_select(0, j) - pos.index_select(0, i)
    if offset is not None:
        vector = vector + offset
    x, y, z = vector.unbind(1)
    return x * x + y * y + z * z


def check_coincident(squared: Tensor, i: Tensor, j: Tensor, pos: Tensor) -> None:
    """Raise a ValueError that names two atoms at the same place (up to rounding), if there are any."""
    same = squared < SAME_PLACE * SAME_PLACE
    if same.any():
        pair = int(same.nonzero()[0])
        first, second = sorted((int(i[pair]), int(j[pair])))
        raise ValueError(
            f"atoms {first} and {second} are at the same place {pos[first].tolist()}, "
            "where forces are not defined; remove one of them"
        )


def both_directions(i: Tensor, j: Tensor, shift: Tensor, image: Tensor, num_atoms: int) -> Graph:
    """All edges from one of each pair, sorted by target, source and image."""
    pairs = i.size(0)
    target, source = torch.cat([i, j]), torch.cat([j, i])
    key = target * num_atoms + source
    reach = [0, 0, 0] if pairs == 0 else torch.maximum(image.amax(dim=0), -image.amin(dim=0)).tolist()
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


def _check_degree(degree: Tensor, most: int, cutoff: float) -> None:
    if degree.numel() > 0 and int(degree.max()) > most:
        atom = int((degree > most).nonzero()[0])
        raise ValueError(
            f"atom {atom} has {int(degree[atom])} neighbors within {cutoff} Angstrom, more than `max_num_neighbors` "
            f"{most}, and none is ever left out; raise it or pass None"
        )


def _check_limit(most: int | None) -> None:
    if most is not None and (isinstance(most, bool) or not isinstance(most, numbers.Integral)):
        raise TypeError(f"`max_num_neighbors` must be an integer or None, got {type(most).__name__}")
    if most is not None and most < 0:
        raise ValueError(f"`max_num_neighbors` must not be negative, got {most}")


def check_cutoff(cutoff: float) -> None:
    """Raise a TypeError or ValueError if the cutoff is no positive number."""
    if isinstance(cutoff, bool) or not isinstance(cutoff, numbers.Real):
        raise TypeError(f"`cutoff` must be a number in Angstrom, got {type(cutoff).__name__}")
    if math.isnan(cutoff) or cutoff <= 0:
        raise ValueError(f"`cutoff` must be positive, got {cutoff}")
