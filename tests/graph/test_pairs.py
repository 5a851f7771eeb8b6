"""Pairs as models ask for them, against the graph of plain PyTorch."""

import pytest
import torch
from torch import Tensor

from pyg_schnet import SchNet, radius_graph
from pyg_schnet.graph import neighbor_pairs, opposite_edges, within_cutoff
from pyg_schnet.sizes import SIZES


def structures(atoms: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Some atoms in three structures, one of them empty."""
    return 3.0 * torch.randn(atoms, 3, dtype=dtype), 2 * (torch.arange(atoms) > atoms // 3).long()


@pytest.mark.parametrize("atoms", [0, 1, 2, 19, SIZES.all_pairs_up_to, SIZES.all_pairs_up_to + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("periodic", [False, True])
def test_pairs_are_those_of_the_graph(atoms: int, dtype: torch.dtype, periodic: bool) -> None:
    pos, batch = structures(atoms, dtype)
    lattice = (9.0 * torch.eye(3, dtype=dtype).repeat(3, 1, 1), torch.ones(3, 3).bool()) if periodic else (None, None)
    edge_index, pair_index, pair_shift, edge_pair = neighbor_pairs(pos, 4.0, batch, 3, *lattice)
    graph = radius_graph(pos, 4.0, batch, *lattice, batch_size=3, backend="torch")
    pairs, pair = graph.pairs()
    assert torch.equal(edge_index, graph.edge_index)
    assert torch.equal(pair_index, graph.edge_index[:, pairs])
    assert torch.equal(pair_shift, graph.edge_shift[pairs])
    assert torch.equal(edge_pair, pair)


def test_atoms_at_the_same_place() -> None:
    pos, batch = structures(9, torch.float32)
    pos[7] = pos[5]
    with pytest.raises(ValueError, match="atoms 5 and 7 are at the same place"):
        neighbor_pairs(pos, 4.0, batch, 3)


def test_loops_that_fail_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    few = pytest.importorskip("pyg_schnet.graph.numba_few")
    pos, batch = structures(9, torch.float32)
    expected = neighbor_pairs(pos, 4.0, batch, 3)

    def failing(*_: object) -> None:
        raise RuntimeError("no machine code")

    monkeypatch.setattr(few, "search_all", failing)
    monkeypatch.setattr("pyg_schnet.graph.backends._FAILED", set())
    with pytest.warns(RuntimeWarning, match="numba failed .no machine code.; neighbors are searched without it"):
        found = neighbor_pairs(pos, 4.0, batch, 3)
    assert all(map(torch.equal, found, expected))


LATTICES = {
    "open": None,
    "crystal": 3.0 * torch.eye(3),
    "skewed": torch.tensor([[4.0, 0, 0], [1.5, 5, 0], [0.3, -1, 6]]),
}


def given(lattice: str, order: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor | None, dict]:
    """Positions, a graph that somebody has made, in some order, and the lattice."""
    pos, cell = 2.0 * torch.randn(17, 3, dtype=dtype), LATTICES[lattice]
    periodic = {} if cell is None else {"cell": cell.to(dtype)[None], "pbc": torch.ones(1, 3, dtype=torch.bool)}
    graph = radius_graph(pos, 4.0, **periodic)
    edges, number = torch.arange(graph.edge_index.size(1)), graph.edge_index.size(1)
    orders = {"sorted": edges, "drawn": torch.randperm(number), "backwards": edges.flip(0)}
    order_of_images = (graph.edge_index[1] * 17 + graph.edge_index[0]) * number - edges  # images the other way round
    chosen = (orders | {"images": order_of_images.argsort()})[order]
    shift = None if cell is None else graph.edge_shift[chosen]
    return pos, graph.edge_index[:, chosen], shift, periodic


@pytest.mark.parametrize("order", ["sorted", "drawn", "backwards", "images"])
@pytest.mark.parametrize("lattice", LATTICES)
def test_opposite_edges_of_any_graph(lattice: str, order: str) -> None:
    pytest.importorskip("numba")
    _, edge_index, edge_shift, _ = given(lattice, order)
    found = opposite_edges(edge_index, edge_shift, 17)
    assert found is not None
    pairs, edge_pair = found
    number = torch.arange(edge_index.size(1) // 2)
    assert torch.equal(edge_pair[pairs], number)
    assert torch.equal(edge_pair.bincount(), torch.full_like(number, 2))
    one, other = edge_pair.argsort(stable=True).view(-1, 2).T
    assert torch.equal(edge_index[:, one], edge_index[:, other].flip(0))
    assert edge_shift is None or torch.equal(edge_shift[one], -edge_shift[other])
    for missing in (0, 1, edge_index.size(1) // 2, edge_index.size(1) - 1):
        kept = torch.arange(edge_index.size(1)) != missing
        assert opposite_edges(edge_index[:, kept], None if edge_shift is None else edge_shift[kept], 17) is None


def test_images_far_away() -> None:
    """Target, source and image no longer fit one number."""
    pytest.importorskip("numba")
    _, edge_index, edge_shift, _ = given("crystal", "drawn")
    assert edge_shift is not None
    near, far = opposite_edges(edge_index, edge_shift, 17), opposite_edges(edge_index, 10**9 * edge_shift, 17)
    assert near is not None
    assert far is not None
    assert all(map(torch.equal, near, far))


@pytest.mark.parametrize(
    ("edge_index", "edge_shift"),
    [
        ([[0, 1, 2], [1, 2, 0]], None),  # a ring: as many edges to each atom as from it
        ([[0, 1, 2, 0], [1, 2, 0, 0]], None),
        ([[1, 0], [0, 1]], [[1, 0, 0], [1, 0, 0]]),
        ([[0, 0], [0, 0]], [[1, 0, 0], [0, -1, 0]]),
        ([[0, 0, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 0], [-1, 0, 0]]),  # an atom that is its own neighbour
        ([[1, 1, 0, 0], [0, 0, 1, 1]], [[0, 0, 1], [0, 0, 2], [0, 0, -1], [0, 0, -1]]),
    ],
)
def test_graphs_without_opposite_edges(edge_index: list, edge_shift: list | None) -> None:
    shift = None if edge_shift is None else torch.tensor(edge_shift)
    assert opposite_edges(torch.tensor(edge_index), shift, 3) is None


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("order", ["sorted", "drawn"])
@pytest.mark.parametrize("lattice", LATTICES)
def test_models_take_given_graphs_as_pairs(lattice: str, order: str, twice: bool) -> None:
    """Energies and forces are those of the edges one by one, with edges beyond the cutoff and edges given twice."""
    pos, edge_index, edge_shift, periodic = given(lattice, order)
    model = SchNet(8, 6, 2, 12, 3.1).double().eval()  # the graph reaches farther
    z, graph = torch.randint(1, 9, (17,)), {"cell": periodic.get("cell")}
    if twice:
        edge_index = edge_index.repeat(1, 2)
        edge_shift = None if edge_shift is None else edge_shift.repeat(2, 1)

    def computed() -> tuple[Tensor, Tensor]:
        atoms = pos.clone().requires_grad_()
        energy = model(z, atoms, edge_index=edge_index, edge_shift=edge_shift, **graph)
        return energy, torch.autograd.grad(energy.sum(), atoms)[0]

    found = computed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyg_schnet.models.edges.opposite_edges", lambda *_: None)
        expected = computed()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    if not twice:
        torch.testing.assert_close(found[0], model(z, pos, **periodic), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lattice", LATTICES)
def test_edges_within_the_cutoff_are_those_of_the_search(lattice: str, dtype: torch.dtype) -> None:
    pos, edge_index, edge_shift, periodic = given(lattice, "drawn", dtype)
    batch, cell = torch.zeros(17, dtype=torch.long), periodic.get("cell")
    near = within_cutoff(pos, edge_index, edge_shift, cell, batch, 2.5)
    expected = radius_graph(pos, 2.5, **periodic).edge_index
    assert torch.equal(edge_index[:, near].T.unique(dim=0), expected.T.unique(dim=0))
    assert int(near.sum()) == expected.size(1)
