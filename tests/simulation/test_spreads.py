"""Spreads of committees in files of ASE, which has no names for them."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from pyg_schnet.models import Committee
from pyg_schnet.simulation.ase import SPREADS, SchNetCalculator


@pytest.fixture
def calculator(make_model):
    return SchNetCalculator(Committee([make_model(std=20.0), make_model(std=20.0)]))


def crystal(calculator, seed=0):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.1, seed=seed)
    atoms.calc = calculator
    return atoms


def test_extended_xyz_keeps_them(calculator, tmp_path):
    """Each frame its own, of a calculator that several frames share; the structures themselves stay as they are."""
    kept = []
    for seed in range(2):
        atoms = crystal(calculator, seed)
        atoms.get_forces(), calculator.get_property("energies_std", atoms)
        write(tmp_path / "c.xyz", atoms, format="extxyz", append=seed > 0)
        kept.append(dict(calculator.results))
        assert not {*SPREADS} & {*atoms.info, *atoms.arrays}
    for frame, results in zip(read(tmp_path / "c.xyz", ":"), kept, strict=True):
        found = frame.info | frame.arrays
        for name in SPREADS:
            np.testing.assert_allclose(found[name], results[name], rtol=0, atol=1e-7)  # digits of the text
        np.testing.assert_allclose(frame.get_forces(), results["forces"], atol=1e-7)


@pytest.mark.parametrize("members", [1, 2])
def test_frames_of_one_calculator_are_written_with_results_of_their_own(make_model, members, tmp_path):
    """ASE gives all frames of a list the last results; sizes differ here, so that it could not even write them."""
    models = [make_model(std=20.0) for _ in range(members)]
    calculator = SchNetCalculator(models[0] if members == 1 else Committee(models))
    frames, kept = [crystal(calculator), crystal(calculator, 1), molecule("H2O")], []
    for atoms in frames:
        atoms.calc = calculator
        kept.append((atoms.get_potential_energy(), atoms.get_forces(), calculator.spreads))
    before, last = calculator.atoms, dict(calculator.results)
    write(tmp_path / "c.extxyz", frames)
    for frame, (energy, forces, spreads) in zip(read(tmp_path / "c.extxyz", ":"), kept, strict=True):
        assert frame.get_potential_energy() == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(frame.get_forces(), forces, rtol=0, atol=1e-6)
        assert {*SPREADS} & {*frame.info, *frame.arrays} == {*spreads}
        for name, value in spreads.items():
            np.testing.assert_allclose((frame.info | frame.arrays)[name], value, rtol=0, atol=1e-6)
    assert calculator.atoms is before
    assert calculator.results.keys() == last.keys()


def test_fields_of_an_earlier_evaluation_are_replaced(calculator, tmp_path):
    atoms = crystal(calculator)
    atoms.info["energy_std"] = 77.0
    atoms.get_forces()
    write(tmp_path / "c.xyz", atoms, format="extxyz")
    assert read(tmp_path / "c.xyz").info["energy_std"] == pytest.approx(calculator.results["energy_std"], rel=1e-6)
    assert atoms.info["energy_std"] == 77.0


def test_nobody_elses_files_change(calculator, make_model, tmp_path):
    """ASE keeps its names: others' fields of the same name stay where they were, with and without calculators."""
    others = molecule("H2O")
    others.info["energy_std"], others.arrays["forces_std"] = 0.5, np.ones((3, 3))
    others.calc = SinglePointCalculator(others, energy=1.0)
    write(tmp_path / "others.xyz", others, format="extxyz")
    back = read(tmp_path / "others.xyz")
    assert back.info["energy_std"] == 0.5
    np.testing.assert_array_equal(back.arrays["forces_std"], np.ones((3, 3)))
    assert back.get_potential_energy() == 1.0
    for number, single in enumerate((EMT(), SchNetCalculator(make_model()), None)):
        atoms = bulk("Cu")
        atoms.calc = single
        if single is not None:
            atoms.get_forces()
        write(tmp_path / f"{number}.xyz", atoms, format="extxyz")
        assert not {*SPREADS} & {*read(tmp_path / f"{number}.xyz").info, *read(tmp_path / f"{number}.xyz").arrays}


def test_other_formats_have_a_place_for_them(calculator, tmp_path):
    import ase.db

    atoms = crystal(calculator)
    atoms.get_forces()
    spreads = calculator.spreads
    assert {*spreads} == {"energy_std", "forces_std", "stress_std"}
    with ase.db.connect(tmp_path / "c.db") as database:
        database.write(atoms, data=spreads)
        np.testing.assert_allclose(database.get(1).data["forces_std"], spreads["forces_std"])
    atoms.info.update(spreads)
    write(tmp_path / "c.traj", atoms)
    np.testing.assert_allclose(read(tmp_path / "c.traj").info["forces_std"], spreads["forces_std"])
