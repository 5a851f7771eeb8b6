"""Private names of torch, and what stands in for them where they are not there."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from pyg_schnet import compat
from pyg_schnet.compat import NAMES


def both(name: str) -> Iterator:
    """What is used, and what stands in for it."""
    yield getattr(compat, name)
    yield NAMES[name].stand_in


def test_a_name_that_is_not_there_has_a_stand_in() -> None:
    assert compat.private(torch, "_C._no.such", abs) is abs
    assert compat.private(torch, "version", abs) is abs  # no function
    assert compat.private(torch, "nn.functional.silu", abs) is nn.functional.silu


@pytest.mark.parametrize("name", ["is_transformed", "is_batched"])
def test_wrapped_tensors_are_known(name: str) -> None:
    for known in both(name):
        assert not known(torch.ones(2))
        assert not known(torch.ones(2, requires_grad=True) * 2)
    x = torch.arange(3.0, requires_grad=True)
    seen: list[bool] = []

    def look(value: Tensor) -> Tensor:
        seen.extend(known(value) for known in both(name))
        return value.square().sum()

    if name == "is_transformed":
        torch.func.grad(look)(x)
        torch.func.vmap(look)(x.view(3, 1))
        torch.func.jvp(look, (x,), (x,))
        assert seen == [True] * 6
    else:

        class Seen(torch.autograd.Function):
            @staticmethod
            def forward(ctx: object, value: Tensor) -> Tensor:
                return value.clone()

            @staticmethod
            def backward(ctx: object, slope: Tensor) -> Tensor:
                look(slope)
                return slope

        torch.autograd.grad(Seen.apply(x), x, torch.eye(3), is_grads_batched=True)
        assert seen == [True] * 2


def test_hooks_of_all_modules_are_known() -> None:
    assert not any(known() for known in both("has_global_hooks"))
    handle = register_module_forward_hook(lambda *_: None)
    try:
        assert all(known() for known in both("has_global_hooks"))
    finally:
        handle.remove()


def test_hooks_that_cannot_be_seen_are_feared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.nn.modules.module._global_forward_hooks")
    assert NAMES["has_global_hooks"].stand_in()


@pytest.mark.parametrize(
    "change", [lambda x: x.T, lambda x: x[:2], lambda x: x.double(), lambda x: x.view(12, 1), lambda x: x.clone()]
)
def test_a_layout_is_the_same_only_if_it_is(
    change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    for guards in both("LayoutGuards"):
        monkeypatch.setattr(compat, "LayoutGuards", guards)
        weights = [nn.Parameter(torch.zeros(4, 3)), torch.zeros(3, dtype=torch.float64)]
        same, laid_out = compat.layout_check(weights), [weights[0].shape, weights[0].stride(), weights[0].dtype]
        known = same()
        weights[0].data = change(weights[0].data)
        unchanged = laid_out == [weights[0].shape, weights[0].stride(), weights[0].dtype]
        assert same() == (known and unchanged)


def test_layouts_that_cannot_be_compared_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "LayoutGuards", lambda *tensors: None)  # of another version
    assert not compat.layout_check([torch.zeros(2)])()


def test_what_is_false_raises() -> None:
    for check in both("assert_later"):
        check(torch.tensor(True), "no word")
        with pytest.raises(RuntimeError, match="what is wrong"):
            check(torch.tensor(False), "what is wrong")


def test_a_tensor_looks_into_a_storage() -> None:
    whole = torch.arange(12.0).view(3, 4)
    storage = torch.storage.TypedStorage(wrap_storage=whole.untyped_storage(), dtype=whole.dtype, _internal=True)
    for tensor_in in both("tensor_in"):
        part = tensor_in(storage, 5, (2, 2), (4, 2))
        assert torch.equal(part, whole[1:, 1::2])
        assert part.data_ptr() == whole[1:, 1:].data_ptr()


def test_what_sees_each_operation_or_none() -> None:
    seen: list[list[int]] = []
    for base in both("DispatchMode"):
        seen.append([])

        class Sizes(base):  # type: ignore[misc, valid-type]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                seen[-1].append(1)
                return func(*args, **(kwargs or {}))

        with Sizes():
            assert torch.ones(3).sum() == 3
        with pytest.raises(KeyError, match="nothing is swallowed"), Sizes():
            raise KeyError("nothing is swallowed")
    assert len(seen[0]) > 0
    assert seen[1] == []


STORY = """
import functools, sys
import torch, torch_geometric.nn, torch_geometric.transforms

places = [(functools.reduce(getattr, path.split(".")[1:-1], torch), path.split(".")[-1]) for path in sys.argv[2:]]
kept = [(place, name, getattr(place, name)) for place, name in places if hasattr(place, name)]
for place, name, _ in kept:
    delattr(place, name)
import pyg_schnet
for one in kept:  # torch itself cannot do without
    setattr(*one)

from pyg_schnet import Potential, SchNet, compat
assert not places or all(getattr(compat, name) is one.stand_in for name, one in compat.NAMES.items())
torch.manual_seed(0)
z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)
model = SchNet(8, 8, 2, 10, cutoff=5.0, filters="table").double()
out = Potential(model)(z, pos)
(out["energy"].square().sum() + out["forces"].square().sum()).backward()
results = [*out.values(), *(parameter.grad for parameter in model.parameters())]
edges = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]])
exact = SchNet(8, 8, 1, 10, cutoff=5.0).double()
results += [torch.func.jacrev(lambda pos: exact(z, pos, edge_index=edges))(pos)]
pyg_schnet.save(exact, sys.argv[1] + ".safetensors")
results += [pyg_schnet.load(sys.argv[1] + ".safetensors")(z, pos)]
torch.save([value.detach() for value in results], sys.argv[1])
"""


def test_everything_works_without_private_names(tmp_path: Path) -> None:
    """A version of torch that has none of them: import, forces, derivatives of both, tables, transforms."""
    places = [f"{place.__name__}.{path}" for place, path, _ in NAMES.values()]
    results = []
    for removed in ([], places):
        file = tmp_path / f"{len(removed)}.pt"
        done = subprocess.run(
            [sys.executable, "-c", STORY, str(file), *removed],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results.append(torch.load(file))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(
            one, two, rtol=1e-9, atol=1e-12
        )  # loops or operations of torch, sums in another order
