"""Gaussians and Bessel functions against the closed form."""

import math

import numpy as np
import pytest
import torch

from pyg_schnet.ops import bessel_basis, gaussian_basis

CENTERS = torch.linspace(0, 20, 200, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.5, 10.0])
def test_value_and_derivatives(gamma: float) -> None:
    distance = torch.tensor([0.0, 1e-6, 0.05, 1.23, 19.99, 20.0, 27.0], dtype=torch.float64, requires_grad=True)
    value = gaussian_basis(distance, CENTERS, gamma)  # [E, G]
    (first,) = torch.autograd.grad(value.sum(), distance, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), distance)
    delta = distance.detach().numpy()[:, None] - CENTERS.numpy()
    gauss = np.exp(-gamma * delta**2)
    # below e^-70 = 4e-31 a Gaussian is zero; an exponent up to 70 is rounded four times on either side, 70 x 4 eps
    np.testing.assert_allclose(value.detach(), gauss, rtol=6e-14, atol=4e-31)
    np.testing.assert_allclose(first.detach(), (-2 * gamma * delta * gauss).sum(1), rtol=1e-12, atol=1e-13)
    expected = ((4 * gamma**2 * delta**2 - 2 * gamma) * gauss).sum(1)
    np.testing.assert_allclose(second, expected, rtol=1e-12, atol=1e-12)  # sums of 200 terms of order 100


def test_one_at_the_centers_symmetric_around_them() -> None:
    assert torch.equal(gaussian_basis(CENTERS, CENTERS, 10.0).diagonal(), torch.ones(200, dtype=torch.float64))
    center = torch.tensor([2.0], dtype=torch.float64)
    left, right = gaussian_basis(torch.tensor([1.75, 2.25], dtype=torch.float64), center, 3.0)
    assert torch.equal(left, right)  # a quarter is exact in binary


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_denormal_numbers(dtype: torch.dtype) -> None:
    distance = torch.linspace(0, 20, 1000, dtype=dtype, requires_grad=True)
    value = gaussian_basis(distance, CENTERS.to(dtype), 10.0)
    (gradient,) = torch.autograd.grad(value.sum(), distance)
    tiny = torch.finfo(dtype).tiny
    for tensor in (value, gradient):
        assert not ((tensor != 0) & (tensor.abs() < tiny)).any()
    assert (value == 0).any()


def test_papers_width() -> None:
    """The papers' gamma of 10 is one e-th at sqrt(0.1) Angstrom, not at sqrt(10) as their text prints."""
    value = gaussian_basis(torch.tensor([0.1**0.5], dtype=torch.float64), torch.zeros(1, dtype=torch.float64), 10.0)
    assert value.item() == pytest.approx(np.exp(-1.0), rel=1e-15)  # one rounding of the root


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dtype_and_empty(dtype: torch.dtype) -> None:
    assert gaussian_basis(torch.rand(3, dtype=dtype), CENTERS.to(dtype), 10.0).dtype == dtype
    assert gaussian_basis(torch.rand(0, dtype=dtype), CENTERS.to(dtype), 10.0).shape == (0, 200)


def test_gradcheck() -> None:
    distance = 3 * torch.rand(4, dtype=torch.float64)
    inputs = (distance.requires_grad_(), CENTERS[:9].clone().requires_grad_(), 10.0)
    assert torch.autograd.gradcheck(gaussian_basis, inputs)
    assert torch.autograd.gradgradcheck(gaussian_basis, inputs)


def test_each_gaussian_may_have_its_own_width() -> None:
    distance, gamma = torch.rand(6, dtype=torch.float64), 1 + torch.rand(200, dtype=torch.float64)
    together = gaussian_basis(distance, CENTERS, gamma)
    for k in (0, 7, 199):
        single = gaussian_basis(distance, CENTERS[k : k + 1], float(gamma[k]))
        assert torch.equal(together[:, k : k + 1], single)
    inputs = (distance.requires_grad_(), CENTERS[:5].clone().requires_grad_(), gamma[:5].clone().requires_grad_())
    assert torch.autograd.gradcheck(gaussian_basis, inputs)
    assert torch.autograd.gradgradcheck(gaussian_basis, inputs)


# --- Bessel functions ---

CUTOFF = 4.0
FREQUENCIES = math.pi * torch.arange(1, 9, dtype=torch.float64)


def test_bessel_functions_value_and_derivatives() -> None:
    distance = torch.tensor([1e-3, 0.4, 1.7, 3.999, 4.0, 6.0], dtype=torch.float64, requires_grad=True)
    value = bessel_basis(distance, FREQUENCIES, CUTOFF)
    (first,) = torch.autograd.grad(value.sum(), distance)
    d, k = distance.detach().numpy()[:, None], FREQUENCIES.numpy() / CUTOFF
    scale = np.sqrt(2 / CUTOFF)
    np.testing.assert_allclose(value.detach(), scale * np.sin(k * d) / d, rtol=0, atol=1e-14)
    slope = scale * (k * np.cos(k * d) / d - np.sin(k * d) / d**2)
    np.testing.assert_allclose(first, slope.sum(1), rtol=0, atol=1e-9)  # 1 / d^2 of 1e6 times eps cancels at 1e-3


def test_bessel_functions_are_orthonormal() -> None:
    d, weight = np.polynomial.legendre.leggauss(200)
    d, weight = torch.from_numpy(0.5 * CUTOFF * (d + 1)), torch.from_numpy(0.5 * CUTOFF * weight)
    e = bessel_basis(d, FREQUENCIES, CUTOFF)
    overlap = torch.einsum("q,qk,ql->kl", weight * d**2, e, e)
    # the quadrature of 200 points is exact to round-off for eight half waves
    torch.testing.assert_close(overlap, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-12)


def test_bessel_functions_at_zero_and_their_gradients() -> None:
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    value = bessel_basis(zero, FREQUENCIES, CUTOFF)
    torch.testing.assert_close(value[0], math.sqrt(2 / CUTOFF) * FREQUENCIES / CUTOFF, rtol=1e-15, atol=0)
    (slope,) = torch.autograd.grad(value.sum(), zero)
    assert slope == 0.0  # even functions
    inputs = (3 * torch.rand(4, dtype=torch.float64) + 0.1, FREQUENCIES.clone(), CUTOFF)
    assert torch.autograd.gradcheck(bessel_basis, (inputs[0].requires_grad_(), inputs[1].requires_grad_(), CUTOFF))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bessel_functions_dtype_and_empty(dtype: torch.dtype) -> None:
    assert bessel_basis(torch.rand(3, dtype=dtype), FREQUENCIES.to(dtype), CUTOFF).dtype == dtype
    assert bessel_basis(torch.rand(0, dtype=dtype), FREQUENCIES.to(dtype), CUTOFF).shape == (0, 8)
