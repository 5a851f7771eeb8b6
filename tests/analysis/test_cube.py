import numpy as np
import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("ase")

from ase.io import read
from ase.io.cube import read_cube, read_cube_data

from pyg_schnet.analysis import local_chemical_potential
from pyg_schnet.analysis.surfaces.cube import grid_of, write_cube, write_potential_cube

WATER = Data(
    z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)
)
#: Lengths have six digits after the point in Bohr, numbers seven digits.
LENGTH, NUMBER = {"atol": 1e-6, "rtol": 0}, {"rtol": 1e-6}


def crystal():
    cell = torch.tensor([[[3.1, 0, 0.2], [2.4, 3.4, 0], [0.3, 0, 2.9]]], dtype=torch.float64)
    pos = torch.tensor([[0.0, 0, 0], [1.7, 5.1, 2.2]], dtype=torch.float64)
    return Data(z=torch.tensor([11, 17]), pos=pos, cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))


def slab():
    """Periodic along the first and third axis, the second one of any kind."""
    data = crystal()
    data.pbc = torch.tensor([[True, False, True]])
    data.cell[0, 1] = 0.0
    return data


def function(points):
    return (points * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)).sum(-1).sin() + 2.0


@pytest.mark.parametrize("structure", [lambda: WATER, crystal, slab])
def test_ase_reads_back_what_was_written(structure, tmp_path):
    data = structure()
    path = write_cube(tmp_path / "new" / "f.cube", data, function, spacing=0.4, padding=1.5, comment="of\nours")
    values, atoms = read_cube_data(path)
    with path.open() as file:
        found = read_cube(file)
    assert path.read_text().splitlines()[0] == "of ours"
    assert atoms.numbers.tolist() == data.z.tolist()
    np.testing.assert_allclose(atoms.positions, data.pos, **LENGTH)
    numbers = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"), -1)
    points = found["origin"] + numbers @ found["spacing"]
    np.testing.assert_allclose(values, function(torch.tensor(points)), atol=1e-5)  # of points with such digits
    np.testing.assert_allclose(read(path).positions, data.pos, **LENGTH)
    assert np.linalg.norm(found["spacing"], axis=1).max() <= 0.4 + 1e-6


def test_cells_of_crystals(tmp_path):
    data = crystal()
    values, atoms = read_cube_data(write_cube(tmp_path / "f.cube", data, function, spacing=0.4))
    np.testing.assert_allclose(atoms.cell, data.cell[0], atol=1e-5)  # a step has the digits, times ten of them
    assert values.shape == (8, 11, 8)
    slabs = grid_of(slab(), 0.4, 1.5)
    np.testing.assert_allclose(slabs.cell[[0, 2]], crystal().cell[0, [0, 2]])
    across = slabs.cell[1]
    np.testing.assert_allclose(slabs.cell[[0, 2]] @ across, 0, atol=1e-12)
    heights = slab().pos @ (across / across.norm())
    low = slabs.origin @ (across / across.norm())
    assert float(heights.min() - low) == pytest.approx(1.5)
    assert float(low + across.norm() - heights.max()) == pytest.approx(1.5, abs=0.41)  # and a step
    assert slabs.shape[1] == len(slabs.points) // (8 * 8)


def test_box_around_a_molecule():
    grid = grid_of(WATER, 0.3, 2.0)
    points = grid.points
    torch.testing.assert_close(points.amin(0), WATER.pos.amin(0) - 2.0)
    torch.testing.assert_close(points.amax(0), WATER.pos.amax(0) + 2.0)
    assert len(points) == np.prod(grid.shape)


def test_potential(make_model, tmp_path):
    model = make_model(mean=-1000.0)
    model.units = {"energy": "eV"}
    path = write_potential_cube(tmp_path / "water.cube", model, WATER, 7, spacing=0.4, padding=1.2, nearest=0.45)
    values, _ = read_cube_data(path)
    grid = grid_of(WATER, 0.4, 1.2)
    first = path.read_text().splitlines()[0]
    assert first == "local chemical potential of N in eV, less its reference -1000.000000"
    distance, atom = torch.cdist(grid.points, WATER.pos).min(1)
    arrow = grid.points - WATER.pos[atom]
    moved = torch.where((distance < 0.45)[:, None], WATER.pos[atom] + 0.45 * arrow / distance[:, None], grid.points)
    assert (distance < 0.45).sum() > 3
    expected = local_chemical_potential(model, WATER, moved, 7).detach() + 1000.0
    np.testing.assert_allclose(values.reshape(-1), expected, atol=1e-6)


def test_potential_of_a_crystal_has_numbers_on_top_of_atoms(make_model, tmp_path):
    model, data = make_model(cutoff=3.0), crystal()
    path = write_potential_cube(tmp_path / "salt.cube", model, data, 8, spacing=0.5)
    values, _ = read_cube_data(path)
    assert np.isfinite(values).all()
    assert torch.equal(grid_of(data, 0.5).points[0], data.pos[0])
    away = torch.tensor([[0.3, 0.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(values[0, 0, 0], local_chemical_potential(model, data, away, 8).detach()[0], **NUMBER)


@pytest.mark.parametrize(
    ("given", "options", "text"),
    [
        (lambda points: points, {}, r"a number for each of \d+ points \[\d+\], got \[\d+, 3\]"),
        (lambda points: points[:, 0] / 0.0, {}, "numbers of `function` are not finite"),
        (function, {"spacing": 0.0}, "`spacing`.* must be positive"),
        (function, {"padding": -1.0}, "`padding`.* must be positive"),
        (function, {"spacing": 0.01}, "expected at most 30,000,000; pass a larger `spacing`"),
    ],
)
def test_bad_input(given, options, text, tmp_path):
    path = tmp_path / "f.cube"
    with pytest.raises(ValueError, match=text):
        write_cube(path, WATER, given, **options)
    assert not path.exists()


def test_potential_bad_input(make_model, tmp_path):
    with pytest.raises(ValueError, match="`nearest`.* must be positive"):
        write_potential_cube(tmp_path / "f.cube", make_model(), WATER, nearest=0.0)
