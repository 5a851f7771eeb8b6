"""Cutoff functions in compiled loops, against torch and its derivatives."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import cosine_cutoff, mollifier_cutoff, polynomial_cutoff

numba = pytest.importorskip("numba")
loops = importlib.import_module("pyg_schnet.fast.cpu.cutoff")
KINDS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "none": (loops.NONE, lambda d: torch.ones_like(d) + 0 * d),
    "cosine": (loops.COSINE, lambda d: cosine_cutoff(d, 5.0)),
    "mollifier": (loops.MOLLIFIER, lambda d: mollifier_cutoff(d, 5.0)),
    "polynomial": (loops.POLYNOMIAL, lambda d: polynomial_cutoff(d, 5.0, 3)),
}


@pytest.fixture(scope="module")
def call() -> Any:
    """The loops, which only other loops can call, from Python."""

    @numba.njit
    def both(value, slope, d, kind, cutoff, exponent):
        loops.write_cutoff(value, slope, d, kind, cutoff, exponent)

    return both


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_slopes(kind: str, call: Any) -> None:
    number, function = KINDS[kind]
    d = torch.cat([torch.linspace(0.0, 6.0, 241, dtype=torch.float64), torch.tensor([4.969, 4.9999])]).requires_grad_()
    expected = function(d)
    (slopes,) = torch.autograd.grad(expected.sum(), d)
    value, slope = torch.empty_like(d, requires_grad=False), torch.empty_like(d, requires_grad=False)
    call(value.numpy(), slope.numpy(), d.detach().numpy(), number, 5.0, 3)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(slope, slopes, rtol=1e-12, atol=1e-15)
    assert kind == "none" or not value[d >= 5.0].any()
