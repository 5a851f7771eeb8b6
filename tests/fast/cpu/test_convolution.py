"""Compiled loops against the plain twins, to second order."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.sizes import SIZES

pytest.importorskip("numba")
cpu = importlib.import_module("pyg_schnet.fast.cpu.convolution")

NAMES = ["nodes", "edges", "table"]
START, SPACING, SIZE = 0.9, 0.2, 15
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "nodes": convolution._nodes,
    "edges": convolution._edges,
    "table": convolution._table,
}


def arguments(
    name: str,
    nodes: int = 7,
    edges: int = 40,
    features: int = 5,
    dtype: torch.dtype = torch.float64,
    weighted: bool = True,
    order: int = 0,
    symmetric: bool = False,
) -> tuple[Any, ...]:
    """Random features, table and edges; some edges are there twice, the last node has none, some are its own end."""
    others = nodes if symmetric else nodes + 3
    g, x, c = (torch.randn(n, features, dtype=dtype) for n in (nodes, others, SIZE))
    # two distances beyond each end of the table
    d, s = START - 0.3 + 2.6 * torch.rand(edges, dtype=dtype), torch.randn(edges, dtype=dtype)
    target, source = (torch.randint(max(1, n - 1), (edges,)) for n in (nodes, others))
    target[: edges // 8], source[: edges // 8] = target[edges // 2 :][: edges // 8], source[edges // 2 :][: edges // 8]
    weight, at = s if weighted else None, (START, SPACING, order, symmetric)
    if name == "nodes":
        return x, c, d, weight, target, source, nodes, *at
    if name == "edges":
        return g, x, c, d, target, source, *at
    return g, x, d, weight, target, source, SIZE, *at


def twin(name: str, given: tuple[Any, ...]) -> Tensor:
    result: Tensor = getattr(convolution, f"{name}_reference")(*given)
    return result


def close(result: Tensor, expected: Tensor, factor: float = 200.0) -> None:
    """Sums of some ten products each, with the splines' derivatives of size h^-p.

    The place of a distance, up to 13 knots, is rounded on both sides; splines' derivatives change up to five times as
    fast as their size.
    """
    result, expected = result.detach(), expected.detach()
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(result, expected, rtol=0, atol=factor * torch.finfo(expected.dtype).eps * scale)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", range(5))
def test_equal_twins(name: str, symmetric: bool, weighted: bool, order: int) -> None:
    given = arguments(name, weighted=weighted, order=order, symmetric=symmetric)
    close(getattr(cpu, name)(*given), twin(name, given))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("nodes", "edges", "features"),
    [(0, 0, 4), (1, 1, 1), (3, 0, 4), (4, 9, 0), (5, 257, 3), (6, 600, 33), (3, 31, 129), (40, 1000, 64)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sizes(name: str, nodes: int, edges: int, features: int, dtype: torch.dtype) -> None:
    given = arguments(name, nodes, edges, features, dtype, symmetric=True)
    result = getattr(cpu, name)(*given)
    assert result.dtype == dtype
    # up to 300 summands at a node or a knot; in float32 the place between two knots is rounded too
    close(result, twin(name, given), factor=300.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_and_second_derivatives_are_those_of_the_twin(name: str, symmetric: bool, dtype: torch.dtype) -> None:
    given = arguments(name, dtype=dtype, symmetric=symmetric)
    inputs = [value.requires_grad_() for value in given if isinstance(value, Tensor) and value.is_floating_point()]
    results = []
    for function in (OPERATIONS[name], getattr(convolution, f"{name}_reference")):
        torch.manual_seed(1)
        value = function(*given)
        first = torch.autograd.grad(value, inputs, torch.randn_like(value), create_graph=True)
        second = torch.autograd.grad(first, inputs, [torch.randn_like(one) for one in first])
        results.append([value, *first, *second])
    for result, expected in zip(*results, strict=True):
        close(result, expected, factor=400.0)  # chains of two operations


@pytest.mark.parametrize("name", NAMES)
def test_any_layout_of_memory(name: str) -> None:
    given = arguments(name, features=6)
    strided = []
    for value in given:
        if isinstance(value, Tensor):  # every second element of every second row, rows and columns exchanged
            wide = torch.full([2 * size for size in reversed(value.shape)], 77, dtype=value.dtype)
            wide[(slice(None, None, 2),) * value.dim()] = value.permute(*reversed(range(value.dim())))
            view = wide[(slice(None, None, 2),) * value.dim()].permute(*reversed(range(value.dim())))
            assert not view.is_contiguous()
            strided.append(view)
        else:
            strided.append(value)
    assert torch.equal(getattr(cpu, name)(*strided), getattr(cpu, name)(*given))
    # a gradient that is one number for all, as that of a sum
    assert OPERATIONS[name](*given).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_poisoned_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(name, edges=300)
    expected = getattr(cpu, name)(*given)
    empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size, **kind: empty(self, *size, **kind).fill_(torch.nan))
    assert torch.equal(getattr(cpu, name)(*given), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("features", [100, 65])
def test_result_does_not_depend_on_threads(name: str, features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(name, 30, 2000, features, torch.float32, symmetric=True)
    expected = getattr(cpu, name)(*given)
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    for threads in (2, 3, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for _ in range(3):
            assert torch.equal(getattr(cpu, name)(*given), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stray", [-1, 50])
@pytest.mark.parametrize("edge", [0, 4, -1], ids=["first", "fifth", "last"])
@pytest.mark.parametrize("end", ["target", "source"])
def test_stray_edges_are_refused(name: str, stray: int, edge: int, end: str) -> None:
    given = arguments(name)
    targets, sources = (value for value in given if isinstance(value, Tensor) and value.dtype == torch.long)
    (targets if end == "target" else sources)[edge] = stray
    way = f"{int(sources[edge])} to {int(targets[edge])}"
    with pytest.raises(IndexError, match=f"edge {edge % len(targets)} goes from {way}"):
        getattr(cpu, name)(*given)


def test_nan_of_one_distance_reaches_its_edge_only() -> None:
    given = arguments("edges")
    given[3][2] = torch.nan
    assert cpu.edges(*given).isnan().nonzero().flatten().tolist() == [2]


def form(**sizes: Any) -> tuple[Any, ...]:
    """Arguments of all gradients at once."""
    x, c, d, s, target, source, _, *at = arguments("nodes", **sizes)
    return torch.randn_like(x), x, c, d, s, target, source, *at


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("features", [5, 64, 150])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_gradients_at_once(symmetric: bool, features: int, weighted: bool) -> None:
    given = form(features=features, edges=300, symmetric=True, weighted=weighted)
    g, x, c, d, s, target, source, *at = (*given[:-1], symmetric)
    leaves = [g, x, c, d] if s is None else [g, x, c, d, s]
    for leaf in leaves:
        leaf.requires_grad_()
    a = convolution.edges_reference(g, x, c, d, target, source, *at)
    expected = torch.autograd.grad((a if s is None else s * a).sum(), leaves)
    for choice in ([True] * 5, [False, True, True, False, True], [True, False, False, True, False]):
        wanted = (*choice[:4], choice[4] and weighted)
        results = cpu.gradients(g, x, c, d, s, target, source, *at, wanted)
        for need, result, value in zip(wanted, results, (*expected, None), strict=False):
            assert (result is not None) == need
            if need:
                close(result, value, factor=300.0)  # up to 300 summands


def test_all_gradients_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given = (*form(nodes=30, edges=2000, features=150, dtype=torch.float32, symmetric=True), (True,) * 5)
    empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size, **kind: empty(self, *size, **kind).fill_(torch.nan))
    expected = cpu.gradients(*given)
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    for threads in (2, 3, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for result, value in zip(cpu.gradients(*given), expected, strict=True):
            assert torch.equal(result, value)


def test_gradients_read_nothing_behind_the_last_target() -> None:
    """Sources are numbered beyond the targets, whose memory ends before."""
    _, x, c, d, s, target, source, *at = form(edges=300)
    padded = torch.full((2 * len(x), x.size(1)), torch.nan, dtype=x.dtype)
    g = padded[: int(target.max()) + 1].normal_()
    assert source.max() >= len(g)
    leaves = [leaf.requires_grad_() for leaf in (x, c, d, s)]
    expected = torch.autograd.grad((s * convolution.edges_reference(g, x, c, d, target, source, *at)).sum(), leaves)
    results = cpu.gradients(g, x, c, d, s, target, source, *at, (False, True, True, True, True))
    for result, value in zip(results[1:], expected, strict=True):
        close(result, value, factor=300.0)
