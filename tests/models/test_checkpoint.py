"""Model files: bit-exact, readable, never half-written, and nothing damaged or foreign is taken."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch_geometric
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils import prune
from torch_geometric.nn.aggr import Set2Set

import pyg_schnet
from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.models import DTNN, EnnS2S, checkpoint, read_header

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "references": {"mean": -4209.123456789012, "std": 1 / 3, "atomref": torch.linspace(-1, -9, 50).double() / 7},
    "paper": {"cutoff_function": None, "activate_last": True, "gamma": 10.0, "readout": "mean", "max_z": 20},
    "float32 ssp": {"act": "ssp-pyg", "num_interactions": 0},
    "several targets": {"out_channels": 2, "mean": [1 / 3, -2.0], "readout": "set2set", "readout_options": None},
    "variant": {"basis": "bessel", "trainable_basis": True, "normalization": "smooth", "shared_interactions": True},
    "repulsion": {"repulsion": "zbl"},
}
#: What keeps its digits, whatever the dtype of a model.
DOUBLE = "reference", "repulsion"


@pytest.fixture
def model(make_model: Callable[..., SchNet]) -> SchNet:
    return make_model(mean=-3.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def rewrite_header(path: Path, **changes: Any) -> None:
    """The same tensors with another header, its checksum not renewed; ``None`` removes an entry."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {name: json.dumps(value) for name, value in changes.items()}
    metadata = {name: value for name, value in metadata.items() if value != "null"}
    safetensors.torch.save_file(safetensors.torch.load(path.read_bytes()), path, metadata=metadata)


def forge_header(path: Path, **changes: Any) -> None:
    """Another header with the checksum that belongs to it, as another program or a later version might write it."""
    rewrite_header(path, **changes)
    header = {name: value for name, value in read_header(path).items() if name != "sha256"}
    rewrite_header(path, sha256=checksum(header, safetensors.torch.load(path.read_bytes())))


def checksum(covered: Any, tensors: dict[str, Tensor]) -> str:
    """The checksum of a file as the format defines it."""
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


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
        assert state[name].dtype == value.dtype == (torch.float64 if name.startswith(DOUBLE) else dtype)
        assert torch.equal(state[name], value), name
    z, pos = water[0], water[1].to(dtype)
    assert torch.equal(other(z, pos), model.eval()(z, pos))


def test_loads_to_a_device(model: SchNet, path: Path, device: torch.device) -> None:
    save(model.to(device), str(path))
    assert {tensor.device.type for tensor in load(str(path), device).state_dict().values()} == {device.type}


