"""ISO17 and its databases: ASE's own reader as oracle, published ids, damaged files."""

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from pyg_schnet import units
from pyg_schnet.datasets import ISO17
from pyg_schnet.datasets.ase_db import read_molecules
from pyg_schnet.datasets.bundled import bundled_path

SCHEMA = """CREATE TABLE systems
    (id INTEGER PRIMARY KEY, numbers BLOB, positions BLOB, key_value_pairs TEXT, data TEXT);
CREATE TABLE information (name TEXT, value TEXT);"""
Z = [6] * 7 + [8] * 2 + [1] * 10
BOLTZMANN = units.KCAL_PER_MOL * 8.31446 / 4184  # eV/K


def molecules(count, seed=0):
    """Rows with atoms in an order of their own."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {
            "numbers": rng.permutation(Z).astype("<i4"),
            "positions": rng.normal(size=(19, 3)),
            "energy": -11500 + rng.normal(),
            "forces": rng.normal(size=(19, 3)),
        }


def write_database(path, rows, version=8, energy="total_energy", forces="atomic_forces"):
    """A database as old versions of ASE wrote it: lists in JSON text."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.execute("INSERT INTO information VALUES ('version', ?)", (str(version),))
    for row in rows:
        pairs, data = json.dumps({energy: row["energy"]}), json.dumps({forces: np.asarray(row["forces"]).tolist()})
        values = (row["numbers"].tobytes(), row["positions"].tobytes(), pairs, data)
        connection.execute(
            "INSERT INTO systems (numbers, positions, key_value_pairs, data) VALUES (?, ?, ?, ?)", values
        )
    connection.commit()
    connection.close()
    return path


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"iso17/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path):
    """An archive of two parts with ids."""
    reference = write_database(tmp_path / "reference.db", molecules(6)).read_bytes()
    other = write_database(tmp_path / "test_other.db", molecules(3, seed=1)).read_bytes()
    ids = {"train_ids.txt": b"1\n4\n5\n", "validation_ids.txt": b"2\n6\n"}
    return write_archive(tmp_path / "iso17.tar.gz", {"reference.db": reference, "test_other.db": other} | ids)


def test_fields(tmp_path, archive):
    dataset = ISO17(tmp_path / "root", source=archive, log=False)
    assert len(dataset) == 6
    for data, row in zip(dataset, molecules(6), strict=True):
        assert data.z.tolist() == row["numbers"].tolist()  # each in its own order
        assert data.energy.tolist() == [row["energy"]]
        assert data.energy.dtype == torch.float64
        torch.testing.assert_close(data.pos, torch.from_numpy(row["positions"]).float(), rtol=0, atol=0)
        torch.testing.assert_close(data.forces, torch.from_numpy(row["forces"]).float(), rtol=0, atol=0)
    batch = next(iter(DataLoader(dataset, batch_size=6)))
    assert batch.energy.shape == (6,)
    assert batch.forces.shape == (6 * 19, 3)
    assert not list((tmp_path / "root").rglob("*.db"))  # what was unpacked is gone
    assert len(ISO17(tmp_path / "root", "test_other", source=archive, log=False)) == 3


def test_official_split(tmp_path, archive):
    dataset = ISO17(tmp_path / "root", source=archive, log=False)
    split = dataset.official_split()
    assert {name: part.tolist() for name, part in split.items()} == {"train": [0, 3, 4], "val": [1, 5]}
    energies = [row["energy"] for row in molecules(6)]
    fewer = ISO17(tmp_path / "root", source=archive, log=False, pre_filter=lambda data: data.energy != energies[0])
    assert {name: part.tolist() for name, part in fewer.official_split().items()} == {"train": [2, 3], "val": [0, 4]}


def test_other_parts_are_not_split(tmp_path, archive):
    with pytest.raises(
        ValueError, match="only the part \"reference\" is split, this is 'test_other': test on all of it"
    ):
        ISO17(tmp_path / "root", "test_other", source=archive, log=False).official_split()


def test_unpacked_archive(tmp_path, archive):
    folder = tmp_path / "mirror"
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    dataset = ISO17(tmp_path / "root", source=folder, log=False)
    assert dataset.official_split()["val"].tolist() == [1, 5]
    shutil.rmtree(folder / "iso17")
    write_database(folder / "mine.db", molecules(2))
    alone = ISO17(tmp_path / "root", source=folder / "mine.db", log=False)
    assert len(alone) == 2
    with pytest.raises(ValueError, match=r"published split \(train_ids.txt, validation_ids.txt\) were not beside"):
        alone.official_split()


