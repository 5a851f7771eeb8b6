"""CIF text against ASE's reader and writers, geometry against closed forms, and damaged text."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_schnet.datasets.cif import read_cif
from pyg_schnet.datasets.crystal import PartialOccupancyError, cell_of, from_dict
from pyg_schnet.datasets.elements import atomic_number
from pyg_schnet.units import SYMBOLS

HEAD = """data_NaCl
_symmetry_space_group_name_H-M   'P 1'
_cell_length_a   5.64(2)
_cell_length_b   5.64
_cell_length_c   5.64
_cell_angle_alpha   90.0
_cell_angle_beta   90
_cell_angle_gamma   90.00000000
"""
SITES = """loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_symmetry_multiplicity
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
  Na+  Na0  4  0.00000000  0.00000000  0.00000000  1
  Cl-  Cl1  4  0.5  0.5(3)  0.50000000  1.0
"""
SYMMETRY = "loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n"
FACES = SYMMETRY + "  1  'x, y, z'\n  2  'x, y+1/2, z+1/2'\n  3  'x+1/2, y, z+1/2'\n  4  '1/2+x, .5+y, z'\n"


def test_symbols():
    data = pytest.importorskip("ase.data")
    assert data.chemical_symbols == list(SYMBOLS)
    for number, symbol in enumerate(SYMBOLS[1:], 1):
        assert atomic_number(symbol) == atomic_number(f"{symbol}12") == atomic_number(f"{symbol}3+") == number


@pytest.mark.parametrize("label", ["", "X", "Qq", "12", "?"])
def test_no_symbol(label):
    with pytest.raises(ValueError, match="expected the symbol of an element"):
        atomic_number(label)


@given(
    st.tuples(*[st.floats(1, 20)] * 3),
    st.tuples(*[st.floats(60, 110)] * 3),
)
def test_cell_has_its_parameters(lengths, angles):
    cos = [math.cos(math.radians(angle)) for angle in angles]
    volume = 1 + 2 * math.prod(cos) - sum(c * c for c in cos)
    cell = cell_of(lengths, angles)
    gram = cell @ cell.T
    a, b, c = lengths
    # double precision, amplified by the division by the sine of gamma
    np.testing.assert_allclose(np.sqrt(np.diag(gram)), lengths, rtol=1e-12)
    np.testing.assert_allclose([gram[1, 2] / b / c, gram[0, 2] / a / c, gram[0, 1] / a / b], cos, atol=1e-12)
    assert np.linalg.det(cell) == pytest.approx(a * b * c * math.sqrt(volume), rel=1e-10)


@pytest.mark.parametrize("angles", [(90, 90, 180), (10, 10, 60), (0, 90, 90), (math.nan, 90, 90), (-90, 90, 90)])
def test_impossible_angles(angles):
    with pytest.raises(ValueError, match="positive lengths and angles of a cell"):
        cell_of((1.0, 1.0, 1.0), angles)


def test_primitive_text():
    crystal = read_cif(HEAD + SITES)
    assert crystal.numbers.tolist() == [11, 17]
    assert crystal.fractional.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]
    assert crystal.cell.tolist() == (5.64 * np.eye(3)).tolist()


def test_symmetry_operations_make_rock_salt():
    crystal = read_cif(HEAD.replace("P 1", "F m m m") + FACES + SITES)
    assert sorted(crystal.numbers.tolist()) == [11] * 4 + [17] * 4
    # every ion has six of the other kind at half the lattice constant
    difference = crystal.fractional[crystal.numbers == 11][:, None] - crystal.fractional[crystal.numbers == 17]
    distance = 5.64 * np.linalg.norm(difference - np.round(difference), axis=-1)
    images = np.isclose(np.abs(difference - np.round(difference)), 0.5).sum(axis=-1)  # half a cell: both sides count
    assert (np.isclose(distance, 2.82) * 2**images).sum(axis=1).tolist() == [6, 6, 6, 6]


def test_symmetry_as_ase_applies_it():
    io_module, spacegroup = pytest.importorskip("ase.io"), pytest.importorskip("ase.spacegroup")
    group = spacegroup.Spacegroup(194)
    operations = "".join(f"  '{text}'\n" for text in _as_text(group))
    head = HEAD.replace("5.64(2)", "3.0").replace("_cell_length_b   5.64", "_cell_length_b   3.0")
    head = head.replace("_gamma   90.0", "_gamma   120.0").replace("P 1", "P 63/m m c")
    sites = SITES.split("  Na+", maxsplit=1)[0] + "  Mg  Mg1  2  0.3333  0.6667  0.25  1\n"
    text = head + "loop_\n _symmetry_equiv_pos_as_xyz\n" + operations + sites
    expected = io_module.read(io.StringIO(text), format="cif")
    crystal = read_cif(text)
    assert len(crystal.numbers) == len(expected) == 2
    difference = crystal.fractional - expected.get_scaled_positions()
    assert np.abs(difference - np.round(difference)).max() < 1e-9
    np.testing.assert_allclose(crystal.cell, expected.cell, atol=1e-12)


def _as_text(group):
    for rotation, translation in group.get_symop():
        rows = []
        for row, shift in zip(rotation, translation, strict=True):
            terms = "".join(f"{'-' if r < 0 else '+'}{axis}" for r, axis in zip(row, "xyz", strict=True) if r)
            rows.append(terms + (f"+{round(shift * 12)}/12" if shift else ""))
        yield ",".join(rows)


def test_text_that_ase_writes():
    build, io_module = pytest.importorskip("ase.build"), pytest.importorskip("ase.io")
    for atoms in (build.bulk("Mg"), build.bulk("GaAs", "zincblende", 5.65), build.bulk("Cu") * (2, 1, 3)):
        buffer = io.BytesIO()
        io_module.write(buffer, atoms, format="cif")
        crystal = read_cif(buffer.getvalue().decode())
        assert crystal.numbers.tolist() == atoms.numbers.tolist()
        expected = atoms.get_all_distances(mic=True)
        difference = crystal.fractional[:, None] - crystal.fractional
        shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
        actual = np.linalg.norm((difference[:, :, None] + shifts) @ crystal.cell, axis=-1).min(axis=-1)
        np.testing.assert_allclose(actual, expected, atol=1e-5)  # ASE writes six decimals


@pytest.mark.parametrize("occupancy", ["0.5", "0.99", "2"])
def test_partial_occupancy(occupancy):
    with pytest.raises(PartialOccupancyError, match=f"occupancy {occupancy}"):
        read_cif(HEAD + SITES.replace("  1.0\n", f"  {occupancy}\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_cell_length_a   5.64(2)\n", "", "it lacks _cell_length_a"),
        (" _atom_site_fract_x\n", "", "whole loops, got 14 values in a loop of 6 columns"),
        ("5.64(2)", "?", "expected a number in CIF text, got '\\?'"),
        ("5.64(2)", "-3", "positive lengths"),
        ("0.5(3)", "nan", "finite numbers"),
        ("  Cl-", "  Q1", "expected the symbol of an element, got 'Q1'"),
        ("P 1", "F m -3 m", "it names only the space group 'F m -3 m'"),
    ],
)
def test_messages(old, new, message):
    with pytest.raises(ValueError, match=message):
        read_cif((HEAD + SITES).replace(old, new))


@pytest.mark.parametrize("operation", ["x, y", "x, y, w", "x, y, z/0", "x, y, 1/0", "", "x, y, z, t"])
def test_operations_that_are_none(operation):
    with pytest.raises(ValueError, match="expected a symmetry operation"):
        read_cif(HEAD + "loop_\n _symmetry_equiv_pos_as_xyz\n" + f" '{operation}'\n" + SITES)


def test_structure_dictionary():
    site = {"species": [{"element": "Ba", "occu": 1.0}], "abc": [0.0, 0.5, 0.25], "label": "Ba"}
    structure = {"lattice": {"matrix": [[2, 0, 0], [0, 4, 0], [1, 0, 8]]}, "sites": [site]}
    crystal = from_dict(structure)
    assert crystal.numbers.tolist() == [56]
    assert crystal.positions().tolist() == [[0.25, 2, 2]]
    for species in ([{"element": "Ba", "occu": 0.5}], site["species"] * 2):
        with pytest.raises(PartialOccupancyError):
            from_dict(structure | {"sites": [site | {"species": species}]})
    for broken in ({}, structure | {"sites": [{}]}, structure | {"sites": []}, structure | {"lattice": {"matrix": 1}}):
        with pytest.raises(ValueError, match="expected"):
            from_dict(broken)


def test_damaged_text():
    text, rng = HEAD + FACES + SITES, np.random.default_rng(0)
    accepted, messages = 0, []
    for _ in range(600):
        characters = list(text[: rng.integers(len(text) // 2, len(text) + 1)])
        for place in rng.integers(len(characters), size=rng.integers(0, 4)):
            characters[place] = chr(rng.choice([0, 10, 32, 35, 39, 40, 46, 48, 59, 95, 120, 233]))
        try:
            crystal = read_cif("".join(characters))
        except ValueError as error:
            messages.append(str(error))
        else:
            accepted += 1
            assert np.isfinite(crystal.positions()).all()
            assert len(crystal.numbers)
    assert min(map(len, messages)) > 20
    assert accepted > 0  # else the text itself is wrong
