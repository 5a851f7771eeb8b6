"""Crystals that are no example to learn from: atoms on top of each other, and atoms without neighbours."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pyg_schnet.datasets.crystal import Crystal
from pyg_schnet.graph import Graph, radius_graph

#: Angstrom^3 per atom below which no crystal is packed; metallic hydrogen would need 2.
LEAST_VOLUME = 1.0
#: Atoms closer than this, in Angstrom, are at the same place.
SAME_PLACE = 0.1
_ATOMS_AT_ONCE = 20_000


def isolated_or_impossible(crystals: Sequence[Crystal], cutoff: float | None) -> tuple[set[int], set[int]]:
    """Crystals with atoms at the same place, and crystals in which an atom has no neighbour.

    Args:
        crystals: The crystals.
        cutoff: Distance in Angstrom within which each atom should have a neighbour; ``None`` asks for none.

    Returns:
        Positions of the impossible crystals and of those with an isolated atom.
    """
    impossible, isolated, unclear = set(), set(), []
    for number, crystal in enumerate(crystals):
        if abs(np.linalg.det(crystal.cell)) < LEAST_VOLUME * len(crystal.numbers):
            impossible.add(number)
            continue
        nearest = _bound(crystal)
        if nearest.min() < SAME_PLACE:
            impossible.add(number)
        elif cutoff is not None and not (nearest < cutoff).all():
            unclear.append(number)
    for batch in _batches(unclear, crystals):
        graph = _graph([crystals[number] for number in batch], cutoff or 0.0)
        sizes = np.array([len(crystals[number].numbers) for number in batch])
        alone = (graph.rowptr.diff() == 0).numpy()
        isolated.update(np.array(batch)[np.unique(np.arange(len(batch)).repeat(sizes)[alone])].tolist())
    return impossible, isolated


def _bound(crystal: Crystal) -> NDArray:
    """For each atom a distance within which it certainly has a neighbour [n]: exact if that is at the same place."""
    difference = crystal.fractional[:, None] - crystal.fractional
    difference -= np.rint(difference)  # the nearest image in a cubic cell, in a skewed one some near image
    vectors = (difference.reshape(-1, 3) @ crystal.cell).reshape(difference.shape)
    squared = np.einsum("ijk,ijk->ij", vectors, vectors)
    np.fill_diagonal(squared, np.einsum("ij,ij->i", crystal.cell, crystal.cell).min())  # its own images
    return np.sqrt(squared.min(axis=1))


def _batches(numbers: list[int], crystals: Sequence[Crystal]) -> Iterator[list[int]]:
    batch, atoms = [], 0
    for number in numbers:
        batch.append(number)
        atoms += len(crystals[number].numbers)
        if atoms > _ATOMS_AT_ONCE:
            yield batch
            batch, atoms = [], 0
    if batch:
        yield batch


def _graph(crystals: list[Crystal], cutoff: float) -> Graph:
    sizes = torch.tensor([len(crystal.numbers) for crystal in crystals])
    return radius_graph(
        torch.from_numpy(np.concatenate([crystal.positions() for crystal in crystals])),
        cutoff,
        torch.arange(len(crystals)).repeat_interleave(sizes),
        cell=torch.from_numpy(np.stack([crystal.cell for crystal in crystals])),
        pbc=torch.ones(len(crystals), 3, dtype=torch.bool),
    )
