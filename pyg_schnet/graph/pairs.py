"""The radius graph as pairs, in a form that compilers take as one operation."""

import math

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.compat import in_transform, is_mapped, is_transformed, outside_transforms, unwrapped
from pyg_schnet.compiling import loops_of
from pyg_schnet.graph.compiled import graph_of_few
from pyg_schnet.graph.device_search import device_pairs
from pyg_schnet.graph.edges import Graph
from pyg_schnet.graph.neighbors import radius_graph, search_graph
from pyg_schnet.graph.structure import can_inspect
from pyg_schnet.segments import Segments, provide


def neighbor_pairs(
    pos: Tensor,
    cutoff: float,
    batch: Tensor,
    batch_size: int,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All edges of :func:`radius_graph`, and one of each two opposite ones.

    In ``torch.compile`` and ``torch.export`` the whole search is one operation of the graph; else nothing is added.
    Structures are those that :func:`~pyg_schnet.graph.check_structures` has let pass.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        ``edge_index`` [2, E]; source and target of one edge of each pair [2, E / 2], the image of its source
        [E / 2, 3], and the pair of each edge [E].

    Raises:
        ValueError: As :func:`radius_graph`, and if positions are mapped by ``torch.vmap``.

    Example:
        >>> pos, batch = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]), torch.tensor([0, 0])
        >>> neighbor_pairs(pos, 2.0, batch, 1)[1]
        tensor([[1],
                [0]])
    """
    if torch.compiler.is_compiling():
        return _compiled(pos.detach(), cutoff, batch, batch_size, cell, pbc)
    cell = cell if cell is None else cell.detach()
    if in_transform():
        plain = [None if one is None else _plain(one) for one in (pos, batch, cell, pbc)]
        with outside_transforms():
            return _pairs_of(search_graph(plain[0], cutoff, plain[1], batch_size, *plain[2:]))  # type: ignore[arg-type]
    few = graph_of_few(pos, cutoff, batch) if cell is None and pbc is None else None
    return _pairs_of(search_graph(pos, cutoff, batch, batch_size, cell, pbc) if few is None else few)


def opposite_edges(edge_index: Tensor, edge_shift: Tensor | None, atoms: int) -> tuple[Tensor, Tensor] | None:
    """One of each two opposite edges of a graph that somebody else made: both have the same filter.

    Args:
        edge_index: Row 0 the source j, row 1 the target i [2, E], in any order, checked.
        edge_shift: Image of the source of each edge [E, 3]; ``None`` for open structures.
        atoms: Number of atoms N.

    Returns:
        Positions of these edges [E / 2], and the pair of each edge [E]; ``None`` if an edge has no opposite, and where
        there are no compiled loops or values are not to be looked at.

    Example:
        >>> opposite_edges(torch.tensor([[1, 0, 2], [0, 1, 1]]), None, 3) is None  # nothing leads from 1 to 2
        True
    """
    loops = loops_of("pyg_schnet.graph.numba_pairs") if can_inspect(edge_index) else None
    if loops is None:
        return None
    degree = torch.bincount(edge_index[1], minlength=atoms)
    if not torch.equal(degree, torch.bincount(edge_index[0], minlength=atoms)):
        return None
    shift = edge_index.new_empty(0, 3) if edge_shift is None else edge_shift.long()
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)]).numpy()
    if bool((edge_index[1].diff() >= 0).all()):
        first, edge_pair = loops.opposites(edge_index[0].contiguous().numpy(), shift.contiguous().numpy(), rowptr)
        if 2 * len(first) == len(edge_pair):
            return torch.from_numpy(first), torch.from_numpy(edge_pair)
    order = _by_target(edge_index.numpy(), None if edge_shift is None else shift.numpy(), atoms)
    shift = shift if edge_shift is None else shift[torch.from_numpy(order)]
    first, edge_pair = loops.opposites(edge_index[0].numpy()[order], shift.numpy(), rowptr)
    if 2 * len(first) < len(edge_pair):
        return None
    pairs = np.empty_like(edge_pair)
    pairs[order] = edge_pair
    return torch.from_numpy(order[first]), torch.from_numpy(pairs)


def _by_target(edge_index: ndarray, edge_shift: ndarray | None, atoms: int) -> ndarray:
    """Edges in the order of target, source and image [E]."""
    keys, ranges = [edge_index[1], edge_index[0]], [atoms, atoms]
    if edge_shift is not None:
        low = edge_shift.min(0)
        keys += [*(edge_shift - low).T]
        ranges += (edge_shift.max(0) - low + 1).tolist()
    if math.prod(ranges) > np.iinfo(np.int64).max:
        return np.lexsort(keys[::-1])
    key = keys[0]
    for more, number in zip(keys[1:], ranges[1:], strict=True):  # one number is sorted several times as fast
        key = key * number + more
    return key.argsort()


def few_pairs(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None = None, pbc: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """One edge of each pair, without the edges, where a GPU finds them in fewer launches.

    Args:
        pos: Positions in Angstrom [N, 3], like all other arguments those of :func:`neighbor_pairs`.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        Source and target of each pair, sorted by target [2, P], and its vector in Angstrom [P, 3] float64; ``None`` on
        a CPU.

    Raises:
        ValueError: As :func:`radius_graph`.
    """
    if not pos.is_cuda:
        return None
    pairs = device_pairs(pos, cutoff, batch, batch_size, cell, pbc)
    target, source, vector = pairs.by_target(pos.size(0))
    return torch.stack([source, target]), vector


def _plain(tensor: Tensor) -> Tensor:
    """The values of a tensor inside of transforms of ``torch.func``, on which the neighbours do not depend smoothly."""
    while is_transformed(tensor):
        inner = tensor if is_mapped(tensor) else unwrapped(tensor)
        if inner is tensor:
            raise ValueError(
                "torch.vmap cannot search neighbours, which differ in number; pass the graph, `edge_index`, to the "
                "model, or all structures as one batch"
            )
        tensor = inner
    with outside_transforms():
        return tensor.detach()


def _pairs_of(graph: Graph) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    given = graph.edge_index, graph.edge_shift, graph.reverse
    if graph.reverse.is_cpu and (loops := loops_of("pyg_schnet.graph.numba_pairs")) is not None:
        found = loops.one_of_each(*(one.contiguous().numpy() for one in given))
        pair_index, pair_shift, edge_pair = map(torch.from_numpy, found)
        return graph.edge_index, pair_index, pair_shift, edge_pair
    pairs, edge_pair = graph.pairs()
    pair_index, pair_shift = graph.edge_index.index_select(1, pairs), graph.edge_shift.index_select(0, pairs)
    if pairs.is_cuda:
        _say_segments(graph, pairs, edge_pair, pair_index)
    return graph.edge_index, pair_index, pair_shift, edge_pair


def _say_segments(graph: Graph, pairs: Tensor, edge_pair: Tensor, pair_index: Tensor) -> None:
    """Which edges belong to each atom and pair, for sums on a GPU: nobody has to sort what the search has sorted."""
    atoms, both = graph.rowptr.size(0) - 1, torch.stack([pairs, graph.reverse.index_select(0, pairs)], dim=1)
    provide(graph.edge_index[1], atoms, Segments(None, graph.rowptr))
    provide(graph.edge_index[0], atoms, Segments(graph.reverse, graph.rowptr))
    every_other = torch.arange(0, edge_pair.size(0) + 1, 2, device=pairs.device)
    provide(edge_pair, pairs.size(0), Segments(both.view(-1), every_other))
    provide(pair_index[1], atoms, None)


def _search(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None = None, pbc: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nobody has looked at the values before: a compiled graph does not."""
    return _pairs_of(
        radius_graph(pos, cutoff, batch, None if cell is None else cell.detach(), pbc, batch_size=batch_size)
    )


_compiled = torch.library.custom_op("pyg_schnet::neighbor_pairs", _search, mutates_args=())


@_compiled.register_fake
def _(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None = None, pbc: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    shapes = ((2, 2 * count), (2, count), (count, 3), (2 * count,))
    first, second, third, fourth = (pos.new_empty(shape, dtype=torch.long) for shape in shapes)
    return first, second, third, fourth
