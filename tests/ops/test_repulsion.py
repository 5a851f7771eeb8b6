"""The repulsion of nuclei: closed form in numpy with the constants of ASE, and both ends of its range."""

import ase.units
import numpy as np
import pytest
import torch

from pyg_schnet.ops import zbl_repulsion

PAIRS = [(1, 1), (1, 8), (6, 8), (14, 14), (29, 79)]
#: Coulomb's constant times the square of the charge, eV Angstrom.
COULOMB = ase.units._e / (4 * np.pi * ase.units._eps0) * 1e10


def closed_form(d: float, first: int, second: int) -> float:
    """As LAMMPS documents its ``pair_style zbl``, with the screening length before it is rounded."""
    x = d * (first**0.23 + second**0.23) / (0.8854 * ase.units.Bohr)
    screening = 0.18175 * np.exp(-3.19980 * x) + 0.50986 * np.exp(-0.94229 * x)
    screening += 0.28022 * np.exp(-0.40290 * x) + 0.02817 * np.exp(-0.20162 * x)
    return float(COULOMB * first * second / d * screening)


def repulsion(distances: list[float], pair: tuple[int, int], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    first, second = (torch.full((len(distances),), float(z), dtype=dtype) for z in pair)
    return zbl_repulsion(torch.tensor(distances, dtype=dtype), first, second)


@pytest.mark.parametrize("pair", PAIRS)
def test_closed_form(pair: tuple[int, int]) -> None:
    distances = [1e-6, 0.01, 0.1, 0.3, 0.74, 1.1, 1.54, 2.5, 5.0]
    expected = [closed_form(d, *pair) for d in distances]
    np.testing.assert_allclose(repulsion(distances, pair).numpy(), expected, rtol=1e-9)  # digits of the constants
    np.testing.assert_allclose(repulsion(distances, pair[::-1]).numpy(), expected, rtol=1e-9)
    single = repulsion(distances, pair, torch.float32)
    assert single.dtype == torch.float32
    # each of the exponents, up to 40, is rounded before it is taken
    np.testing.assert_allclose(single.numpy(), expected, rtol=2e-5)


def test_bare_nuclei_at_short_distance_and_nothing_far_away() -> None:
    for dtype in (torch.float32, torch.float64):
        near = repulsion([1e-7], (6, 8), dtype)
        assert float(near) * 1e-7 == pytest.approx(48 * COULOMB, rel=1e-5)
        assert repulsion([20.0], (6, 8), dtype) < 1e-5
    energy = repulsion(np.linspace(0.05, 4, 200).tolist(), (6, 6))
    assert (energy.diff() < 0).all()
