"""What users of PyG write: a Data for the tensors, arguments and methods of PyG's SchNet, its state dict."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.nn.models import SchNet as PyGSchNet
from torch_geometric.nn.models.schnet import RadiusInteractionGraph

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.convert import from_pyg
from pyg_schnet.convert.pyg import InteractionGraph
from pyg_schnet.models import DTNN, Committee, EnnS2S
from pyg_schnet.transforms import RadiusGraph


def crystal() -> Data:
    cell = 4 * torch.eye(3).unsqueeze(0)
    return Data(z=torch.tensor([6, 8]), pos=torch.rand(2, 3), cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))


MODELS: dict[str, Callable[[], Any]] = {
    "SchNet": lambda: SchNet(16, 16, 2, 12, 3.0, mean=-1.5),
    "frozen": lambda: SchNet(16, 16, 2, 12, 3.0, mean=-1.5).freeze(),
    "DTNN": lambda: DTNN(cutoff=3.0),
    "EnnS2S": lambda: EnnS2S(cutoff=3.0),
    "Committee": lambda: Committee([SchNet(16, 16, 2, 12, 3.0), SchNet(16, 16, 1, 12, 2.5)]),
}


def same(one: Any, other: Any) -> bool:
    return all(map(torch.equal, one, other)) if isinstance(one, tuple) else torch.equal(one, other)


@pytest.mark.parametrize("kind", MODELS)
def test_data_in_place_of_tensors(kind: str) -> None:
    model, batch = MODELS[kind](), Batch.from_data_list([crystal(), crystal()])
    tensors: dict[str, Any] = {"batch": batch.batch, "cell": batch.cell, "pbc": batch.pbc}
    assert same(model(batch), model(batch.z, batch.pos, **tensors))
    one = crystal()
    assert same(model(one), model(one.z, one.pos, cell=one.cell, pbc=one.pbc))
    if kind != "EnnS2S":
        assert same(model.contributions(batch), model.contributions(batch.z, batch.pos, **tensors))
    if kind != "Committee":
        assert same(model.features(batch), model.features(batch.z, batch.pos, **tensors))
    graph = RadiusGraph(3.0)(crystal())
    given = {name: graph[name] for name in ("edge_index", "edge_shift", "cell", "pbc")}
    assert same(model(graph), model(graph.z, graph.pos, **given))
    bonds = crystal()
    bonds.edge_index = torch.tensor([[0], [1]])  # beside no shift, bonds
    assert same(model(bonds), model(bonds.z, bonds.pos, cell=bonds.cell, pbc=bonds.pbc))


@pytest.mark.parametrize("kind", MODELS)
def test_data_that_cannot_be_taken(kind: str) -> None:
    model, data = MODELS[kind](), crystal()
    for wrong, message in (
        (lambda: model(data, data.pos), "pass either a Data object alone or tensors"),
        (lambda: model(data, cell=data.cell), "pass either a Data object alone or tensors"),
        (lambda: model(data.z), "`pos` is missing: pass a Data object or the tensors z and pos"),
        (lambda: model([data, data]), r"is a list of Data; pass them as one batch: Batch.from_data_list\(data\)"),
        (lambda: model(HeteroData()), "`pos` is missing: pass a Data object"),
        (
            lambda: model(RadiusGraph(2.0)(crystal())),
            "the graph was built with a cutoff of 2 Angstrom, the model needs 3",
        ),
        (lambda: model(Data(pos=data.pos)), r"`data` must have `z` \[N\] and `pos` \[N, 3\]; `z` is missing"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            wrong()


def test_arguments_that_change_nothing() -> None:
    torch.manual_seed(0)
    expected = SchNet(16, 16, 1, 12, 3.0)
    torch.manual_seed(0)
    spelled = {"dipole": False, "max_num_neighbors": None, "interaction_graph": InteractionGraph(3.0)}
    model = SchNet(16, 16, 1, 12, 3.0, **spelled)
    assert model.config == expected.config
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ({"max_num_neighbors": 32}, "`max_num_neighbors` is 32, but every neighbour within the cutoff counts"),
        ({"dipole": True}, "`dipole` of PyG's SchNet is readout='dipole_magnitude' here"),
        ({"interaction_graph": RadiusInteractionGraph(3.0)}, "is a RadiusInteractionGraph, but the model searches"),
        ({"interaction_graph": InteractionGraph(4.0)}, "is a InteractionGraph, but the model searches all"),
        ({"hidden": 3}, "SchNet has no argument 'hidden'; expected one of self, hidden_channels"),
    ],
)
def test_arguments_that_mean_something_else(spelled: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("self, ", "")):
        SchNet(16, 16, 1, 12, 3.0, **spelled)
    with pytest.raises(TypeError, match=message.replace("self, ", "")):
        SchNet.preset("pyg", cutoff=3.0, **spelled)


def test_state_dict_of_pyg() -> None:
    theirs = PyGSchNet(16, 16, 1, 12, 3.0)
    for strict in (True, False):
        with pytest.raises(ValueError, match=r"the state dict of PyG's SchNet.*convert.from_pyg\(state\)"):
            SchNet(16, 16, 1, 12, 3.0).load_state_dict(theirs.state_dict(), strict=strict)
    assert from_pyg(theirs.state_dict()).config["cutoff"] == 3.0


def test_published_models_of_pyg() -> None:
    with pytest.raises(NotImplementedError, match=r"write SchNet.from_pretrained\('qm9-U0', root='data'\)"):
        SchNet.from_qm9_pretrained("data", None, 7)
    with pytest.raises(ValueError, match="`target` must be the number of a property of QM9 from 0 to 11, got 12"):
        SchNet.from_qm9_pretrained("data", None, 12)


def test_radius_graph() -> None:
    pos, batch = 3 * torch.rand(12, 3), torch.tensor([0] * 5 + [1] * 7)
    expected = radius_graph(pos, 2.0, batch)
    for found in (
        radius_graph(pos, r=2.0, batch=batch, loop=False, flow="source_to_target"),
        radius_graph(pos, 2.0, batch, False),  # type: ignore[arg-type]
        radius_graph(pos, cutoff=2.0, batch=batch, max_num_neighbors=32),
    ):
        assert torch.equal(found.edge_index, expected.edge_index)
    for wrong, message in (
        ({"r": 2.0, "cutoff": 2.0}, "pass the distance as `cutoff` or as PyG's `r`"),
        ({}, "pass the distance as `cutoff` or as PyG's `r`"),
        ({"r": 2.0, "loop": True}, "an atom is no neighbour of itself"),
        ({"r": 2.0, "cell": True}, "an atom is no neighbour of itself"),  # the fourth by place in PyG
        ({"r": 2.0, "flow": "target_to_source"}, r"turn the result around with edge_index.flip\(0\)"),
        ({"r": -1.0}, "`cutoff` must be positive, got -1.0"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            radius_graph(pos, **wrong)


def test_presets() -> None:
    presets = SchNet.presets()
    for name, arguments in presets.items():
        assert SchNet(**arguments).config == SchNet.preset(name).config
    assert str(presets).splitlines()[1].startswith("jcp2018            hidden_channels=64, num_filters=64")
    presets["pyg"]["cutoff"] = 1.0
    assert SchNet.presets()["pyg"]["cutoff"] == 10.0


def test_potential_says_the_same_of_a_list() -> None:
    with pytest.raises(TypeError, match="is a list of Data; pass them as one batch"):
        Potential(SchNet(16, 16, 1, 12, 3.0))([crystal()])  # type: ignore[arg-type]
