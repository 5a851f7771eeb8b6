"""Files of one's own: folders, patterns, tables of properties, npz files, CIFs, files for each part, groups."""

import itertools

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import iread, write

from pyg_schnet.command.data import structures
from pyg_schnet.command.structures import structures_in
from pyg_schnet.datasets import MD17, Trajectory, group_split
from pyg_schnet.datasets.ase_files import read_structures
from pyg_schnet.datasets.group_split import groups_of
from pyg_schnet.datasets.own_files import check_lengths, files_of
from pyg_schnet.datasets.property_table import read_table
from pyg_schnet.datasets.survey import survey


def helium(path, energies):
    write(
        path,
        [Atoms("He2", [[0, 0, 0], [0, 0, 2 + e / 99]], info={"energy": float(e)}) for e in energies],
        format="extxyz",
    )
    return path


def test_paths_folders_and_patterns(tmp_path):
    for name in ("b.xyz", "a.xyz", "c.CIF", "notes.txt", "deep/er/d.xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path.resolve()).as_posix() for path in files_of([tmp_path, tmp_path / "a.xyz"])]
    assert names == ["a.xyz", "b.xyz", "c.CIF"]
    assert [path.name for path in files_of(f"{tmp_path}/**/*.xyz")] == ["a.xyz", "b.xyz", "d.xyz"]
    assert files_of(tmp_path / "notes.txt")[0].name == "notes.txt"  # named, whatever its ending
    for wrong, message in (
        (tmp_path / "deep", "has no file with structures; expected names that end in .xyz"),
        (f"{tmp_path}/*.traj", "no file matches"),
        (tmp_path / "none.xyz", "found no .*none.xyz"),
        ([], "found no name"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            files_of(wrong)


TABLE = "file;Gap [eV];phase\nmp-1.cif;0.25;cubic\n mp-2;-1e-1;\nmp-3;nan;hexagonal\n"


def test_table_beside_cifs(tmp_path):
    """Rows find their files, units come from the head, what is lacking is NaN."""
    for number, metal in enumerate(("Cu", "Ag", "Au", "Al"), start=1):
        write(tmp_path / f"mp-{number}.cif", bulk(metal, cubic=True))
    (tmp_path / "table.csv").write_text(TABLE)
    dataset = Trajectory(tmp_path / "root", tmp_path, table=tmp_path / "table.csv", log=False)
    np.testing.assert_array_equal([float(data.Gap) for data in dataset], [0.25, -0.1, np.nan, np.nan])
    assert [data.get("phase") for data in dataset] == ["cubic", None, "hexagonal", None]
    assert [int(data.z[0]) for data in dataset] == [29, 47, 79, 13]
    assert dataset.units["Gap"] == "eV"
    assert dataset.report["files without a line of the table"] == 1
    (tmp_path / "table.csv").write_text(TABLE.replace("0.25", "0.75"))
    assert float(Trajectory(tmp_path / "root", tmp_path, table=tmp_path / "table.csv", log=False)[0].Gap) == 0.75
    (tmp_path / "other.csv").write_text("id,gap\nx,1\ny,2\n")
    with pytest.raises(ValueError, match="has no line for any of the 4 files, the first of which is mp-1.cif; its col"):
        Trajectory(tmp_path / "root", tmp_path, table=tmp_path / "other.csv", log=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,gap\na,1\na.cif,2\n", "line 3: 'a.cif' has a line already"),
        ("id,gap\na,1,2\n", "line 2: expected 2 columns, got 3"),
        ("id,gap\n", "no line with values"),
        ("words\nof a poem\n", "is no table of properties"),
        ("id,gap (eV),gap\na,1,2\n", "two columns called 'gap'"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "table.csv")


def test_table_without_names_of_columns(tmp_path):
    (tmp_path / "id_prop.csv").write_text("1000041,-1.25\n1000050,3\n")
    table = read_table(tmp_path / "id_prop.csv")
    assert table.rows == {
        "1000041": {"id": "1000041", "property": -1.25},
        "1000050": {"id": "1000050", "property": 3.0},
    }


def test_cifs_are_what_ase_reads(tmp_path):
    """With symmetry, in a skewed cell, and where only ASE can: several crystals in one file."""
    crystals = [
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("Ti"),
        bulk("Fe", cubic=True),
        bulk("GaN", "wurtzite", a=3.2, c=5.2),
    ]
    for number, one in enumerate(crystals):
        one.rattle(0.02, seed=number)
        write(tmp_path / f"{number}.cif", one)
    write(tmp_path / "all.cif", crystals)
    for path in (*(tmp_path / f"{number}.cif" for number in range(4)), tmp_path / "all.cif"):
        ours, theirs = [read.atoms for read in read_structures(path)], list(iread(path, index=":"))
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.pbc.all()
            np.testing.assert_array_equal(one.numbers, other.numbers)
            np.testing.assert_allclose(one.cell.array, other.cell.array, atol=1e-9)
            np.testing.assert_allclose(one.get_all_distances(mic=True), other.get_all_distances(mic=True), atol=1e-6)


def test_npz_files(tmp_path):
    """sGDML's names and units, and padded structures of other people's."""
    from pyg_schnet.datasets.bundled import bundled_path

    path = bundled_path("ethanol_xtb") / "ethanol_xtb.npz"
    ours = Trajectory(tmp_path, path, energy_unit="kcal/mol", log=False)
    theirs = MD17(tmp_path, "ethanol_xtb", log=False)
    assert len(ours) == len(theirs) == 2000
    for key in ("z", "pos", "energy", "forces"):
        torch.testing.assert_close(ours._data[key], theirs._data[key], rtol=1e-9, atol=1e-6)
    numbers = np.array([[8, 1, 1], [2, 0, 0]])
    arrays = {"atomic_numbers": numbers, "coordinates": np.random.rand(2, 3, 3), "Energies": np.array([-1.0, -2.0])}
    np.savez(tmp_path / "padded.npz", **arrays, charge=np.array([0, 1]), author=np.array("me"))
    dataset = Trajectory(tmp_path, tmp_path / "padded.npz", log=False)
    assert [data.z.tolist() for data in dataset] == [[8, 1, 1], [2]]
    assert [float(data.energy) for data in dataset] == [-1.0, -2.0]
    assert [float(data.charge) for data in dataset] == [0.0, 1.0]
    np.savez(tmp_path / "wrong.npz", z=numbers[0], energies=arrays["Energies"])
    with pytest.raises(ValueError, match="the arrays are z, energies, expected pos: one of r, pos, positions"):
        Trajectory(tmp_path, tmp_path / "wrong.npz", log=False)


@pytest.mark.parametrize("unit", ["Ha/Bohr", "kcal/mol/Ang"])
def test_forces_have_a_unit_of_their_own(tmp_path, unit):
    from ase.units import Bohr, Hartree, kcal, mol

    atoms = molecule("H2O")
    atoms.arrays["forces_"] = np.arange(9.0).reshape(3, 3)
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    options = {"forces_key": "forces_", "forces_unit": unit, "energy_unit": "meV", "log": False}
    factor = {"Ha/Bohr": Hartree / Bohr, "kcal/mol/Ang": kcal / mol}[unit]
    data = Trajectory(tmp_path, tmp_path / "a.xyz", **options)[0]
    np.testing.assert_allclose(data.forces, factor * np.arange(9.0).reshape(3, 3), rtol=1e-6)
    with pytest.raises(ValueError, match="`forces_unit` must be one of eV/Ang, .* or None, got 'N'"):
        Trajectory(tmp_path, tmp_path / "a.xyz", **options | {"forces_unit": "N"})


def test_files_for_each_part(tmp_path):
    paths = [
        helium(tmp_path / f"{name}.xyz", range(*ends)) for name, *ends in (("a", 0, 40), ("v", 40, 50), ("t", 50, 70))
    ]
    dataset = Trajectory(tmp_path, paths[0], val=paths[1], test=paths[2], log=False)
    parts = {name: sorted(float(dataset[int(i)].energy) for i in part) for name, part in dataset.file_split().items()}
    assert parts == {"train": [*range(40)], "val": [*range(40, 50)], "test": [*range(50, 70)]}
    split = structures(dataset, "files", num_train=30, num_val=4, num_test=5).split
    assert {name: len(part) for name, part in split.items()} == {"train": 30, "val": 4, "test": 5}
    assert all(set(split[name].tolist()) <= set(dataset.file_split()[name].tolist()) for name in split)
    with pytest.raises(ValueError, match=r"a\.xyz is in two of `path`, `val` and `test`"):
        Trajectory(tmp_path, paths[0], test=paths[0], log=False)
    with pytest.raises(ValueError, match="MD17 has no files for each part"):
        structures(MD17(tmp_path, "ethanol_xtb", log=False), "files")


@pytest.mark.parametrize("gap", [0, 1])
def test_validation_without_a_file_is_taken_in_runs(tmp_path, gap):
    paths = [helium(tmp_path / f"{name}.xyz", range(*ends)) for name, *ends in (("a", 0, 40), ("t", 50, 60))]
    dataset = Trajectory(tmp_path, paths[0], test=paths[1], log=False)
    split = structures(dataset, "files", num_val=6, gap=gap).split
    assert len(split["val"]) == 6
    assert split["test"].tolist() == [*range(40, 50)]
    owner = {int(i): name for name in ("train", "val") for i in split[name]}
    frames = sorted(owner)
    apart = [after - frame for frame, after in itertools.pairwise(frames) if owner[frame] != owner[after]]
    assert apart
    assert min(apart) > gap
    assert len(split["train"]) >= 40 - 8 - 9 * gap  # two runs of four frames are taken for the six


def test_no_group_is_in_two_parts(tmp_path):
    groups = [f"molecule {n % 17}" for n in range(340)]
    split = group_split(groups, 200, 30, seed=3)
    assert [len(split[name]) for name in ("train", "val")] == [200, 30]
    kinds = {name: {groups[i] for i in part.tolist()} for name, part in split.items()}
    assert not any(kinds[one] & kinds[other] for one, other in itertools.combinations(kinds, 2))
    assert len(split["test"]) == 20 * len(kinds["test"]) > 0
    assert {name: part.tolist() for name, part in group_split(groups, 200, 30, seed=3).items()} == {
        name: part.tolist() for name, part in split.items()
    }
    with pytest.raises(ValueError, match="340 structures of 17 groups are too few for 330 to train, 30 to validate"):
        group_split(groups, 330, 30)
    frames = [molecule(name) for name in ("H2O", "CH4", "CH3OH") for _ in range(6)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.01, seed=number)
        atoms.info["mol"] = atoms.get_chemical_formula()
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    dataset = Trajectory(tmp_path, tmp_path / "frames.xyz", log=False)
    for key in ("mol", None):
        split = structures(dataset, "group", num_train=6, num_val=6, group_key=key).split
        sizes = [{int(dataset[int(i)].z.numel()) for i in split[name]} for name in ("train", "val", "test")]
        assert [len(one) for one in sizes] == [1, 1, 1]
        assert len(set().union(*sizes)) == 3
    with pytest.raises(ValueError, match="the data have no `molecule` to group by; they have mol, pos, z"):
        groups_of(dataset, "molecule")


@pytest.mark.parametrize(("split", "expected"), [("random", (1600, 200, 200)), ("block", (1520, 190, 190))])
def test_shares_of_all_examples(tmp_path, split, expected):
    """Of a block split a share is so many whole runs, less the gaps."""
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)
    found = structures(dataset, split, num_train=0.8, num_val=0.1, gap=10).split
    assert (len(found["train"]), len(found["val"])) == expected[:2]
    assert len(found["test"]) >= expected[2]
    with pytest.raises(
        ValueError, match="`num_train` must be a number of examples, or a share of them below 1, got 1.5"
    ):
        structures(dataset, split, num_train=1.5, num_val=0.1)


def test_data_have_a_place_by_default(tmp_path, monkeypatch):
    """That of the system's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = Trajectory(path=helium(tmp_path / "a.xyz", range(3)), log=False)
    assert (tmp_path / "cache" / "pyg_schnet") in next(map(type(tmp_path), dataset.processed_paths)).parents


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas(tmp_path, separator):
    """As programs write them where columns are separated by other things; words with commas stay words."""
    path = tmp_path / "table.csv"
    lines = [
        ["id", "gap [eV]", "note", "count"],
        ["a", "1,5", "x,5", "3"],
        ["b", "-2,25e1", "1,5", "4"],
        ["c", "", "", ""],
    ]
    path.write_text("\n".join(map(separator.join, lines)))
    rows = read_table(path).rows
    assert rows["a"] == {"id": "a", "gap": 1.5, "note": "x,5", "count": 3.0}
    assert rows["b"] == {"id": "b", "gap": -22.5, "note": "1,5", "count": 4.0}
    path.write_text(f"id{separator}gap\na{separator}1,5\nb{separator}1.5\n")
    with pytest.raises(
        ValueError, match="the column 'gap' has '1,5' and '1.5'; expected decimal commas or decimal points"
    ):
        read_table(path)


def test_group_split_leaves_no_part_empty():
    """Whatever the sizes and the seed: where there is an order of the groups that fills all parts, one is found."""
    groups = np.repeat(np.arange(6), [50, 5, 5, 5, 5, 5])
    for seed in range(40):
        split = group_split(groups, 15, 5, seed=seed)
        assert all(len(part) for part in split.values())
        members = [set(groups[part].tolist()) for part in split.values()]
        assert sum(map(len, members)) == len(set.union(*members))
    assert len(group_split(groups, 65, 10)["test"]) == 0  # all that there are
    with pytest.raises(ValueError, match="too few"):
        group_split(groups, 70, 10, 5)


def test_all_damaged_files_are_named(tmp_path):
    """With the reason of the first one; a CIF is refused in the words of who reads CIFs here."""
    for name in "abcd":
        write(tmp_path / f"{name}.cif", bulk("NaCl", "rocksalt", a=5.6))
    (tmp_path / "c.cif").write_text((tmp_path / "c.cif").read_text()[:150])
    with pytest.raises(ValueError, match=r"c\.cif cannot be read .*it lacks _cell_.*; mend this file or leave it out"):
        Trajectory(tmp_path, tmp_path, log=False)
    (tmp_path / "b.cif").write_text("")
    with pytest.raises(ValueError, match=r"2 files cannot be read, b\.cif, c\.cif; mend them .* first one: .*b\.cif"):
        survey(tmp_path, show=False)


def test_sites_occupied_in_part_do_not_move(tmp_path):
    """Dynamics and relaxation take structures that training leaves out as little as training does."""
    path = tmp_path / "a.cif"
    write(path, bulk("NaCl", "rocksalt", a=5.6))
    assert len(structures_in(str(path))) == 1
    path.write_text(path.read_text().replace("1.0000\n", "0.5000\n"))
    with pytest.raises(ValueError, match="sites occupied in part"):
        structures_in(str(path))


@pytest.mark.parametrize(
    ("line", "key", "program"),
    [
        ("        -11.3813", "energy", "CREST"),
        (" energy: -11.3813 gnorm: 0.0003 xtb: 6.4.1 (unknown)", "energy", "xtb"),
        ("Coordinates from ORCA-job water E -11.3813", "energy", "ORCA"),
        (" i =        7, time =        3.500, E =       -11.3813", "E", "CP2K"),
    ],
)
def test_words_of_other_programs(tmp_path, line, key, program):
    """Their energies are in Hartree, which no file says: taken, and marked as assumed where one looks first."""
    path = tmp_path / "a.xyz"
    path.write_text(f"2\n{line}\nHe 0 0 0\nHe 0 0 3\n\n" * 3)
    dataset = Trajectory(tmp_path, path, energy_key=key, log=False)
    torch.testing.assert_close(dataset._data.energy, torch.full((3,), -11.3813 * 27.211386, dtype=torch.float64))
    found = survey(path, show=False)
    assert found.labels.keys == {"energy": key}
    assert found.units["energy"] == ("Ha", f"{program} writes Hartree", False)


def test_exponents_and_components(tmp_path):
    """Numbers as Fortran writes them, and forces in three columns."""
    path = tmp_path / "a.xyz"
    path.write_text(
        "2\nProperties=species:S:1:pos:R:3:fx:R:1:fy:R:1:fz:R:1 energy=-3.5D+02\n"
        "He 0.0 0.0 0.0 1.0 2.0D0 3.0\nHe 0.0 0.0 30.0D-1 -1.0 -2.0 -3.0\n"
    )
    data = Trajectory(tmp_path, path, log=False)[0]
    assert data.energy.item() == -350
    assert data.pos[1].tolist() == [0, 0, 3]
    assert data.forces.tolist() == [[1, 2, 3], [-1, -2, -3]]
    assert "fx" not in data


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.xyz", "1\n\nC1 0 0 0\n", "expected symbols of elements, got 'C1'; write elements alone"),
        ("a.xyz", "1\ngdb 1\t157.7\nC 0 0 0 0\n1341.3\n", "QM9 as published, whose archive .*datasets.QM9 reads"),
        ("a.json", '{"lattice": {}, "sites": []}', "structures of pymatgen, .*: write each to a CIF"),
        ("a.csv", "smiles,y\nC,1\n", "it has no structures: name the files with the structures, and this as the table"),
        ("a.foo", "nothing", "no format of ASE has such names: name the format with `format`"),
    ],
)
def test_what_to_do_with_other_files(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        list(read_structures(tmp_path / name))


def test_xyz_by_any_name(tmp_path):
    path = helium(tmp_path / "a.txt", range(3))
    assert len(list(read_structures(path))) == 3


def test_databases_of_schnetpack_say_their_units(tmp_path):
    """In their metadata, by the names of the properties."""
    path = tmp_path / "a.db"
    with ase.db.connect(path, type="db") as database:
        for number in range(3):
            data = {"U0": np.array([-1.0 - number]), "forces": np.full((2, 3), 0.5)}
            database.write(Atoms("He2", [[0, 0, 0], [0, 0, 3 + number]]), data=data)
        units = {"U0": "Hartree", "forces": "eV/Ang", "mu": "Debye"}
        database.metadata = {"_property_unit_dict": units, "_distance_unit": "Bohr"}
    data = Trajectory(tmp_path, path, energy_key="U0", log=False)[0]
    assert data.energy.item() == pytest.approx(-27.211386)
    assert data.forces[0, 0] == 0.5
    assert data.pos[1, 2].item() == pytest.approx(3 * 0.529177, rel=1e-6)
    found = survey(path, energy_key="U0", show=False).units
    assert [found[name].unit for name in ("energy", "length", "forces")] == ["Ha", "Bohr", "eV/Ang"]
    assert all(one.sure for one in found.values())
    with pytest.raises(ValueError, match="lengths are in Bohr, expected Angstrom"):
        check_lengths([path])
