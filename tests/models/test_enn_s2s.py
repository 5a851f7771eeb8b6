"""enn-s2s: the paper's equations atom by atom, laws of nature, learning."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import NNConv
from torch_geometric.nn.aggr import Set2Set

from pyg_schnet import Potential, load, save
from pyg_schnet.models import EnnS2S
from pyg_schnet.models.enn_s2s import EdgeMatrixConv, EdgeNetwork
from tests.conftest import assert_forces_are_slopes

from .laws import assert_it_learns, assert_smooth_at_the_cutoff, cell_and_two_of_them

MakeModel = Callable[..., EnnS2S]
Arrays = dict[str, np.ndarray]
# laws of nature hold to the round-off of some thousand float64 operations on energies of order one to hundred
LAW = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def make_enn(scramble: Callable[[Any], Any]) -> MakeModel:
    """Function that makes a small enn-s2s in float64; every size is different."""

    def make(**options: Any) -> EnnS2S:
        sizes = {"hidden_channels": 6, "edge_channels": 5, "num_interactions": 2, "num_gaussians": 9, "cutoff": 8.0}
        return scramble(EnnS2S(**(sizes | options))).double()

    return make


# --- the paper ---


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gated_unit(p: Arrays, message: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Cho et al., EMNLP 2014; torch applies the reset gate after the matrix."""
    of_message = np.split(p["gru.weight_ih"] @ message + p["gru.bias_ih"], 3)
    of_state = np.split(p["gru.weight_hh"] @ h + p["gru.bias_hh"], 3)
    reset, update = (sigmoid(a + b) for a, b in list(zip(of_message, of_state, strict=True))[:2])
    new = np.tanh(of_message[2] + reset * of_state[2])
    return (1 - update) * new + update * h


def set2set(p: Arrays, atoms: np.ndarray, steps: int) -> np.ndarray:
    """Vinyals et al., ICLR 2016, section 4.2, without input."""
    q_star, h, c = np.zeros(2 * atoms.shape[1]), np.zeros(atoms.shape[1]), np.zeros(atoms.shape[1])
    p = {name.removeprefix("readout.aggr.lstm."): value for name, value in p.items()}
    for _ in range(steps):
        gates = p["weight_ih_l0"] @ q_star + p["bias_ih_l0"] + p["weight_hh_l0"] @ h + p["bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        attention = np.exp(atoms @ h)
        q_star = np.concatenate([h, attention / attention.sum() @ atoms])
    return q_star


@pytest.mark.parametrize("num_gaussians", [0, 9])
def test_equations_of_the_paper_in_numpy(num_gaussians: int, molecules: Any, make_enn: MakeModel) -> None:
    model = make_enn(num_gaussians=num_gaussians, edge_layers=2, mean=-3.0, std=2.0)
    p = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    z, pos = (tensor.numpy() for tensor in molecules.split()[1])
    atoms = range(len(z))

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return p[name + ".weight"] @ x + p.get(name + ".bias", 0.0)

    def matrix(i: int, j: int) -> np.ndarray:
        d = np.linalg.norm(pos[i] - pos[j])
        gaussians = np.exp(-0.5 * (d - p["basis.offset"]) ** 2) if num_gaussians else []  # 1 Angstrom apart
        hidden = silu(linear(np.concatenate([[0.1 * d], gaussians]), "conv.nn.0"))
        return linear(silu(linear(hidden, "conv.nn.2")), "conv.nn.4").reshape(6, 6).T

    start = h = p["embedding.weight"][z]
    for _ in range(2):
        messages = [sum(matrix(i, j) @ h[j] for j in atoms if j != i) for i in atoms]
        h = np.stack([gated_unit(p, message, old) for message, old in zip(messages, h, strict=True)])
    projected = np.concatenate([h, start], axis=1) @ p["projection.weight"].T
    y = linear(silu(linear(set2set(p, projected, 12), "output.lin1")), "output.lin2")
    ours = model(*molecules.split()[1]).detach()
    np.testing.assert_allclose(ours, 2.0 * y[None] - 3.0, rtol=1e-12)  # round-off of some 1000 operations


def test_defaults() -> None:
    model = EnnS2S()
    assert isinstance(model.readout.aggr, Set2Set)
    assert model.readout.aggr.processing_steps == 12
    assert EnnS2S(readout="add").config["readout_options"] is None
    spacing = model.basis.offset.diff().mean().item()
    assert spacing == pytest.approx(0.4, rel=0.03)  # as the docstring says


@pytest.mark.parametrize("shared", [False, True])
def test_convolution_is_that_of_pyg(shared: bool, scramble: Callable[[Any], Any]) -> None:
    """Values and gradients, with edges in any order, several from one atom, and atoms without any."""
    network = scramble(EdgeNetwork(3, 4, 25, 2, nn.SiLU())).double()
    ours, theirs = EdgeMatrixConv(5, network), NNConv(5, 5, network, root_weight=False, bias=False)
    edge_index = torch.tensor([[0, 2, 1, 1, 0, 3, 2], [2, 0, 0, 0, 3, 0, 4]])
    edge_pair = torch.tensor([0, 0, 1, 2, 3, 3, 1]) if shared else None
    edge_attr = torch.randn(4 if shared else 7, 3, dtype=torch.float64, requires_grad=True)
    factor = torch.rand(len(edge_attr), dtype=torch.float64)
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(7) if edge_pair is None else edge_pair
    network_times_factor = network(edge_attr)[rows] * factor[rows, None]
    theirs.nn = nn.Identity()
    results = []
    for y in (
        ours(x, ours.neighbors(edge_index, edge_attr, 6, factor, edge_pair)),
        theirs(x, edge_index, network_times_factor),
    ):
        gradients = torch.autograd.grad(y.square().sum(), [x, edge_attr, *network.parameters()])
        results.append([y, *gradients])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)  # tens of terms in another order


