"""Mini-batches of few shapes: atoms, pairs and structures that nobody sees fill them up."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.fast.padding import ghost_ends, ghosts_for, room_for, with_ghosts
from pyg_schnet.graph import Edges
from pyg_schnet.models.structures import Structures
from pyg_schnet.training.potential_task import Labels, PotentialTask
from pyg_schnet.training.weights import Weights

#: A shape in use is taken for smaller mini-batches, too, down to this part of its places.
SMALLEST_PART = 0.6


class Sizes(NamedTuple):
    """Numbers of pairs, atoms and structures."""

    pairs: int
    atoms: int
    structures: int

    def room(self) -> "Sizes":
        """Places for so many, a structure and atoms to fill up with."""
        pairs = room_for(self.pairs)
        return Sizes(pairs, room_for(self.atoms + ghosts_for(pairs)), room_for(self.structures + 1))

    def fit(self, needed: "Sizes") -> bool:
        """True if these places are enough for so many, and not far too many."""
        least, ghosts = needed.room(), ghosts_for(self.pairs - needed.pairs + 1)
        enough = self.pairs >= needed.pairs and self.atoms >= needed.atoms + ghosts
        moderate = least.pairs >= SMALLEST_PART * self.pairs and least.atoms >= SMALLEST_PART * self.atoms
        return enough and moderate and self.structures > needed.structures


def sizes_for(needed: Sizes, known: Iterable[Sizes]) -> Sizes:
    """Sizes in use, if some fit, else new ones.

    Args:
        needed: Numbers of pairs, atoms and structures.
        known: Sizes in use.

    Returns:
        The smallest sizes that fit.

    Example:
        >>> first = sizes_for(Sizes(pairs=100, atoms=21, structures=1), [])
        >>> first, sizes_for(Sizes(pairs=80, atoms=19, structures=2), [first]) == first
        (Sizes(pairs=112, atoms=24, structures=8), True)
    """
    fitting = [sizes for sizes in known if sizes.fit(needed)]
    return min(fitting, default=needed.room())


class Padded(NamedTuple):
    """A mini-batch of B structures, N atoms and P pairs, filled up to B', N' and P'.

    Atoms beyond N belong to structure B, pairs beyond P connect such atoms, and structures from B on have no labels, so
    that they add nothing to the loss.

    Attributes:
        z: Atomic numbers [N'].
        pos: Positions in Angstrom [N', 3].
        edge_index: See :class:`~pyg_schnet.graph.Edges`, like the next three.
        edge_vec: Vectors [P', 3].
        edge_pair: Pairs of the edges, ``None`` if each edge has a vector of its own.
        pair_index: Ends of the vectors [2, P'].
        energy: Labels, see :class:`~pyg_schnet.training.potential_task.Labels`, like the next four.
        forces: True forces [N', 3].
        stress: True stresses [B', 3, 3].
        cell: Lattice vectors [B', 3, 3].
        batch: Structure of each atom [N'].
        share: B' / B, by which a mean over all structures becomes one over the first [].
        of_energy: Weights, see :class:`~pyg_schnet.training.weights.Weights`, like the next two [B'].
        of_forces: See there.
        of_stress: See there.
        of_atoms: Weights of the atoms [N'].
    """

    z: Tensor
    pos: Tensor
    edge_index: Tensor
    edge_vec: Tensor
    edge_pair: Tensor | None
    pair_index: Tensor
    energy: Tensor
    forces: Tensor | None
    stress: Tensor | None
    cell: Tensor | None
    batch: Tensor
    share: Tensor
    of_energy: Tensor | None
    of_forces: Tensor | None
    of_stress: Tensor | None
    of_atoms: Tensor | None

    @property
    def edges(self) -> Edges:
        """The edges."""
        return Edges(self.edge_index, self.edge_vec, self.edge_pair, self.pair_index)

    @property
    def labels(self) -> Labels:
        """The labels."""
        weights = Weights(self.of_energy, self.of_forces, self.of_stress, self.of_atoms)
        return Labels(self.energy, self.forces, self.stress, self.cell, self.batch, weights)

    @property
    def sizes(self) -> Sizes:
        """Numbers of pairs, atoms and structures."""
        return Sizes(self.edge_vec.size(0), self.z.size(0), self.energy.size(0))

    @property
    def shape(self) -> tuple[object, ...]:
        """Shapes and kinds of all tensors."""
        return tuple(None if one is None else (*one.shape, one.dtype, one.device) for one in self)


@torch.no_grad()
def padded(task: PotentialTask, data: Data, known: Iterable[Sizes] = ()) -> Padded:
    """Fill up a mini-batch.

    Args:
        task: What is learnt.
        data: Structures with labels, on the device of the model.
        known: Sizes that are better than new ones.

    Returns:
        The batch, in tensors of its own.

    Raises:
        TypeError: If something is of the wrong kind.
        ValueError: If something is missing or has the wrong shape.
    """
    labels, learnt = task.labels(data), task.hparams["forces"]
    given = Structures.of_data(data, task.model.cutoff)
    z, pos, (batch, structures) = given.z, given.pos, given.check().structure_of_atoms
    if learnt and labels.forces.shape != pos.shape:
        raise ValueError(f"`forces` of the data must have shape {list(pos.shape)}, got {list(labels.forces.shape)}")
    edges = given.find_edges(task.model)
    atoms, nan = pos.size(0), float("nan")
    sizes = sizes_for(Sizes(edges.edge_vec.size(0), atoms, structures), known)
    return Padded(
        _longer(z, sizes.atoms, 1),
        _longer(pos, sizes.atoms, 0.0),
        *_filled(edges, sizes.pairs, atoms, sizes.atoms - atoms, task.model.cutoff),
        _longer(labels.energy, sizes.structures, nan),
        _longer(labels.forces, sizes.atoms, nan) if learnt else None,
        None if labels.stress is None else _longer(labels.stress, sizes.structures, nan),
        None if labels.stress is None else _longer(labels.cell, sizes.structures, 0.0),
        _longer(batch, sizes.atoms, structures),
        pos.new_full((), sizes.structures / max(structures, 1)),
        _weights(labels.weights.energy, sizes.structures),
        _weights(labels.weights.forces, sizes.structures),
        _weights(labels.weights.stress, sizes.structures),
        _weights(labels.weights.atoms, sizes.atoms),
    )


def _filled(edges: Edges, places: int, first: int, ghosts: int, cutoff: float) -> Edges:
    """Edges of so many pairs, those that are missing between ghosts."""
    pairs = edges.pair_index.size(1)
    counts = torch.arange(places, device=edges.edge_vec.device) < pairs
    ends = ghost_ends(places, first, ghosts, counts.device)
    pair_index = torch.cat([edges.pair_index, ends[pairs:].repeat(2, 1)], dim=1)
    return with_ghosts(
        pair_index, _longer(edges.edge_vec, places, 0.0), counts, ends, cutoff, edges.edge_pair is not None
    )


def _longer(tensor: Tensor, length: int, value: float) -> Tensor:
    """A copy with further rows, all of one value."""
    rest = tensor.new_full((length - tensor.size(0), *tensor.shape[1:]), value)
    return torch.cat([tensor.detach(), rest])


def _weights(weights: Tensor | None, length: int) -> Tensor | None:
    return None if weights is None else _longer(weights, length, 1.0)