def test_header_tells_what_the_model_is(model: SchNet, path: Path) -> None:
    save(model, path, units={"energy": "eV"}, training={"steps": 3, "rho": 0.01})
    header = read_header(path)
    assert header["config"] == model.config
    assert (header["format"], header["format_version"], header["model"]) == ("pyg_schnet", 2, "SchNet")
    assert header["units"] == {"energy": "eV"}
    assert header["training"] == {"steps": 3, "rho": 0.01}
    versions = {"pyg_schnet": pyg_schnet, "torch": torch, "torch_geometric": torch_geometric}
    assert {name: header[name] for name in versions} == {name: module.__version__ for name, module in versions.items()}
    covered = {name: value for name, value in header.items() if name != "sha256"}
    assert header["sha256"] == checksum(covered, safetensors.torch.load(path.read_bytes()))


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

    def disk_full(part: Path, _: bytes) -> None:
        with part.open("wb") as file:
            file.write(b"half a mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="there is no space left for"):
        save(model, path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == files


def test_refused_arguments_leave_what_was_there(model: SchNet, path: Path) -> None:
    save(model, path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="must be one of SchNet, DTNN, EnnS2S, got Potential; save the model inside it"):
        save(Potential(model), path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`model` must be one of SchNet, DTNN, EnnS2S, got Linear$"):
        save(torch.nn.Linear(2, 2), path)  # type: ignore[arg-type]
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
    with pytest.raises(ValueError, match="is damaged: its tensors and header do not have the checksum"):
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
        with pytest.raises(ValueError, match="is not a readable model file|was not written by"):
            read_header(path)
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
    rewrite_header(path, format_version=3)
    with pytest.raises(ValueError, match="has format 3, this version reads up to 2; upgrade pyg_schnet"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [{"config": None}, {"config": {"layers": 3}}, {"units": "kcal/mol"}, {"model": "DTNN"}, {"sha256": None}],
    ids=str,
)
def test_a_changed_header_is_noticed(changes: dict[str, Any], model: SchNet, path: Path) -> None:
    save(model, path, units="eV")
    rewrite_header(path, **changes)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": None}, r"does not describe a SchNet of this version \('config'\)"),
        ({"config": [3]}, "does not describe a SchNet of this version"),
        ({"config": {"layers": 3}}, "does not describe a SchNet of this version .*'layers'"),
        ({"config": {"max_z": 3}}, "does not describe a SchNet of this version"),
        ({"config": {"readout": "os.system"}}, "does not describe a SchNet of this version .*`readout` must be one of"),
        ({"model": "DTNN"}, "does not describe a DTNN of this version .*'num_filters'"),
        ({"model": "PaiNN"}, "holds a model 'PaiNN'; this version reads SchNet, DTNN, EnnS2S$"),
        ({"model": None}, "holds a model None; this version reads SchNet, DTNN, EnnS2S$"),
        ({"model": ["SchNet"]}, r"holds a model \['SchNet'\]; this version reads"),
        ({"format_version": None}, "has no format version in its header"),
        ({"format_version": "2"}, "has no format version in its header"),
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(changes: dict, reason: str, model: SchNet, path: Path) -> None:
    """Undamaged, but not a model that this version has."""
    save(model, path)
    if "format_version" in changes:
        rewrite_header(path, **changes)
    else:
        forge_header(path, **changes)
    with pytest.raises(ValueError, match=rf"model\.safetensors {reason}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_header_nested_without_end_is_refused(path: Path) -> None:
    metadata = {"format": '"pyg_schnet"', "format_version": "2", "config": "[" * 100_000}
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match="is not a readable model file"):
        load(path)


# --- weights that are none, sizes that are too large ---


def forge_tensor(path: Path, name: str, value: Tensor | None) -> None:
    """Another tensor, or none, with the checksum that belongs to it."""
    tensors, header = safetensors.torch.load(path.read_bytes()), read_header(path)
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    covered = {key: entry for key, entry in header.items() if key != "sha256"}
    metadata = {key: json.dumps(entry) for key, entry in (covered | {"sha256": "later"}).items()}
    try:
        safetensors.torch.save_file(tensors, path, metadata=metadata)
    except KeyError as error:  # of the kind of numbers; older versions have no complex ones
        pytest.skip(f"this version of safetensors does not write {error}")
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for key, tensor in sorted(safetensors.torch.load(path.read_bytes()).items()):
        raw = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode() + raw)
    metadata["sha256"] = json.dumps(digest.hexdigest())
    safetensors.torch.save_file(tensors, path, metadata=metadata)


WEIGHT = "output.lin1.weight"


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (WEIGHT, lambda t: t.to(torch.complex64), "has output.lin1.weight in torch.complex64; expected weights of one"),
        (WEIGHT, lambda t: t.to(torch.float8_e4m3fn), "in torch.float8_e4m3fn"),
        (WEIGHT, lambda t: t.long(), "in torch.int64"),
        (WEIGHT, lambda t: t.bool(), "in torch.bool"),
        (WEIGHT, lambda t: t * torch.nan, "values of output.lin1.weight that are not finite"),
        (
            WEIGHT,
            lambda t: t.where(t != t.max(), torch.inf),
            "has 1 of .* values of output.lin1.weight that",
        ),
        ("reference.mean", lambda t: t * torch.nan, "has 1 of 1 values of reference.mean that are not finite"),
        ("filter_tables", lambda t: t * torch.nan, "values of filter_tables that are not finite"),
        ("embedding.weight", lambda t: t.to(torch.complex64), "in torch.complex64"),
        (WEIGHT, lambda t: t.half(), "does not describe a SchNet .*output.lin1.weight is torch.float16"),
        (WEIGHT, lambda t: t[:, :-1].contiguous(), "does not describe a SchNet .*size mismatch"),
        (WEIGHT, lambda t: None, "does not describe a SchNet .*Missing key"),
        ("more.weight", lambda t: torch.ones(3).double(), "does not describe a SchNet .*Unexpected key"),
    ],
)
def test_weights_that_are_none_are_refused(name: str, change: Any, reason: str, model: SchNet, path: Path) -> None:
    """Behind a right checksum, as a diverged run or another program might write them."""
    save(model.freeze(), path)
    forge_tensor(path, name, change(model.state_dict().get(name)))
    with pytest.raises(ValueError, match=rf"model\.safetensors .*{reason}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_written(number: float, model: SchNet, path: Path) -> None:
    save(model, path)
    before = path.read_bytes()
    with torch.no_grad():
        model.output.lin1.weight[0, 0] = number
    with pytest.raises(ValueError, match=r"the model has 1 of \d+ values of output.lin1.weight that are not finite"):
        save(model, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_channels": 10**7, "num_filters": 10**7},
        {"max_z": 10**13},
        {"num_gaussians": 10**12},
        {"num_interactions": 10**9},
        {"out_channels": 10**12},
        {"num_filters": 10**30},
    ],
    ids=str,
)
def test_sizes_beyond_the_tensors_are_refused(sizes: dict[str, int], model: SchNet, path: Path) -> None:
    """At once, and without memory for them."""
    save(model, path)
    forge_header(path, config=model.config | sizes)
    with pytest.raises(ValueError, match="does not describe a SchNet of this version"):
        load(path)


