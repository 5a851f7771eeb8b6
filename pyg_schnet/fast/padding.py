"""Fixed shapes: places for more pairs than there are, and atoms of no structure to which pairs go that do not count.

A pair that is not there, or too long to count, is not multiplied by zero: it joins ghosts instead, atoms of a structure
of their own behind all others. So the sums, means and numbers of neighbours of real atoms come from their own pairs
alone, and models need not know of ghosts.
"""

import functools

import torch
from torch import Tensor

from pyg_schnet.graph import Edges

#: Pairs that share one ghost at most: no ghost has more neighbours than an atom in a crystal may have.
PAIRS_PER_GHOST = 64


def room_for(number: int) -> int:
    """Places for so many things: at most a quarter more, and only four sizes between a number and its double.

    Args:
        number: How many there are.

    Returns:
        The number of places, at least eight.

    Example:
        >>> [room_for(number) for number in (0, 9, 21, 33, 210, 1000)]
        [8, 10, 24, 40, 224, 1024]
    """
    step = 1 << max(number.bit_length() - 3, 0)
    return max(8, -(-number // step) * step)


def ghosts_for(places: int) -> int:
    """Number of ghosts beside so many places for pairs.

    Args:
        places: Places for pairs.

    Returns:
        At least one.

    Example:
        >>> ghosts_for(8), ghosts_for(640)
        (1, 10)
    """
    return -(-places // PAIRS_PER_GHOST)


def ghost_ends(places: int, first: int, ghosts: int, device: torch.device) -> Tensor:
    """The ghost to which each pair goes when it does not count.

    Args:
        places: Places for pairs C.
        first: Number of the first ghost among the atoms.
        ghosts: Number of ghosts.
        device: Where the pairs are.

    Returns:
        Atoms [C].

    Example:
        >>> ghost_ends(5, first=3, ghosts=2, device=torch.device("cpu"))
        tensor([3, 4, 3, 4, 3])
    """
    return first + torch.arange(places, device=device) % ghosts


@functools.lru_cache(maxsize=64)
def _ghosts_of(
    places: int, atoms: int, cutoff: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        ends = atoms - ghosts_for(places) + torch.arange(places, device=device) // PAIRS_PER_GHOST
        return ends, torch.eye(3, dtype=dtype, device=device)[0] * cutoff


def static_ghosts(places: int, atoms: int, cutoff: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of pairs that are not there, the last ones of so many atoms in ascending order, and their vector.

    Args:
        places: Places for pairs C.
        atoms: Number of atoms, ghosts included.
        cutoff: Cutoff distance in Angstrom.
        like: A tensor of the kind and on the device of the vector.

    Returns:
        Atoms [C] and the vector [3], as long as the cutoff, where pairs no longer count.

    Example:
        >>> static_ghosts(5, 7, 4.0, torch.zeros(1))
        (tensor([6, 6, 6, 6, 6]), tensor([4., 0., 0.]))
    """
    return _ghosts_of(places, atoms, cutoff, like.dtype, like.device)


def with_ghosts(
    pair_index: Tensor, edge_vec: Tensor, counts: Tensor, ends: Tensor, cutoff: float, symmetric: bool = True
) -> Edges:
    """The edges of pairs that count; all others join ghosts at the distance of the cutoff.

    Args:
        pair_index: Source and target of each pair [2, C].
        edge_vec: Vectors of the pairs in Angstrom [C, 3]; those that do not count may be anything, NaN too.
        counts: True for each pair that counts [C].
        ends: The ghost of each pair [C].
        cutoff: Cutoff distance in Angstrom.
        symmetric: True if a pair stands for both of its directions.

    Returns:
        The edges, not sorted.

    Example:
        >>> pairs, vectors = torch.tensor([[1, 0], [0, 0]]), torch.tensor([[1.0, 0, 0], [0.0, 0, 0]])
        >>> edges = with_ghosts(pairs, vectors, torch.tensor([True, False]), torch.tensor([2, 2]), cutoff=5.0)
        >>> edges.pair_index, edges.edge_weight
        (tensor([[1, 2],
                [0, 2]]), tensor([1., 5.]))
        >>> edges.edge_index, edges.edge_pair
        (tensor([[1, 2, 0, 2],
                [0, 2, 1, 2]]), tensor([0, 1, 0, 1]))
    """
    pair_index = torch.where(counts, pair_index, ends)
    along = torch.arange(3, device=edge_vec.device) == 0
    edge_vec = torch.where(counts.unsqueeze(1), edge_vec, along * cutoff)  # [C, 3]
    if not symmetric:
        return Edges(pair_index, edge_vec, None, pair_index)
    number = torch.arange(pair_index.size(1), device=edge_vec.device)
    return Edges(torch.cat([pair_index, pair_index.flip(0)], dim=1), edge_vec, number.repeat(2), pair_index)
