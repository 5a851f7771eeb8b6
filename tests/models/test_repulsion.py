"""Models with a repulsion: it is added to what the network says, in every way in which energies are computed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet import Potential, SchNet, fast, load, radius_graph, save
from pyg_schnet.convert import to_pyg, to_schnetpack
from pyg_schnet.convert.weights import rescale
from pyg_schnet.models import DTNN, AtomisticModel, Committee, CommitteePotential, EnnS2S
from pyg_schnet.models.checkpoint import read_header
from pyg_schnet.models.exact import ExactPotential
from pyg_schnet.nn import ZBLRepulsion

MakeModel = Callable[..., SchNet]
#: Water, one of whose bonds is half as long as it should be.
Z, POS = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.48, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)
CELL = {"cell": 2.2 * torch.eye(3, dtype=torch.float64)[None], "pbc": torch.ones(1, 3, dtype=torch.bool)}
MODELS: dict[str, Callable[..., AtomisticModel]] = {
    "SchNet": lambda **options: SchNet(8, 6, 2, 12, 5.0, **options),
    "DTNN": lambda **options: DTNN(8, 6, 2, 12, 5.0, **options),
    "EnnS2S": lambda **options: EnnS2S(8, 6, 2, 12, 5.0, readout="add", **options),
}


def twins(make: Callable[..., AtomisticModel], **options: Any) -> tuple[Any, Any]:
    """Models of the same weights, with a repulsion and without."""
    one, other = make(repulsion="zbl", **options).double(), make(**options).double()
    other.load_state_dict(one.state_dict(), strict=False)
    return one.eval(), other.eval()


def repelled(**graph: Any) -> dict[str, Tensor]:
    """Energy and derivatives of the repulsion alone, by a network that says nothing."""
    model = SchNet(4, 4, 1, 5, 5.0, zero_output=True, repulsion="zbl").double().eval()
    return Potential(model, virials=True, stress="cell" in graph)(Z, POS, **graph)


@pytest.mark.parametrize("graph", [{}, CELL], ids=["open", "periodic"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_added_whatever_the_scale_of_the_network(name: str, graph: dict[str, Tensor]) -> None:
    one, other = twins(MODELS[name], std=3.0, mean=-5.0)
    options = {"virials": True, "stress": "cell" in graph}
    found, without = (Potential(model, **options)(Z, POS, **graph) for model in (one, other))
    expected = repelled(**graph)
    assert expected["energy"] > 20.0
    for key, value in expected.items():
        torch.testing.assert_close(found[key], without[key] + value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(one(Z, POS, **graph)[0], found["energy"], rtol=1e-12, atol=0)
    torch.testing.assert_close(one.contributions(Z, POS, **graph).sum(0), found["energy"], rtol=1e-12, atol=0)
    edges = radius_graph(POS, 5.0, **graph)
    given = {"edge_index": edges.edge_index, "edge_shift": edges.edge_shift, "cell": graph.get("cell")}
    torch.testing.assert_close(one(Z, POS, **given), one(Z, POS, **graph), rtol=1e-12, atol=0)


def test_every_way_gives_the_same(make_model: MakeModel, ways: list[str]) -> None:
    model = make_model(repulsion="zbl", filters="table", std=2.0)
    with fast.exactly():
        expected = Potential(model.eval())(Z, POS)
    assert expected["energy"] > 20.0

    def same(tolerance: float, *taken: str) -> None:
        ways.clear()
        out = Potential(model)(Z, POS.to(model.embedding.weight.dtype))
        assert ways == list(taken)
        for name, value in expected.items():
            assert (out[name] - value).abs().max() <= tolerance * value.abs().max(), name

    model.filters = "exact"
    same(1e-12, "networks")
    model.compile_network(backend="eager")
    same(1e-12)  # compiled networks write nothing down
    del model.represent  # as it was written
    model.filters = "table"
    if fast.convolution.cpu_loops() is not None:
        same(1e-7, "pass")
        model.freeze()
        same(1e-7, "molecules")
        model.float()
        same(1e-5, "molecules")
        handle = model.repulsion.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
        same(1e-5, "frozen tables")  # whoever listens is heard
        handle.remove()


def test_a_repulsion_of_ones_own_is_asked(make_model: MakeModel, ways: list[str]) -> None:
    """Compiled passes know one only, also if it is replaced after they were used."""

    class Twice(ZBLRepulsion):
        def forward(self, z: Tensor, edges: Any) -> Tensor:
            return 2 * super().forward(z, edges)

    model = make_model(repulsion="zbl").freeze()
    before = Potential(model)(Z, POS)["energy"]
    model.repulsion = Twice(118, 5.0)
    ways.clear()
    after = Potential(model)(Z, POS)["energy"]
    assert ways == ["frozen tables"]
    assert float(after - before) == pytest.approx(float(repelled()["energy"]), rel=1e-6)


def test_hessian_and_committee(make_model: MakeModel) -> None:
    """Second derivatives against differences of forces; a committee whose members differ by their repulsion."""
    potential, step = ExactPotential(make_model(repulsion="zbl")), 1e-4
    hessian = potential.hessian(Data(z=Z, pos=POS))
    for axis in range(3):
        moved = torch.zeros_like(POS)
        moved[1, axis] = step
        ahead, behind = (potential(Data(z=Z, pos=POS + sign * moved))[1] for sign in (1, -1))
        slope = (behind - ahead) / (2 * step)
        assert (hessian[1, axis] - slope).abs().max() <= 1e-6 * hessian.abs().max()  # of the second order in the step
    one, other = twins(MODELS["SchNet"])
    out, energy = CommitteePotential(Committee([one, other]))(Z, POS), repelled()["energy"]
    assert float(out["energy_std"]) == pytest.approx(float(energy) / 2**0.5, rel=1e-10)
    torch.testing.assert_close(out["energy"], (one(Z, POS) + other(Z, POS))[0] / 2, rtol=1e-12, atol=0)


def test_in_16_bits_it_keeps_its_digits(make_model: MakeModel) -> None:
    model = make_model(repulsion="zbl", zero_output=True).float()
    model.reset_parameters()  # the network says nothing
    with torch.autocast("cpu", torch.bfloat16):
        found = model(Z, POS.float())
    assert float(found.detach()) == pytest.approx(float(repelled()["energy"]), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_files_keep_it(name: str, tmp_path: Path) -> None:
    one, other = twins(MODELS[name])
    save(one, path := tmp_path / "model.safetensors")
    again = load(path)
    assert isinstance(again.repulsion, ZBLRepulsion)
    assert torch.equal(again(Z, POS), one(Z, POS))
    assert "repulsion='zbl'" in repr(again)
    save(other, path)
    assert load(path).repulsion is None
    assert read_header(path)["config"]["repulsion"] is None


def test_older_files_have_none(tmp_path: Path) -> None:
    """Their headers do not know of it."""
    model = SchNet(8, 6, 2, 12, 5.0)
    del model.config["repulsion"]
    save(model, path := tmp_path / "model.safetensors")
    assert "repulsion" not in json.dumps(read_header(path))
    assert load(path).repulsion is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repulsion": "ZBL"}, "`repulsion` must be 'zbl' or None for none, got 'ZBL'"),
        (
            {"readout": "mean"},
            "expected readout='add' and out_channels=1, got readout='mean' and out_channels=1; leave",
        ),
        ({"out_channels": 2}, "got readout='add' and out_channels=2; leave out `repulsion`"),
        ({"readout": "polarizability"}, "got readout='polarizability'"),
        ({"readout": "set2set"}, "got readout='set2set'"),
    ],
)
@pytest.mark.parametrize("model", [SchNet, DTNN, EnnS2S])
def test_what_is_no_sum_of_energies_is_refused(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**{"readout": "add", "repulsion": "zbl"} | options)


def test_a_model_in_another_unit_has_its_repulsion_in_it(make_model: MakeModel, tmp_path: Path) -> None:
    model, factor = make_model(repulsion="zbl").double().eval(), 1 / 0.0433641153
    expected = Potential(model)(Z, POS)
    rescale(model, factor)
    model.units = {"energy": "kcal/mol"}
    save(model, tmp_path / "model.safetensors")
    for one in (model, load(tmp_path / "model.safetensors"), copy.deepcopy(model).freeze()):
        found = Potential(one)(Z, POS)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], factor * value, rtol=1e-4 if one.frozen else 1e-10, atol=1e-4)
    energy, forces = ExactPotential(model)(Data(z=Z, pos=POS))
    assert float(energy) == pytest.approx(float(expected["energy"]), rel=1e-6)
    torch.testing.assert_close(torch.as_tensor(forces), expected["forces"], rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="must be in kcal/mol, as its repulsion is, got the unit 'eV'"):
        ExactPotential(model, energy_unit="eV")


def test_other_units_and_packages_are_refused(make_model: MakeModel) -> None:
    model = make_model(repulsion="zbl")
    with pytest.raises(ValueError, match="must be in eV, as its repulsion is, got the unit 'kcal/mol'; convert"):
        ExactPotential(model, energy_unit="kcal/mol")
    with pytest.raises(ValueError, match="PyG's SchNet has .*; got a model with repulsion='zbl'"):
        to_pyg(SchNet.preset("pyg", num_interactions=1, repulsion="zbl"))
    with pytest.raises(ValueError, match="SchNetPack's SchNet has `repulsion` None, got a model with 'zbl'"):
        to_schnetpack(SchNet.preset("schnetpack", num_interactions=1, repulsion="zbl"))
