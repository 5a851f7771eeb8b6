"""Structures in groups, and the network forwards and backwards through one group after the other.

With a few hundred pairs, Python and the bookkeeping of autograd take longer than the sums; with many, the way of all
features to memory and back. So compiled loops do the whole network, forwards and backwards, for a few structures at a
time; threads share the groups.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.operands import Pairs
from pyg_schnet.fast.weights import LocatedWeights
from pyg_schnet.graph import Edges
from pyg_schnet.sizes import SIZES
from pyg_schnet.threads import share_out


class StructureGroups(NamedTuple):
    """Structures and pairs as loops take them, group by group.

    Attributes:
        pairs: Vectors [P * 3], targets and sources [P].
        shares: What each atom's contribution counts in the energy of its structure [N] float64.
        symmetric: True if each pair stands for its opposite, too.
        groups: Groups of structures, see :func:`pyg_schnet.fast.cpu.first_order.groups_of`.
    """

    pairs: tuple[ndarray, ndarray, ndarray]
    shares: ndarray
    symmetric: bool
    groups: tuple[ndarray, ndarray, ndarray]

    @property
    def number(self) -> int:
        """Number of groups."""
        return len(self.groups[0]) - 1

    def group(self, number: int) -> tuple[int, int, ndarray]:
        """First atom of a group and the one behind the last, and its pairs."""
        first_atom, order, first_pair = self.groups
        mine = order[first_pair[number] : first_pair[number + 1]]
        return int(first_atom[number]), int(first_atom[number + 1]), mine


def group_structures(model: Any, located: LocatedWeights, batch: Tensor, edges: Edges) -> StructureGroups | None:
    """Groups of structures; ``None`` if a pair belongs to two of them."""
    cpu, structures, vec = convolution.installed_cpu_loops(), batch.numpy(), edges.edge_vec.detach()
    atoms = batch.numel()
    pairs = Pairs(vec[:, 0], None, edges.pair_index[1], edges.pair_index[0])
    _, _, target, source = cpu.edges_of(pairs, atoms, atoms)
    groups = located.loops.groups_of(structures, target, source, SIZES.atoms_per_group)
    if len(groups[0]) < 2:
        return None
    arrays, symmetric = (cpu.flat(vec), target, source), edges.edge_pair is not None
    return StructureGroups(arrays, shares_of(model, structures), symmetric, groups)


def forward_and_backward(
    network: Any,
    groups: StructureGroups,
    x: Tensor,
    norm: Tensor | None,
    slope: Tensor,
    kept: Callable[[int, int, int], Any] | None = None,
) -> tuple[ndarray, ndarray]:
    """The network forwards and backwards, one group after the other, shared by threads.

    Args:
        network: The network as loops see it.
        groups: The groups.
        x: First features of the atoms [N, A].
        norm: Factor of each atom [N, 1]; ``None`` for ones.
        slope: To be written, derivatives with respect to the vectors of pairs, normalisation kept [P, 3].
        kept: Where to keep what is computed on the way, for a group, its first atom and the one behind its last.

    Returns:
        Contributions of the atoms [N] float64, and derivatives with respect to the normalisation [N], empty without.
    """
    cpu, loops = convolution.installed_cpu_loops(), importlib.import_module("pyg_schnet.fast.cpu.first_order")
    contributions, features, slopes, size = np.empty(len(x)), cpu.flat(x), cpu.flat(slope), x.size(1)
    norms = factors_of(norm, features)
    of_norm = np.zeros_like(norms)

    def work(begin: int, end: int) -> None:
        for group in range(begin, end):
            a, b, mine = groups.group(group)
            given = contributions[a:b], features[a * size : b * size], groups.shares[a:b], norms[a:b], of_norm[a:b]
            left = None if kept is None else kept(group, a, b)
            loops.pass_both_ways(given, slopes, network, groups.pairs, mine, a, left, groups.symmetric)

    share_out(work, groups.number, 1, products_of(network))
    return contributions, of_norm


def factors_of(norm: Tensor | None, like: ndarray) -> ndarray:
    """Factor of each atom as loops take them [N]; empty for ones."""
    factors: ndarray = like[:0] if norm is None else convolution.installed_cpu_loops().flat(norm)
    return factors


def energies_of(contributions: ndarray, batch: Tensor, batch_size: int) -> Tensor:
    """Sums over the atoms of each structure [B, 1] float64."""
    return torch.from_numpy(np.bincount(batch.numpy(), contributions, batch_size)[:, None])


def products_of(network: Any) -> int:
    """What a group of atoms costs, in products of a convolution."""
    size, width, *_ = network.sizes
    return int(SIZES.atoms_per_group * len(network.blocks) * size * width) // 2


def shares_of(model: Any, structures: ndarray) -> ndarray:
    """What each atom's contribution counts in the energy of its structure [N] float64."""
    shares = np.full(len(structures), float(model.reference.std))
    if model.readout.reference == "mean":
        shares /= np.bincount(structures)[structures]
    return shares
