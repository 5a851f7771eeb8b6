"""Models from PyG and back, and the papers' own networks as the oracle of the preset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn.models import SchNet as PyGSchNet

from pyg_schnet import Potential, SchNet
from pyg_schnet.models.convert import InteractionGraph, from_pyg, to_pyg

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mean": {"readout": "mean", "mean": -0.5, "std": 3.0},
    "mean without std": {"mean": -0.5},  # PyG then applies none of the two
    "atomref": {"atomref": torch.linspace(0, -9, 100).view(100, 1)},
    "all": {"mean": 2.0, "std": 0.1, "atomref": torch.linspace(0, -9, 100).view(100, 1)},
}
every_option = pytest.mark.parametrize("options", OPTIONS)
every_dtype = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])


def make_pyg(**options: Any) -> PyGSchNet:
    """A small SchNet of PyG with random weights and biases, references as given."""
    model = PyGSchNet(10, 7, 2, 16, cutoff=6.0, interaction_graph=InteractionGraph(6.0), **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("atomref"):
                parameter.uniform_(-0.5, 0.5)
    return model


def check_same(one: nn.Module, two: nn.Module, inputs: tuple[Tensor, Tensor, Tensor], tolerance: float) -> None:
    """Equal properties and gradients, relative to the largest: the same sums in another order."""
    results = []
    for model in (one, two):
        pos = inputs[1].clone().requires_grad_()
        y = model(inputs[0], pos, inputs[2])
        results.append((y.detach(), torch.autograd.grad(y.sum(), pos)[0]))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@every_dtype
@every_option
def test_from_pyg_and_back(options: str, dtype: torch.dtype, tolerance: float, molecules: Any) -> None:
    theirs = make_pyg(**OPTIONS[options]).to(dtype)
    inputs = (molecules.z, molecules.pos.to(dtype), molecules.batch)
    ours = from_pyg(theirs)
    check_same(ours, theirs, inputs, tolerance)
    again = to_pyg(ours)
    check_same(again, theirs, inputs, tolerance)
    state = again.state_dict()
    for name, value in theirs.state_dict().items():
        if name != "initial_atomref":
            assert torch.equal(state[name], value), name


@every_dtype
@pytest.mark.parametrize("options", [{}, {"mean": -2.0, "std": 0.5, "readout": "mean"}], ids=str)
def test_to_pyg(options: dict, dtype: torch.dtype, tolerance: float, molecules: Any, scramble: Callable) -> None:
    sizes = {"hidden_channels": 10, "num_filters": 7, "num_interactions": 2, "num_gaussians": 16}
    ours = scramble(SchNet.preset("pyg", **sizes, **options)).to(dtype)
    check_same(ours, to_pyg(ours), (molecules.z, molecules.pos.to(dtype), molecules.batch), tolerance)


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_kept_and_weights_are_copies(training: bool) -> None:
    theirs = make_pyg().train(training)
    ours = from_pyg(theirs)
    again = to_pyg(ours)
    assert ours.training is again.training is training
    with torch.no_grad():
        for model in (theirs, again):
            for parameter in model.parameters():
                parameter.zero_()
    assert all(parameter.any() for parameter in ours.parameters())


def test_a_basis_of_another_width_is_kept(molecules: Any, scramble: Callable) -> None:
    ours = scramble(SchNet.preset("pyg", hidden_channels=10, num_interactions=1, gamma=3.0)).double()
    theirs = to_pyg(ours)
    check_same(ours, theirs, tuple(molecules), 1e-12)
    assert from_pyg(theirs).config["gamma"] == 3.0


def test_graph_for_pyg_is_complete() -> None:
    """PyG's own graph keeps 32 neighbours of an atom and needs a compiled package."""
    pos = torch.rand(50, 3, dtype=torch.float64)
    edge_index, distance = InteractionGraph(10.0)(pos, torch.zeros(50, dtype=torch.long))
    assert edge_index.shape == (2, 50 * 49)
    expected = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")[edge_index[0], edge_index[1]]
    torch.testing.assert_close(distance, expected, rtol=1e-14, atol=0)  # order of three summands


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "`model` must be a torch_geometric.nn.models.SchNet, got Linear"),
        (SchNet(8, 8, 1), TypeError, "`model` must be a torch_geometric.nn.models.SchNet, got SchNet"),
        (make_pyg(readout="max"), ValueError, "readout"),
    ],
)
def test_what_is_no_scalar_schnet_of_pyg_is_refused(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_pyg(model)


@pytest.mark.parametrize(("name", "value"), [("dipole", True), ("scale", 2.0)])
def test_dipole_and_scale_are_refused(name: str, value: Any) -> None:
    model = make_pyg()
    setattr(model, name, value)
    with pytest.raises(ValueError, match="`dipole=True` or a `scale` cannot be converted; expected a model of a scal"):
        from_pyg(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff_function": None}, "cutoff_function=None"),
        ({"activate_last": True}, "activate_last=True"),
        ({"max_z": 118}, "max_z=118"),
        ({"act": "ssp"}, "act='ssp'"),  # PyG's ln 2 is a float32 number: energies would differ by 1e-9
    ],
)
def test_what_pyg_cannot_express_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"PyG's SchNet has .*; got a model with .*{message}"):
        to_pyg(SchNet.preset("pyg", num_interactions=1, **changes))


