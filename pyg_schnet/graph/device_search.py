"""The search of plain PyTorch where each launch and each look at a value costs: on a GPU.

The same graph as everywhere, by few operations on large tensors. Of small open structures the matrix of all distances
is made, whose close pairs are counted in one look. Otherwise, sizes that only the device knows are asked for together,
at most four times: what the structures are, how many candidates there are, how many of them are close, and how many
exactly. What is unusual (slabs and wires, very skewed cells, batches of very different cells, impossible
input) is answered with ``None`` and left to :mod:`pyg_schnet.graph.search`, which has a sentence for each mistake.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_schnet.graph.edges import LARGEST_KEY, SAME_PLACE_SQUARED, Graph
from pyg_schnet.graph.reduction import MOST_SKEWED
from pyg_schnet.graph.search import MARGIN, bounds
from pyg_schnet.sizes import SIZES

#: Bins along an axis, at most: their numbers fit 64 bits for tens of thousands of structures.
MOST_BINS = 2**16
#: Images along an axis of a cell that are looked at, at most.
MOST_IMAGES = 2**10


class ClosePairs(NamedTuple):
    """Each pair of atoms within the cutoff, once.

    Attributes:
        target: Atom i [P].
        source: Atom j [P].
        shift: Image of j in cells [P, 3]; ``None`` for open structures.
        image: A number that tells the images of the same two atoms apart, its negative that of the opposite edge [P];
            ``None`` for open structures.
        images: How many such numbers there are.
        vector: ``pos[j] - pos[i] + shift @ cell`` in Angstrom [P, 3] float64.
        ascending: True if targets ascend.
    """

    target: Tensor
    source: Tensor
    shift: Tensor | None
    image: Tensor | None
    images: int
    vector: Tensor
    ascending: bool = False


def device_graph(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None, pbc: Tensor | None
) -> Graph | None:
    """The graph of structures whose shapes are checked, of which no value has been looked at.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        The graph; ``None`` if that is for :mod:`pyg_schnet.graph.search` to say.

    Example:
        >>> pos, batch = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]]), torch.tensor([0, 0, 0])
        >>> device_graph(pos, 2.5, batch, 1, None, None).edge_index
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
    """
    if cell is None and pbc is None and 0 < pos.size(0) ** 2 <= SIZES.matrix_on_device:
        close = _close_matrix(pos.detach().double(), cutoff, batch, batch_size)
        return None if close is None else _graph_of_matrix(*close)
    pairs = device_pairs(pos, cutoff, batch, batch_size, cell, pbc)
    if pairs is None or pos.size(0) ** 2 * pairs.images > LARGEST_KEY:
        return None
    return _both_directions(pairs, pos.size(0))


def device_pairs(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None, pbc: Tensor | None
) -> ClosePairs | None:
    """What :func:`device_graph` is made of, for what needs no edges: each pair once.

    Args:
        pos: As there, like all other arguments.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        The pairs, ordered by target and source in open structures; ``None`` likewise.
    """
    if pos.size(0) == 0:
        return None
    exact = pos.detach().double()
    if pbc is None and cell is None:
        return _pairs_of_open(exact, cutoff, batch, batch_size)
    if pbc is None or cell is None or math.isinf(cutoff) or not _fit(cell, pbc, batch_size, pos.device):
        return None
    return _pairs_of_crystals(exact, cutoff, batch, batch_size, cell.detach().double(), pbc)


def _fit(cell: Tensor, pbc: Tensor, batch_size: int, device: torch.device) -> bool:
    """True if kinds and shapes are those of lattices on the device."""
    kinds = cell.is_floating_point() and pbc.dtype == torch.bool and cell.device == pbc.device == device
    return kinds and cell.shape == (batch_size, 3, 3) and pbc.shape == (batch_size, 3)


def _asked(*values: Tensor) -> list[float]:
    """Values of the device, in float64 and in one wait."""
    found: list[float] = torch.cat([value.reshape(-1) for value in values]).tolist()
    return found


def _square(vector: Tensor) -> Tensor:
    """Squared length, the operations of :func:`~pyg_schnet.graph.edges.squared_norm` in fewer launches."""
    x, y, z = (vector * vector).unbind(-1)
    return x + y + z


def _close(vector: Tensor, cutoff: float) -> tuple[Tensor, int] | None:
    """Which vectors are shorter than the cutoff, and how many; ``None`` if one leads to the same place."""
    if vector.size(0) == 0:
        return vector.new_zeros(0, dtype=torch.bool), 0
    squared = _square(vector)
    close = squared < cutoff * cutoff
    number, shortest = _asked(close.sum(), squared.amin())
    return None if shortest < SAME_PLACE_SQUARED else (close, int(number))


# Open structures.


def _close_matrix(
    exact: Tensor, cutoff: float, batch: Tensor, batch_size: int, half: bool = False
) -> tuple[Tensor, int] | None:
    """Which atoms of all are neighbours [N, N], target first, or with ``half`` sources behind targets; their number."""
    squared = _square(exact.unsqueeze(0) - exact.unsqueeze(1))
    squared.masked_fill_(batch.unsqueeze(0) != batch.unsqueeze(1), torch.inf).fill_diagonal_(torch.inf)
    close = squared < cutoff * cutoff
    if half:
        close = close.triu_()
    falls = (batch[1:] < batch[:-1]).sum()
    number, shortest, total, wrong, first, last = _asked(
        close.sum(), squared.amin(), exact.sum(), falls, batch[0], batch[-1]
    )
    fine = shortest >= SAME_PLACE_SQUARED and math.isfinite(total) and not wrong and first >= 0 and last < batch_size
    return (close, int(number)) if fine else None


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


def _pairs_of_open(exact: Tensor, cutoff: float, batch: Tensor, batch_size: int) -> ClosePairs | None:
    """All pairs of each structure are looked at."""
    atoms = batch.size(0)
    if atoms**2 <= SIZES.matrix_on_device:
        matrix = _close_matrix(exact, cutoff, batch, batch_size, half=True)
        if matrix is None:
            return None
        kept = _where(matrix[0].view(-1), matrix[1])
        i = kept // atoms
        j = torch.sub(kept, i, alpha=atoms)
        return ClosePairs(i, j, None, None, 1, exact.index_select(0, j) - exact.index_select(0, i), True)
    end = torch.searchsorted(batch, batch, right=True)  # [N] one after the last atom of the structure of each atom
    number = torch.arange(1, atoms + 1, device=batch.device)
    after = end - number  # atoms of the structure after each atom
    until = after.cumsum(0)
    falls = (batch[1:] < batch[:-1]).sum()
    places, wrong, first, last, total = _asked(until[-1], falls, batch[0], batch[-1], exact.sum())
    if wrong or first < 0 or last >= batch_size or not math.isfinite(total):
        return None
    if places > SIZES.most_pairs:
        return _pairs_in_boxes(exact, cutoff, batch, batch_size)
    row = torch.repeat_interleave(after, output_size=int(places))  # [C] the first atom of each pair
    column = torch.arange(row.size(0), device=row.device) + (end - until).index_select(0, row)
    vector = exact.index_select(0, column) - exact.index_select(0, row)
    found = _close(vector, cutoff)
    if found is None:
        return None
    kept = _where(*found)
    return ClosePairs(
        row.index_select(0, kept), column.index_select(0, kept), None, None, 1, vector.index_select(0, kept), True
    )


def _pairs_in_boxes(exact: Tensor, cutoff: float, batch: Tensor, batch_size: int) -> ClosePairs | None:
    """Structures that are large, in boxes so wide that nobody sees an image of himself."""
    if math.isinf(cutoff):
        return None
    low, high = bounds(exact, batch, batch_size)
    cell = torch.diag_embed(high - low + 2.1 * cutoff)
    pbc = torch.ones(batch_size, 3, dtype=torch.bool, device=exact.device)
    found = _pairs_of_crystals(exact, cutoff, batch, batch_size, cell, pbc)
    return None if found is None else found._replace(shift=None, image=None, images=1)


def _where(mask: Tensor, number: int) -> Tensor:
    """Where a mask is true, so many times: as ``nonzero``, without waiting for the number."""
    return torch.repeat_interleave(mask.long(), output_size=number)


# Crystals.


class _Sorted(NamedTuple):
    """Atoms in the order of their bins.

    Attributes:
        key: Number of the bin of each atom, ascending [N].
        order: Original number of each atom [N].
        pos: Positions in the cell in Angstrom [N, 3].
        coordinate: Bin along the axes [N, 3].
        number: Bins along the axes of the structure of each atom [N, 3], or of the only one [1, 3].
        structure: Structure of each atom [N]; ``None`` if there is only one.
        cell: Lattice vectors [B, 3, 3].
    """

    key: Tensor
    order: Tensor
    pos: Tensor
    coordinate: Tensor
    number: Tensor
    structure: Tensor | None
    cell: Tensor


def _pairs_of_crystals(
    exact: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor, pbc: Tensor
) -> ClosePairs | None:
    reach, one = cutoff * MARGIN, batch_size == 1
    normal = torch.linalg.cross(cell.roll(-1, 1), cell.roll(-2, 1))  # [B, 3, 3] of the planes of the other two axes
    volume = (cell * normal).sum(2)  # [B, 3] three times the same
    inverse = (normal / volume.unsqueeze(2)).mT
    height, length = volume.abs() / normal.norm(dim=2), cell.norm(dim=2)  # [B, 3]
    most = (height / reach).floor().clamp(1, MOST_BINS)
    steps = (reach * most / height).ceil()  # bins that are within reach
    low, high = torch.aminmax(steps, dim=0)
    images = (high / most).ceil().amax(0)
    usual = ((length < MOST_SKEWED * height) & pbc).all()  # false for cells that are flat or not finite, too
    falls = [batch.any()] if one else [(batch[1:] < batch[:-1]).sum(), batch[0], batch[-1]]
    batch = batch if one else batch.clamp(0, batch_size - 1)  # before anybody has looked at it
    fractional = exact @ inverse[0] if one else (exact.unsqueeze(1) @ inverse[batch]).squeeze(1)
    wrap = fractional.floor()
    fractional = fractional - wrap
    number = most.long() if one else most.long()[batch]
    coordinate = (fractional.clamp(max=1 - 2**-52) * number).long()  # rounding may have made it one
    x, y, z = coordinate.unbind(1)
    key = torch.addcmul(z, torch.addcmul(y, x, number[:, 1]), number[:, 2])
    if not one:
        key = torch.add(key, batch, alpha=MOST_BINS**3)
    fine, total, *rest = _asked(usual, exact.sum(), low, high, images, *falls)
    wrong = rest[9] or (not one and (rest[10] < 0 or rest[11] >= batch_size))
    if not fine or wrong or not math.isfinite(total) or max(rest[6:9]) > MOST_IMAGES or batch_size > 2**14:
        return None
    if rest[:3] != rest[3:6] and exact.size(0) * math.prod(2 * step + 1 for step in rest[3:6]) > SIZES.rows_on_device:
        return None  # few cells in which neighbours are far away would cost all others their time
    key, order = key.sort()
    inside = (fractional @ cell[0]) if one else (fractional.unsqueeze(1) @ cell[batch]).squeeze(1)
    atoms = _Sorted(
        key,
        order,
        inside.index_select(0, order),
        coordinate.index_select(0, order),
        number if one else number.index_select(0, order),
        None if one else batch.index_select(0, order),
        cell,
    )
    steps, spans = [int(value) for value in rest[3:6]], [2 * int(value) + 1 for value in rest[6:9]]
    found = list(_candidates(atoms, steps, reach))
    i, j, image = found[0] if len(found) == 1 else (torch.cat(parts) for parts in zip(*found, strict=True))
    cells = cell if one else cell.index_select(0, batch.index_select(0, i))
    return _exact_pairs(exact, cutoff, (i, j, image), wrap, cells, spans)


def _candidates(atoms: _Sorted, steps: list[int], reach: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pairs that are close or a hair's breadth farther: atoms i and j by their original numbers, image of j [P, 3]."""
    offset = _offsets(*steps, atoms.key.device)
    half = offset.size(0)
    pieces = [(0, atoms.key.size(0))]
    most = max(1, SIZES.rows_on_device // half)
    if pieces[0][1] > most:
        pieces = [(start, min(pieces[0][1], start + most)) for start in range(0, pieces[0][1], most)][::-1]
    while pieces:
        start, stop = pieces.pop()
        rows, total = _rows(atoms, offset, start, stop)
        if total > SIZES.candidates_on_device and stop - start > 1:
            size = -(-(stop - start) // -(-total // SIZES.candidates_on_device))
            size = min(size, stop - start - 1)
            pieces += [(first, min(stop, first + size)) for first in range(start, stop, size)][::-1]
            continue
        yield _near(atoms, rows, total, start, half, reach)


@functools.lru_cache(maxsize=32)
def _offsets(x: int, y: int, z: int, device: torch.device) -> Tensor:
    """Offsets of bins that are up to so many steps away [H, 3]: first none, and of two opposite ones only one."""
    with torch.inference_mode(False):
        spans = 2 * x + 1, 2 * y + 1, 2 * z + 1
        local = torch.arange(math.prod(spans) // 2, math.prod(spans), device=device)
        outer = local // spans[2]
        return torch.stack([outer // spans[1] - x, outer % spans[1] - y, local % spans[2] - z], 1)


def _rows(atoms: _Sorted, offset: Tensor, start: int, stop: int) -> tuple[tuple[Tensor, ...], int]:
    """For some atoms and all offsets: partners in that bin, its image, and the number of all partners together."""
    part, half = slice(start, stop), offset.size(0)
    number = atoms.number if atoms.structure is None else atoms.number[part].unsqueeze(1)
    place = atoms.coordinate[part].unsqueeze(1) + offset  # [n, H, 3]
    image = torch.div(place, number, rounding_mode="floor")
    x, y, z = torch.addcmul(place, image, number, value=-1).unbind(2)
    key = torch.addcmul(z, torch.addcmul(y, x, number[..., 1]), number[..., 2])
    if atoms.structure is not None:
        key = torch.add(key, atoms.structure[part].unsqueeze(1), alpha=MOST_BINS**3)
    first = torch.searchsorted(atoms.key, key)
    last = torch.searchsorted(atoms.key, key, right=True)
    # in its own bin an atom meets only those after it, elsewhere everyone
    first[:, 0] = torch.arange(start + 1, stop + 1, device=key.device)
    count = (last - first).view(-1)
    until = count.cumsum(0)
    rows = image.view(-1, 3), last.view(-1) - until, count
    return rows, int(until[-1]) if half else 0


def _near(
    atoms: _Sorted, rows: tuple[Tensor, ...], total: int, start: int, half: int, reach: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Those partners that are close."""
    image, shift, count = rows
    row = torch.repeat_interleave(count, output_size=total)
    source = torch.arange(total, device=row.device) + shift.index_select(0, row)
    moved = image.to(atoms.pos.dtype)
    seen = atoms.pos[start : start + count.size(0) // half].unsqueeze(1)
    if atoms.structure is None:
        seen = seen - (moved @ atoms.cell[0]).view(-1, half, 3)
    else:
        cells = atoms.cell.index_select(0, atoms.structure[start : start + seen.size(0)])
        seen = seen - moved.view(-1, half, 3) @ cells
    vector = atoms.pos.index_select(0, source) - seen.view(-1, 3).index_select(0, row)
    close = (_square(vector) < reach * reach).nonzero().squeeze(1)
    row, source = row.index_select(0, close), source.index_select(0, close)
    i, j = (atoms.order.index_select(0, one) for one in (row // half + start, source))
    return i, j, image.index_select(0, row)


def _exact_pairs(
    exact: Tensor,
    cutoff: float,
    candidates: tuple[Tensor, Tensor, Tensor],
    wrap: Tensor,
    cells: Tensor,
    spans: list[int],
) -> ClosePairs | None:
    """The exact test of distances, of atoms where they are."""
    i, j, image = candidates
    shift = image - wrap.index_select(0, j) + wrap.index_select(0, i)  # float64, whole numbers
    a, b, c = (shift.unsqueeze(2) * cells).unbind(1)
    vector = exact.index_select(0, j) - exact.index_select(0, i) + (a + b + c)
    found = _close(vector, cutoff)
    if found is None:
        return None
    x, y, z = image.unbind(1)
    code = torch.add(z, torch.add(y, x, alpha=spans[1]), alpha=spans[2])
    if found[1] < i.size(0):
        kept = _where(*found)
        i, j, shift, code, vector = (one.index_select(0, kept) for one in (i, j, shift, code, vector))
    return ClosePairs(i, j, shift.long(), code, math.prod(spans), vector)


# Edges.


def _both_directions(pairs: ClosePairs, num_atoms: int) -> Graph:
    """All edges from one of each pair, as :func:`~pyg_schnet.graph.edges.both_directions`."""
    i, j, number = pairs.target, pairs.source, pairs.target.size(0)
    ends = torch.cat([j, i, i, j]).view(2, -1)  # sources, targets
    key = torch.add(ends[0], ends[1], alpha=num_atoms)
    if pairs.image is not None:
        key = torch.add(torch.cat([pairs.image, -pairs.image]), key, alpha=pairs.images)
    order = key.argsort()
    each = torch.arange(max(2 * number, num_atoms + 1), device=order.device)
    place = torch.empty_like(order).scatter_(0, order, each[: 2 * number])
    edge_index = ends.index_select(1, order)
    rowptr = torch.searchsorted(edge_index[1], each[: num_atoms + 1])
    shift = i.new_zeros(2 * number, 3)
    if pairs.shift is not None:
        shift = torch.cat([pairs.shift, -pairs.shift]).index_select(0, order)
    opposite = place.roll(-number) if number else place
    return Graph(edge_index, shift, rowptr, opposite.index_select(0, order))
