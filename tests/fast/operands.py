"""Random operands of the tabulated convolution, for its plain twins, compiled loops and kernels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet.fast import convolution_reference
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.convolution import to_edges, to_nodes, to_table
from pyg_schnet.fast.operands import Form, Pairs

NAMES = ["nodes", "edges", "table"]


class Grid(NamedTuple):
    """Knots of the tables: the first, the distance between two, the number of coefficients; a margin of distances."""

    start: float
    spacing: float
    size: int
    margin: float

    def distances(self, edges: int, dtype: torch.dtype) -> Tensor:
        """Some of them beyond each end of the table."""
        return self.start - self.margin + (2 * self.margin + 2.0) * torch.rand(edges, dtype=dtype)


class Operands(NamedTuple):
    """What all operations together are given."""

    g: Tensor
    x: Tensor
    c: Tensor
    pairs: Pairs
    form: Form

    def of(self, name: str) -> tuple[Any, ...]:
        """What one of the operations is given."""
        if name == "nodes":
            return self.x, self.c, self.pairs, len(self.g), self.form
        if name == "edges":
            return self.g, self.x, self.c, self.pairs._replace(s=None), self.form
        return self.g, self.x, self.pairs, len(self.c), self.form


def operands(
    grid: Grid,
    nodes: int,
    edges: int,
    features: int,
    dtype: torch.dtype,
    weighted: bool = True,
    order: int = 0,
    symmetric: bool = False,
    more_sources: int = 2,
) -> Operands:
    """Random features, table and edges; some edges are there twice, the last node has none, some are its own end."""
    others = nodes if symmetric else nodes + more_sources
    g, x, c = (torch.randn(n, features, dtype=dtype) for n in (nodes, others, grid.size))
    d, s = grid.distances(edges, dtype), torch.randn(edges, dtype=dtype)
    target, source = (torch.randint(max(1, n - 1), (edges,)) for n in (nodes, others))
    target[: edges // 8], source[: edges // 8] = target[edges // 2 :][: edges // 8], source[edges // 2 :][: edges // 8]
    return Operands(
        g, x, c, Pairs(d, s if weighted else None, target, source), Form(grid.start, grid.spacing, order, symmetric)
    )


def mapped(function: Callable[[Tensor], Tensor], given: Any) -> Any:
    """The same operands with a function called for each tensor."""
    if isinstance(given, Tensor):
        return function(given)
    if not isinstance(given, tuple):
        return given
    values = [mapped(function, value) for value in given]
    return type(given)(*values) if hasattr(given, "_fields") else tuple(values)


def floats(given: Any) -> list[Tensor]:
    """The tensors of the operands that are not indices."""
    found = list[Tensor]()
    mapped(lambda value: found.append(value) if value.is_floating_point() else None, given)  # type: ignore[arg-type]
    return found


def twin(name: str, given: tuple[Any, ...]) -> Tensor:
    """The result by plain PyTorch."""
    result: Tensor = getattr(convolution_reference, f"{name}_reference")(*given)
    return result


def public(name: str, given: tuple[Any, ...]) -> Tensor:
    """The result by the function that users call, with all its derivatives."""
    *features, pairs, form = (value for value in given if not isinstance(value, int))
    edge_index = torch.stack([pairs.source, pairs.target])
    rest = pairs.s, form.order, form.symmetric
    if name == "table":
        return to_table(*features, pairs.d, edge_index, given[3], form.start, form.spacing, *rest)
    table = FilterTable(features[-1], form.start, form.spacing)
    if name == "nodes":
        return to_nodes(features[0], table, pairs.d, edge_index, given[3], *rest)
    return to_edges(*features[:2], table, pairs.d, edge_index, *rest)


def strided(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers as every second element of every second row, rows and columns exchanged."""
    wide = value.new_full([2 * size for size in reversed(value.shape)], 77, dtype=dtype)
    wide[(slice(None, None, 2),) * value.dim()] = value.permute(*reversed(range(value.dim()))).to(dtype)
    view = wide[(slice(None, None, 2),) * value.dim()].permute(*reversed(range(value.dim())))
    assert not view.is_contiguous()
    return view


def with_derivatives(function: Callable[..., Tensor], given: tuple[Any, ...]) -> list[Tensor]:
    """A result, and first and second derivatives along the same random directions for every function."""
    torch.manual_seed(1)
    inputs = [value.requires_grad_() for value in floats(given)]
    value = function(*given)
    first = torch.autograd.grad(value, inputs, torch.randn_like(value), create_graph=True)
    second = torch.autograd.grad(first, inputs, [torch.randn_like(one) for one in first])
    return [value, *first, *second]
