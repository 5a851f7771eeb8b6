"""Plain PyTorch of the convolution, where every tensor of size [E, F] can be seen.

They are what :mod:`pyg_schnet.fast.convolution` computes, and how it computes without compiled loops.
"""

from torch import Tensor

from pyg_schnet.fast.bspline import FilterTable, evaluate, spline_weights


def nodes_reference(
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
    """Plain PyTorch of :func:`to_nodes`."""
    w = evaluate(FilterTable(c, start, spacing), d, order)  # [E, F]
    w = w if s is None else w * s.unsqueeze(1)
    y = x.new_zeros(num_targets, x.size(1)).index_add(0, target, x.index_select(0, source) * w)
    return y.index_add(0, source, x.index_select(0, target) * w) if symmetric else y


def edges_reference(
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
    """Plain PyTorch of :func:`to_edges` without weights."""
    w = evaluate(FilterTable(c, start, spacing), d, order)  # [E, F]
    return (_products(g, x, target, source, symmetric) * w).sum(1)


def table_reference(
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
    """Plain PyTorch of :func:`to_table`."""
    row, b = spline_weights(d, size, start, spacing, order)  # [E], [E, 6]
    b = b if s is None else b * s.unsqueeze(1)
    h = _products(g, x, target, source, symmetric)  # [E, F]
    c = h.new_zeros(size, h.size(1))
    for k in range(b.size(1)):
        c = c.index_add(0, row + k, b[:, k : k + 1] * h)
    return c


def _products(g: Tensor, x: Tensor, target: Tensor, source: Tensor, symmetric: bool) -> Tensor:
    """Features of one end times those of the other [E, F]."""
    h = g.index_select(0, target) * x.index_select(0, source)
    return h + g.index_select(0, source) * x.index_select(0, target) if symmetric else h
