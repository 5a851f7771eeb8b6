"""Dense layers in compiled loops, against numpy."""

import importlib
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")
loops = importlib.import_module("pyg_schnet.fast.cpu.dense")


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

    return {"forward": forward, "backward": backward, "turn": turn}


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
    # whichever order n numbers are summed in, on either side, each sum errs by n half eps of the magnitudes at most
    bounds = abs(y) * eps, abs(g) * eps
    bounds[0][:-1] = (inputs + 2) * eps * (abs(w) @ abs(x) + abs(y[:-1]))
    bounds[1][:-1] = (outputs + 2) * eps * (abs(w.T) @ abs(v) + abs(g[:-1]))
    sizes = columns, inputs, outputs
    call["forward"](y.reshape(-1), x.reshape(-1), w.reshape(-1), *sizes)
    call["backward"](g.reshape(-1), v.reshape(-1), w.reshape(-1), *sizes)
    for result, value, bound in zip((y, g), expected, bounds, strict=True):
        assert (abs(result - value) <= bound).all()
        assert (result[-1] == value[-1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (32, 48), (48, 16)])
def test_turn(rows: int, columns: int, dtype: str, call: Any) -> None:
    x = np.arange(rows * columns, dtype=dtype).reshape(rows, columns)
    y = np.full((columns, rows), np.nan, dtype)
    call["turn"](y.reshape(-1), x.reshape(-1), rows, columns)
    assert np.array_equal(y, x.T)
