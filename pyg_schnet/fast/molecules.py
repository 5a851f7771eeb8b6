"""Energies and forces of small molecules by a frozen SchNet, from positions on, as dynamics asks for them.

For a molecule of some twenty atoms, the way from one tensor to the next takes longer than the network. Here pairs are
found in one compiled call, and energies and forces in a second. Whatever is unusual about the input, and all that has
an error to be raised, is left to the ordinary way, whose results these are.
"""

import importlib
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.groups import products_of, shares_of
from pyg_schnet.fast.plain import is_plain
from pyg_schnet.fast.repulsion import as_loops_know
from pyg_schnet.fast.weights import locate
from pyg_schnet.graph import can_inspect
from pyg_schnet.graph.compiled import pairs_of_few
from pyg_schnet.nn import Reference
from pyg_schnet.sizes import SIZES
from pyg_schnet.threads import share_out


def energies_and_forces(model: Any, structures: Any) -> tuple[Tensor, Tensor] | None:
    """Energies, references included, and forces.

    Args:
        model: A frozen SchNet.
        structures: The structures, :class:`~pyg_schnet.models.structures.Structures`, not checked yet.

    Returns:
        Energies [B] float64 and forces [N, 3]; ``None`` unless structures are open, all is as usual, the model has the
        papers' layers and no normalisation, and there are compiled loops.
    """
    z, pos, batch, batch_size = structures.z, structures.pos, structures.batch, structures.batch_size
    if not _is_open(structures) or not _is_usual(model, z, pos, batch, batch_size):
        return None
    located = locate(model)
    if located is None or located.convolutions[0].norm is not None or type(model.reference) is not Reference:
        return None
    if batch is None:
        batch, batch_size = torch.zeros_like(z), 1
    elif batch_size is None:
        batch_size = int(batch[-1]) + 1
    numbers, structure = z.numpy(), batch.numpy()
    pairs = pairs_of_few(pos, model.cutoff, batch, batch_size, SIZES.max_atoms)
    if pairs is None or not pairs.size or numbers.min() < 1 or numbers.max() >= located.network.embedding[1]:
        return None
    loops, network = located.loops, located.network
    groups = loops.groups_of(structure, pairs[0], pairs[1], SIZES.atoms_per_group)
    energy, forces = np.zeros(batch_size), torch.zeros_like(pos, requires_grad=False).numpy()
    what = energy, forces, numbers, pos.detach().numpy(), structure, network, pairs, shares_of(model, structure)
    if len(groups[0]) == 2:  # a single group, nothing to share
        loops.molecules_both_ways(*what, groups, (0, 1))
    else:
        number, products = len(groups[0]) - 1, products_of(network)
        share_out(lambda *part: loops.molecules_both_ways(*what, groups, part), number, 1, products)
    if (repulsion := as_loops_know(model)) is not None:
        near = importlib.import_module("pyg_schnet.fast.cpu.repulsion")
        near.repel_few(energy, forces, numbers, pos.detach().numpy(), structure, pairs, repulsion)
    energy += references_of(model, numbers, structure, batch_size)
    return torch.from_numpy(energy), torch.from_numpy(forces)


def references_of(model: Any, numbers: ndarray, structure: ndarray, batch_size: int) -> ndarray:
    """What :meth:`~pyg_schnet.models.AtomisticModel.total` adds for one target [B] float64, in a third of its time."""
    reference = model.reference
    each = reference.atomref.numpy()[numbers, 0] + reference.mean.numpy()
    total: ndarray = np.bincount(structure, each, batch_size)
    if reference.how == "mean":
        total /= np.maximum(np.bincount(structure, minlength=batch_size), 1)
    return total


def _is_open(structures: Any) -> bool:
    """True if there surely are no periodic axes, cells are as they should be, and edges are still to be found."""
    pos, cell, pbc = structures.pos, structures.cell, structures.pbc
    if structures.edges is not None or structures.edge_index is not None or structures.edge_shift is not None:
        return False
    if cell is None and pbc is None:
        return True
    if not isinstance(pos, Tensor) or not isinstance(cell, Tensor) or not isinstance(pbc, Tensor):
        return False
    one = structures.batch is None or structures.batch_size == 1
    if not (pbc.shape == (1, 3) and pbc.dtype == torch.bool and one):
        return False
    fits = cell.shape == (1, 3, 3) and cell.dtype == pos.dtype and cell.device == pos.device
    return fits and can_inspect(pbc) and not pbc.any()


def _is_usual(model: Any, z: Any, pos: Any, batch: Any, batch_size: int | None) -> bool:
    """True for plain tensors of matching kinds and shapes on the CPU; values are looked at later."""
    if not is_plain(pos) or type(z) is not Tensor or not can_inspect(pos) or not can_inspect(z):
        return False
    if pos.dtype != model.filter_tables.dtype or z.dtype != torch.long or convolution.cpu_loops() is None:
        return False
    if (
        pos.dim() != 2
        or pos.size(1) != 3
        or z.shape != pos.shape[:1]
        or not (pos.is_contiguous() and z.is_contiguous())
    ):
        return False
    if torch.is_autocast_enabled("cpu") or pos.is_neg():
        return False
    if batch is None or not (batch_size is None or type(batch_size) is int):
        return batch is None and (batch_size is None or (type(batch_size) is int and batch_size == 1))
    plain = type(batch) is Tensor and can_inspect(batch) and batch.is_contiguous()
    return plain and batch.dtype == torch.long and batch.shape == z.shape
