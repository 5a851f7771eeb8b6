"""Energies and their slopes of a frozen SchNet in one go, for small structures, however many.

With a few hundred pairs, Python and the bookkeeping of autograd take longer than the sums; with many, the way of all
features to memory and back. Here the network is written out, forwards and backwards, as compiled loops in a single
call, which does a few structures at a time; threads share them. What comes out are the energies and their derivatives
with respect to the vectors of pairs, of which forces and stresses are sums; whoever needs other derivatives takes the
ordinary network.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.weights import Plan, plan_of
from pyg_schnet.graph import Edges, may_inspect

#: Atoms of a structure above which torch's dense layers, which use all threads, save more than this pass.
SMALL = 256
#: Atoms that are done at once, if structures are smaller: what is kept of them fits the caches of current processors.
AT_ONCE = 96


def frozen_pass(model: Any, z: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> tuple[Tensor, Tensor] | None:
    """Energies without their references, and slopes, of small structures.

    Args:
        model: A frozen SchNet.
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        edges: The edges.

    Returns:
        Energies [B, 1] float64, and the derivatives of their sum with respect to ``edges.edge_vec`` [P, 3]; ``None``
        unless the model has the papers' layers, one target and a sum or mean over atoms, on a CPU with the compiled
        loops, and structures are small.
    """
    plan = plan_of(model) if suits(model, batch, edges) else None
    some = None if plan is None else few_at_a_time(model, plan, batch, edges)
    if plan is None or some is None:
        return None
    vec, conv, norm = edges.edge_vec.detach(), model.interactions[0].conv, None
    if conv.norm is not None:
        with torch.enable_grad():
            distance = vec.norm(dim=1).requires_grad_()
            norm = conv.normalize(edges.edge_index, distance, edges.edge_pair, batch.numel())
    with torch.no_grad():
        x, slope = model.embedding(z), torch.empty_like(vec)
    contributions, of_norm = both_ways(plan.network, some, x, norm, slope)
    if norm is not None and norm.requires_grad:
        radial = torch.autograd.grad(norm, distance, torch.from_numpy(of_norm).view_as(norm))[0]
        slope += (radial / distance.detach()).unsqueeze(1) * vec
    return energies_of(contributions, batch, batch_size), slope


class Some(NamedTuple):
    """Structures and pairs as loops take them, some at a time.

    Attributes:
        pairs: Vectors [P * 3], targets and sources [P].
        shares: What each atom's contribution counts in the energy of its structure [N] float64.
        symmetric: Whether each pair stands for its opposite, too.
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


def few_at_a_time(model: Any, plan: Plan, batch: Tensor, edges: Edges) -> Some | None:
    """Groups of structures; ``None`` if a pair belongs to two of them."""
    cpu, structures, vec, atoms = convolution.cpu_loops(), batch.numpy(), edges.edge_vec.detach(), batch.numel()
    _, _, target, source = cpu.edges_of(vec[:, 0], None, edges.pair_index[1], edges.pair_index[0], atoms, atoms)
    groups = plan.loops.groups_of(structures, target, source, AT_ONCE)
    if len(groups[0]) < 2:
        return None
    return Some((cpu.flat(vec), target, source), shares_of(model, structures), edges.edge_pair is not None, groups)


def both_ways(
    network: Any,
    some: Some,
    x: Tensor,
    norm: Tensor | None,
    slope: Tensor,
    kept: Callable[[int, int, int], Any] | None = None,
) -> tuple[ndarray, ndarray]:
    """The network forwards and backwards, one group after the other, shared by threads.

    Args:
        network: The network as loops see it.
        some: The groups.
        x: First features of the atoms [N, A].
        norm: Factor of each atom [N, 1]; ``None`` for ones.
        slope: To be written, derivatives with respect to the vectors of pairs, normalisation kept [P, 3].
        kept: Where to keep what is computed on the way, for a group, its first atom and the one behind its last.

    Returns:
        Contributions of the atoms [N] float64, and derivatives with respect to the normalisation [N], empty without.
    """
    cpu, loops = convolution.cpu_loops(), importlib.import_module("pyg_schnet.fast.cpu.first_order")
    contributions, features, slopes, size = np.empty(len(x)), cpu.flat(x), cpu.flat(slope), x.size(1)
    norms = factors_of(norm, features)
    of_norm = np.zeros_like(norms)

    def work(begin: int, end: int) -> None:
        for group in range(begin, end):
            a, b, mine = some.group(group)
            given = contributions[a:b], features[a * size : b * size], some.shares[a:b], norms[a:b], of_norm[a:b]
            left = None if kept is None else kept(group, a, b)
            loops.pass_both_ways(given, slopes, network, some.pairs, mine, a, left, some.symmetric)

    cpu.share_out(work, some.number, 1, products_of(network))
    return contributions, of_norm


def factors_of(norm: Tensor | None, like: ndarray) -> ndarray:
    """Factor of each atom as loops take them [N]; empty for ones."""
    factors: ndarray = like[:0] if norm is None else convolution.cpu_loops().flat(norm)
    return factors


def energies_of(contributions: ndarray, batch: Tensor, batch_size: int) -> Tensor:
    """Sums over the atoms of each structure [B, 1] float64."""
    return torch.from_numpy(np.bincount(batch.numpy(), contributions, batch_size)[:, None])


def products_of(network: Any) -> int:
    """What the atoms that are done at once cost, in products of a convolution."""
    size, width, *_ = network.sizes
    return int(AT_ONCE * len(network.blocks) * size * width) // 2


def shares_of(model: Any, structures: ndarray) -> ndarray:
    """What each atom's contribution counts in the energy of its structure [N] float64."""
    shares = np.full(len(structures), float(model.reference.std))
    if model.readout.reference == "mean":
        shares /= np.bincount(structures)[structures]
    return shares


def references_of(model: Any, numbers: ndarray, structures: ndarray, batch_size: int) -> ndarray:
    """What :meth:`~pyg_schnet.models.AtomisticModel.total` adds for one target [B] float64, in a third of its time.

    Args:
        model: A model on the CPU whose readout is a sum or mean over atoms.
        numbers: Atomic numbers [N], already checked.
        structures: Structure of each atom [N].
        batch_size: Number of structures B.

    Returns:
        References of the structures.
    """
    reference = model.reference
    each = reference.atomref.numpy()[numbers, 0] + reference.mean.numpy()
    total: ndarray = np.bincount(structures, each, batch_size)
    if reference.how == "mean":
        total /= np.maximum(np.bincount(structures, minlength=batch_size), 1)
    return total


def suits(model: Any, batch: Tensor, edges: Edges) -> bool:
    """Whether structures are small, and all are ordinary numbers on a CPU."""
    vec = edges.edge_vec
    if not may_inspect(vec) or not may_inspect(batch) or convolution.cpu_loops() is None:
        return False
    if vec.dtype not in {torch.float32, torch.float64} or vec.dtype != model.embedding.weight.dtype:
        return False
    if type(vec) is not Tensor or torch.is_autocast_enabled("cpu"):
        return False
    return batch.numel() <= SMALL or int(np.bincount(batch.numpy()).max()) <= SMALL
