"""Positions of many structures in float32, near the origin or far from it."""

import numpy as np
import pytest
import torch

from pyg_schnet import radius_graph
from pyg_schnet.datasets.rounding import NEAR, rounded_positions

SIZES = np.array([3, 1, 4])


def test_near_ones_are_those_of_the_file():
    positions = np.random.default_rng(0).uniform(-NEAR, NEAR, size=(8, 3))
    assert np.array_equal(rounded_positions("file", positions, SIZES), positions.astype(np.float32))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_far_one_is_moved_alone_and_exactly(which):
    near = np.random.default_rng(0).normal(size=(8, 3))
    rows = np.repeat(np.arange(3), SIZES) == which
    far = near + 5000.0 * rows[:, None]
    rounded = rounded_positions("file", far, SIZES)
    assert np.array_equal(rounded[~rows], near[~rows].astype(np.float32))
    assert np.abs(rounded[rows]).max() < 8
    exact = far[rows] - far[rows][0]
    assert np.abs(rounded[rows].astype(float) - rounded[rows][0] - exact).max() < 1e-6


def test_crystals_come_back_by_lattice_vectors():
    random = np.random.default_rng(0)
    cells = 4 * np.eye(3) + random.uniform(-0.5, 0.5, size=(3, 3, 3))
    owner = np.repeat(np.arange(3), SIZES)
    fractions = random.uniform(size=(8, 3))
    images = random.integers(-300, 300, size=(8, 3))
    found = []
    for drift in (0, images):
        positions = np.einsum("ni,nij->nj", fractions + drift, cells[owner])
        pos = torch.from_numpy(rounded_positions("file", positions, SIZES, cells))
        assert pos.abs().max() < 2 * NEAR
        cell = torch.from_numpy(cells).float()
        graph = radius_graph(pos, 3.5, torch.from_numpy(owner), cell, torch.ones(3, 3, dtype=torch.bool))
        source, target = graph.edge_index
        shift = graph.edge_shift.float().unsqueeze(1) @ cell[torch.from_numpy(owner)[target]]
        found.append((pos[source] - pos[target] + shift.squeeze(1)).norm(dim=1).sort().values)
    assert torch.allclose(*found, atol=1e-5)


def test_lost_digits_are_refused():
    positions = np.zeros((8, 3))
    positions[3] = 1e300
    with pytest.raises(ValueError, match="a file, structure 1: positions must be within .* got 1e\\+300 for atom 0"):
        rounded_positions("a file", positions, SIZES)
