"""Whoever changes layers, or listens to them, gets what the layers give, also where tables would stand in for them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from pyg_schnet import InteractionBlock, Potential, SchNet

MakeModel = Callable[..., SchNet]
KINDS = ["auto", "table", "frozen", "training"]


def many(molecules: Any, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """So many pairs that tables pay."""
    z, pos = molecules.z.repeat(40), molecules.pos.repeat(40, 1).to(dtype)
    return z, pos, torch.cat([molecules.batch + 3 * number for number in range(40)])


def of_kind(kind: str, make_model: MakeModel) -> SchNet:
    model = make_model(hidden_channels=16, filters="table" if kind in {"table", "training"} else "auto").float()
    return model.freeze() if kind == "frozen" else model.train(kind == "training")


def exact(model: SchNet) -> SchNet:
    other = copy.deepcopy(model).unfreeze()
    other.filters = "exact"
    return other


def check(model: SchNet, inputs: Any) -> None:
    """All ways give what exact networks give; afterwards the model has these."""
    ours, y = Potential(model)(*inputs), model(*inputs)
    model.unfreeze().filters = "exact"
    for name, value in Potential(model)(*inputs).items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(y, model(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("place", ["block", "convolution", "network", "layer", "cutoff", "basis", "everywhere"])
@pytest.mark.parametrize("kind", KINDS)
def test_hooks_are_called_with_every_edge(kind: str, place: str, molecules: Any, make_model: MakeModel) -> None:
    model, inputs = of_kind(kind, make_model), many(molecules)
    block: Any = model.interactions[1]
    modules = {
        "block": block,
        "convolution": block.conv,
        "network": block.conv.nn,
        "layer": block.conv.nn[2],
        "cutoff": block.conv.cutoff,
        "basis": model.basis,
    }
    results: list[list[Any]] = []
    for one in (model, exact(model)):
        found: list[Any] = []

        def hook(module: nn.Module, given: Any, out: Any, found: list[Any] = found) -> None:
            if isinstance(out, Tensor):
                found.append(out.detach())

        if place == "everywhere":
            handle = nn.modules.module.register_module_forward_hook(hook)
        else:
            name = next(name for name, module in model.named_modules() if module is modules[place])
            handle = one.get_submodule(name).register_forward_hook(hook)
        try:
            Potential(one)(*inputs)
        finally:
            handle.remove()
        results.append(found)
    ours, theirs = results
    assert len(ours) == len(theirs) > 0
    for value, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)


class Louder(InteractionBlock):
    def forward(self, *inputs: Any) -> Tensor:
        return 2.0 * super().forward(*inputs)


class LowRank(nn.Module):
    """As adapters replace layers."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer, self.down = layer, nn.Linear(layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, layer.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


def another_block(model: SchNet) -> None:
    louder = Louder(16, 16, 7, 5.0)
    louder.load_state_dict(model.interactions[0].state_dict())
    model.interactions[0] = louder


def another_method(model: SchNet) -> None:
    block: Any = model.interactions[0]
    original = type(block).forward
    block.forward = lambda *inputs: 2.0 * original(block, *inputs)


def adapters(model: SchNet) -> None:
    block: Any = model.interactions[0]
    block.lin, block.conv.lin1 = LowRank(block.lin), LowRank(block.conv.lin1)


def adapted_filters(model: SchNet) -> None:
    block: Any = model.interactions[0]
    block.conv.nn[0] = LowRank(block.conv.nn[0])


