"""SchNetPack's models: an oracle written from its equations, its own classes where it is installed, and bad input."""

import math
import sys
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.convert import SchNetPackState, from_schnetpack, to_schnetpack

SIZES = {"hidden_channels": 10, "num_filters": 7, "num_interactions": 2, "num_gaussians": 16, "cutoff": 4.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "references": {"mean": -0.5, "std": 3.0, "atomref": torch.linspace(0, -9, 100)},
    "mean of atoms": {"readout": "mean", "mean": 2.0, "std": 0.1, "atomref": torch.linspace(0, -9, 100)},
    "mollifier": {"cutoff_function": "mollifier"},
    "bessel": {"basis": "bessel"},
    "trainable": {"trainable_basis": True},
    "shared": {"shared_interactions": True, "num_interactions": 3},
    "activations": {"act": "silu", "output_act": "tanh"},
    "targets": {"out_channels": 3},
    "elements": {"max_z": 20},
    "wide": {"gamma": 0.7, "output_act": "ssp-schnetpack"},
}
every_option = pytest.mark.parametrize("options", OPTIONS)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ssp-schnetpack": lambda x: nn.functional.softplus(x) - math.log(2.0),
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
Inputs = tuple[Tensor, Tensor, Tensor]


def make(scramble: Callable, **options: Any) -> SchNet:
    """A small SchNet like SchNetPack's in float64 with random weights."""
    model = SchNet.preset("schnetpack", **(SIZES | options))
    widths = model.basis.gamma if options.get("trainable_basis") else None
    scramble(model)
    if widths is not None:
        with torch.no_grad():
            widths.uniform_(0.5, 2.0)
            model.basis.offset.uniform_(0.0, 4.0)
    return model.double().eval()


