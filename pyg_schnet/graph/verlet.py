"""Verlet (skin) list: neighbours of moving atoms, searched anew only where atoms have moved far enough to matter."""

import math
import numbers
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyg_schnet.graph.backends import find
from pyg_schnet.graph.edges import (
    SAME_PLACE_SQUARED,
    Graph,
    between,
    both_directions,
    check_coincident,
    shift_vectors,
    squared_distance,
    squared_norm,
)
from pyg_schnet.graph.lattice import Lattice, lattice_of
from pyg_schnet.graph.neighbors import check_cutoff
from pyg_schnet.graph.skin import SEARCH_MARGIN, skin_left
from pyg_schnet.graph.structure import check_finite, check_sorted, check_structures


@dataclass(frozen=True)
class _Held:
    """What a list remembers between two calls: copies of its own, which nobody changes in place.

    Attributes:
        kinds: Shape, dtype and device of all arguments.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as given, zero along open axes [B, 3, 3]; ``None`` if all structures are open.
        pbc: Periodic axes [B, 3]; ``None`` if none were given.
        lattice: The checked lattices; ``None`` if all structures are open.
        reference: Position of each atom when its structure was last built, in Angstrom [N, 3] float64.
        jump: Cells by which each atom has been wrapped since then [N, 3].
        graph: All pairs within cutoff + skin at that time; shifts are those of the latest positions, C edges.
        edges: One edge of each pair [C / 2].
        ends: Source and target of these, ``graph.edge_index[:, edges]``, two [C / 2].
        pair: Pair of each edge [C].
        offset: ``shift @ cell`` of ``edges`` in Angstrom [C / 2, 3] float64; ``None`` if all structures are open.
    """

    kinds: tuple[object, ...]
    batch: Tensor
    batch_size: int
    cell: Tensor | None
    pbc: Tensor | None
    lattice: Lattice | None
    reference: Tensor
    jump: Tensor
    graph: Graph
    edges: Tensor
    ends: tuple[Tensor, Tensor]
    pair: Tensor
    offset: Tensor | None


