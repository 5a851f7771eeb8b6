import math

import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet import SchNet
from pyg_schnet.analysis.surfaces.probing import atoms_near, closest, feel
from pyg_schnet.units import KCAL_PER_MOL


def test_closest_of_several_atoms_against_all_images():
    """Every image within two cells is tried, in a cell that is short and skewed; points are far outside, too."""
    cell = torch.tensor([[[1.9, 0, 0.2], [1.4, 2.1, 0], [0.3, 0, 2.2]]], dtype=torch.float64)
    pos = torch.tensor([[0.1, 0.2, 0.3], [1.0, 1.2, 0.8]], dtype=torch.float64)
    data = Data(z=torch.tensor([6, 6]), pos=pos, cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))
    points = 3 * torch.rand(40, 3, dtype=torch.float64) - 1
    steps = torch.cartesian_prod(*[torch.arange(-4.0, 5.0, dtype=torch.float64)] * 3)
    every = (pos[:, None] + steps @ cell[0]).reshape(-1, 3)
    expected, which = torch.cdist(points, every).min(1)
    near = atoms_near(data, points + 30 * cell[0, 0], 1.5)
    assert (torch.bincount(near.point) > 1).any()
    distance, arrow = closest(near, len(points))
    within = expected < 1.5
    torch.testing.assert_close(distance[within], expected[within])
    torch.testing.assert_close(arrow[within], (points - every[which])[within])
    assert (distance[~within] == math.inf).all()
    assert (arrow[~within] == 0).all()


def test_nothing_near():
    data = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
    for points in (torch.empty(0, 3, dtype=torch.float64), torch.full((2, 3), 9.0, dtype=torch.float64)):
        near = atoms_near(data, points, 1.0)
        assert near.arrow.shape == (0, 3)
        assert closest(near, len(points))[0].tolist() == [math.inf] * len(points)


@pytest.mark.parametrize(
    ("units", "targets", "unit", "factor"),
    [
        ({}, 1, "eV", 1.0),
        ({"pos": "Ang", "U0": "kcal/mol"}, 1, "eV", KCAL_PER_MOL),
        ({"forces": "eV/Ang", "alpha": "a0^3"}, 1, "a0^3", 1.0),
        ({"pos": "Ang", "mu": "D", "gap": "kcal/mol"}, 2, "eV", KCAL_PER_MOL),
        ({"pos": "Ang", "gap": "kcal/mol"}, 2, "", 1.0),  # of which of the two is not known
    ],
)
def test_units_are_those_of_the_target(units, targets, unit, factor):
    model, atom = SchNet(8, 8, 1, out_channels=targets), Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
    point, last = torch.tensor([[0.0, 0, 2]]), targets - 1
    plain = feel(model, atom, point, target=last).values
    model.units = units
    found = feel(model, atom, point, target=last)
    assert found.unit == unit
    torch.testing.assert_close(found.values, factor * plain)
