"""The loops that solve for splines: factors, shares of threads."""

import importlib
import math

import pytest
import torch
from torch import Tensor

from pyg_schnet.fast.spline import interpolation
from pyg_schnet.sizes import SIZES

pytest.importorskip("numba")
loops = importlib.import_module("pyg_schnet.fast.cpu.banded_solver")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_result_does_not_depend_on_threads(
    transposed: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on what was in memory before."""
    empty = Tensor.new_empty
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size, **kind: empty(self, *size, **kind).fill_(math.nan))
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    x, found = torch.randn(3, 36, 50, dtype=dtype), []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(loops.solve(x, transposed, dtype))
    assert all(torch.equal(other, found[0]) for other in found[1:])
    matrix, tolerance = interpolation(32).T if transposed else interpolation(36), 300 * torch.finfo(dtype).eps
    expected = matrix @ x.double()
    assert (found[0] - expected).abs().max() <= tolerance * expected.abs().max()


def test_factors_are_kept() -> None:
    assert loops.factors(30) is loops.factors(30)
