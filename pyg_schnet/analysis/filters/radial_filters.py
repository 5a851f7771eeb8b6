"""The filters of a model as functions of one distance, whatever evaluates them."""

import math
from collections.abc import Callable, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyg_schnet.fast.bspline import FilterTable, evaluate
from pyg_schnet.fast.tables import frozen_tables
from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.nn import BesselBasis, CFConv, GaussianSmearing, TensorLayer


class RadialFilter(NamedTuple):
    """The filters of one interaction.

    Attributes:
        name: Name of the layer in the model.
        layer: The layer.
        basis: The radial basis, from distances [E] to [E, G].
        table: The frozen table that stands in for the filter network, if there is one.
        reach: Distance in Angstrom from which atoms do not interact; infinite if that is not known.
        like: A tensor whose dtype and device distances must have.
    """

    name: str
    layer: CFConv | TensorLayer
    basis: Callable[[Tensor], Tensor]
    table: FilterTable | None
    reach: float
    like: Tensor

    def __call__(self, distance: Tensor, cutoff: bool = True) -> Tensor:
        """Filters at some distances.

        Args:
            distance: Distances in Angstrom, of any kind [E].
            cutoff: True for filters as the model applies them: times the cutoff function, zero from :attr:`reach` on.

        Returns:
            Filters [E, F].

        Raises:
            ValueError: If a frozen table is asked for what is beyond its end.
        """
        distance = distance.to(self.like)
        if cutoff:
            inside = distance < self.reach
            w = self._network(torch.where(inside, distance, 0.0)) * self._factor(distance)
            return torch.where(inside.unsqueeze(-1), w, 0.0)
        if self.table is not None and distance.numel() and float(distance.max()) > self.reach * (1 + 1e-6):
            raise ValueError(
                f"frozen tables end at the cutoff of {self.reach:g} Angstrom, got a distance of "
                f"{float(distance.max()):g}; unfreeze() the model for its filters beyond"
            )
        return self._network(distance)

    def _network(self, distance: Tensor) -> Tensor:
        if self.table is not None:
            return evaluate(self.table, distance)
        network = self.layer.nn if isinstance(self.layer, CFConv) else self.layer.lin_edge
        return network(self.basis(distance))

    def _factor(self, distance: Tensor) -> Tensor:
        return self.layer.cutoff(distance).reshape(-1, 1)


def radial_filters(model: nn.Module, basis: Callable[[Tensor], Tensor] | None = None) -> list[RadialFilter]:
    """The filters of all interactions of a model: those of each :class:`~pyg_schnet.CFConv` or tensor layer in it.

    Args:
        model: A :class:`~pyg_schnet.SchNet`, frozen or not, a :class:`~pyg_schnet.models.DTNN`, a
            :class:`~pyg_schnet.Potential` of one, or any module that has such layers.
        basis: From distances [E] to what the layers take [E, G]; ``None`` for the radial basis in the model.

    Returns:
        The filters in the order of the layers; a layer that several interactions share is there once.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it has no such layer, is a committee, or has no or several bases.
    """
    model = checked_model(model)
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, (CFConv, TensorLayer))]
    if not layers:
        raise ValueError(
            f"expected a model with continuous-filter convolutions or tensor layers, got {type(model).__name__} "
            "without; convert one of PyG with `from_pyg`, one of SchNetPack with `from_schnetpack`"
        )
    tables: dict[int, FilterTable] = {}
    if isinstance(model, TabulatedFilters) and model.filter_tables is not None:
        model.follow_weights()
        blocks: Any = model.interactions
        frozen = frozen_tables(model.filter_tables, model.cutoff).each()
        tables = {id(block.conv): table for block, table in zip(blocks, frozen, strict=True)}
    basis = _basis_of(model) if basis is None else basis
    reach, like = _reach_of(model), next(model.parameters()).detach()
    return [
        RadialFilter(name, layer, basis, tables.get(id(layer)), min(reach, _reach_of(layer.cutoff)), like)
        for name, layer in layers
    ]


def checked_model(model: Any) -> nn.Module:
    """The model itself, without a potential around it.

    Args:
        model: Whatever was given for one.

    Returns:
        The model.

    Raises:
        TypeError: If it is no module.
        ValueError: If it is a committee.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a model, got {type(model).__name__}; read a file with pyg_schnet.load(path)")
    if isinstance(getattr(model, "model", None), nn.Module):  # a potential
        model = model.model
    if isinstance(model, Sized) and hasattr(model, "members"):
        raise ValueError(
            f"expected one model, got a committee of {len(model)}, each of which has learned something else; "
            "pass a member, for example committee[0]"
        )
    return model


def default_reach(filters: list[RadialFilter]) -> float:
    """Largest distance in Angstrom that is worth a look: that of the model, or else the end of its basis.

    Args:
        filters: The filters of a model.

    Returns:
        The distance.

    Raises:
        ValueError: If nothing tells it.
    """
    reach = max(one.reach for one in filters)
    basis = filters[0].basis
    if math.isinf(reach) and isinstance(basis, GaussianSmearing):
        return float(basis.offset.detach().max())
    if math.isinf(reach):
        raise ValueError("the model does not say how far atoms interact; pass `distances`")
    return reach


def _basis_of(model: nn.Module) -> nn.Module:
    bases = [module for module in model.modules() if isinstance(module, (GaussianSmearing, BesselBasis))]
    if len(bases) != 1:
        raise ValueError(
            f"expected a model with one radial basis, got {type(model).__name__} with {len(bases)}; pass `basis`, "
            "from distances [E] to what the filter networks take [E, G]"
        )
    return bases[0]


def _reach_of(module: nn.Module) -> float:
    reach = getattr(module, "cutoff", math.inf)
    return float(reach) if isinstance(reach, (int, float)) else math.inf
