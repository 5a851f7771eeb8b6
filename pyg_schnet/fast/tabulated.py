"""Models whose filters may come from tables: frozen ones, or those of a batch."""

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from pyg_schnet.compat import in_transform, phase
from pyg_schnet.fast import ways
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.bypass import against_tables, may_stand_in, places_of
from pyg_schnet.fast.convolution import convolved, gpu_loops
from pyg_schnet.fast.knots import EXTRA_KNOTS, WITHOUT_SLOPES, knots_of
from pyg_schnet.fast.plain import has_numbers
from pyg_schnet.fast.spline import interpolation
from pyg_schnet.fast.tables import (
    FILTERS,
    FilterTables,
    check_coefficients,
    filter_tables,
    frozen_coefficients,
    frozen_rows,
    frozen_spacing,
    frozen_tables,
    spacing_of,
    worth_a_table,
)
from pyg_schnet.fast.unchanged import Entry, Origin, entries_of
from pyg_schnet.graph import Edges, values_hidden
from pyg_schnet.nn import AtomEmbedding, BesselBasis, GaussianSmearing
from pyg_schnet.nn.cutoff import check_positive


class TabulatedFilter(NamedTuple):
    """The filter of a block, read from a table at the distances of a batch.

    It stands in the place of expanded distances: a convolution asks it for the sum over neighbours.

    Attributes:
        table: The filter network as a function of the distance, without the cutoff function.
        pair_index: Source and target of each pair [2, P].
        edge_weight: Distance of each pair in Angstrom [P].
        factor: Cutoff function of each pair [P]; ``None`` for ones.
        symmetric: True if a pair stands for both of its directions.
    """

    table: FilterTable
    pair_index: Tensor
    edge_weight: Tensor
    factor: Tensor | None
    symmetric: bool

    def convolve(self, h: Tensor) -> Tensor:
        """Sum over the neighbours of each atom of their features times the filter [N, F]."""
        h = h.to(self.edge_weight.dtype)  # fewer digits under autocast, which tables and sums do not have
        graph = self.edge_weight, self.pair_index, h.size(0), self.factor
        return convolved(h, self.table, *graph, symmetric=self.symmetric)