def test_facts_that_are_no_numbers_come_back(model: SchNet, path: Path) -> None:
    save(model, path, loss=float("nan"), best=float("inf"))
    header = read_header(path)
    assert str(header["loss"]) == "nan"
    assert header["best"] == float("inf")
    load(path)


# --- readers and writers at once ---


def test_a_reader_beside_writers_sees_whole_files(make_model: Any, path: Path) -> None:
    """The file is replaced while it is open: header and tensors are those of one of them."""
    sources = [path.with_name(f"{number}.safetensors") for number in range(2)]
    for number, source in enumerate(sources):
        save(make_model(mean=float(number)), source)
    save(make_model(mean=0.0), path)
    code = f"import os\nwhile True:\n    for source in {[str(one) for one in sources]}:\n"
    code += f"        os.link(source, '{path}.new'); os.replace('{path}.new', '{path}')"
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        try:
            means = {float(load(path).reference.mean) for _ in range(25)}
        finally:
            writer.kill()
    assert means <= {0.0, 1.0}


# --- other architectures, older files ---


@pytest.mark.parametrize("make", [DTNN, EnnS2S, SchNet])
def test_every_architecture_comes_back_as_itself(make: Any, path: Path, scramble: Any, molecules: Any) -> None:
    model = scramble(make(8, 6, 2, 12, 6.0, mean=-1.5)).double()
    save(model, path, units={"energy": "eV"})
    other = load(path)
    assert type(other) is make
    assert read_header(path)["model"] == make.__name__
    assert torch.equal(other(*molecules), model(*molecules))


