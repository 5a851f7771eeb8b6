"""Structures far from the origin: the same structure, near it, without a digit lost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray

from pyg_schnet import radius_graph
from pyg_schnet.graph.centre import FARTHEST, centred

CUTOFF = 3.5


def _distances(positions: ndarray, cell: ndarray | None, pbc: ndarray | None) -> ndarray:
    """Distances of all neighbours, sorted by atom and length: what a model sees of a structure."""
    boundary = () if cell is None else (torch.from_numpy(cell)[None], torch.from_numpy(pbc)[None])
    graph = radius_graph(torch.from_numpy(positions), CUTOFF, None, *boundary)
    pos, (source, target) = torch.from_numpy(positions), graph.edge_index
    vectors = pos[source] - pos[target]
    if cell is not None:
        vectors = vectors + graph.edge_shift.double() @ torch.from_numpy(cell)
    length = vectors.norm(dim=1).numpy()
    return length[np.lexsort((length, target.numpy()))]


@pytest.mark.parametrize("offset", [0.0, 5.0, -1.5])
def test_a_structure_near_the_origin_stays_as_it_is(offset: float) -> None:
    positions = np.random.default_rng(0).normal(size=(9, 3)) + offset
    assert centred(positions) is positions


def test_a_large_structure_with_a_corner_at_the_origin_stays_as_it_is() -> None:
    positions = np.random.default_rng(0).uniform(0, 300, size=(50, 3))
    assert centred(positions) is positions


@pytest.mark.parametrize("offset", [20.0, 100.0, 237.0, 5000.0, -2e4, 1e6])
def test_float32_is_as_good_as_near_the_origin_and_the_shift_is_exact(offset: float) -> None:
    positions = np.random.default_rng(0).normal(size=(9, 3)) + offset  # what its digits in float64 still say
    moved = centred(positions)
    assert np.array_equal(moved - moved[0], positions - positions[0])
    single = moved.astype(np.float32).astype(np.float64)
    assert np.abs((single - single[0]) - (positions - positions[0])).max() < 5e-7  # two roundings of 4 Angstrom


def test_one_axis_may_be_far_alone() -> None:
    positions = np.array([[0.25, 1.0, 900.5], [1.0, 0.0, 901.25]])
    assert np.abs(centred(positions)).max() <= 1.0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    axes=st.sampled_from([(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]),
    cells=st.integers(3, 10**5),
)
def test_drifted_atoms_come_back_by_whole_lattice_vectors(seed: int, axes: tuple[int, ...], cells: int) -> None:
    random = np.random.default_rng(seed)
    cell = 3.0 * np.linalg.qr(random.normal(size=(3, 3)))[0] + random.uniform(-0.4, 0.4, size=(3, 3))
    pbc = np.isin(np.arange(3), axes)
    near = random.uniform(0, 1, size=(4, 3)) @ cell
    drift = np.where(pbc, random.integers(-cells, cells, size=(4, 3)), 0)
    drift[0] = np.where(pbc, cells, 0)  # so that atoms are spread over several cells
    cell = np.where(pbc[:, None], cell, 0.0)  # open rows missing, as in many files
    moved = centred(near + drift @ cell, cell, pbc)
    assert np.abs(moved).max() < 12.0
    expected = _distances(near, cell, pbc)
    found = _distances(moved, cell, pbc)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max(initial=0.0) < 1e-9 * cells


def test_open_axes_keep_all_distances_beside_periodic_ones() -> None:
    cell, pbc = np.diag([4.0, 0.0, 0.0]), np.array([True, False, False])
    positions = np.array([[0.0, 0.0, 700.0], [400.5, 30.0, 700.0]])
    moved = centred(positions, cell, pbc)
    assert (moved[1] - moved[0]).tolist() == [0.5, 30.0, 0.0]


def test_all_atoms_drift_together_as_one_group() -> None:
    """A molecule across the border of the cell is not cut in two where that gains nothing."""
    positions = np.array([[399.5, 0.0, 0.0], [400.5, 0.0, 0.0]])
    moved = centred(positions, 4.0 * np.eye(3), np.ones(3, dtype=bool))
    assert (moved[1] - moved[0]).tolist() == [1.0, 0.0, 0.0]


def test_a_very_skewed_cell_does_not_spread_atoms() -> None:
    cell = np.array([[3.0, 0, 0], [90000.0, 3, 0], [0, 0, 3]])
    positions = np.array([[0.1, 0.2, 0.3], [1.6 + 900.0, 1.7, 1.8]])
    moved = centred(positions, cell, np.ones(3, dtype=bool))
    assert np.abs(moved).max() < 10.0
    assert np.allclose(_distances(moved, cell, np.ones(3, bool)), _distances(positions, cell, np.ones(3, bool)))


def test_datasets_may_leave_more_as_it_is() -> None:
    positions = np.array([[20.0, 0.0, 0.0], [21.0, 0.0, 0.0]])
    assert centred(positions, near=32.0) is positions
    assert centred(positions) is not positions


def test_positions_without_digits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"within 1e\+09 Angstrom of the origin, got -1e\+300 for atom 1"):
        centred(np.array([[0.0, 0, 0], [0, -1e300, 0]]))
    assert np.isfinite(centred(np.full((2, 3), FARTHEST))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_positions_and_cells_are_left_to_others(bad: float) -> None:
    positions = np.array([[bad, 0.0, 0.0], [900.0, 0.0, 0.0]])
    assert centred(positions) is positions
    positions = np.array([[0.0, 0.0, 0.0], [900.0, 0.0, 0.0]])
    assert np.isfinite(centred(positions, np.diag([bad, 1.0, 1.0]), np.ones(3, dtype=bool))).all()


def test_no_atoms() -> None:
    assert centred(np.zeros((0, 3))).shape == (0, 3)
