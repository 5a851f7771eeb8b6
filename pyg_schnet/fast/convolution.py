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

from pyg_schnet.compat import assert_later, in_transform
from pyg_schnet.compiling import loops_of
from pyg_schnet.fast import ways
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.convolution_reference import edges_reference, nodes_reference, table_reference
from pyg_schnet.fast.gpu.edge_order import forgetting
from pyg_schnet.fast.operands import Form, Pairs
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
        symmetric: True if each edge stands for its opposite, too.

    Returns:
        The convolved features [N, F]; differentiable any number of times with respect to all tensors.

    Example:
        >>> table = FilterTable(torch.arange(8.0).unsqueeze(1), start=1.0, spacing=0.5)
        >>> x, edge_index = torch.tensor([[1.0], [10.0]]), torch.tensor([[1], [0]])
        >>> to_nodes(x, table, torch.tensor([1.5]), edge_index, 2, symmetric=True).flatten().round(decimals=4)
        tensor([30.,  3.])
    """
    _check(x, table.coefficients, distance, weight, edge_index, symmetric and x.size(0) != num_targets)
    check_ends(edge_index, x.size(0), num_targets)
    return convolved(x, table, distance, edge_index, num_targets, weight, order, symmetric)


def convolved(
    x: Tensor,
    table: FilterTable,
    distance: Tensor,
    edge_index: Tensor,
    num_targets: int,
    weight: Tensor | None = None,
    order: int = 0,
    symmetric: bool = False,
) -> Tensor:
    """The same as :func:`to_nodes` for edges that a search has found: nothing is checked."""
    pairs = distance, weight, edge_index[1], edge_index[0]
    return _nodes(x, table.coefficients, *pairs, num_targets, *table[1:], order, symmetric)


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
        symmetric: True if each edge stands for its opposite, too.

    Returns:
        One number for each edge [E]; differentiable any number of times with respect to all tensors.

    Example:
        >>> table = FilterTable(torch.arange(8.0).unsqueeze(1), start=1.0, spacing=0.5)
        >>> g, x = torch.tensor([[2.0]]), torch.tensor([[5.0]])
        >>> to_edges(g, x, table, torch.tensor([1.5]), torch.tensor([[0], [0]])).round(decimals=4)
        tensor([30.])
    """
    _check(x, table.coefficients, distance, weight, edge_index, symmetric and x.size(0) != g.size(0))
    check_ends(edge_index, x.size(0), g.size(0))
    pairs = distance, None, edge_index[1], edge_index[0]
    a: Tensor = _edges(g, x, table.coefficients, *pairs, *table[1:], order, symmetric)
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
        symmetric: True if each edge stands for its opposite, too.

    Returns:
        The gradient [K, F]; differentiable any number of times with respect to all tensors.

    Example:
        >>> g, x, edge_index = torch.tensor([[2.0]]), torch.tensor([[5.0]]), torch.tensor([[0], [0]])
        >>> to_table(g, x, torch.tensor([1.5]), edge_index, 8, start=1.0, spacing=0.5).sum()
        tensor(10.)
    """
    _check(x, g, distance, weight, edge_index, symmetric and x.size(0) != g.size(0))
    check_ends(edge_index, x.size(0), g.size(0))
    pairs = distance, weight, edge_index[1], edge_index[0]
    c: Tensor = _table(g, x, *pairs, size, start, spacing, order, symmetric)
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


def check_ends(edge_index: Tensor, sources: int, targets: int) -> None:
    """Stop at edges of a user whose ends are no nodes, on a GPU and without waiting for it, as PyTorch's indexing does.

    Args:
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        sources: Number of sources.
        targets: Number of targets.
    """
    if not edge_index.is_cuda or torch.compiler.is_compiling() or in_transform():
        return
    source, target = edge_index
    inside = (target >= 0) & (target < targets) & (source >= 0) & (source < sources)
    assert_later(inside.all(), f"an edge has an end that is no node: there are {sources} sources and {targets} targets")


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


# PyTorch takes and gives back tensors and numbers one by one: two or three tensors of features, those of the pairs, a
# size if there is one, and the numbers of the form.


def _grouped(features: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of an operation, with so many tensors in front, as pairs and form in one piece each."""
    pairs = features + len(Pairs._fields)
    form = len(arguments) - len(Form._fields)
    return *arguments[:features], Pairs(*arguments[features:pairs]), *arguments[pairs:form], Form(*arguments[form:])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor | None)))
    ctx.rest = tuple(value for value in inputs if not isinstance(value, Tensor | None))


