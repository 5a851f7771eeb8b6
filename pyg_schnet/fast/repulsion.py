"""The repulsion beside passes that know nothing of it: it depends on no weight, so what it gives is added."""

import importlib
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast.groups import energies_of, pairs_of
from pyg_schnet.graph import Edges
from pyg_schnet.segments import add_up


def with_repulsion(
    model: Any, z: Tensor, structures: tuple[Tensor, int], edges: Edges, found: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Energies and slopes with those of the repulsion, if a model has one.

    Args:
        model: A model of energies.
        z: Atomic numbers [N].
        structures: Structure of each atom [N], and their number B.
        edges: The edges.
        found: Energies without the repulsion [B] or [B, 1] float64, and the derivatives of their sum with respect to
            ``edges.edge_vec`` [P, 3].

    Returns:
        The same with the repulsion, of which nothing is differentiated with respect to positions.
    """
    if model.repulsion is None:
        return found
    energy, slope = found
    own = _by_autograd(model, z, structures, edges) if slope.is_cuda else _by_loops(model, z, structures, edges)
    return energy + own[0].view_as(energy), slope + own[1]


def as_loops_know(model: Any, unit: float = 1.0) -> tuple[ndarray, float, float] | None:
    """How far atoms repel by their number, the cutoff, and an eV in the unit of the energies, of a model on the CPU.

    Args:
        model: The model.
        unit: Factor on its energies.

    Returns:
        The three, ``None`` without a repulsion.
    """
    repulsion = model.repulsion
    return None if repulsion is None else (repulsion.reach.numpy(), repulsion.cutoff, unit * float(repulsion.scale))


def _by_loops(model: Any, z: Tensor, structures: tuple[Tensor, int], edges: Edges) -> tuple[Tensor, Tensor]:
    loops, symmetric = importlib.import_module("pyg_schnet.fast.cpu.repulsion"), edges.edge_pair is not None
    contributions, slope = np.zeros(z.size(0)), edges.edge_vec.new_zeros(edges.edge_vec.shape)
    what = pairs_of(edges, z.size(0)), z.numpy(), as_loops_know(model)
    loops.repel(contributions, slope.view(-1).numpy(), *what, symmetric)
    return energies_of(contributions, *structures), slope


def _by_autograd(model: Any, z: Tensor, structures: tuple[Tensor, int], edges: Edges) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        vec = edges.edge_vec.detach().requires_grad_()
        shares = model.repulsion(z, edges._replace(edge_vec=vec))  # [N, 1]
        (slope,) = torch.autograd.grad(shares.sum(), vec)
    return add_up(shares.detach().double(), *structures, ascending=True), slope
