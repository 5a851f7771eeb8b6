"""All back ends give the graph of plain PyTorch, or say in one sentence why they do not search."""

import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet import radius_graph
from pyg_schnet.graph import backends, crosscheck
from pyg_schnet.graph.backends import (
    BACKENDS,
    MATRIX_UP_TO,
    VESIN_FROM_OPEN,
    VESIN_FROM_PERIODIC,
    Backend,
    find_search,
)
from pyg_schnet.graph.crosscheck import KINDS, cross_check
from pyg_schnet.graph.search import candidate_pairs
from tests.conftest import assert_same_graph

CPU = torch.device("cpu")
BENCHMARK = Path(__file__).parents[2] / "examples" / "benchmarks" / "neighbors.py"


def needs(name: str) -> None:
    """Skip without the package of a back end."""
    if BACKENDS[name].package:
        pytest.importorskip(BACKENDS[name].package)


def crystal(cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Displaced CsCl crystal of 2 atoms per cell: positions, cell and axes."""
    corner = torch.cartesian_prod(*[torch.arange(cells, dtype=torch.float64)] * 3)
    pos = 4.12 * torch.cat([corner, corner + 0.5])
    cell = 4.12 * cells * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    return pos + 0.02 * torch.randn(pos.shape, dtype=torch.float64), cell, torch.ones(1, 3, dtype=torch.bool)


def brute_pairs(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: None) -> backends.Pairs:
    """Open pairs from the matrix of all distances."""
    assert lattice is None
    close = (torch.cdist(pos, pos) <= cutoff) & (batch.unsqueeze(0) == batch.unsqueeze(1))
    i, j = close.triu(1).nonzero(as_tuple=True)
    shift = torch.zeros(len(i), 3, dtype=torch.long)
    return i, j, shift, shift


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"torch"}))
def test_random_systems(name: str, kind: str) -> None:
    needs(name)
    backend, periodic = BACKENDS[name], kind != "open"
    generator = torch.Generator().manual_seed(1)
    for system in [KINDS[kind](generator) for _ in range(12)]:
        if backend.suits(CPU, periodic):
            assert_same_graph(system.graph(name), system.graph("torch"))
        elif system.pbc.any():
            with pytest.raises(ValueError, match=f"backend '{name}' knows no periodic boundaries; use backend='auto'"):
                system.graph(name)


@pytest.mark.parametrize("name", ["numba", "vesin", "nvalchemi"])
@pytest.mark.parametrize("cells", [1, 2, 8])
def test_crystals(name: str, cells: int) -> None:
    needs(name)
    pos, cell, pbc = crystal(cells)
    graph = radius_graph(pos, 6.0, cell=cell, pbc=pbc, backend=name)
    assert_same_graph(graph, radius_graph(pos, 6.0, cell=cell, pbc=pbc, backend="torch"))
    assert graph.edge_index.size(1) == 26 * len(pos)


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - {"torch"}))
@pytest.mark.parametrize("cutoff", [0.4, 3.0, math.inf])
@pytest.mark.parametrize("sizes", [[], [0], [1], [2, 0, 0, 300, 1, 18], [0, 20, 0]], ids=str)
def test_open_systems(name: str, cutoff: float, sizes: list[int]) -> None:
    needs(name)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
    pos = 8 * torch.rand(len(batch), 3, dtype=torch.float64) + torch.tensor([1000.0, -50, 3])
    graphs = [radius_graph(pos, cutoff, batch, backend=key, batch_size=len(sizes)) for key in (name, "torch")]
    assert_same_graph(*graphs)


@pytest.mark.parametrize("name", ["torch", "numba", "torch_cluster", "vesin", "nvalchemi"])
def test_distance_of_exactly_the_cutoff_is_no_edge(name: str) -> None:
    needs(name)
    pos = torch.tensor([[0.0, 0, 0], [2.5, 0, 0], [1.5, 2.0, 0]], dtype=torch.float64)  # 2.5 twice, exact in binary
    assert radius_graph(pos, 2.5, backend=name).edge_index.T.tolist() == [[2, 1], [1, 2]]
    assert radius_graph(pos.float(), math.nextafter(2.5, 3.0), backend=name).edge_index.size(1) == 6


@pytest.mark.parametrize("name", ["numba", "vesin", "nvalchemi"])
def test_far_outside_a_flat_cell(name: str) -> None:
    needs(name)
    cell = torch.tensor([[[2.0, 0, 0], [7.9, 0.5, 0], [0.3, 0.2, -6.0]]], dtype=torch.float64)  # left-handed
    pos = torch.tensor([[0.1, 0.2, 0.3], [50.0, -70.0, 90.0], [-200.0, 0.0, 1.0]], dtype=torch.float64)
    for axes in ([True, True, True], [True, True, False], [False, True, False]):
        pbc = torch.tensor([axes])
        expected = radius_graph(pos, 8.0, cell=cell, pbc=pbc, backend="torch")
        assert_same_graph(radius_graph(pos, 8.0, cell=cell, pbc=pbc, backend=name), expected)
        assert expected.edge_index.size(1) > 0


def test_nvalchemi_makes_room_for_more_neighbors_than_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("nvalchemi")
    pos, cell, pbc = crystal(3)
    monkeypatch.setattr(backends, "DENSITY", 0.0)  # sixteen
    graph = radius_graph(pos, 6.0, cell=cell, pbc=pbc, backend="torch")
    assert graph.rowptr.diff().min() > 16
    assert_same_graph(radius_graph(pos, 6.0, cell=cell, pbc=pbc, backend="nvalchemi"), graph)


def test_open_searches_are_repeated_until_nothing_is_cut() -> None:
    """On a GPU, where room is reserved for all, the first search may be too small; here a stand-in for one."""
    pos, batch = 3 * torch.rand(200, 3, dtype=torch.float64), torch.arange(200) // 100
    i, j, _, _ = brute_pairs(pos, 2.0, batch, 2, None)
    edges = torch.cat([torch.stack([i, j]), torch.stack([j, i]), torch.arange(200).expand(2, 200)], dim=1)
    edges = edges[:, edges[0].argsort()]
    rank = torch.arange(edges.size(1)) - torch.searchsorted(edges[0], edges[0])
    asked: list[int] = []

    def find(reach: float, most: int) -> Tensor:
        asked.append(most)
        return edges[:, rank < most]

    on_gpu = SimpleNamespace(is_cuda=True, amax=pos.amax, amin=pos.amin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "DENSITY", 0.0)
        pairs = backends.open_pairs(find, on_gpu, 2.0, batch, 2)
    assert asked == [16, 64, 100][: len(asked)]
    assert len(asked) > 2
    assert sorted(zip(*(part.tolist() for part in pairs[:2]), strict=True)) == sorted(
        zip(i.tolist(), j.tolist(), strict=True)
    )


def test_pyg_lib_is_called_like_pyg_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, a stand-in with the arguments that PyG 2.8 passes to it."""
    if importlib.util.find_spec("pyg_lib"):
        pytest.skip("the real one is tested")
    batch = torch.tensor([0, 0, 0, 2, 2])
    pos = torch.rand(5, 3, dtype=torch.float64)

    def radius(x, y, ptr_x, ptr_y, r, max_num_neighbors, num_workers, ignore_same_index):
        assert ptr_x.tolist() == ptr_y.tolist() == [0, 3, 3, 5]
        assert max_num_neighbors == 3
        assert not ignore_same_index
        return ((torch.cdist(y, x) < r) & (batch.unsqueeze(0) == batch.unsqueeze(1))).nonzero().T

    monkeypatch.setitem(sys.modules, "pyg_lib", SimpleNamespace(ops=SimpleNamespace(radius=radius)))
    monkeypatch.setattr(backends, "trouble_with", lambda package: None)
    assert_same_graph(radius_graph(pos, 5.0, batch, backend="pyg_lib"), radius_graph(pos, 5.0, batch, backend="torch"))


def test_auto_goes_by_device_size_and_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr(backends, "trouble_with", lambda package: None if package in there else "")

    def chosen(num_atoms: int, batch_size: int, periodic: bool, device: str = "cpu") -> str:
        search = find_search("auto", torch.device(device), num_atoms, batch_size, periodic)
        return next(name for name, backend in BACKENDS.items() if backend.search is search)

    assert chosen(10_000, 1, True) == "torch"
    there |= {"vesin"}
    for periodic, least in ((False, VESIN_FROM_OPEN), (True, VESIN_FROM_PERIODIC)):
        assert chosen(9 * least, 9, periodic) == "vesin"
        assert chosen(9 * least - 1, 9, periodic) == "torch"
        assert chosen(9 * least, 9, periodic, "cuda") == "torch"
    assert chosen(1, 1, True) == "vesin"
    assert chosen(MATRIX_UP_TO, 9, False) == "numpy"
    assert chosen(MATRIX_UP_TO + 1, 9, False) == "torch"
    assert chosen(MATRIX_UP_TO, 9, False, "cuda") == "torch"
    assert chosen(0, 0, False) == "torch"
    there |= {"numba"}
    assert chosen(1, 1, False) == "numba"
    assert chosen(1, 1, True) == "numba"
    assert chosen(10_000, 1, True, "cuda") == "torch"


@pytest.mark.parametrize("name", sorted(name for name in BACKENDS if BACKENDS[name].package))
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "trouble_with", lambda package: "")
    package = BACKENDS[name].package
    with pytest.raises(ImportError, match=f"backend '{name}' needs {package}; install it with pip install [\"p].*"):
        radius_graph(torch.rand(3, 3), 1.0, backend=name)


