import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet.analysis import local_chemical_potential
from pyg_schnet.analysis.surfaces.potential_cut import potential_cut

EVERY = torch.ones(1, 3, dtype=torch.bool)
WATER = Data(
    z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)
)


def diamond(a=3.567):
    pos = a * torch.tensor([[0.0, 0, 0], [0.25, 0.25, 0.25]], dtype=torch.float64)
    cell = a / 2 * torch.tensor([[[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]], dtype=torch.float64)
    return Data(z=torch.tensor([6, 6]), pos=pos, cell=cell, pbc=EVERY)


def test_values_are_those_at_the_points(make_model):
    model = make_model(mean=-2.0)
    cut = potential_cut(model, WATER, [0.1, 0.2, 0.0], [[0, 2.0, 0], [0, 1.0, 5.0]], (3.0, 2.0), 0.5)
    assert cut.x.tolist() == [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5]
    assert cut.y.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert cut.axes.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    for row, y in enumerate(cut.y.tolist()):
        for column, x in enumerate(cut.x.tolist()):
            point = torch.tensor([[0.1, 0.2 + x, y]], dtype=torch.float64)
            far = float((point - WATER.pos).norm(dim=1).min())
            value = cut.values[row, column]
            if far < 0.25:
                assert value.isnan()
            else:
                expected = local_chemical_potential(model, WATER, point).detach()
                assert value == pytest.approx(float(expected), rel=1e-10)  # float64
    assert cut.values.isnan().sum() == 1
    assert (cut.reference, cut.unit, cut.probe, cut.nearest) == (-2.0, "eV", 6, 0.25)


def test_a_crystal_repeats(make_model):
    """(110) of diamond: rows of atoms every a / sqrt 2, planes every a, the same up to rounding."""
    a = 3.6
    model, step = make_model(cutoff=4.0), a / 2**0.5 / 8
    cut = potential_cut(model, diamond(a), [0, 0, 0], [[1, -1, 0], [0, 0, 1]], (16 * step, 2 * a), step, nearest=0.5)
    assert cut.values.shape[1] == 17
    left, right = cut.values[:, :9], cut.values[:, 8:]
    assert torch.equal(left.isnan(), right.isnan())
    assert left.isnan().any()
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9, equal_nan=True)
    mirrored = cut.values.flip(1)
    torch.testing.assert_close(cut.values, mirrored, rtol=1e-9, atol=1e-9, equal_nan=True)
    assert np.nanstd(cut.values.numpy()) > 1e-4


def test_atoms_in_the_plane_are_those_of_a_supercell(make_model):
    """Against a cube of 7 x 7 x 7 cells, every image tried."""
    data, origin = diamond(), torch.tensor([0.0, 0.0, 0.0]).double()
    cut = potential_cut(make_model(cutoff=3.0), data, origin, [[1, -1, 0], [0, 0, 1]], (9.0, 7.0), 0.4)
    steps = torch.cartesian_prod(*[torch.arange(-7.0, 8.0, dtype=torch.float64)] * 3)
    every = (data.pos[:, None] + steps @ data.cell[0]).reshape(-1, 3) @ cut.axes.T
    near = (every[:, 2].abs() <= 0.3) & (every[:, 0].abs() <= 4.5) & (every[:, 1].abs() <= 3.5)
    expected = {tuple(row) for row in every[near][:, :2].mul(1e3).round().int().tolist()}
    found = [tuple(row) for row in cut.atoms.mul(1e3).round().int().tolist()]
    assert len(found) == len(set(found)) == len(expected) == 11
    assert set(found) == expected
    assert cut.z.tolist() == [6] * 11


def test_what_is_left_out_is_around_images_too(make_model):
    """Far from the cell, and with an atom far outside of it."""
    data = diamond()
    data.pos = data.pos + torch.tensor([[0.0, 0, 0], [9.0, -6.0, 4.0]], dtype=torch.float64) @ data.cell[0]
    origin = 5.0 * data.cell[0, 1]
    model = make_model(cutoff=3.0)
    first = potential_cut(model, diamond(), size=4.0, resolution=0.25, nearest=0.49)
    second = potential_cut(model, data, origin, size=4.0, resolution=0.25, nearest=0.49)
    torch.testing.assert_close(first.values, second.values, rtol=1e-9, atol=1e-9, equal_nan=True)
    assert 0.05 < first.values.isnan().double().mean() < 0.5


