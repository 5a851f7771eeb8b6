"""What compiled loops may read, and what only looks like it."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from pyg_schnet.fast.plain import has_numbers, is_plain


class Marked(Tensor):
    """Numbers with a meaning of their own."""


@pytest.mark.parametrize(
    ("dtype", "plain"),
    [
        (torch.float32, True),
        (torch.float64, True),
        (torch.float16, False),
        (torch.bfloat16, False),
        (torch.complex64, False),
        (torch.long, False),
    ],
    ids=str,
)
def test_kinds_of_numbers(dtype: torch.dtype, plain: bool) -> None:
    assert is_plain(torch.zeros(2, dtype=dtype)) == plain


def test_kinds_of_tensors() -> None:
    x = torch.ones(3)
    assert not is_plain(nn.Parameter(x))
    assert is_plain(nn.Parameter(x), weight=True)
    for other in (x.as_subclass(Marked), x.to("meta"), None, 1.0, x.numpy()):
        assert not is_plain(other)
        assert not is_plain(other, weight=True)
    with FakeTensorMode():
        assert not is_plain(torch.ones(3))
    assert is_plain(x.requires_grad_())
    assert is_plain(torch.zeros(0))
    assert not is_plain(x, device="cuda")


def test_devices(device: torch.device) -> None:
    x = torch.ones(3, device=device)
    assert [is_plain(x, device=kind) for kind in ("cpu", "cuda")] == [device.type == "cpu", device.type == "cuda"]


def test_tensors_that_stand_for_something_else() -> None:
    seen: list[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(is_plain(x) and has_numbers(x))
        return x.sum()

    x = torch.ones(2, 3)
    look(x)
    torch.func.grad(look)(x)
    torch.func.vmap(look)(x)
    torch.func.jvp(look, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        look(torch.autograd.forward_ad.make_dual(x, x))

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, g: Tensor) -> Tensor:  # type: ignore[override]
            look(g)
            return g

    y = x.clone().requires_grad_()
    torch.autograd.grad(Watched.apply(y), y, torch.ones(4, 2, 3), is_grads_batched=True)
    assert seen == [True] + [False] * 5


def test_compilers_have_no_numbers() -> None:
    torch.compiler.reset()
    look = torch.compile(lambda x: x + 1 if is_plain(x) else x - 1, fullgraph=True, backend="eager")
    assert torch.equal(look(torch.ones(2)), torch.zeros(2))
    torch.compiler.reset()
