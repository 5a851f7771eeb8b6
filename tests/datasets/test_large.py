"""Files that need not fit into memory: read in parts, stored as files of numbers, gone on with when killed."""

import gzip
import io
import json
import zlib

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode

from pyg_schnet.datasets import MaterialsProject, StructureLoader, Trajectory, collate, materials_project, prepared
from pyg_schnet.datasets.ase_files import count_structures, guess_number, kind_of, read_structures
from pyg_schnet.datasets.collate import _repeated
from pyg_schnet.datasets.columns import Columns
from pyg_schnet.datasets.strings import Strings
from pyg_schnet.transforms import RadiusGraph


def structures(count=40):
    """Molecules and crystals; labels and fields of all kinds, which come, change and are lacking on the way."""
    rng = np.random.default_rng(0)
    for number in range(count):
        atoms = molecule(["CH3CH2OH", "H2O", "CH4"][number % 3]) if number % 4 else bulk("NaCl", "rocksalt", a=5.6)
        atoms.positions += rng.normal(0, 0.05, (len(atoms), 3))
        results = {"energy": rng.normal()} if number % 5 else {}
        results |= {"forces": rng.normal(size=(len(atoms), 3))} if number % 7 else {}
        results |= {"stress": rng.normal(size=6)} if number % 8 == 0 else {}
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info |= {"config_type": f"t{number % 3}", "vector": rng.normal(size=3)}
        atoms.info |= {"gap": 0.1 * number} if number % 2 else {}
        atoms.info |= {"mixed": 7.25 if number < 20 else "word"} if number % 6 == 2 else {}
        atoms.info |= {"flag": True} if number % 9 == 1 else {}
        atoms.info |= {"late": "zwölf"} if number == 33 else {}
        atoms.info |= {"uneven": rng.normal(size=2 + number % 2)} if number % 5 == 3 else {}
        atoms.arrays["local"] = rng.normal(size=len(atoms))
        yield atoms


@pytest.fixture
def file(tmp_path):
    made = list(structures())
    made += [made[3].copy(), made[5].copy()]  # the same once more
    made[-1].positions[0] = np.nan
    ase.io.write(tmp_path / "own.xyz", made, format="extxyz")
    return tmp_path / "own.xyz"


def content(dataset):
    """All there is, bit by bit."""
    found = {"report": json.dumps(dataset.report)}
    for kind, values in (("data", dataset._data.to_dict()), ("slices", dataset.slices)):
        for key, value in values.items():
            plain = value.contiguous().numpy().tobytes() if isinstance(value, torch.Tensor) else value
            plain = list(plain) if isinstance(plain, Strings) else plain
            found[f"{kind} {key}"] = (getattr(value, "dtype", None), tuple(getattr(value, "shape", ())), plain)
    return found


@pytest.mark.parametrize("size", [1, 7, 41])
def test_parts_make_no_difference(size, file, tmp_path, monkeypatch):
    """However many there are: the same bits, of the structures and of mini-batches; with a transform, too."""
    options = [{}, {"energy_unit": "kcal/mol", "forces_key": None}]
    options += [{"pre_transform": RadiusGraph(3.0), "pre_filter": lambda data: len(data.z) != 3}]
    whole = [Trajectory(tmp_path / "whole", file, log=False, **one) for one in options]
    assert whole[0].report["duplicates"] == 1
    assert whole[0].report["dropped"] == {"uneven": "of different shapes"}
    monkeypatch.setattr(collate, "_STRUCTURES", size)
    monkeypatch.setattr(prepared, "_AT_ONCE", 6)
    for one, expected in zip(options, whole, strict=True):
        found = Trajectory(tmp_path / "parts", file, log=False, **one)
        assert content(found) == content(expected)
        assert not list(tmp_path.rglob(".work-*"))
        assert list(tmp_path.glob("parts/*/*/*.*/*.bin"))
        again = Trajectory(tmp_path / "parts", file, log=False, **one)
        assert content(again) == content(expected)
        batches = [next(iter(StructureLoader(one, 9, shuffle=True, seed=3))).to_dict() for one in (again, expected)]
        for key, value in batches[1].items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(batches[0][key], value, rtol=0, atol=0, equal_nan=True)
            else:
                assert batches[0][key] == value
        assert StructureLoader(again).why_slow is None
        assert again[5].to_dict().keys() == expected[5].to_dict().keys()


KILLED = """
import os, signal
from pyg_schnet.datasets import Trajectory, collate, trajectory
collate._STRUCTURES = 4
read = trajectory.structures_of
def until(*arguments):
    for count, one in enumerate(read(*arguments)):
        if count == 23:
            os.kill(os.getpid(), signal.SIGKILL)
        yield one
trajectory.structures_of = until
Trajectory({root!r}, {path!r}, log=False)
"""


