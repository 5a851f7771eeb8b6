"""Shifted softplus against fifty digits."""

import mpmath
import pytest
import torch

from pyg_schnet.ops import shifted_softplus

POINTS = [0.0, 1e-8, 0.3, 1.0, 5.0, 19.999, 20.0, 20.001, 30.0, 36.0, 39.999, 40.0, 40.001, 80.0]
POINTS = sorted({sign * x for x in POINTS for sign in (-1.0, 1.0)})


def exact(x: float) -> mpmath.mpf:
    """The closed form ln(0.5 e^x + 0.5)."""
    return mpmath.log(mpmath.mpf("0.5") * mpmath.exp(mpmath.mpf(x)) + mpmath.mpf("0.5"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_value_is_the_closed_form(dtype: torch.dtype) -> None:
    x = torch.tensor(POINTS, dtype=dtype)
    with mpmath.workdps(50):
        expected = torch.tensor([float(exact(value)) for value in x.tolist()], dtype=torch.float64)
    # two roundings, of the softplus and of the difference
    tolerance = 2 * torch.finfo(dtype).eps * expected.abs().clamp(min=1.0)
    y = shifted_softplus(x)
    assert y.dtype == dtype
    assert ((y.double() - expected).abs() <= tolerance).all()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_those_of_the_closed_form(order: int) -> None:
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    y = shifted_softplus(x)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with mpmath.workdps(60):
        expected = [float(mpmath.diff(exact, mpmath.mpf(value), order)) for value in POINTS]
    # above 40 torch takes the sigmoid as 1, wrong by e^-40 = 4e-18; a few roundings otherwise
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


def test_zero_at_zero_and_free_shift() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    assert shifted_softplus(zero).item() == 0.0
    # one rounding of ln 2
    assert shifted_softplus(zero, shift=0.25).item() == pytest.approx(float(mpmath.log(2)) - 0.25, abs=2e-16)
