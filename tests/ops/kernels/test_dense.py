"""Dense layers and the shifted softplus in compiled loops, against numpy and torch."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch

from pyg_schnet.ops import shifted_softplus

numba = pytest.importorskip("numba")
loops = importlib.import_module("pyg_schnet.ops.kernels.dense")


@pytest.fixture(scope="module")
def call() -> Any:
    """The loops, which only other loops can call, from Python."""

    @numba.njit
    def forward(y, x, w, columns, inputs, outputs):
        loops.add_dense(y, x, w, columns, inputs, outputs)

    @numba.njit
    def backward(g, v, w, columns, inputs, outputs):
        loops.add_dense_backward(g, v, w, columns, inputs, outputs)

    @numba.njit
    def turn(y, x, rows, columns):
        loops.turn(y, x, rows, columns)

    @numba.njit
    def softplus(y, slope, u, shift, linear_from):
        loops.shifted_softplus(y, slope, u, shift, linear_from)

    return {"forward": forward, "backward": backward, "turn": turn, "softplus": softplus}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("columns", "inputs", "outputs"), [(16, 8, 8), (32, 16, 24), (48, 24, 16), (16, 40, 8), (80, 128, 64), (0, 8, 8)]
)
def test_dense(columns: int, inputs: int, outputs: int, dtype: str, call: Any) -> None:
    """Added to what is there; nothing behind the ends is written."""
    rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
    shapes = [(outputs, inputs), (inputs, columns), (outputs, columns), (outputs + 1, columns), (inputs + 1, columns)]
    w, x, v, y, g = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    expected = y.copy(), g.copy()
    expected[0][:-1] += w @ x
    expected[1][:-1] += w.T @ v
    sizes = columns, inputs, outputs
    call["forward"](y.reshape(-1), x.reshape(-1), w.reshape(-1), *sizes)
    call["backward"](g.reshape(-1), v.reshape(-1), w.reshape(-1), *sizes)
    for result, value in zip((y, g), expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=0, atol=200 * eps)  # up to 128 products of size one


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (32, 48), (48, 16)])
def test_turn(rows: int, columns: int, dtype: str, call: Any) -> None:
    x = np.arange(rows * columns, dtype=dtype).reshape(rows, columns)
    y = np.full((columns, rows), np.nan, dtype)
    call["turn"](y.reshape(-1), x.reshape(-1), rows, columns)
    assert np.array_equal(y, x.T)


@pytest.mark.parametrize("linear_from", [20.0, 40.0])
@pytest.mark.parametrize(
    ("dtype", "error", "slope_error", "smallest"),
    [(torch.float64, 4e-16, 1e-13, 1e-300), (torch.float32, 2.4e-7, 4.8e-7, 2e-38)],
    ids=["float64", "float32"],
)
def test_shifted_softplus(
    linear_from: float, dtype: torch.dtype, error: float, slope_error: float, smallest: float, call: Any
) -> None:
    """To the last digits, everywhere; the slope, too."""
    ends = [0.0, -0.0, 1e-300, 1e-9, -1e-9, 19.999, 20.001, 39.999, 40.001, 800.0, -800.0, math.inf, -math.inf]
    u = torch.cat([torch.linspace(-50, 50, 997, dtype=torch.float64), torch.tensor(ends, dtype=torch.float64)]).to(
        dtype
    )
    y, slope = torch.empty_like(u), torch.empty_like(u)
    call["softplus"](y.numpy(), slope.numpy(), u.numpy(), math.log(2.0), linear_from)
    moving = u.double().requires_grad_()
    expected = shifted_softplus(moving, linear_from=linear_from)
    expected.nan_to_num(posinf=0.0).sum().backward()
    torch.testing.assert_close(y.double(), expected.detach(), rtol=error, atol=error)
    finite = u.isfinite()
    torch.testing.assert_close(slope[finite].double(), moving.grad[finite], rtol=slope_error, atol=smallest)


def test_not_a_number_stays(call: Any) -> None:
    u = np.array([np.nan, 1.0])
    y, slope = np.empty(2), np.empty(2)
    call["softplus"](y, slope, u, 0.0, 40.0)
    assert np.isnan(y).tolist() == [True, False]
