"""QM9: the raw layout, whole and damaged, and from upstream files to PyG data."""

import bz2
import io
import tarfile

import numpy as np
import pytest
import torch
from ase import units
from ase.data import atomic_masses
from torch_geometric.datasets.qm9 import atomrefs
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import qm9
from pyg_schnet.datasets.qm9 import QM9
from pyg_schnet.datasets.qm9_records import RecordParser, read_atomref, read_records, read_uncharacterized

HARTREE = units.Hartree  # an independent source of the conversion
#: h / (8 pi^2) in GHz u Angstrom^2, from CODATA 2018.
ROTATION = 6.62607015e-34 / (8 * np.pi**2 * 1.66053906660e-27 * 1e-20) / 1e9
#: Masses of the most frequent isotopes of H, C, N, O and F in u, by atomic number: those of QM9's constants.
ISOTOPES = np.array([0, 1.00782503207, 0, 0, 0, 0, 12, 14.0030740048, 15.99491461956, 18.99840322])
METHANE = (
    "5\n"
    "gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893"
    "\t-40.476062\t-40.475117\t-40.498597\t6.469\t\n"
    "C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689\n"
    "H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921\n"
    "H\t 1.0117308433\t 1.4637511618\t 2.765748*^-4\t 0.133922\n"
    "H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923\n"
    "H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 6.8*^-6\n"
    "1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078\n"
    "C\tC\t\nInChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4\n"
)
WATER = (
    "3\n"
    "gdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702"
    "\t-76.401867\t-76.400922\t-76.422349\t6.002\t\n"
    "O\t-0.0343604951\t0.9775395708\t0.0076015923\t-0.589706\n"
    "H\t0.0647664923\t0.0205721989\t0.0015346341\t0.294853\n"
    "H\t0.8717903737\t1.3007924048\t0.0006931336\t0.294853\n"
    "1671.4222\t3803.6305\t3907.698\nO\tO\t\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
)
#: The rows of the upstream table.
ATOMREF = """
====
  Ele-    ZPVE         U (0 K)      U (298.15 K)    H (298.15 K)    G (298.15 K)     CV
  ment   Hartree       Hartree        Hartree         Hartree         Hartree        Cal/(Mol Kelvin)
====
   H     0.000000     -0.500273      -0.498857       -0.497912       -0.510927       2.981
   C     0.000000    -37.846772     -37.845355      -37.844411      -37.861317       2.981
   N     0.000000    -54.583861     -54.582445      -54.581501      -54.598897       2.981
   O     0.000000    -75.064579     -75.063163      -75.062219      -75.079532       2.981
   F     0.000000    -99.718730     -99.717314      -99.716370      -99.733544       2.981
====
"""


def numbered(text, number):
    """The same record with another id."""
    first, second, rest = text.split("\n", 2)
    return "\n".join([first, f"gdb {number}\t" + second.split("\t", 1)[1], rest])


def archive(path, records, names=None):
    """Write a tar.bz2 of records."""
    with tarfile.open(path, "w:bz2") as file:
        for k, text in enumerate(records):
            number = int(text.split("\n")[1].split()[1])
            member = tarfile.TarInfo(names[k] if names else f"dsgdb9nsd_{number:06d}.xyz")
            member.size = len(text)
            file.addfile(member, io.BytesIO(text.encode()))
    return path


def listing(ids):
    """``uncharacterized.txt`` with these ids."""
    rows = [f"  {number}  C  O  N 1.2" for number in ids]
    return "\n".join(["", "text", "2 molecules", "", "====", "#  Index", "====", *rows, "====", "", ""])


def test_records_in_the_order_of_ids(tmp_path):
    records = read_records(archive(tmp_path / "x.tar.bz2", [numbered(WATER, 7), METHANE, WATER]))
    assert records.ids.tolist() == [1, 3, 7]
    assert records.atoms.tolist() == [5, 3, 3]
    assert records.z.tolist() == [6, 1, 1, 1, 1, 8, 1, 1, 8, 1, 1]
    # every digit: the same decimals read by Python
    assert records.pos[0].tolist() == [-0.0126981359, 1.0858041578, 0.0080009958]
    assert records.pos[2].tolist() == [1.0117308433, 1.4637511618, 2.765748e-4]  # exponent as Mathematica writes it
    assert records.pos[7].tolist() == records.pos[10].tolist() == [0.8717903737, 1.3007924048, 0.0006931336]
    assert records.properties[0, :5].tolist() == [157.7118, 157.70997, 157.70699, 0.0, 13.21]
    assert records.properties[1].tolist() == records.properties[2].tolist()
    assert records.properties[2, -1] == 6.002


