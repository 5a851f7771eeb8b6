"""The search of plain PyTorch where each launch and each look at a value costs: on a GPU.

The same graph as everywhere, by few operations on large tensors. Of small open structures the matrix of all distances
is made, whose close pairs are counted in one look. Otherwise the device is asked once what the structures are, so that
the host can work out their lattices and bins, and then for numbers of pairs: of those in neighbouring bins, of those of
them that are close, and of those that are exactly. Open structures in which all pairs are looked at need two looks.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.graph.all_pairs import every_pair
from pyg_schnet.graph.boxes import boxes_around
from pyg_schnet.graph.edges import LARGEST_KEY, SAME_PLACE_SQUARED, Graph, check_coincident
from pyg_schnet.graph.lattice import Lattice, check_lattice, check_reach, lattice_of
from pyg_schnet.graph.reduction import in_old_vectors, reduced
from pyg_schnet.graph.search import MARGIN, bounds, pairs_in_boxes
from pyg_schnet.graph.structure import check_finite, check_named, check_sorted
from pyg_schnet.graph.transfer import asked, sent
from pyg_schnet.sizes import SIZES


class ClosePairs(NamedTuple):
    """Each pair of atoms within the cutoff, once.

    Attributes:
        target: Atom i [P].
        source: Atom j [P].
        shift: Image of j in cells [P, 3]; ``None`` for open structures.
        image: A number that tells the images of the same two atoms apart, its negative that of the opposite edge [P];
            ``None`` for open structures, and where such numbers would be too large.
        images: How many such numbers there are.
        vector: ``pos[j] - pos[i] + shift @ cell`` in Angstrom [P, 3] float64.
        among: True for those of P pairs that count; ``None`` if all do.
        number: How many count.
        ascending: True if all do, and targets ascend.
    """

    target: Tensor
    source: Tensor
    shift: Tensor | None
    image: Tensor | None
    images: int
    vector: Tensor
    among: Tensor | None
    number: int
    ascending: bool = False

    def by_target(self, num_atoms: int) -> tuple[Tensor, Tensor, Tensor]:
        """Target and source [P] and vector [P, 3] of those that count, so that targets ascend."""
        if self.ascending:
            return self.target, self.source, self.vector
        key = torch.add(self.source, self.target, alpha=num_atoms)
        order = self.last(key).argsort()[: self.number]
        target, source, vector = (one.index_select(0, order) for one in (self.target, self.source, self.vector))
        return target, source, vector

    def last(self, key: Tensor) -> Tensor:
        """Keys of pairs [..., P], those of pairs that do not count behind all others."""
        return key if self.among is None else key.masked_fill_(~self.among, LARGEST_KEY)


class _Known(NamedTuple):
    """What the host knows of structures after one look.

    Attributes:
        atoms: Number of atoms of each [B].
        low: Smallest coordinates of each in Angstrom [B, 3].
        high: Largest coordinates [B, 3].
        lattice: Their lattices on the CPU; ``None`` if all are open.
    """

    atoms: ndarray
    low: ndarray
    high: ndarray
    lattice: Lattice | None


def device_graph(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None, pbc: Tensor | None
) -> Graph:
    """The graph of structures whose shapes are checked, of which no value has been looked at.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        The graph.

    Raises:
        TypeError: If cell or axes are of the wrong kind.
        ValueError: If cell and axes do not fit, positions are not finite, ``batch`` is not sorted or names a structure
            that there is not, the cutoff of a periodic structure is infinite or two atoms are at the same place.

    Example:
        >>> pos, batch = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]]), torch.tensor([0, 0, 0])
        >>> device_graph(pos, 2.5, batch, 1, None, None).edge_index
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
    """
    check_lattice(cell, pbc, batch_size)
    if pbc is None and 0 < pos.size(0) ** 2 <= SIZES.matrix_on_device:
        return _graph_of_matrix(*_close_matrix(pos, cutoff, batch, batch_size))
    return _both_directions(device_pairs(pos, cutoff, batch, batch_size, cell, pbc), pos.size(0))


def device_pairs(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None, pbc: Tensor | None
) -> ClosePairs:
    """What :func:`device_graph` is made of, for what needs no edges: each pair once.

    Args:
        pos: As there, like all other arguments.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        The pairs.

    Raises:
        TypeError: As there.
        ValueError: As there.
    """
    check_lattice(cell, pbc, batch_size)
    exact = pos.detach().double()
    if pbc is None and 0 < pos.size(0) ** 2 <= SIZES.matrix_on_device:
        close, number = _close_matrix(pos, cutoff, batch, batch_size, half=True)
        kept = _where(close, number)
        i = kept // pos.size(0)
        j = torch.sub(kept, i, alpha=pos.size(0))
        vector = exact.index_select(0, j) - exact.index_select(0, i)
        return ClosePairs(i, j, None, None, 1, vector, None, number, ascending=True)
    known = _known(pos, exact, batch, batch_size, cell, pbc)
    check_reach(cutoff, known.lattice)
    every = int((known.atoms * (known.atoms - 1)).sum()) // 2
    if known.lattice is None and every <= SIZES.most_pairs:
        i, j = every_pair(batch, every)
        vector = exact.index_select(0, j) - exact.index_select(0, i)
        close, number = _close(vector, cutoff, i, j, pos)
        kept = _where(close, number)
        i, j, vector = (one.index_select(0, kept) for one in (i, j, vector))
        return ClosePairs(i, j, None, None, 1, vector, None, number, ascending=True)
    return _pairs_in_boxes(pos, exact, cutoff, batch, known)


def _known(
    pos: Tensor, exact: Tensor, batch: Tensor, batch_size: int, cell: Tensor | None, pbc: Tensor | None
) -> _Known:
    """Ask the device what structures are, and say what is wrong with them."""
    host = torch.device("cpu")
    if exact.size(0) == 0:
        zero = np.zeros((batch_size, 3))
        return _Known(np.zeros(batch_size, np.int64), zero, zero, lattice_of(cell, pbc, batch_size, host))
    if batch_size == 1:
        order = [batch.any()]
    else:
        structures = torch.arange(batch_size + 1, device=batch.device)
        falls = (batch[1:] < batch[:-1]).sum()
        order = [falls, batch[0], batch[-1], torch.searchsorted(batch, structures)]
    low, high = bounds(exact, batch if batch_size == 1 else batch.clamp(0, batch_size - 1), batch_size)
    there = [one for one in (cell, pbc) if one is not None and one.device == pos.device]
    given = [exact.sum(), low, high, *order, *(one.detach() for one in there)]
    total, *found = asked(*given).split([one.numel() for one in given])
    if not total.isfinite():
        check_finite(pos)
    if found[2].item() or (batch_size > 1 and (found[3] < 0 or found[4] >= batch_size)):
        check_named(check_sorted(batch), batch_size)
    atoms = found[5].diff().long().numpy() if batch_size > 1 else np.array([exact.size(0)])
    seen = iter(found[len(found) - len(there) :])
    own = [one if one is None or one.device != pos.device else next(seen).view(one.shape) for one in (cell, pbc)]
    lattice = lattice_of(own[0], None if own[1] is None else own[1].bool(), batch_size, host)
    return _Known(atoms, found[0].view(-1, 3).numpy(), found[1].view(-1, 3).numpy(), lattice)


def _square(vector: Tensor) -> Tensor:
    """Squared length, the operations of :func:`~pyg_schnet.graph.edges.squared_norm` in fewer launches."""
    x, y, z = (vector * vector).unbind(-1)
    return x + y + z


def _close(vector: Tensor, cutoff: float, i: Tensor, j: Tensor, pos: Tensor) -> tuple[Tensor, int]:
    """Which vectors are shorter than the cutoff, and how many."""
    if vector.size(0) == 0:
        return vector.new_zeros(0, dtype=torch.bool), 0
    squared = _square(vector)
    close = squared < cutoff * cutoff
    number, shortest = asked(close.sum(), squared.amin()).tolist()
    if shortest < SAME_PLACE_SQUARED:
        check_coincident(squared, i, j, pos)
    return close, int(number)


def _where(mask: Tensor, number: int) -> Tensor:
    """Where a mask is true, so many times: as ``nonzero``, without waiting for the number."""
    return torch.repeat_interleave(mask.view(-1).long(), output_size=number)


# A few open structures.


def _close_matrix(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, half: bool = False) -> tuple[Tensor, int]:
    """Which atoms of all are neighbours [N, N], target first, or with ``half`` sources behind targets; their number."""
    exact = pos.detach().double()
    squared = _square(exact.unsqueeze(0) - exact.unsqueeze(1))
    squared.masked_fill_(batch.unsqueeze(0) != batch.unsqueeze(1), torch.inf).fill_diagonal_(torch.inf)
    close = squared < cutoff * cutoff
    if half:
        close = close.triu_()
    falls = (batch[1:] < batch[:-1]).sum()
    number, shortest, total, wrong, first, last = asked(
        close.sum(), squared.amin(), exact.sum(), falls, batch[0], batch[-1]
    ).tolist()
    if not math.isfinite(total):
        check_finite(pos)
    if wrong or first < 0 or last >= batch_size:
        check_named(check_sorted(batch), batch_size)
    if shortest < SAME_PLACE_SQUARED:
        atoms = torch.arange(pos.size(0), device=pos.device)
        i, j = torch.meshgrid(atoms, atoms, indexing="ij")
        check_coincident(squared.view(-1), i.reshape(-1), j.reshape(-1), pos)
    return close, int(number)


def _graph_of_matrix(close: Tensor, number: int) -> Graph:
    """Edges by target and source, as they stand in the matrix."""
    atoms = close.size(0)
    flat = close.view(-1).long()
    kept = torch.repeat_interleave(flat, output_size=number)
    until = flat.cumsum(0)
    target = kept // atoms
    source = torch.sub(kept, target, alpha=atoms)
    edge_index = torch.stack([source, target])
    rowptr = torch.nn.functional.pad(until[atoms - 1 :: atoms], (1, 0))
    opposite = torch.add(target, source, alpha=atoms)
    return Graph(edge_index, kept.new_zeros(number, 3), rowptr, until.index_select(0, opposite) - 1)


# Any structures, in bins.


def _pairs_in_boxes(pos: Tensor, exact: Tensor, cutoff: float, batch: Tensor, known: _Known) -> ClosePairs:
    short = None if known.lattice is None else reduced(known.lattice)
    lattice = known.lattice if short is None else short[0]
    boxes = boxes_around(known.atoms, known.low, known.high, lattice, cutoff * MARGIN)
    i, j, image, wrap, tables = pairs_in_boxes(exact, cutoff * MARGIN, batch, boxes)
    if known.lattice is None:
        vector = exact.index_select(0, j) - exact.index_select(0, i)
        close, number = _close(vector, cutoff, i, j, pos)
        return ClosePairs(i, j, None, None, 1, vector, None if number == i.size(0) else close, number)
    cells = tables.cell  # along open axes of another length, where shifts are zero
    both = torch.cat([exact, wrap], dim=1)
    between = both.index_select(0, j) - both.index_select(0, i)
    shift = image - between[:, 3:]  # float64, whole numbers
    spans, code = [2 * steps + 1 for steps in boxes.images], None
    if short is not None:
        cells = sent(known.lattice.cell, pos.device)
        matrix = sent(short[1], pos.device)
        matrix = matrix if len(matrix) == 1 else matrix.index_select(0, batch.index_select(0, i))
        shift = in_old_vectors(shift.long(), matrix).to(exact.dtype)
    elif exact.size(0) ** 2 * math.prod(spans) <= LARGEST_KEY:
        x, y, z = image.long().unbind(1)
        code = torch.add(z, torch.add(y, x, alpha=spans[1]), alpha=spans[2])
    cells = cells if len(cells) == 1 else cells.index_select(0, batch.index_select(0, i))
    a, b, c = (shift.unsqueeze(2) * cells).unbind(1)
    vector = between[:, :3] + (a + b + c)
    close, number = _close(vector, cutoff, i, j, pos)
    among = None if number == i.size(0) else close
    return ClosePairs(i, j, shift.long(), code, math.prod(spans), vector, among, number)


# Edges.


def _both_directions(pairs: ClosePairs, num_atoms: int) -> Graph:
    """All edges from one of each pair, as :func:`~pyg_schnet.graph.edges.both_directions`."""
    i, j, most, number = pairs.target, pairs.source, pairs.target.size(0), pairs.number
    ends = torch.cat([j, i, i, j]).view(2, -1)  # sources, targets
    key = torch.add(ends[0], ends[1], alpha=num_atoms)
    shift = i.new_zeros(2 * number, 3) if pairs.shift is None else torch.cat([pairs.shift, -pairs.shift])
    if pairs.image is not None:
        key = torch.add(torch.cat([pairs.image, -pairs.image]), key, alpha=pairs.images)
    key = pairs.last(key.view(2, -1)).view(-1)
    order = key.argsort() if pairs.shift is None or pairs.image is not None else _by_shift(key, shift)
    order = order[: 2 * number]
    each = torch.arange(max(2 * number, num_atoms + 1), device=order.device)
    place = order.new_empty(2 * most).scatter_(0, order, each[: 2 * number])
    edge_index = ends.index_select(1, order)
    rowptr = torch.searchsorted(edge_index[1], each[: num_atoms + 1])
    opposite = place.roll(-most) if most else place
    shift = shift if pairs.shift is None else shift.index_select(0, order)
    return Graph(edge_index, shift, rowptr, opposite.index_select(0, order))


def _by_shift(key: Tensor, shift: Tensor) -> Tensor:
    """Order by key, then by shift, whose differences between images of the same atoms are those of images."""
    order = shift[:, 2].argsort(stable=True)
    for values in (shift[:, 1], shift[:, 0], key):
        order = order.index_select(0, values.index_select(0, order).argsort(stable=True))
    return order
