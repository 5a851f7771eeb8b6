"""Compiled loops against the plain twins, to second order."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet.sizes import SIZES
from tests.fast.operands import NAMES, Grid, Operands, floats, mapped, operands, public, strided, twin, with_derivatives

pytest.importorskip("numba")
cpu = importlib.import_module("pyg_schnet.fast.cpu.convolution")

GRID = Grid(start=0.9, spacing=0.2, size=15, margin=0.3)


def everything(
    nodes: int = 7, edges: int = 40, features: int = 5, dtype: torch.dtype = torch.float64, **how: Any
) -> Operands:
    return operands(GRID, nodes, edges, features, dtype, more_sources=3, **how)


def arguments(name: str, *sizes: Any, **how: Any) -> tuple[Any, ...]:
    return everything(*sizes, **how).of(name)


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
    ways = (lambda *given: public(name, given)), (lambda *given: twin(name, given))
    for result, expected in zip(*(with_derivatives(way, given) for way in ways), strict=True):
        close(result, expected, factor=400.0)  # chains of two operations


@pytest.mark.parametrize("name", NAMES)
def test_any_layout_of_memory(name: str) -> None:
    given = arguments(name, features=6)
    apart = mapped(lambda value: strided(value, value.dtype), given)
    assert torch.equal(getattr(cpu, name)(*apart), getattr(cpu, name)(*given))
    assert torch.equal(public(name, apart), getattr(cpu, name)(*given))


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
    given = everything()
    targets, sources = given.pairs.target, given.pairs.source
    (targets if end == "target" else sources)[edge] = stray
    way = f"{int(sources[edge])} to {int(targets[edge])}"
    with pytest.raises(IndexError, match=f"edge {edge % len(targets)} goes from {way}"):
        getattr(cpu, name)(*given.of(name))


def test_nan_of_one_distance_reaches_its_edge_only() -> None:
    given = arguments("edges")
    given[3].d[2] = torch.nan
    assert cpu.edges(*given).isnan().nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("features", [5, 64, 150])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_gradients_at_once(symmetric: bool, features: int, weighted: bool) -> None:
    given = everything(edges=300, features=features, symmetric=True, weighted=weighted)
    given = given._replace(form=given.form._replace(symmetric=symmetric))
    leaves, s = [leaf.requires_grad_() for leaf in floats(given)], given.pairs.s
    a = twin("edges", given.of("edges"))
    expected = torch.autograd.grad((a if s is None else s * a).sum(), leaves)
    for choice in ([True] * 5, [False, True, True, False, True], [True, False, False, True, False]):
        wanted = (*choice[:4], choice[4] and weighted)
        results = cpu.gradients(*given, wanted)
        for need, result, value in zip(wanted, results, (*expected, None), strict=False):
            assert (result is not None) == need
            if need:
                close(result, value, factor=300.0)  # up to 300 summands


def test_all_gradients_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given = (*everything(30, 2000, 150, torch.float32, symmetric=True), (True,) * 5)
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
    given = everything(edges=300)
    padded = torch.full((2 * len(given.x), given.x.size(1)), torch.nan, dtype=given.x.dtype)
    g = padded[: int(given.pairs.target.max()) + 1].normal_()
    assert given.pairs.source.max() >= len(g)
    given = given._replace(g=g)
    _, *leaves = floats(given)
    for leaf in leaves:
        leaf.requires_grad_()
    expected = torch.autograd.grad((given.pairs.s * twin("edges", given.of("edges"))).sum(), leaves)
    results = cpu.gradients(*given, (False, True, True, True, True))
    for result, value in zip(results[1:], expected, strict=True):
        close(result, value, factor=300.0)
