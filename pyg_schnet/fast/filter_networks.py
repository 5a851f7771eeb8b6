"""Filter networks at the knots of tables, those of all blocks at once, and the splines through what they compute."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_schnet.fast.plain import LOOPED
from pyg_schnet.fast.spline import interpolate, looped
from pyg_schnet.fast.unchanged import hooked
from pyg_schnet.graph import can_inspect
from pyg_schnet.nn import FilterNetwork, GaussianSmearing, ShiftedSoftplus
from pyg_schnet.ops import gaussian_basis, shifted_softplus
from pyg_schnet.ops.radial import NEGLIGIBLE_EXPONENT

#: Activations that take each number by itself and have no weights.
ELEMENTWISE = (ShiftedSoftplus, nn.SiLU, nn.Softplus, nn.Tanh, nn.GELU)
#: Expanded distances [K', G], weights and biases of the first and of the second layer of all networks, G, F, F and F.
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def spline_coefficients(
    basis: nn.Module, blocks: nn.ModuleList, knots: Tensor, matrix: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Coefficients of the splines through what all filter networks compute in float64 at the knots.

    Args:
        basis: The radial basis.
        blocks: Interaction blocks, one at least.
        knots: All knots in Angstrom [K'] float64.
        matrix: From values there to coefficients; ``None`` to solve for them in the fastest way.
        dtype: Kind of the coefficients.

    Returns:
        Coefficients [T, K, F], differentiable with respect to the weights any number of times.
    """
    networks: list[Any] = [block.conv.nn for block in blocks]  # type: ignore[union-attr]
    if torch.compiler.is_compiling() or not _alike(networks):
        edge_attr = _in_float64(basis, knots)  # the same for all blocks
        values = torch.stack([_in_float64(network, edge_attr) for network in networks])  # [T, K', F]
    else:
        inputs, act, last = _stacked(basis, networks, knots), networks[0][1], len(networks[0]) == 4
        plain = type(act) is ShiftedSoftplus and matrix is None and dtype in LOOPED
        if plain and all(looped(x) is not None for x in inputs):
            coefficients: Tensor = _Tables.apply(*inputs, act.shift, act.linear_from, last, dtype)
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


class _Tables(torch.autograd.Function):
    """Networks and splines in one: a block at a time, so that what it computes stays close to the processor.

    Activations keep their derivatives. Derivatives that shall be differentiable themselves are made by torch.
    """

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
    ) -> Tensor:
        loops, blocks, knots = looped(edge_attr), len(weight1), len(edge_attr)
        hidden = edge_attr.new_empty(blocks, knots, weight1.size(1))
        slope1, slope2 = torch.empty_like(hidden), hidden.new_empty(blocks if last else 0, knots, weight2.size(1))
        tables: list[Any] = [None] * blocks

        @torch.no_grad()
        def evaluate(first: int, end: int) -> None:
            for t in range(first, end):
                torch.addmm(bias1[t], edge_attr, weight1[t].T, out=hidden[t])
                loops.activate(hidden[t], slope1[t], shift, linear_from)
                values = torch.addmm(bias2[t], hidden[t], weight2[t].T)
                if last:
                    loops.activate(values, slope2[t], shift, linear_from)
                tables[t] = loops.solve(values, False, dtype)

        loops.share_out(evaluate, blocks, 1, weight1[0].numel() * knots)
        ctx.save_for_backward(edge_attr, weight1, bias1, weight2, bias2, hidden, slope1, slope2)
        ctx.rest = shift, linear_from, last
        return torch.stack(tables)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, hidden, slope1, slope2 = ctx.saved_tensors
        if torch.is_grad_enabled() or looped(g) is None:
            return *_slopes_by_torch(tuple(inputs), g, ctx.rest, ctx.needs_input_grad[:5]), *[None] * 4
        loops, (edge_attr, weight1, _, weight2, _) = looped(g), inputs
        of_edge_attr = edge_attr.new_empty(len(weight1), *edge_attr.shape) if ctx.needs_input_grad[0] else None
        slopes = of_weight1, of_bias1, of_weight2, of_bias2 = [torch.empty_like(x) for x in inputs[1:]]

        @torch.no_grad()
        def differentiate(first: int, end: int) -> None:
            for t in range(first, end):
                of_values = loops.solve(g[t], True, torch.float64)
                if ctx.rest[2]:
                    of_values *= slope2[t]
                torch.mm(of_values.T, hidden[t], out=of_weight2[t])
                torch.sum(of_values, 0, out=of_bias2[t])
                of_hidden = (of_values @ weight2[t]).mul_(slope1[t])
                torch.mm(of_hidden.T, edge_attr, out=of_weight1[t])
                torch.sum(of_hidden, 0, out=of_bias1[t])
                if of_edge_attr is not None:
                    torch.mm(of_hidden, weight1[t], out=of_edge_attr[t])

        loops.share_out(differentiate, len(weight1), 1, weight1[0].numel() * len(edge_attr))
        return None if of_edge_attr is None else of_edge_attr.sum(0), *slopes, *[None] * 4


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

    Gaussians of fixed width that are exactly zero at all knots are left out, see :data:`NEGLIGIBLE_EXPONENT`: half of
    them or more where centres go to 20 Angstrom, as the papers' do. The gradients of their weights are zero anyway.
    """
    if not isinstance(basis, GaussianSmearing) or not _fixed(basis) or not can_inspect(knots):
        return _in_float64(basis, knots), slice(None)
    centers, gamma = basis.offset.double(), float(basis.gamma)
    reach = math.sqrt(-NEGLIGIBLE_EXPONENT / gamma)
    near = ((centers >= knots[0] - reach) & (centers <= knots[-1] + reach)).nonzero()
    columns = slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(0, 1)
    return gaussian_basis(knots, centers[columns], gamma), columns


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
