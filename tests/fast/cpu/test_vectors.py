"""Sixteen numbers at a time, against numpy."""

import importlib
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")
lanes = importlib.import_module("pyg_schnet.fast.cpu.vectors")


@pytest.fixture(scope="module")
def call() -> Any:
    load, store, splat, total = lanes.load, lanes.store, lanes.splat, lanes.total

    @numba.njit
    def combine(y, x, at, factor):
        value = load(x, at) * splat(factor) + load(x, at + 1)
        value += splat(factor)
        store(y, at, value)
        return total(value)

    return combine


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("at", [0, 1, 7])
def test_products_and_sums(dtype: Any, at: int, call: Any) -> None:
    """From any place in memory, and no number beside the sixteen is touched."""
    x, y = np.random.default_rng(0).normal(size=30).astype(dtype), np.full(30, 7, dtype)
    expected = x[at : at + 16] * dtype(1.5) + x[at + 1 : at + 17] + dtype(1.5)
    summed = call(y, x, at, dtype(1.5))
    np.testing.assert_allclose(y[at : at + 16], expected, rtol=0, atol=8 * np.finfo(dtype).eps)
    assert summed == pytest.approx(float(expected.sum()), abs=64 * float(np.finfo(dtype).eps))
    assert (y[:at] == 7).all()
    assert (y[at + 16 :] == 7).all()
