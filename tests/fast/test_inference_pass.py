"""Frozen models in one pass: energies and slopes of the ordinary network, and never for what it does not know."""

import copy
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import set_masks

from pyg_schnet import Potential, SchNet, fast, radius_graph
from pyg_schnet.fast.weights import locate
from pyg_schnet.models import Committee, CommitteePotential
from pyg_schnet.nn import ShiftedSoftplus
from pyg_schnet.sizes import SIZES
from tests.conftest import assert_forces_are_slopes

pytest.importorskip("numba")
MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "no cutoff function": {"cutoff_function": None, "std": 2.5, "mean": -3.0},
    "cosine, PyG's softplus, sizes that nothing divides": {"act": "ssp-pyg", "hidden_channels": 7, "num_filters": 5},
    "mean of neighbours and of atoms": {"normalization": "mean", "readout": "mean", "std": 0.5},
    "smooth normalization, shared": {"normalization": "smooth", "shared_interactions": True},
    "polynomial": {"cutoff_function": "polynomial", "act": "ssp-schnetpack"},
    "mollifier": {"cutoff_function": "mollifier", "num_interactions": 3},
    "sizes that sixteen divides": {"hidden_channels": 32, "num_filters": 48, "normalization": "mean"},
    "two atoms' features": {"hidden_channels": 2, "num_filters": 1, "num_interactions": 1},
    "repulsion": {"repulsion": "zbl", "std": 2.5},
}


@pytest.fixture(autouse=True)
def _not_molecules() -> Iterator[None]:
    """Molecules have a shorter way, which others do not."""
    with fast.without("molecules"):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["open", "periodic", "given edges"])
@pytest.mark.parametrize("division", ["groups", "tiles"])
def test_equal_to_the_ordinary_network(
    division: str,
    kind: str,
    variant: str,
    dtype: torch.dtype,
    divided: Callable[[str], None],
    make_model: MakeModel,
    three_structures: Any,
    graph_of_kind: Any,
    ways: list[str],
    without_pass: Any,
) -> None:
    divided(division)
    model = make_model(**VARIANTS[variant]).to(dtype).freeze()
    z, pos, batch = three_structures(dtype)
    graph = graph_of_kind(kind, model.cutoff, pos, batch)
    potential = Potential(model, virials=True, stress=kind != "open")
    result = potential(z, pos, batch, **graph)
    assert ways == ["pass"]
    expected = without_pass(lambda: potential(z, pos, batch, **graph))
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert result[name].dtype == value.dtype
        assert not result[name].requires_grad
        error = (result[name] - value).abs().max()
        # some ten roundings of each of some hundred pairs, which add up like their root, and of what cancels in forces
        assert error <= 200 * torch.finfo(dtype).eps * value.abs().max()