class Oracle(nn.Module):
    """SchNetPack's SchNet on all pairs, from its state dict alone."""

    def __init__(self, state: dict[str, Tensor], version: int, readout: str, act: str, output_act: str) -> None:
        super().__init__()
        self.state, self.version, self.readout = state, version, readout
        self.act, self.output_act = ACTIVATIONS[act], ACTIVATIONS[output_act]

    def dense(self, name: str, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def expand(self, d: Tensor) -> Tensor:
        basis = "representation." + ("radial_basis" if self.version == 2 else "distance_expansion")
        if f"{basis}.freqs" in self.state:
            return torch.sin(d[:, None] * self.state[f"{basis}.freqs"]) / d[:, None]
        width = self.state[f"{basis}.{'widths' if self.version == 2 else 'width'}"]
        return torch.exp(-0.5 / width**2 * (d[:, None] - self.state[f"{basis}.offsets"]) ** 2)

    def envelope(self, d: Tensor) -> Tensor:
        name = "cutoff_fn" if self.version == 2 else "interactions.0.cutoff_network"
        cutoff = self.state[f"representation.{name}.cutoff"]
        if f"representation.{name}.eps" in self.state:
            return torch.exp(1 - 1 / (1 - (d / cutoff) ** 2))
        return 0.5 * (torch.cos(d * math.pi / cutoff) + 1)

    def interact(self, block: str, x: Tensor, i: Tensor, j: Tensor, w: Tensor) -> Tensor:
        names = ("in2f", "f2out.0", "f2out.1") if self.version == 2 else ("cfconv.in2f", "cfconv.f2out", "dense")
        v = self.dense(f"{block}.{names[0]}", x)
        v = torch.zeros_like(v).index_add(0, i, v[j] * w)
        return self.dense(f"{block}.{names[2]}", self.act(self.dense(f"{block}.{names[1]}", v)))

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        cutoff = next(value for name, value in self.state.items() if name.endswith(".cutoff"))
        near = (batch[:, None] == batch) & ~torch.eye(len(z), dtype=torch.bool)
        i, j = near.nonzero().t()
        d = (pos[j] - pos[i]).norm(dim=1)
        i, j, d = i[d < cutoff], j[d < cutoff], d[d < cutoff]
        x = self.state["representation.embedding.weight"][z]
        blocks = sorted({name.split(".")[2] for name in self.state if ".interactions." in name})
        for number in blocks:
            block = f"representation.interactions.{number}"
            w = self.dense(f"{block}.filter_network.0", self.expand(d))
            w = self.dense(f"{block}.filter_network.1", self.act(w)) * self.envelope(d)[:, None]
            x = x + self.interact(block, x, i, j, w)
        return self.read_out(x, z, batch)

    def read_out(self, x: Tensor, z: Tensor, batch: Tensor) -> Tensor:
        out = "output_modules.0." + ("outnet" if self.version == 2 else "out_net.1.out_net")
        y = self.dense(f"{out}.1", self.output_act(self.dense(f"{out}.0", x)))
        count = torch.bincount(batch).unsqueeze(1)
        if self.version == 1:
            y = y * self.state["output_modules.0.standardize.stddev"] + self.state["output_modules.0.standardize.mean"]
            y = y + self.state.get("output_modules.0.atomref.weight", torch.zeros(100, 1))[z]
        y = torch.zeros(len(count), y.size(1), dtype=y.dtype).index_add(0, batch, y)
        y = y / count if self.readout == "mean" else y
        y = y * self.state.get("postprocessors.1.scale", torch.ones(1))
        y = y + self.state.get("postprocessors.2.mean", torch.zeros(1)) * (1 if self.readout == "mean" else count)
        atomref = self.state.get("postprocessors.2.atomref", torch.zeros(100))[z, None]
        atomref = torch.zeros(len(count), 1, dtype=y.dtype).index_add(0, batch, atomref.to(y))
        return y + (atomref / count if self.readout == "mean" else atomref)


def results(model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    pos = inputs[1].clone().requires_grad_()
    y = model(inputs[0], pos, inputs[2])
    return y.detach(), torch.autograd.grad(y.sum(), pos)[0]


def check_same(one: nn.Module, two: nn.Module, inputs: Inputs, tolerance: float = 1e-13) -> None:
    """Equal properties and forces, relative to the largest: the same sums in another order."""
    for a, b in zip(results(one, inputs), results(two, inputs), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()


def oracle_of(model: SchNet) -> Oracle:
    config = model.config
    state = dict(to_schnetpack(model))
    return Oracle(state, 2, config["readout"], config["act"], config["output_act"] or config["act"])


# --- version 2 ---


@every_option
def test_to_schnetpack_is_its_model(options: str, molecules: Any, scramble: Callable) -> None:
    model = make(scramble, **OPTIONS[options])
    check_same(oracle_of(model), model, tuple(molecules))


@every_option
def test_there_and_back(options: str, molecules: Any, scramble: Callable, tmp_path: Path) -> None:
    model = make(scramble, **OPTIONS[options])
    again = from_schnetpack(to_schnetpack(model))
    check_same(again, model, tuple(molecules))
    assert again.config.items() >= {name: model.config[name] for name in (*SIZES, "readout", "basis")}.items()
    assert again.config["shared_interactions"] is model.config["shared_interactions"]
    save(again, tmp_path / "model.safetensors")
    check_same(load(tmp_path / "model.safetensors"), model, tuple(molecules))


def test_a_bare_state_dict_needs_what_it_does_not_tell(molecules: Any, scramble: Callable, tmp_path: Path) -> None:
    told = {"act": "silu", "output_act": "tanh", "readout": "mean"}
    model = make(scramble, **told)
    path = tmp_path / "state.pt"
    torch.save(dict(to_schnetpack(model)), path)
    check_same(from_schnetpack(path, **told), model, tuple(molecules))
    assert from_schnetpack(str(path)).config["output_act"] == "silu"


def test_saved_state_is_a_plain_one_and_loses_nothing(molecules: Any, scramble: Callable, tmp_path: Path) -> None:
    model = make(scramble, act="silu", output_act="tanh", readout="mean")
    torch.save(to_schnetpack(model), tmp_path / "state.pt")
    assert type(torch.load(tmp_path / "state.pt", weights_only=True)) is OrderedDict
    check_same(from_schnetpack(tmp_path / "state.pt"), model, tuple(molecules))


def test_checkpoint_of_lightning(molecules: Any, scramble: Callable, tmp_path: Path) -> None:
    model = make(scramble)
    state = {f"model.{name}": value for name, value in to_schnetpack(model).items()}
    torch.save({"state_dict": state | {"outputs.0.metric": torch.ones(1)}, "epoch": 3}, tmp_path / "last.ckpt")
    check_same(from_schnetpack(tmp_path / "last.ckpt"), model, tuple(molecules))


def test_weights_are_copies_in_their_dtype(scramble: Callable) -> None:
    state = to_schnetpack(make(scramble).float())
    model = from_schnetpack(state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    state["representation.embedding.weight"].zero_()
    assert model.embedding.weight.any()
    assert not model.training


def test_units(water: tuple[Tensor, Tensor], scramble: Callable) -> None:
    model = make(scramble, mean=-3.0, std=2.0)
    converted = from_schnetpack(to_schnetpack(model), source_unit="kcal/mol", energy_unit="eV")
    energies = [Potential(each)(*water)["energy"].item() for each in (model, converted)]
    assert energies[1] == pytest.approx(energies[0] * 0.0433641039, rel=1e-8)  # CODATA 2014
    with pytest.raises(TypeError, match="`energy_unit='eV'` needs `source_unit`"):
        from_schnetpack(to_schnetpack(model), energy_unit="eV")
    with pytest.raises(ValueError, match="expected a unit of energy, one of eV, .*, got 'Ang'"):
        from_schnetpack(to_schnetpack(model), energy_unit="eV", source_unit="Ang")


def test_order_of_scale_and_offsets(molecules: Any, scramble: Callable) -> None:
    """Offsets before the scale are scaled too."""
    state = dict(to_schnetpack(make(scramble)))
    plain = from_schnetpack(state)(*molecules)
    count = torch.bincount(molecules.batch).unsqueeze(1)
    state |= {"postprocessors.0.mean": torch.tensor([2.0]), "postprocessors.1.scale": torch.tensor([3.0])}
    state |= {"postprocessors.10.mean": torch.tensor([5.0])}
    torch.testing.assert_close(from_schnetpack(state)(*molecules), 3 * (plain + 2 * count) + 5 * count)


# --- version 1 ---


def version_1(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of version 2 under the names of version 1, duplicates included."""
    new = {}
    names = {".in2f.": ".cfconv.in2f.", ".f2out.0.": ".cfconv.f2out.", ".f2out.1.": ".dense."}
    names |= {"radial_basis.widths": "distance_expansion.width", "radial_basis": "distance_expansion"}
    names |= {".outnet.": ".out_net.1.out_net."}
    for name, value in state.items():
        for old, other in names.items():
            name = name.replace(old, other)  # noqa: PLW2901
        if "postprocessors" not in name and "cutoff_fn" not in name:
            new[name] = value
        if ".filter_network." in name:
            new[name.replace(".filter_network.", ".cfconv.filter_network.")] = value
    for i in {name.split(".")[2] for name in state if ".interactions." in name}:
        for part in ("cutoff_network", "cfconv.cutoff_network"):
            new[f"representation.interactions.{i}.{part}.cutoff"] = state["representation.cutoff_fn.cutoff"]
    new["output_modules.0.standardize.mean"] = torch.tensor([-7.0])
    new["output_modules.0.standardize.stddev"] = torch.tensor([0.3])
    return new


@pytest.mark.parametrize("atomref", [True, False])
def test_version_1(atomref: bool, molecules: Any, scramble: Callable) -> None:
    state = version_1(to_schnetpack(make(scramble, num_interactions=3)))
    if atomref:
        state["output_modules.0.atomref.weight"] = torch.linspace(0, -9, 100).view(100, 1)
    expected = Oracle(state, 1, "mean", "ssp-schnetpack", "ssp-schnetpack")
    check_same(from_schnetpack(state, readout="mean"), expected, tuple(molecules))
    single = {
        name.replace("output_modules.0.out_net", "output_modules.out_net"): value for name, value in state.items()
    }
    check_same(from_schnetpack(single, readout="mean"), expected, tuple(molecules))


# --- whole models: classes of the same names, there only while the file is written ---


def pickled_model(state: dict[str, Tensor], path: Path, legacy: bool = False, **facts: Any) -> None:
    """Save a model of SchNetPack 1 whose classes cannot be imported when it is read."""
    classes: dict[str, type] = {}
    module = types.ModuleType("schnetpack_of_old")

    def class_of(name: str) -> type:
        if name not in classes:
            classes[name] = type(name, (nn.Module,), {"__module__": module.__name__})
            setattr(module, name, classes[name])
        return classes[name]

    def shifted_softplus(x: Tensor) -> Tensor:
        return x

    shifted_softplus.__module__, shifted_softplus.__qualname__ = module.__name__, "shifted_softplus"
    module.shifted_softplus = shifted_softplus
    root = class_of("AtomisticModel")()
    kinds = {
        "representation": "SchNet",
        "output_modules.0": facts.get("output", "Atomwise"),
        "cutoff_network": facts.get("cutoff", "CosineCutoff"),
    }
    for name, value in state.items():
        node, *parts = root, *name.split(".")
        for depth, part in enumerate(parts[:-1]):
            if part not in dict(node.named_children()):
                here = ".".join(parts[: depth + 1])
                node.add_module(part, class_of(kinds.get(here, kinds.get(part, "Dense")))())
            node = node.get_submodule(part)
        buffer = any(word in name for word in ("cutoff", "distance_expansion", "standardize"))
        node.register_buffer(parts[-1], value) if buffer else setattr(node, parts[-1], nn.Parameter(value))
    for node in root.modules():
        node.activation = shifted_softplus
    pool = class_of("Aggregate")()
    pool.average = facts.get("average", True)
    root.get_submodule("output_modules.0").atom_pool = pool
    for block in root.representation.interactions.children():
        block.cfconv.agg = class_of("Aggregate")()
        block.cfconv.agg.average = facts.get("normalize", False)
    sys.modules[module.__name__] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no source code of these classes
            torch.save(root, path, _use_new_zipfile_serialization=not legacy)
    finally:
        del sys.modules[module.__name__]


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_whole_model_without_its_classes(legacy: bool, molecules: Any, scramble: Callable, tmp_path: Path) -> None:
    state = version_1(to_schnetpack(make(scramble)))
    pickled_model(state, tmp_path / "best_model", legacy)
    assert "schnetpack_of_old" not in sys.modules
    model = from_schnetpack(tmp_path / "best_model")
    assert "schnetpack_of_old" not in sys.modules
    assert model.config["readout"] == "mean"
    check_same(model, Oracle(state, 1, "mean", "ssp-schnetpack", "ssp-schnetpack"), tuple(molecules))


def test_trained_basis(scramble: Callable) -> None:
    model = make(scramble, trainable_basis=True)
    state = to_schnetpack(model)
    assert from_schnetpack(dict(state)).config["trainable_basis"]
    with pytest.raises(ValueError, match="`trainable_basis=False` needs Gaussians of one width, got 16 widths"):
        from_schnetpack(dict(state), trainable_basis=False)


def test_whole_model_tells_normalization_and_hard_cutoff(scramble: Callable, tmp_path: Path) -> None:
    state = version_1(to_schnetpack(make(scramble)))
    pickled_model(state, tmp_path / "model", normalize=True, cutoff="HardCutoff", average=False)
    config = from_schnetpack(tmp_path / "model").config
    assert (config["normalization"], config["cutoff_function"], config["readout"]) == ("mean", None, "add")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"output": "Polarizability"}, "expected as output .* one of Atomwise, Energy, .*, got Polarizability"),
        ({"cutoff": "SwitchFunction"}, "expected as cutoff .* one of CosineCutoff, .*, got SwitchFunction"),
    ],
)
def test_whole_model_with_other_parts_is_refused(
    facts: dict[str, str], message: str, scramble: Callable, tmp_path: Path
) -> None:
    pickled_model(version_1(to_schnetpack(make(scramble))), tmp_path / "model", **facts)
    with pytest.raises(ValueError, match=message):
        from_schnetpack(tmp_path / "model")


# --- SchNetPack itself ---


class Real(nn.Module):
    """SchNetPack's own model, called as ours."""

    def __init__(self, state: SchNetPackState) -> None:
        super().__init__()
        hydra = pytest.importorskip("hydra")
        pytest.importorskip("schnetpack")
        self.model = hydra.utils.instantiate(state.arguments).double()
        self.model.load_state_dict(state)

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        cutoff = float(self.model.representation.cutoff)
        near = (batch[:, None] == batch) & ~torch.eye(len(z), dtype=torch.bool)
        near &= torch.cdist(pos.detach(), pos.detach()) < cutoff
        i, j = near.nonzero().t()
        inputs = {"_atomic_numbers": z, "_positions": pos, "_idx_i": i, "_idx_j": j, "_idx_m": batch}
        inputs |= {"_offsets": torch.zeros(len(i), 3, dtype=pos.dtype), "_n_atoms": torch.bincount(batch)}
        return self.model(inputs)["energy"].view(int(batch.max()) + 1, -1)


@every_option
def test_schnetpack_itself(options: str, molecules: Any, scramble: Callable) -> None:
    model = make(scramble, **OPTIONS[options])
    real = Real(to_schnetpack(model))
    check_same(real, model, tuple(molecules))
    check_same(from_schnetpack(real.model), model, tuple(molecules))
    check_same(from_schnetpack(dict(real.model.state_dict()), **to_schnetpack(model).facts), model, tuple(molecules))


@every_option
def test_file_of_schnetpack_itself(options: str, molecules: Any, scramble: Callable, tmp_path: Path) -> None:
    model = make(scramble, **OPTIONS[options])
    torch.save(Real(to_schnetpack(model)).model, tmp_path / "best_model")
    check_same(from_schnetpack(tmp_path / "best_model"), model, tuple(molecules))


# --- bad input ---


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    painn = {"representation.interactions.0.interatomic_context_net.0.weight": torch.ones(2, 2)}
    with pytest.raises(ValueError, match=r"expected 'representation\.interactions\.0\.in2f\.weight' of SchNetPack's"):
        from_schnetpack(painn)
    with pytest.raises(TypeError, match="expected a model or state dict of SchNetPack, got int"):
        from_schnetpack(3)
    with pytest.raises(TypeError, match="expected a model or state dict of SchNetPack, got Linear"):
        from_schnetpack(nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        from_schnetpack(tmp_path / "none")
    with pytest.raises(ValueError, match="expected tensors .* by name, got int for 'epoch'"):
        from_schnetpack({"epoch": 3})
    with pytest.raises(TypeError, match="from_schnetpack has no argument 'outputact'; expected one of act, cutoff"):
        from_schnetpack(painn, outputact="silu")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("output_modules.0.outnet.1.weight", None, r"expected 'output_modules\.0\.outnet\.1\.weight' of SchNetPack's"),
        ("representation.radial_basis.widths", None, r"expected 'representation\.radial_basis\.widths' of"),
        ("representation.cutoff_fn.cutoff", None, "or the cutoff distance as argument `cutoff`"),
        ("representation.embedding.weight", torch.ones(3), r"with two dimensions, got shape \[3\]"),
        ("representation.interactions.1.f2out.1.bias", torch.ones(3), r"f2out\.1\.bias' .* shape \[10\].* got \[3\]"),
        (
            "output_modules.0.outnet.2.weight",
            torch.ones(1),
            r"and nothing else, got also 'output_modules\.0\.outnet\.2",
        ),
        ("representation.electronic_embeddings.0.w", torch.ones(1), "and nothing else, got also"),
    ],
)
def test_missing_and_misshapen_weights(name: str, value: Tensor | None, message: str, scramble: Callable) -> None:
    state = dict(to_schnetpack(make(scramble)))
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(ValueError, match=message):
        from_schnetpack(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff_function": None}, "`cutoff_function` 'cosine' or 'mollifier', got a model with None"),
        ({"activate_last": True}, "`activate_last` False"),
        ({"act": "ssp"}, "got a model with 'ssp'"),  # another threshold: energies would differ by 1e-9
        ({"normalization": "mean"}, "`normalization` None"),
        ({"readout": "max"}, "`readout` 'add' or 'sum' or 'mean', got a model with 'max'"),
        ({"num_interactions": 0}, "at least one interaction block"),
        ({"out_channels": 2, "mean": 1.0}, "offsets to one target only"),
    ],
)
def test_what_schnetpack_cannot_express_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_schnetpack(SchNet.preset("schnetpack", **(SIZES | changes)))
    with pytest.raises(TypeError, match="`model` must be a SchNet, got Linear"):
        to_schnetpack(nn.Linear(2, 2))
