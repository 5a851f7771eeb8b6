"""Radius graphs of open systems against brute force and ASE; periodic ones are in test_periodic.py."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_schnet import Graph, radius_graph
from pyg_schnet.graph.search import candidate_pairs
from pyg_schnet.sizes import SIZES
from tests.conftest import FIELDS, assert_same_graph

from .looks import Looks


def brute_force(pos: Tensor, cutoff: float, batch: Tensor) -> list[tuple[int, int]]:
    """All (target, source) of the same structure closer than the cutoff, in order, one pair at a time."""
    points, structure = pos.tolist(), batch.tolist()
    return [
        (i, j)
        for i in range(len(points))
        for j in range(len(points))
        if i != j and structure[i] == structure[j] and math.dist(points[i], points[j]) < cutoff
    ]


def edges_of(graph: Graph) -> list[tuple[int, int]]:
    """(target, source) of every edge in the order of the graph."""
    return list(zip(graph.edge_index[1].tolist(), graph.edge_index[0].tolist(), strict=True))


def cloud(sizes: list[int], scale: float = 4.0) -> tuple[Tensor, Tensor]:
    """Random structures of the given sizes, one upon the other in space."""
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return scale * torch.rand(sum(sizes), 3, dtype=torch.float64), batch


def check_consistent(graph: Graph, num_atoms: int) -> None:
    """Whatever is promised of any open graph."""
    edge_index, num_edges = graph.edge_index, graph.edge_index.size(1)
    for name in FIELDS:
        assert getattr(graph, name).dtype == torch.long
    assert edges_of(graph) == sorted(set(edges_of(graph)))
    assert torch.equal(graph.edge_shift, torch.zeros(num_edges, 3, dtype=torch.long))
    assert torch.equal(graph.rowptr, torch.searchsorted(edge_index[1], torch.arange(num_atoms + 1)))
    assert torch.equal(edge_index[:, graph.reverse], edge_index.flip(0))
    check_pairs(graph)


def check_pairs(graph: Graph) -> None:
    """Each pair is named by one of its two edges, and both edges know it."""
    edges, pair = graph.pairs()
    assert 2 * edges.numel() == pair.numel() == graph.edge_index.size(1)
    unordered = graph.edge_index.sort(dim=0).values
    assert torch.equal(unordered[:, edges][:, pair], unordered)
    assert torch.equal(pair[edges], torch.arange(edges.numel()))


@pytest.mark.parametrize("cutoff", [0.3, 1.0, 2.5, 20.0, math.inf])
@pytest.mark.parametrize("sizes", [[1], [2], [17], [40, 1, 3], [5, 0, 1, 0, 0, 12], [0, 4], [0]], ids=str)
def test_equals_brute_force(sizes: list[int], cutoff: float) -> None:
    pos, batch = cloud(sizes)
    graph = radius_graph(pos, cutoff, batch, batch_size=len(sizes))
    assert edges_of(graph) == brute_force(pos, cutoff, batch)
    check_consistent(graph, len(pos))


@pytest.mark.parametrize(("size", "cutoff"), [(1, 5.0), (9, 2.0), (21, 5.0), (120, 3.0)])
def test_equals_ase(size: int, cutoff: float) -> None:
    ase, neighborlist = pytest.importorskip("ase"), pytest.importorskip("ase.neighborlist")
    pos, _ = cloud([size], scale=8.0)
    i, j, shift = neighborlist.neighbor_list("ijS", ase.Atoms(f"C{size}", positions=pos.numpy()), cutoff)
    expected = sorted(zip(i.tolist(), j.tolist(), strict=True))
    assert not shift.any()
    assert edges_of(radius_graph(pos, cutoff)) == expected


@given(
    sizes=st.lists(st.integers(0, 6), max_size=5),
    cutoff=st.floats(0.01, 30.0),
    seed=st.integers(0, 2**31),
    chunks=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_batch_in_any_chunks_equals_brute_force(
    sizes: list[int], cutoff: float, seed: int, chunks: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
    pos = 10 * torch.rand(len(batch), 3, dtype=torch.float64, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SIZES, "rows_per_chunk", chunks[0])
        patch.setattr(SIZES, "pairs_per_chunk", chunks[1])
        graph = radius_graph(pos, cutoff, batch, backend="torch", batch_size=len(sizes))
    assert edges_of(graph) == brute_force(pos, cutoff, batch)
    check_consistent(graph, len(pos))


@pytest.mark.parametrize("chunk", [1, 16, 17, 32, 100, 10_000])
def test_chunks_bound_the_pairs_and_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one bin a structure every pair is looked at exactly once."""
    pos, batch = cloud([16, 0, 1, 30, 2])
    expected = radius_graph(pos, 20.0, batch, backend="torch")
    monkeypatch.setattr(SIZES, "most_pairs", -1)  # linked cells also for a system this small
    monkeypatch.setattr(SIZES, "pairs_per_chunk", chunk)
    assert_same_graph(radius_graph(pos, 20.0, batch, backend="torch"), expected)
    with Looks() as looks:
        candidate_pairs(pos, 20.0, batch, 5, None)
    seen = looks.compared
    assert sum(seen) == (16 * 15 + 30 * 29 + 2) // 2
    assert max(seen) <= chunk + 29  # the row that goes beyond is done as a whole
    assert all(one + next_one > chunk for one, next_one in itertools.pairwise(seen))  # none is smaller than needed