def test_a_model_of_ones_own_can_be_added(path: Path, monkeypatch: pytest.MonkeyPatch, water: Any) -> None:
    class Wide(SchNet):
        """A subclass, which a SchNet of the file would not be."""

    model = Wide(8, 8, 1)
    with pytest.raises(TypeError, match="`model` must be one of SchNet, DTNN, EnnS2S, got Wide$"):
        save(model, path)
    monkeypatch.setitem(checkpoint.ARCHITECTURES, "Wide", Wide)
    save(model, path)
    assert isinstance(load(path), Wide)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": Set2Set(8, 2)}, r"a model with readout=Set2Set\(\.\.\.\) cannot be written"),
        (
            {"readout": "attentional", "readout_options": {"gate_nn": torch.nn.Linear(8, 1)}},
            r"a model with readout_options=dict\(\.\.\.\) cannot be written",
        ),
    ],
    ids=["readout", "options"],
)
def test_a_model_with_modules_for_arguments_is_refused(options: dict, message: str, path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        save(SchNet(8, 8, 1, **options), path)
    assert not path.exists()


def write_format_1(model: SchNet, path: Path) -> None:
    """A file of version 0.1: fewer arguments, references of one target, a checksum of tensors and config alone."""
    older = (
        "hidden_channels num_filters num_interactions num_gaussians cutoff readout gamma cutoff_function activate_last"
    )
    config = {name: model.config[name] for name in [*older.split(), "act", "max_z"]}
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors |= {f"reference.{name}": tensors[f"reference.{name}"].squeeze() for name in ("mean", "std")}
    header = {"format": "pyg_schnet", "format_version": 1, "model": "SchNet", "config": config, "units": "eV"}
    header |= {"sha256": checksum(config, tensors), "torch": "2.6.0"}
    metadata = {name: json.dumps(value) for name, value in header.items()}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def test_files_of_format_1_are_still_read(path: Path, make_model: Any, water: Any) -> None:
    model = make_model(**OPTIONS["references"], max_z=60)
    write_format_1(model, path)
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("reference.mean").shape == ()
    other = load(path)
    assert torch.equal(other(*water), model(*water))
    assert other.config == model.config
    rewrite_header(path, config=model.config | {"cutoff": 6.0})
    with pytest.raises(ValueError, match="is damaged"):
        load(path)


def test_ways_to_compute_are_not_in_files(path: Path, make_model: Any, water: Any) -> None:
    model = make_model(filters="table", knot_spacing=0.02)
    save(model, path)
    assert not {"filters", "knot_spacing"} & read_header(path)["config"].keys()
    assert load(path).filters == "auto"
    assert load(path, filters="table").filters == "table"
    with pytest.raises(ValueError, match="`filters` must be one of"):
        load(path, filters="spline")
    forge_header(path, config=model.config | {"filters": "table", "knot_spacing": 0.02})  # as older versions wrote it
    assert load(path).knot_spacing == 0.02
    assert torch.allclose(load(path)(*water), model(*water), rtol=0, atol=1e-6)


def test_exact_filters_of_a_frozen_file(path: Path, make_model: Any, water: Any) -> None:
    model = make_model()
    exact = model.eval()(*water)
    save(model.freeze(), path)
    assert load(path).frozen
    assert torch.equal(load(path, filters="exact")(*water), exact)
    save(DTNN(8, 6, 2, 12, 6.0), path)
    with pytest.raises(ValueError, match="`filters` is a choice of SchNet"):
        load(path, filters="exact")


def test_loading_depends_on_nothing_and_changes_nothing(model: SchNet, path: Path, water: Any) -> None:
    """Neither a default device (the one here holds no values) nor the random numbers to come."""
    save(model, path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.device("meta"):
        other = load(path)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(other(*water), model(*water))


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        for read in (load, read_header):
            with pytest.raises(FileNotFoundError, match="there is no model file"):
                read(path)


ALTERED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "activation": (lambda m: setattr(m.interactions[1], "act", nn.SiLU()), "interactions.1.act is SiLU"),
    "output": (lambda m: setattr(m, "output", nn.Linear(10, 1)), "output is Linear, expected Atomwise"),
    "fewer blocks": (lambda m: setattr(m, "interactions", m.interactions[:1]), "interactions.1 is not there"),
    "more blocks": (lambda m: m.interactions.append(copy.deepcopy(m.interactions[0])), "expected nothing"),
    "adapter": (lambda m: nn.utils.parametrizations.weight_norm(m.interactions[0].lin), "ParametrizedLinear"),
    "pruned": (lambda m: prune.l1_unstructured(m.output.lin1, "weight", 0.5), "output.lin1.weight is not there"),
    "a head": (lambda m: setattr(m, "head", nn.Linear(2, 2)), "head is Linear"),
    "another size": (lambda m: setattr(m.output, "lin1", nn.Linear(10, 3)), r"output.lin1.bias is \[3\]"),
}


@pytest.mark.parametrize("case", ALTERED)
def test_what_would_be_read_as_another_model_is_not_written(case: str, model: SchNet, path: Path) -> None:
    change, message = ALTERED[case]
    save(model, path)
    before, state = path.read_bytes(), torch.get_rng_state()
    change(model)
    torch.set_rng_state(state)
    with pytest.raises(ValueError, match=message):
        save(model, path)
    assert path.read_bytes() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_pruning_that_is_made_permanent_is_written(model: SchNet, path: Path) -> None:
    prune.l1_unstructured(model.output.lin1, "weight", 0.5)
    prune.remove(model.output.lin1, "weight")
    save(model, path)
    assert torch.equal(load(path).output.lin1.weight, model.output.lin1.weight)