def test_a_molecule_lies_in_the_middle(make_model, rotation):
    turned = Data(z=WATER.z, pos=WATER.pos @ rotation.T + 4.0)
    first, second = (potential_cut(make_model(), data, resolution=0.2) for data in (WATER, turned))
    assert len(first.atoms) == len(second.atoms) == 3
    for cut in (first, second):
        high, low = cut.atoms.amax(0), cut.atoms.amin(0)
        torch.testing.assert_close(high, -low)
        assert float(cut.x[-1] - high[0]) == pytest.approx(2.0)
        assert float(cut.y[-1] - high[1]) == pytest.approx(2.0)


def test_atoms_of_a_molecule_have_their_elements(make_model):
    cut = potential_cut(make_model(), WATER, [0, 0, 0.2], [[1, 0, 0], [0, 1, 0]], 3.0, 0.3)
    order = cut.atoms[:, 0].argsort()
    torch.testing.assert_close(cut.atoms[order], WATER.pos[[2, 0, 1], :2])
    assert cut.z[order].tolist() == [1, 8, 1]
    assert len(potential_cut(make_model(), WATER, [0, 0, 0.4], [[1, 0, 0], [0, 1, 0]], 3.0, 0.3).z) == 0


def test_a_crystal_shows_its_first_layer(make_model):
    cut = potential_cut(make_model(cutoff=3.0), diamond(), resolution=0.5)
    assert cut.origin.tolist() == [0.0, 0.0, 0.0]
    assert (cut.atoms.norm(dim=1) < 1e-9).any()
    assert (float(cut.x[-1]), float(cut.y[-1])) == (4.0, 4.0)
    # the first two vectors span a (111) layer, which has atoms every a / sqrt 2
    some = cut.atoms.norm(dim=1)
    assert float(some[some > 1e-9].min()) == pytest.approx(3.567 / 2**0.5)


def test_slab_with_a_vector_of_any_kind(make_model):
    slab = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3).double(), pbc=torch.tensor([[True, True, False]]))
    slab.cell = torch.tensor([[[2.5, 0, 0], [0, 2.5, 0], [0, 0, 0]]], dtype=torch.float64)
    cut = potential_cut(make_model(cutoff=3.0), slab, resolution=0.5)
    assert len(cut.atoms) == 9
    assert cut.axes[2].tolist() == [0.0, 0.0, 1.0]


def test_all_may_be_left_out(make_model):
    cut = potential_cut(make_model(), WATER, [0, 0, 0], size=0.2, resolution=0.1)
    assert cut.values.isnan().all()


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"axes": [[1, 0, 0], [2, 0, 0]]}, ValueError, "`axes` must be two directions that are not parallel"),
        ({"axes": [[0, 0, 0], [2, 0, 0]]}, ValueError, "`axes` must be two directions that are not parallel"),
        ({"axes": [[1, 0, 0]]}, ValueError, r"`axes` must be finite numbers \[2, 3\]"),
        ({"origin": [0, float("nan"), 0]}, ValueError, r"`origin` must be finite numbers \[3\]"),
        ({"size": -1.0}, ValueError, "`size`.* must be positive"),
        ({"size": (1.0, 2.0, 3.0)}, ValueError, "`size` must be a width and a height"),
        ({"origin": "top"}, TypeError, r"`origin` must be numbers \[3\] in Angstrom, got 'top'"),
        ({"size": "8"}, TypeError, "`size`.* must be a number"),
        ({"resolution": 0.0}, ValueError, "`resolution`.* must be positive"),
        ({"size": 1.0, "resolution": 2.0}, ValueError, "`resolution` must not be larger than the cut, 1 by 1 Angstrom"),
        ({"resolution": 0.001}, ValueError, "expected at most 4,000,000; pass a smaller `size`"),
        ({"nearest": 0.0}, ValueError, "`nearest`.* must be positive"),
        ({"probe": -1}, ValueError, "atomic number"),
    ],
)
def test_bad_input(options, kind, text, make_model):
    with pytest.raises(kind, match=text):
        potential_cut(make_model(), WATER, **({"resolution": 0.5} | options))