@pytest.mark.parametrize("kind", ["lists", "arrays", "text"])
def test_as_ase_reads_it(tmp_path, kind):
    db, ase = pytest.importorskip("ase.db"), pytest.importorskip("ase")
    path = tmp_path / "new.db"
    with db.connect(path) as database:
        if kind == "text":
            database.version = 8  # arrays in JSON text
        for row in molecules(4):
            forces = row["forces"].tolist() if kind == "lists" else row["forces"]
            atoms = ase.Atoms(row["numbers"], row["positions"])
            pairs = {"total_energy": row["energy"], "note": "x"}
            database.write(atoms, key_value_pairs=pairs, data={"other": [1, {"a": np.eye(2)}], "atomic_forces": forces})
    if kind == "text":
        connection = sqlite3.connect(path)
        connection.execute("UPDATE information SET value = '8' WHERE name = 'version'")
        connection.commit()
        connection.close()
    _compare(path, db)


def test_published_isomers(tmp_path, real_data):
    path = real_data / "iso17" / "equilibrium_40_isomers.db"
    dataset = ISO17(tmp_path, "test_eq", source=path, log=False)
    assert len(dataset) == 40
    assert not dataset._data.forces.any()
    assert dataset._data.energy.mean() == pytest.approx(-605.45 * 19, abs=5)
    _compare(path, pytest.importorskip("ase.db"))


def _compare(path, db):
    ours = read_molecules(path, "total_energy", "atomic_forces")
    rows = list(db.connect(path, use_lock_file=False).select())
    assert ours.ids.tolist() == [row.id for row in rows]
    assert ours.z.tolist() == [number for row in rows for number in row.numbers]
    assert ours.energies.tolist() == [row["total_energy"] for row in rows]
    for name, theirs in (
        ("positions", [r.positions for r in rows]),
        ("forces", [r.data["atomic_forces"] for r in rows]),
    ):
        np.testing.assert_array_equal(getattr(ours, name), np.concatenate(theirs).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": "energy"}, "row 1 lacks the property 'total_energy'; it has 'energy'"),
        ({"forces": "forces"}, "row 1 lacks the property 'atomic_forces'; it has 'forces'"),
        ({"version": 4}, "its version is 4, expected 5 to 9"),
        ({"rows": []}, "it has no rows"),
        ({"rows": [{"energy": float("nan")}]}, "row 1 has NaN or infinite"),
        ({"rows": [{"forces": np.zeros((18, 3))}]}, r"row 1 is damaged \(cannot reshape"),
        ({"rows": [{"numbers": np.zeros(19, "<i4")}]}, "row 1 has no atoms or impossible atomic numbers"),
        ({"rows": [{"numbers": np.array([*Z[:-1], 6], "<i4")}]}, "row 1 is no isomer of C7O2H10"),
        ({"rows": [{"energy": None}]}, r"row 1 is damaged \("),
    ],
)
def test_wrong_databases(tmp_path, change, message):
    options = dict(change)
    rows = [next(molecules(1)) | row for row in options.pop("rows", [{}])]
    path = write_database(tmp_path / "bad.db", rows, **options)
    with pytest.raises(ValueError, match=message):
        ISO17(tmp_path / "root", source=path, log=False)
    good = write_database(tmp_path / "good.db", molecules(1))
    assert len(ISO17(tmp_path / "root", source=good, log=False)) == 1


@pytest.mark.parametrize("ids", [b"1\n1\n", b"2\n", b"7\n", b"0\n", b"one\n", b"99999999999999999999\n", b"-1"])
def test_wrong_ids(tmp_path, ids):
    database = write_database(tmp_path / "reference.db", molecules(3)).read_bytes()
    files = {"reference.db": database, "train_ids.txt": ids, "validation_ids.txt": b"2\n"}
    path = write_archive(tmp_path / "iso17.tar.gz", files)
    with pytest.raises(ValueError, match=r"_ids.txt( names rows twice|: expected row numbers)"):
        ISO17(tmp_path / "root", source=path, log=False)


