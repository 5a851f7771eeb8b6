"""The neighbour search in compiled loops (extra ``fast``): from positions to the finished graph, on the CPU.

Atoms are searched in pieces, by several threads if the batch is large. Which thread does which piece, and into how many
the atoms are cut, changes nothing of the result.
"""

import importlib
import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.compat import phase
from pyg_schnet.compiling import loops_of
from pyg_schnet.graph.edges import Graph, same_place
from pyg_schnet.graph.lattice import Lattice
from pyg_schnet.graph.search import MARGIN, candidate_pairs
from pyg_schnet.graph.structure import can_inspect
from pyg_schnet.sizes import SIZES
from pyg_schnet.threads import each

#: Numbers and images of neighbours share the bits of a positive int64; images also need room in lists.
BITS, IMAGE_BITS = 63, 24


def compiled_graph(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None
) -> Graph | tuple[Tensor, Tensor, Tensor, Tensor]:
    """All pairs of atoms and images closer than the cutoff, by the exact rule of :func:`pyg_schnet.radius_graph`.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures.
        lattice: Lattices, or ``None`` if all structures are open.

    Returns:
        The graph; for structures out of all proportion the result of :func:`pyg_schnet.graph.search.candidate_pairs`.

    Raises:
        ValueError: If two atoms are at the same place.
    """
    few = SIZES.all_pairs_up_to
    if lattice is None and (pos.size(0) <= few or int(torch.bincount(batch).max()) <= few):
        return _of_few(pos, cutoff, batch)
    loops = importlib.import_module("pyg_schnet.graph.numba_bins")
    structures = loops.Structures(*(value.contiguous().numpy() for value in _tensors(pos, batch, batch_size, lattice)))
    fractional, wrap = loops.wrap_atoms(structures)
    reach = cutoff * MARGIN
    grid = loops.make_grid(structures, fractional, reach)
    image_bits = int(grid.bits.sum(axis=1).max())
    if image_bits > IMAGE_BITS or image_bits + pos.size(0).bit_length() > BITS:
        return candidate_pairs(pos, cutoff, batch, batch_size, lattice)
    bins = loops.sort_into_bins(structures, grid, fractional, wrap)
    del fractional
    threads = _threads(structures, cutoff, lattice is not None)
    graph = _graph(pos, cutoff, (structures, grid, bins, wrap), threads)
    return candidate_pairs(pos, cutoff, batch, batch_size, lattice) if graph is None else graph


def graph_of_few(pos: Tensor, cutoff: float, batch: Tensor) -> Graph | None:
    """The graph of a few atoms in open structures, by as few steps as can be.

    Args:
        pos: Positions in Angstrom [N, 3], checked.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.

    Returns:
        The graph; ``None`` for more atoms, where compiled loops are missing or fail, and where values are not to be
        looked at.

    Raises:
        ValueError: If two atoms are at the same place.
    """
    if pos.size(0) > SIZES.all_pairs_up_to or not can_inspect(pos) or not loops_of("pyg_schnet.graph.numba_few"):
        return None
    try:
        with phase("search"):
            return _of_few(pos.detach().double(), cutoff, batch)
    except (ValueError, MemoryError):  # of the atoms
        raise
    except Exception:  # a broken package may fail in any way, which the general search says
        return None


def pairs_of_few(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, most: int) -> ndarray | None:
    """Pairs of atoms of open structures of a few atoms each, where all is as it should be.

    Args:
        pos: Positions in Angstrom [N, 3], on the CPU.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures.
        most: Atoms of a structure, at most.

    Returns:
        One edge of each two opposite ones of :func:`pyg_schnet.radius_graph`, targets and sources [2, P]; ``None``
        where that would raise an error or a structure has more atoms.
    """
    loops = importlib.import_module("pyg_schnet.graph.numba_few")
    pairs, usual = loops.search_pairs(pos.detach().numpy(), batch.numpy(), batch_size, most, cutoff)
    return pairs if usual else None


