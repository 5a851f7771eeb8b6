"""Training on energies and forces in two compiled calls: gradients of the ordinary network, and never for others."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet, fast
from pyg_schnet.models import Committee, CommitteePotential
from pyg_schnet.sizes import SIZES

pytest.importorskip("numba")
MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "no cutoff function": {"cutoff_function": None, "std": 2.5, "mean": -3.0, "activate_last": True},
    "cosine, PyG's softplus, sizes that nothing divides": {"act": "ssp-pyg", "hidden_channels": 7, "num_filters": 5},
    "mean of neighbours and of atoms": {"normalization": "mean", "readout": "mean", "std": 0.5},
    "shared": {"shared_interactions": True, "num_interactions": 3, "normalization": "mean"},
    "polynomial": {"cutoff_function": "polynomial", "act": "ssp-schnetpack"},
    "mollifier, Bessel functions": {"cutoff_function": "mollifier", "num_interactions": 3, "basis": "bessel"},
    "sizes that sixteen divides, learned basis": {"hidden_channels": 32, "num_filters": 48, "trainable_basis": True},
    "two atoms' features": {"hidden_channels": 2, "num_filters": 1, "num_interactions": 1},
    "repulsion": {"repulsion": "zbl", "std": 2.5},
}
#: Beside what float32 rounds: errors grow from the energies to the gradients of a loss of forces.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-4}


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that nobody has written is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def loss_of(out: dict[str, Tensor]) -> Tensor:
    """A loss that all results enter, in different ways."""
    generator = torch.Generator().manual_seed(5)
    loss = torch.zeros((), dtype=torch.float64)
    for value in out.values():
        weight = torch.randn(value.shape, dtype=torch.float64, generator=generator)
        loss = loss + (weight * value + (value - weight) ** 2).sum()
    return loss


def results(model: SchNet, call: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Results and gradients of the loss with respect to all weights."""
    out = call()
    weights = dict(model.named_parameters())
    slopes = torch.autograd.grad(loss_of(out), list(weights.values()), allow_unused=True)
    found = {name: slope for name, slope in zip(weights, slopes, strict=True) if slope is not None}
    assert len(found) == len(weights)
    return {**{name: value.detach() for name, value in out.items()}, **found}


