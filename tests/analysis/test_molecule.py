"""Bonds against what chemistry counts, views against geometry, and the drawing of both."""

import pytest
import torch
from torch_geometric.data import Batch, Data

pytest.importorskip("ase")
pytest.importorskip("matplotlib")
from ase.build import bulk, molecule

from pyg_schnet.analysis.molecule import atoms_of, bonds, view_of
from pyg_schnet.analysis.molecule_figure import draw_molecule
from pyg_schnet.simulation.ase import atoms_to_data


@pytest.mark.parametrize(
    ("name", "count"), [("C6H6", 12), ("CH3CH2OH", 8), ("H2O", 2), ("H2", 1), ("C5H8", 14), ("C4H4S", 9), ("Si2H6", 7)]
)
def test_bonds_are_those_of_chemistry(name, count):
    """Atoms and rings tell the number: N - 1 and one for each ring (C5H8 of ASE is spiropentane, of two)."""
    found = bonds(atoms_to_data(molecule(name)))
    assert found.shape == (2, count)
    assert (found[0] < found[1]).all()


def test_valences_of_ethanol():
    data = atoms_to_data(molecule("CH3CH2OH"))
    degree = torch.bincount(bonds(data).flatten(), minlength=9)
    assert [sorted(degree[data.z == number].tolist()) for number in (1, 6, 8)] == [[1] * 6, [4, 4], [2]]


def test_bonds_of_a_crystal_are_those_in_its_cell():
    """Of diamond's cubic cell with eight atoms, 16 bonds in all, those that leave the cell are missing."""
    assert bonds(atoms_to_data(bulk("C", "diamond", 3.567))).shape == (2, 1)
    assert 0 < bonds(atoms_to_data(bulk("C", "diamond", 3.567, cubic=True))).size(1) < 16


def test_view_is_a_rotation_and_the_plane_of_largest_extent():
    """Distances stay, the axes are right-handed, and a flat molecule in any position lies flat."""
    data = atoms_to_data(molecule("C6H6"), torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    data.pos = data.pos @ turn.T + 3.0
    view = view_of(data)
    places = torch.cat([view.points, view.depth[:, None]], dim=1)
    # round-off of a few rotations
    torch.testing.assert_close(torch.pdist(places), torch.pdist(data.pos), rtol=1e-12, atol=1e-12)
    assert float(torch.linalg.det(view.axes)) == pytest.approx(1.0)
    assert float(view.depth.abs().max()) < 1e-9
    assert view.points[:, 0].std() >= view.points[:, 1].std() - 1e-9


def test_no_atom_hides_another():
    """Hydrogen atoms of ethanol lie above each other in the plane of its mirror; the view tells them apart."""
    data = atoms_to_data(molecule("CH3CH2OH"))
    assert float(torch.pdist(view_of(data).points).min()) > 0.4
    mirror = view_of(data, torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]))  # ASE's mirror plane is that of x and y
    assert float(torch.pdist(mirror.points).min()) < 1e-6


def test_a_view_of_ones_own():
    data = Data(z=torch.tensor([6, 8]), pos=torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0]]))
    view = view_of(data, torch.tensor([[0.0, 0, 2.0], [1.0, 0, 0]]), origin=torch.tensor([1.0, 2.0, 3.0]))
    assert view.points.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert view.axes[2].tolist() == [0.0, 1.0, 0.0]
    for axes, text in ((torch.eye(3)[:1], r"\[2, 3\]"), (torch.tensor([[1.0, 0, 0], [1.0, 1, 0]]), "orthogonal")):
        with pytest.raises(ValueError, match=text):
            view_of(data, axes)


def test_single_atom_and_line():
    """Neither spans a plane; both are drawn."""
    one = Data(z=torch.tensor([10]), pos=torch.zeros(1, 3))
    assert view_of(one).points.tolist() == [[0.0, 0.0]]
    assert bonds(one).shape == (2, 0)
    line = atoms_to_data(molecule("CO2"))
    assert float(view_of(line).points[:, 1].abs().max()) < 1e-6
    assert [text.get_text() for text in draw_molecule(line, scale_bar=False).texts] == ["C", "O", "O"]
    assert len(draw_molecule(one).patches) == 1


def test_colours_tell_the_numbers():
    """The two ends of the map and its middle, and a colour bar only if it is asked for."""
    data = atoms_to_data(molecule("H2O"))
    axes = draw_molecule(data, values=torch.tensor([0.0, -2.0, 2.0]), label="eV")
    middle, low, high = (patch.get_facecolor()[:3] for patch in axes.patches)
    assert min(middle) > 0.9
    assert low[2] > 2 * low[0]
    assert high[0] > 2 * high[2]
    assert [other.get_ylabel() for other in axes.figure.axes if other is not axes] == ["eV"]
    plain = draw_molecule(data, values=[1.0, 1.0, 1.0])
    assert plain.figure.axes == [plain]
    assert len(plain.lines) == 2 + 1  # the bonds and the bar of one Angstrom


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (3, TypeError, "must be a Data"),
        (Data(z=torch.tensor([1])), ValueError, "`pos` is missing"),
        (Data(z=torch.tensor([1.0]), pos=torch.zeros(1, 3)), TypeError, "int64"),
        (Data(z=torch.tensor([1]), pos=torch.full((1, 3), float("nan"))), ValueError, "finite"),
        (Data(z=torch.tensor([1, 2]), pos=torch.zeros(1, 3)), ValueError, "shape"),
        (Data(z=torch.tensor([0]), pos=torch.zeros(1, 3)), ValueError, "from 1 to 118"),
        (Data(z=torch.zeros(0, dtype=torch.long), pos=torch.zeros(0, 3)), ValueError, "one structure with atoms"),
        (Data(z=torch.tensor([1, 1]), pos=torch.zeros(2, 3)), ValueError, "same place"),
        (Batch.from_data_list([Data(z=torch.tensor([1]), pos=torch.zeros(1, 3))] * 2), ValueError, "one by one"),
    ],
)
def test_bad_structures(data, kind, text):
    with pytest.raises(kind, match=text):
        bonds(data)


def test_bad_numbers():
    data = atoms_to_data(molecule("H2O"))
    with pytest.raises(ValueError, match=r"for each atom \[3\]"):
        draw_molecule(data, values=torch.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        draw_molecule(data, values=[0.0, float("nan"), 1.0])
    with pytest.raises(ValueError, match="positive"):
        bonds(data, tolerance=-1.0)
    assert atoms_of(data)[1].dtype == torch.float64
