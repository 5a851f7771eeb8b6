"""Pairs as models ask for them, against the graph of plain PyTorch."""

import pytest
import torch
from torch import Tensor

from pyg_schnet import radius_graph
from pyg_schnet.graph import neighbor_pairs
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
