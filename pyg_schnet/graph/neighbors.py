"""Radius graphs: every pair of atoms within a cutoff, none left out."""

import math
import numbers
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.compat import phase
from pyg_schnet.compiling import loops_of
from pyg_schnet.graph.backends import find
from pyg_schnet.graph.device_search import device_graph
from pyg_schnet.graph.edges import Graph, graph_of, shift_vectors, squared_distance
from pyg_schnet.graph.lattice import check_reach, lattice_of
from pyg_schnet.graph.structure import can_inspect, check_finite, check_sorted, check_structures


def radius_graph(
    pos: Tensor,
    cutoff: float | None = None,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
    backend: str = "auto",
    *,
    batch_size: int | None = None,
    max_num_neighbors: int | None = None,
    r: float | None = None,
    loop: bool = False,
    flow: str = "source_to_target",
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
        backend: Who searches: ``"torch"``, ``"numpy"`` (CPU, a few atoms of open structures), ``"numba"`` (CPU),
            ``"torch_cluster"``, ``"pyg_lib"`` (both for open structures), ``"vesin"`` (CPU) or ``"nvalchemi"``;
            ``"auto"`` takes the fastest installed one. All give the identical graph.
        batch_size: Number of structures, needed only if the last ones may be empty.
        max_num_neighbors: More neighbours of an atom than this are an error; they are never cut off.
        r: PyG's name of ``cutoff``.
        loop: As in PyG; only ``False``, an atom is no neighbour of itself.
        flow: As in PyG; only ``"source_to_target"``.

    Returns:
        The graph, both directions of every pair; an atom is a neighbour of its own images, not of itself.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ImportError: If the package of the back end is not installed.
        ValueError: If shapes do not match, positions are not finite, ``batch`` is not sorted, the cutoff is not
            positive, periodic lattice vectors span no volume, two atoms of a structure are at the same place, an atom
            has more than ``max_num_neighbors`` neighbours or the back end cannot do this search.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> radius_graph(pos, cutoff=2.5).edge_index
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
    """
    if isinstance(cell, bool):  # PyG's fourth argument
        cell, loop = None, loop or cell
    cutoff = _spelled(cutoff, r, loop, flow)
    check_cutoff(cutoff)
    cutoff = float(cutoff)
    _check_limit(max_num_neighbors)
    batch, batch_size = check_structures(pos, batch, batch_size)
    graph = search_graph(pos, cutoff, batch, batch_size, cell, pbc, backend)
    if max_num_neighbors is not None:
        _check_degree(graph.rowptr.diff(), max_num_neighbors, cutoff)
    return graph


def search_graph(
    pos: Tensor,
    cutoff: float,
    batch: Tensor,
    batch_size: int,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
    backend: str = "auto",
) -> Graph:
    """:func:`radius_graph` of structures that :func:`~pyg_schnet.graph.check_structures` has let pass.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures B.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        backend: Who searches.

    Returns:
        The graph.

    Raises:
        ValueError: If lattice or back end do not fit, two atoms are at the same place or, where that could not be
            seen before, positions are not finite or ``batch`` is not sorted.
    """
    if backend in {"auto", "torch"} and pos.device.type != "cpu":
        with phase("search"):
            return device_graph(pos, cutoff, batch, batch_size, cell, pbc)
    if not can_inspect(pos):
        check_finite(pos)
        check_sorted(batch)
    lattice = lattice_of(cell, pbc, batch_size, pos.device)
    check_reach(cutoff, lattice)
    exact = pos.detach().double()
    with phase("search"):
        searched = find(backend, exact, cutoff, batch, batch_size, lattice)
        return searched if isinstance(searched, Graph) else graph_of(exact, cutoff, batch, lattice, searched)


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
        True for each edge that is closer [E] bool.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> within_cutoff(pos, torch.tensor([[1, 2], [0, 1]]), None, None, torch.zeros(3, dtype=torch.long), 1.5)
        tensor([ True, False])
    """
    loops = loops_of("pyg_schnet.graph.numba_pairs") if can_inspect(pos) and can_inspect(edge_index) else None
    if loops is not None:
        shift = edge_index.new_empty(0, 3) if edge_shift is None else edge_shift.long()
        lattice = pos.new_empty(0, 3, 3) if cell is None else cell
        given = pos.detach().double(), edge_index, shift, lattice.detach().double(), batch
        if all(type(one) is Tensor for one in given):  # a tracer has others
            return torch.from_numpy(loops.closer(*(one.contiguous().numpy() for one in given), float(cutoff)))
    source, target = edge_index[0], edge_index[1]
    offset = None
    if cell is not None and edge_shift is not None:
        offset = shift_vectors(edge_shift, cell.detach().double()[batch.index_select(0, target)])
    return squared_distance(pos.detach().double(), target, source, offset) < cutoff * cutoff


def _spelled(cutoff: float | None, r: float | None, loop: bool, flow: str) -> Any:
    """The cutoff by either name; what PyG's function can and this one cannot is refused."""
    if (cutoff is None) == (r is None):
        raise TypeError(f"pass the distance as `cutoff` or as PyG's `r`, got cutoff={cutoff} and r={r}")
    if loop:
        raise ValueError(
            "`loop` of PyG's radius_graph is not there: an atom is no neighbour of itself, where forces are not "
            "defined; leave it out, and add loops to the result with torch_geometric.utils.add_self_loops"
        )
    if flow != "source_to_target":
        raise ValueError(
            f"`flow` must be 'source_to_target', got {flow!r}; turn the result around with edge_index.flip(0)"
        )
    return r if cutoff is None else cutoff


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