def many(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Structures of zero to 120 atoms: alone, some together, as many as are done at once."""
    sizes = torch.tensor([3, 20, 0, 1, 60, 30, 97, 5, 96, 120, 2, 40, 41, 15, 1])
    count = int(sizes.sum())
    batch = torch.arange(len(sizes)).repeat_interleave(sizes)
    return torch.randint(1, 10, (count,)), 4.0 * torch.randn(count, 3, dtype=dtype), batch


@pytest.mark.parametrize("normalization", [None, "smooth"])
@pytest.mark.parametrize("kind", ["open", "periodic", "edges in disorder"])
@pytest.mark.parametrize("division", ["groups", "tiles"])
def test_many_structures(
    division: str,
    kind: str,
    normalization: str | None,
    make_model: MakeModel,
    ways: list[str],
    without_pass: Any,
    divided: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the ordinary network, whichever threads do them."""
    divided(division)
    potential = Potential(make_model(normalization=normalization, cutoff=3.0).freeze(), virials=True)
    z, pos, batch = many(torch.float64)
    graph: dict[str, Any] = {"batch_size": 15}
    if kind != "open":
        graph |= {
            "cell": 12.0 * torch.eye(3, dtype=torch.float64).repeat(15, 1, 1),
            "pbc": torch.ones(15, 3, dtype=torch.bool),
        }
    if kind == "edges in disorder":
        found = radius_graph(pos, 3.0, batch, graph["cell"], graph["pbc"], batch_size=15)
        order = torch.randperm(found.edge_index.size(1))
        graph |= {"edge_index": found.edge_index[:, order], "edge_shift": found.edge_shift[order]}
    result = potential(z, pos, batch, **graph)
    expected = without_pass(lambda: potential(z, pos, batch, **graph))
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, rtol=0, atol=1e-12 * float(value.abs().max()))
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    for threads in (2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for name, value in potential(z, pos, batch, **graph).items():
            assert torch.equal(value, result[name])
    assert ways == ["pass"] * 3


@pytest.mark.parametrize("division", ["groups", "tiles"])
def test_structures_do_not_see_their_company(
    division: str, make_model: MakeModel, ways: list[str], divided: Callable[[str], None]
) -> None:
    divided(division)
    potential = Potential(make_model(cutoff=3.0).freeze())
    z, pos, batch = many(torch.float64)
    result = potential(z, pos, batch, batch_size=15)
    for structure in (1, 4, 6, 9):
        mine = batch == structure
        alone = potential(z[mine], pos[mine])
        torch.testing.assert_close(alone["energy"], result["energy"][structure].unsqueeze(0), rtol=1e-13, atol=0)
        torch.testing.assert_close(alone["forces"], result["forces"][mine], rtol=0, atol=1e-13)
    assert set(ways) == {"pass"}


def test_groups() -> None:
    """Whole structures, about as many atoms in each; pairs of each in their order; none across structures."""
    groups_of = importlib.import_module("pyg_schnet.fast.cpu.first_order").groups_of
    batch = torch.tensor([0, 0, 0, 2, 2, 3, 3, 3, 3, 3, 4, 5]).numpy()
    target, source = torch.tensor([[11, 0, 6, 4, 1, 9], [11, 1, 5, 3, 2, 8]]).numpy()
    first_atom, order, first_pair = groups_of(batch, target, source, 5)
    assert first_atom.tolist() == [0, 3, 5, 10, 12]
    assert order.tolist() == [1, 4, 3, 2, 5, 0]
    assert first_pair.tolist() == [0, 2, 3, 5, 6]
    assert groups_of(batch, target[:1], source[:1], 6)[0].tolist() == [0, 5, 12]
    assert len(groups_of(batch, target, source[::-1].copy(), 5)[0]) == 1
    assert groups_of(batch[:0], target[:0], source[:0], 5)[0].tolist() == [0]


@pytest.mark.parametrize(("atoms", "number"), [(1, 14), (60, 10), (96, 7), (10_000, 1)])
def test_groups_of_another_size(
    atoms: int, number: int, make_model: MakeModel, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are as many as they should be, and give the same results."""
    model = make_model(cutoff=3.0).freeze()
    z, pos, batch = many(torch.float64)
    expected = Potential(model)(z, pos, batch)
    monkeypatch.setattr(SIZES, "atoms_per_group", atoms)
    for name, value in Potential(model)(z, pos, batch).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12 * float(expected[name].abs().max()))
    assert ways == ["pass"] * 2
    edges = model.edges(z, pos, batch, 15)
    groups, located = importlib.import_module("pyg_schnet.fast.groups"), locate(model)
    assert located is not None
    found = groups.group_structures(model, located, batch, edges)
    limits = [found.group(k)[:2] for k in range(found.number)]
    assert [first for first, _ in limits] == [0, *(end for _, end in limits[:-1])]
    assert limits[-1][1] == len(z)
    assert found.number == number


def test_forces_are_those_of_the_energy(three_structures: Any, make_model: MakeModel, ways: list[str]) -> None:
    """Finite differences of energies of the pass."""
    potential = Potential(make_model(cutoff_function="mollifier", normalization="smooth").freeze())
    structures = three_structures(torch.float64)
    assert_forces_are_slopes(potential, structures, ((0, 0), (4, 1), (10, 2)), rel=1e-6, abs=1e-8)
    assert set(ways) == {"pass"}


def test_every_member_of_a_committee(
    three_structures: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    committee = Committee([make_model(cutoff=cutoff).freeze() for cutoff in (3.0, 4.0)])
    z, pos, batch = three_structures(torch.float64)
    call = CommitteePotential(committee)
    result = call(z, pos, batch)
    assert ways == ["pass", "pass"]
    for name, value in without_pass(lambda: call(z, pos, batch)).items():
        torch.testing.assert_close(result[name], value, rtol=1e-10, atol=1e-12)


def test_weights_that_change_are_seen(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    """Changed where they are, replaced, or loaded."""
    model, other = make_model().freeze(), make_model()
    potential = Potential(model)
    before = potential(*water)["energy"]
    with torch.no_grad():
        model.interactions[0].lin.weight.mul_(1.5)
    changed = potential(*water)["energy"]
    model.output.lin2.weight = nn.Parameter(2 * model.output.lin2.weight.detach())
    replaced = potential(*water)["energy"]
    assert len({float(energy) for energy in (before, changed, replaced)}) == 3
    model.load_state_dict(other.state_dict())
    loaded = potential(*water)["energy"]
    torch.testing.assert_close(loaded, Potential(other.freeze())(*water)["energy"], rtol=1e-14, atol=0)
    torch.testing.assert_close(Potential(copy.deepcopy(model))(*water)["energy"], loaded, rtol=1e-14, atol=0)
    assert set(ways) == {"pass"}
    end = model.interactions[0].conv.cutoff.cutoff
    for block in model.interactions:
        block.conv.cutoff.cutoff = 0.9 * end
    shorter = potential(*water)["energy"]
    assert abs(float(shorter - loaded)) > 1e-8
    for block in model.interactions:
        block.conv.cutoff.cutoff = end
    assert torch.equal(potential(*water)["energy"], loaded)
    assert set(ways) == {"pass"}
    single = Potential(model.float())(water[0], water[1].float())["energy"]
    torch.testing.assert_close(single, loaded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", ["shift", "linear_from"])
def test_settings_of_activations_that_change_are_seen(setting: str, water: Any, make_model: MakeModel) -> None:
    """Those of the output network alone, and those of all, which the loops know again."""
    model = make_model(hidden_channels=16).freeze()
    with torch.no_grad():
        model.output.lin1.bias.fill_(30.0)  # so that the linear part is reached
        for block in model.interactions:
            block.conv.lin2.bias.fill_(30.0)
    potential = Potential(model)

    def expected() -> Tensor:
        return model(*water).squeeze(-1).detach()  # the ordinary way

    seen = [potential(*water)["energy"]]
    for layers in ([model.output], [*model.interactions, model.output]):
        for one in layers:
            setattr(one.act, setting, {"shift": 0.25, "linear_from": 1.0}[setting])
        seen.append(potential(*water)["energy"])
        torch.testing.assert_close(seen[-1], expected(), rtol=1e-12, atol=0)
    assert setting == "linear_from" or len({float(energy) for energy in seen}) == 3


def prune(model: SchNet) -> None:
    model.interactions[0].lin.register_forward_hook(lambda module, inputs, output: 0 * output)


def replace(model: SchNet) -> None:
    model.interactions[0].lin = nn.Sequential(model.interactions[0].lin, nn.Tanh())


def no_bias(model: SchNet) -> None:
    model.interactions[0].lin = nn.Linear(model.interactions[0].lin.in_features, 16, bias=False).double()


def strided(model: SchNet) -> None:
    model.interactions[0].lin.weight.data = 2 * model.interactions[0].lin.weight.data.T


def explain(model: SchNet) -> None:
    edge_index = torch.tensor([[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    set_masks(model, torch.zeros(6, dtype=torch.float64), edge_index)


def another_activation(model: SchNet) -> None:
    model.interactions[1].act = ShiftedSoftplus(shift=0.5)


def another_cutoff(model: SchNet) -> None:
    model.interactions[0].conv.cutoff = nn.Hardtanh(0.0, 0.5)


@pytest.mark.parametrize(
    "change",
    [prune, replace, no_bias, strided, explain, another_activation, another_cutoff],
    ids=lambda change: change.__name__,
)
def test_changed_layers_are_left_to_the_ordinary_network(
    change: Callable[[SchNet], None], water: Any, make_model: MakeModel, ways: list[str]
) -> None:
    model = make_model(hidden_channels=16).freeze()
    before = Potential(model)(*water)["energy"]
    change(model)
    after = Potential(model)(*water)["energy"]
    assert ways[0] == "pass"
    assert ways[1:] in (["frozen tables"], ["networks"])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("kind", ["shape", "dtype"])
def test_weights_that_do_not_fit_are_an_error_not_read_beyond_their_end(
    kind: str, water: Any, make_model: MakeModel, ways: list[str]
) -> None:
    model = make_model(hidden_channels=16).freeze()
    lin = model.interactions[0].lin
    model.interactions[0].lin = (nn.Linear(16, 8).double() if kind == "shape" else copy.deepcopy(lin).float()).eval()
    with pytest.raises(RuntimeError, match=r"must match|same dtype|size"):
        Potential(model)(*water)
    assert "pass" not in ways


@pytest.mark.parametrize(
    "options",
    [{"act": "silu"}, {"output_act": "tanh"}, {"readout": "max"}, {"num_interactions": 0}],
    ids=["act", "output_act", "readout", "no interactions"],
)
def test_other_networks_are_left_to_the_ordinary_one(
    options: dict[str, Any], water: Any, make_model: MakeModel, ways: list[str]
) -> None:
    model = make_model(**options)
    expected = Potential(model)(*water)
    for name, value in Potential(model.freeze())(*water).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    assert ways == ["networks", "frozen tables"]


def test_a_network_of_the_users_own_is_evaluated(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    """A subclass, and a method that was replaced, by a compiled one for example."""

    class Doubled(SchNet):
        def represent(self, *arguments: Any) -> Tensor:
            return 2 * super().represent(*arguments)

    model = make_model().freeze()
    doubled = Doubled(**model.config).double()
    doubled.load_state_dict(model.unfreeze().state_dict())
    expected = Potential(doubled)(*water)["energy"]
    torch.testing.assert_close(Potential(doubled.freeze())(*water)["energy"], expected, rtol=1e-6, atol=1e-8)
    model.freeze().represent = lambda *arguments: 2 * SchNet.represent(model, *arguments)
    torch.testing.assert_close(Potential(model)(*water)["energy"], expected, rtol=1e-6, atol=1e-8)
    assert ways == ["networks", "frozen tables", "frozen tables"]


def test_derivatives_of_derivatives_are_not_passed(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    potential = Potential(make_model().freeze())
    potential.hessian(*water)
    assert ways == ["frozen tables"]
    with fast.without("compiled loops"):
        potential(*water)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        potential(*water)
    assert ways == ["frozen tables"] * 3
    potential(*water)
    assert ways[3:] == ["pass"]


def test_atoms_far_apart(make_model: MakeModel, ways: list[str]) -> None:
    out = Potential(make_model().freeze())(torch.tensor([6, 8]), 90.0 * torch.eye(3, dtype=torch.float64)[:2])
    assert ways == ["frozen tables"]
    assert not out["forces"].any()
