"""The compiled search: what is its own, beyond the tests of all back ends; edge by edge it is that of plain PyTorch."""

import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_schnet import Graph, radius_graph
from pyg_schnet.graph import VerletList, compiled
from pyg_schnet.graph.crosscheck import KINDS, System
from pyg_schnet.sizes import SIZES
from tests.conftest import assert_same_graph

pytest.importorskip("numba")
ALL = torch.ones(1, 3, dtype=torch.bool)


def in_both_ways(search: Callable[[], Graph]) -> list[Graph]:
    """By bins, and, in open structures, by looking at every pair."""
    found = []
    for few in (0, sys.maxsize):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SIZES, "all_pairs_up_to", few)
            found.append(search())
    return found


def gas(size: int, edge: float) -> System:
    """Atoms anywhere in a skewed cell and around it."""
    cell = edge * torch.tensor([[[1.0, 0.1, 0], [0.3, 1.1, 0], [0, -0.2, 0.9]]], dtype=torch.float64)
    pos = (3 * torch.rand(size, 3, dtype=torch.float64) - 1) @ cell[0]
    return System(pos, torch.zeros(size, dtype=torch.long), cell, ALL, 4.0)


@pytest.fixture(scope="module")
def batch() -> System:
    """One structure of many bins between molecules and small cells of all periodicities."""
    parts = [gas(size, edge) for size, edge in [(3, 3.0), (0, 5.0), (1500, 25.0), (9, 4.0), (1, 2.0), (40, 6.0)]]
    pos, cell = torch.cat([part.pos for part in parts]), torch.cat([part.cell for part in parts])
    number = torch.arange(6).repeat_interleave(torch.tensor([len(part.pos) for part in parts]))
    pbc = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)
    return System(pos, number, cell, pbc, 4.0)


@given(seed=st.integers(0, 2**31), kind=st.sampled_from(sorted(KINDS)))
def test_any_batch_is_that_of_plain_pytorch(seed: int, kind: str) -> None:
    system = KINDS[kind](torch.Generator().manual_seed(seed))
    for graph in in_both_ways(lambda: system.graph("numba")):
        assert_same_graph(graph, system.graph("torch"))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("atoms", [1, 37, 1 << 16])
