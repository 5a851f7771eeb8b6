"""Cosine cutoff: closed form at zero, inside, just inside, at, just outside and beyond the cutoff."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import cosine_cutoff

CUTOFFS = [0.7, 5.0, 10.0]


def inside(cutoff: float) -> Tensor:
    """Distances from zero to just inside the cutoff."""
    just_inside = np.nextafter(cutoff, 0.0)
    return torch.tensor([0.0, 1e-9, 0.1 * cutoff, 0.5 * cutoff, 0.99 * cutoff, just_inside], dtype=torch.float64)


def derivatives(distance: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Value, first and second derivative."""
    distance = distance.clone().requires_grad_()
    value = cosine_cutoff(distance, cutoff)
    (first,) = torch.autograd.grad(value.sum(), distance, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), distance)
    return value.detach(), first.detach(), second


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_value_and_derivatives_inside(cutoff: float) -> None:
    distance = inside(cutoff)
    k = math.pi / cutoff
    # cos^2 of half the angle has no cancellation near the cutoff; independent of the form in the source
    expected = torch.cos(0.5 * k * distance).square()
    value, first, second = derivatives(distance, cutoff)
    # float64 round-off: 1 + cos cancels down to some 1e-16, derivatives scale with k and k^2 (k < 5)
    torch.testing.assert_close(value, expected, rtol=0, atol=4e-16)
    torch.testing.assert_close(first, -0.5 * k * torch.sin(k * distance), rtol=1e-14, atol=4e-15)
    torch.testing.assert_close(second, -0.5 * k**2 * torch.cos(k * distance), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_exactly_zero_at_and_beyond(cutoff: float, dtype: torch.dtype) -> None:
    # the cutoff itself may round down to a float32 inside of it
    at = torch.tensor([cutoff], dtype=dtype)
    at = at if at.double().item() >= cutoff else torch.nextafter(at, at + 1)
    distance = torch.cat([at, torch.nextafter(at, at + 1), at + 1e-3, 1.5 * at, 2 * at, 100 * at])
    for derivative in derivatives(distance, cutoff):
        assert torch.equal(derivative, torch.zeros_like(distance))


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_value_and_slope_are_continuous_at_the_cutoff(cutoff: float) -> None:
    step = 1e-4
    value, first, _ = derivatives(torch.tensor([cutoff - step], dtype=torch.float64), cutoff)
    curvature = 0.5 * (math.pi / cutoff) ** 2
    # Taylor series from the cutoff: c h^2 / 2 and -c h; the next terms are smaller by (pi h / cutoff)^2 < 1e-6
    assert value.item() == pytest.approx(0.5 * curvature * step**2, rel=1e-6)
    assert first.item() == pytest.approx(-curvature * step, rel=1e-6)


def test_agrees_with_pyg_inside_and_falls_monotonically() -> None:
    distance = torch.linspace(0, 10, 1001, dtype=torch.float64)
    value = cosine_cutoff(distance, 10.0)
    pyg = 0.5 * (torch.cos(distance * math.pi / 10.0) + 1.0)  # torch_geometric.nn.models.schnet.CFConv
    torch.testing.assert_close(value, pyg, rtol=0, atol=5e-16)  # (d pi) / c against d (pi / c): pi eps / 2
    assert (value.diff() < 0).all()
    assert value[0] == 1.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_and_shape_are_kept(dtype: torch.dtype) -> None:
    distance = 8 * torch.rand(2, 3).to(dtype)
    value = cosine_cutoff(distance, 5.0)
    assert value.dtype == dtype
    expected = cosine_cutoff(distance.double(), 5.0)
    # the angle has an error of pi eps, the cosine a slope of at most one half
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=4 * torch.finfo(dtype).eps)