# --- laws of nature ---


@pytest.mark.parametrize("readout", ["set2set", "add"])
@pytest.mark.parametrize("cutoff_function", [None, "cosine"])
def test_forces_are_the_slope_of_the_energy(
    readout: str, cutoff_function: str | None, molecules: Any, make_enn: MakeModel
) -> None:
    potential = Potential(make_enn(readout=readout, cutoff_function=cutoff_function)).eval()
    # third derivatives of order one
    assert_forces_are_slopes(potential, molecules, [(0, 0), (4, 1), (15, 2)], abs=1e-7)
    forces = potential(*molecules)["forces"]
    assert forces.abs().max() > 1e-4
    assert forces.sum(0).abs().max() < 1e-10


def test_energy_is_constant_beyond_the_cutoff_and_smooth_at_it(make_enn: MakeModel) -> None:
    assert_smooth_at_the_cutoff(make_enn(cutoff=4.0, cutoff_function="cosine"))


@pytest.mark.parametrize(("readout", "factor"), [("add", 2.0), ("set2set", 1.0)])
def test_a_supercell_is_made_of_its_cells(readout: str, factor: float, make_enn: MakeModel) -> None:
    """Sums are extensive; the attention of set2set sees the same atoms twice, which is the same mean."""
    model = make_enn(cutoff=4.0, readout=readout)
    single, together = cell_and_two_of_them(model)
    torch.testing.assert_close(together, factor * single, **LAW)


# --- learning, files ---


def test_it_learns(molecules: Any) -> None:
    assert_it_learns(EnnS2S(12, 12, num_gaussians=16, cutoff=8.0, readout_options={"processing_steps": 3}), molecules)


def test_file(molecules: Any, make_enn: MakeModel, tmp_path: Path) -> None:
    model = make_enn(mean=-2.5, cutoff_function="polynomial", out_channels=2, act="ssp", edge_layers=3)
    save(model, tmp_path / "enn.safetensors")
    other = load(tmp_path / "enn.safetensors")
    assert isinstance(other, EnnS2S)
    assert other.config == model.config
    assert torch.equal(other(*molecules), model(*molecules))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edge_channels": 0}, "`edge_channels` must be at least 1, got 0"),
        ({"edge_layers": 0}, "`edge_layers` must be at least 1, got 0"),
        ({"num_interactions": 0}, "`num_interactions` must be at least 1, got 0"),
        ({"num_gaussians": 1}, "`num_gaussians` must be at least 2, got 1"),
        ({"num_gaussians": -1}, "`num_gaussians` must be at least 2, got -1"),
        ({"num_gaussians": 0, "gamma": 2.0}, "`gamma` is the width of Gaussians, but `num_gaussians` is 0"),
        ({"cutoff": 0.0}, "`cutoff` must be positive, got 0.0"),
        ({"act": "relu"}, "`act` must be one of .*, got 'relu'"),
        ({"cutoff_function": "hard"}, "`cutoff_function` must be one of 'cosine', .*, got 'hard'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnnS2S(**arguments)