class Double(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2.0 * weight


def parametrized(model: SchNet) -> None:
    block: Any = model.interactions[0]
    parametrize.register_parametrization(block.lin, "weight", Double())
    parametrize.register_parametrization(block.conv.nn[2], "weight", Double())
    parametrize.register_parametrization(model.embedding, "weight", Double())


def pruned(model: SchNet) -> None:
    block: Any = model.interactions[0]
    prune.l1_unstructured(block.lin, "weight", 0.5)
    prune.l1_unstructured(block.conv.nn[0], "weight", 0.5)


def narrower(model: SchNet) -> None:
    """Fewer filters in the memory of before."""
    block: Any = model.interactions[0]
    block.conv.lin1.weight.data = block.conv.lin1.weight.data[:5]
    block.conv.lin2.weight.data = block.conv.lin2.weight.data[:, :5]
    block.conv.nn[2].weight.data = block.conv.nn[2].weight.data[:5]
    block.conv.nn[2].bias.data = block.conv.nn[2].bias.data[:5]


def one_cutoff(model: SchNet) -> None:
    block: Any = model.interactions[1]
    block.conv.cutoff = type(block.conv.cutoff)(4.0)


CHANGES = [another_block, another_method, adapters, adapted_filters, parametrized, pruned, one_cutoff]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", ["auto", "table", "training"])
def test_layers_of_ones_own(kind: str, change: Callable[[SchNet], None], molecules: Any, make_model: MakeModel) -> None:
    model, inputs = of_kind(kind, make_model), many(molecules)
    before = Potential(model)(*inputs)["energy"]
    change(model)
    after = Potential(model)(*inputs)["energy"]
    assert not torch.allclose(before, after)
    check(model, inputs)


@pytest.mark.parametrize("change", [adapters, adapted_filters, parametrized, pruned, one_cutoff])
def test_layers_of_ones_own_in_frozen_models(
    change: Callable[[SchNet], None], molecules: Any, make_model: MakeModel
) -> None:
    model, inputs = of_kind("frozen", make_model), many(molecules)
    before = Potential(model)(*inputs)["energy"]
    change(model)
    assert not torch.allclose(before, Potential(model)(*inputs)["energy"])
    check(model, inputs)


def test_narrower_layers_in_the_memory_of_before(molecules: Any, make_model: MakeModel) -> None:
    model, inputs = of_kind("table", make_model).eval(), many(molecules)
    Potential(model)(*inputs)
    narrower(model)
    model.filters = "exact"
    check(model, inputs)


def test_blocks_of_ones_own_cannot_be_frozen(molecules: Any, make_model: MakeModel) -> None:
    model, inputs = of_kind("frozen", make_model), many(molecules)
    another_block(model)
    with pytest.raises(ValueError, match=r"a layer of its own kind in interactions\[0\], Louder, cannot be frozen"):
        Potential(model)(*inputs)
    check(model.unfreeze(), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_averages_swapped_in_and_out(kind: str, molecules: Any, make_model: MakeModel) -> None:
    """As moving averages of weights are, by way of ``weight.data``."""
    model, inputs = of_kind(kind, make_model), many(molecules)
    first = Potential(model)(*inputs)
    kept = [weight.data for weight in model.parameters()]
    for weight in model.parameters():
        weight.data = 0.9 * weight.data
    averaged, expected = Potential(model)(*inputs), Potential(exact(model))(*inputs)
    for weight, one in zip(model.parameters(), kept, strict=True):
        weight.data = one
    again = Potential(model)(*inputs)
    for name, value in first.items():
        torch.testing.assert_close(averaged[name], expected[name], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["auto", "table", "frozen"])
def test_transforms_of_torch_func(kind: str, water: Any, make_model: MakeModel) -> None:
    """Neighbours are searched inside of them; tables give way to networks, of which all derivatives are known."""
    model = make_model(cutoff_function="mollifier", filters="exact" if kind == "frozen" else kind)
    model = model.freeze() if kind == "frozen" else model.eval()
    z, pos = water
    potential = Potential(exact(model))
    forces, (hessian,) = potential(z, pos)["forces"], potential.hessian(z, pos)
    energy = lambda pos: model(z, pos).sum()  # noqa: E731
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(-transform(energy)(pos), forces, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.func.hessian(energy)(pos), hessian, rtol=1e-8, atol=1e-8)
    cell, pbc = 3 * torch.eye(3, dtype=torch.float64)[None], torch.ones(1, 3, dtype=torch.bool)
    expected = potential(z, pos, cell=cell, pbc=pbc)["forces"]
    slope = torch.func.grad(lambda pos: model(z, pos, cell=cell, pbc=pbc).sum())(pos)
    torch.testing.assert_close(-slope, expected, rtol=1e-10, atol=1e-10)

    weights = dict(model.named_parameters())
    found = torch.func.grad(lambda given: torch.func.functional_call(model, given, (z, pos)).sum())(weights)
    plain = exact(model)
    slopes = torch.autograd.grad(plain(z, pos).sum(), list(plain.parameters()))
    for ours, theirs in zip(found.values(), slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="torch.vmap cannot search neighbours, which differ in number"):
        torch.func.vmap(energy)(torch.stack([pos, 1.1 * pos]))


@pytest.mark.parametrize("way", ["exact", "table", "frozen"])
def test_blocks_that_are_added_or_taken_away_count(way: str, make_model: Callable[..., SchNet]) -> None:
    z, pos = torch.randint(1, 10, (9,)), 1.5 * torch.randn(9, 3, dtype=torch.float64)
    one, three = make_model(num_interactions=1), make_model(num_interactions=3)
    model = SchNet(**one.config | {"num_interactions": 2}).double()
    model.load_state_dict(one.state_dict(), strict=False)
    model.filters = way if way != "frozen" else "auto"
    model.interactions = model.interactions[:1]
    if way == "frozen":
        model.freeze()
    for expected in (one, three):
        if expected is three:
            model.unfreeze()
            for block in three.interactions[1:]:
                model.interactions.append(block)
            model.load_state_dict(three.state_dict())
            if way == "frozen":
                model.freeze()
        for found, right in zip(Potential(model)(z, pos).values(), Potential(expected)(z, pos).values(), strict=True):
            torch.testing.assert_close(found.detach(), right.detach(), rtol=1e-5, atol=1e-6)
