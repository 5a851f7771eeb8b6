"""Linked cells: all close pairs of a batch of structures at once, open and periodic, in plain PyTorch.

Each structure is divided into bins no narrower than the cutoff, so that the neighbours of an atom are in its own or a
neighbouring bin. A periodic axis shorter than the cutoff has a single bin, whose "neighbours" are its own images, as
many as the cutoff reaches. One enumeration of (atom, offset of the bin) serves molecules, slabs and crystals of any
size together; there is no loop over structures. Of two opposite offsets only one is followed: pairs are found once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_schnet.graph.all_pairs import all_pairs, num_pairs
from pyg_schnet.graph.lattice import Lattice
from pyg_schnet.sizes import SIZES

#: Candidates may be that much farther apart than the cutoff; the exact test comes afterwards.
MARGIN = 1 + 1e-6

#: For each bin near an atom: the atom, its first partner there, the number of partners and their image [R], .., [R, 3].
_Rows = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class _Bins:
    """Atoms sorted into bins; all atom-wise tensors are in the sorted order.

    Attributes:
        order: Original number of each atom [N].
        pos: Wrapped positions in Angstrom [N, 3].
        wrap: Cells by which each atom was moved [N, 3].
        structure: Structure of each atom [N].
        coordinate: Bin of each atom along the three axes [N, 3].
        number: Bins along the axes of each structure [B, 3].
        reach: How many bins away neighbours can be [B, 3].
        first_bin: First bin of each structure [B].
        count: Atoms in each bin.
        start: First atom of each bin.
    """

    order: Tensor
    pos: Tensor
    wrap: Tensor
    structure: Tensor
    coordinate: Tensor
    number: Tensor
    reach: Tensor
    first_bin: Tensor
    count: Tensor
    start: Tensor


def candidate_pairs(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs of atoms and images that are closer than the cutoff or a hair's breadth farther, each pair once.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures.
        lattice: Lattices, or ``None`` if all structures are open.

    Returns:
        Target i [P], source j [P], the image of j relative to i in cells [P, 3], and the same image for atoms wrapped
        into the cell [P, 3], whose components are small.
    """
    reach = cutoff * MARGIN
    limit = reach * reach
    if lattice is None and num_pairs(batch, batch_size) <= SIZES.most_pairs:
        return all_pairs(pos, limit, batch, batch_size)
    bins = _sort_into_bins(pos, reach, batch, batch_size, lattice)
    found = [_close(bins, rows, limit, lattice) for chunk in _rows(bins, lattice) for rows in _split(chunk)]
    i, j, image = found[0] if len(found) == 1 else (torch.cat(parts) for parts in zip(*found, strict=True))
    shift = image
    if lattice is not None:
        shift = image - bins.wrap.index_select(0, j) + bins.wrap.index_select(0, i)
    return bins.order.index_select(0, i), bins.order.index_select(0, j), shift, image


def _sort_into_bins(pos: Tensor, reach: float, batch: Tensor, batch_size: int, lattice: Lattice | None) -> _Bins:
    wrap = torch.zeros(pos.shape, dtype=torch.long, device=pos.device)
    fractional, height = pos, pos.new_ones(batch_size, 3)
    periodic = torch.zeros(batch_size, 3, dtype=torch.bool, device=pos.device)
    if lattice is not None:
        height, periodic = lattice.height, lattice.pbc
        fractional = torch.einsum("nk,nkl->nl", pos, lattice.inverse[batch])
        wrap = torch.where(periodic[batch], fractional.floor(), 0.0).long()
        fractional = fractional - wrap
        pos = pos - torch.einsum("nk,nkl->nl", wrap.to(pos.dtype), lattice.cell[batch])

    low, high = bounds(fractional, batch, batch_size)
    low, high = torch.where(periodic, 0.0, low), torch.where(periodic, 1.0, high)
    extent = high - low  # [B, 3], fractional
    number = _number_of_bins(extent * height / reach, torch.bincount(batch, minlength=batch_size))
    images = (reach * number / (extent * height)).ceil()
    reach_in_bins = torch.where(periodic, images, (number > 1).to(images.dtype)).nan_to_num(0.0).long()

    relative = (fractional - low[batch]) / torch.where(extent > 0, extent, 1.0)[batch]
    coordinate = (relative * number[batch]).long().clamp(min=0).minimum(number[batch] - 1)  # [N, 3]
    size = number.prod(dim=1)
    first_bin = size.cumsum(0) - size
    key = first_bin[batch] + _flatten(coordinate, number[batch])
    order = torch.argsort(key, stable=True)
    count = torch.bincount(key, minlength=int(size.sum()))
    return _Bins(
        order,
        pos[order],
        wrap[order],
        batch[order],
        coordinate[order],
        number,
        reach_in_bins,
        first_bin,
        count,
        count.cumsum(0) - count,
    )


