"""The graph as a transform: on one structure, collated, cached."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.transforms import RadiusGraph


@pytest.mark.parametrize("cutoff", [1.5, 5.0])
def test_writes_the_radius_graph(cutoff: float, molecules: Any) -> None:
    for data in molecules.data():
        graph = radius_graph(data.pos, cutoff)
        out = RadiusGraph(cutoff)(data)
        assert torch.equal(out.edge_index, graph.edge_index)
        assert torch.equal(out.edge_shift, graph.edge_shift)
        assert torch.equal(out.pos, data.pos)
        assert set(out.keys()) == {"z", "pos", "edge_index", "edge_shift", "edge_cutoff"}


def test_leaves_the_structure_it_was_given_alone(molecules: Any) -> None:
    data = molecules.data()[0]
    RadiusGraph(5.0)(data)
    assert "edge_index" not in data


def test_replaces_bonds(water: Any) -> None:
    """And what was known of them."""
    data = Data(z=water[0], pos=water[1], edge_index=torch.tensor([[0], [1]]), edge_attr=torch.ones(1, 4))
    graph = RadiusGraph(5.0)(data)
    assert graph.edge_index.size(1) == 6
    assert graph.get("edge_attr") is None


def test_loader_collates_to_the_graph_of_the_batch(molecules: Any) -> None:
    data = [RadiusGraph(2.0)(part) for part in molecules.data()]
    (batch,) = DataLoader(data, batch_size=3)
    graph = radius_graph(molecules.pos, 2.0, molecules.batch)
    assert torch.equal(batch.edge_index, graph.edge_index)
    assert torch.equal(batch.edge_shift, graph.edge_shift)  # never incremented
    assert batch.edge_shift.dtype == torch.long


def test_batch_is_transformed_structure_by_structure(molecules: Any) -> None:
    out = RadiusGraph(2.0)(Batch.from_data_list(molecules.data()))
    assert torch.equal(out.edge_index, radius_graph(molecules.pos, 2.0, molecules.batch).edge_index)


@pytest.mark.parametrize("cutoff_function", ["cosine", None])
def test_cached_graph_gives_the_same_energies_and_forces(
    cutoff_function: str | None, molecules: Any, make_model: Callable[..., SchNet]
) -> None:
    potential = Potential(make_model(cutoff=2.5, cutoff_function=cutoff_function)).eval()
    expected = potential(*molecules)
    (batch,) = DataLoader([RadiusGraph(2.5)(part) for part in molecules.data()], batch_size=3)
    for name, value in potential(batch).items():
        # filters by edge, not by pair: matrix products of another shape
        torch.testing.assert_close(value, expected[name], rtol=1e-11, atol=1e-11)
    batch.edge_index, batch.edge_shift = batch.edge_index[:, :4], batch.edge_shift[:4]
    assert not torch.allclose(potential(batch)["energy"], expected["energy"])  # the cached graph is the one used


@pytest.mark.parametrize("atoms", [0, 1])
def test_structures_without_edges(atoms: int) -> None:
    out = RadiusGraph(2.0)(Data(z=torch.ones(atoms).long(), pos=torch.zeros(atoms, 3)))
    assert (out.edge_index.shape, out.edge_shift.shape) == ((2, 0), (0, 3))


def test_in_a_chain_and_printed() -> None:
    transform = Compose([RadiusGraph(1.5), RadiusGraph(cutoff=5.0)])
    out = transform(Data(pos=torch.tensor([[0.0, 0, 0], [2.0, 0, 0]])))
    assert out.edge_index.tolist() == [[1, 0], [0, 1]]
    assert repr(RadiusGraph(5.0)) == "RadiusGraph(cutoff=5.0)"


@pytest.mark.parametrize(("cutoff", "error"), [(-1.0, ValueError), (0.0, ValueError), ("5", TypeError)])
def test_impossible_cutoff_is_refused_at_once(cutoff: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="`cutoff` must be"):
        RadiusGraph(cutoff)


def test_impossible_structures_are_refused() -> None:
    with pytest.raises(TypeError, match="`pos` must be a floating-point tensor"):
        RadiusGraph(2.0)(Data(z=torch.ones(2)))
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same place"):
        RadiusGraph(2.0)(Data(pos=torch.zeros(2, 3)))
