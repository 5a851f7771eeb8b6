"""What npz files and tables of properties say themselves: units, periodic axes, numbers that are not known."""

import math
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from pyg_schnet.datasets import Trajectory
from pyg_schnet.datasets.property_table import read_table
from pyg_schnet.datasets.survey import survey

#: In eV, from scipy.constants.
KCAL, BOHR = 0.0433641042, 0.529177211
POS = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def _npz(path: Path, **arrays: object) -> Path:
    np.savez(
        path, **({"z": np.array([8, 1, 1]), "R": np.stack([POS, 1.01 * POS]), "E": np.array([-5.0, -4.0])} | arrays)
    )
    return path


def _crystals(folder: Path, number: int = 3) -> Path:
    folder.mkdir(parents=True)
    for place in range(number):
        crystal = Atoms("NaCl", [[0, 0, 0], [2.8, 0.02 * place, 0]], cell=[5.6, 4, 4], pbc=True)
        ase.io.write(folder / f"s{place}.cif", crystal)
    return folder


def test_units_that_an_npz_file_says_itself_are_taken(tmp_path):
    path = _npz(tmp_path / "water.npz", F=np.ones((2, 3, 3)), e_unit="kcal/mol", r_unit="bohr")
    found = Trajectory(tmp_path / "a", path, log=False)
    assert found[0].energy.item() == pytest.approx(-5.0 * KCAL, rel=1e-6)
    np.testing.assert_allclose(found[0].pos, BOHR * POS, rtol=1e-6)
    np.testing.assert_allclose(found[0].forces, KCAL / BOHR, rtol=1e-6)
    told = Trajectory(tmp_path / "b", path, energy_unit="eV", length_unit="Ang", log=False)
    assert told[0].energy.item() == -5.0
    np.testing.assert_allclose(told[0].pos, POS, rtol=1e-6)


def test_npz_files_in_different_units_are_refused_unless_one_is_named(tmp_path):
    files = [_npz(tmp_path / "a.npz", e_unit="kcal/mol"), _npz(tmp_path / "b.npz")]
    with pytest.raises(ValueError, match=r"a\.npz in kcal/mol and b\.npz in a unit that it does not say"):
        Trajectory(tmp_path, files, log=False)
    with pytest.raises(ValueError, match="different units"):
        survey(files, show=False)
    found = Trajectory(tmp_path, files, energy_unit="kcal/mol", log=False)
    assert [one.energy.item() / KCAL for one in found] == pytest.approx([-5.0, -4.0, -5.0, -4.0], rel=1e-6)


def test_energies_of_a_table_are_in_the_unit_of_their_heading(tmp_path):
    folder, table = _crystals(tmp_path / "crystals"), tmp_path / "table.csv"
    table.write_text("id,energy [kcal/mol],gap [meV]\n" + "".join(f"s{n},{-100 - n},{n}\n" for n in range(3)))
    found = Trajectory(tmp_path, folder, table=table, log=False)
    assert [one.energy.item() for one in found] == pytest.approx([(-100 - n) * KCAL for n in range(3)], rel=1e-6)
    assert (found.units["energy"], found.units["gap"]) == ("eV", "meV")
    assert survey(folder, table=table, show=False).units["energy"].unit == "kcal/mol"
    table.write_text("id,energy [eV/atom]\n" + "".join(f"s{n},{-1 - n}\n" for n in range(3)))
    with pytest.raises(ValueError, match="'eV/atom', which is no unit of energy"):
        Trajectory(tmp_path, folder, table=table, log=False)


def test_axes_that_an_npz_file_says_are_open_stay_open(tmp_path):
    cell = 8 * np.eye(3)
    for name, pbc in (("one", np.array([1, 1, 0])), ("each", np.array([[True, True, False]] * 2))):
        found = Trajectory(tmp_path / name, _npz(tmp_path / f"{name}.npz", cell=cell, pbc=pbc), log=False)
        assert found[1].pbc.tolist() == [[True, True, False]]
        assert "pbc_" not in found[1]
    both = np.stack([cell, np.zeros((3, 3))])
    found = Trajectory(tmp_path / "both", _npz(tmp_path / "both.npz", cell=both), log=False)
    assert [one.pbc.any().item() for one in found] == [True, False]
    with pytest.raises(ValueError, match=r"cell \[3, 3\] or \[2, 3, 3\], got \[2, 3\]"):
        Trajectory(tmp_path / "lengths", _npz(tmp_path / "lengths.npz", cell=np.full((2, 3), 8.0)), log=False)


def test_data_of_another_table_are_not_taken_for_those_without(tmp_path):
    folder = _crystals(tmp_path / "crystals")
    for name, factor in (("a", 1.0), ("b", 2.0)):
        (tmp_path / f"{name}.csv").write_text("id,gap\n" + "".join(f"s{n},{factor * n}\n" for n in range(3)))
    for name, factor in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
        found = Trajectory(tmp_path, folder, table=tmp_path / f"{name}.csv", log=False)
        assert torch.cat([one.gap for one in found]).tolist() == [0.0, factor, 2 * factor]
    assert "gap" not in Trajectory(tmp_path, folder, log=False)[0]


def test_numbers_of_a_table_that_are_not_finite_are_not_known(tmp_path):
    (tmp_path / "table.csv").write_text("id,gap\na,inf\nb,1.5\nc,nan\n")
    assert [read_table(tmp_path / "table.csv").row_of(Path(name)).get("gap") for name in "abc"] == [None, 1.5, None]
    (tmp_path / "id_prop.csv").write_text("a,nan\nb,2.5\n")
    table = read_table(tmp_path / "id_prop.csv")
    assert (table.row_of(Path("a.cif")), table.row_of(Path("b.cif"))["property"]) == ({"id": "a"}, 2.5)
    assert math.isfinite(table.row_of(Path("b.cif"))["property"])


def test_one_line_of_a_table_is_not_taken_for_two_files(tmp_path):
    for name in ("one", "other"):
        _crystals(tmp_path / "all" / name, 1)
    (tmp_path / "table.csv").write_text("id,gap\ns0,1.0\n")
    with pytest.raises(ValueError, match=r"one line for both .*one.s0\.cif and .*other.s0\.cif"):
        Trajectory(tmp_path, str(tmp_path / "all/**/*.cif"), table=tmp_path / "table.csv", log=False)