def test_keep(tmp_path):
    records = read_records(archive(tmp_path / "x.tar.bz2", [METHANE, WATER])).keep(np.array([False, True]))
    assert (records.ids.tolist(), records.atoms.tolist(), records.z.tolist()) == ([3], [3], [8, 1, 1])
    assert records.pos.shape == (3, 3)


def test_other_members_are_passed_over(tmp_path):
    path = archive(tmp_path / "x.tar.bz2", [METHANE, WATER, METHANE], ["a/b/x_1.xyz", "readme.txt", "._x_1.xyz"])
    assert read_records(path).ids.tolist() == [1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gdb 1", "gdb 2", "it is the record of gdb 2"),
        ("gdb 1", "gdb x", "invalid literal"),
        ("gdb 1\t", "gdb 1\t1.0\t", "expected `gdb`, an id and 15 properties"),
        ("5\ngdb", "50\ngdb", "expected a count of atoms and n . 5 lines, got n = 50"),
        ("5\ngdb", "-1\ngdb", "got n = -1"),
        ("5\ngdb", "4\ngdb", "after or in dsgdb9nsd_000001.xyz"),  # a line too many: read, then its end does not fit
        ("C\t-0.01", "Si\t-0.01", "expected the elements H, C, N, O, F, got 'Si'"),
        ("C\t-0.0126981359", "C\tx", "could not convert"),
        ("C\t-0.0126981359", "C\tnan", "1 records have NaN or infinite values, the first is gdb 1"),
        ("-40.47893", "inf", "1 records have NaN or infinite values"),
        ("13.21", "13.21é", "ascii"),
    ],
)
def test_damaged_record(tmp_path, old, new, message):
    text = METHANE.replace(old, new, 1)
    if old == "5\ngdb" and new.startswith("4"):
        text = text.replace("\nH\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 6.8*^-6", "").replace(
            "H\t 1", "H 1 1\t"
        )
    path = tmp_path / "x.tar.bz2"
    with tarfile.open(path, "w:bz2") as file:
        member = tarfile.TarInfo("dsgdb9nsd_000001.xyz")
        member.size = len(text.encode())
        file.addfile(member, io.BytesIO(text.encode()))
    with pytest.raises(ValueError, match=f"{message}.*; fetch or copy the archive again"):
        read_records(path)


def test_twice(tmp_path):
    path = archive(tmp_path / "x.tar.bz2", [METHANE, WATER, METHANE])
    with pytest.raises(ValueError, match="1 molecules occur twice, the first is gdb 1"):
        read_records(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bz2.compress(b"no tar" * 200), bz2.compress(b"")])
def test_not_an_archive(tmp_path, content):
    path = tmp_path / "x.tar.bz2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="fetch or copy the archive again"):
        read_records(path)


def test_archive_without_records(tmp_path):
    with pytest.raises(ValueError, match="holds no record"):
        read_records(archive(tmp_path / "x.tar.bz2", []))


def test_cut_off_between_records(tmp_path):
    """The compression is whole, the archive is not: nothing may go missing unnoticed."""
    path = archive(tmp_path / "x.tar.bz2", [METHANE, WATER])
    path.write_bytes(bz2.compress(bz2.decompress(path.read_bytes())[:2048]))
    with pytest.raises(ValueError, match="cut off"):
        read_records(path)


@pytest.mark.parametrize("packed", [True, False])
def test_fuzz(tmp_path, packed):
    """Flipped bytes and truncations, before and after compression: records, or one sentence."""
    whole = archive(tmp_path / "x.tar.bz2", [METHANE, WATER]).read_bytes()
    content = whole if packed else bz2.decompress(whole)[:3072]
    rng = np.random.default_rng(0)
    refused, message = 0, str(tmp_path / "damaged.tar.bz2")
    for _ in range(150):
        damaged = bytearray(content)
        if rng.random() < 0.3:
            del damaged[rng.integers(len(damaged)) :]
        else:
            for place in rng.integers(len(damaged), size=rng.integers(1, 8)):
                damaged[place] = rng.integers(256)
        path = tmp_path / "damaged.tar.bz2"
        path.write_bytes(bytes(damaged) if packed else bz2.compress(bytes(damaged)))
        try:
            assert np.isfinite(read_records(path).pos).all()
        except ValueError as error:
            message = str(error)
            refused += 1
        assert str(path) in message
    assert refused > (140 if packed else 75)  # compressed data have a checksum; a digit of a record has none