class VerletList:
    r"""Neighbours of moving atoms: the graph of :func:`pyg_schnet.radius_graph` at every step, for less.

    Verlet, Phys. Rev. 159, 98 (1967): keep all pairs within cutoff + skin. As long as no atom of a structure is farther
    than half the skin from where it was when these were searched,

    .. math::
        d_{ij}(t) < r_c \;\Rightarrow\; d_{ij}(0) \le d_{ij}(t) + |u_i| + |u_j| < r_c + r_{skin},

    no other pair can be closer than the cutoff. Each structure of a batch is judged by the displacements u of its own
    atoms from its own last search, and only structures that need it are searched again: those with an atom farther than
    half the skin away, and those whose cell or periodic axes changed at all. If the number of atoms, ``batch``, or the
    kind of an argument (shape, dtype, device, ``None`` or not) changes, everything is.

    An atom that is wrapped into the cell, or otherwise moved by whole lattice vectors, has not moved: the jump is
    recognised and the shifts of its edges follow. This holds for any jump for which the rest is at most half the skin,
    so it is exact in cells of any shape; what is not recognised is searched again. At every call the edges are those
    of :func:`pyg_schnet.radius_graph`, in the same order and to the last bit of the cutoff.

    On a GPU a call waits twice: to know whether to search, and for the number of edges.

    Args:
        cutoff: Cutoff distance in Angstrom, finite.
        skin: How much farther pairs are kept, in Angstrom; large ones are searched more rarely and cost more between.
            With zero, structures that moved at all are searched again.

    Attributes:
        rebuilds: Number of structures searched so far; a batch of B structures counts B at its first call.

    Raises:
        TypeError: If ``cutoff`` or ``skin`` is no number.
        ValueError: If ``cutoff`` is not positive, ``skin`` is negative, or one of them is not finite.

    Example:
        >>> neighbors = VerletList(cutoff=2.5, skin=1.0)
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> neighbors(pos).edge_index
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
        >>> pos[2, 0] += 0.4  # less than half the skin: not searched again, still exact
        >>> neighbors(pos).edge_index, neighbors.rebuilds
        (tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]]), 1)
        >>> pos[2, 0] += 0.4
        >>> neighbors(pos).edge_index, neighbors.rebuilds
        (tensor([[1, 0],
                [0, 1]]), 2)
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        check_cutoff(cutoff)
        if math.isinf(cutoff):
            raise ValueError(
                "`cutoff` of a Verlet list must be finite, got inf; "
                "`radius_graph(pos, math.inf)` connects all atoms of open structures"
            )
        if isinstance(skin, bool) or not isinstance(skin, numbers.Real):
            raise TypeError(f"`skin` must be a number in Angstrom, got {type(skin).__name__}")
        if not 0 <= skin < math.inf:
            raise ValueError(f"`skin` must be finite and not negative, got {skin}; 0.5 to 2 Angstrom are usual")
        self.cutoff: float = float(cutoff)
        self.skin: float = float(skin)
        self.rebuilds: int = 0
        self._held: _Held | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cutoff={self.cutoff}, skin={self.skin})"

    def __call__(
        self,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        batch_size: int | None = None,
    ) -> Graph:
        """All pairs closer than the cutoff, see :func:`pyg_schnet.radius_graph`.

        Args:
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N] int64, sorted; ``None`` for a single structure.
            cell: Lattice vectors as rows in Angstrom [B, 3, 3]; rows of open axes play no role.
            pbc: Periodic axes [B, 3] bool; needed beside ``cell``.
            batch_size: Number of structures, needed only if the last ones may be empty.

        Returns:
            The graph, in tensors that are the caller's own.

        Raises:
            TypeError: If an argument is no tensor of the right kind.
            ValueError: If shapes or values are impossible or two atoms of a structure are at the same place.
        """
        return _within(self._update(pos, batch, cell, pbc, batch_size), pos, self.cutoff)

    def pairs(
        self,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        batch_size: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One edge of each pair closer than the cutoff, several times faster, for what asks for no order of edges.

        Args:
            pos: Positions in Angstrom [N, 3], like all other arguments as in a call of the list itself.
            batch: Structure of each atom [N].
            cell: Lattice vectors as rows in Angstrom [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures.

        Returns:
            Source j and target i of each pair [2, P], and ``pos[j] - pos[i] + edge_shift @ cell`` in Angstrom [P, 3]
            float64.

        Raises:
            TypeError, ValueError: As a call of the list itself.

        Example:
            >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
            >>> index, vector = VerletList(cutoff=2.5, skin=1.0).pairs(pos)
            >>> index.tolist(), vector[:, 0].tolist()
            ([[1, 2], [0, 1]], [1.0, 2.0])
        """
        held = self._update(pos, batch, cell, pbc, batch_size)
        source, target = held.ends
        exact = pos.detach().double()
        vector = between(exact, target, source, held.offset)
        squared = squared_norm(vector)
        close = (squared < self.cutoff * self.cutoff).nonzero().squeeze(1)
        check_coincident(squared, target, source, pos)
        index = torch.stack([source.index_select(0, close), target.index_select(0, close)])
        return index, vector.index_select(0, close)

    def _update(
        self, pos: Tensor, batch: Tensor | None, cell: Tensor | None, pbc: Tensor | None, batch_size: int | None
    ) -> _Held:
        """What is known of these positions, searched anew where it must be."""
        kinds = (*(_kind(argument) for argument in (pos, batch, cell, pbc)), batch_size)
        if self._held is None or self._held.kinds != kinds:
            self._held = self._started(kinds, pos, batch, cell, pbc, batch_size)
        else:
            self._held = self._followed(self._held, pos, batch, cell, pbc, batch_size)
        return self._held

    def _started(
        self,
        kinds: tuple[object, ...],
        pos: Tensor,
        batch: Tensor | None,
        cell: Tensor | None,
        pbc: Tensor | None,
        batch_size: int | None,
    ) -> _Held:
        """Everything anew."""
        batch, batch_size = check_structures(pos, batch, batch_size)
        check_finite(pos)
        check_sorted(batch)
        lattice = lattice_of(cell, pbc, batch_size, pos.device)
        exact = pos.detach().double()
        graph = self._search(exact, batch, batch_size, lattice)
        lattice, cell, pbc = _own(lattice, cell, pbc, pos.device)
        # `double` and `to` return the caller's tensor if there is nothing to convert
        reference, jump = exact.clone(), torch.zeros(pos.shape, dtype=torch.long, device=pos.device)
        listed = _listed(graph, batch, lattice)
        self.rebuilds += batch_size
        return _Held(kinds, batch.clone(), batch_size, cell, pbc, lattice, reference, jump, graph, *listed)

    def _followed(
        self,
        held: _Held,
        pos: Tensor,
        batch: Tensor | None,
        cell: Tensor | None,
        pbc: Tensor | None,
        batch_size: int | None,
    ) -> _Held:
        """Search those structures that need it; arguments are of the same kinds as before."""
        exact = pos.detach().double()
        jump, displacement = _displacement(held, exact)  # [N, 3], [N, 3]
        moved = ~(skin_left(displacement, self.skin) >= 0)  # NaN too, which the checks below name
        changed = _changed(held, *_own(held.lattice, cell, pbc, pos.device)[1:])  # [B]
        other = moved.new_zeros(()) if batch is None else (batch != held.batch).any()
        flags = torch.stack([other, moved.any(), changed.any(), (jump != held.jump).any()])
        is_other, is_moved, is_changed, is_jumped = flags.tolist()
        if is_other:
            return self._started(held.kinds, pos, batch, cell, pbc, batch_size)
        if is_jumped:
            held = _jumped(held, jump)
        if not (is_moved or is_changed):
            return held
        check_finite(pos)
        if is_changed:
            lattice = lattice_of(cell, pbc, held.batch_size, pos.device)
            lattice, own_cell, own_pbc = _own(lattice, cell, pbc, pos.device)
            held = replace(held, cell=own_cell, pbc=own_pbc, lattice=lattice)
        stale = changed.long().index_add(0, held.batch, moved.long()) > 0  # [B]
        return self._rebuilt(held, exact, stale)

    def _rebuilt(self, held: _Held, exact: Tensor, stale: Tensor) -> _Held:
        structures = stale.nonzero().squeeze(1)
        stale_atom = stale[held.batch]
        atoms = stale_atom.nonzero().squeeze(1)
        number = stale.cumsum(0) - 1  # of each structure among the stale ones
        part = held.lattice
        if part is not None:
            part = Lattice(
                part.cell[structures], part.inverse[structures], part.pbc[structures], part.height[structures]
            )
        found = self._search(exact[atoms], number[held.batch[atoms]], structures.size(0), part)
        graph = _exchanged(held.graph, found, atoms, stale_atom)
        edges, ends, pair, offset = _listed(graph, held.batch, held.lattice)
        self.rebuilds += structures.size(0)
        return replace(
            held,
            reference=torch.where(stale_atom.unsqueeze(1), exact, held.reference),
            jump=torch.where(stale_atom.unsqueeze(1), 0, held.jump),
            graph=graph,
            edges=edges,
            ends=ends,
            pair=pair,
            offset=offset,
        )

    def _search(self, exact: Tensor, batch: Tensor, batch_size: int, lattice: Lattice | None) -> Graph:
        reach = (self.cutoff + self.skin) * SEARCH_MARGIN
        found = find("auto", exact, reach, batch, batch_size, lattice)
        return found if isinstance(found, Graph) else both_directions(*found, exact.size(0))


