"""Mini-batches of few shapes: atoms, pairs and structures that nobody sees fill them up."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.fast.padding import ghosts_for, room_for, static_ghosts
from pyg_schnet.graph import Edges, few_pairs
from pyg_schnet.models.atomistic import searches_as_usual
from pyg_schnet.models.structures import Structures
from pyg_schnet.segments import Segments, both_ways, in_segments, provide
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
        least = needed.room()
        enough = self.pairs >= needed.pairs and self.atoms >= needed.atoms + ghosts_for(self.pairs)
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


class MiniBatch(NamedTuple):
    """What is learnt from, as it is.

    Attributes:
        structures: The structures, checked.
        pair_index: Source and target of each pair [2, P], or of each edge.
        edge_vec: Their vectors in Angstrom [P, 3].
        symmetric: True if a pair stands for both of its directions.
        labels: Labels and weights.
    """

    structures: Structures
    pair_index: Tensor
    edge_vec: Tensor
    symmetric: bool
    labels: Labels

    @property
    def sizes(self) -> Sizes:
        """Numbers of pairs, atoms and structures."""
        return Sizes(self.edge_vec.size(0), self.structures.z.size(0), self.structures.batch_size)


class Padded(NamedTuple):
    """A mini-batch of B structures, N atoms and P pairs, filled up to B', N' and P'.

    Atoms beyond N belong to structure B, pairs beyond P connect the last ones of them, and structures from B on have no
    labels, so that they add nothing to the loss.

    Attributes:
        z: Atomic numbers [N'].
        pos: Positions in Angstrom [N', 3].
        pair_index: Ends of the vectors [2, P'].
        edge_vec: Vectors [P', 3].
        edge_pair: Pair of each edge [2 P'], both directions of all pairs; ``None`` if a pair is an edge.
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
    pair_index: Tensor
    edge_vec: Tensor
    edge_pair: Tensor | None
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
        """The edges, made of the pairs."""
        pair_index, edge_pair, atoms = self.pair_index, self.edge_pair, self.z.size(0)
        if edge_pair is None:
            return Edges(pair_index, self.edge_vec, None, pair_index)
        edge_index = torch.cat([pair_index, pair_index.flip(0)], dim=1)
        if in_segments(self.edge_vec):
            both_ways(edge_index, atoms)
            provide(pair_index[1], atoms, None)
        return Edges(edge_index, self.edge_vec, edge_pair, pair_index)

    @property
    def labels(self) -> Labels:
        """The labels."""
        weights = Weights(self.of_energy, self.of_forces, self.of_stress, self.of_atoms)
        return Labels(self.energy, self.forces, self.stress, self.cell, self.batch, weights)

    @property
    def sizes(self) -> Sizes:
        """Numbers of pairs, atoms and structures."""
        return Sizes(self.edge_vec.size(0), self.z.size(0), self.energy.size(0))


@torch.no_grad()
def mini_batch(task: PotentialTask, data: Data) -> MiniBatch:
    """Check a mini-batch and find its pairs.

    Args:
        task: What is learnt.
        data: Structures with labels, on the device of the model.

    Returns:
        The batch.

    Raises:
        TypeError: If something is of the wrong kind.
        ValueError: If something is missing or has the wrong shape.
    """
    labels = task.labels(data)
    given = Structures.of_data(data, task.model.cutoff).check()
    if task.hparams["forces"] and labels.forces.shape != given.pos.shape:
        raise ValueError(
            f"`forces` of the data must have shape {list(given.pos.shape)}, got {list(labels.forces.shape)}"
        )
    if searches_as_usual(task.model) and given.edge_index is None:
        task.model.check_input(given.z, given.pos, None, given.cell, given.pbc)
        near = few_pairs(given.pos, task.model.cutoff, *given.structure_of_atoms, given.cell, given.pbc)
        if near is not None:
            return MiniBatch(given, near[0], near[1].to(given.pos.dtype), True, labels)
    edges = given.find_edges(task.model)
    return MiniBatch(given, edges.pair_index, edges.edge_vec, edges.edge_pair is not None, labels)


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
    batch = mini_batch(task, data)
    places = empty(batch, sizes_for(batch.sizes, known))
    fill(places, batch, task.model.cutoff)
    return places


def kind_of(batch: MiniBatch) -> tuple[object, ...]:
    """What must be the same of mini-batches for the same places: which tensors there are, and of which kind."""
    labels, structures = batch.labels, batch.structures
    tensors = structures.z, structures.pos, *labels[:4], *labels.weights
    return batch.symmetric, *(None if one is None else (one.dtype, one.device, one.shape[1:]) for one in tensors)


@torch.no_grad()
def empty(batch: MiniBatch, sizes: Sizes) -> Padded:
    """Places for mini-batches like this one.

    Args:
        batch: A mini-batch.
        sizes: Numbers of places.

    Returns:
        The places, to be filled.
    """
    labels, z, pos = batch.labels, batch.structures.z, batch.structures.pos
    weights, learnt = labels.weights, labels.stress is not None

    def room(like: Tensor | None, length: int) -> Tensor | None:
        return None if like is None else like.detach().new_empty(length, *like.shape[1:])

    edge_pair = torch.arange(sizes.pairs, device=z.device).repeat(2) if batch.symmetric else None
    if edge_pair is not None and in_segments(pos):
        twice = torch.arange(2 * sizes.pairs, device=z.device)
        order = twice.view(2, -1).t().reshape(-1)
        every_other = torch.arange(0, 2 * sizes.pairs + 1, 2, device=z.device)
        provide(edge_pair, sizes.pairs, Segments(order, every_other), held=True)
    return Padded(
        z.new_empty(sizes.atoms),
        pos.new_empty(sizes.atoms, 3),
        batch.pair_index.new_empty(2, sizes.pairs),
        batch.edge_vec.new_empty(sizes.pairs, 3),
        edge_pair,
        labels.energy.new_empty(sizes.structures, *labels.energy.shape[1:]),
        room(labels.forces, sizes.atoms),
        room(labels.stress, sizes.structures),
        room(labels.cell, sizes.structures) if learnt else None,
        z.new_empty(sizes.atoms),
        pos.new_empty(()),
        room(weights.energy, sizes.structures),
        room(weights.forces, sizes.structures),
        room(weights.stress, sizes.structures),
        room(weights.atoms, sizes.atoms),
    )


@torch.no_grad()
def fill(places: Padded, batch: MiniBatch, cutoff: float) -> None:
    """Put a mini-batch in its places.

    Args:
        places: The places; what was there is overwritten.
        batch: A mini-batch that fits.
        cutoff: Cutoff distance in Angstrom.
    """
    labels, z, pos, nan = batch.labels, batch.structures.z, batch.structures.pos, float("nan")
    (structure, structures), weights, taken = batch.structures.structure_of_atoms, labels.weights, batch.sizes.pairs
    _put(places.z, z, 1)
    _put(places.pos, pos, 0.0)
    _put(places.batch, structure, structures)
    places.pair_index[:, :taken].copy_(batch.pair_index)
    places.edge_vec[:taken].copy_(batch.edge_vec)
    ends, vector = static_ghosts(places.edge_vec.size(0), places.z.size(0), cutoff, pos)
    places.pair_index[:, taken:].copy_(ends[taken:])
    places.edge_vec[taken:].copy_(vector)
    places.share.fill_(places.energy.size(0) / max(structures, 1))
    for place, value, rest in (
        (places.energy, labels.energy, nan),
        (places.forces, labels.forces, nan),
        (places.stress, labels.stress, nan),
        (places.cell, labels.cell, 0.0),
        (places.of_energy, weights.energy, 1.0),
        (places.of_forces, weights.forces, 1.0),
        (places.of_stress, weights.stress, 1.0),
        (places.of_atoms, weights.atoms, 1.0),
    ):
        if place is not None and value is not None:
            _put(place, value, rest)


def _put(place: Tensor, value: Tensor, rest: float) -> None:
    """Values in front, one number behind them."""
    place[: value.size(0)].copy_(value)
    place[value.size(0) :].fill_(rest)
