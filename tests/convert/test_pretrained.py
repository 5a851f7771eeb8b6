"""Published models: C20 from mirror and download, QM9 from files of the archive's structure written here."""

import io
import shutil
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import urllib3
from torch import Tensor, nn
from torch_geometric.nn.models import SchNet as PyGSchNet

from pyg_schnet import SchNet
from pyg_schnet.convert import InteractionGraph, from_pretrained, from_tensorflow, pretrained
from pyg_schnet.files import download

# --- C20 ---

KINDS = {"c20-energy": "energy_model", "c20-force": "force_model"}


@pytest.fixture
def genuine(real_data: Path) -> Path:
    return real_data / "c20" / "tensorflow"


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What is at each address; nothing else can be reached, and there is no mirror."""
    files: dict[str, bytes] = {}

    def get(url: str, **_: Any) -> requests.Response:
        if url not in files:
            raise requests.exceptions.ConnectionError("there is no network")
        response = requests.Response()
        response.status_code = 200
        response.raw = urllib3.HTTPResponse(io.BytesIO(files[url]), preload_content=False)
        return response

    monkeypatch.delenv("PYG_SCHNET_DATA", raising=False)
    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    return files


@pytest.mark.parametrize("name", KINDS)
def test_c20_from_the_mirror_of_the_environment(name: str, genuine: Path, water: tuple[Tensor, Tensor]) -> None:
    model = SchNet.from_pretrained(name)
    expected = from_tensorflow(genuine / KINDS[name])
    assert torch.equal(model(*water), expected(*water))
    in_ev = from_pretrained(name, energy_unit="eV")
    torch.testing.assert_close(in_ev(*water), 0.04336410390059322 * expected(*water), rtol=1e-14, atol=0)


@pytest.mark.parametrize("part", ["", "tensorflow", "tensorflow/energy_model"])
def test_c20_from_a_folder(part: str, real_data: Path) -> None:
    assert from_pretrained("c20-energy", source=real_data / "c20" / part).cutoff == 20.0


def test_c20_is_downloaded_once(genuine: Path, internet: dict[str, bytes], tmp_path: Path) -> None:
    for file in pretrained.C20_FILES["force_model"]:
        internet[f"{pretrained.C20_URL}/force_model/{file}"] = (genuine / "force_model" / file).read_bytes()
    assert SchNet.from_pretrained("c20-force", root=tmp_path).cutoff == 20.0
    internet.clear()
    assert SchNet.from_pretrained("c20-force", root=tmp_path).cutoff == 20.0


def test_tampered_download_is_refused(genuine: Path, internet: dict[str, bytes], tmp_path: Path) -> None:
    for file in pretrained.C20_FILES["energy_model"]:
        internet[f"{pretrained.C20_URL}/energy_model/{file}"] = (genuine / "energy_model" / file).read_bytes()
    address = f"{pretrained.C20_URL}/energy_model/validation/best_model.index"
    internet[address] = internet[address][::-1]
    with pytest.raises(ValueError, match=r"best_model\.index did not give the published file with sha256 1bdaab783c"):
        from_pretrained("c20-energy", root=tmp_path)
    assert not list(tmp_path.rglob("best_model.index"))


@pytest.mark.parametrize("name", ["c20-energy", "qm9-U0"])
@pytest.mark.usefixtures("internet")
def test_without_network(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"could not download .* by hand and pass its folder as `source`, or .*_DATA"):
        from_pretrained(name, root=tmp_path)


def test_tampered_mirror_is_refused(genuine: Path, tmp_path: Path) -> None:
    shutil.copytree(genuine / "energy_model", tmp_path / "energy_model")
    path = tmp_path / "energy_model" / "validation" / "best_model.index"
    path.chmod(0o644)
    path.parent.chmod(0o755)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(
        ValueError, match=r"is not the published file: expected sha256 1bdaab.*, got .*; fetch it again"
    ):
        from_pretrained("c20-energy", source=tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks validation/best_model\.index; expected args\.npy"):
        from_pretrained("c20-energy", source=tmp_path)


def test_names_and_sources_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown pretrained model 'c20'; did you mean 'c20-energy' or 'c20-force'"):
        SchNet.from_pretrained("c20")
    with pytest.raises(FileNotFoundError, match="there is no `source`"):
        from_pretrained("c20-force", source=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="has no force_model/args.npy; expected the authors' folder"):
        from_pretrained("c20-force", source=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has neither trained_schnet_models\.zip nor"):
        from_pretrained("qm9-U0", source=tmp_path)
    with pytest.raises(ValueError, match="'qm9-r2' is no energy; leave `energy_unit` out, got 'eV'"):
        from_pretrained("qm9-r2", energy_unit="eV")


# --- QM9: SchNetPack 0.x models as PyG reads them ---

BOHR = 0.5291772105638411
#: Properties, the factor PyG applies to the model's output, and whether it averages over atoms.
PROPERTIES = {
    "qm9-U0": (1.0, False),
    "qm9-gap": (1.0, True),
    "qm9-alpha": (BOHR**-3, False),
    "qm9-r2": (BOHR**-2, False),
    "qm9-mu": (1 / 0.20819433442462576, False),
}


def make_pyg(mean: bool, scale: float, dipole: bool = False) -> PyGSchNet:
    """What ``from_qm9_pretrained`` makes of a file, but small and with random weights."""
    atomref = torch.linspace(0, -9, 100).view(100, 1)
    readout = "mean" if mean else "add"
    options = {"interaction_graph": InteractionGraph(10.0), "mean": -3.0, "std": 0.25, "atomref": atomref}
    model = PyGSchNet(10, 7, 2, 16, readout=readout, dipole=dipole, **options)
    model.scale = scale
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "atomref" not in name:
                parameter.uniform_(-0.5, 0.5)
    return model


class Old:
    """A module of SchNetPack 0.x that exists only while a file is written."""

    def __init__(self) -> None:
        self.module = types.ModuleType("schnetpack_0x")

    def __call__(self, name: str, **parts: Any) -> nn.Module:
        """An object of the class of this name; modules, tensors and attributes are its parts."""
        if not hasattr(self.module, name):
            setattr(self.module, name, type(name, (nn.Module,), {"__module__": self.module.__name__}))
        made = getattr(self.module, name)()
        for key, value in parts.items():
            made.register_buffer(key, value) if isinstance(value, Tensor) else setattr(made, key, value)
        return made

    def activation(self) -> Callable:
        def shifted_softplus(x: Tensor) -> Tensor:
            return x

        shifted_softplus.__module__, shifted_softplus.__qualname__ = self.module.__name__, "shifted_softplus"
        self.module.shifted_softplus = getattr(self.module, "shifted_softplus", shifted_softplus)
        return self.module.shifted_softplus

    def dense(self, layer: nn.Linear, active: bool = False) -> nn.Module:
        return self(
            "Dense", weight_=None, activation=self.activation() if active else None, **dict(layer.named_parameters())
        )

    def model(self, pyg: PyGSchNet, output: str) -> nn.Module:
        cutoff = self("CosineCutoff", cutoff=torch.tensor([10.0]))
        blocks = []
        for block in pyg.interactions:
            filters = nn.Sequential(self.dense(block.mlp[0], active=True), self.dense(block.mlp[2]))
            conv = {"in2f": self.dense(block.conv.lin1), "f2out": self.dense(block.conv.lin2, active=True)}
            conv |= {"filter_network": filters, "cutoff_network": cutoff, "agg": self("Aggregate", average=False)}
            inside = {"filter_network": filters, "cutoff_network": cutoff, "cfconv": self("CFConv", **conv)}
            blocks.append(self("SchNetInteraction", dense=self.dense(block.lin), **inside))
        offset = pyg.distance_expansion.offset
        basis = {"offsets": offset, "width": (offset[1] - offset[0]) * torch.ones_like(offset), "centered": False}
        representation = {
            "embedding": pyg.embedding,
            "distance_expansion": self("GaussianSmearing", **basis),
            "interactions": nn.ModuleList(blocks),
        }
        layers = nn.Sequential(self.dense(pyg.lin1, active=True), self.dense(pyg.lin2))
        shift = {"mean": torch.tensor([pyg.mean]), "stddev": torch.tensor([pyg.std])}
        pool = self("Aggregate", average=type(pyg.readout).__name__ == "MeanAggregation")
        parts = {"out_net": nn.Sequential(self("GetItem", key="representation"), self("MLP", out_net=layers))}
        parts |= {"standardize": self("ScaleShift", **shift), "atom_pool": pool, "atomref": pyg.atomref}
        outputs = nn.ModuleList([self(output, **parts)])
        return self("AtomisticModel", representation=self("SchNet", **representation), output_modules=outputs)

    def save(self, pyg: PyGSchNet, path: Path, legacy: bool = True, output: str = "Atomwise") -> None:
        model = self.model(pyg, output)
        path.parent.mkdir(parents=True, exist_ok=True)
        sys.modules[self.module.__name__] = self.module
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is no source code of these classes
                torch.save(model, path, _use_new_zipfile_serialization=not legacy)
        finally:
            del sys.modules[self.module.__name__]


@pytest.fixture
def old() -> Old:
    return Old()


def check_same(ours: SchNet, theirs: PyGSchNet, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Equal properties and gradients but for PyG's rounded ln 2 and its float32 ``std``, 3e-8 each."""
    results = []
    for model in (ours.double(), theirs.double()):
        pos = inputs[1].clone().requires_grad_()
        y = model(inputs[0], pos, inputs[2])
        results.append((y.detach(), torch.autograd.grad(y.sum(), pos)[0]))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-7 * b.abs().max()


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("name", PROPERTIES)
def test_qm9_is_as_pyg_reads_it(name: str, legacy: bool, molecules: Any, old: Old, tmp_path: Path) -> None:
    scale, mean = PROPERTIES[name]
    theirs = make_pyg(mean, scale, dipole=name == "qm9-mu")
    path = tmp_path / "trained_schnet_models" / pretrained.QM9[name] / "best_model"
    old.save(theirs, path, legacy, "DipoleMoment" if name == "qm9-mu" else "Atomwise")
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(path, str(path.relative_to(tmp_path)))
    for source in (tmp_path, path.parent.parent, path, archive):
        model = SchNet.from_pretrained(name, source=source)
        assert "schnetpack_0x" not in sys.modules
        assert not model.training
        assert model.embedding.weight.dtype == torch.float32
        check_same(model, theirs, tuple(molecules))


def test_qm9_archive_is_downloaded(
    internet: dict[str, bytes], old: Old, water: Any, tmp_path: Path, within_rounding: Callable
) -> None:
    old.save(make_pyg(False, 1.0), tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "model", "trained_schnet_models/qm9_energy_U0/best_model")
    internet[pretrained.QM9_URL] = (tmp_path / "a.zip").read_bytes()
    model = from_pretrained("qm9-U0", root=tmp_path / "cache", energy_unit="meV")
    z, pos = water
    wide = from_pretrained("qm9-U0", source=tmp_path / "model").double()
    within_rounding([model(z, pos.float())], lambda: [1000 * wide(z, pos.double())])
    with pytest.raises(ValueError, match="has no qm9_gap/best_model; expected the archive"):
        from_pretrained("qm9-gap", root=tmp_path / "cache")


def test_qm9_files_of_something_else(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model")
    with pytest.raises(ValueError, match=r"expected a pickled model of SchNetPack for 'qm9-U0', got torch.*\.Linear"):
        from_pretrained("qm9-U0", source=tmp_path / "model")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 broken")
    with pytest.raises(ValueError, match="is not a readable zip archive"):
        from_pretrained("qm9-U0", source=tmp_path / "broken.zip")