def test_killed_conversion_goes_on(file, tmp_path, monkeypatch, forks):
    """Behind its last part, with the same bits; not where the file has changed since."""
    expected = content(Trajectory(tmp_path / "whole", file, log=False))
    monkeypatch.setattr(collate, "_STRUCTURES", 4)
    starts = []
    read = Trajectory.__init__.__globals__["structures_of"]

    def noted(files, table, format, show, start):
        starts.append(list(start))
        return read(files, table, format, show, start)

    monkeypatch.setitem(Trajectory.__init__.__globals__, "structures_of", noted)
    root = tmp_path / "root"
    for changed in (False, True):
        assert forks.run(KILLED.format(root=str(root), path=str(file))).returncode not in {0, 1}
        assert len(list(root.rglob("parts/*.npz"))) == 5
        assert not list(root.rglob("processed/*.pt"))
        if changed:
            file.write_text(file.read_text().replace("config_type=t0", "config_type=t9"))
        found = content(Trajectory(root, file, log=False))
        assert (found == expected) is not changed
        for path in root.rglob("processed/*.pt"):
            path.unlink()
    assert starts == [[0, 20], [0, 0]]
    assert not list(root.rglob(".work-*"))


def test_numbers_that_are_gone_are_read_again(file, tmp_path, monkeypatch):
    monkeypatch.setattr(collate, "_STRUCTURES", 9)
    expected = content(Trajectory(tmp_path, file, log=False))
    for number in range(2):
        path = sorted(tmp_path.glob("trajectory/processed/*.*/*.bin"))[number]
        path.unlink() if number else path.write_bytes(path.read_bytes()[:-1])
        assert content(Trajectory(tmp_path, file, log=False)) == expected
    assert len([one for one in tmp_path.glob("trajectory/processed/*") if one.is_dir()]) == 1


def test_transforms_that_give_a_key_to_some_structures_only(file, tmp_path, monkeypatch):
    def of_the_first(data, seen=[]):  # noqa: B006  counts
        seen.append(0)
        if len(seen) <= 5:
            data.odd = torch.ones(1)
        return data

    monkeypatch.setattr(collate, "_STRUCTURES", 9)
    monkeypatch.setattr(prepared, "_AT_ONCE", 5)
    with pytest.raises(ValueError, match="only some structures have `odd` after `pre_transform`; give it to all"):
        Trajectory(tmp_path, file, log=False, pre_transform=of_the_first)


def test_crystals_in_parts(tmp_path, monkeypatch):
    expected = content(MaterialsProject(tmp_path / "whole", "bundled", log=False))
    monkeypatch.setattr(materials_project, "_AT_ONCE", 7)
    dataset = MaterialsProject(tmp_path / "parts", "bundled", log=False)
    assert content(dataset) == expected
    assert isinstance(dataset._data.material_id, Strings)
    assert dataset[0].material_id == "emt-0001"


def test_repeated_structures_are_counted_some_at_a_time(tmp_path):
    hashes = np.random.default_rng(0).integers(-50, 50, 500)
    columns = Columns(tmp_path / "columns")
    columns.append("hashes", hashes)
    assert _repeated(columns, at_once=64) == 500 - len(set(hashes.tolist()))


def write_aselmdb(path, made):
    """The layout as it is documented: rows by number, in ASE's JSON, packed by zlib; number 3 is gone."""
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), subdir=False, map_size=1 << 28) as database, database.begin(write=True) as transaction:
        number = 0
        for atoms in made:
            number += 1 + (number == 2)
            row = ase.db.row.AtomsRow(atoms)
            stored = {key: row[key] for key in row.__dict__ if key[0] != "_" and key not in {*row._keys, "id"}}
            stored |= {"cell": np.asarray(stored["cell"]), "key_value_pairs": {"tag": f"x{number}"}}
            stored |= {"data": {"local": atoms.arrays["local"]}}
            transaction.put(str(number).encode(), zlib.compress(encode(stored).encode()))
        for name, value in (("nextid", number + 1), ("deleted_ids", [3])):
            transaction.put(name.encode(), zlib.compress(encode(value).encode()))
    return path


def write_parquet(path, made):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    results = [{} if atoms.calc is None else atoms.calc.results for atoms in made]
    columns = {
        "species_at_sites": [atoms.get_chemical_symbols() for atoms in made],
        "Positions": [atoms.positions.tolist() for atoms in made],
        "lattice_vectors": [atoms.cell.array.tolist() if atoms.pbc.any() else None for atoms in made],
        "energy": [one.get("energy") for one in results],
        "atomic_forces": [one["forces"].tolist() if "forces" in one else None for one in results],
        "local": [atoms.arrays["local"].tolist() for atoms in made],
        "tag": [f"x{number}" for number in range(len(made))],
    }
    pq.write_table(pa.table(columns), path, row_group_size=11)
    return path


