"""Copies have their own weights: of compiled networks, of frozen tables, and of layers that are replaced."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.models import Committee, CommitteePotential

MakeModel = Callable[..., SchNet]
COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}
COMPILERS: dict[str, Callable[[SchNet], Any]] = {
    "our way": lambda model: model.compile_network(backend="eager"),
    "by hand": lambda model: setattr(model, "represent", torch.compile(model.represent, backend="eager")),
}
pytestmark = [
    # of torch itself, while it traces
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def halve(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("way", COPIES)
def test_copies_of_compiled_models(way: str, compiler: str, water: Any, make_model: MakeModel) -> None:
    z, pos = water
    model = make_model()
    plain = copy.deepcopy(model)
    COMPILERS[compiler](model)
    other = COPIES[way](model)
    assert ("represent" in vars(other)) == (compiler == "our way")  # compiled anew
    halve(other)
    torch.testing.assert_close(model(z, pos), plain(z, pos), rtol=1e-12, atol=1e-12)
    halve(plain)
    torch.testing.assert_close(other(z, pos), plain(z, pos), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other.float()(z, pos.float()).double(), plain(z, pos), rtol=1e-5, atol=1e-5)
    halve(model)  # what is compiled reads weights where they are
    torch.testing.assert_close(model(z, pos), plain(z, pos), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_contains_compiled_models(compiler: str, water: Any, make_model: MakeModel, tmp_path: Any) -> None:
    z, pos = water
    first, second = make_model(), make_model()
    expected = Committee([first, second])(z, pos).members
    COMPILERS[compiler](first)
    other = copy.deepcopy(first)
    other.load_state_dict(second.state_dict())
    committee = copy.deepcopy(Committee([first, other]))
    torch.testing.assert_close(committee(z, pos).members, expected, rtol=1e-12, atol=1e-12)
    potential = copy.deepcopy(Potential(first))
    halve(first)
    torch.testing.assert_close(potential(z, pos)["energy"], expected[0, :, 0], rtol=1e-12, atol=1e-12)
    save(potential.model, tmp_path / "model.safetensors")
    torch.testing.assert_close(load(tmp_path / "model.safetensors")(z, pos), expected[0], rtol=1e-12, atol=1e-12)


def test_copies_of_compiled_layers(water: Any, make_model: MakeModel) -> None:
    model = make_model(filters="exact")
    block: Any = model.interactions[0]
    block.forward = torch.compile(block.forward, backend="eager")
    other = copy.deepcopy(model)
    halve(other)
    plain = make_model(filters="exact")
    plain.load_state_dict(other.state_dict())
    torch.testing.assert_close(other(*water), plain(*water), rtol=1e-12, atol=1e-12)
    shallow = copy.copy(model)
    assert "forward" in vars(shallow.interactions[0])  # which is the same layer


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_potential(backend: str, make_model: MakeModel) -> None:
    """For any size, while training too."""
    potential = Potential(make_model().train())
    compiled = torch.compile(potential, backend=backend)
    for atoms in (3, 1, 5, 2):
        z, pos = torch.randint(1, 9, (atoms,)), 3 * torch.rand(atoms, 3, dtype=torch.float64)
        expected, ours = potential(z, pos), compiled(z, pos)
        for name, value in expected.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-12)
        assert ours["forces"].requires_grad


def double(model: SchNet) -> None:
    first: Any = model.interactions[0]
    first.conv.nn[2].weight.data = 2 * first.conv.nn[2].weight.data


def in_place(model: SchNet) -> None:
    halve(model.interactions[1].conv.nn)  # type: ignore[operator, union-attr, arg-type]


def another_parameter(model: SchNet) -> None:
    first: Any = model.interactions[0]
    first.conv.nn[0].bias = nn.Parameter(first.conv.nn[0].bias.detach() + 0.3)


def another_network(model: SchNet) -> None:
    first: Any = model.interactions[0]
    first.conv.nn = copy.deepcopy(first.conv.nn)
    halve(first.conv.nn)


def another_basis(model: SchNet) -> None:
    model.basis = copy.deepcopy(model.basis)
    model.basis.offset += 0.1


CHANGES = [double, in_place, another_parameter, another_network, another_basis]


@pytest.mark.parametrize("copied", [False, True], ids=["itself", "copy"])
@pytest.mark.parametrize("way", ["potential", "model", "stress", "committee"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_frozen_tables_follow_the_weights(
    change: Callable[[SchNet], None], way: str, copied: bool, molecules: Any, make_model: MakeModel
) -> None:
    model = make_model(hidden_channels=16).freeze()

    def energies(model: SchNet) -> Tensor:
        if way == "model":
            return model(*molecules)[:, 0]
        if way == "committee":
            return Committee([model, model])(*molecules).mean[:, 0]
        return Potential(model)(*molecules, virials=way == "stress")["energy"]

    before = energies(model)
    model = copy.deepcopy(model) if copied else model
    kept = model.filter_tables
    assert torch.equal(energies(model), before)
    assert model.filter_tables is kept  # nothing is made anew without need
    change(model)
    expected = energies(copy.deepcopy(model).unfreeze())
    assert not torch.allclose(expected, before)
    torch.testing.assert_close(energies(model), expected, rtol=1e-5, atol=1e-5)


def test_moved_models_keep_their_tables(make_model: MakeModel, water: Any) -> None:
    model = make_model().freeze()
    kept = model.filter_tables
    model.to("cpu").share_memory()
    Potential(model)(*water)
    assert model.filter_tables is kept


@pytest.mark.parametrize("part", ["block", "layer", "embedding", "network"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "table"])
def test_weights_laid_out_in_another_way_at_the_same_address(
    frozen: bool, part: str, water: Any, make_model: MakeModel
) -> None:
    """A transposed square matrix has shape and address of before."""
    model = make_model(hidden_channels=16, num_filters=16, filters="table")
    model.embedding = type(model.embedding)(15, 16).double()
    model = model.freeze() if frozen else model.train()
    block: Any = model.interactions[0]
    weights = {"block": block.lin, "layer": block.conv.lin1, "embedding": model.embedding, "network": block.conv.nn[2]}
    Potential(model)(*water)
    weight = weights[part].weight
    address = weight.data_ptr()
    weight.data = weight.data.T
    assert weight.data_ptr() == address
    plain = copy.deepcopy(model).unfreeze()
    plain.filters = "exact"
    for name, value in Potential(plain)(*water).items():
        torch.testing.assert_close(Potential(model)(*water)[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", COMPILERS)
def test_second_derivatives_of_compiled_networks(way: str, make_model: MakeModel) -> None:
    """A compiler that has no second derivatives."""
    plain = make_model()
    model = copy.deepcopy(plain)
    if way == "our way":
        model.compile_network(backend="aot_eager")
    else:
        model.represent = torch.compile(model.represent, backend="aot_eager")  # type: ignore[method-assign]
    z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]).double()
    torch.testing.assert_close(Potential(model).hessian(z, pos), Potential(plain).hessian(z, pos))
    slopes = []
    for one in (plain, model):
        Potential(one.train())(z, pos)["forces"].square().sum().backward()
        slopes.append([parameter.grad for parameter in one.parameters()])
    torch.testing.assert_close(slopes[1], slopes[0])


@pytest.mark.parametrize(
    "kind", [Potential, lambda model: CommitteePotential(Committee([model, copy.deepcopy(model)]))]
)
def test_potentials_compiled_in_place(kind: Callable[[SchNet], nn.Module], make_model: MakeModel) -> None:
    z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]).double()
    potential = kind(make_model())
    expected = potential(z, pos)
    seen: list[int] = []
    potential.register_forward_hook(lambda *_: seen.append(1))
    potential.compile(backend="eager")
    torch.testing.assert_close(potential(z, pos), expected)
    assert potential(z[:2], pos[:2])["forces"].shape == (2, 3)
    assert len(seen) == 2
