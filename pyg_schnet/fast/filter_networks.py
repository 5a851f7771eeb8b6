"""Filter networks at the knots of tables, those of all blocks at once, and the splines through what they compute."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from numpy import ndarray
from torch import Tensor, nn
from torch.func import functional_call

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast.plain import LOOPED
from pyg_schnet.fast.spline import interpolate, looped
from pyg_schnet.fast.unchanged import Origin, hooked
from pyg_schnet.graph import can_inspect
from pyg_schnet.nn import FilterNetwork, GaussianSmearing, ShiftedSoftplus
from pyg_schnet.ops import shifted_softplus

#: Activations that take each number by itself and have no weights.
ELEMENTWISE = (ShiftedSoftplus, nn.SiLU, nn.Softplus, nn.Tanh, nn.GELU)
#: Gaussians below e to this power, 9e-17, change no sum in float64 that others, up to one, are part of.
SMALLEST_EXPONENT = -37.0
#: Weights and biases of the first and of the second layer of all networks [T, F, G], [T, F], [T, F, F], [T, F].
Layers = tuple[Tensor, Tensor, Tensor, Tensor]


def spline_coefficients(
    basis: nn.Module,
    blocks: nn.ModuleList,
    knots: Tensor,
    matrix: Tensor | None,
    dtype: torch.dtype,
    kind: torch.dtype = torch.float64,
    spacing: float | None = None,
) -> Tensor:
    """Coefficients of the splines through what all filter networks compute in float64 at the knots.

    Errors at the knots are not many small ones, which add up to nothing, as those of each pair are: all pairs between
    two knots share them. So float32 would not do, though it does for gradients.

    Args:
        basis: The radial basis.
        blocks: Interaction blocks, one at least.
        knots: All knots in Angstrom [K'] float64.
        matrix: From values there to coefficients; ``None`` to solve for them in the fastest way.
        dtype: Kind of the coefficients.
        kind: Kind of numbers in which compiled loops compute gradients of weights.
        spacing: Distance between knots in Angstrom, if knots are multiples of it.

    Returns:
        Coefficients [T, K, F], differentiable with respect to the weights any number of times.
    """
    networks: list[Any] = [block.conv.nn for block in blocks]  # type: ignore[union-attr]
    if torch.compiler.is_compiling() or not _alike(networks):
        edge_attr = _in_float64(basis, knots)  # the same for all blocks
        values = torch.stack([_in_float64(network, edge_attr) for network in networks])  # [T, K', F]
    else:
        act, last = networks[0][1], len(networks[0]) == 4
        (edge_attr, columns), weights = _expanded(basis, knots, spacing), _weights(networks)
        plain = type(act) is ShiftedSoftplus and matrix is None and dtype in LOOPED
        if plain and all(looped(x) is not None for x in (edge_attr, *weights)):
            activation = act.shift, act.linear_from, last
            coefficients: Tensor = _Tables.apply(edge_attr, columns, activation, dtype, kind, *weights)
            return coefficients
        values = _evaluated((edge_attr, *_stacked(weights, columns, knots.device)), act, last)
    return interpolate(values, dtype) if matrix is None else (matrix @ values).to(dtype)


def _in_float64(module: nn.Module, value: Tensor) -> Tensor:
    """What a module computes with its weights, and the value, in float64 where the value is."""
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    wide = {name: tensor.to(value.device).double() for name, tensor in state.items()}
    result: Tensor = functional_call(module, wide, value)
    return result


def _weights(networks: list[Any]) -> list[Tensor]:
    """Weights and biases of both layers: those of all networks of the first kind, then of the next."""
    parts = (0, "weight"), (0, "bias"), (2, "weight"), (2, "bias")
    return [getattr(network[layer], name) for layer, name in parts for network in networks]


def _stacked(weights: Sequence[Tensor], columns: slice, device: torch.device) -> Layers:
    """Those of networks that are alike, in float64 somewhere; of the first layer those of some Gaussians."""
    number = len(weights) // 4
    first, *others = (torch.stack(list(weights[n * number :][:number])) for n in range(4))
    w1, b1, w2, b2 = (one.to(device).double() for one in (first[..., columns], *others))
    return w1, b1, w2, b2


def _evaluated(inputs: tuple[Tensor, *Layers], act: Callable[[Tensor], Tensor], last: bool) -> Tensor:
    """What networks that are alike compute, by operations of torch [T, K', F]."""
    edge_attr, *layers = inputs
    hidden = act(torch.baddbmm(layers[1].unsqueeze(1), edge_attr.expand(len(layers[0]), -1, -1), layers[0].mT))
    values = torch.baddbmm(layers[3].unsqueeze(1), hidden, layers[2].mT)
    return act(values) if last else values


@functools.cache
def network_loops() -> Any:
    """The compiled loops of :mod:`pyg_schnet.fast.cpu.filter_networks`; ``None`` without a Numba that works."""
    return loops_of("pyg_schnet.fast.cpu.filter_networks")


class _Tables(torch.autograd.Function):
    """Networks and splines by compiled loops. Derivatives that shall be differentiable themselves are made by torch."""

    @staticmethod
    def forward(
        ctx: Any,
        edge_attr: Tensor,
        columns: slice,
        activation: tuple[float, float, bool],
        dtype: torch.dtype,
        kind: torch.dtype,
        *weights: Tensor,
    ) -> Tensor:
        layers, (*softplus, last) = _stacked(weights, columns, edge_attr.device), activation
        made = network_loops().evaluate(edge_attr, layers, tuple(softplus), last, dtype, kind)
        ctx.save_for_backward(edge_attr, *made[1:5], *weights)
        ctx.rest, ctx.evaluated = (columns, activation), made.columns
        tables: Tensor = made.tables
        return tables

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (edge_attr, *made), weights = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        (columns, activation), needed = ctx.rest, (ctx.needs_input_grad[0], *ctx.needs_input_grad[5:])
        if torch.is_grad_enabled() or looped(g) is None:
            of_edge_attr, *slopes = _slopes_by_torch(edge_attr, weights, g, columns, activation, needed)
            return of_edge_attr, None, None, None, None, *slopes
        loops, number = network_loops(), len(weights) // 4
        w2 = torch.stack(weights[2 * number : 3 * number])
        of_hidden, *found = loops.gradients(g, loops.Evaluated(g, *made, ctx.evaluated), w2, edge_attr.size(1))
        of_edge_attr = None
        if needed[0]:
            w1 = torch.stack(weights[:number])[..., columns].double()
            of_edge_attr = torch.einsum("tkf,tfg->kg", of_hidden.double(), w1)
        if edge_attr.size(1) < weights[0].size(1):  # zero for Gaussians that no knot is near to
            whole = found[0].new_zeros(number, *weights[0].shape)
            whole[..., columns] = found[0]
            found[0] = whole
        slopes = [one for of_all in found for one in of_all.to(weights[0].dtype).unbind()]
        return of_edge_attr, None, None, None, None, *slopes


def _slopes_by_torch(
    edge_attr: Tensor,
    weights: Sequence[Tensor],
    g: Tensor,
    columns: slice,
    activation: tuple[float, float, bool],
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients with respect to what networks need, differentiable themselves if derivatives are recorded."""
    shift, linear_from, last = activation
    with torch.enable_grad():
        inputs = edge_attr, *_stacked(weights, columns, edge_attr.device)
        values = _evaluated(inputs, lambda u: shifted_softplus(u, shift, linear_from), last)
        coefficients = interpolate(values, g.dtype)
    some = [x for x, need in zip((edge_attr, *weights), wanted, strict=True) if need]
    slopes = iter(torch.autograd.grad(coefficients, some, g, create_graph=torch.is_grad_enabled()))
    return [next(slopes) if need else None for need in wanted]


class _Expansion(NamedTuple):
    """Gaussians of fixed width at multiples of a spacing, kept from batch to batch.

    Attributes:
        origin: The centres, and what shows that they are as they were.
        scales: Gamma, and the distance between knots.
        centers: The centres in Angstrom [G].
        first: The first multiple.
        values: All Gaussians at the multiples [K, G] float64.
    """

    origin: Origin
    scales: tuple[float, float]
    centers: ndarray
    first: int
    values: Tensor


_expansions: WeakKeyDictionary[nn.Module, _Expansion] = WeakKeyDictionary()


def _expanded(basis: nn.Module, knots: Tensor, spacing: float | None) -> tuple[Tensor, slice]:
    """Expanded distances of the knots, and which of all they are.

    Gaussians of fixed width are zero where no other number would notice them, and those that are zero at all knots are
    left out: half of them or more where centres go to 20 Angstrom, as the papers' do.
    """
    if not isinstance(basis, GaussianSmearing) or not _fixed(basis) or not can_inspect(knots):
        return _in_float64(basis, knots), slice(None)
    low, high, gamma = float(knots[0]), float(knots[-1]), float(basis.gamma)
    kept = _kept_expansion(basis, gamma, spacing)
    reach = math.sqrt(-SMALLEST_EXPONENT / gamma)
    centers = basis.offset.double().numpy() if kept is None else kept.centers
    near = ((centers >= low - reach) & (centers <= high + reach)).nonzero()[0]
    columns = slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(0, 1)
    if spacing is None:
        return _gaussians(knots, torch.from_numpy(centers[columns]), gamma), columns
    first = round(low / spacing)
    end = first + len(knots)
    if kept is None or first < kept.first or end > kept.first + len(kept.values):
        ends = [] if kept is None else [kept.first, kept.first + len(kept.values)]
        kept = _keep_expansion(basis, centers, (gamma, spacing), min([first, *ends]), max([end, *ends]))
    return kept.values[first - kept.first : end - kept.first, columns], columns


def _kept_expansion(basis: GaussianSmearing, gamma: float, spacing: float | None) -> _Expansion | None:
    """The expansion that was kept of these Gaussians at knots of this spacing; ``None`` if there is none."""
    kept = None if spacing is None else _expansions.get(basis)
    return kept if kept is not None and kept.scales == (gamma, spacing) and kept.origin.holds() else None


def _keep_expansion(
    basis: GaussianSmearing, centers: ndarray, scales: tuple[float, float], first: int, end: int
) -> _Expansion:
    """Expand the knots from one number to another, and keep that for the next batch, whose distances are similar."""
    gamma, spacing = scales
    origin = Origin([], constant=[(basis._buffers, "offset", basis.offset)])
    with torch.inference_mode(False):  # training may need them next
        knots = torch.arange(first, end, dtype=torch.float64) * spacing
        values = _gaussians(knots, torch.from_numpy(centers), gamma)
    kept = _expansions[basis] = _Expansion(origin, scales, centers, first, values)
    return kept


def _gaussians(knots: Tensor, centers: Tensor, gamma: float) -> Tensor:
    """Those at all knots [K, G], zero where they are too small to be seen."""
    exponent = -gamma * (knots.unsqueeze(-1) - centers).square()
    values = torch.exp(exponent.clamp(min=SMALLEST_EXPONENT))  # of minus infinity it would take longer
    return nn.functional.threshold(values, 1.01 * math.exp(SMALLEST_EXPONENT), 0.0)


def _fixed(basis: GaussianSmearing) -> bool:
    """True if anybody may look at its Gaussians, and they are not learned."""
    plain = type(basis) is GaussianSmearing and not hooked(basis)
    return plain and isinstance(basis.gamma, float) and can_inspect(basis.offset)


def _alike(networks: list[Any]) -> bool:
    """True if networks are plain, and differ by their weights only."""
    first = _description(networks[0])
    return first is not None and all(_description(network) == first for network in networks[1:])


def _description(network: Any) -> tuple[Any, ...] | None:
    """All of a filter network but its weights; ``None`` for those that may do anything else than it says."""
    if type(network) is not FilterNetwork or len(network) not in {3, 4} or hooked(network):
        return None
    first, act, second, *last = network
    layers = first, second
    if any(type(layer) is not nn.Linear or layer.bias is None or hooked(layer) for layer in layers):
        return None
    if type(act) not in ELEMENTWISE or hooked(act) or any(one is not act for one in last):
        return None
    settings = [(name, value) for name, value in vars(act).items() if name[0] != "_" and name != "training"]
    weights = [(layer.weight.shape, layer.weight.dtype, layer.weight.device) for layer in layers]
    return type(act), settings, len(last), weights