def assert_same(result: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert result[name].dtype == value.dtype, name
        assert float((result[name] - value).norm()) <= tolerance * float(value.norm()), name


@pytest.mark.usefixtures("poisoned")
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
    model = make_model(**VARIANTS[variant], filters="table").to(dtype).train()
    z, pos, batch = three_structures(dtype)
    graph = graph_of_kind(kind, model.cutoff, pos, batch)
    potential = Potential(model, virials=True, stress=kind != "open")
    result = results(model, lambda: potential(z, pos, batch, **graph))
    assert ways == ["pass"]
    expected = without_pass(lambda: results(model, lambda: potential(z, pos, batch, **graph)))
    assert_same(result, expected, TOLERANCE[dtype])


#: Atoms of structures: of all sizes, alone and some together; and more groups than sums are done in parts.
STRUCTURES = {
    "many sizes": [3, 20, 0, 1, 60, 30, 97, 5, 96, 120, 2, 40, 41, 15, 1],
    "as many groups as parts": [96] * 16,
    "more": [50] * 37,
}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("sizes", STRUCTURES)
@pytest.mark.parametrize("division", ["groups", "tiles"])
def test_many_structures(
    division: str,
    sizes: str,
    make_model: MakeModel,
    ways: list[str],
    without_pass: Any,
    divided: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the ordinary network; to the last bit whichever threads do them."""
    divided(division)
    model = make_model(cutoff=3.0, filters="table").train()
    batch = torch.arange(len(STRUCTURES[sizes])).repeat_interleave(torch.tensor(STRUCTURES[sizes]))
    z, pos = torch.randint(1, 10, (len(batch),)), 4.0 * torch.randn(len(batch), 3, dtype=torch.float64)

    def call() -> dict[str, Tensor]:
        return results(model, lambda: Potential(model)(z, pos, batch, batch_size=len(STRUCTURES[sizes])))

    result = call()
    assert_same(result, without_pass(call), 1e-11)
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    for threads in (2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert all(torch.equal(value, result[name]) for name, value in call().items())
    assert ways == ["pass"] * 3


@pytest.mark.parametrize("filters", ["frozen", "table"])
def test_a_structure_that_is_too_large_for_a_group(
    filters: str, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    """A periodic box of 343 atoms, three tiles and a part; stresses, virials and gradients, too."""
    model = make_model(cutoff=2.5, filters="table").train()
    grid = torch.cartesian_prod(*[torch.arange(7.0, dtype=torch.float64)] * 3)
    pos, z = 1.4 * grid + 0.1 * torch.randn(343, 3, dtype=torch.float64), torch.randint(1, 10, (343,))
    periodic = {"cell": 9.8 * torch.eye(3, dtype=torch.float64)[None], "pbc": torch.tensor([[True, True, False]])}
    if filters == "frozen":
        model.freeze()
    potential = Potential(model, stress=True, virials=True)

    def call() -> dict[str, Tensor]:
        out = potential(z, pos, **periodic)
        return out if filters == "frozen" else results(model, lambda: out)

    result = call()
    assert ways == ["pass"]
    assert_same(result, without_pass(call), 1e-11)


def test_gradients_are_those_of_the_loss(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    """Finite differences of the loss along a random direction of all weights."""
    model = make_model(filters="table", cutoff_function="mollifier").train()
    potential, weights = Potential(model), list(model.parameters())
    slopes = torch.autograd.grad(loss_of(potential(*water)), weights)
    direction = [torch.randn_like(weight) for weight in weights]
    expected = sum(float((slope * way).sum()) for slope, way in zip(slopes, direction, strict=True))
    step, ends = 1e-5, []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight.add_(sign * step * way)
        ends.append(float(loss_of(potential(*water)).detach()))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-6)
    assert set(ways) == {"pass"}


def test_gradients_may_be_differentiated_again(
    water: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    """As learning to learn does; and graphs that are kept give the same gradients twice."""
    model = make_model(filters="table").train()
    weights = list(model.parameters())

    def again() -> dict[str, Tensor]:
        loss = loss_of(Potential(model)(*water))
        once = torch.autograd.grad(loss, weights, retain_graph=True)
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        for one, two in zip(once, slopes, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
        second = torch.autograd.grad(sum(slope.square().sum() for slope in slopes), weights)
        return {str(number): slope for number, slope in enumerate(second)}

    result = again()
    assert ways == ["pass"]
    assert_same(result, without_pass(again), 1e-10)


def test_only_what_is_learned_has_gradients(
    water: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    model = make_model(filters="table").train()
    model.interactions.requires_grad_(False)
    model.embedding.requires_grad_(False)
    model.interactions[1].lin.bias.requires_grad_(True)

    def call() -> dict[str, Tensor]:
        model.zero_grad()
        loss_of(Potential(model)(*water)).backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    result = call()
    assert set(result) == {
        "interactions.1.lin.bias",
        *(f"output.{name}" for name, _ in model.output.named_parameters()),
    }
    assert_same(result, without_pass(call), 1e-11)
    model.requires_grad_(False)
    assert not Potential(model)(*water)["energy"].requires_grad
    assert ways == ["pass", "pass"]


def test_losses_of_energies_or_of_forces_alone(
    water: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    model = make_model(filters="table").train()
    for name in ("energy", "forces"):

        def call(name: str = name) -> list[Tensor | None]:
            loss = Potential(model)(*water)[name].square().sum()
            return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))

        for slope, expected in zip(call(), without_pass(call), strict=True):
            assert slope is not None
            torch.testing.assert_close(slope, torch.zeros_like(slope) if expected is None else expected)
    assert ways == ["pass", "pass"]


def test_weights_that_change_before_the_gradient_are_an_error(water: Any, make_model: MakeModel) -> None:
    model = make_model(filters="table").train()
    loss = loss_of(Potential(model)(*water))
    with torch.no_grad():
        model.interactions[0].lin.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_weights_that_are_moved_before_the_gradient(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    """Are read where they are then, and none beyond its end."""
    model = make_model(filters="table").train()
    lin, weights = model.interactions[0].lin, list(model.parameters())
    expected = torch.autograd.grad(loss_of(Potential(model)(*water)), weights)
    loss = loss_of(Potential(model)(*water))
    for weight in weights:
        weight.data = weight.data.clone()
    for slope, value in zip(torch.autograd.grad(loss, weights), expected, strict=True):
        assert torch.equal(slope, value)
    loss = loss_of(Potential(model)(*water))
    lin.weight.data = lin.weight.data[:-1].clone()
    with pytest.raises(RuntimeError, match="weights have been replaced"):
        torch.autograd.grad(loss, weights)
    assert ways == ["pass"] * 3


def test_evaluation_of_a_model_that_is_not_frozen(
    water: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    model = make_model(filters="table").eval()
    out = Potential(model)(*water)
    assert ways == ["pass"]
    assert not any(value.requires_grad for value in out.values())
    assert_same(out, without_pass(lambda: Potential(model)(*water)), 1e-12)


def test_every_member_of_a_committee(water: Any, make_model: MakeModel, ways: list[str], without_pass: Any) -> None:
    committee = Committee([make_model(cutoff=cutoff, filters="table").train() for cutoff in (3.0, 4.0)]).train()

    def call() -> dict[str, Tensor]:
        loss = loss_of({"forces": CommitteePotential(committee)(*water)["forces"]})
        slopes = torch.autograd.grad(loss, list(committee.parameters()), allow_unused=True)
        return {str(number): slope for number, slope in enumerate(slopes) if slope is not None and slope.any()}

    result = call()
    assert ways == ["pass", "pass"]
    assert_same(result, without_pass(call), 1e-11)


def listen(model: SchNet) -> None:
    model.interactions[0].lin.register_forward_hook(lambda module, inputs, output: 0 * output)


def replace(model: SchNet) -> None:
    model.interactions[0].lin = nn.Sequential(model.interactions[0].lin, nn.Tanh())


def exact(model: SchNet) -> None:
    model.filters = "exact"


@pytest.mark.parametrize("change", [listen, replace, exact], ids=lambda change: change.__name__)
def test_changed_layers_are_left_to_the_ordinary_network(
    change: Callable[[SchNet], None], water: Any, make_model: MakeModel, ways: list[str]
) -> None:
    model = make_model(filters="table").train()
    before = Potential(model)(*water)["energy"]
    change(model)
    after = Potential(model)(*water)["energy"]
    assert ways == ["pass", "networks" if change is exact else "tables"]
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    "options",
    [
        {"act": "silu"},
        {"readout": "max"},
        {"num_interactions": 0},
        {"normalization": "smooth"},
        {"filters": "auto"},  # too few pairs for a table
        {"filters": "exact"},
    ],
    ids=str,
)
def test_other_networks_are_left_to_the_ordinary_one(
    options: dict[str, Any], water: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    model = make_model(**{"filters": "table", **options}).train()
    out = Potential(model)(*water)
    assert ways == ["networks" if options.get("filters") else "tables"]
    assert out["energy"].requires_grad
    for name, value in without_pass(lambda: Potential(model)(*water)).items():
        assert torch.equal(out[name], value)


def test_other_derivatives_and_transforms_are_not_passed(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    model = make_model(filters="table").train()
    potential, (z, pos) = Potential(model), water
    potential.hessian(z, pos)
    moving = pos.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(potential(z, moving)), moving)
    assert slope.any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        potential(z, pos)
    assert ways == ["tables"] * 3

    weights = {name: weight.detach().clone().requires_grad_() for name, weight in potential.named_parameters()}
    loss = loss_of(torch.func.functional_call(potential, weights, (z, pos)))
    slopes = torch.autograd.grad(loss, list(weights.values()))
    assert ways == ["tables"] * 3 + ["pass"]
    expected = results(model, lambda: potential(z, pos))
    for name, slope in zip(weights, slopes, strict=True):
        torch.testing.assert_close(slope, expected[name.removeprefix("model.")], rtol=1e-12, atol=0)
    with fast.without("compiled loops"):
        potential(z, pos)
    assert ways[4:] == ["pass", "tables"]
