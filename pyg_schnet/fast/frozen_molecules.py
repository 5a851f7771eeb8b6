"""Energies and forces of small molecules by a frozen SchNet, from positions on, as dynamics asks for them.

For a molecule of some twenty atoms, the way from one tensor to the next takes longer than the network. Here pairs are
found in one compiled call, and energies and forces in a second. Whatever is unusual about the input, and all that has
an error to be raised, is left to the ordinary way, of which this is a twin.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.frozen_pass import AT_ONCE, SMALL, products_of, references_of, shares_of
from pyg_schnet.fast.spline import LOOPED
from pyg_schnet.fast.weights import plan_of
from pyg_schnet.graph import may_inspect
from pyg_schnet.graph.compiled import pairs_of_few
from pyg_schnet.nn import Reference


def frozen_molecules(model: Any, z: Any, pos: Any, batch: Any, batch_size: int | None) -> tuple[Tensor, Tensor] | None:
    """Energies, references included, and forces.

    Args:
        model: A frozen SchNet.
        z: Atomic numbers [N].
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N], or ``None`` for one structure.
        batch_size: Number of structures, or ``None``.

    Returns:
        Energies [B] float64 and forces [N, 3]; ``None`` unless all is as usual, the model has the papers' layers and
        no normalisation, and there are compiled loops.
    """
    plan = plan_of(model) if _is_usual(model, z, pos, batch, batch_size) else None
    if plan is None or plan.convolutions[0].norm is not None or type(model.reference) is not Reference:
        return None
    if batch is None:
        batch, batch_size = torch.zeros_like(z), 1
    elif batch_size is None:
        batch_size = int(batch[-1]) + 1
    numbers, structures = z.numpy(), batch.numpy()
    pairs = pairs_of_few(pos, model.cutoff, batch, batch_size, SMALL)
    if pairs is None or not pairs.size or numbers.min() < 1 or numbers.max() >= plan.network.embedding[1]:
        return None
    groups = plan.loops.groups_of(structures, pairs[0], pairs[1], AT_ONCE)
    energy, forces = np.zeros(batch_size), torch.zeros_like(pos, requires_grad=False).numpy()
    what = energy, forces, numbers, pos.detach().numpy(), structures, plan.network, pairs, shares_of(model, structures)
    number, products, loops = len(groups[0]) - 1, products_of(plan.network), plan.loops
    convolution.cpu_loops().share_out(lambda *part: loops.molecules_both_ways(*what, groups, part), number, 1, products)
    energy += references_of(model, numbers, structures, batch_size)
    return torch.from_numpy(energy), torch.from_numpy(forces)


def _is_usual(model: Any, z: Any, pos: Any, batch: Any, batch_size: int | None) -> bool:
    """Whether these are plain tensors of matching kinds and shapes on the CPU; values are looked at later."""
    if type(pos) is not Tensor or type(z) is not Tensor or not may_inspect(pos) or not may_inspect(z):
        return False
    kinds = pos.dtype in LOOPED and pos.dtype == model.filter_tables.dtype and z.dtype == torch.long
    if not kinds or convolution.cpu_loops() is None:
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
        return batch is None and batch_size in {None, 1}
    plain = type(batch) is Tensor and may_inspect(batch) and batch.is_contiguous()
    return plain and batch.dtype == torch.long and batch.shape == z.shape
