r"""The continuous-filter convolution with tabulated filters, and everything its derivatives consist of.

All come from one form that is linear in the features g of targets, the features x of sources and the coefficients c of
the table (see :mod:`pyg_schnet.fast.spline`):

.. math:: L(g, x, c; d, s) = \sum_e s_e \sum_f g_{i_e f}\, x_{j_e f}\, T^{(p)}(d_e)_f, \quad
    T^{(p)}(d) = \sum_k c_k B_k^{(p)}(d)

for edges e from j to i of length d, with scalar weights s (a cutoff function, for example) and the p-th derivative of
the table. Its gradients are the three operations of this file:

.. math::
    \mathtt{to\_nodes}_{if} &= \frac{\partial L}{\partial g_{if}}
        = \sum_{e: i_e = i} s_e\, x_{j_e f}\, T^{(p)}(d_e)_f \\
    \mathtt{to\_edges}_e &= \frac{\partial L}{\partial s_e} = \sum_f g_{i_e f}\, x_{j_e f}\, T^{(p)}(d_e)_f \\
    \mathtt{to\_table}_{kf} &= \frac{\partial L}{\partial c_{kf}} = \sum_e s_e\, g_{i_e f}\, x_{j_e f}\, B_k^{(p)}(d_e)

and :math:`\partial L / \partial d_e` is :math:`s_e` times ``to_edges`` of order p + 1. The gradients of each operation
are again operations of this family, so forces, training on forces and Hessians all consist of them, and nothing of size
[E, F] is ever stored. Each has a plain twin that does store it, for reading and for machines without compiled loops.

With ``symmetric=True`` an edge stands for both of its directions, which share distance and weight:
:math:`g_i x_j` above becomes :math:`g_i x_j + g_j x_i`. The filter is then read once for both, and the transposed
convolution is the convolution itself. Edges may be in any order; sorted by target is fastest.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast import ways
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.convolution_reference import edges_reference, nodes_reference, table_reference
from pyg_schnet.fast.gpu.edge_order import forgetting
from pyg_schnet.fast.plain import is_plain


def to_nodes(
    x: Tensor,
    table: FilterTable,
    distance: Tensor,
    edge_index: Tensor,
    num_targets: int,
    weight: Tensor | None = None,
    order: int = 0,
    symmetric: bool = False,
) -> Tensor:
    r"""Continuous-filter convolution with a tabulated filter.

    .. math:: y_i = \sum_{e: i_e = i} s_e\, x_{j_e} \circ T^{(p)}(d_e)

    Args:
        x: Features of the sources [M, F].
        table: The filters.
        distance: Distances d in Angstrom [E].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        num_targets: Number N of targets.
        weight: Factor s of each edge [E]; ``None`` for ones.
        order: Order p of the derivative of the table.
        symmetric: Whether each edge stands for its opposite, too.

    Returns:
        The convolved features [N, F]; differentiable any number of times with respect to all tensors.

    Example:
        >>> table = FilterTable(torch.arange(8.0).unsqueeze(1), start=1.0, spacing=0.5)
        >>> x, edge_index = torch.tensor([[1.0], [10.0]]), torch.tensor([[1], [0]])
        >>> to_nodes(x, table, torch.tensor([1.5]), edge_index, 2, symmetric=True).flatten().round(decimals=4)
        tensor([30.,  3.])
    """
    _check(x, table.coefficients, distance, weight, edge_index, symmetric and x.size(0) != num_targets)
    c, start, spacing = table
    return _nodes(x, c, distance, weight, edge_index[1], edge_index[0], num_targets, start, spacing, order, symmetric)


def to_edges(
    g: Tensor,
    x: Tensor,
    table: FilterTable,
    distance: Tensor,
    edge_index: Tensor,
    weight: Tensor | None = None,
    order: int = 0,
    symmetric: bool = False,
) -> Tensor:
    r"""Product of both ends' features and the filter, for each edge.

    .. math:: a_e = s_e \sum_f g_{i_e f}\, x_{j_e f}\, T^{(p)}(d_e)_f

    Args:
        g: Features of the targets [N, F].
        x: Features of the sources [M, F].
        table: The filters.
        distance: Distances d in Angstrom [E].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        weight: Factor s of each edge [E]; ``None`` for ones.
        order: Order p of the derivative of the table.
        symmetric: Whether each edge stands for its opposite, too.

    Returns:
        One number for each edge [E]; differentiable any number of times with respect to all tensors.

    Example:
        >>> table = FilterTable(torch.arange(8.0).unsqueeze(1), start=1.0, spacing=0.5)
        >>> g, x = torch.tensor([[2.0]]), torch.tensor([[5.0]])
        >>> to_edges(g, x, table, torch.tensor([1.5]), torch.tensor([[0], [0]])).round(decimals=4)
        tensor([30.])
    """
    _check(x, table.coefficients, distance, weight, edge_index, symmetric and x.size(0) != g.size(0))
    c, start, spacing = table
    a: Tensor = _edges(g, x, c, distance, edge_index[1], edge_index[0], start, spacing, order, symmetric)
    return a if weight is None else weight * a


def to_table(
    g: Tensor,
    x: Tensor,
    distance: Tensor,
    edge_index: Tensor,
    size: int,
    start: float,
    spacing: float,
    weight: Tensor | None = None,
    order: int = 0,
    symmetric: bool = False,
) -> Tensor:
    r"""Gradient of the form with respect to the coefficients of the table.

    .. math:: C_k = \sum_e s_e\, (g_{i_e} \circ x_{j_e})\, B_k^{(p)}(d_e)

    Args:
        g: Features of the targets [N, F].
        x: Features of the sources [M, F].
        distance: Distances d in Angstrom [E].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        size: Number K of coefficients.
        start: First knot in Angstrom.
        spacing: Distance between knots in Angstrom.
        weight: Factor s of each edge [E]; ``None`` for ones.
        order: Order p of the derivative of the table.
        symmetric: Whether each edge stands for its opposite, too.

    Returns:
        The gradient [K, F]; differentiable any number of times with respect to all tensors.

    Example:
        >>> g, x, edge_index = torch.tensor([[2.0]]), torch.tensor([[5.0]]), torch.tensor([[0], [0]])
        >>> to_table(g, x, torch.tensor([1.5]), edge_index, 8, start=1.0, spacing=0.5).sum()
        tensor(10.)
    """
    _check(x, g, distance, weight, edge_index, symmetric and x.size(0) != g.size(0))
    c: Tensor = _table(g, x, distance, weight, edge_index[1], edge_index[0], size, start, spacing, order, symmetric)
    return c


def _check(x: Tensor, other: Tensor, distance: Tensor, weight: Tensor | None, edge_index: Tensor, uneven: bool) -> None:
    """Shapes only: a look at the values would wait for the device."""
    if x.dim() != 2 or other.dim() != 2 or x.size(1) != other.size(1):
        raise ValueError(f"features and table must be [N, F] and [K, F], got {list(x.shape)} and {list(other.shape)}")
    edges = edge_index.size(-1)
    if (
        edge_index.shape != (2, edges)
        or distance.shape != (edges,)
        or (weight is not None and weight.shape != (edges,))
    ):
        given = [list(tensor.shape) for tensor in (edge_index, distance, weight) if tensor is not None]
        raise ValueError(f"`edge_index`, `distance` and `weight` must be [2, E], [E] and [E], got {given}")
    kinds = {tensor.dtype for tensor in (x, other, distance, weight) if tensor is not None}
    if len(kinds) > 1:
        raise TypeError(f"features, table, distances and weights must have one dtype, got {sorted(map(str, kinds))}")
    if uneven:
        raise ValueError("`symmetric` needs the same atoms as sources and as targets; expected equally many of them")


# The operations, as compilers see them: compiled loops if there are any for the tensors, else the twin.


def cpu_loops() -> Any:
    """The compiled loops of :mod:`pyg_schnet.fast.cpu.convolution`, to be asked for before a way is chosen.

    Returns:
        The module; ``None`` without a Numba that works, and where compiled loops are turned off.
    """
    return installed_cpu_loops() if ways.loops_enabled() else None


@functools.cache
def installed_cpu_loops() -> Any:
    """The same whatever is turned off, for a way that has been chosen, and for its way back."""
    return loops_of("pyg_schnet.fast.cpu.convolution")


def gpu_loops() -> Any:
    """Those of GPUs; ``None`` without a Triton that works, and where compiled loops are turned off."""
    return _installed_gpu_loops() if ways.loops_enabled() else None


@functools.cache
def _installed_gpu_loops() -> Any:
    gpu = loops_of("pyg_schnet.fast.gpu.convolution", "triton")
    return gpu if gpu is not None and gpu.INSTALLED else None


def _looped(kind: Tensor) -> Any:
    """The compiled loops for such tensors, if any: none for those without values, with which compilers trace."""
    if is_plain(kind, weight=True):
        return cpu_loops()
    return gpu_loops() if is_plain(kind, weight=True, device="cuda") else None


def _run(name: str, twin: Callable[..., Tensor], kind: Tensor, arguments: tuple[Any, ...]) -> Tensor:
    loops = _looped(kind)
    result: Tensor = twin(*arguments) if loops is None else getattr(loops, name)(*arguments)
    return result


def _run_nodes(
    x: Tensor,
    c: Tensor,
    d: Tensor,
    s: Tensor | None,
    target: Tensor,
    source: Tensor,
    num_targets: int,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
) -> Tensor:
    return _run(
        "nodes", nodes_reference, x, (x, c, d, s, target, source, num_targets, start, spacing, order, symmetric)
    )


def _run_edges(
    g: Tensor,
    x: Tensor,
    c: Tensor,
    d: Tensor,
    target: Tensor,
    source: Tensor,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
) -> Tensor:
    return _run("edges", edges_reference, x, (g, x, c, d, target, source, start, spacing, order, symmetric))


def _run_table(
    g: Tensor,
    x: Tensor,
    d: Tensor,
    s: Tensor | None,
    target: Tensor,
    source: Tensor,
    size: int,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
) -> Tensor:
    return _run("table", table_reference, x, (g, x, d, s, target, source, size, start, spacing, order, symmetric))


def _fake_nodes(x: Tensor, c: Tensor, d: Tensor, s: Any, target: Tensor, source: Tensor, n: int, *_: Any) -> Tensor:
    return x.new_empty(n, x.size(1))


def _fake_edges(g: Tensor, x: Tensor, c: Tensor, d: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(d)


def _fake_table(g: Tensor, x: Tensor, d: Tensor, s: Any, target: Tensor, source: Tensor, size: int, *_: Any) -> Tensor:
    return x.new_empty(size, x.size(1))


# Their derivatives, each in terms of the others.


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.rest = tuple(value for value in inputs if not isinstance(value, Tensor | None))


def _nodes_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, c, d, *s, target, source = ctx.saved_tensors
    form = g, x, c, d, s[0] if s else None, target, source, *ctx.rest[1:]
    _, *slopes = _gradients(form, (False, *ctx.needs_input_grad[:4]))
    return *slopes, *[None] * 7


def _edges_backward(ctx: Any, a: Tensor) -> tuple[Tensor | None, ...]:
    g, x, c, d, target, source = ctx.saved_tensors
    form = g, x, c, d, a, target, source, *ctx.rest
    *slopes, _ = _gradients(form, (*ctx.needs_input_grad[:4], False))
    return *slopes, *[None] * 6


def _table_backward(ctx: Any, c: Tensor) -> tuple[Tensor | None, ...]:
    g, x, d, *s, target, source = ctx.saved_tensors
    form = g, x, c, d, s[0] if s else None, target, source, *ctx.rest[1:]
    need = ctx.needs_input_grad
    dg, dx, _, dd, ds = _gradients(form, (need[0], need[1], False, need[2], need[3]))
    return dg, dx, dd, ds, *[None] * 7


Form = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor, float, float, int, bool]
Wanted = tuple[bool, bool, bool, bool, bool]


def _gradients(form: Form, wanted: Wanted) -> tuple[Tensor | None, ...]:
    """Gradients of the form with respect to g, x, c, d and s."""
    g, x, c, d, s, target, source, start, spacing, order, symmetric = form
    at = start, spacing, order, symmetric
    loops = None if torch.is_grad_enabled() or torch.compiler.is_compiling() or sum(wanted) < 2 else _looped(x)
    if loops is not None:
        at_once: tuple[Tensor | None, ...] = loops.gradients(*form, wanted)
        return at_once
    dg = _nodes(x, c, d, s, target, source, g.size(0), *at) if wanted[0] else None
    ends = (target, source) if symmetric else (source, target)  # the transposed convolution
    dx = _nodes(g, c, d, s, *ends, x.size(0), *at) if wanted[1] else None
    dc = _table(g, x, d, s, target, source, c.size(0), *at) if wanted[2] else None
    dd = _edges(g, x, c, d, target, source, start, spacing, order + 1, symmetric) if wanted[3] else None
    ds = _edges(g, x, c, d, target, source, *at) if wanted[4] else None
    return dg, dx, dc, dd if dd is None or s is None else s * dd, ds


def _operation(name: str, run: Callable, fake: Callable, backward: Callable) -> Callable[..., Tensor]:
    """An operation with its derivatives: in a compiler one of torch's own, else without the time which that takes."""

    @functools.wraps(run)
    def alone(*arguments: Any) -> Tensor:  # compilers use memory again for other edges
        with forgetting():
            output: Tensor = run(*arguments)
        return output

    operation = torch.library.custom_op(f"pyg_schnet::trilinear_{name}", alone, mutates_args=())
    operation.register_fake(fake)
    operation.register_autograd(backward, setup_context=_keep)

    def forward(ctx: Any, *arguments: Any) -> Tensor:  # with `setup_context`, torch would spend longer on each call
        output: Tensor = run(*arguments)
        _keep(ctx, arguments, output)
        return output

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(name, (torch.autograd.Function,), methods)

    def call(*arguments: Any) -> Tensor:
        result: Tensor = (operation if torch.compiler.is_compiling() else function.apply)(*arguments)
        return result

    return call


_nodes = _operation("nodes", _run_nodes, _fake_nodes, _nodes_backward)
_edges = _operation("edges", _run_edges, _fake_edges, _edges_backward)
_table = _operation("table", _run_table, _fake_table, _table_backward)