def test_impossible_backends_are_refused() -> None:
    pos = torch.rand(3, 3)
    with pytest.raises(
        ValueError, match=r"`backend` must be 'auto' or one of \['numba', 'numpy', 'nvalc.*\], got 'kdtree'"
    ):
        radius_graph(pos, 1.0, backend="kdtree")
    with pytest.raises(ValueError, match="backend 'vesin' runs on cpu only, but `pos` is on cuda; use backend='auto'"):
        find_search("vesin", torch.device("cuda"), 3, 1, False)
    cell, pbc = torch.eye(3).unsqueeze(0), torch.tensor([[True, False, False]])
    with pytest.raises(ValueError, match="backend 'torch_cluster' knows no periodic boundaries"):
        radius_graph(pos, 1.0, cell=cell, pbc=pbc, backend="torch_cluster")


@pytest.mark.parametrize("name", ["auto", "torch", "numba", "torch_cluster", "vesin", "nvalchemi"])
def test_too_many_neighbors_are_an_error(name: str) -> None:
    if name != "auto":
        needs(name)
    pos = torch.tensor([[9.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    graph = radius_graph(pos, 1.5, backend=name, max_num_neighbors=2)
    assert_same_graph(graph, radius_graph(pos, 1.5, backend="torch"))
    with pytest.raises(
        ValueError, match=r"atom 2 has 2 neighbors within 1.5 Angstrom, more than `max_num_neighbors` 1"
    ):
        radius_graph(pos, 1.5, backend=name, max_num_neighbors=1)


def test_max_num_neighbors_counts_images() -> None:
    cell, pbc = 2 * torch.eye(3).unsqueeze(0), torch.ones(1, 3, dtype=torch.bool)
    radius_graph(torch.zeros(1, 3), 2.5, cell=cell, pbc=pbc, max_num_neighbors=6)
    with pytest.raises(ValueError, match="atom 0 has 6 neighbors within 2.5"):
        radius_graph(torch.zeros(1, 3), 2.5, cell=cell, pbc=pbc, max_num_neighbors=5)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.5, TypeError, "`max_num_neighbors` must be an integer or None, got float"),
        (True, TypeError, "`max_num_neighbors` must be an integer or None, got bool"),
        (-1, ValueError, "`max_num_neighbors` must not be negative, got -1"),
    ],
)
def test_impossible_max_num_neighbors(value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        radius_graph(torch.zeros(1, 3), 1.0, max_num_neighbors=value)
    assert radius_graph(torch.zeros(0, 3), 1.0, max_num_neighbors=0).edge_index.size(1) == 0


def test_cross_check_agrees() -> None:
    report = cross_check(num_systems=4, seed=3)
    assert report.agree
    assert {comparison.kind for comparison in report.comparisons} == set(KINDS)
    checked = {comparison.backend for comparison in report.comparisons}
    assert checked == {name for name, backend in BACKENDS.items() if backend.installed()}
    assert checked.isdisjoint(report.not_installed)
    assert all(comparison.systems == 4 and comparison.edges > 0 for comparison in report.comparisons)
    assert report.table().count("\n") >= len(report.comparisons)


def drops_a_pair(*arguments):
    """A search that forgets the last pair."""
    return tuple(part[:-1] for part in candidate_pairs(*arguments))


def lists_a_pair_twice(*arguments):
    """A search that finds its first pair again."""
    return tuple(torch.cat([part, part[:1]]) for part in candidate_pairs(*arguments))


@pytest.mark.parametrize(("fault", "missing"), [(drops_a_pair, True), (lists_a_pair_twice, False)])
def test_cross_check_finds_a_fault(fault, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "faulty", Backend(fault))
    report = cross_check(num_systems=3)
    assert not report.agree
    for comparison in report.comparisons:
        assert (comparison.different > 0) == (comparison.backend == "faulty")
        assert (comparison.missing > 0) == (comparison.backend == "faulty" and missing)


def test_cross_check_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["crosscheck", "--num-systems", "2"])
    assert crosscheck.main() == 0
    assert capsys.readouterr().out.startswith("backend        kind          systems")
    monkeypatch.setitem(BACKENDS, "faulty", Backend(drops_a_pair))
    assert crosscheck.main() == 1
    with pytest.raises(ValueError, match="`num_systems` must be positive, got 0"):
        cross_check(0)


