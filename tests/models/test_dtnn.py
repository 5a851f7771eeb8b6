"""DTNN: the paper's equations atom by atom, laws of nature, the tensor layer in other models, learning."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import GATConv, Sequential

from pyg_schnet import CosineCutoff, Potential, load, radius_graph, save
from pyg_schnet.models import DTNN
from pyg_schnet.nn import TensorLayer
from tests.conftest import assert_forces_are_slopes

from .laws import assert_it_learns, assert_smooth_at_the_cutoff, cell_and_two_of_them

MakeModel = Callable[..., DTNN]
# laws of nature hold to the round-off of some thousand float64 operations on energies of order one to hundred
LAW = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def make_dtnn(scramble: Callable[[Any], Any]) -> MakeModel:
    """Function that makes a small DTNN in float64; every size is different."""

    def make(**options: Any) -> DTNN:
        sizes = {"hidden_channels": 10, "num_factors": 7, "num_interactions": 2, "num_gaussians": 24, "cutoff": 8.0}
        return scramble(DTNN(**(sizes | options))).double()

    return make


# --- the paper ---


def test_equations_of_the_paper_in_numpy(water: tuple[Tensor, Tensor], make_dtnn: MakeModel) -> None:
    model = make_dtnn(mean=-3.0, std=2.0, num_interactions=3)
    p = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    z, pos = (tensor.numpy() for tensor in water)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return p[name + ".weight"] @ x + p.get(name + ".bias", 0.0)

    c = [p["embedding.weight"][number] for number in z]
    for _ in range(3):
        change = []
        for i in range(3):
            total = np.zeros(10)
            for j in {0, 1, 2} - {i}:
                gaussians = np.exp(-12.5 * (np.linalg.norm(pos[i] - pos[j]) - p["basis.offset"]) ** 2)
                factors = linear(c[j], "interaction.lin_atom") * linear(gaussians, "interaction.lin_edge")
                total += np.tanh(p["interaction.lin_out.weight"] @ factors)
            change.append(total)
        c = [old + new for old, new in zip(c, change, strict=True)]
    energy = sum(2.0 * linear(np.tanh(linear(atom, "output.lin1")), "output.lin2") - 3.0 for atom in c)
    np.testing.assert_allclose(model(*water).detach(), energy[None], rtol=1e-12)  # round-off of some 1000 operations


def test_defaults_are_the_network_of_the_paper() -> None:
    model = DTNN()
    assert torch.equal(model.basis.offset, torch.linspace(0, 20, 100))
    assert model.basis.gamma == pytest.approx(0.5 / 0.2**2, rel=1e-15)
    assert (model.num_interactions, model.cutoff) == (3, 20.0)
    assert isinstance(model.output.act, nn.Tanh)
    tensor_layer = 31 * 60 + 101 * 60 + 60 * 30
    assert sum(parameter.numel() for parameter in model.parameters()) == 119 * 30 + tensor_layer + 31 * 15 + 16


@pytest.mark.parametrize("reset", [False, True])
def test_it_starts_as_the_authors_code(reset: bool, water: tuple[Tensor, Tensor]) -> None:
    model = DTNN(max_z=1000, mean=-2.0)
    if reset:
        model.reset_parameters()
    # 30 000 numbers: their standard deviation is known to half a percent
    assert model.embedding.weight.std().item() == pytest.approx(30**-0.25, rel=0.02)
    assert not model.interaction.lin_out.weight.any()
    assert model(water[0], water[1].float()).item() == -6.0  # the references


# --- laws of nature ---


@pytest.mark.parametrize("cutoff_function", [None, "cosine"])
def test_forces_are_the_slope_of_the_energy(cutoff_function: str | None, molecules: Any, make_dtnn: MakeModel) -> None:
    potential = Potential(make_dtnn(cutoff_function=cutoff_function)).eval()
    # third derivatives of order 100 (Gaussians 0.2 Angstrom wide)
    assert_forces_are_slopes(potential, molecules, [(0, 0), (4, 1), (15, 2)], abs=2e-5)
    forces = potential(*molecules)["forces"]
    assert forces.abs().max() > 1e-2
    assert forces.sum(0).abs().max() < 1e-10


def test_energy_is_constant_beyond_the_cutoff_and_smooth_at_it(make_dtnn: MakeModel) -> None:
    assert_smooth_at_the_cutoff(make_dtnn(cutoff=4.0, cutoff_function="cosine"))


def test_a_supercell_has_the_energy_of_its_cells(make_dtnn: MakeModel) -> None:
    model = make_dtnn(cutoff=4.0)
    single, together = cell_and_two_of_them(model)
    torch.testing.assert_close(together, 2 * single, **LAW)


# --- learning, files ---


def test_it_learns(molecules: Any) -> None:
    assert_it_learns(DTNN(hidden_channels=12, num_factors=16, cutoff=8.0, num_gaussians=40), molecules)


def test_file(molecules: Any, make_dtnn: MakeModel, tmp_path: Path) -> None:
    model = make_dtnn(mean=-2.5, cutoff_function="mollifier", gamma=None, out_channels=2)
    save(model, tmp_path / "dtnn.safetensors")
    other = load(tmp_path / "dtnn.safetensors")
    assert isinstance(other, DTNN)
    assert other.config == model.config
    assert torch.equal(other(*molecules), model(*molecules))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_factors": 0}, "`num_factors` must be at least 1, got 0"),
        ({"num_interactions": 0}, "`num_interactions` must be at least 1, got 0"),
        ({"num_gaussians": 1}, "`num_gaussians` must be at least 2, got 1"),
        ({"cutoff": -1.0}, "`cutoff` must be positive, got -1.0"),
        ({"gamma": 0.0}, "`gamma` must be positive, got 0.0"),
        ({"cutoff_function": "hard"}, "`cutoff_function` must be one of 'cosine', .*, got 'hard'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DTNN(**arguments)


# --- the tensor layer by itself ---


def layer_inputs(molecules: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    edge_index = radius_graph(molecules.pos, 5.0, molecules.batch).edge_index
    distance = (molecules.pos[edge_index[0]] - molecules.pos[edge_index[1]]).norm(dim=1)
    features = torch.randn(len(molecules.z), 5, dtype=torch.float64)
    return features, edge_index, distance, torch.rand(len(distance), 6, dtype=torch.float64)


@pytest.mark.parametrize("cutoff", [None, 4.0])
def test_layer_by_hand(cutoff: float | None, molecules: Any, scramble: Any) -> None:
    layer = scramble(TensorLayer(5, 7, 6, cutoff)).double()
    x, edge_index, distance, edge_attr = layer_inputs(molecules)
    expected = torch.zeros_like(x)
    for (j, i), d, e in zip(edge_index.T.tolist(), distance, edge_attr, strict=True):
        factor = layer.lin_edge(e) * (1 if cutoff is None else CosineCutoff(cutoff)(d))
        expected[i] += torch.tanh(layer.lin_out.weight @ (layer.lin_atom(x[j]) * factor))
    # sums of tens of terms
    torch.testing.assert_close(layer(x, edge_index, distance, edge_attr), expected, rtol=1e-12, atol=1e-12)


def test_layer_takes_distances_by_pair(molecules: Any, scramble: Any) -> None:
    layer = scramble(TensorLayer(5, 7, 6, 4.0)).double()
    x, edge_index, distance, edge_attr = layer_inputs(molecules)
    pair = torch.randint(0, 9, distance.shape)
    expected = layer(x, edge_index, distance[pair], edge_attr[pair])
    torch.testing.assert_close(
        layer(x, edge_index, distance[:9], edge_attr[:9], pair), expected, rtol=1e-13, atol=1e-13
    )


def test_layer_in_a_model_of_pyg(molecules: Any) -> None:
    call = "x, edge_index, edge_weight, edge_attr"
    model = Sequential(call, [(GATConv(5, 8), "x, edge_index -> x"), (TensorLayer(8, 4, 6), f"{call} -> x")]).double()
    assert model(*layer_inputs(molecules)).shape == (16, 8)


def test_explainer_masks_edges(molecules: Any, scramble: Any) -> None:
    """A mask of minus infinity removes an edge."""
    layer = scramble(TensorLayer(5, 7, 6)).double()
    x, edge_index, distance, edge_attr = layer_inputs(molecules)
    mask = nn.Parameter(torch.full(distance.shape, torch.inf, dtype=torch.float64))
    with torch.no_grad():
        mask[:20] = -torch.inf
    set_masks(layer, mask, edge_index, apply_sigmoid=True)
    masked = layer(x, edge_index, distance, edge_attr)
    clear_masks(layer)
    torch.testing.assert_close(masked, layer(x, edge_index[:, 20:], distance[20:], edge_attr[20:]), **LAW)


@pytest.mark.parametrize("zero_output", [False, True])
def test_layer_reset(zero_output: bool) -> None:
    layer = TensorLayer(5, 7, 6, zero_output=zero_output)
    nn.init.ones_(layer.lin_out.weight)
    layer.reset_parameters()
    assert bool(layer.lin_out.weight.any()) is not zero_output


@pytest.mark.parametrize("atoms", [0, 1])
def test_layer_without_edges(atoms: int) -> None:
    layer = TensorLayer(5, 7, 6, 4.0)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    assert torch.equal(layer(torch.ones(atoms, 5), nothing, torch.zeros(0), torch.zeros(0, 6)), torch.zeros(atoms, 5))