def test_wrong_archives(tmp_path, archive):
    with pytest.raises(ValueError, match="has no test_eq.db; it is not the archive of ISO17"):
        ISO17(tmp_path / "root", "test_eq", source=archive, log=False)
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="not readable as a tar archive"):
        ISO17(tmp_path / "root", source=archive, log=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "train"}, "unknown part 'train'; expected one of reference, reference_eq"),
        ({"name": "qm9"}, "unknown name 'qm9'; expected one of iso17, bundled"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        ISO17(tmp_path, **arguments)


@pytest.mark.parametrize("kind", ["archive", "database"])
def test_damaged_files(tmp_path, archive, kind):
    path = archive if kind == "archive" else tmp_path / "reference.db"
    content, rng, messages = path.read_bytes(), np.random.default_rng(0), []
    path = tmp_path / "damaged"
    for trial in range(80):
        damaged = bytearray(content[: rng.integers(len(content)) if trial % 2 else len(content)])
        for place in rng.integers(max(len(damaged), 1), size=rng.integers(0, 6)):
            if damaged:
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            dataset = ISO17(tmp_path / str(trial), source=path, log=False)
        except (ValueError, OSError) as error:
            messages.append(str(error))
            assert not [
                left
                for left in (tmp_path / str(trial)).rglob("*")
                if left.suffix in {".pt", ".db"} or left.name[:6] == ".part-"
            ]
        else:
            assert dataset._data.pos.isfinite().all()
    assert len(messages) > 30
    assert min(map(len, messages)) > 20


PARTS = {"reference": 960, "test_within": 240, "test_other": 400, "reference_eq": 12, "test_eq": 28}


@pytest.mark.parametrize("part", list(PARTS))
def test_bundled_isomers(tmp_path, part):
    dataset = ISO17(tmp_path, part, name="bundled", log=False)
    assert len(dataset) == PARTS[part]
    # nobody pushes the molecules from outside; forces are rounded to five digits
    assert dataset._data.forces.view(-1, 19, 3).sum(dim=1).abs().max() < 3e-4
    if part.endswith("_eq"):
        assert dataset._data.forces.norm(dim=1).max() < 0.006  # relaxed to 0.005 eV/Angstrom


def test_bundled_isomers_are_at_500_kelvin(tmp_path):
    """Equipartition: 51 classical harmonic vibrations hold 51 / 2 kT above the minimum."""
    moving = ISO17(tmp_path, "test_other", name="bundled", log=False)
    still = ISO17(tmp_path, "test_eq", name="bundled", log=False)
    excess = moving._data.energy.view(4, 100).mean(dim=1) - still._data.energy[:4]
    # the mean of 4 x 1 ps; anharmonicity adds some per cent
    assert float(excess.mean()) == pytest.approx(51 / 2 * BOLTZMANN * 500, rel=0.15)


def test_bundled_splits(tmp_path):
    dataset = ISO17(tmp_path, name="bundled", log=False)
    assert {name: len(part) for name, part in dataset.official_split().items()} == {"train": 864, "val": 96}
    # the same isomers, 80 and 20 frames of each, atoms in the same order
    within = ISO17(tmp_path, "test_within", name="bundled", log=False)
    assert dataset._data.z.view(12, 80, 19)[:, 0].tolist() == within._data.z.view(12, 20, 19)[:, 0].tolist()


def test_card_of_the_bundled_isomers():
    folder = bundled_path("iso17_xtb")
    content = (folder / "iso17.tar.gz").read_bytes()
    card = (folder / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    assert f"{len(content):,} bytes" in card
    assert len(content) < 2e6


def test_molecules_far_from_the_origin(tmp_path):
    rows = list(molecules(2))
    far = [row | {"positions": row["positions"] + 1e4} for row in rows]
    near = ISO17(tmp_path / "near", "test_other", source=write_database(tmp_path / "test_other.db", rows), log=False)
    moved = ISO17(tmp_path / "far", "test_other", source=write_database(tmp_path / "test_other.db", far), log=False)
    for one, other in zip(near, moved, strict=True):
        torch.testing.assert_close(one.pos - one.pos[0], other.pos - other.pos[0], rtol=0, atol=2e-6)


def test_changed_ids_are_noticed(tmp_path):
    """They lie beside the database and are read with it."""
    database = write_database(tmp_path / "reference.db", molecules(4))
    for train in (b"1\n2\n", b"3\n4\n"):
        (tmp_path / "train_ids.txt").write_bytes(train)
        dataset = ISO17(tmp_path / "root", source=database, log=False)
        assert (dataset.official_split()["train"] + 1).tolist() == [int(word) for word in train.split()]