def test_benchmark(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--atoms=128", "--batch", "9", "4", "--budget=0", "--json=found.json"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [case["atoms"] for case in found["cases"]] == [128, 9 * 18, 4 * 8, 3000]
    assert found["cases"][0]["edges"] == 64 * 128
    assert all(case["seconds"]["torch"] > 0 for case in found["cases"])
    assert "torch" in found["versions"]


def test_a_package_that_fails_when_it_is_used_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unasked for, it is replaced by plain PyTorch, said once; asked for, its own error is seen."""

    def failing(*_: Any) -> Any:
        raise RuntimeError("LLVM has no such target")

    broken = dataclasses.replace(BACKENDS["numba"], search=failing, package="")
    monkeypatch.setitem(BACKENDS, "numba", broken)
    pos = torch.rand(20, 3)
    with pytest.warns(RuntimeWarning, match="failed .LLVM has no such target.; neighbors are searched without it"):
        found = radius_graph(pos, 1.0)
    assert torch.equal(found.edge_index, radius_graph(pos, 1.0, backend="torch").edge_index)
    assert torch.equal(found.edge_index, radius_graph(pos, 1.0).edge_index)  # no word any more
    with pytest.raises(RuntimeError, match="no such target"):
        radius_graph(pos, 1.0, backend="numba")


@pytest.mark.parametrize("name", ["torch", "numpy", "numba"])
def test_what_counts_as_the_same_place(name: str) -> None:
    """A hundred-millionth of an Angstrom: rounding of positions, and nothing that could be meant."""
    if not BACKENDS[name].installed():
        pytest.skip(f"{BACKENDS[name].package} is not installed")
    for distance in (0.0, 1e-12, 0.9e-8):
        with pytest.raises(ValueError, match="atoms 0 and 1 are at the same place"):
            radius_graph(torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=torch.float64), 1.0, backend=name)
    for distance in (1.1e-8, 1e-4):
        graph = radius_graph(torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=torch.float64), 1.0, backend=name)
        assert graph.reverse.tolist() == [1, 0]
