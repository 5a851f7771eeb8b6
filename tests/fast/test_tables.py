"""The network with filters from tables is the exact network to the accuracy of the tables, in all derivatives."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, fast, load, radius_graph, save
from pyg_schnet.fast import tables
from pyg_schnet.models import DTNN
from pyg_schnet.models.accuracy import table_accuracy
from pyg_schnet.nn import FilterNetwork, ShiftedSoftplus
from pyg_schnet.training import energy_forces_loss

MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "no cutoff function": {"cutoff_function": None, "gamma": 10.0, "activate_last": True, "cutoff": 8.0},
    "cosine": {},
    "mollifier, smooth normalization": {"cutoff_function": "mollifier", "normalization": "smooth"},
    "mean normalization": {"cutoff_function": None, "normalization": "mean"},
    "bessel": {"basis": "bessel"},
    "trainable gaussians": {"trainable_basis": True},
    "shared": {"shared_interactions": True},
    "set2set": {"readout": "set2set"},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def both(variant: str, make_model: MakeModel) -> tuple[SchNet, SchNet]:
    """The exact model and the same weights with tables."""
    exact = make_model(**VARIANTS[variant])
    if exact.config["trainable_basis"]:
        with torch.no_grad():
            exact.basis.reset_parameters()
    tabulated = make_model(**VARIANTS[variant], filters="table")
    tabulated.load_state_dict(exact.state_dict())
    return exact, tabulated


def derivatives(model: SchNet, inputs: tuple[Tensor, ...], **graph: Any) -> dict[str, Tensor]:
    """Energies, forces and gradients of a loss of both."""
    out = Potential(model.train())(*inputs, **graph)
    target = torch.linspace(-1, 1, len(out["forces"]) * 3, dtype=out["forces"].dtype).view(-1, 3)
    loss = energy_forces_loss(out["energy"], out["forces"], torch.zeros_like(out["energy"]), target, inputs[2], 0.1)
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    return {
        "energy": out["energy"].detach(),
        "forces": out["forces"].detach(),
        "gradients": torch.cat([slope.flatten() for slope in slopes]),
    }


@pytest.mark.parametrize("given", [False, True], ids=["own graph", "given graph"])
@every_variant
def test_equal_to_the_exact_network(variant: str, given: bool, molecules: Any, make_model: MakeModel) -> None:
    exact, tabulated = both(variant, make_model)
    graph = {"edge_index": radius_graph(molecules.pos, exact.cutoff, molecules.batch).edge_index} if given else {}
    expected, ours = (derivatives(model, tuple(molecules), **graph) for model in (exact, tabulated))
    # the spline's error of W is 1e-8, of dW/dd 6e-7 of their spread; two blocks and second derivatives multiply it
    for name, tolerance in (("energy", 1e-6), ("forces", 1e-5), ("gradients", 1e-4)):
        scale = expected[name].abs().max()
        assert (ours[name] - expected[name]).abs().max() <= tolerance * scale, name
        assert not torch.equal(ours[name], expected[name]), name  # it is another way


def test_crystals_and_stress(make_model: MakeModel) -> None:
    exact, tabulated = both("cosine", make_model)
    cell = 4 * torch.eye(3, dtype=torch.float64).unsqueeze(0) + 0.3 * torch.rand(1, 3, 3, dtype=torch.float64)
    z, pos = torch.tensor([6, 8, 1]), torch.rand(3, 3, dtype=torch.float64) @ cell[0]
    periodic = {"cell": cell, "pbc": torch.ones(1, 3, dtype=torch.bool), "stress": True}
    expected, ours = (Potential(model).eval()(z, pos, **periodic) for model in (exact, tabulated))
    for name, value in expected.items():
        assert (ours[name] - value).abs().max() <= 1e-5 * value.abs().max(), name


def test_forces_are_differences_of_the_tabulated_energy(molecules: Any, make_model: MakeModel) -> None:
    """So that dynamics conserves energy whatever the accuracy of the table."""
    potential = Potential(both("cosine", make_model)[1]).eval()
    z, pos, batch = molecules
    forces, step = potential(z, pos, batch)["forces"], 1e-4
    for atom, axis in ((0, 0), (4, 2), (11, 1)):
        shift = torch.zeros_like(pos)
        shift[atom, axis] = step
        ahead, behind = (potential(z, pos + sign * shift, batch)["energy"].sum() for sign in (1, -1))
        # truncation h^2 E''' / 6 of some 1e-7
        assert forces[atom, axis].item() == pytest.approx(-(ahead - behind).item() / (2 * step), rel=1e-6, abs=1e-6)


def test_hessian(water: Any, make_model: MakeModel) -> None:
    exact, tabulated = both("no cutoff function", make_model)
    (expected,), (ours,) = (Potential(model).eval().hessian(*water) for model in (exact, tabulated))
    assert (ours - expected).abs().max() <= 1e-3 * expected.abs().max()  # d2W/dd2 loses a factor of 50 more
    torch.testing.assert_close(ours, ours.permute(2, 3, 0, 1), rtol=0, atol=1e-9)


def test_float32_is_as_good_as_exact_float32(molecules: Any, make_model: MakeModel) -> None:
    exact, tabulated = both("no cutoff function", make_model)
    truth = derivatives(exact, tuple(molecules))
    single = (molecules.z, molecules.pos.float(), molecules.batch)
    for name, tolerance in (("energy", 1e-5), ("forces", 1e-4), ("gradients", 1e-4)):
        ours = derivatives(tabulated.float(), single)[name]
        assert (ours.double() - truth[name]).abs().max() <= tolerance * truth[name].abs().max(), name


def losses(model: SchNet, molecules: Any, steps: int) -> Tensor:
    """Losses of a short training on energies and forces, from one start."""
    torch.manual_seed(3)
    energy, forces = torch.randn(3, dtype=torch.float64), torch.randn_like(molecules.pos)
    optimizer, potential, found = torch.optim.Adam(model.parameters(), lr=1e-2), Potential(model.train()), []
    for _ in range(steps):
        optimizer.zero_grad()
        out = potential(*molecules)
        loss = energy_forces_loss(out["energy"], out["forces"], energy, forces, molecules.batch, 0.1)
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


@pytest.mark.parametrize("variant", ["cosine", "trainable gaussians"])
def test_training_follows_that_of_the_exact_network(variant: str, molecules: Any, make_model: MakeModel) -> None:
    expected, ours = (losses(model, molecules, 30) for model in both(variant, make_model))
    assert expected[-1] < 0.8 * expected[0]  # it learns
    # gradients differ by 1e-6 at most, and Adam's steps by as much; thirty of them add up and feed back
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)
    assert not torch.equal(ours, expected)


@every_variant
def test_measured_accuracy(variant: str, molecules: Any, make_model: MakeModel) -> None:
    """The limits that tables are made for, on structures of the user's."""
    model, data = both(variant, make_model)[0], molecules.data()
    model.reference.set(mean=-100.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    accuracy = table_accuracy(model, data)
    assert accuracy.within(energy=1e-6, forces=1e-5, gradients=1e-4)
    assert accuracy.within()
    assert accuracy.rounding == (0.0, 0.0, 0.0)
    errors = [*accuracy.tabulated, *accuracy.frozen[:2]]
    assert min(errors) > 0.0  # type: ignore[type-var]
    assert not accuracy.within(energy=0.9 * max(accuracy.tabulated.energy, accuracy.frozen.energy))
    assert not accuracy.within(forces=0.9 * max(accuracy.tabulated.forces, accuracy.frozen.forces))
    assert not accuracy.within(gradients=0.9 * accuracy.tabulated.gradients)  # type: ignore[operator]
    assert model.training
    assert not model.frozen
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_measured_accuracy_is_the_relative_error(molecules: Any, make_model: MakeModel) -> None:
    exact, tabulated = both("cosine", make_model)
    batch = Batch.from_data_list(molecules.data())
    expected, ours = (Potential(model.eval())(batch) for model in (exact, tabulated))
    found = table_accuracy(exact, batch).tabulated
    for name, error in (("energy", found.energy), ("forces", found.forces)):
        wanted = (ours[name] - expected[name]).norm() / expected[name].norm()
        assert error == pytest.approx(float(wanted), rel=1e-6)


def test_measured_accuracy_finds_stale_and_coarse_tables(molecules: Any, make_model: MakeModel) -> None:
    coarse, data = make_model(knot_spacing=0.3), molecules.data()
    accuracy = table_accuracy(coarse, data)
    assert not accuracy.within()
    assert accuracy.spacing == pytest.approx(5.0 / 17)  # a whole number of them up to the cutoff
    model = make_model().freeze()
    with torch.no_grad():
        model.interactions[0].conv.nn[0].weight.data.mul_(1.01)  # which torch does not count
    stale = table_accuracy(model, data)
    assert stale.frozen.forces > 1e-4
    assert stale.tabulated.forces < 1e-5
    assert "frozen, float64" in str(stale)


def test_measured_accuracy_of_float32_and_without_forces(molecules: Any, make_model: MakeModel) -> None:
    model = make_model().float()
    accuracy = table_accuracy(model, molecules.data())  # positions are rounded for all
    assert accuracy.within(energy=1e-5, forces=1e-4)
    assert accuracy.rounding.forces > 1e-9
    lines = str(accuracy).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["tabulated,", "frozen,", "exact,"]
    assert "3 structures, 16 atoms" in lines[0]
    alone = Data(z=torch.tensor([8]), pos=torch.zeros(1, 3, dtype=torch.float64))
    assert table_accuracy(model.double(), alone).within(energy=1e-12, forces=0.0)


def test_measured_accuracy_needs_a_schnet_and_structures(make_model: MakeModel) -> None:
    with pytest.raises(TypeError, match="`model` must be a SchNet, others have no tables, got DTNN"):
        table_accuracy(DTNN(), [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no structure in `data`; expected at least one"):
        table_accuracy(make_model(), [])


def test_automatic_choice(molecules: Any, make_model: MakeModel, ways: list[str]) -> None:
    """A table for many pairs, networks for few; the same weights in the file."""
    model = make_model().float()
    molecules = molecules._replace(pos=molecules.pos.float())
    model(*molecules)
    assert (model.filters, ways) == ("auto", ["networks"])
    many = 40
    z, pos = molecules.z.repeat(many), molecules.pos.repeat(many, 1)
    batch = torch.cat([molecules.batch + 3 * copy for copy in range(many)])
    y = model(z, pos, batch)
    assert ways == ["networks", "pass"]
    torch.testing.assert_close(y, model(*molecules).repeat(many, 1), rtol=1e-5, atol=1e-5)
    exact = model.double()(z, pos.double(), batch)  # who computes in float64 wants the digits that tables do not have
    assert ways[2:] == ["networks"] * 2
    with fast.without("compiled loops"):
        model.float()(z, pos, batch)
    assert ways[4:] == ["networks"]
    model.filters = "table"
    assert not torch.equal(model.double()(z, pos.double(), batch), exact)
    assert ways[5:] == ["pass"]


def test_without_pairs_and_in_files(make_model: MakeModel, tmp_path: Any) -> None:
    exact, tabulated = both("cosine", make_model)
    z, pos = torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [50.0, 0, 0]], dtype=torch.float64)
    assert torch.equal(tabulated(z, pos), exact(z, pos))
    save(tabulated, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").config == tabulated.config
    assert not {"filters", "knot_spacing"} & tabulated.config.keys()  # a way to compute, not the network
    assert SchNet(**tabulated.config).filters == "auto"
    with pytest.raises(ValueError, match="`filters` must be one of 'exact', 'table', 'auto', got 'fast'"):
        tabulated.filters = "fast"
    assert tabulated.filters == "table"
    with pytest.raises(ValueError, match="`filters` must be one of 'exact', 'table', 'auto', got 'fast'"):
        SchNet(filters="fast")
    with pytest.raises(ValueError, match="`knot_spacing` must be positive, got 0.0"):
        SchNet(knot_spacing=0.0)


WAYS = ["loops", "torch", "dense"]
NETWORKS: dict[str, dict[str, Any]] = {
    "papers": {"num_gaussians": 200, "cutoff": 20.0, "gamma": 10.0, "activate_last": True, "cutoff_function": None},
    "pyg": {"act": "ssp-pyg", "num_filters": 21},
    "silu": {"act": "silu", "activate_last": True},
    "bessel": {"basis": "bessel"},
    "trainable gaussians": {"trainable_basis": True, "activate_last": True},
}


def coefficients(model: SchNet, distance: Tensor) -> Tensor:
    """All tables of a batch [T, K, F]."""
    tables = model.new_tables(distance)
    assert tables is not None
    assert tables.coefficients.is_contiguous()
    return tables.coefficients


@contextlib.contextmanager
def go(way: str, model: SchNet) -> Iterator[None]:
    """All blocks at once by loops, by torch, or one by one, as where somebody listens, and without Numba."""
    if way == "loops":
        pytest.importorskip("numba")
    listening = model.interactions[0].conv.nn.register_forward_hook(lambda *_: None) if way == "dense" else None
    with fast.without(*["compiled loops"] * (way != "loops")):
        yield
    if listening is not None:
        listening.remove()


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[FilterNetwork]:
    """Filter networks that are evaluated one by one."""
    found, forward = list[FilterNetwork](), FilterNetwork.forward

    def watched(network: FilterNetwork, value: Tensor) -> Tensor:
        found.append(network)
        return forward(network, value)

    monkeypatch.setattr(FilterNetwork, "forward", watched)
    return found


@pytest.mark.parametrize("way", WAYS[:2])
@pytest.mark.parametrize("network", NETWORKS)
def test_all_blocks_at_once(network: str, way: str, make_model: MakeModel, evaluated: list[FilterNetwork]) -> None:
    """The same tables, gradients and gradients of gradients as one by one."""
    model = make_model(**NETWORKS[network], filters="table")
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    distance = 1.0 + 3.0 * torch.rand(50, dtype=torch.float64)
    weights = [weight for block in model.interactions for weight in block.conv.nn.parameters()]
    weights += list(model.basis.parameters())
    found = []
    for other in (way, "dense"):
        evaluated.clear()
        with go(other, model):
            table = coefficients(model, distance)
            g = torch.linspace(-1, 1, table.numel(), dtype=torch.float64).view_as(table).requires_grad_()
            slopes = torch.autograd.grad(table, weights, g, retain_graph=True)
            twice = torch.autograd.grad(table, weights, g, create_graph=True)
            second = torch.autograd.grad(
                sum((slope**2).sum() for slope in twice), [*weights, g], materialize_grads=True
            )
            frozen = tables.frozen_coefficients(model.basis, model.interactions, 5.0, table.size(2), 0.1)
            found.append([table.detach(), *slopes, *(slope.detach() for slope in twice), *second, frozen])
        assert len(evaluated) == (2 * len(model.interactions) if other == "dense" else 0)
    for ours, expected in zip(*found, strict=True):
        assert (ours - expected).abs().max() <= 1e-13 * expected.abs().max()


def test_gaussians_without_any_knot_are_left_out(make_model: MakeModel) -> None:
    """Beyond 1.92 Angstrom, exp(-37), of the knots their weights have no gradients; with none left, all is finite."""
    model = make_model(**NETWORKS["papers"], filters="table")
    table = coefficients(model, torch.tensor([4.0, 6.0], dtype=torch.float64))
    slope = torch.autograd.grad(table.sum(), model.interactions[0].conv.nn[0].weight)[0]
    outside, inside = abs(model.basis.offset - 5.0) > 3.2, abs(model.basis.offset - 5.0) < 2.9
    assert (slope[:, outside] == 0).all()
    assert (slope[:, inside].abs().amax(0) > 0).all()
    far = coefficients(model, torch.tensor([40.0, 41.0], dtype=torch.float64))  # behind all of them
    assert far.isfinite().all()


def test_training_after_inference_mode(molecules: Any, make_model: MakeModel) -> None:
    """What is kept there serves derivatives later."""
    model = make_model(filters="table").float()
    given = molecules.z, molecules.pos.float(), molecules.batch
    with torch.inference_mode():
        expected = model(*given)
    found = model(*given)
    torch.testing.assert_close(found.detach(), expected.clone())
    found.sum().backward()
    assert all(weight.grad is not None for weight in model.interactions.parameters())


def test_gaussians_follow_their_centres_from_batch_to_batch(molecules: Any, make_model: MakeModel) -> None:
    """They are kept, but not beyond a change of the basis, nor for other distances than those of the batch."""
    model = make_model(filters="table").float()
    batches = [(molecules.z, scale * molecules.pos.float(), molecules.batch) for scale in (1.0, 0.8, 1.3, 1.0)]

    def agree() -> None:
        for batch in batches:
            model.filters = "table"
            found = model(*batch)
            model.filters = "exact"
            torch.testing.assert_close(found, model(*batch), rtol=2e-5, atol=2e-5)

    agree()
    before = model(*batches[0])
    with torch.no_grad():
        model.basis.offset.mul_(0.9)
    assert float((model(*batches[0]) - before).detach().abs().max()) > 1e-3
    agree()
    model.basis.offset = model.basis.offset + 0.1
    agree()
    model.basis.gamma *= 0.5
    agree()
    model.knot_spacing = 0.013
    agree()


@pytest.mark.parametrize("change", ["hook", "bias", "layer", "activation", "global hook", "parametrization"])
def test_networks_that_are_not_plain_go_one_by_one(
    change: str, make_model: MakeModel, evaluated: list[FilterNetwork]
) -> None:
    model = make_model(filters="table", num_interactions=2, activate_last=True)
    network, distance = model.interactions[1].conv.nn, torch.linspace(1.0, 4.0, 50, dtype=torch.float64)
    before, calls = coefficients(model, distance).detach(), []
    assert not evaluated
    handles = []
    if change == "hook":
        handles.append(network[2].register_forward_hook(lambda *given: calls.append(1)))
    elif change == "global hook":
        handles.append(nn.modules.module.register_module_forward_hook(lambda *given: calls.append(1)))
    elif change == "bias":
        network[2].bias = None
    elif change == "layer":
        network[0] = nn.Sequential(network[0])
    elif change == "activation":
        network[1] = nn.Tanh()
    else:
        nn.utils.parametrize.register_parametrization(network[0], "weight", nn.Identity())
    try:
        after = coefficients(model, distance)
    finally:
        for handle in handles:
            handle.remove()
    assert evaluated == [block.conv.nn for block in model.interactions]
    assert bool(calls) == ("hook" in change)
    torch.testing.assert_close(after[0], before[0], rtol=1e-13, atol=1e-13)
    if change in {"hook", "global hook", "layer", "parametrization"}:
        torch.testing.assert_close(after[1], before[1], rtol=1e-13, atol=1e-13)
    elif change == "activation":
        assert not torch.allclose(after[1], before[1])


def test_filter_networks_with_activations_of_their_own(molecules: Any, make_model: MakeModel) -> None:
    """Of the same kind, but another shift: no two networks are taken for one."""
    model = make_model(cutoff=3.0, filters="exact")
    for number, block in enumerate(model.interactions):
        block.conv.nn[1] = ShiftedSoftplus(shift=0.1 + 0.2 * number)
    expected = model(*molecules)
    model.filters = "table"
    torch.testing.assert_close(model(*molecules), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.freeze()(*molecules), expected, rtol=1e-6, atol=1e-7)


def test_forward_derivatives_and_many_gradients(make_model: MakeModel) -> None:
    """Ways that loops do not know."""
    model = make_model(filters="table", activate_last=True)
    distance, bias = torch.linspace(1.0, 4.0, 50, dtype=torch.float64), model.interactions[0].conv.nn[2].bias
    table = coefficients(model, distance)
    g = torch.randn(3, *table.shape, dtype=torch.float64)
    (slopes,) = torch.autograd.grad(table, bias, g, retain_graph=True, is_grads_batched=True)
    one_by_one = [torch.autograd.grad(table, bias, one, retain_graph=True)[0] for one in g]
    torch.testing.assert_close(slopes, torch.stack(one_by_one), rtol=1e-12, atol=1e-12)

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return coefficients(self.model, distance)

    def of_bias(value: Tensor) -> Tensor:
        return torch.func.functional_call(Table(), {"model.interactions.0.conv.nn.2.bias": value}, ())

    _, tangent = torch.func.jvp(of_bias, (bias.detach(),), (torch.ones_like(bias),))
    assert float((tangent.detach() * g[0]).sum()) == pytest.approx(float(one_by_one[0].sum()), rel=1e-10)


def test_no_blocks(make_model: MakeModel) -> None:
    model = make_model(filters="table", num_interactions=0)
    found = model.tables(torch.ones(3))
    assert found is not None
    assert found.each() == []