@pytest.mark.parametrize("suffix", ["xyz", "db", "aselmdb", "parquet", "traj"])
def test_formats(suffix, tmp_path):
    """What is written comes back, from any structure on, counted without being read."""
    made, path = list(structures()), tmp_path / f"own.{suffix}"
    if suffix == "db":
        with ase.db.connect(path) as database:
            for atoms in made:
                database.write(atoms, data={"local": atoms.arrays["local"]})
    elif suffix == "aselmdb":
        write_aselmdb(path, made)
    elif suffix == "parquet":
        write_parquet(path, made)
    else:
        ase.io.write(path, made)
    assert kind_of(path) == {"xyz": "extxyz", "aselmdb": "lmdb", "traj": "other"}.get(suffix, suffix)
    assert count_structures(path) == len(made)
    assert guess_number(path) == {"traj": 0}.get(suffix, pytest.approx(len(made), rel=0.1))
    for start in (0, 1, 23, 39):
        found = list(read_structures(path, start=start))
        for one, atoms in zip(found, made[start:], strict=True):
            np.testing.assert_allclose(one.atoms.positions, atoms.positions, atol=1e-7)
            assert one.atoms.numbers.tolist() == atoms.numbers.tolist()
            assert one.atoms.pbc.tolist() == atoms.pbc.tolist()
            np.testing.assert_allclose(one.atoms.cell.array, atoms.cell.array, atol=1e-7)
            results = {} if atoms.calc is None else atoms.calc.results
            fields = one.fields()
            for name in ("energy", "forces"):
                assert (fields.get(name) is None) == (name not in results)
                if name in results:
                    np.testing.assert_allclose(fields[name], results[name], atol=1e-7)
            if suffix != "traj":  # which keeps no arrays but ASE's own
                np.testing.assert_allclose(np.ravel(fields["local"]), atoms.arrays["local"], atol=1e-7)
    dataset = Trajectory(tmp_path, path, log=False)
    truth = [atoms.calc.results["energy"] for atoms in made if atoms.calc and "energy" in atoms.calc.results]
    np.testing.assert_allclose(dataset._data.energy[~dataset._data.energy.isnan()], truth, atol=1e-7)


def test_extended_xyz_is_read_as_ase_does(tmp_path):
    """Blocks end between structures; lattice vectors behind the atoms, Windows' lines and a blank line at the end."""
    from ase.io.extxyz import read_xyz

    path = tmp_path / "many.xyz"
    text = "2\nenergy=-1.5\nH 0 0 0\nH 0 0 0.7\n" * 600
    text += "1\nlast\nHe 0 0 0\nVEC1 1 0 0\nVEC2 0 2 0\nVEC3 0 0 3\n"
    for content in (text, text.replace("\n", "\r\n"), text.replace("\n", "\r"), text + "\n \n"):
        path.write_bytes(content.encode())
        found = [one.atoms for one in read_structures(path)]
        assert found == list(read_xyz(io.StringIO(text), slice(None)))
        assert count_structures(path) == len(found) == 601
    path.write_text(text + "\nx\n")
    for read in (lambda: list(read_structures(path)), lambda: count_structures(path)):
        with pytest.raises(ValueError, match="line 2408: expected a number of atoms, got 'x'"):
            read()


@pytest.mark.parametrize("name", ["many.xyz", "many.xyz.gz"])
def test_blank_lines_between_structures_end_nothing(tmp_path, name):
    """One after each structure, several, and the mark that editors write in front; a blank comment is a comment."""
    path = tmp_path / name
    frame = "1\n\nHe 0 0 {}\n"
    content = "\ufeff\n" + frame.format(0) + "\n" + frame.format(1) + " \n\n" + frame.format(2)
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("gz") else content.encode())
    assert [one.atoms.positions[0, 2] for one in read_structures(path)] == [0, 1, 2]
    assert [one.atoms.positions[0, 2] for one in read_structures(path, start=2)] == [2]
    assert count_structures(path) == 3


def write_spice(path, unit="bohr"):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for name in ("water", "methane"):
            atoms = molecule({"water": "H2O", "methane": "CH4"}[name])
            group, shape = file.create_group(name), (4, len(atoms), 3)
            group["atomic_numbers"] = atoms.numbers
            group["conformations"] = (atoms.positions + rng.normal(0, 0.1, shape)) / units.Bohr
            group["conformations"].attrs["units"] = unit
            group["dft_total_energy"] = rng.normal(size=4) - 76.0
            group["dft_total_gradient"] = rng.normal(size=shape)
            group["subset"] = np.array(["tiny"], dtype=object)
            group["mbis_charges"] = rng.normal(size=(*shape[:2], 1))
            group["scf_dipole"] = rng.normal(size=(4, 3))
    return path


