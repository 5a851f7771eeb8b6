"""Structures in groups, and the network forwards and backwards through one group after the other.

With a few hundred pairs, Python and the bookkeeping of autograd take longer than the sums; with many, the way of all
features to memory and back. So compiled loops do the whole network, forwards and backwards, for a few structures at a
time; threads share the groups.
"""

import importlib
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.operands import Pairs
from pyg_schnet.fast.weight_gradients import ALIGNED, PARTS, GradientSums, up
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

    def memory(self, network: Any, x: Tensor) -> Tensor:
        """Memory for all that the way back needs, nothing in it; x are the first features of the atoms."""
        return x.new_empty((len(x) + ALIGNED * self.number) * numbers_kept(network))

    def forward_and_backward(
        self, network: Any, x: Tensor, norm: Tensor | None, slope: Tensor, memory: Tensor | None = None
    ) -> tuple[ndarray, ndarray]:
        """The network forwards and backwards, one group after the other, shared by threads.

        Args:
            network: The network as loops see it.
            x: First features of the atoms [N, A].
            norm: Factor of each atom [N, 1]; ``None`` for ones.
            slope: To be written, derivatives with respect to the vectors of pairs, normalisation kept [P, 3].
            memory: Where to keep what the way back needs.

        Returns:
            Contributions of the atoms [N] float64, and derivatives with respect to the normalisation [N], empty
            without.
        """
        cpu, loops = convolution.installed_cpu_loops(), importlib.import_module("pyg_schnet.fast.cpu.first_order")
        contributions, features, slopes, size = np.empty(len(x)), cpu.flat(x), cpu.flat(slope), x.size(1)
        norms = factors_of(norm, features)
        of_norm = np.zeros_like(norms)

        def work(begin: int, end: int) -> None:
            for group in range(begin, end):
                a, b, mine = self.group(group)
                given = contributions[a:b], features[a * size : b * size], self.shares[a:b], norms[a:b], of_norm[a:b]
                left = scratch(network, b - a, features.dtype) if memory is None else self._kept(network, memory, group)
                loops.pass_both_ways(given, slopes, network, self.pairs, mine, a, left, self.symmetric)

        share_out(work, self.number, 1, products_of(network))
        return contributions, of_norm

    def gradients(
        self,
        network: Any,
        inputs: tuple[Tensor, ...],
        norm: Tensor | None,
        memory: Tensor,
        given: tuple[Tensor, Tensor],
    ) -> list[Tensor]:
        """Gradients with respect to first features, weights and tables.

        Args:
            network: The network as loops see it.
            inputs: First features [N, A], weights and tables.
            norm: Factor of each atom [N, 1]; ``None`` for ones.
            memory: What the pass has kept.
            given: Gradients with respect to the contributions of the atoms [N], shares left out, and to the slopes
                [P, 3].

        Returns:
            The gradients.
        """
        x, *weights = inputs
        cpu, loops = convolution.installed_cpu_loops(), importlib.import_module("pyg_schnet.fast.cpu.second_order")
        number, size = min(PARTS, self.number), x.size(1)
        parts = np.arange(number + 1) * self.number // number
        sums = GradientSums.of(tuple(weights), len(network.blocks), number)
        of_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        of_energies, of_slopes, of_features, arrays = *map(cpu.flat, given), cpu.flat(of_x), sums.sums.numpy()
        norms = factors_of(norm, of_features)

        def work(begin: int, end: int) -> None:
            for part in range(begin, end):
                for group in range(parts[part], parts[part + 1]):
                    a, b, mine = self.group(group)
                    known = of_features[a * size : b * size], of_energies[a:b], self.shares[a:b], norms[a:b]
                    rest = self.pairs, mine, a, self._kept(network, memory, group), self.symmetric
                    loops.gradients_of_loss(arrays[part], known, of_slopes, network, sums.places, *rest)

        share_out(work, number, 1, 4 * products_of(network) * self.number // number)
        return [of_x, *sums.gradients()]

    def _kept(self, network: Any, memory: Tensor, number: int) -> Any:
        """What is kept of a group, whose atoms are rounded up, as those of groups before were."""
        numbers, (first, end, _) = numbers_kept(network), self.group(number)
        begin = (first + ALIGNED * number) * numbers
        part = memory.numpy()[begin : begin + up(end - first) * numbers]
        return kept_in(part, network)


def group_structures(model: Any, located: LocatedWeights, batch: Tensor, edges: Edges) -> StructureGroups | None:
    """Groups of structures; ``None`` if a pair belongs to two of them."""
    structures, pairs = batch.numpy(), pairs_of(edges, batch.numel())
    groups = located.loops.groups_of(structures, *pairs[1:], SIZES.atoms_per_group)
    if len(groups[0]) < 2:
        return None
    return StructureGroups(pairs, shares_of(model, structures), edges.edge_pair is not None, groups)


def pairs_of(edges: Edges, atoms: int) -> tuple[ndarray, ndarray, ndarray]:
    """Vectors [P * 3], targets and sources [P] of pairs, whose ends are looked at."""
    cpu, vec = convolution.installed_cpu_loops(), edges.edge_vec.detach()
    pairs = Pairs(vec[:, 0], None, edges.pair_index[1], edges.pair_index[0])
    _, _, target, source = cpu.edges_of(pairs, atoms, atoms)
    return cpu.flat(vec), target, source


def factors_of(norm: Tensor | None, like: ndarray) -> ndarray:
    """Factor of each atom as loops take them [N]; empty for ones."""
    factors: ndarray = like[:0] if norm is None else convolution.installed_cpu_loops().flat(norm)
    return factors


def energies_of(contributions: ndarray, batch: Tensor, batch_size: int) -> Tensor:
    """Sums over the atoms of each structure [B, 1] float64."""
    return torch.from_numpy(np.bincount(batch.numpy(), contributions, batch_size)[:, None])


def numbers_kept(network: Any) -> int:
    """How many numbers are kept of an atom."""
    return int(_saved().numbers_kept(len(network.blocks), *map(up, network.sizes[:2])))


def kept_in(memory: ndarray, network: Any) -> Any:
    """What is kept of some atoms, in memory of so many numbers for each of them."""
    return _saved().on_tape(memory, len(network.blocks), *map(up, network.sizes[:2]))


def scratch(network: Any, atoms: int, kind: Any) -> Any:
    """What is kept of so many atoms when nobody asks for more than the first derivatives."""
    size, width, blocks, atoms = *map(up, network.sizes[:2]), len(network.blocks), up(atoms)
    rows = (blocks, width), (blocks, width), (1, size), (blocks, size), (1, size), (1, width), (1, width), (0, size)
    return _saved().Kept(*(np.empty((row, atoms * numbers), kind) for row, numbers in (*rows, (0, size))))


def _saved() -> Any:
    return importlib.import_module("pyg_schnet.fast.cpu.saved")


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
