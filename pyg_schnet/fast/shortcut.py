"""The one door to all that is faster than the readable network, asked once for energies and their derivatives.

Each answer is what the network itself gives, to the accuracy of its tables; where something is unusual there is none,
and the network is asked. :func:`pyg_schnet.fast.exactly` turns all of it off, :func:`pyg_schnet.fast.without` a part,
and :func:`pyg_schnet.fast.recorded` tells which way was taken.
"""

from typing import Any

from torch import Tensor

from pyg_schnet.fast import ways
from pyg_schnet.fast.gpu import frozen_pass
from pyg_schnet.fast.molecules import energies_and_forces
from pyg_schnet.fast.one_pass import energies_and_slopes
from pyg_schnet.fast.repulsion import with_repulsion
from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.ops import first_derivatives

#: Methods of a model that are bypassed.
_BYPASSED = (
    "check_input",
    "edges",
    "represent",
    "expanded",
    "tables",
    "wants_tables",
    "new_tables",
    "predict",
    "_read_out",
    "_property",
    "total",
)


def shortcut(
    model: Any, structures: Any, differentiable: bool = False, stress: bool = False, virials: bool = False
) -> dict[str, Tensor] | None:
    """Energies and first derivatives of structures, if there is a faster way to them.

    Args:
        model: A model of energies.
        structures: The structures, :class:`~pyg_schnet.models.structures.Structures`; afterwards they know their edges
            unless nobody needed them.
        differentiable: True if the results are to be differentiable with respect to the weights.
        stress: True to return the stress, if there is a cell.
        virials: True to return the virials of the atoms.

    Returns:
        What :class:`~pyg_schnet.Potential` returns; ``None`` for the usual way.
    """
    if not is_plain_network(model):
        return None
    frozen = model.filter_tables is not None
    if differentiable if frozen else model.filters == "exact":
        return None
    forces_only = frozen and not (stress or virials) and ways.enabled("molecules")
    if forces_only and (whole := energies_and_forces(model, structures)) is not None:
        ways.note("molecules")
        return {"energy": whole[0], "forces": whole[1]}
    if not ways.enabled("pass"):
        return None
    edges = structures.find_edges(model)
    atoms: tuple[Tensor, Tensor, int] = (structures.z, *structures.structure_of_atoms)
    unusual = differentiable and edges.edge_vec.requires_grad  # derivatives by positions or cell are asked for
    on_gpu = edges.edge_vec.is_cuda
    found = None if unusual or on_gpu else energies_and_slopes(model, *atoms, edges, differentiable)
    if found is None:
        return _on_gpu(model, structures, stress, virials) if on_gpu and frozen else None
    ways.note("pass")
    residual, slope = with_repulsion(model, structures.z, structures.structure_of_atoms, edges, found)
    energy = model.total(residual, *atoms).squeeze(-1)
    graph = edges.edge_vec.detach(), edges.pair_index, structures.batch, structures.cell
    out = first_derivatives(energy, slope, *graph, stress=stress, virials=virials)
    return out if differentiable else {name: value.detach() for name, value in out.items()}


def _on_gpu(model: Any, structures: Any, stress: bool, virials: bool) -> dict[str, Tensor] | None:
    """By frozen tables and kernels of a GPU."""
    edges = structures.find_edges(model)
    found = frozen_pass.energies_and_slopes(model, structures.z, structures.structure_of_atoms, edges)
    if found is None:
        return None
    ways.note("pass")
    found = with_repulsion(model, structures.z, structures.structure_of_atoms, edges, found)
    graph = edges.edge_vec.detach(), edges.pair_index, structures.batch, structures.cell
    return first_derivatives(*found, *graph, stress=stress, virials=virials)


def is_plain_network(model: Any) -> bool:
    """True if passes may stand for a model.

    Args:
        model: A model of energies.

    Returns:
        True for the network that passes stand for, if no bypassed method is overridden.
    """
    network, kind = TabulatedFilters.network, type(model)
    if network is None or not isinstance(model, network):
        return False
    if kind is not network and any(getattr(kind, name) is not getattr(network, name) for name in _BYPASSED):
        return False
    return model.__dict__.keys().isdisjoint(_BYPASSED)