def test_spice(tmp_path):
    """Bohr and hartree by the layout; forces are the negative of the gradient; molecules name groups."""
    h5py = pytest.importorskip("h5py")
    path = write_spice(tmp_path / "spice.hdf5")
    dataset = Trajectory(tmp_path, path, log=False)
    assert count_structures(path) == len(dataset) == 8
    with h5py.File(path) as file:
        place = 0
        for name in ("methane", "water"):  # by name, as HDF5 has them
            for number in range(4):
                data, group = dataset[place], file[name]
                place += 1
                assert (data.molecule, data.subset) == (name, "tiny")
                assert data.z.tolist() == group["atomic_numbers"][:].tolist()
                np.testing.assert_allclose(data.pos, group["conformations"][number] * units.Bohr, rtol=1e-6, atol=1e-6)
                energy = group["dft_total_energy"][number] * units.Hartree
                assert float(data.energy) == pytest.approx(energy, rel=1e-14)
                forces = -group["dft_total_gradient"][number] * units.Hartree / units.Bohr
                np.testing.assert_allclose(data.forces, forces, rtol=1e-6)
                np.testing.assert_allclose(data.mbis_charges, group["mbis_charges"][number], rtol=1e-6)
                np.testing.assert_allclose(data.scf_dipole[0], group["scf_dipole"][number], rtol=1e-6)
    assert [len(list(read_structures(path, start=start))) for start in (3, 4, 7)] == [5, 4, 1]
    with pytest.raises(ValueError, match=r"conformations is in 'nm', expected bohr"):
        Trajectory(tmp_path, write_spice(tmp_path / "other.h5", "nm"), log=False)


def test_transition1x(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    path, truth = tmp_path / "reactions.h5", []
    with h5py.File(path, "w") as file:
        for formula, reaction in (("CH4", "rxn0001"), ("CH4", "rxn0002"), ("H2O", "rxn0007")):
            atoms = molecule(formula)
            group, shape = file.create_group(f"data/{formula}/{reaction}"), (3, len(atoms), 3)
            group["atomic_numbers"] = atoms.numbers
            group["positions"] = atoms.positions + rng.normal(0, 0.1, shape)
            group["wB97x_6-31G(d).energy"] = rng.normal(size=3) - 2000
            group["wB97x_6-31G(d).forces"] = rng.normal(size=shape)
            group.create_group("reactant")["positions"] = group["positions"][:1]
            energies, forces = group["wB97x_6-31G(d).energy"][:], group["wB97x_6-31G(d).forces"][:]
            truth += [(formula, reaction, energy, force) for energy, force in zip(energies, forces, strict=True)]
        file["train"] = h5py.SoftLink("/data")
    dataset = Trajectory(tmp_path, path, log=False)
    assert count_structures(path) == len(dataset) == 9
    for data, (formula, reaction, energy, forces) in zip(dataset, truth, strict=True):
        assert (data.formula, data.reaction, float(data.energy)) == (formula, reaction, energy)
        np.testing.assert_allclose(data.forces, forces, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.h5", "it begins with nothing; expected groups of SPICE .* or of Transition1x"),
        ("other.aselmdb", "expected a database that ASE wrote"),
        ("other.parquet", "the columns are a, expected z: one of .*species_at_sites.*; pos: one of"),
    ],
)
def test_files_of_another_layout(name, message, tmp_path):
    path = tmp_path / name
    if path.suffix == ".h5":
        pytest.importorskip("h5py").File(path, "w").close()
    elif path.suffix == ".aselmdb":
        lmdb = pytest.importorskip("lmdb")
        with lmdb.open(str(path), subdir=False) as database, database.begin(write=True) as transaction:
            transaction.put(b"0", b"pickle")
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match=message):
        Trajectory(tmp_path, path, log=False)


def test_single_atoms_and_strings(tmp_path):
    made = [Atoms("He"), Atoms("Ne", info={"word": "a"})]
    strings = Strings.of(["", None, "ä", None, "end"])
    assert list(strings) == ["", None, "ä", None, "end"] == [strings[place] for place in range(5)]
    assert strings[-1] == "end"
    with pytest.raises(IndexError):
        strings[5]
    ase.io.write(tmp_path / "two.xyz", made, format="extxyz")
    assert [data.get("word") for data in Trajectory(tmp_path, tmp_path / "two.xyz", log=False)] == [None, "a"]
