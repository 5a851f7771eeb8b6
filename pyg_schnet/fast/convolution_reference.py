"""Plain PyTorch of the convolution, where every tensor of size [E, F] can be seen.

They are what :mod:`pyg_schnet.fast.convolution` computes, and how it computes without compiled loops.
"""

from torch import Tensor

from pyg_schnet.fast.bspline import FilterTable, evaluate, spline_weights
from pyg_schnet.fast.operands import Form, Pairs


def nodes_reference(x: Tensor, c: Tensor, pairs: Pairs, num_targets: int, form: Form) -> Tensor:
    """Plain PyTorch of :func:`to_nodes`."""
    d, s, target, source = pairs
    w = _filters(c, d, form)  # [E, F]
    w = w if s is None else w * s.unsqueeze(1)
    y = x.new_zeros(num_targets, x.size(1)).index_add(0, target, x.index_select(0, source) * w)
    return y.index_add(0, source, x.index_select(0, target) * w) if form.symmetric else y


def edges_reference(g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form) -> Tensor:
    """Plain PyTorch of :func:`to_edges` without weights."""
    return (_products(g, x, pairs, form) * _filters(c, pairs.d, form)).sum(1)


def table_reference(g: Tensor, x: Tensor, pairs: Pairs, size: int, form: Form) -> Tensor:
    """Plain PyTorch of :func:`to_table`."""
    row, b = spline_weights(pairs.d, size, form.start, form.spacing, form.order)  # [E], [E, 6]
    b = b if pairs.s is None else b * pairs.s.unsqueeze(1)
    h = _products(g, x, pairs, form)  # [E, F]
    c = h.new_zeros(size, h.size(1))
    for k in range(b.size(1)):
        c = c.index_add(0, row + k, b[:, k : k + 1] * h)
    return c


def _filters(c: Tensor, d: Tensor, form: Form) -> Tensor:
    """Derivatives of the filters [E, F]."""
    return evaluate(FilterTable(c, form.start, form.spacing), d, form.order)


def _products(g: Tensor, x: Tensor, pairs: Pairs, form: Form) -> Tensor:
    """Features of one end times those of the other [E, F]."""
    target, source = pairs.target, pairs.source
    h = g.index_select(0, target) * x.index_select(0, source)
    return h + g.index_select(0, source) * x.index_select(0, target) if form.symmetric else h
