"""Features in two compiled calls: gradients of the ordinary network, for any head, and never for others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet
from pyg_schnet.sizes import SIZES

pytest.importorskip("numba")
MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "no cutoff function, both layers": {"cutoff_function": None, "std": 2.5, "mean": -3.0, "activate_last": True},
    "PyG's softplus, sizes that nothing divides": {"act": "ssp-pyg", "hidden_channels": 7, "num_filters": 5},
    "mean of neighbours and of atoms, three targets": {"normalization": "mean", "readout": "mean", "out_channels": 3},
    "shared, smooth": {"shared_interactions": True, "num_interactions": 3, "normalization": "smooth"},
    "sizes that sixteen divides, learned basis": {"hidden_channels": 32, "num_filters": 48, "trainable_basis": True},
    "set2set, other activation of the output": {"readout": "set2set", "output_act": "silu", "basis": "bessel"},
}
#: Beside what float32 rounds, in which gradients at knots are computed, too.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}


def results(model: SchNet, call: Callable[[], Tensor]) -> dict[str, Tensor]:
    """What the model predicts, and gradients of a loss of it with respect to all weights."""
    y = call()
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weights = dict(model.named_parameters())
    slopes = torch.autograd.grad((weight * y + (y - weight) ** 2).sum(), list(weights.values()))
    return {"y": y.detach(), **dict(zip(weights, slopes, strict=True))}


def assert_same(result: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        assert result[name].dtype == value.dtype, name
        assert float((result[name] - value).norm()) <= tolerance * float(value.norm()), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["open", "periodic", "given edges"])
def test_equal_to_the_ordinary_network(
    kind: str,
    variant: str,
    dtype: torch.dtype,
    make_model: MakeModel,
    three_structures: Any,
    graph_of_kind: Any,
    ways: list[str],
    without_pass: Any,
) -> None:
    model = make_model(**VARIANTS[variant], filters="table").to(dtype).train()
    z, pos, batch = three_structures(dtype)
    graph = graph_of_kind(kind, model.cutoff, pos, batch)
    result = results(model, lambda: model(z, pos, batch, **graph))
    assert ways == ["pass"]
    expected = without_pass(lambda: results(model, lambda: model(z, pos, batch, **graph)))
    assert_same(result, expected, TOLERANCE[dtype])


#: Atoms of structures: of all sizes, alone and some together; and as many groups as there are sums, and more.
STRUCTURES = {"many sizes": [3, 20, 0, 1, 60, 30, 97, 5, 96, 120, 2, 40, 41, 15, 1], "more": [50] * 37}


@pytest.mark.parametrize("sizes", STRUCTURES)
def test_many_structures(
    sizes: str, make_model: MakeModel, ways: list[str], without_pass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the ordinary network; to the last bit whichever threads do them."""
    model = make_model(cutoff=3.0, filters="table").train()
    batch = torch.arange(len(STRUCTURES[sizes])).repeat_interleave(torch.tensor(STRUCTURES[sizes]))
    z, pos = torch.randint(1, 10, (len(batch),)), 4.0 * torch.randn(len(batch), 3, dtype=torch.float64)

    def call() -> dict[str, Tensor]:
        return results(model, lambda: model(z, pos, batch, batch_size=len(STRUCTURES[sizes])))

    result = call()
    assert_same(result, without_pass(call), 1e-11)
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    for threads in (2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert all(torch.equal(value, result[name]) for name, value in call().items())
    assert ways == ["pass"] * 3


def test_features_for_a_head_of_ones_own(molecules: Any, make_model: MakeModel, ways: list[str]) -> None:
    """Gradients through features into all weights are finite differences of what follows."""
    model, head = make_model(filters="table").train(), torch.randn(16, 16, dtype=torch.float64)
    weights = [weight for name, weight in model.named_parameters() if not name.startswith("output")]

    def loss() -> Tensor:
        x = model.features(*molecules)
        return ((x @ head[: x.size(1), : x.size(1)]) * x).sum().tanh()

    slopes = torch.autograd.grad(loss(), weights)
    direction = [torch.randn_like(weight) for weight in weights]
    expected = sum(float((slope * way).sum()) for slope, way in zip(slopes, direction, strict=True))
    step, ends = 1e-5, []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight.add_(sign * step * way)
        ends.append(float(loss().detach()))
    # the error is the square of the step times third derivatives, and round-off divided by the step
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-8)
    assert set(ways) == {"pass"}