def _kept(ctx: Any, features: int) -> tuple[Any, ...]:
    return _grouped(features, (*ctx.saved_tensors, *ctx.rest))


# Their derivatives, each in terms of the others.


def _nodes_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, c, pairs, _, form = _kept(ctx, 2)
    _, *slopes = _gradients(g, x, c, pairs, form, (False, *ctx.needs_input_grad[:4]))
    return *slopes, *[None] * 7


def _edges_backward(ctx: Any, a: Tensor) -> tuple[Tensor | None, ...]:
    g, x, c, pairs, form = _kept(ctx, 3)
    *slopes, _ = _gradients(g, x, c, pairs._replace(s=a), form, (*ctx.needs_input_grad[:4], False))
    return *slopes, *[None] * 7


def _table_backward(ctx: Any, c: Tensor) -> tuple[Tensor | None, ...]:
    g, x, pairs, _, form = _kept(ctx, 2)
    need = ctx.needs_input_grad
    dg, dx, _, dd, ds = _gradients(g, x, c, pairs, form, (need[0], need[1], False, need[2], need[3]))
    return dg, dx, dd, ds, *[None] * 7


Wanted = tuple[bool, bool, bool, bool, bool]


def _gradients(g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form, wanted: Wanted) -> tuple[Tensor | None, ...]:
    """Gradients of the form with respect to g, x, c, d and s."""
    loops = None if torch.is_grad_enabled() or torch.compiler.is_compiling() or sum(wanted) < 2 else _looped(x)
    if loops is not None:
        at_once: tuple[Tensor | None, ...] = loops.gradients(g, x, c, pairs, form, wanted)
        return at_once
    back = pairs if form.symmetric else pairs.reversed()  # the transposed convolution
    alone = pairs._replace(s=None)
    dg = _nodes(x, c, *pairs, g.size(0), *form) if wanted[0] else None
    dx = _nodes(g, c, *back, x.size(0), *form) if wanted[1] else None
    dc = _table(g, x, *pairs, c.size(0), *form) if wanted[2] else None
    dd = _edges(g, x, c, *alone, *form.next_order()) if wanted[3] else None
    ds = _edges(g, x, c, *alone, *form) if wanted[4] else None
    return dg, dx, dc, dd if dd is None or pairs.s is None else pairs.s * dd, ds


def _operation(
    name: str, arguments: str, features: int, twin: Callable[..., Tensor], empty: Callable, backward: Callable
) -> Callable[..., Tensor]:
    """An operation with its derivatives: in a compiler one of torch's own, else without the time which that takes."""

    def run(*arguments: Any) -> Tensor:
        loops = _looped(arguments[0])
        result: Tensor = (twin if loops is None else getattr(loops, name))(*_grouped(features, arguments))
        return result

    def alone(*arguments: Any) -> Tensor:  # compilers use memory again for other edges
        with forgetting():
            output: Tensor = run(*arguments)
        return output

    kinds = (
        "Tensor d, Tensor? s, Tensor target, Tensor source",
        "float start, float spacing, SymInt order, bool symmetric",
    )
    schema = f"({arguments.format(*kinds)}) -> Tensor"
    operation = torch.library.custom_op(f"pyg_schnet::trilinear_{name}", alone, mutates_args=(), schema=schema)
    operation.register_fake(lambda *arguments: empty(*_grouped(features, arguments)))
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


def _empty_rows(x: Tensor, _: Tensor, pairs: Pairs, size: int, form: Form) -> Tensor:
    return x.new_empty(size, x.size(1))


def _empty_edges(g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form) -> Tensor:
    return torch.empty_like(pairs.d)


_nodes = _operation(
    "nodes", "Tensor x, Tensor c, {}, SymInt num_targets, {}", 2, nodes_reference, _empty_rows, _nodes_backward
)
_edges = _operation("edges", "Tensor g, Tensor x, Tensor c, {}, {}", 3, edges_reference, _empty_edges, _edges_backward)
_table = _operation(
    "table", "Tensor g, Tensor x, {}, SymInt size, {}", 2, table_reference, _empty_rows, _table_backward
)
