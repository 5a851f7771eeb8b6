"""One resolver: files, folders of runs and committees, checkpoints; one sentence for everything else."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch_geometric.nn.models import SchNet as PyGSchNet

import pyg_schnet
from pyg_schnet import SchNet, load, save
from pyg_schnet.convert import to_schnetpack
from pyg_schnet.models import DTNN, Committee, EnnS2S, read_header
from pyg_schnet.models.elements import TrainingSet


@pytest.fixture
def model(make_model: Any) -> SchNet:
    return make_model(mean=-3.0).eval()


def checkpoint_of(trained: Any, prefix: str = "potential.model.", **more: Any) -> dict[str, Any]:
    """What Lightning writes of a task, averaged weights in their place."""
    state = {f"{prefix}{name}": value for name, value in trained.state_dict().items()}
    raw = {name: value + 1 for name, value in state.items()}
    facts = {"config": trained.config, "rho": 0.01, "forces": True}
    content = {"state_dict": state, "current_model_state": raw, "hyper_parameters": facts, "units": {"energy": "eV"}}
    return content | {"pytorch-lightning_version": "2.6.0", "task": "PotentialTask"} | more


def test_the_folder_of_a_run(model: SchNet, water: Any, tmp_path: Path) -> None:
    save(model, tmp_path / "model.safetensors")
    torch.save(checkpoint_of(model), tmp_path / "best.ckpt")
    for path in (tmp_path, str(tmp_path), str(tmp_path) + "/"):
        assert torch.equal(load(path)(*water), model(*water))
    assert read_header(tmp_path)["model"] == "SchNet"


def test_the_folder_of_a_committee(make_model: Any, water: Any, tmp_path: Path) -> None:
    committee = Committee([make_model(mean=float(number)) for number in range(3)]).eval()
    committee.save(tmp_path)
    found: Any = load(tmp_path, filters="exact")
    assert isinstance(found, Committee)
    assert [member.filters for member in found] == ["exact"] * 3
    assert torch.equal(found(*water).members, committee(*water).members)
    assert len(Committee.load([tmp_path / "member_0", tmp_path / "member_2"])) == 2  # folders of runs


@pytest.mark.parametrize("prefix", ["potential.model.", "network.", "model."])
def test_a_checkpoint_of_training(prefix: str, model: SchNet, water: Any, tmp_path: Path) -> None:
    seen = TrainingSet({1: 20, 8: 10}, structures=10, compositions=1)
    torch.save(checkpoint_of(model, prefix, model="SchNet", training_set=seen._asdict()), tmp_path / "best.ckpt")
    found = load(tmp_path / "best.ckpt")
    assert torch.equal(found(*water), model(*water))
    assert not found.training
    assert found.units == {"energy": "eV"}
    assert found.training_set == seen


@pytest.mark.parametrize("make", [SchNet, DTNN, EnnS2S])
def test_older_checkpoints_do_not_name_the_architecture(make: Any, tmp_path: Path) -> None:
    model = make(8, 6, 2, 12, 6.0)
    torch.save(checkpoint_of(model), tmp_path / "last.ckpt")
    found = load(tmp_path / "last.ckpt")
    assert type(found) is make
    assert found.elements is None


def test_a_run_that_has_not_ended(model: SchNet, tmp_path: Path) -> None:
    torch.save(checkpoint_of(model), tmp_path / "last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"no model file in .*run has not ended; resume it, or pass .*last"):
        load(tmp_path)


def test_folders_without_a_model(model: SchNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no model file in .*; expected model\.safetensors of a run"):
        load(tmp_path)
    save(model, tmp_path / "ethanol.safetensors")
    with pytest.raises(FileNotFoundError, match=r"there is no model file in .*; pass .*ethanol\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("path", [None, 3, {"state_dict": {}}, SchNet(8, 8, 1)], ids=lambda one: type(one).__name__)
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(TypeError, match="`path` must be a path"):
        load(path)


@pytest.mark.parametrize("address", ["https://example.org/model.safetensors", "s3://bucket/model"])
def test_an_address(address: str) -> None:
    with pytest.raises(ValueError, match="is an address; download it first"):
        load(address)


def foreign(kind: str, path: Path) -> None:
    """Files that others write."""
    theirs = PyGSchNet(8, 8, 1, 8)
    if kind == "PyG state":
        torch.save(theirs.state_dict(), path)
    elif kind == "PyG model":
        torch.save(theirs, path)
    elif kind == "SchNetPack state":
        torch.save(dict(to_schnetpack(SchNet.preset("schnetpack", num_interactions=1))), path)
    elif kind == "our state":
        torch.save(SchNet(8, 8, 1).state_dict(), path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "other checkpoint":
        torch.save({"state_dict": {"layer.weight": torch.ones(2)}, "hyper_parameters": {}}, path)
    elif kind == "no weights":
        content = checkpoint_of(SchNet(8, 8, 1))
        torch.save(content | {"state_dict": {}}, path)
    elif kind == "safetensors":
        safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    elif kind == "half":
        torch.save(theirs.state_dict(), path)
        path.write_bytes(path.read_bytes()[:2000])
    else:
        path.write_bytes(b"" if kind == "empty" else b"energy -1.0\n" * 9)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("PyG state", r"a state dict of PyG's SchNet; read it with pyg_schnet\.convert\.from_pyg"),
        ("PyG model", r"names classes, which are not imported; if it is a model of PyG or SchNetPack, read it with"),
        ("SchNetPack state", r"a model of SchNetPack; read it with pyg_schnet\.convert\.from_schnetpack"),
        ("our state", r"a state dict, which does not tell the architecture; build the model"),
        ("list", r"it holds list; expected a file of pyg_schnet\.save"),
        ("other checkpoint", r"it holds none of our models, but layer\.weight"),
        ("no weights", r"does not describe a SchNet of this version"),
        ("safetensors", r"was not written by pyg_schnet\.save; convert it first"),
        ("half", r"is not a readable model file"),
        ("empty", r"is not a readable model file"),
        ("text", r"is not a readable model file"),
    ],
)
def test_files_of_others_are_one_sentence(kind: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    foreign(kind, path)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_package_has_the_same(model: SchNet, tmp_path: Path) -> None:
    save(model, tmp_path / "model.safetensors")
    assert pyg_schnet.models.load is load
    assert Committee.load([tmp_path, tmp_path]).training is False