def test_gradients_can_be_differentiated_again(
    molecules: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    model = make_model(filters="table").train()

    def penalty() -> dict[str, Tensor]:
        weights = dict(model.named_parameters())
        slopes = torch.autograd.grad(model(*molecules).sum(), list(weights.values()), create_graph=True)
        loss = sum((slope**2).sum() for slope in slopes)
        second = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        return dict(zip(weights, second, strict=True))

    result = penalty()
    assert ways == ["pass"]
    assert_same(result, without_pass(penalty), 1e-10)


def many_copies(molecules: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """So many structures that tables are worth it, all a little different."""
    many = 40
    pos = molecules.pos.repeat(many, 1) + 0.05 * torch.randn(many * len(molecules.z), 3, dtype=torch.float64)
    batch = torch.cat([molecules.batch + 3 * copy for copy in range(many)])
    return molecules.z.repeat(many), pos.float().to(dtype), batch


@pytest.mark.parametrize("basis", [{"num_gaussians": 100, "cutoff": 10.0, "gamma": 10.0}, {}], ids=["papers'", "PyG's"])
def test_as_good_as_exact_float32(
    basis: dict[str, Any], molecules: Any, make_model: MakeModel, ways: list[str]
) -> None:
    """Fewer knots, and gradients in float32, cost no digit of those that float32 has."""
    model = make_model(**basis, activate_last=True, filters="exact")
    truth = results(model, lambda: model(*many_copies(molecules, torch.float64)))
    model.float().filters = "auto"
    torch.manual_seed(0)
    truth = results(model.double(), lambda: model(*many_copies(molecules, torch.float64)))
    torch.manual_seed(0)
    single = results(model.float(), lambda: model(*many_copies(molecules, torch.float32)))
    assert ways == ["networks", "networks", "pass"]
    eps = torch.finfo(torch.float32).eps
    for name, value in truth.items():
        # some forty sums of a hundred rounded products each are behind one another; found: 8 eps at most
        assert float((single[name] - value).norm()) <= 40 * eps * float(value.norm()), name


def test_frozen_models(molecules: Any, make_model: MakeModel, ways: list[str], without_pass: Any) -> None:
    model = make_model().freeze()
    y = model(*molecules)
    assert ways == ["pass"]
    torch.testing.assert_close(y, without_pass(lambda: model(*molecules)), rtol=1e-12, atol=1e-12)


def listen(model: SchNet) -> None:
    model.interactions[0].lin.register_forward_hook(lambda module, inputs, output: 0 * output)


def replace(model: SchNet) -> None:
    model.interactions[0].lin = nn.Sequential(model.interactions[0].lin, nn.Tanh())


def other_method(model: SchNet) -> None:
    block, forward = model.interactions[1], model.interactions[1].forward
    block.forward = lambda *arguments: 0 * forward(*arguments)


def fewer(model: SchNet) -> None:
    del model.interactions[1]


@pytest.mark.parametrize("change", [listen, replace, other_method, fewer], ids=lambda change: change.__name__)
def test_changed_blocks(
    change: Callable[[SchNet], None], water: Any, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    """Somebody listens to a layer, puts another one or another method in its place, or takes a block away."""
    model = make_model(filters="table").train()
    before = model(*water)
    change(model)
    after = model(*water)
    assert ways == ["pass", {fewer: "pass", other_method: "networks"}.get(change, "tables")]
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, without_pass(lambda: model(*water)), rtol=1e-12, atol=1e-12)


def test_derivatives_by_positions_large_structures_and_few_digits_are_not_passed(
    water: Any, make_model: MakeModel, ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (z, pos) = make_model(filters="table").train(), water
    moving = pos.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(z, moving).sum(), moving)
    forces = Potential(model.eval())(z, pos)["forces"]
    torch.testing.assert_close(slope, -forces, rtol=1e-10, atol=1e-12)
    ways.clear()
    monkeypatch.setattr(SIZES, "max_atoms", 2)
    model(z, pos)
    monkeypatch.setattr(SIZES, "max_atoms", 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(z, pos)
    assert ways == ["tables"] * 2


def test_weights_that_change_before_the_way_back(water: Any, make_model: MakeModel) -> None:
    """They are noticed, as by all of torch."""
    model = make_model(filters="table").train()
    loss = model(*water).sum()
    with torch.no_grad():
        model.interactions[0].lin.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