def test_uncharacterized(tmp_path):
    path = tmp_path / "uncharacterized.txt"
    path.write_text(listing([61, 58, 133866]))
    assert read_uncharacterized(path).tolist() == [58, 61, 133866]


def test_damaged_lists(tmp_path):
    path, whole = tmp_path / "uncharacterized.txt", listing([58, 61])
    for damaged in ["", "<html></html>", whole.removesuffix("====\n\n"), whole[:60], whole.replace("  58", "  x58"),
                    whole.replace("58", "61"), whole.replace("58", "9" * 30)]:  # fmt: skip
        path.write_text(damaged)
        with pytest.raises(ValueError, match="fetch it again"):
            read_uncharacterized(path)


def test_free_atoms(tmp_path):
    path = tmp_path / "atomref.txt"
    path.write_text(ATOMREF)
    references = read_atomref(path)
    assert list(references) == ["zpve", "U0", "U", "H", "G", "Cv"]
    assert references["U0"] == {"H": -0.500273, "C": -37.846772, "N": -54.583861, "O": -75.064579, "F": -99.71873}
    assert references["Cv"]["F"] == 2.981


def test_damaged_atomref(tmp_path):
    path = tmp_path / "atomref.txt"
    for damaged in ["", ATOMREF.replace("   N ", "   X "), ATOMREF.replace("-75.064579", "nan"),
                    ATOMREF.replace("-75.064579", ""), ATOMREF.replace("-75.064579", "x")]:  # fmt: skip
        path.write_text(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            read_atomref(path)


def test_fuzz_of_text_files(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "x.txt"
    for read, text in ((read_atomref, ATOMREF), (read_uncharacterized, listing(range(1, 40)))):
        for _ in range(100):
            damaged = bytearray(text.encode())
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            path.write_bytes(bytes(damaged[: rng.integers(len(damaged))] if rng.random() < 0.3 else damaged))
            message = str(path)
            try:
                assert len(read(path)) > 0
            except ValueError as error:
                message = str(error)
            assert str(path) in message


def test_empty_parser():
    with pytest.raises(ValueError, match="holds no record"):
        RecordParser().finish()


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder with five molecules in the upstream layout; 2 and 9 are uncharacterized, 9 is not in the archive."""
    monkeypatch.setattr(qm9, "NUM_UNCHARACTERIZED", 2)
    folder = tmp_path / "mirror"
    folder.mkdir()
    records = [numbered(METHANE, 10), numbered(WATER, 5), WATER, numbered(WATER, 2), METHANE]
    archive(folder / "dsgdb9nsd.xyz.tar.bz2", records)
    (folder / "uncharacterized.txt").write_text(listing([2, 9]))
    (folder / "atomref.txt").write_text(ATOMREF)
    return folder


def test_targets_of_methane_by_hand(tmp_path, raw):
    dataset = QM9(tmp_path / "root", source=raw, log=False)
    methane = dataset[0]
    refs = {"U0": (-37.846772, -0.500273), "U": (-37.845355, -0.498857), "H": (-37.844411, -0.497912)}
    refs["G"] = (-37.861317, -0.510927)
    energies = {"U0": -40.47893, "U": -40.476062, "H": -40.475117, "G": -40.498597}
    expected = [0.0, 13.21, *(HARTREE * x for x in (-0.3877, 0.1171, 0.5048)), 35.3641, HARTREE * 0.044749]
    expected += [HARTREE * x for x in energies.values()] + [6.469]
    expected += [HARTREE * (x - refs[name][0] - 4 * refs[name][1]) for name, x in energies.items()]
    expected += [157.7118, 157.70997, 157.70699]
    assert methane.y.shape == (1, 19)
    assert methane.y.dtype == torch.float64
    torch.testing.assert_close(methane.y[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-12)
    # the atomization energy of methane: 395.999 kcal/mol in the csv that PyG reads
    assert float(methane.y[0, 12]) / (units.kcal / units.mol) == pytest.approx(-395.999594, abs=1e-3)
    assert methane.pos.dtype == torch.float32
    assert methane.gdb.tolist() == [1]


def test_order_and_removal(tmp_path, raw):
    dataset = QM9(tmp_path / "root", source=raw, log=False)
    everything = QM9(tmp_path / "root", source=raw, uncharacterized=True, log=False)
    assert [int(data.gdb) for data in dataset] == [1, 3, 5, 10]
    assert [int(data.gdb) for data in everything] == [1, 2, 3, 5, 10]
    assert [data.num_nodes for data in dataset] == [5, 3, 3, 5]
    assert (dataset.report["records"], dataset.report["uncharacterized_removed"], dataset.report["molecules"]) == (
        5,
        1,
        4,
    )
    assert everything.report["uncharacterized_removed"] == 0


def test_batches_of_pyg(tmp_path, raw):
    batch = next(iter(DataLoader(QM9(tmp_path / "root", source=raw, log=False), batch_size=4)))
    assert batch.y.shape == (4, 19)
    assert batch.gdb.tolist() == [1, 3, 5, 10]
    assert batch.batch.tolist() == [0] * 5 + [1] * 3 + [2] * 3 + [3] * 5


@pytest.mark.parametrize("target", ["U0", 7])
def test_one_target(tmp_path, raw, target):
    everything = QM9(tmp_path / "root", source=raw, log=False)
    dataset = QM9(tmp_path / "root", source=raw, target=target, log=False)
    assert dataset[1].y.shape == (1, 1)
    assert dataset[torch.tensor([2])][0].y[0, 0] == everything[2].y[0, 7]
    assert dataset.targets["U0"] == 7
    assert dataset.target_units["U0"] == "eV"


def test_atomref(tmp_path, raw):
    dataset = QM9(tmp_path / "root", source=raw, log=False)
    for name, column in dataset.targets.items():
        references = dataset.atomref(column)
        if name not in {"zpve", "U0", "U", "H", "G", "Cv"}:
            assert references is None
            continue
        assert references.shape == (100, 1)
        if name in {"U0", "U", "H", "G"}:  # what is left of the total energies are the columns with _atom
            left = dataset[1].y[0, column] - references[dataset[1].z].sum()
            # totals of 2000 eV: a float64 step is 2e-13
            torch.testing.assert_close(left, dataset[1].y[0, dataset.targets[f"{name}_atom"]], rtol=0, atol=2e-12)
    assert float(dataset.atomref("Cv")[9]) == 2.981
    with pytest.raises(ValueError, match="unknown target 'u0'; expected a column 0 to 18 or one of mu, alpha"):
        dataset.atomref("u0")


def test_like_the_references_of_pyg(tmp_path, raw):
    dataset = QM9(tmp_path / "root", source=raw, log=False)
    for column, values in atomrefs.items():
        if column == dataset.targets["Cv"]:  # zero in PyG; the upstream file has 3/2 of the gas constant
            torch.testing.assert_close(dataset.atomref("Cv").unique(), torch.tensor([0, 2.981], dtype=torch.float64))
            continue
        ours = dataset.atomref(column)[[1, 6, 7, 8, 9], 0]
        # PyG converts with a Hartree that is the same to 1e-8
        torch.testing.assert_close(ours, torch.tensor(values, dtype=torch.float64), rtol=2e-8, atol=0)


@pytest.mark.parametrize("uncharacterized", [False, True])
def test_every_download_has_addresses_size_and_checksum(tmp_path, raw, uncharacterized):
    """Of the files of figshare, articles 3195389, 3195404 and 3195395; sizes and checksums are of downloads."""
    dataset = QM9(tmp_path / "root", source=raw, uncharacterized=uncharacterized, log=False)
    expected = {
        "dsgdb9nsd.xyz.tar.bz2": (
            "3195389",
            86144227,
            "3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c",
        ),
        "uncharacterized.txt": ("3195404", 486752, "3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24"),
        "atomref.txt": ("3195395", 964, "af739d4a0fbe894a56f346ad6045ee1b74c58f8a8c9ef3fbfed920c9ad8b00f9"),
    }
    found = {file.name: (file.size, file.sha256) for file in dataset.files()}
    assert found == {name: facts[1:] for name, facts in expected.items() if name in found}
    assert ("uncharacterized.txt" in found) or uncharacterized
    for file in dataset.files():
        assert len(file.urls) == 3
        assert all(url.endswith(f"/{expected[file.name][0]}") for url in file.urls)


def test_archive_as_source(tmp_path, raw):
    (raw / "dsgdb9nsd.xyz.tar.bz2").rename(raw / "renamed.tar.bz2")
    assert len(QM9(tmp_path / "root", source=raw / "renamed.tar.bz2", log=False)) == 4
    with pytest.raises(FileNotFoundError, match="has no dsgdb9nsd.xyz.tar.bz2"):
        QM9(tmp_path / "other", source=raw, log=False)


@pytest.mark.parametrize("name", ["dsgdb9nsd.xyz.tar.bz2", "uncharacterized.txt", "atomref.txt"])
def test_damage_leaves_nothing_and_is_overcome(tmp_path, raw, name):
    whole = (raw / name).read_bytes()
    (raw / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name}.*again"):
        QM9(tmp_path / "root", source=raw, log=False)
    assert not list((tmp_path / "root").rglob("*.pt*"))
    (raw / name).write_bytes(whole)
    assert len(QM9(tmp_path / "root", source=raw, log=False)) == 4


def test_short_list_is_refused(tmp_path, raw):
    (raw / "uncharacterized.txt").write_text(listing([2]))
    with pytest.raises(
        ValueError, match="lists 1 molecules, expected 2; fetch it again or pass `uncharacterized=True`"
    ):
        QM9(tmp_path / "root", source=raw, log=False)
    (raw / "uncharacterized.txt").unlink()
    assert len(QM9(tmp_path / "root", source=raw, uncharacterized=True, log=False)) == 5


def test_nothing_left(tmp_path, raw):
    archive(raw / "dsgdb9nsd.xyz.tar.bz2", [numbered(WATER, 2)])
    with pytest.raises(ValueError, match="holds uncharacterized molecules only"):
        QM9(tmp_path / "root", source=raw, log=False)


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="unknown dataset 'qm7'; expected 'qm9' or 'bundled'"):
        QM9(tmp_path, "qm7")
    with pytest.raises(ValueError, match="unknown target 19"):
        QM9(tmp_path, target=19)


def check_physics(dataset, masses):
    """What holds for any molecule; returns how the rotational constants deviate [M, 3], relative to the largest."""
    y = dataset._data.y.numpy()
    column = {name: y[:, k] for name, k in dataset.targets.items()}
    # orbital energies are given to 1e-4 Hartree, each of the three rounded on its own
    assert np.abs(column["gap"] - column["lumo"] + column["homo"]).max() < 2.1e-4 * HARTREE
    assert (column["U0"] < column["U"]).all()
    assert (column["U"] < column["H"]).all()
    assert (column["G"] < column["H"]).all()
    # H - U = kT, with both rounded to 1e-6 Hartree
    assert np.abs(column["H"] - column["U"] - units.kB * 298.15).max() < 2.1e-6 * HARTREE
    assert (column["Cv"] > 4.9).all()
    assert (column["alpha"] > 0).all()
    assert (column["r2"] > 0).all()
    assert np.isfinite(y).all()
    mass, data, starts = masses[dataset._data.z.numpy()], dataset._data, dataset.slices["pos"].numpy()
    pos, count = data.pos.double().numpy(), np.diff(starts)

    def total(values):
        return np.add.reduceat(values, starts[:-1])

    pos = pos - np.repeat(total(mass[:, None] * pos) / total(mass)[:, None], count, axis=0)
    squares = mass[:, None, None] * pos[:, :, None] * pos[:, None, :]
    tensors = total(squares)
    inertia = np.linalg.eigvalsh(np.trace(tensors, axis1=1, axis2=2)[:, None, None] * np.eye(3) - tensors)
    inertia[inertia < 1e-3] = np.inf  # linear molecules: A is 0
    return np.abs(ROTATION / inertia - y[:, 16:]) / np.maximum(y[:, 16:], 1e-9)


def test_bundled(tmp_path):
    dataset = QM9(tmp_path, "bundled", log=False)
    everything = QM9(tmp_path, "bundled", uncharacterized=True, log=False)
    assert len(dataset) >= 500
    assert dataset.report["uncharacterized_removed"] == len(everything) - len(dataset) > 0
    assert set(dataset._data.z.tolist()) == {1, 6, 7, 8, 9}
    deviation = check_physics(dataset, atomic_masses)
    assert deviation.max() < 1e-5  # the generator uses the masses of ASE, too; positions are float32 here


def test_real_data(tmp_path, real_data):
    dataset = QM9(tmp_path, source=real_data, log=False)
    assert len(dataset) == 12783
    assert dataset[0].gdb.tolist() == [1]
    assert bool((dataset._data.gdb.diff() > 0).all())
    assert bool((dataset._data.y[:, dataset.targets["U0_atom"]] < 0).all())  # every molecule is bound
    deviation = check_physics(dataset, ISOTOPES).max(1)
    # A, B and C are given to 1e-5 GHz, that is to some 1e-5 of the smallest ones; four molecules lie further off
    assert deviation.max() < 1e-4
    assert (deviation < 1.5e-5).sum() >= 12775