class TabulatedFilters(nn.Module):
    """Filters from tables, for a model of interaction blocks whose filter networks are functions of one distance.

    To be inherited before :class:`~pyg_schnet.models.AtomisticModel`, whose methods it calls. The model has the
    attributes below, and asks :meth:`expanded` what its blocks make filters of.

    Args:
        *arguments: Those of :class:`~pyg_schnet.models.AtomisticModel`.
        filters: How filters are evaluated, no part of the architecture: ``model.filters`` may be set at any time.
            ``"exact"``: filter networks are evaluated for every pair; ``"table"``: at the knots of a smooth table,
            from which the pairs read them (1e-6 of the energies, also in training on forces); ``"auto"``: from a table
            where that is faster, for float32 on a CPU with the extra ``fast``, else exact. For inference :meth:`freeze`
            the tables. In ``torch.compile`` and in recorded steps, ``"table"`` makes tables of all distances, and
            ``"auto"`` is exact.
        knot_spacing: Distance between the knots of tables in Angstrom; errors of energies grow with its sixth, of
            forces with its fifth power. ``None`` for a tenth of the width of the Gaussians, see
            :func:`~pyg_schnet.fast.knot_spacing`.
        **options: Those of :class:`~pyg_schnet.models.AtomisticModel`.

    Raises:
        ValueError: If an argument is out of its range.
    """

    cutoff: float
    config: dict[str, Any]
    embedding: AtomEmbedding
    #: Frozen tables of the interaction blocks [T, K, F], ``None`` unless :meth:`freeze` was called.
    filter_tables: Tensor | None
    basis: GaussianSmearing | BesselBasis
    interactions: nn.ModuleList
    #: The network that compiled passes stand for, :class:`~pyg_schnet.SchNet`.
    network: ClassVar[type | None] = None

    if TYPE_CHECKING:

        @property
        def num_interactions(self) -> int:
            """Number of interactions."""

    def __init__(self, *arguments: Any, filters: str, knot_spacing: float | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.filters, self.knot_spacing = filters, knot_spacing
        self.register_buffer("filter_tables", None)
        self._made_from: Origin | None = None
        self.register_load_state_dict_pre_hook(_leave_tables)
        self.register_load_state_dict_post_hook(_refresh_tables)

    @property
    def filters(self) -> str:
        """How filters are evaluated: ``"exact"``, ``"table"`` or ``"auto"``; may be set at any time.

        Not part of the architecture: neither ``config`` nor files know it.
        """
        return self._filters

    @filters.setter
    def filters(self, filters: str) -> None:
        if filters not in FILTERS:
            raise ValueError(f"`filters` must be one of {', '.join(map(repr, FILTERS))}, got {filters!r}")
        self._filters = filters

    @property
    def knot_spacing(self) -> float | None:
        """Distance between the knots of tables in Angstrom, ``None`` for what the basis needs; may be set, too."""
        return self._knot_spacing

    @knot_spacing.setter
    def knot_spacing(self, spacing: float | None) -> None:
        self._knot_spacing = None if spacing is None else check_positive("knot_spacing", spacing)

    def expanded(self, edges: Edges, edge_weight: Tensor) -> list[Any]:
        """What each step makes its filters of.

        Args:
            edges: The edges.
            edge_weight: Their distances in Angstrom [P].

        Returns:
            For each step the expanded distances [P, G], or its filter from a table.
        """
        tables, steps = self.tables(edge_weight), self.num_interactions
        if tables is None:
            ways.note("networks")
            return [self.basis(edge_weight)] * steps
        ways.note("frozen tables" if self.frozen else "tables")
        convolutions: list[Any] = [block.conv for block in self.interactions]
        shared = convolutions and all(conv.cutoff is convolutions[0].cutoff for conv in convolutions)
        first = convolutions[0].factor(edge_weight) if shared else None
        symmetric = edges.edge_pair is not None
        filters = []
        for conv, table in zip(convolutions, tables.each(), strict=True):
            factor = first if shared else conv.factor(edge_weight)
            filters.append(TabulatedFilter(table, edges.pair_index, edge_weight, factor, symmetric))
        return [filters[step % len(filters)] for step in range(steps)]

    def tables(self, edge_weight: Tensor) -> FilterTables | None:
        """The tables to read filters from, frozen ones or those of this batch; ``None`` to evaluate the networks."""
        if edge_weight.is_cuda and not _fast_on_gpu(self):
            return None
        if not self.reads_tables(edge_weight):
            return None
        if self.filter_tables is not None:
            return frozen_tables(self.filter_tables, self.cutoff)
        return self.new_tables(edge_weight, edge_weight.requires_grad or edge_weight.dtype != torch.float32)

    def reads_tables(self, edge_weight: Tensor) -> bool:
        """True if filters of such distances come from tables, frozen ones or those of this batch.

        Args:
            edge_weight: Distances in Angstrom [P].

        Returns:
            True if so.
        """
        if self.frozen:
            return ways.enabled("frozen tables") and self._may_be_read()
        return self.wants_tables(edge_weight)

    def wants_tables(self, edge_weight: Tensor) -> bool:
        """True if filters of such distances come from tables that are made for them.

        Args:
            edge_weight: Distances in Angstrom [P].

        Returns:
            True if so.
        """
        if self._filters == "exact" or not ways.enabled("tables"):
            return False
        if self._filters == "table":
            return self._may_be_read()
        seen = not torch.compiler.is_compiling() and not values_hidden()
        return seen and worth_a_table(edge_weight, self._spacing, self.training) and may_stand_in(self, unasked=True)

    def new_tables(self, edge_weight: Tensor, slopes: bool = True) -> FilterTables | None:
        """Tables made for such distances.

        Args:
            edge_weight: Distances in Angstrom [P].
            slopes: True if derivatives with respect to distances may be asked for, or more digits than float32 has;
                else fewer knots do, and float32 for gradients of weights.

        Returns:
            The tables of all blocks; ``None`` where they cannot be made.
        """
        if torch.compiler.is_compiling() or values_hidden():
            return self._tables_of_all_distances(edge_weight)
        if edge_weight.size(0) == 0:
            return None
        with phase("tables"):
            slopes = slopes or not has_numbers(edge_weight)  # a forward derivative
            spacing = self._spacing() if slopes or self.knot_spacing is not None else WITHOUT_SLOPES * self._spacing()
            low, high = torch.aminmax(edge_weight.detach())
            start, knots = knots_of(float(low), float(high), spacing, edge_weight.device)
            kind = torch.float64 if slopes else edge_weight.dtype
            return filter_tables(self.basis, self.interactions, knots, None, (start, spacing), edge_weight, kind)

    def _may_be_read(self) -> bool:
        """True if tables may stand in for networks. A compiler sees the masks of PyG's Explainer alone."""
        if torch.compiler.is_compiling():
            return not any(interaction.conv.explain for interaction in self.interactions)  # type: ignore[union-attr]
        return may_stand_in(self)

    def _tables_of_all_distances(self, edge_weight: Tensor) -> FilterTables | None:
        """In a compiler, or where values are hidden, nobody may look at distances, nor at learned widths."""
        compiling = torch.compiler.is_compiling()
        hidden = self.config["trainable_basis"] or (isinstance(self.basis, BesselBasis) and not compiling)
        if self.knot_spacing is None and hidden:
            return None
        spacing, device = self._spacing(), edge_weight.device
        if compiling:
            knots, matrix = self._all_knots().to(device), self._interpolation_of_all_knots().to(device)
        else:
            knots, matrix = _knots_in_place(self.cutoff, spacing, device)
        return filter_tables(
            self.basis, self.interactions, knots, matrix, (-EXTRA_KNOTS * spacing, spacing), edge_weight
        )

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
        """True if filters come from frozen tables."""
        return self.filter_tables is not None

    def freeze(self, tables: Tensor | None = None) -> Self:
        """Read filters from tables, made now, instead of evaluating filter networks: for inference and dynamics.

        The tables, splines through what the filter networks give in float64 at knots from zero to the cutoff, are a
        buffer of the model in its dtype: :func:`pyg_schnet.save`, ``deepcopy`` and ``to`` take them along. Energies,
        forces, stresses and Hessians are derivatives of one another to round-off, and those of the exact model to the
        accuracy that :func:`~pyg_schnet.models.accuracy.table_accuracy` tells: round-off of float32; in float64 some
        1e-10 of the energies and 1e-7 of the forces, more digits with a smaller ``knot_spacing``. The weights stay, and
        so do their gradients except for those of the basis and the filter networks, which are not evaluated. On a CPU
        with the extra ``fast``, energies, forces and stresses of small structures are computed in one pass without
        autograd, see :mod:`pyg_schnet.fast.shortcut`.

        The model goes to evaluation mode, and ``train()`` is refused until :meth:`unfreeze`. New weights through
        ``load_state_dict`` or ``reset_parameters``, and ``to`` another dtype, make new tables, and so does the next
        call after filter networks or their weights have been replaced or changed in place. Only what is changed in
        place by way of ``weight.data``, which torch does not count, and any change once the model is compiled as a
        whole (``torch.compile(model)``, which sees no changes in place), needs another :meth:`freeze`.

        Args:
            tables: Tables of an earlier call with the same weights [T, K, F]; ``None`` to make them.

        Returns:
            The model itself.

        Raises:
            ValueError: If ``tables`` are those of another network, or the model has interaction blocks of another kind.

        Example:
            >>> from pyg_schnet import SchNet
            >>> model = SchNet(16, 16, 2)
            >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]])
            >>> exact = model(z, pos)
            >>> bool((model.freeze()(z, pos) - exact).abs() < 1e-5), model.unfreeze().frozen
            (True, False)
        """
        num_filters = self.config["num_filters"]
        if reason := against_tables(self):
            raise ValueError(f"a model with {reason} cannot be frozen, no table has what it does; unfreeze() it")
        with torch.inference_mode(False):
            if tables is None:
                network = self.basis, self.interactions
                tables = frozen_coefficients(*network, self.cutoff, num_filters, self._spacing())
            tables = check_coefficients(tables, len(self.interactions), num_filters)
            if tables.size(1) != frozen_rows(self.cutoff, self._spacing()):  # to be made anew with as many knots
                self.knot_spacing = frozen_spacing(tables, self.cutoff)
            self.filter_tables = tables.to(self.embedding.weight.device).to(self.embedding.weight.dtype)
        self._made_from = Origin(places_of(self), constant=self.filter_networks())
        return self.eval()

    def filter_networks(self) -> list[Entry]:
        """All from which filters are computed, for :class:`~pyg_schnet.fast.unchanged.Origin`."""
        networks = [block.conv.nn for block in self.interactions]  # type: ignore[union-attr]
        return entries_of([self.basis, *networks])  # type: ignore[list-item]

    def check_input(self, *arguments: Any) -> None:
        """As of all models; frozen tables then belong to the weights, however they are read afterwards."""
        super().check_input(*arguments)  # type: ignore[misc]
        self.follow_weights()

    def follow_weights(self) -> None:
        """Make frozen tables anew if filter networks or their weights have been changed since.

        Changes by way of ``weight.data`` in place, which torch does not count, are not noticed; replaced tensors are.
        """
        origin = self._made_from
        if origin is None or torch.compiler.is_compiling() or in_transform():  # where tables are not read
            return
        if not origin.holds() or len(self.filter_tables) != len(self.interactions):  # type: ignore[arg-type]
            self.freeze()

    def unfreeze(self) -> Self:
        """Evaluate filter networks again; the model stays in evaluation mode.

        Returns:
            The model itself.
        """
        self.filter_tables = self._made_from = None
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
        super().reset_parameters()  # type: ignore[misc]
        _refresh_tables(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        tables, origin = self.filter_tables, self._made_from
        current = origin is not None and origin.holds()
        super()._apply(fn, recurse)
        if tables is not None and self.embedding.weight.dtype != tables.dtype:
            self.freeze()  # rounded once, from float64 to the new kind
        elif origin is not None and current:
            origin.renew()
        return self


def _fast_on_gpu(model: TabulatedFilters) -> bool:
    """True if a GPU reads tables by kernels; without, networks take less time and memory, which is said once."""
    if torch.compiler.is_compiling() or gpu_loops() is not None:
        return True
    if model.frozen or model.filters == "table":
        _say_slow()
    return False


@functools.cache
def _say_slow() -> None:
    warnings.warn(
        "tables of filters need Triton 3.4 on a GPU, which cannot be used here: filter networks are evaluated for each "
        'pair, with the same results; install it with pip install "pyg_schnet[gpu]"',
        RuntimeWarning,
        stacklevel=3,
    )


@functools.cache  # never forgotten: a recorded step reads them where they are, and cannot copy them from the CPU
def _knots_in_place(cutoff: float, spacing: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """All knots up to the cutoff and their interpolation, on a device."""
    with torch.inference_mode(False):
        knots = knots_of(0.0, cutoff, spacing)[1]
        return knots.to(device), interpolation(knots.size(0)).to(device)


def _leave_tables(model: TabulatedFilters, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Tables in a state dict are not read: they follow from its weights, and only frozen models have them."""
    state.pop(prefix + "filter_tables", None)
    if model.filter_tables is not None:
        state[prefix + "filter_tables"] = model.filter_tables


def _refresh_tables(model: TabulatedFilters, _: Any = None) -> None:
    if model.frozen:
        model.freeze()
