import itertools

import pytest
import torch

from pyg_schnet.graph.points import Surroundings
from pyg_schnet.sizes import SIZES


def brute_force(pos, points, cutoff, cell, pbc, most=9):
    ranges = [range(-most, most + 1) if periodic else [0] for periodic in pbc[0].tolist()]
    shift = torch.tensor(list(itertools.product(*ranges)))
    rows = torch.where(pbc.T, cell[0], 0.0)
    vec = pos[None, :, None] - points[:, None, None] + (shift.double() @ rows)[None, None]  # [P, N, S, 3]
    point, atom, image = (vec.norm(dim=-1) < cutoff).nonzero(as_tuple=True)
    return {(a, p, *s) for a, p, s in zip(atom.tolist(), point.tolist(), shift[image].tolist(), strict=True)}


@pytest.mark.parametrize("pbc", list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("cutoff", [1.1, 3.0, 6.5])
def test_all_images_are_found(pbc, cutoff):
    generator = torch.Generator().manual_seed(3)
    pos = 12 * torch.rand(7, 3, generator=generator, dtype=torch.float64) - 6
    points = 14 * torch.rand(30, 3, generator=generator, dtype=torch.float64) - 7
    cell = torch.tensor([[[3.2, 0, 0], [1.1, 4.0, 0], [-0.7, 0.9, 3.6]]], dtype=torch.float64)
    axes = torch.tensor([pbc])
    around = Surroundings(pos, cutoff, cell, axes)
    atom, point, shift = around.around(points)
    vec = pos[atom] - points[point] + shift.double() @ torch.where(axes.T, cell[0], 0.0)
    inside = vec.norm(dim=1) < cutoff
    assert bool((vec.norm(dim=1) < cutoff * (1 + 1e-5)).all())
    found = [
        (a, p, *s)
        for a, p, s in zip(atom[inside].tolist(), point[inside].tolist(), shift[inside].tolist(), strict=True)
    ]
    assert len(set(found)) == len(found)
    assert set(found) == brute_force(pos, points, cutoff, cell, axes)
    assert bool((point.diff() >= 0).all())
    assert sorted(around.order(points).tolist()) == list(range(30))


def test_very_skewed_lattices():
    cell = torch.tensor([[[3.0, 0, 0], [3000.0, 3.0, 0], [0, 0, 3.0]]], dtype=torch.float64)
    atom, _, shift = Surroundings(torch.zeros(1, 3).double(), 3.5, cell, torch.ones(1, 3) > 0).around(
        torch.tensor([[0.0, 0.1, 0]]).double()
    )
    vec = shift.double() @ cell[0] - torch.tensor([0.0, 0.1, 0])
    assert len(atom) == 7
    assert sorted(vec.norm(dim=1).round(decimals=3).tolist()) == [0.1, 2.9, 3.002, 3.002, 3.002, 3.002, 3.1]


def test_large_sets_in_pieces(monkeypatch):
    pos, points = torch.rand(40, 3).double() * 9, torch.rand(100, 3).double() * 9
    whole = Surroundings(pos, 2.0).around(points)
    monkeypatch.setattr(SIZES, "pairs_at_once", 500)
    for one, other in zip(whole, Surroundings(pos, 2.0).around(points), strict=True):
        assert torch.equal(one, other)
    assert Surroundings(pos, 2.0).around(points[:0])[0].numel() == 0