def test_distance_of_exactly_the_cutoff_is_no_edge() -> None:
    pos = torch.tensor([[0.0, 0, 0], [2.5, 0, 0], [1.5, 2.0, 0]], dtype=torch.float64)  # 2.5 twice, exact in binary
    assert edges_of(radius_graph(pos, 2.5)) == [(1, 2), (2, 1)]
    assert len(edges_of(radius_graph(pos, float(np.nextafter(2.5, 3.0))))) == 6


@pytest.mark.parametrize("cutoff", [1.0, 1.7, 5.0])
def test_float32_gives_the_edges_of_float64(cutoff: float) -> None:
    """Pairs within a rounding of the cutoff, where arithmetic in float32 would decide at random."""
    first = 5 * torch.rand(300, 3)
    direction = torch.nn.functional.normalize(torch.randn(300, 3))
    pos = torch.stack([first, first + cutoff * direction], dim=1).view(600, 3)  # the same numbers in both dtypes
    batch = torch.arange(600) // 2
    expected = brute_force(pos.double(), cutoff, batch)
    assert 150 < len(expected) < 450  # of 600: both answers occur
    assert edges_of(radius_graph(pos, cutoff, batch)) == expected
    assert edges_of(radius_graph(pos.double(), cutoff, batch)) == expected


def test_more_than_32_neighbors_are_kept() -> None:
    pos, batch = cloud([70])
    graph = radius_graph(pos, 100.0, batch)
    assert graph.rowptr.diff().tolist() == [69] * 70


def test_structures_do_not_see_each_other() -> None:
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64).repeat(2, 1)  # the same places twice
    graph = radius_graph(pos, math.inf, torch.tensor([0, 0, 1, 1]))
    assert edges_of(graph) == [(0, 1), (1, 0), (2, 3), (3, 2)]


def test_far_from_the_origin() -> None:
    pos, _ = cloud([20])
    far = (pos * 1024).round() / 1024 + torch.tensor([2.0**20, -(2.0**20), 0.0])  # the shift is exact in binary
    assert edges_of(radius_graph(far, 2.0)) == edges_of(radius_graph((pos * 1024).round() / 1024, 2.0))


def test_positions_that_require_gradients() -> None:
    pos, _ = cloud([5])
    assert edges_of(radius_graph(pos.clone().requires_grad_(), 3.0)) == edges_of(radius_graph(pos, 3.0))


def test_devices_agree(device: torch.device) -> None:
    pos, batch = cloud([30, 0, 1, 12])
    graph, expected = radius_graph(pos.to(device), 2.0, batch.to(device)), radius_graph(pos, 2.0, batch)
    for name in FIELDS:
        assert getattr(graph, name).device.type == device.type
        assert torch.equal(getattr(graph, name).cpu(), getattr(expected, name))


def test_open_axes_may_be_named() -> None:
    pos, batch = cloud([4, 3])
    cell, pbc = torch.eye(3).repeat(2, 1, 1), torch.zeros(2, 3, dtype=torch.bool)
    assert edges_of(radius_graph(pos, 2.0, batch, cell, pbc)) == edges_of(radius_graph(pos, 2.0, batch))


@pytest.mark.parametrize("cutoff", [3, np.float64(3.0), np.float32(3.0)], ids=["int", "float64", "float32"])
def test_any_number_is_a_cutoff(cutoff: float) -> None:
    pos, _ = cloud([6])
    assert edges_of(radius_graph(pos, cutoff)) == edges_of(radius_graph(pos, 3.0))


@pytest.mark.parametrize(
    ("cutoff", "error", "message"),
    [
        (0.0, ValueError, "`cutoff` must be positive, got 0.0"),
        (-1.0, ValueError, "`cutoff` must be positive, got -1.0"),
        (-math.inf, ValueError, "`cutoff` must be positive, got -inf"),
        (math.nan, ValueError, "`cutoff` must be positive, got nan"),
        ("5", TypeError, "`cutoff` must be a number in Angstrom, got str"),
        (None, TypeError, "pass the distance as `cutoff` or as PyG's `r`, got cutoff=None and r=None"),
        (True, TypeError, "`cutoff` must be a number in Angstrom, got bool"),
    ],
)
def test_impossible_cutoff_is_refused(cutoff: float, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        radius_graph(torch.zeros(1, 3), cutoff)


@pytest.mark.parametrize("distance", [0.0, -0.0])
def test_two_atoms_at_the_same_place_are_refused(distance: float) -> None:
    pos = torch.tensor([[5.0, 0, 0], [1.0, 2.0, distance], [3.0, 0, 0], [1.0, 2.0, 0.0]])
    with pytest.raises(ValueError, match=r"atoms 1 and 3 are at the same place \[1.0, 2.0, -?0.0\].*remove one"):
        radius_graph(pos, 0.1)


@pytest.mark.parametrize("pos", [torch.full((1, 3), math.nan), torch.zeros(3), torch.zeros(1, 3).long(), [[0.0, 0, 0]]])
def test_positions_are_checked(pos: Tensor) -> None:
    """Every message of the check is tested in test_structure.py."""
    with pytest.raises((TypeError, ValueError), match="`pos` must"):
        radius_graph(pos, 3.0)


def test_batch_is_checked() -> None:
    with pytest.raises(ValueError, match="`batch` must be sorted"):
        radius_graph(torch.rand(3, 3), 3.0, torch.tensor([0, 1, 0]))
