"""Linked cells: all close pairs of a batch of structures at once, open and periodic, in plain PyTorch.

Structures are divided into bins, see :mod:`pyg_schnet.graph.boxes`. One enumeration of (atom, neighbouring bin) serves
molecules, slabs and crystals of any size together, on any device; there is no loop over structures. Of two opposite
offsets of bins only one is followed: pairs are found once. A GPU is waited for twice for each piece of the search.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.graph.all_pairs import all_pairs, num_pairs
from pyg_schnet.graph.boxes import Boxes, Tables, bin_of, boxes_around, tables_on
from pyg_schnet.graph.lattice import Lattice
from pyg_schnet.graph.transfer import asked
from pyg_schnet.sizes import SIZES

#: Candidates may be that much farther apart than the cutoff; the exact test comes afterwards.
MARGIN = 1 + 1e-6


class _Bins(NamedTuple):
    """Atoms in the order of their bins.

    Attributes:
        order: Original number of each atom [N].
        pos: Positions in the box in Angstrom [N, 3].
        place: Bin of each atom along the axes [N, 3].
        start: First atom of each bin, and the number of atoms.
        offsets: Steps to neighbouring bins [T, 3].
        tables: What is known of the box of each atom, or of that of the only structure.
        alone: True if there is only one structure.
    """

    order: Tensor
    pos: Tensor
    place: Tensor
    start: Tensor
    offsets: Tensor
    tables: Tables
    alone: bool


class _Rows(NamedTuple):
    """Bins near atoms, a row for each.

    Attributes:
        atom: The atom, in the sorted numbering [R].
        image: Image of the bin [R, 3].
        partners: How many atoms it meets there [R].
        until: Partners in all bins up to this one [R].
        lead: What leads from a number of a pair to the partner [R].
    """

    atom: Tensor
    image: Tensor
    partners: Tensor
    until: Tensor
    lead: Tensor


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
    if lattice is None and num_pairs(batch, batch_size) <= SIZES.most_pairs:
        return all_pairs(pos, reach * reach, batch, batch_size)
    low, high = (one.cpu().numpy() for one in bounds(pos, batch, batch_size))
    atoms = torch.bincount(batch, minlength=batch_size).cpu().numpy()
    boxes = boxes_around(atoms, low, high, None if lattice is None else lattice.to("cpu"), reach)
    i, j, image, wrap, _ = pairs_in_boxes(pos, reach, batch, boxes)
    image = image.long()
    if lattice is None:
        return i, j, image, image
    return i, j, image + (wrap.index_select(0, i) - wrap.index_select(0, j)).long(), image


def bounds(values: Tensor, batch: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each structure [B, 3]; zero for an empty one."""
    if batch_size == 1 and values.size(0):
        low, high = torch.aminmax(values, dim=0, keepdim=True)
        return low, high
    index = batch.unsqueeze(-1).expand_as(values)
    zero = values.new_zeros(batch_size, 3)
    low, high = (zero.scatter_reduce(0, index, values, kind, include_self=False) for kind in ("amin", "amax"))
    return low, high


def pairs_in_boxes(
    pos: Tensor, reach: float, batch: Tensor, boxes: Boxes
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tables]:
    """Pairs of atoms and images up to a distance, by computing with a few rounding errors.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        reach: That distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        boxes: Boxes around the structures, whose bins are no narrower than the reach.

    Returns:
        Target i [P], source j [P], the image of j relative to i for atoms wrapped into the box [P, 3] int32, the boxes
        by which each atom was wrapped [N, 3] float64, and what the device knows of the boxes.
    """
    bins, wrap, tables = _sort_into_bins(pos, batch, boxes)
    found = [_close(bins, *piece, reach * reach) for piece in _rows(bins, boxes)]
    i, j, image = found[0] if len(found) == 1 else (torch.cat(parts) for parts in zip(*found, strict=True))
    return bins.order.index_select(0, i), bins.order.index_select(0, j), image, wrap, tables


def _sort_into_bins(pos: Tensor, batch: Tensor, boxes: Boxes) -> tuple[_Bins, Tensor, Tables]:
    """Atoms in their bins, the boxes by which they were wrapped, and what is known of the boxes."""
    (tables, offsets), one = tables_on(boxes, pos.device), len(boxes.atoms) == 1
    # as in the order of their bins, which are those of one structure after the other
    each = tables if one else Tables(*(table.index_select(0, batch) for table in tables))
    if one:
        relative = torch.addmm(-each.corner, pos, each.inverse[0])
    else:
        relative = torch.baddbmm(each.corner.unsqueeze(1), pos.unsqueeze(1), each.inverse, beta=-1).squeeze(1)
    wrap = relative.floor()
    relative = (relative - wrap).clamp(max=1 - 2**-52)  # rounding may have made it one
    place = (relative * each.ints[:, :3]).int()
    if one:
        inside = torch.addmm(pos, wrap, each.cell[0], alpha=-1)
    else:
        inside = torch.baddbmm(pos.unsqueeze(1), wrap.unsqueeze(1), each.cell, alpha=-1).squeeze(1)
    key, order = bin_of(place, each.ints).sort()
    start = torch.searchsorted(key, torch.arange(boxes.bins + 1, device=key.device, dtype=key.dtype), out_int32=True)
    inside, place = inside.index_select(0, order), place.index_select(0, order)
    return _Bins(order, inside, place, start, offsets, each, one), wrap, tables