# --- the networks of the paper ---


def papers_network(arrays: dict[str, np.ndarray]) -> SchNet:
    """The preset with the weights of a trained network of the authors' TensorFlow code, whose W is [in, out]."""
    model = SchNet.preset("jcp2018", hidden_channels=128, num_filters=128).double()
    names = {"output.lin1": "Dense", "output.lin2": "Dense_1"}
    for i in range(6):
        inside = {"conv.nn.0": "SchNetFilter/Dense", "conv.nn.2": "SchNetFilter/Dense_1", "lin": "Dense"}
        inside |= {"conv.lin1": "CFConv/in2fac", "conv.lin2": "CFConv/fac2out"}
        names |= {f"interactions.{i}.{ours}": f"interaction_{i}/{theirs}" for ours, theirs in inside.items()}
    with torch.no_grad():
        for ours, theirs in names.items():
            layer = model.get_submodule(ours)
            layer.weight.copy_(torch.from_numpy(arrays[f"{theirs}/W"]).t())
            if layer.bias is not None:
                layer.bias.copy_(torch.from_numpy(arrays[f"{theirs}/b"]))
        model.embedding.weight[:100] = torch.from_numpy(arrays["atom_embedding/embeddings/W"]).double()
    model.basis.offset.copy_(torch.linspace(0, 20, 200, dtype=torch.float64))
    model.reference.set(float(arrays["mean_per_atom"][0]), float(arrays["std_per_atom"][0]))
    return model.eval()


@pytest.mark.parametrize("name", ["energy_model", "force_model"])
def test_preset_is_the_network_of_the_paper(name: str, real_data: Path) -> None:
    """Energies and forces of the authors' C20 networks at two geometries, from an independent evaluation."""
    arrays, reference = (dict(np.load(real_data / "c20" / f"{file}.npz")) for file in (name, "reference"))
    assert not arrays["atomref/embeddings/W"].any()
    z, offset = torch.from_numpy(reference["numbers"]), 20 * float(arrays["mean_per_atom"][0])
    potential = Potential(papers_network(arrays))
    for i in range(2):
        out = potential(z, torch.from_numpy(reference["positions"][i]))
        energy, forces = reference[f"{name}_energy"][i], reference[f"{name}_forces"][i]
        # without the mean of -4.8e5, of whose 16 digits eps leaves 6e-11, 2e-12 of the rest
        assert out["energy"].item() - offset == pytest.approx(energy - offset, rel=1e-11)
        # the reference differs from us by 4e-11 of the largest force, its own error
        np.testing.assert_allclose(out["forces"], forces, rtol=0, atol=1e-10 * np.abs(forces).max())
