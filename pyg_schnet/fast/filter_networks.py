"""Filter networks at the knots of tables, those of all blocks at once, and the splines through what they compute."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast.plain import LOOPED
from pyg_schnet.fast.spline import interpolate, looped
from pyg_schnet.fast.unchanged import hooked
from pyg_schnet.graph import can_inspect
from pyg_schnet.nn import FilterNetwork, GaussianSmearing, ShiftedSoftplus
from pyg_schnet.ops import shifted_softplus

#: Activations that take each number by itself and have no weights.
ELEMENTWISE = (ShiftedSoftplus, nn.SiLU, nn.Softplus, nn.Tanh, nn.GELU)
#: Gaussians below e to this power, 9e-17, change no sum in float64 that others, up to one, are part of.
SMALLEST_EXPONENT = -37.0
#: Expanded distances [K', G], weights and biases of the first and of the second layer of all networks, G, F, F and F.
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def spline_coefficients(
    basis: nn.Module,
    blocks: nn.ModuleList,
    knots: Tensor,
    matrix: Tensor | None,
    dtype: torch.dtype,
    kind: torch.dtype = torch.float64,
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

    Returns:
        Coefficients [T, K, F], differentiable with respect to the weights any number of times.
    """
    networks: list[Any] = [block.conv.nn for block in blocks]  # type: ignore[union-attr]
    if torch.compiler.is_compiling() or not _alike(networks):
        edge_attr = _in_float64(basis, knots)  # the same for all blocks
        values = torch.stack([_in_float64(network, edge_attr) for network in networks])  # [T, K', F]
    else:
        act, last = networks[0][1], len(networks[0]) == 4
        inputs = _stacked(basis, networks, knots)
        plain = type(act) is ShiftedSoftplus and matrix is None and dtype in LOOPED
        if plain and all(looped(x) is not None for x in inputs):
            coefficients: Tensor = _Tables.apply(*inputs, act.shift, act.linear_from, last, dtype, kind)
            return coefficients
        values = _evaluated(inputs, act, last)
    return interpolate(values, dtype) if matrix is None else (matrix @ values).to(dtype)


def _in_float64(module: nn.Module, value: Tensor) -> Tensor:
    """What a module computes with its weights, and the value, in float64 where the value is."""
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    wide = {name: tensor.to(value.device).double() for name, tensor in state.items()}
    result: Tensor = functional_call(module, wide, value)
    return result


def _stacked(basis: nn.Module, networks: list[Any], knots: Tensor) -> Inputs:
    """What networks that are alike need, in float64 where the knots are."""

    def wide(layer: int, name: str, columns: slice = slice(None)) -> Tensor:
        tensors = torch.stack([getattr(network[layer], name) for network in networks])
        return tensors[..., columns].to(knots.device).double()

    edge_attr, columns = _expanded(basis, knots)
    return edge_attr, wide(0, "weight", columns), wide(0, "bias"), wide(2, "weight"), wide(2, "bias")


def _evaluated(inputs: Inputs, act: Callable[[Tensor], Tensor], last: bool) -> Tensor:
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
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        shift: float,
        linear_from: float,
        last: bool,
        dtype: torch.dtype,
        kind: torch.dtype,
    ) -> Tensor:
        weights = weight1, bias1, weight2, bias2
        made = network_loops().evaluate(edge_attr, weights, (shift, linear_from), last, dtype, kind)
        ctx.save_for_backward(edge_attr, *weights, *made[1:5])
        ctx.rest, ctx.columns = (shift, linear_from, last), made.columns
        tables: Tensor = made.tables
        return tables

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        edge_attr, weight1, bias1, weight2, bias2, *made = ctx.saved_tensors
        if torch.is_grad_enabled() or looped(g) is None:
            inputs = edge_attr, weight1, bias1, weight2, bias2
            return *_slopes_by_torch(inputs, g, ctx.rest, ctx.needs_input_grad[:5]), *[None] * 5
        loops = network_loops()
        of_hidden, *slopes = loops.gradients(g, loops.Evaluated(g, *made, ctx.columns), weight2, edge_attr.size(1))
        of_edge_attr = None
        if ctx.needs_input_grad[0]:
            of_edge_attr = torch.einsum("tkf,tfg->kg", of_hidden.double(), weight1)
        return of_edge_attr, *(slope.double() for slope in slopes), *[None] * 5


def _slopes_by_torch(
    inputs: Inputs, g: Tensor, rest: tuple[float, float, bool], wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients with respect to what networks need, differentiable themselves if derivatives are recorded."""
    shift, linear_from, last = rest
    with torch.enable_grad():
        values = _evaluated(inputs, lambda u: shifted_softplus(u, shift, linear_from), last)
        coefficients = interpolate(values, g.dtype)
    some = [x for x, need in zip(inputs, wanted, strict=True) if need]
    slopes = iter(torch.autograd.grad(coefficients, some, g, create_graph=torch.is_grad_enabled()))
    return [next(slopes) if need else None for need in wanted]


def _expanded(basis: nn.Module, knots: Tensor) -> tuple[Tensor, slice]:
    """Expanded distances of the knots, and which of all they are.

    Gaussians of fixed width are zero where no other number would notice them, and those that are zero at all knots are
    left out: half of them or more where centres go to 20 Angstrom, as the papers' do.
    """
    if not isinstance(basis, GaussianSmearing) or not _fixed(basis) or not can_inspect(knots):
        return _in_float64(basis, knots), slice(None)
    centers, gamma = basis.offset.double(), float(basis.gamma)
    reach = math.sqrt(-SMALLEST_EXPONENT / gamma)
    near = ((centers >= knots[0] - reach) & (centers <= knots[-1] + reach)).nonzero()
    columns = slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(0, 1)
    exponent = -gamma * (knots.unsqueeze(-1) - centers[columns]).square()
    values = torch.exp(exponent.clamp(min=SMALLEST_EXPONENT))  # of minus infinity it would take longer
    return nn.functional.threshold(values, 1.01 * math.exp(SMALLEST_EXPONENT), 0.0), columns


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
