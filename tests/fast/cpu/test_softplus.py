"""The shifted softplus in compiled loops, against torch."""

import importlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import shifted_softplus

numba = pytest.importorskip("numba")
loops = importlib.import_module("pyg_schnet.fast.cpu.softplus")
Activate = Callable[..., None]


@pytest.fixture(scope="module")
def activate() -> Activate:
    """The loop, which only other loops can call, from Python."""

    @numba.njit
    def softplus(y, slope, u, shift, linear_from, first, end):
        loops.shifted_softplus(y, slope, u, shift, linear_from, (first, end))

    def call(y: Tensor, slope: Tensor, u: Tensor, shift: float, linear_from: float, first: int = 0) -> None:
        softplus(y.numpy(), slope.numpy(), u.numpy(), shift, linear_from, first, len(u))

    return call


@pytest.mark.parametrize("linear_from", [20.0, 40.0])
@pytest.mark.parametrize(("dtype", "smallest"), [(torch.float64, 1e-300), (torch.float32, 2e-38)], ids=str)
def test_everywhere(linear_from: float, dtype: torch.dtype, smallest: float, activate: Activate) -> None:
    """To the last digits, eight roundings by half an eps of the function and ten of the derivative; torch's are less.

    Of float32, what is compared with has no errors.
    """
    eps = torch.finfo(dtype).eps
    error, slope_error = (4 * eps, 5 * eps) if dtype == torch.float32 else (6 * eps, 8 * eps)
    ends = [0.0, -0.0, 1e-300, 1e-9, -1e-9, 19.999, 20.001, 39.999, 40.001, 800.0, -800.0, math.inf, -math.inf]
    near, far = torch.linspace(-50, 50, 997, dtype=torch.float64), torch.linspace(-700, 700, 1401, dtype=torch.float64)
    u = torch.cat([near, far, torch.tensor(ends, dtype=torch.float64)]).to(dtype)
    y, slope, wide = torch.empty_like(u), torch.empty_like(u), u.double()
    activate(y, slope, u, math.log(2.0), linear_from)
    expected = shifted_softplus(wide, linear_from=linear_from)
    torch.testing.assert_close(y.double(), expected, rtol=error, atol=error)
    of_expected = torch.sigmoid(wide).masked_fill(wide > linear_from, 1.0)
    torch.testing.assert_close(slope.double(), of_expected, rtol=slope_error, atol=smallest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("first", "end"), [(0, 0), (0, 1), (0, 15), (16, 32), (16, 33), (0, 40)])
def test_some_numbers_in_their_place(first: int, end: int, dtype: torch.dtype, activate: Activate) -> None:
    """Nothing before and nothing behind them is written."""
    given = torch.randn(60, dtype=dtype)
    y, slope = given.clone(), given.clone()
    activate(y[:end], slope[:end], y[:end], 0.1, 40.0, first)
    torch.testing.assert_close(y[first:end], shifted_softplus(given[first:end], 0.1), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(slope[first:end], torch.sigmoid(given[first:end]), rtol=1e-6, atol=0)
    for result in (y, slope):
        assert torch.equal(result[:first], given[:first])
        assert torch.equal(result[end:], given[end:])


def test_not_a_number_stays(activate: Activate) -> None:
    u = torch.tensor([np.nan, 1.0])
    y, slope = torch.empty(2), torch.empty(2)
    activate(y, slope, u, 0.0, 40.0)
    assert y.isnan().tolist() == [True, False]
