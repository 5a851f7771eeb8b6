"""Models from PyG and back, with PyG's own as the oracle."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.data
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn.models import SchNet as PyGSchNet

from pyg_schnet import SchNet
from pyg_schnet.convert import InteractionGraph, from_pyg, to_pyg

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mean": {"readout": "mean", "mean": -0.5, "std": 3.0},
    "mean without std": {"mean": -0.5},  # PyG then applies none of the two
    "atomref": {"atomref": torch.linspace(0, -9, 100).view(100, 1)},
    "all": {"mean": 2.0, "std": 0.1, "atomref": torch.linspace(0, -9, 100).view(100, 1)},
    "max": {"readout": "max", "mean": 2.0, "std": 0.1},
    "min": {"readout": "min", "mean": 2.0, "std": 0.1},
    "median": {"readout": "median", "mean": 2.0, "std": 0.1},
    "mul": {"readout": "mul"},
    "dipole": {"dipole": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def make_pyg(**options: Any) -> PyGSchNet:
    """A small SchNet of PyG with random weights and biases, references as given."""
    model = PyGSchNet(10, 7, 2, 16, cutoff=6.0, interaction_graph=InteractionGraph(6.0), **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("atomref"):
                parameter.uniform_(-0.5, 0.5)
    return model


Check = Callable[[nn.Module, nn.Module, tuple[Tensor, Tensor, Tensor]], None]


@pytest.fixture
def check_same(within_rounding: Callable) -> Check:
    """Function that checks that properties and gradients of one model are, but for rounding, those of another."""

    def results(model: nn.Module, z: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        pos = pos.clone().requires_grad_()
        y = model(z, pos, batch)
        return y, torch.autograd.grad(y.sum(), pos)[0]

    def check_same(one: nn.Module, two: nn.Module, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
        z, pos, batch = inputs
        wide = copy.deepcopy(two).double(), z, pos.double(), batch
        for model in (one, two):
            within_rounding(results(model, z, pos, batch), lambda: results(*wide))

    return check_same


@every_dtype
@every_option
def test_from_pyg_and_back(options: str, dtype: torch.dtype, molecules: Any, check_same: Check) -> None:
    theirs = make_pyg(**OPTIONS[options]).to(dtype)
    inputs = (molecules.z, molecules.pos.to(dtype), molecules.batch)
    ours = from_pyg(theirs)
    check_same(ours, theirs, inputs)
    again = to_pyg(ours)
    check_same(again, theirs, inputs)
    state = again.state_dict()
    for name, value in theirs.state_dict().items():
        if name != "initial_atomref":
            assert torch.equal(state[name], value), name


@every_dtype
@pytest.mark.parametrize("options", [{}, {"mean": -2.0, "std": 0.5, "readout": "mean"}], ids=str)
def test_to_pyg(options: dict, dtype: torch.dtype, molecules: Any, check_same: Check, scramble: Callable) -> None:
    sizes = {"hidden_channels": 10, "num_filters": 7, "num_interactions": 2, "num_gaussians": 16}
    ours = scramble(SchNet.preset("pyg", **sizes, **options)).to(dtype)
    check_same(ours, to_pyg(ours), (molecules.z, molecules.pos.to(dtype), molecules.batch))


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


def test_a_basis_of_another_width_is_kept(molecules: Any, scramble: Callable, check_same: Check) -> None:
    ours = scramble(SchNet.preset("pyg", hidden_channels=10, num_interactions=1, gamma=3.0)).double()
    theirs = to_pyg(ours)
    check_same(ours, theirs, tuple(molecules))
    assert from_pyg(theirs).config["gamma"] == 3.0


def test_graph_for_pyg_is_complete() -> None:
    """PyG's own graph keeps 32 neighbours of an atom and needs a compiled package."""
    pos = torch.rand(50, 3, dtype=torch.float64)
    edge_index, distance = InteractionGraph(10.0)(pos, torch.zeros(50, dtype=torch.long))
    assert edge_index.shape == (2, 50 * 49)
    expected = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")[edge_index[0], edge_index[1]]
    torch.testing.assert_close(distance, expected, rtol=1e-14, atol=0)  # order of three summands


@every_dtype
@every_option
def test_from_state_dict(options: str, dtype: torch.dtype, molecules: Any, check_same: Check) -> None:
    theirs = make_pyg(**OPTIONS[options]).to(dtype)
    told = {name: value for name, value in OPTIONS[options].items() if name not in {"atomref", "dipole"}}
    ours = from_pyg(theirs.state_dict(), **told)
    check_same(ours, theirs, (molecules.z, molecules.pos.to(dtype), molecules.batch))
    assert not ours.training


