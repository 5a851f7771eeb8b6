"""Radius graphs: every pair of atoms within a cutoff, none left out."""

import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_schnet.graph.structure import check_finite, check_sorted, check_structures, may_inspect

#: Pairs examined at a time, which bounds the memory of a search to some 500 MB.
PAIRS_PER_CHUNK = 1 << 22


@dataclass(frozen=True)
class Graph:
    """Neighbours of every atom, sorted by target.

    Attributes:
        edge_index: Row 0 the source j, row 1 the target i [2, E] int64, sorted by target, then source.
        edge_shift: Image of the source in units of the cell [E, 3] int64; zero in open systems.
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
    """All pairs of atoms of the same structure that are closer than the cutoff, both directions, never truncated.

    A pair is an edge when its distance is strictly below the cutoff, as in section II.D.2 of J. Chem. Phys. 148, 241722
    (2018). The comparison is done in float64 with elementary operations, so float32 and float64 positions of equal
    value, CPU and GPU give the same edges.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom; ``math.inf`` connects all atoms of a structure.
        batch: Structure of each atom [N] int64, sorted; ``None`` for a single structure.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3]; without periodic axes they play no role.
        pbc: Periodic axes [B, 3] bool. Periodic graphs are not there yet: any ``True`` is refused.
        batch_size: Number of structures, needed only if the last ones may be empty.

    Returns:
        The graph; no atom is its own neighbour.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes do not match, positions are not finite, ``batch`` is not sorted, the cutoff is not
            positive or two atoms of a structure are at the same place.
        NotImplementedError: If an axis is periodic.

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
    _check_open(cell, pbc)
    pos = pos.detach().double()
    chunks = [_close_pairs(pos, source, target, cutoff) for source, target in _all_pairs(batch, batch_size)]
    edge_index = torch.cat(chunks, dim=1)
    degree = torch.bincount(edge_index[1], minlength=pos.size(0))
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    edge_shift = edge_index.new_zeros(edge_index.size(1), 3)
    # in order of (source, target), the k-th edge is the reverse of the k-th edge in order of (target, source)
    reverse = torch.argsort(edge_index[0] * pos.size(0) + edge_index[1])
    return Graph(edge_index, edge_shift, rowptr, reverse)


def _all_pairs(batch: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and target of all pairs of atoms within each structure, in order of the target, in chunks."""
    atoms = torch.bincount(batch, minlength=batch_size)  # [B]
    first_atom = (atoms.cumsum(0) - atoms)[batch]  # [N] first atom of the structure of each atom
    partners = atoms[batch]  # [N]
    last_pair = partners.cumsum(0)  # [N]
    num_atoms, num_pairs = batch.size(0), int(last_pair[-1]) if batch.numel() else 0
    start = 0
    while start < num_atoms or start == 0:
        stop = num_atoms
        if num_pairs > PAIRS_PER_CHUNK:
            done = int(last_pair[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(last_pair, done + PAIRS_PER_CHUNK, right=True)))
        rows = torch.arange(start, stop, device=batch.device)
        count = partners[start:stop]
        target = rows.repeat_interleave(count)  # [P]
        before = count.cumsum(0) - count
        offset = (first_atom[start:stop] - before).repeat_interleave(count)
        yield torch.arange(target.size(0), device=batch.device) + offset, target
        start = max(stop, 1)


def _close_pairs(pos: Tensor, source: Tensor, target: Tensor, cutoff: float) -> Tensor:
    """Those of the pairs that are closer than the cutoff [2, E]."""
    x, y, z = (pos.index_select(0, source) - pos.index_select(0, target)).unbind(1)
    squared = x * x + y * y + z * z  # elementary operations only: equal to the last bit on every device
    edge = (squared < cutoff * cutoff) & (source != target)
    pairs = torch.stack([source, target])[:, edge]
    coincident = squared[edge] == 0
    if coincident.any():
        j, i = pairs[:, coincident][:, 0].tolist()
        raise ValueError(
            f"atoms {min(i, j)} and {max(i, j)} are at the same place {pos[i].tolist()}, "
            "where forces are not defined; remove one of them"
        )
    return pairs


def check_cutoff(cutoff: float) -> None:
    """Raise a TypeError or ValueError if the cutoff is no positive number."""
    if isinstance(cutoff, bool) or not isinstance(cutoff, numbers.Real):
        raise TypeError(f"`cutoff` must be a number in Angstrom, got {type(cutoff).__name__}")
    if math.isnan(cutoff) or cutoff <= 0:
        raise ValueError(f"`cutoff` must be positive, got {cutoff}")


def _check_open(cell: Tensor | None, pbc: Tensor | None) -> None:
    if pbc is None:
        return
    if cell is None and bool(torch.as_tensor(pbc).any()):
        raise ValueError("`pbc` names periodic axes but `cell` is missing; pass the lattice vectors [B, 3, 3]")
    if bool(torch.as_tensor(pbc).any()):
        raise NotImplementedError(
            "periodic boundaries are not supported yet: this version builds graphs of open systems only; "
            "pass pbc=None for a molecule"
        )