def _of_few(pos: Tensor, cutoff: float, batch: Tensor) -> Graph:
    """Every pair is looked at."""
    loops = importlib.import_module("pyg_schnet.graph.numba_few")
    *arrays, twins = loops.search_all(pos.contiguous().numpy(), batch.contiguous().numpy(), cutoff)
    if twins[0] >= 0:
        raise ValueError(same_place(twins[0], twins[1], pos))
    return Graph(*map(torch.from_numpy, arrays))


def _graph(pos: Tensor, cutoff: float, atoms: tuple[Any, ...], threads: int) -> Graph | None:
    """Search, write the rows, match both directions; nothing if one of them is missing, as in absurd coordinates."""
    loops = importlib.import_module("pyg_schnet.graph.numba_kernels")
    start, num_atoms = atoms[2].start, pos.size(0)
    pieces = _pieces(start, threads)
    degree = torch.empty(num_atoms, dtype=torch.long)

    def search(piece: tuple[int, int]) -> Any:
        begin, end = piece
        room = np.empty(SIZES.neighbors_per_atom * int(start[end] - start[begin]), np.int64)
        return loops.find_neighbors(*atoms, begin, end, cutoff, cutoff * MARGIN, degree.numpy(), room)

    found = dict(zip(pieces, each(search, pieces, threads), strict=True))
    for _, one, other in found.values():
        if one >= 0:
            raise ValueError(same_place(min(one, other), max(one, other), pos))
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    edges, rows = int(rowptr[-1]), rowptr.numpy()
    # numpy asks for large pages of memory, which are twice as fast as torch's when used for the first time
    edge_index, edge_shift, reverse = (np.empty(shape, np.int64) for shape in ((2, edges), (edges, 3), edges))

    def write(piece: tuple[int, int]) -> None:
        loops.write_edges(*atoms, *piece, found.pop(piece)[0], rows, edge_index, edge_shift)

    each(write, pieces, threads)
    limits = itertools.pairwise(num_atoms * k // threads for k in range(threads + 1))
    matched = each(lambda part: loops.match_edges(atoms[0], *part, rows, edge_index[0], reverse), list(limits), threads)
    if not all(matched):
        return None
    return Graph(torch.from_numpy(edge_index), torch.from_numpy(edge_shift), rowptr, torch.from_numpy(reverse))


def _threads(structures: Any, cutoff: float, periodic: bool) -> int:
    """How many threads pay, for so many atoms or, in crystals, for so many edges as their densities promise."""
    most, threads = torch.get_num_threads(), len(structures.pos) // SIZES.atoms_per_thread
    if periodic and threads < most and most > 1:
        number, volume = np.diff(structures.pointer), np.abs(np.linalg.det(structures.cell))
        edges = float((number * number / volume).sum()) * 4 / 3 * math.pi * cutoff**3
        threads = max(threads, int(min(edges, SIZES.edges_per_thread * most)) // SIZES.edges_per_thread)
    return max(1, min(most, threads))


def _pieces(start: ndarray, threads: int) -> list[tuple[int, int]]:
    """Ranges of bins with about equally many atoms, from the first atom of each bin on and the number of atoms."""
    atoms = int(start[-1])
    each_has = 4 if atoms >= threads * SIZES.atoms_per_thread else 1  # several, lest one waits for the other
    number = max(-(-atoms // SIZES.atoms_per_piece), each_has * threads if threads > 1 else 1)
    inner = start.searchsorted([atoms * k // number for k in range(1, number)])
    return list(itertools.pairwise(np.unique([0, *inner, len(start) - 1]).tolist()))


def _tensors(pos: Tensor, batch: Tensor, batch_size: int, lattice: Lattice | None) -> tuple[Tensor, ...]:
    """What the compiled loops know of a batch; open structures get a cell of one Angstrom."""
    ends = torch.bincount(batch, minlength=batch_size).cumsum(0)
    pointer = torch.cat([ends.new_zeros(1), ends])
    if lattice is not None:
        return pos, batch, pointer, lattice.cell, lattice.inverse, lattice.height, lattice.pbc
    cell = torch.eye(3, dtype=pos.dtype).repeat(batch_size, 1, 1)
    return pos, batch, pointer, cell, cell, cell.new_ones(batch_size, 3), torch.zeros(batch_size, 3, dtype=torch.bool)