def bounds(values: Tensor, batch: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each structure [B, 3]; zero for an empty one."""
    index = batch.unsqueeze(-1).expand_as(values)
    zero = values.new_zeros(batch_size, 3)
    low, high = (zero.scatter_reduce(0, index, values, kind, include_self=False) for kind in ("amin", "amax"))
    return low, high


def _number_of_bins(most: Tensor, atoms: Tensor) -> Tensor:
    """As many bins along each axis as fit, but not many more than there are atoms [B, 3]."""
    number = most.floor().clamp(min=1, max=2**20)
    for _ in range(3):
        excess = number.prod(dim=1) / atoms.clamp(min=1)
        axes = (number > 1).sum(dim=1).clamp(min=1)
        scale = excess.clamp(min=1).pow(-1.0 / axes).unsqueeze(-1)
        number = (number * scale).floor().clamp(min=1)
    return number.long()


def _flatten(coordinate: Tensor, number: Tensor) -> Tensor:
    return (coordinate[:, 0] * number[:, 1] + coordinate[:, 1]) * number[:, 2] + coordinate[:, 2]


def _rows(bins: _Bins, lattice: Lattice | None) -> Iterator[_Rows]:
    """The rows of all atoms, in chunks."""
    span = 2 * bins.reach + 1  # [B, 3]
    size = span.prod(dim=1)
    rows = ((size + 1) // 2)[bins.structure]  # [N] offsets from the centre on
    for start, stop in _pieces(rows, SIZES.rows_per_chunk):
        count = rows[start:stop]
        atom = torch.arange(start, stop, device=rows.device).repeat_interleave(count)
        before = (count.cumsum(0) - count).repeat_interleave(count)
        step = torch.arange(atom.size(0), device=rows.device) - before  # 0 at the atom's own bin
        yield _partners(bins, atom, step, span, size, lattice)


def _partners(bins: _Bins, atom: Tensor, step: Tensor, span: Tensor, size: Tensor, lattice: Lattice | None) -> _Rows:
    structure = bins.structure.index_select(0, atom)
    number, span = bins.number.index_select(0, structure), span.index_select(0, structure)
    local = step + ((size - 1) // 2).index_select(0, structure)
    outer, z = local // span[:, 2], local % span[:, 2]
    offset = torch.stack([outer // span[:, 1], outer % span[:, 1], z], dim=1) - bins.reach.index_select(0, structure)
    coordinate = bins.coordinate.index_select(0, atom) + offset
    image = torch.div(coordinate, number, rounding_mode="floor")
    home = image == 0
    inside = (home if lattice is None else home | lattice.pbc.index_select(0, structure)).all(dim=1)
    cell = bins.first_bin.index_select(0, structure) + _flatten(coordinate - image * number, number)
    cell = torch.where(inside, cell, 0)
    # in its own bin an atom meets only those after it, elsewhere everyone
    own, start = step == 0, bins.start.index_select(0, cell)
    first = torch.where(own, atom + 1, start)
    count = torch.where(inside, start + bins.count.index_select(0, cell) - first, 0)
    used = (count > 0).nonzero().squeeze(1)
    return _selected((atom, first, count, image), used)


def _selected(rows: _Rows, index: Tensor) -> _Rows:
    atom, first, count, image = (values.index_select(0, index) for values in rows)
    return atom, first, count, image


def _split(rows: _Rows) -> Iterator[_Rows]:
    """Cut rows into pieces of a bounded number of pairs."""
    for start, stop in _pieces(rows[2], SIZES.pairs_per_chunk):
        atom, first, count, image = (values[start:stop] for values in rows)
        yield atom, first, count, image


def _pieces(sizes: Tensor, limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of items whose sizes add up to at most ``limit``, or of a single larger one."""
    last, end = sizes.cumsum(0), sizes.size(0)
    if end == 0 or int(last[-1]) <= limit:
        yield 0, end
        return
    start = 0
    while start < end:
        done = int(last[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(last, done + limit, right=True)))
        yield start, stop
        start = stop


def _close(bins: _Bins, rows: _Rows, limit: float, lattice: Lattice | None) -> tuple[Tensor, Tensor, Tensor]:
    """Those pairs of the rows that are close: target, source and image, in the sorted numbering."""
    atom, first, count, image = rows
    seen_from = bins.pos.index_select(0, atom)  # [R, 3]
    if lattice is not None:
        cells = lattice.cell
        if cells.size(0) > 1:
            cells = cells.index_select(0, bins.structure.index_select(0, atom))
        seen_from = seen_from - (image.to(seen_from.dtype).unsqueeze(1) @ cells).squeeze(1)
    row = torch.arange(count.size(0), device=count.device).repeat_interleave(count)
    before = count.cumsum(0) - count
    source = torch.arange(row.size(0), device=row.device) + (first - before).index_select(0, row)
    x, y, z = (bins.pos.index_select(0, source) - seen_from.index_select(0, row)).unbind(1)
    close = (x * x + y * y + z * z < limit).nonzero().squeeze(1)
    row = row.index_select(0, close)
    near = image.new_zeros(row.size(0), 3) if lattice is None else image.index_select(0, row)
    return atom.index_select(0, row), source.index_select(0, close), near