def _rows(bins: _Bins, boxes: Boxes) -> Iterator[tuple[_Rows, int, int]]:
    """The rows of all atoms in pieces; of each the number of its first pair and that after its last one."""
    on_cpu = bins.pos.device.type == "cpu"
    most = SIZES.pairs_per_chunk if on_cpu else SIZES.candidates_on_device
    for start, stop in _pieces(boxes, SIZES.rows_per_chunk if on_cpu else SIZES.rows_on_device):
        rows = _partners(bins, start, stop, boxes)
        total = int(rows.until[-1]) if stop else 0
        if total <= most:
            yield rows, 0, total
            continue
        full = torch.arange(most, total, most, device=rows.until.device)
        ends = torch.searchsorted(rows.until, full, right=True)
        found = asked(ends, rows.until.index_select(0, (ends - 1).clamp(min=0))).long().view(2, -1)
        known = {0: 0} | {end: pairs for end, pairs in found.T.tolist() if end} | {rows.until.size(0): total}
        for (begin, first), (end, last) in itertools.pairwise(sorted(known.items())):
            yield _Rows(*(values[begin:end] for values in rows)), first, last


def _pieces(boxes: Boxes, most: int) -> list[tuple[int, int]]:
    """Ranges of atoms that have no more rows than that, or of a single one."""
    atoms = int(boxes.atoms.sum())
    if int((boxes.atoms * boxes.rows).sum()) <= most:
        return [(0, atoms)]
    last = np.repeat(boxes.rows, boxes.atoms).cumsum()
    pieces, start = [], 0
    while start < atoms:
        done = last[start - 1] if start else 0
        stop = max(start + 1, int(last.searchsorted(done + most, side="right")))
        pieces.append((start, stop))
        start = stop
    return pieces


def _partners(bins: _Bins, start: int, stop: int, boxes: Boxes) -> _Rows:
    """The rows of some atoms."""
    device, ints = bins.order.device, bins.tables.ints
    if bins.alone:
        half = boxes.offsets.shape[0]
        place = (bins.place[start:stop].unsqueeze(1) + bins.offsets).view(-1, 3)
        atom = torch.arange(start, stop, device=device).repeat_interleave(half)
        own = torch.arange(0, (stop - start) * half, half, device=device)
    else:
        ints = ints[start:stop]
        begin, count = ints[:, 4], ints[:, 5]
        own = count.cumsum(0) - count  # where the rows of each atom begin
        total = int((np.diff(np.clip(np.append(0, boxes.atoms.cumsum()), start, stop)) * boxes.rows).sum())
        local = torch.repeat_interleave(count, output_size=total)
        step = torch.arange(total, device=device) + (begin - own).index_select(0, local)
        atom = local + start
        place = bins.place.index_select(0, atom) + bins.offsets.index_select(0, step)
        ints = ints.index_select(0, local)
    image = torch.div(place, ints[:, :3], rounding_mode="floor")
    key = bin_of(torch.addcmul(place, image, ints[:, :3], value=-1), ints)
    first, last = bins.start.index_select(0, key), bins.start[1:].index_select(0, key)
    # in its own bin an atom meets only those after it, elsewhere everyone
    first.index_copy_(0, own, torch.arange(start + 1, stop + 1, device=device, dtype=torch.int32))
    partners = last - first
    until = partners.cumsum(0)
    return _Rows(atom, image, partners, until, last - until)


def _close(bins: _Bins, rows: _Rows, first: int, last: int, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """Those pairs of the rows that are close: target, source and image, in the sorted numbering."""
    atom, image = rows.atom, rows.image
    row = torch.repeat_interleave(rows.partners, output_size=last - first)
    source = torch.arange(first, last, device=row.device) + rows.lead.index_select(0, row)
    seen, moved = bins.pos.index_select(0, atom), image.to(bins.pos.dtype)
    if bins.alone:
        seen = torch.addmm(seen, moved, bins.tables.cell[0], alpha=-1)
    else:
        cells = bins.tables.cell.index_select(0, atom)
        seen = torch.baddbmm(seen.unsqueeze(1), moved.unsqueeze(1), cells, alpha=-1).squeeze(1)
    vector = bins.pos.index_select(0, source) - seen.index_select(0, row)
    x, y, z = (vector * vector).unbind(1)
    close = (x + y + z < limit).nonzero().squeeze(1)
    row = row.index_select(0, close)
    return atom.index_select(0, row), source.index_select(0, close), image.index_select(0, row)
