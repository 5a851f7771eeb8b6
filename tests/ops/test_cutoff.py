"""Cutoff functions: closed form at zero, inside, just inside, at, just outside and beyond the cutoff."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import cosine_cutoff, mollifier_cutoff, polynomial_cutoff

CUTOFFS = [0.7, 5.0, 10.0]
every_function = pytest.mark.parametrize("function", [cosine_cutoff, mollifier_cutoff, polynomial_cutoff])


def inside(cutoff: float) -> Tensor:
    """Distances from zero to just inside the cutoff."""
    just_inside = np.nextafter(cutoff, 0.0)
    return torch.tensor([0.0, 1e-9, 0.1 * cutoff, 0.5 * cutoff, 0.99 * cutoff, just_inside], dtype=torch.float64)


def derivatives(
    distance: Tensor, cutoff: float, function: Callable[..., Tensor] = cosine_cutoff
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, first and second derivative."""
    distance = distance.clone().requires_grad_()
    value = function(distance, cutoff)
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
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-15)  # the argument, pi at most, is rounded twice
    torch.testing.assert_close(first, -0.5 * k * torch.sin(k * distance), rtol=1e-14, atol=4e-15)
    torch.testing.assert_close(second, -0.5 * k**2 * torch.cos(k * distance), rtol=1e-14, atol=1e-14)


@every_function
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_exactly_zero_at_and_beyond(cutoff: float, dtype: torch.dtype, function: Callable[..., Tensor]) -> None:
    # the cutoff itself may round down to a float32 inside of it
    at = torch.tensor([cutoff], dtype=dtype)
    at = at if at.double().item() >= cutoff else torch.nextafter(at, at + 1)
    distance = torch.cat([at, torch.nextafter(at, at + 1), at + 1e-3, 1.5 * at, 2 * at, 100 * at])
    for derivative in derivatives(distance, cutoff, function):
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
    torch.testing.assert_close(value, pyg, rtol=0, atol=1e-15)  # (d pi) / c against d (pi / c): pi eps
    assert (value.diff() < 0).all()
    assert value[0] == 1.0


@every_function
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_and_shape_are_kept(dtype: torch.dtype, function: Callable[..., Tensor]) -> None:
    distance = 8 * torch.rand(2, 3).to(dtype)
    value = function(distance, 5.0)
    assert value.dtype == dtype
    assert function(distance[:0], 5.0).shape == (0, 3)
    expected = function(distance.double(), 5.0)
    # the angle has an error of pi eps, the cosine a slope of one half; the others have slopes of some 2 and more terms
    factor = 4 if function is cosine_cutoff else 16
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=factor * torch.finfo(dtype).eps)


# --- smoother ones ---


def test_mollifier_closed_form() -> None:
    u = np.array([0.0, 1e-9, 0.1, 0.5, 0.9, 0.99])
    value, first, _ = derivatives(torch.from_numpy(5.0 * u), 5.0, mollifier_cutoff)
    expected = np.exp(-(u**2) / (1 - u**2))
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=0)  # the exponent of 50 multiplies round-off
    np.testing.assert_allclose(first, -2 * u / (1 - u**2) ** 2 / 5 * expected, rtol=1e-12, atol=0)


def test_mollifier_ends_below_everything_that_counts() -> None:
    distance = torch.linspace(4.9, 5.1, 20001, dtype=torch.float64)
    for derivative in derivatives(distance, 5.0, mollifier_cutoff):
        last = derivative.abs()[derivative != 0][-1]
        assert last < 1e-26  # where it is cut, value and derivatives are far below the round-off of any energy


@pytest.mark.parametrize("exponent", [1, 2, 6, 9])
def test_polynomial_closed_form(exponent: int) -> None:
    p, u = exponent, np.linspace(0, 1, 50)[:-1]
    value, first, second = derivatives(torch.from_numpy(4.0 * u), 4.0, lambda d, c: polynomial_cutoff(d, c, p))
    powers = np.zeros(p + 3)
    powers[[0, p, p + 1, p + 2]] += [1, -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2]
    poly = np.polynomial.Polynomial(powers)
    # the reference form cancels terms of up to 60 (their derivatives 700 and 7000)
    np.testing.assert_allclose(value, poly(u), rtol=0, atol=1e-13)
    np.testing.assert_allclose(first, poly.deriv()(u) / 4, rtol=0, atol=1e-12)
    np.testing.assert_allclose(second, poly.deriv(2)(u) / 16, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("function", "order"), [(cosine_cutoff, 1), (polynomial_cutoff, 2), (mollifier_cutoff, 2)])
def test_derivatives_are_continuous_at_the_cutoff(function: Callable[..., Tensor], order: int) -> None:
    """The last continuous derivative falls with the distance to the cutoff, the next does not for the first two."""
    near = derivatives(torch.tensor([5.0 - 1e-2, 5.0 - 1e-4], dtype=torch.float64), 5.0, function)
    for derivative in near[: order + 1]:
        assert derivative[1].abs() <= 0.011 * derivative[0].abs()
    if function is cosine_cutoff:
        assert near[2].abs().min() > 0.1


@every_function
def test_functions_fall_monotonically_from_one(function: Callable[..., Tensor]) -> None:
    value = function(torch.linspace(0, 5, 1001, dtype=torch.float64), 5.0)
    assert value[0] == 1.0
    assert (value.diff() <= 0).all()