def test_pieces_and_threads_change_nothing(
    threads: int, atoms: int, batch: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = batch.graph("torch")
    monkeypatch.setattr(SIZES, "atoms_per_piece", atoms)
    monkeypatch.setattr(SIZES, "atoms_per_thread", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_same_graph(batch.graph("numba"), expected)


@pytest.mark.parametrize("kind", ["slab", "triclinic", "small cell", "mixed"])
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_for_many_edges_of_few_atoms(threads: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = KINDS[kind](torch.Generator().manual_seed(1))
    expected = system.graph("torch")
    monkeypatch.setattr(SIZES, "edges_per_thread", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_same_graph(system.graph("numba"), expected)


def test_room_for_neighbors_is_made(batch: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "neighbors_per_atom", 0)
    assert_same_graph(batch.graph("numba"), batch.graph("torch"))


def test_calls_at_the_same_time(batch: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "atoms_per_thread", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    systems = [batch, gas(300, 9.0), gas(2, 3.0), batch]
    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(lambda system: system.graph("numba"), systems * 5))
    for graph, system in zip(graphs, systems * 5, strict=True):
        assert_same_graph(graph, system.graph("torch"))


@pytest.mark.parametrize("cutoff", [1.0, 1.7, 3.3])
@pytest.mark.parametrize("periodic", [False, True])
def test_the_last_bit_of_a_distance_decides(cutoff: float, periodic: bool) -> None:
    """Pairs within a rounding of the cutoff: multiplications and additions must not be fused or reordered."""
    count, cell = 2000, gas(0, 4.0).cell.float()
    first = 9 * torch.rand(count, 3) - 3
    second = first + cutoff * torch.nn.functional.normalize(torch.randn(count, 3)) + periodic * cell[0, 1]
    pos, batch = torch.stack([first, second], dim=1).view(-1, 3), torch.arange(2 * count) // 2
    system = System(pos, batch, cell.expand(count, 3, 3), (periodic * ALL).bool().expand(count, 3), cutoff)
    for graph in in_both_ways(lambda: system.graph("numba")):
        assert_same_graph(graph, system.graph("torch"))
    assert 0.2 * 2 * count < len(graph.reverse) < (60 if periodic and cutoff > 3 else 0.8) * 2 * count


@pytest.mark.parametrize("far", [1e3, 1e7])
def test_atoms_far_from_the_cell(far: float) -> None:
    system = gas(60, 8.0)
    pos = system.pos + far * torch.randint(-1, 2, (60, 3))
    for pbc in (ALL, ~ALL):
        moved = system._replace(pos=pos, pbc=pbc)
        for graph in in_both_ways(lambda moved=moved: moved.graph("numba")):
            assert_same_graph(graph, moved.graph("torch"))


@pytest.mark.parametrize("limit", ["BITS", "IMAGE_BITS"])
def test_more_images_than_bits_are_left_to_plain_pytorch(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = gas(5, 3.0)
    monkeypatch.setattr(compiled, limit, 5)
    assert_same_graph(system.graph("numba"), system.graph("torch"))


@pytest.mark.parametrize(("size", "cutoff"), [(600, 5.0), (200, 15.0)])
def test_ordinary_structures_are_not_left_to_plain_pytorch(
    size: int, cutoff: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "candidate_pairs", lambda *_: pytest.fail("searched by plain PyTorch"))
    edge = (size / 0.1) ** (1 / 3)
    pos, cell = edge * torch.rand(size, 3, dtype=torch.float64), edge * torch.eye(3, dtype=torch.float64)[None]
    for lattice in ({}, {"cell": cell, "pbc": ALL}):
        assert radius_graph(pos, cutoff, backend="numba", **lattice).reverse.numel() > size


def test_a_direction_that_rounding_lost_is_left_to_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyg_schnet.graph import numba_kernels

    system = gas(5, 3.0)
    monkeypatch.setattr(numba_kernels, "match_edges", lambda *arguments: False)
    assert_same_graph(system.graph("numba"), system.graph("torch"))


def test_reverse_edges_that_are_not_there_are_noticed() -> None:
    from pyg_schnet.graph import numba_bins, numba_kernels

    def matched(rowptr: list[int], source: list[int]) -> bool:
        pos, batch, pointer = torch.zeros(3, 3).double(), torch.zeros(3, dtype=torch.long), torch.tensor([0, 3])
        cell = torch.eye(3).double().unsqueeze(0)
        tensors = (pos, batch, pointer, cell, cell, cell[0], ALL)
        structures = numba_bins.Structures(*(tensor.numpy() for tensor in tensors))
        rows, sources = torch.tensor(rowptr).numpy(), torch.tensor(source).numpy()
        return numba_kernels.match_edges(structures, 0, 3, rows, sources, sources.copy())

    assert matched([0, 2, 3, 4], [1, 2, 0, 0])
    assert not matched([0, 2, 3, 3], [1, 2, 0])
    assert not matched([0, 1, 2, 3], [1, 0, 0])


@pytest.mark.parametrize(("second", "shift"), [([1.0, 2.0, 3.0], 0), ([5.0, 2.0, 3.0], 1), ([9.0, 10.0, -1.0], 3)])
def test_two_atoms_at_the_same_place_are_refused(second: list[float], shift: int) -> None:
    pos = torch.tensor([[0.5, 0.5, 0.5], [1.0, 2.0, 3.0], second])
    with pytest.raises(ValueError, match=r"atoms 1 and 2 are at the same place \[1.0, 2.0, 3.0\].*remove one of them"):
        radius_graph(pos, 0.3, cell=4 * torch.eye(3)[None], pbc=ALL, backend="numba")
    if shift:
        assert radius_graph(pos, 0.3, backend="numba").reverse.numel() == 0  # as a molecule they are apart
    else:
        with pytest.raises(ValueError, match=r"atoms 1 and 2 are at the same place \[1.0, 2.0, 3.0\]"):
            radius_graph(pos, 0.3, backend="numba")
        assert radius_graph(pos, 0.3, torch.tensor([0, 0, 1]), backend="numba").reverse.numel() == 0


def test_an_infinite_cutoff_connects_all_atoms() -> None:
    pos = 100 * torch.rand(300, 3)
    for graph in in_both_ways(lambda: radius_graph(pos, math.inf, backend="numba")):
        assert_same_graph(graph, radius_graph(pos, math.inf, backend="torch"))


def test_tensors_of_any_layout() -> None:
    pos = torch.rand(3, 30, dtype=torch.float64).T.requires_grad_()
    cell = gas(0, 2.0).cell.mT
    expected = radius_graph(pos.detach().contiguous(), 2.0, cell=cell.contiguous(), pbc=ALL, backend="torch")
    assert_same_graph(radius_graph(pos, 2.0, cell=cell, pbc=ALL, backend="numba"), expected)
    assert_same_graph(radius_graph(pos, 2.0, cell=cell, pbc=ALL[:, :1].expand(1, 3), backend="numba"), expected)


def test_it_serves_the_verlet_list() -> None:
    neighbors, system = VerletList(3.0, 0.5), gas(100, 9.0)
    pos: Tensor = system.pos
    for _ in range(10):
        expected = radius_graph(pos, 3.0, cell=system.cell, pbc=ALL, backend="torch")
        assert_same_graph(neighbors(pos, cell=system.cell, pbc=ALL), expected)
        pos = pos + 0.1 * torch.randn(pos.shape, dtype=pos.dtype)
    assert 1 < neighbors.rebuilds <= 10


def test_without_a_folder_to_write_to() -> None:
    """Numba compiles anew in every process; here a function that has no file to keep the machine code beside."""
    from pyg_schnet.graph import numba_bins

    names: dict[str, Callable[[int], int]] = {}
    exec("def double(x):\n    return 2 * x", names)
    double = numba_bins.compiled()(names["double"])
    assert double(21) == 42
    assert double.stats.cache_path is None
    assert numba_bins.make_grid.stats.cache_path is not None
