"""Copies of models for simulations, with filters from tables where that is worth it."""

import copy
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from pyg_schnet.fast.gpu.self_test import kernels_agree
from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.models.checkpoint import to_device
from pyg_schnet.models.recordable import members_of
from pyg_schnet.sizes import SIZES


def frozen_copy(
    model: nn.Module, device: str | torch.device, dtype: torch.dtype | None, frozen: bool | None
) -> nn.Module:
    """A copy of a model or committee that nothing of the original changes, ready for inference.

    Filters read from tables differ from those that are evaluated by what float32 rounds off, see
    :func:`~pyg_schnet.models.table_accuracy`, and energies and forces take a fraction of the time. In float64 they
    would be the largest error by far (some 1e-8 of the forces), so that is for the caller to ask for.

    Args:
        model: The model or committee.
        device: Where to put the copy.
        dtype: Floating-point type; ``None`` for the model's own, float32 if that has fewer digits.
        frozen: True if its filters come from tables; ``None`` for: in float32 on a CPU, where they already do, and on a
            GPU for large structures, see :func:`freeze_if_large`.

    Returns:
        The copy, in evaluation mode.

    Raises:
        ValueError: If ``frozen`` is asked of a model without filter networks, or there is no such device.
    """
    kinds = [member.embedding.weight.dtype for member in members_of(model)]
    if dtype is None and all(kind.itemsize < torch.float32.itemsize for kind in kinds):
        dtype = torch.float32  # half precision knows forces to some 0.1 eV/Angstrom, and has no numpy arrays at all
    own = to_device(copy.deepcopy(model), device, dtype).eval().requires_grad_(False)
    for member in members_of(own):
        _set_frozen(member, frozen)
    return own


#: Models on a GPU of which nobody has said whether they are to be frozen.
_undecided: WeakSet[nn.Module] = WeakSet()


def freeze_if_large(model: Any, atoms: int) -> None:
    """Freeze a model on a GPU for a large structure, unless somebody has decided otherwise or kernels do not work.

    Args:
        model: What :func:`frozen_copy` made.
        atoms: Number of atoms of the structure.
    """
    if atoms < SIZES.frozen_from:
        return
    for member in members_of(model):
        if member in _undecided:
            _undecided.discard(member)
            if kernels_agree(member.embedding.weight.device):
                member.freeze()


def _set_frozen(model: Any, frozen: bool | None) -> None:
    has_filters = isinstance(model, TabulatedFilters)
    if not has_filters and frozen:
        raise ValueError(
            f"frozen=True needs a SchNet, whose filters are functions of a distance, got {type(model).__name__}; "
            "leave `frozen` out"
        )
    if not has_filters or model.frozen is frozen:
        return
    weight: torch.Tensor = model.embedding.weight
    if frozen is None and not model.frozen and weight.dtype == torch.float32 and weight.is_cuda:
        if _has_plain_filters(model):
            _undecided.add(model)
        return
    if frozen is None and not model.frozen:
        frozen = weight.dtype == torch.float32 and weight.device.type == "cpu" and _has_plain_filters(model)
    if frozen and not model.frozen:
        model.freeze()
    elif frozen is False:
        model.unfreeze()


def _has_plain_filters(model: Any) -> bool:
    """True if filters are what the networks compute, and nobody listens to or explains them."""
    if any(interaction.conv.explain for interaction in model.interactions):
        return False
    networks = [model.basis, *(interaction.conv.nn for interaction in model.interactions)]
    return not any(
        module._forward_hooks or module._forward_pre_hooks for network in networks for module in network.modules()
    )
