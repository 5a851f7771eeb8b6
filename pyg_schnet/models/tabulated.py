"""Models whose filters may come from tables: frozen ones, or those of a batch."""

import functools
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyg_schnet.graph import values_unseen
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.filter_tables import (
    FILTERS,
    check_coefficients,
    filter_tables,
    frozen_coefficients,
    frozen_tables,
    spacing_of,
    worth_a_table,
)
from pyg_schnet.nn import BesselBasis, GaussianSmearing
from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.ops import FilterTable
from pyg_schnet.ops.filter_table import MARGIN, interpolation, knots_of


class TabulatedModel(AtomisticModel):
    """A model of interaction blocks with filter networks, which are functions of one distance.

    A subclass has the attributes below and asks :meth:`tables` where its filters come from.

    Args:
        *arguments: Those of :class:`~pyg_schnet.models.AtomisticModel`.
        filters: ``"exact"``, ``"table"`` or ``"auto"``, see :class:`~pyg_schnet.SchNet`.
        knot_spacing: Distance between knots in Angstrom; ``None`` for what the basis needs.
        **options: Those of :class:`~pyg_schnet.models.AtomisticModel`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    #: Frozen tables of the interaction blocks [T, K, F], ``None`` unless :meth:`freeze` was called.
    filter_tables: Tensor | None
    basis: GaussianSmearing | BesselBasis
    interactions: nn.ModuleList

    def __init__(self, *arguments: Any, filters: str, knot_spacing: float | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if filters not in FILTERS:
            raise ValueError(f"`filters` must be one of {', '.join(map(repr, FILTERS))}, got {filters!r}")
        self.filters = filters
        self.knot_spacing = None if knot_spacing is None else check_positive("knot_spacing", knot_spacing)
        self.register_buffer("filter_tables", None)
        self.register_load_state_dict_pre_hook(_leave_tables)
        self.register_load_state_dict_post_hook(_refresh_tables)

    def tables(self, edge_weight: Tensor) -> list[FilterTable] | None:
        """The tables to read filters from, frozen ones or those of this batch; ``None`` to evaluate the networks."""
        if any(interaction.conv.explain for interaction in self.interactions):  # type: ignore[union-attr]
            return None  # PyG's Explainer masks messages, which no table has
        if self.filter_tables is not None:
            return frozen_tables(self.filter_tables, self.cutoff)
        if self.filters == "exact":
            return None
        if torch.compiler.is_compiling() or values_unseen():
            return self._tables_of_all_distances(edge_weight)
        spacing = self._spacing()
        if edge_weight.size(0) == 0 or (self.filters == "auto" and not worth_a_table(edge_weight, spacing)):
            return None
        low, high = torch.aminmax(edge_weight.detach())
        start, knots = knots_of(float(low), float(high), spacing, edge_weight.device)
        return filter_tables(self.basis, self.interactions, knots, None, (start, spacing), edge_weight)

    def _tables_of_all_distances(self, edge_weight: Tensor) -> list[FilterTable] | None:
        """In a compiler, or where values are unseen, nobody may look at distances, nor at learned widths."""
        compiling = torch.compiler.is_compiling()
        hidden = self.config["trainable_basis"] or (isinstance(self.basis, BesselBasis) and not compiling)
        if self.filters != "table" or (self.knot_spacing is None and hidden):
            return None
        spacing, device = self._spacing(), edge_weight.device
        if compiling:
            knots, matrix = self._all_knots().to(device), self._interpolation_of_all_knots().to(device)
        else:
            knots, matrix = _knots_in_place(self.cutoff, spacing, device)
        return filter_tables(self.basis, self.interactions, knots, matrix, (-MARGIN * spacing, spacing), edge_weight)

    @torch.compiler.assume_constant_result
    def _all_knots(self) -> Tensor:
        return knots_of(0.0, self.cutoff, self._spacing())[1]

    @torch.compiler.assume_constant_result
    def _interpolation_of_all_knots(self) -> Tensor:
        return interpolation(self._all_knots().size(0))

    def _spacing(self) -> float:
        return spacing_of(self.basis) if self.knot_spacing is None else self.knot_spacing

    @property
    def frozen(self) -> bool:
        """Whether filters come from frozen tables."""
        return self.filter_tables is not None

    def freeze(self, tables: Tensor | None = None) -> Self:
        """Read filters from tables, made now, instead of evaluating filter networks: for inference and dynamics.

        The tables, splines through what the filter networks give in float64 at knots from zero to the cutoff, are a
        buffer of the model in its dtype: :func:`pyg_schnet.save`, ``deepcopy`` and ``to`` take them along. Energies,
        forces, stresses and Hessians are derivatives of one another to round-off, and those of the exact model to the
        accuracy that :func:`~pyg_schnet.models.accuracy.table_accuracy` tells. The weights stay, and so do their
        gradients except for those of the basis and the filter networks, which are not evaluated. On a CPU with the
        extra ``fast``, energies, forces and stresses of small structures are computed in one pass without autograd, see
        :mod:`pyg_schnet.models.frozen_pass`.

        The model goes to evaluation mode, and ``train()`` is refused until :meth:`unfreeze`. New weights through
        ``load_state_dict`` or ``reset_parameters``, and ``to`` another dtype, make new tables; after changing filter
        networks in any other way, freeze again.

        Args:
            tables: Tables of an earlier call with the same weights [T, K, F]; ``None`` to make them.

        Returns:
            The model itself.

        Raises:
            ValueError: If ``tables`` are those of another network.

        Example:
            >>> from pyg_schnet import SchNet
            >>> model = SchNet(16, 16, 2)
            >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]])
            >>> exact = model(z, pos)
            >>> bool((model.freeze()(z, pos) - exact).abs() < 1e-5), model.unfreeze().frozen
            (True, False)
        """
        num_filters = self.config["num_filters"]
        with torch.inference_mode(False):
            if tables is None:
                network = self.basis, self.interactions
                tables = frozen_coefficients(*network, self.cutoff, num_filters, self._spacing())
            tables = check_coefficients(tables, len(self.interactions), num_filters)
            self.filter_tables = tables.to(self.embedding.weight.device).to(self.embedding.weight.dtype)
        return self.eval()

    def unfreeze(self) -> Self:
        """Evaluate filter networks again; the model stays in evaluation mode.

        Returns:
            The model itself.
        """
        self.filter_tables = None
        return self

    def train(self, mode: bool = True) -> Self:
        """Go to training or evaluation mode.

        Raises:
            RuntimeError: If a frozen model is to be trained.
        """
        if mode and self.frozen:
            raise RuntimeError(
                "a frozen model cannot be trained, its filters are tables; call unfreeze() before train()"
            )
        return super().train(mode)

    def reset_parameters(self) -> None:
        """Draw all weights anew; references stay, and frozen tables follow the weights."""
        super().reset_parameters()
        _refresh_tables(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        tables = self.filter_tables
        super()._apply(fn, recurse)
        if tables is not None and self.embedding.weight.dtype != tables.dtype:
            self.freeze()  # rounded once, from float64 to the new kind
        return self


@functools.cache  # never forgotten: a recorded step reads them where they are, and cannot copy them from the CPU
def _knots_in_place(cutoff: float, spacing: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """All knots up to the cutoff and their interpolation, on a device."""
    with torch.inference_mode(False):
        knots = knots_of(0.0, cutoff, spacing)[1]
        return knots.to(device), interpolation(knots.size(0)).to(device)


def _leave_tables(model: TabulatedModel, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Tables in a state dict are not read: they follow from its weights, and only frozen models have them."""
    state.pop(prefix + "filter_tables", None)
    if model.filter_tables is not None:
        state[prefix + "filter_tables"] = model.filter_tables


def _refresh_tables(model: TabulatedModel, _: Any = None) -> None:
    if model.frozen:
        model.freeze()