def _kind(argument: object) -> object:
    """What must stay the same for the list to be of use."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.dtype, argument.device
    return type(argument)


def _own(
    lattice: Lattice | None, cell: Tensor | None, pbc: Tensor | None, device: torch.device
) -> tuple[Lattice | None, Tensor | None, Tensor | None]:
    """Copies of cell and periodic axes as far as they matter: rows of open axes zero, no cell if all axes are open."""
    if pbc is None:
        return None, None, None
    pbc = pbc.to(device, copy=True)
    if cell is None or lattice is None:
        return None, None, pbc
    # the lattice may hold the caller's own tensor of periodic axes
    return replace(lattice, pbc=pbc), torch.where(pbc.unsqueeze(-1), cell.detach().to(device), 0.0), pbc


def _changed(held: _Held, cell: Tensor | None, pbc: Tensor | None) -> Tensor:
    """True where the cell or the periodic axes of a structure changed [B]."""
    changed = torch.zeros(held.batch_size, dtype=torch.bool, device=held.batch.device)
    if pbc is not None and held.pbc is not None:
        changed = (pbc != held.pbc).any(dim=1)
    if cell is not None and held.cell is not None:
        changed = changed | (cell != held.cell).flatten(1).any(dim=1)
    return changed


def _displacement(held: _Held, exact: Tensor) -> tuple[Tensor, Tensor]:
    """Cells by which each atom was wrapped since its structure was built, and its displacement, both [N, 3]."""
    displacement = exact - held.reference
    if held.lattice is None:
        return held.jump, displacement
    lattice, batch = held.lattice, held.batch
    turns = torch.einsum("nk,nkl->nl", displacement, lattice.inverse[batch]).round()
    turns = torch.where(lattice.pbc[batch], turns, 0.0)
    displacement = displacement - torch.einsum("nk,nkl->nl", turns, lattice.cell[batch])
    return turns.long(), displacement


def _jumped(held: _Held, jump: Tensor) -> _Held:
    """Follow atoms that were wrapped: the same pairs, other shifts."""
    step = jump - held.jump
    source, target = held.graph.edge_index
    shift = held.graph.edge_shift + (step.index_select(0, target) - step.index_select(0, source))
    graph = replace(held.graph, edge_shift=shift)
    return replace(
        held, jump=jump, graph=graph, offset=_offset(graph, held.edges, held.ends[1], held.batch, held.lattice)
    )


def _listed(
    graph: Graph, batch: Tensor, lattice: Lattice | None
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor | None]:
    """What every step needs of the pairs: one edge of each, its ends, the pair of each edge, and offsets."""
    edges, pair = graph.pairs()
    ends = (graph.edge_index[0, edges], graph.edge_index[1, edges])
    return edges, ends, pair, _offset(graph, edges, ends[1], batch, lattice)


def _offset(graph: Graph, edges: Tensor, target: Tensor, batch: Tensor, lattice: Lattice | None) -> Tensor | None:
    if lattice is None:
        return None
    return shift_vectors(graph.edge_shift[edges], lattice.cell[batch[target]])


def _exchanged(graph: Graph, found: Graph, atoms: Tensor, stale_atom: Tensor) -> Graph:
    """Exchange the edges of some structures, without sorting: all edges of an atom stay together.

    Args:
        graph: Edges of all structures.
        found: New edges of the stale structures, whose atoms are numbered by themselves.
        atoms: Those atoms [M].
        stale_atom: True for each atom that is one of them [N].

    Returns:
        The edges of all structures.
    """
    if atoms.size(0) == stale_atom.size(0):
        return found
    degree = graph.rowptr.diff().index_copy(0, atoms, found.rowptr.diff())
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    kept = (~stale_atom[graph.edge_index[1]]).nonzero().squeeze(1)
    place = _place(graph, rowptr[:-1])
    found_place = _place(found, rowptr[atoms])
    order = torch.cat([place[kept], found_place])
    edge_index = torch.cat([graph.edge_index[:, kept], atoms[found.edge_index]], dim=1)
    edge_shift = torch.cat([graph.edge_shift[kept], found.edge_shift])
    reverse = torch.cat([place[graph.reverse[kept]], found_place[found.reverse]])
    return Graph(
        torch.empty_like(edge_index).index_copy_(1, order, edge_index),
        torch.empty_like(edge_shift).index_copy_(0, order, edge_shift),
        rowptr,
        torch.empty_like(reverse).index_copy_(0, order, reverse),
    )


def _place(graph: Graph, start: Tensor) -> Tensor:
    """Where each edge goes if those of each atom begin at ``start``."""
    edges = torch.arange(graph.reverse.size(0), device=start.device)
    return edges + (start - graph.rowptr[:-1])[graph.edge_index[1]]


def _within(held: _Held, pos: Tensor, cutoff: float) -> Graph:
    """The edges closer than the cutoff, in their order."""
    graph = held.graph
    source, target = held.ends
    squared = squared_distance(pos.detach().double(), target, source, held.offset)  # [C / 2]
    close_pair = squared < cutoff * cutoff
    pairs, coincident = torch.stack([close_pair.sum(), (squared < SAME_PLACE_SQUARED).sum()]).tolist()
    if coincident:
        check_coincident(squared, target, source, pos)
    close = close_pair.index_select(0, held.pair)  # [C]
    edges = torch.repeat_interleave(close.long(), output_size=2 * pairs)  # [E], as nonzero, but its size is known
    until = torch.cat([graph.rowptr.new_zeros(1), close.cumsum(0)])  # edges before each
    return Graph(
        graph.edge_index.index_select(1, edges),
        graph.edge_shift.index_select(0, edges),
        until.index_select(0, graph.rowptr),
        until.index_select(0, graph.reverse.index_select(0, edges)),
    )