def test_cutoff_of_a_state_dict_is_the_number_that_was_given(molecules: Any, check_same: Check) -> None:
    """PyG keeps it as the last centre in float32; its cosine has the number itself."""
    theirs = PyGSchNet(10, 7, 1, 16, cutoff=4.7, interaction_graph=InteractionGraph(4.7)).double()
    ours = from_pyg(theirs.state_dict())
    assert ours.config["cutoff"] == 4.7
    check_same(ours, theirs, tuple(molecules))


@every_dtype
@pytest.mark.parametrize("options", [{}, {"mean": -2.0, "std": 0.5, "atomref": torch.ones(100, 1)}], ids=str)
def test_scale_becomes_part_of_the_references(
    options: dict, dtype: torch.dtype, molecules: Any, check_same: Check
) -> None:
    theirs = make_pyg(**options).to(dtype)
    theirs.scale = 2.5
    inputs = (molecules.z, molecules.pos.to(dtype), molecules.batch)
    check_same(from_pyg(theirs), theirs, inputs)


def test_shared_blocks_become_copies(molecules: Any, scramble: Callable, check_same: Check) -> None:
    sizes = {"hidden_channels": 10, "num_interactions": 3, "shared_interactions": True}
    ours = scramble(SchNet.preset("pyg", **sizes)).double()
    check_same(to_pyg(ours), ours, tuple(molecules))


# --- bad input ---


@pytest.mark.parametrize("model", [nn.Linear(2, 2), SchNet(8, 8, 1)])
def test_another_kind_of_model_is_refused(model: Any) -> None:
    with pytest.raises(
        TypeError, match="must be a torch_geometric.nn.models.SchNet, its state dict or a file of it, got"
    ):
        from_pyg(model)


def test_what_a_model_tells_itself_is_not_given() -> None:
    with pytest.raises(TypeError, match="go with a state dict"):
        from_pyg(make_pyg(), mean=1.0)
    with pytest.raises(TypeError, match="`model` must be a pyg_schnet.SchNet, got Linear"):
        to_pyg(nn.Linear(2, 2))


def test_dipole_with_a_scale_and_references_that_do_not_count(molecules: Any, check_same: Check) -> None:
    """PyG applies no mean, standard deviation and single-atom value to a dipole moment, but a scale."""
    theirs = make_pyg(dipole=True, mean=2.0, std=0.5, atomref=torch.linspace(0, -9, 100).view(100, 1)).double()
    theirs.scale = 4.8
    ours = from_pyg(theirs)
    check_same(ours, theirs, tuple(molecules))
    check_same(to_pyg(ours), theirs, tuple(molecules))
    assert torch.equal(from_pyg(make_pyg(dipole=True).state_dict()).readout.masses, theirs.atomic_mass.float())


def test_masses_of_ase_stay_what_they_are() -> None:
    """PyG's masses are in the memory of ASE's, which all calculations of a process share."""
    before = ase.data.atomic_masses.copy()
    theirs = make_pyg(dipole=True).double()
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    state["atomic_mass"] *= 2
    ours = from_pyg(state)
    back = to_pyg(ours)
    np.testing.assert_array_equal(ase.data.atomic_masses, before)
    for masses in (ours.readout.masses, back.atomic_mass):
        assert masses.tolist() == (2 * before).tolist()
    back.load_state_dict(state | {"atomic_mass": 3 * state["atomic_mass"]})
    np.testing.assert_array_equal(ase.data.atomic_masses, before)


@every_dtype
def test_references_that_were_trained_are_read_from_a_state_dict(dtype: torch.dtype) -> None:
    """Beside those before training, which PyG keeps in the memory of what it was given."""
    theirs = make_pyg(**OPTIONS["atomref"]).to(dtype)
    with torch.no_grad():
        theirs.atomref.weight += 1
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    ours = from_pyg(state)
    for name, value in theirs.state_dict().items():
        assert torch.equal(state[name], value)
    assert torch.equal(ours.reference.atomref, theirs.atomref.weight.double())
    back = to_pyg(ours)
    back.initial_atomref.zero_()
    assert torch.equal(ours.reference.atomref, theirs.atomref.weight.double())


