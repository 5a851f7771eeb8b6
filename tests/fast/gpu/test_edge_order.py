"""Groups of edges against plain loops, and when they are found anew."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.bspline import spline_weights
from pyg_schnet.fast.gpu import edge_order as gpu_layout
from pyg_schnet.fast.gpu.edge_order import KnotGrid, by_interval, by_node, check, forgetting, places

GRID = KnotGrid(0.9, 0.4, 9)
E, N = 20, 5


@pytest.fixture
def sorts(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Grows with every sort."""
    found, plain = list[Tensor](), torch.sort
    monkeypatch.setattr(torch, "sort", lambda key, **kind: (found.append(key), plain(key, **kind))[1])
    return found


def edges() -> tuple[Tensor, Tensor, Tensor]:
    """Distances, some beyond the ends of the table; targets, the last of which has none; sources."""
    return 0.7 + 2.0 * torch.rand(E), torch.randint(N - 1, (E,)), torch.randint(N, (E,))


@pytest.mark.parametrize("symmetric", [False, True])
def test_edges_of_each_node(symmetric: bool) -> None:
    d, target, source = edges()
    pointer, edge, other = by_node(d, target, source, N, N, symmetric)
    for node in range(N):
        expected = [(e, int(source[e])) for e in range(E) if target[e] == node]
        if symmetric:
            expected += [(e, int(target[e])) for e in range(E) if source[e] == node]
        here = slice(int(pointer[node]), int(pointer[node + 1]))
        assert list(zip(edge[here].tolist(), other[here].tolist(), strict=True)) == expected
    assert pointer[-1] == len(edge) == len(other) == (2 * E if symmetric else E)


def test_edges_of_each_interval() -> None:
    d = edges()[0]
    row, _ = spline_weights(d.double(), GRID.size, GRID.start, GRID.spacing)
    pointer, edge, _ = by_interval(d, GRID)
    for interval in range(GRID.size - 5):
        here = slice(int(pointer[interval]), int(pointer[interval + 1]))
        assert edge[here].tolist() == (row == interval).nonzero().flatten().tolist()
    assert pointer[-1] == E


def test_places_are_those_of_splines() -> None:
    d = torch.cat([edges()[0], torch.tensor([GRID.start, 100.0, -100.0, torch.nan, torch.inf])])
    row, place = places(d, GRID)
    assert torch.equal(row.long(), spline_weights(d.double(), GRID.size, GRID.start, GRID.spacing)[0])
    distance = GRID.start + GRID.spacing * (row + place.double())
    torch.testing.assert_close(distance, d.double(), equal_nan=True)
    assert place.dtype == d.dtype


def test_float32_distances_keep_their_digits() -> None:
    """In float32 arithmetic the place would be off by 1e-5 of an interval."""
    d = 9.0 + torch.rand(1000)
    grid = KnotGrid(0.1, 0.02, 600)
    row, place = places(d, grid)
    expected = (d.double() - grid.start) / grid.spacing - row
    assert float((place - expected).abs().max()) < 1e-7


@pytest.mark.parametrize("stray", [-1, N])
@pytest.mark.parametrize("end", [1, 2])
def test_strays_are_named(stray: int, end: int) -> None:
    given = edges()
    check(*given, N, N)
    given[end][3] = stray
    with pytest.raises(RuntimeError, match=f"there are {N} sources and {N} targets"):
        check(*given, N, N)


def test_found_once(sorts: list[Tensor]) -> None:
    d, target, source = edges()
    edge_index = torch.stack([source, target])
    for _ in range(3):  # views of one tensor are equal
        by_node(d, edge_index[1], edge_index[0], N, N, False)
        by_interval(d, GRID)
    assert len(sorts) == 2
    by_node(d, edge_index[1], edge_index[0], N, N, True)
    by_interval(d, GRID._replace(start=1.0))
    assert len(sorts) == 4


def new_distances(d: Tensor, target: Tensor, source: Tensor) -> tuple[Tensor, ...]:
    return d.clone(), target, source


def changed_distances(d: Tensor, target: Tensor, source: Tensor) -> tuple[Tensor, ...]:
    d[0] += 1.0
    return d, target, source


def changed_sources(d: Tensor, target: Tensor, source: Tensor) -> tuple[Tensor, ...]:
    source[0] = N - 1 - source[0]
    return d, target, source


def other_sources(d: Tensor, target: Tensor, source: Tensor) -> tuple[Tensor, ...]:
    return d, target, source.flip(0)


@pytest.mark.parametrize("change", [new_distances, changed_distances, changed_sources, other_sources])
def test_found_anew_after_a_change(change: Callable[..., tuple[Any, ...]], sorts: list[Tensor]) -> None:
    given = edges()
    by_node(*given, N, N, False)
    given = change(*given)
    after = by_node(*given, N, N, False)
    assert len(sorts) == 2
    with forgetting():
        for result, expected in zip(after, by_node(*given, N, N, False), strict=True):
            assert torch.equal(result, expected)


def test_nothing_is_kept_where_nothing_can_be_counted(sorts: list[Tensor]) -> None:
    given = edges()
    with forgetting():
        by_node(*given, N, N, False)
        by_node(*given, N, N, False)
    by_node(*given, N, N, False)
    assert len(sorts) == 3
    with torch.inference_mode():
        given = edges()
        by_node(*given, N, N, False)
        by_node(*given, N, N, False)
    assert len(sorts) == 5


def test_operations_for_compilers_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They use the memory of distances again for others, which PyTorch does not count."""
    d, target, source = edges()
    given = torch.randn(N, 3), torch.randn(GRID.size, 3), d, None, target, source, N, GRID.start, GRID.spacing, 0, False
    forgets, run = list[bool](), convolution._run
    state = lambda: getattr(gpu_layout._thread, "forgets", False)  # noqa: E731
    monkeypatch.setattr(convolution, "_run", lambda *given: (forgets.append(state()), run(*given))[1])
    assert torch.equal(torch.ops.pyg_schnet.trilinear_nodes(*given), convolution._nodes(*given))
    assert forgets == [True, False]


def test_memory_is_given_back() -> None:
    d, target, source = edges()
    before = len(gpu_layout._known)
    by_node(d, target, source, N, N, False)
    assert len(gpu_layout._known) == before + 1
    del d
    gc.collect()
    assert len(gpu_layout._known) == before


def test_memory_does_not_grow_with_changing_edges() -> None:
    d, target, source = edges()
    for _ in range(3 * gpu_layout.MOST):
        by_node(d, target.clone(), source, N, N, False)
    assert len(gpu_layout._known[d][1]) <= gpu_layout.MOST
