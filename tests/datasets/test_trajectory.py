"""A user's own files: fields, units, stress, cells, and what cannot be read."""

import random

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import Trajectory


def structures():
    """A molecule and two crystals with energies, forces and, of one, a stress in ASE's calculators."""
    rng = np.random.default_rng(0)
    made = [molecule("H2O"), bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.6)]
    for number, atoms in enumerate(made):
        results = {"energy": -10.0 - number, "forces": rng.normal(size=(len(atoms), 3))}
        if number == 2:
            results["stress"] = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) / 100
        atoms.calc = SinglePointCalculator(atoms, **results)
    return made


def write(path, made):
    if path.suffix == ".db":
        with ase.db.connect(str(path)) as database:
            for atoms in made:
                database.write(atoms)
    else:
        ase.io.write(str(path), made)
    return path


@pytest.mark.parametrize("name", ["own.xyz", "own.db", "own.traj"])
def test_formats_and_shapes(tmp_path, name):
    made = structures()
    dataset = Trajectory(tmp_path, write(tmp_path / name, made), log=False)
    assert len(dataset) == 3
    for data, atoms in zip(dataset, made, strict=True):
        assert data.z.tolist() == atoms.numbers.tolist()
        assert float(data.energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        # extended xyz prints 8 decimals, float32 keeps 7 digits
        np.testing.assert_allclose(data.pos.numpy(), atoms.positions, atol=1e-6)
        np.testing.assert_allclose(data.forces.numpy(), atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(data.cell[0].numpy(), atoms.cell.array, atol=1e-6)
        assert data.pbc.tolist() == [atoms.pbc.tolist()]
    assert dataset[0].stress.isnan().all()
    np.testing.assert_allclose(dataset[2].stress[0].numpy(), made[2].get_stress(voigt=False), rtol=1e-6)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.cell.shape == batch.stress.shape == (3, 3, 3)
    assert batch.pbc.shape == (3, 3)
    assert batch.energy.dtype == torch.float64
    assert dataset.report["without stress"] == 2


def test_units_virial_and_names(tmp_path):
    atoms = Atoms("Ar", cell=[4.0, 5.0, 6.0], pbc=True)
    atoms.info = {"U": 2.0, "W": np.diag([3.0, 6.0, 9.0]), "P": np.eye(3) * 7, "box": np.diag([8.0, 8.0, 8.0])}
    atoms.arrays["f"] = np.array([[1.0, 2.0, 3.0]])
    path = write(tmp_path / "own.xyz", [atoms])
    names = {"energy_key": "U", "forces_key": "f", "energy_unit": "kcal/mol", "length_unit": "nm", "log": False}
    (data,) = Trajectory(tmp_path, path, virial_key="W", **names)
    kcal = units.kcal / units.mol  # an independent source of the conversion
    assert float(data.energy) == pytest.approx(2 * kcal, rel=1e-14)
    np.testing.assert_allclose(data.forces[0].numpy(), np.array([1, 2, 3]) * kcal / 10, rtol=1e-6)
    np.testing.assert_allclose(data.cell[0].diagonal().numpy(), [40, 50, 60])
    np.testing.assert_allclose(data.stress[0].diagonal().numpy(), -np.array([3, 6, 9]) * kcal / 120_000, rtol=1e-6)
    (data,) = Trajectory(tmp_path, path, stress_key="P", stress_unit="GPa", cell_key="box", **names)
    np.testing.assert_allclose(data.stress[0].diagonal().numpy(), 7 * units.GPa, rtol=1e-6)
    assert data.cell[0, 0, 0] == 80
    (data,) = Trajectory(tmp_path, path, pbc=False, stress_key=None, **names)
    assert {"cell", "pbc", "stress"}.isdisjoint(data.keys())


def test_stress_in_the_units_of_energy_and_length(tmp_path):
    """Of the file, unless one of its own is named; units by which neither is one."""
    path = write(tmp_path / "own.xyz", structures()[2:])
    plain = Trajectory(tmp_path, path, log=False)[0].stress
    for names, factor in (
        ({"energy_unit": "Ha", "length_unit": "Bohr"}, units.Hartree / units.Bohr**3),
        ({"energy_unit": "kcal/mol"}, units.kcal / units.mol),
        ({"length_unit": "nm"}, 1e-3),
        ({"energy_unit": "Ha", "stress_unit": "kbar"}, units.GPa / 10),
    ):
        stress = Trajectory(tmp_path, path, log=False, **names)[0].stress
        torch.testing.assert_close(stress, plain * factor, rtol=1e-6, atol=0)


def test_left_out_and_duplicates_are_counted(tmp_path):
    made = structures()
    made[1].calc.results["energy"] = np.nan
    dataset = Trajectory(tmp_path, write(tmp_path / "own.traj", [*made, made[0]]), log=False)
    expected = {"structures": 3, "left out, not finite": 1, "duplicates": 1, "without stress": 2}
    assert dataset.report == expected


def test_changed_files_are_read_again_and_several_are_joined(tmp_path):
    one, two = write(tmp_path / "a.xyz", structures()[:1]), write(tmp_path / "b.xyz", structures()[:2])
    assert len(Trajectory(tmp_path, [one, two], log=False)) == 3
    write(one, structures())
    assert len(Trajectory(tmp_path, [one, two], log=False)) == 5


def test_every_option_makes_a_dataset_of_its_own(tmp_path):
    """None is answered with what another one has stored, in whichever order they come."""
    (atoms,) = made = structures()[2:]
    for key in ("energy", "forces", "stress"):
        atoms.info[f"other_{key}"] = 2 * atoms.calc.results[key]
    atoms.arrays["other_forces"] = atoms.info.pop("other_forces")
    atoms.info["box"] = np.diag([9.0, 9.0, 9.0])
    path = write(tmp_path / "own.xyz", made)
    options = [
        {},
        {"energy_key": "other_energy"},
        {"forces_key": "other_forces"},
        {"stress_key": "other_stress"},
        {"stress_key": None},
        {"virial_key": "other_stress"},
        {"cell_key": "box"},
        {"pbc": False},
        {"pbc": (True, True, False)},
        {"energy_unit": "Ha"},
        {"length_unit": "Bohr"},
        {"stress_unit": "GPa"},
    ]
    seen = set()
    for option in options * 2:
        data = Trajectory(tmp_path / "root", path, log=False, **option)[0]
        fields = (data.energy, data.forces, data.get("cell"), data.get("pbc"), data.get("stress"))
        seen.add(tuple(None if field is None else tuple(field.flatten().tolist()) for field in fields))
    assert len(seen) == len(options)


def test_format_that_the_name_does_not_tell(tmp_path):
    path = write(tmp_path / "own.xyz", structures()).rename(tmp_path / "own.results")
    assert len(Trajectory(tmp_path, path, format="extxyz", log=False)) == 3
    with pytest.raises(ValueError, match=r"own.results cannot be read"):
        Trajectory(tmp_path, path, format="vasp", log=False)


def test_several_files_are_a_dataset_of_their_own(tmp_path):
    one, two, three = (write(tmp_path / f"{number}.xyz", structures()[:number]) for number in (1, 2, 3))
    lists = [[one], [one, two], [one, three], [two, one], [one, two, three]]
    found = [[len(data.z) for data in Trajectory(tmp_path, paths, log=False)] for paths in lists * 2]
    assert found == [[3], [3, 3, 4], [3, 3, 4, 2], [3, 4, 3], [3, 3, 4, 3, 4, 2]] * 2


def test_messages(tmp_path):
    path = write(tmp_path / "own.xyz", structures())
    with pytest.raises(ValueError, match="structure 0 has no field 'E'; its fields are energy, forces: .*`energy_key`"):
        Trajectory(tmp_path, path, energy_key="E", log=False)
    with pytest.raises(ValueError, match="no field 'force'; .*name one of them as `forces_key`"):
        Trajectory(tmp_path, path, forces_key="force", log=False)
    with pytest.raises(ValueError, match="expected 1 numbers in the field 'forces', got 9"):
        Trajectory(tmp_path, path, energy_key="forces", log=False)
    with pytest.raises(ValueError, match="unknown unit 'cal'"):
        Trajectory(tmp_path, path, energy_unit="cal", log=False)
    with pytest.raises(ValueError, match="`stress_unit` must be one of"):
        Trajectory(tmp_path, path, stress_unit="bar", log=False)
    with pytest.raises(FileNotFoundError, match="found no .*absent.xyz"):
        Trajectory(tmp_path, tmp_path / "absent.xyz")
    with pytest.raises(ValueError, match="periodic but its cell has no volume"):
        Trajectory(tmp_path, path, pbc=True, log=False)
    for atoms in (bad := structures()):
        atoms.calc.results["energy"] = np.inf
    with pytest.raises(ValueError, match="none of 3 structures has finite"):
        Trajectory(tmp_path, write(tmp_path / "bad.traj", bad), log=False)


@pytest.mark.parametrize("name", ["own.xyz", "own.db"])
def test_damaged_files_give_data_or_a_sentence(tmp_path, name):
    whole = write(tmp_path / name, structures()).read_bytes()
    rng = random.Random(1)
    damaged = tmp_path / f"damaged{name[3:]}"
    for trial in range(40):
        content = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(trial // 2):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        damaged.write_bytes(content)
        try:
            assert len(Trajectory(tmp_path / "root", damaged, log=False)) > 0
        except ValueError as error:
            assert str(damaged) in str(error)  # noqa: PT017  it may also be read


def test_published_files(tmp_path, real_data):
    ethanol = Trajectory(tmp_path, real_data / "extxyz/md17_ethanol_2000.xyz", energy_unit="kcal/mol", log=False)
    assert len(ethanol) == 2000
    assert float(ethanol[0].energy) == pytest.approx(-97195.01189948035 * units.kcal / units.mol, abs=1e-9)
    cages = Trajectory(tmp_path, real_data / "extxyz/c60_test.xyz", forces_key="force", log=False)
    assert cages[0].z.tolist() == [6] * 60
    assert cages[0].cell[0].diagonal().tolist() == [25.0] * 3
    names = {"energy_key": "total_energy", "forces_key": "atomic_forces"}
    isomers = Trajectory(tmp_path, real_data / "iso17/equilibrium_40_isomers.db", **names, log=False)
    assert len(isomers) == 40
    assert float(isomers[0].energy) == pytest.approx(-11505.647279852, abs=1e-9)
