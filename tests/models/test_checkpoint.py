"""Model files: bit-exact, readable, never half-written, and nothing damaged or foreign is taken."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.models import checkpoint, read_header

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "references": {"mean": -4209.123456789012, "std": 1 / 3, "atomref": torch.linspace(-1, -9, 50).double() / 7},
    "paper": {"cutoff_function": None, "activate_last": True, "gamma": 10.0, "readout": "mean", "max_z": 20},
    "float32 ssp": {"act": "ssp-pyg", "num_interactions": 0},
}


@pytest.fixture
def model(make_model: Callable[..., SchNet]) -> SchNet:
    return make_model(mean=-3.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def rewrite_header(path: Path, **changes: Any) -> None:
    """The same tensors with another header; ``None`` removes an entry."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {name: json.dumps(value) for name, value in changes.items()}
    metadata = {name: value for name, value in metadata.items() if value != "null"}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=metadata)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
def test_round_trip_is_bit_exact(options: str, dtype: torch.dtype, path: Path, make_model: Any, water: Any) -> None:
    model = make_model(**OPTIONS[options]).to(dtype)
    save(model, path)
    other = load(path)
    assert other.config == model.config
    assert not other.training
    state = other.state_dict()
    assert list(state) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert state[name].dtype == value.dtype == (torch.float64 if name.startswith("reference") else dtype)
        assert torch.equal(state[name], value), name
    z, pos = water[0], water[1].to(dtype)
    ours, theirs = Potential(model).eval()(z, pos), Potential(other)(z, pos)
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_loads_to_a_device(model: SchNet, path: Path, device: torch.device) -> None:
    save(model.to(device), str(path))
    assert {tensor.device.type for tensor in load(str(path), device).state_dict().values()} == {device.type}


def test_header_tells_what_the_model_is(model: SchNet, path: Path) -> None:
    save(model, path, units={"energy": "eV"}, training={"steps": 3, "rho": 0.01})
    header = read_header(path)
    assert header["config"] == model.config
    assert (header["format"], header["format_version"], header["model"]) == ("pyg_schnet", 1, "SchNet")
    assert header["units"] == {"energy": "eV"}
    assert header["training"] == {"steps": 3, "rho": 0.01}
    assert header["torch"] == torch.__version__
    assert len(bytes.fromhex(header["sha256"])) == 32


def test_facts_cannot_replace_the_architecture(model: SchNet, path: Path) -> None:
    with pytest.raises(TypeError, match="names of the header itself: config, format_version, sha256"):
        save(model, path, config={"layers": 3}, sha256="", format_version=9)
    assert not path.exists()


def test_an_older_file_is_replaced(model: SchNet, path: Path, make_model: Any) -> None:
    save(make_model(num_interactions=1), path)
    save(model, path)
    assert len(load(path).interactions) == 2
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("older", [True, False])
def test_an_interruption_leaves_what_was_there(
    older: bool, model: SchNet, path: Path, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if older:
        save(make_model(), path)
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def disk_full(_: Any, filename: str | Path, **__: Any) -> None:
        Path(filename).write_bytes(b"half a mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save(model, path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == files


def test_refused_arguments_leave_what_was_there(model: SchNet, path: Path) -> None:
    save(model, path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="`model` must be a SchNet, got Potential; save the model inside a Potential"):
        save(Potential(model), path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`info` must be JSON-compatible: .*set"):
        save(model, path, units={"eV"})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_missing_folder_is_named(model: SchNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save(model, tmp_path / "nowhere" / "model.safetensors")


@pytest.mark.parametrize("place", [0.3, 0.7, 1.0])
def test_a_changed_byte_among_the_tensors_is_noticed(place: float, model: SchNet, path: Path) -> None:
    save(model, path)
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")  # safetensors: length of the header, header, tensors
    content[start + int(place * (len(content) - start - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its tensors do not have the checksum of its header"):
        load(path)


def test_a_changed_architecture_is_noticed(model: SchNet, path: Path) -> None:
    """The cutoff is in the header alone: with another one the same weights are another model."""
    save(model, path)
    content = path.read_bytes()
    assert content.count(rb"\"cutoff\": 5.0") == 1
    path.write_bytes(content.replace(rb"\"cutoff\": 5.0", rb"\"cutoff\": 6.0"))
    with pytest.raises(ValueError, match="damaged"):
        load(path)


@pytest.mark.parametrize("kept", [0, 4, 8, 200, 0.5, 0.999])
def test_a_truncated_file_is_refused(kept: float, model: SchNet, path: Path) -> None:
    save(model, path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"model.safetensors is not a readable model file .*; write or fetch it again"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": '"pt"'}, {"config": "{}"}])
def test_a_foreign_safetensors_file_is_refused(metadata: dict[str, str] | None, path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"was not written by pyg_schnet\.save; convert it first"):
        load(path)


class Trap:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_executed(path: Path, tmp_path: Path) -> None:
    for write in (lambda trap: path.write_bytes(pickle.dumps(trap)), lambda trap: torch.save(trap, path)):
        write(Trap(tmp_path / "executed"))
        with pytest.raises(ValueError, match="is not a readable model file"):
            load(path)
    assert not (tmp_path / "executed").exists()


def test_no_pickle_is_written(model: SchNet, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle was called")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(torch, "save", never)
    save(model, path)
    assert load(path).config == model.config


def test_a_newer_format_is_refused(model: SchNet, path: Path) -> None:
    save(model, path)
    rewrite_header(path, format_version=2)
    with pytest.raises(ValueError, match="has format 2, this version reads up to 1; upgrade pyg_schnet"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [{"config": None}, {"config": {"layers": 3}}, {"format_version": None}, {"config": {"max_z": 3}}],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(changes: dict[str, Any], model: SchNet, path: Path) -> None:
    save(model, path)
    rewrite_header(path, **changes)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no model file"):
            load(path)