def test_neutral_dipole_is_not_that_of_pyg() -> None:
    with pytest.raises(ValueError, match="got a model with readout='dipole_magnitude'"):
        to_pyg(SchNet.preset("pyg", num_interactions=1, readout="dipole_magnitude"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "var"}, "`readout` must be one of 'add', 'mean', .* to be converted, got VarAggregation"),
        ({"readout": "max", "atomref": torch.ones(100, 1)}, "expected a readout 'add' or 'mean' .* got 'max'"),
        ({"readout": "mul", "mean": 1.0, "std": 1.0}, "expected a readout 'add' or 'mean' .* got 'mul'"),
    ],
)
def test_readouts_that_do_not_commute_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_pyg(make_pyg(**options))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embedding.weight", None, r"expected 'embedding\.weight' of PyG's SchNet, got 'distance_expansion\.offset', "),
        ("distance_expansion.offset", None, r"expected 'distance_expansion\.offset' of PyG's SchNet"),
        (
            "lin1.weight",
            None,
            r'expected the state dict of PyG\'s SchNet: Missing key\(s\) in state_dict: "lin1.weight"',
        ),
        ("lin2.bias", torch.ones(2), r"expected the state dict of PyG's SchNet: size mismatch for lin2\.bias"),
        ("interactions.0.mlp.0.weight", torch.ones(2), r"with two dimensions, got shape \[2\]"),
    ],
)
def test_missing_and_misshapen_weights(name: str, value: Tensor | None, message: str) -> None:
    state = make_pyg().state_dict()
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(ValueError, match=message):
        from_pyg(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff_function": None}, "cutoff_function=None"),
        ({"activate_last": True}, "activate_last=True"),
        ({"max_z": 118}, "max_z=118"),
        ({"basis": "bessel"}, "basis='bessel'"),
        ({"trainable_basis": True}, "trainable_basis=True"),
        ({"output_act": "silu"}, "output_act='silu'"),
        ({"normalization": "mean"}, "normalization='mean'"),
        ({"out_channels": 2}, "out_channels=2"),
        ({"readout": "set2set"}, "readout='set2set'"),
        ({"act": "ssp"}, "act='ssp'"),  # PyG's ln 2 is a float32 number: energies would differ by 1e-9
    ],
)
def test_what_pyg_cannot_express_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"PyG's SchNet has .*; got a model with .*{message}"):
        to_pyg(SchNet.preset("pyg", num_interactions=1, **changes))


# --- files ---


def theirs_in(kind: str, model: PyGSchNet, path: Path) -> None:
    state = model.state_dict()
    torch.save(
        {
            "state": state,
            "model": model,
            "checkpoint": {"epoch": 3, "model_state_dict": state},
            "lightning": {"state_dict": {f"net.{name}": value for name, value in state.items()}},
            "parallel": {f"module.{name}": value for name, value in state.items()},
            "wrapped": torch.nn.ModuleDict({"net": model}),
        }[kind],
        path,
    )


@pytest.mark.parametrize("kind", ["state", "model", "checkpoint", "lightning", "parallel", "wrapped"])
def test_files_that_pyg_users_write(kind: str, molecules: Any, tmp_path: Path) -> None:
    path = tmp_path / "schnet.pt"
    theirs = PyGSchNet(16, 16, 2, 12, 4.7, InteractionGraph(4.7)).double()
    theirs_in(kind, theirs, path)
    for one in (path, str(path)):
        assert torch.allclose(from_pyg(one)(*molecules), theirs(*molecules), rtol=0, atol=1e-11)


def test_a_pickled_model_tells_its_readout_and_references(molecules: Any, tmp_path: Path) -> None:
    theirs = PyGSchNet(16, 16, 1, 12, 4.7, InteractionGraph(4.7), readout="mean", mean=-3.0, std=2.0).double()
    theirs.scale = 0.5
    torch.save(theirs, tmp_path / "schnet.pt")
    ours = from_pyg(tmp_path / "schnet.pt")
    assert torch.allclose(ours(*molecules), theirs(*molecules), rtol=0, atol=1e-11)
    assert ours.elements is None
    assert ours.trained_elsewhere
    with pytest.raises(TypeError, match="go with a state dict"):
        from_pyg(tmp_path / "schnet.pt", mean=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.complex64), "in torch.complex64; expected weights of one of"),
        (lambda value: value.to(torch.float8_e4m3fn), "in torch.float8_e4m3fn"),
        (lambda value: value.long(), "in torch.int64"),
        (lambda value: value * torch.nan, "values of lin1.weight that are not finite"),
    ],
)
def test_weights_that_are_none(change: Callable, message: str) -> None:
    state = PyGSchNet(16, 16, 1, 12).state_dict()
    with pytest.raises(ValueError, match=message):
        from_pyg(state | {"lin1.weight": change(state["lin1.weight"])})
    model = PyGSchNet(16, 16, 1, 12)
    if "finite" in message:
        model.load_state_dict(state | {"lin1.weight": change(state["lin1.weight"])})
        with pytest.raises(ValueError, match=message):
            from_pyg(model)


def test_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        from_pyg(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds list, expected PyG's SchNet or its state dict"):
        from_pyg(tmp_path / "list.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "linear.pt")
    with pytest.raises(ValueError, match=r"expected 'embedding.weight' of PyG's SchNet"):
        from_pyg(tmp_path / "linear.pt")
