"""Groups of edges against plain loops, and when they are found anew."""

import gc
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.bspline import FilterTable, spline_weights
from pyg_schnet.fast.convolution import check_ends, to_nodes
from pyg_schnet.fast.convolution_reference import nodes_reference
from pyg_schnet.fast.gpu import edge_order as gpu_layout
from pyg_schnet.fast.gpu.edge_order import KnotGrid, Sorted, by_interval, by_node, forgetting, places
from pyg_schnet.fast.operands import Form, Pairs
from tests.pretended_gpu import pretended_gpu

GRID = KnotGrid(0.9, 0.4, 9)
E, N = 20, 5


@pytest.fixture
def sorts(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Grows with every sort."""
    found, plain = list[Tensor](), torch.sort
    monkeypatch.setattr(torch, "sort", lambda key, **kind: (found.append(key), plain(key, **kind))[1])
    return found


def edges() -> Pairs:
    """Some distances lie beyond the ends of the table, the last target has no edges."""
    return Pairs(0.7 + 2.0 * torch.rand(E), None, torch.randint(N - 1, (E,)), torch.randint(N, (E,)))


@pytest.mark.parametrize("symmetric", [False, True])
def test_edges_of_each_node(symmetric: bool) -> None:
    pairs = edges()
    target, source = pairs.target, pairs.source
    pointer, edge, other = by_node(pairs, N, N, symmetric)
    for node in range(N):
        expected = [(e, int(source[e])) for e in range(E) if target[e] == node]
        if symmetric:
            expected += [(e, int(target[e])) for e in range(E) if source[e] == node]
        here = slice(int(pointer[node]), int(pointer[node + 1]))
        assert list(zip(edge[here].tolist(), other[here].tolist(), strict=True)) == expected
    assert pointer[-1] == len(edge) == len(other) == (2 * E if symmetric else E)


def test_edges_of_each_interval() -> None:
    d = edges().d
    row, _ = spline_weights(d.double(), GRID.size, GRID.start, GRID.spacing)
    pointer, edge, _ = by_interval(d, GRID)
    for interval in range(GRID.size - 5):
        here = slice(int(pointer[interval]), int(pointer[interval + 1]))
        assert edge[here].tolist() == (row == interval).nonzero().flatten().tolist()
    assert pointer[-1] == E


def test_places_are_those_of_splines() -> None:
    d = torch.cat([edges().d, torch.tensor([GRID.start, 100.0, -100.0, torch.nan, torch.inf])])
    row, place = places(d, GRID)
    expected = spline_weights(d.double(), GRID.size, GRID.start, GRID.spacing)[0]
    assert torch.equal(row[d.isfinite()].long(), expected[d.isfinite()])
    assert ((row >= 0) & (row <= GRID.size - 6)).all()  # of what is not finite, too
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
@pytest.mark.parametrize("end", [0, 1])
def test_strays_are_named(stray: int, end: int) -> None:
    """On a GPU alone, and of edges that a user gives: elsewhere PyTorch's own indexing stops."""
    edge_index = torch.stack([edges().source, edges().target])
    with pretended_gpu():
        check_ends(edge_index.to("cuda"), N, N)
        edge_index[end, 3] = stray
        with pytest.raises(RuntimeError, match=f"there are {N} sources and {N} targets"):
            check_ends(edge_index.to("cuda"), N, N)


def test_found_once(sorts: list[Tensor]) -> None:
    d, _, target, source = edges()
    edge_index = torch.stack([source, target])
    for _ in range(3):  # views of one tensor are equal
        by_node(Pairs(d, None, edge_index[1], edge_index[0]), N, N, False)
        by_interval(d, GRID)
    assert len(sorts) == 2
    by_node(Pairs(d, None, edge_index[1], edge_index[0]), N, N, True)
    by_interval(d, GRID._replace(start=1.0))
    assert len(sorts) == 4


def new_distances(pairs: Pairs) -> Pairs:
    return pairs._replace(d=pairs.d.clone())


def changed_distances(pairs: Pairs) -> Pairs:
    pairs.d[0] += 1.0
    return pairs


def changed_sources(pairs: Pairs) -> Pairs:
    pairs.source[0] = N - 1 - pairs.source[0]
    return pairs


def other_sources(pairs: Pairs) -> Pairs:
    return pairs._replace(source=pairs.source.flip(0))


@pytest.mark.parametrize("change", [new_distances, changed_distances, changed_sources, other_sources])
def test_found_anew_after_a_change(change: Callable[[Pairs], Pairs], sorts: list[Tensor]) -> None:
    given = edges()
    by_node(given, N, N, False)
    given = change(given)
    after = by_node(given, N, N, False)
    assert len(sorts) == 2
    with forgetting():
        for result, expected in zip(after, by_node(given, N, N, False), strict=True):
            assert torch.equal(result, expected)


def test_nothing_is_kept_where_nothing_can_be_counted(sorts: list[Tensor]) -> None:
    given = edges()
    with forgetting():
        by_node(given, N, N, False)
        by_node(given, N, N, False)
    by_node(given, N, N, False)
    assert len(sorts) == 3
    with torch.inference_mode():
        given = edges()
        by_node(given, N, N, False)
        by_node(given, N, N, False)
    assert len(sorts) == 5


def test_operations_for_compilers_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They use the memory of distances again for others, which PyTorch does not count."""
    pairs, x, table = edges(), torch.randn(N, 3), FilterTable(torch.randn(GRID.size, 3), GRID.start, GRID.spacing)
    given = x, table.coefficients, *pairs, N, GRID.start, GRID.spacing, 0, False
    found = list[Sorted]()

    def nodes(x: Tensor, c: Tensor, pairs: Pairs, targets: int, form: Form) -> Tensor:
        found.append(by_node(pairs, targets, len(x), form.symmetric))
        return nodes_reference(x, c, pairs, targets, form)

    monkeypatch.setattr(convolution, "cpu_loops", lambda: SimpleNamespace(nodes=nodes))
    plain = to_nodes(x, table, pairs.d, torch.stack([pairs.source, pairs.target]), N)
    assert torch.equal(torch.ops.pyg_schnet.trilinear_nodes(*given), plain)
    torch.ops.pyg_schnet.trilinear_nodes(*given)
    assert found[1] is not found[2]
    assert by_node(pairs, N, N, False) is by_node(pairs, N, N, False)


def test_memory_is_given_back() -> None:
    pairs = edges()
    before = len(gpu_layout._known)
    by_node(pairs, N, N, False)
    assert len(gpu_layout._known) == before + 1
    del pairs
    gc.collect()
    assert len(gpu_layout._known) == before


def test_memory_does_not_grow_with_changing_edges() -> None:
    pairs = edges()
    for _ in range(3 * gpu_layout.MOST):
        by_node(pairs._replace(target=pairs.target.clone()), N, N, False)
    assert len(gpu_layout._known[pairs.d][1]) <= gpu_layout.MOST
