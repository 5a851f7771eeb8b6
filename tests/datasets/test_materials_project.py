"""Snapshots of the Materials Project: what is read, what is left out and counted, folds, queries."""

import gzip
import hashlib
import json
import math
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import MaterialsProject, json_stream, materials_project, unphysical
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.crystal import Crystal
from pyg_schnet.datasets.unphysical import isolated_or_impossible

EVERYTHING = {"energy_range": None, "isolation_cutoff": None}


def cif(a, symbols=("Cs", "Cl"), occupancy="1", apart=0.5):
    lengths = "".join(f"_cell_length_{axis}   {a:.8f}\n" for axis in "abc")
    angles = "".join(f"_cell_angle_{angle}   90.00000000\n" for angle in ("alpha", "beta", "gamma"))
    tags = "".join(
        f" _atom_site_{tag}\n" for tag in ("type_symbol", "label", "fract_x", "fract_y", "fract_z", "occupancy")
    )
    sites = "".join(
        f"  {s}  {s}{i}  {i * apart}  {i * apart}  {i * apart}  {occupancy}\n" for i, s in enumerate(symbols)
    )
    return f"# a comment\ndata_test\n_symmetry_space_group_name_H-M   'P 1'\n{lengths}{angles}loop_\n{tags}{sites}"


def structure(a, symbols=("Cs", "Cl")):
    sites = [{"species": [{"element": s, "occu": 1}], "abc": [i * 0.5] * 3} for i, s in enumerate(symbols)]
    return {"lattice": {"matrix": [[a, 0, 0], [0, a, 0], [0, 0, a]]}, "sites": sites}


def entry(number, energy=-1.25, text=None):
    return {
        "material_id": f"mp-{number}",
        "structure": text or cif(4 + 0.01 * number),
        "formation_energy_per_atom": energy,
    }


def write_megnet(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mp.2018.6.1.json", json.dumps(entries))
    return path


def write_matbench(path, rows):
    content = {"index": list(range(len(rows))), "columns": ["structure", "e_form"], "data": rows}
    with gzip.open(path, "wt") as file:
        json.dump(content, file)
    return path


@pytest.fixture
def snapshot(tmp_path):
    """A snapshot in MEGNet's layout with something of everything that is left out."""
    entries = [
        entry(1, -1.7923372100000003),
        entry(2, text=cif(4.2, ("Na",) * 2)),
        entry(1, 0.5),
        entry(3, math.nan),
        entry(4, None),
        entry(5, -5.1),
        entry(6, 2.5),
        entry(7, text=cif(4.0, occupancy="0.5")),
        entry(8, text=cif(4.0, apart=1.0)),
        entry(9, text=cif(4.6, ("Xe",))),
        entry(10, -5.0),
    ]
    return write_megnet(tmp_path / "mp.2018.6.1.json.zip", entries)


def test_fields(tmp_path, snapshot):
    dataset = MaterialsProject(tmp_path / "root", source=snapshot, log=False)
    data = dataset[0]
    assert data.z.tolist() == [55, 17]
    assert data.z.dtype == torch.int64
    torch.testing.assert_close(data.pos, torch.tensor([[0.0] * 3, [2.005] * 3]))
    torch.testing.assert_close(data.cell, 4.01 * torch.eye(3)[None])
    assert data.pbc.tolist() == [[True] * 3]
    assert data.formation_energy.dtype == torch.float64
    assert data.formation_energy.tolist() == [-1.7923372100000003]  # every digit of the file
    assert data.material_id == "mp-1"
    assert not any("index" in key for key in data.to_dict())
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.cell.shape == (3, 3, 3)
    assert batch.pbc.shape == (3, 3)
    assert batch.formation_energy.shape == (3,)
    assert batch.material_id == ["mp-1", "mp-2", "mp-10"]


def test_what_is_left_out_is_counted(tmp_path, snapshot):
    report = MaterialsProject(tmp_path / "root", source=snapshot, log=False).report
    assert (report["rows"], report["structures"]) == (11, 3)
    assert report["left_out"] == {
        "duplicate": 1,
        "no_energy": 2,
        "energy_out_of_range": 2,
        "partial_occupancy": 1,
        "impossible_geometry": 1,
        "isolated_atom": 1,
    }


def test_what_is_left_out_can_be_kept(tmp_path, snapshot):
    usual = MaterialsProject(tmp_path / "root", source=snapshot, log=False)
    dataset = MaterialsProject(tmp_path / "root", source=snapshot, log=False, **EVERYTHING)
    assert [data.material_id for data in dataset] == ["mp-1", "mp-2", "mp-5", "mp-6", "mp-9", "mp-10"]
    assert len(usual) == 3  # another processed file
    only_one = MaterialsProject(tmp_path / "root", source=snapshot, log=False, isolation_cutoff=4.605)
    assert "mp-9" in [data.material_id for data in only_one]


def test_filter_keeps_names_and_structures_together(tmp_path, snapshot):
    dataset = MaterialsProject(tmp_path, source=snapshot, log=False, pre_filter=lambda data: 11 in data.z)
    assert dataset[0].material_id == "mp-2"
    assert dataset[0].z.tolist() == [11, 11]


@pytest.mark.parametrize("cutoff", [2.5, 4.0])
def test_isolated_atoms_by_brute_force(cutoff):
    rng, crystals = np.random.default_rng(0), []
    for _ in range(60):
        cell = rng.normal(size=(3, 3)) + np.diag(rng.uniform(2, 7, size=3))
        size = int(rng.integers(1, 5))
        crystals.append(Crystal(np.full(size, 6), rng.uniform(-1, 2, size=(size, 3)), cell))
    impossible, isolated = isolated_or_impossible(crystals, cutoff)
    images = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3), axis=-1).reshape(-1, 3)
    for number, crystal in enumerate(crystals):
        difference = crystal.fractional[:, None] - crystal.fractional
        distance = np.linalg.norm((difference[:, :, None] + images) @ crystal.cell, axis=-1).reshape(
            len(difference), -1
        )
        nearest = np.sort(distance, axis=1)[:, 1]  # behind the atom itself
        volume = abs(np.linalg.det(crystal.cell)) / len(crystal.numbers)
        if nearest.min() < unphysical.SAME_PLACE or volume < unphysical.LEAST_VOLUME:
            assert number in impossible
        else:
            assert (number in isolated) == bool((nearest >= cutoff).any())
    assert 5 < len(isolated) < 55  # both cases occur


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "oqmd"}, "unknown snapshot 'oqmd'; expected one of megnet2018, matbench"),
        ({"name": "query"}, "expected `source`, the file written by MaterialsProject.query"),
        ({"energy_range": (2, -5)}, r"`energy_range` must be \(lowest, highest\) in eV/atom, got \(2, -5\)"),
        ({"isolation_cutoff": -1.0}, "`isolation_cutoff` must be positive and below 100 Angstrom, got -1.0"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        MaterialsProject(tmp_path, **options)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"material_id": "mp-1"}], "entry 0 lacks structure, formation_energy_per_atom"),
        ([entry(1), 3], "entry 1 lacks material_id"),
        ([entry(1, "low")], "entry 0 has the formation energy 'low', expected a number"),
        ([entry(77, text="nothing")], "mp-77 is damaged: expected CIF text with cell .* it lacks _cell_length_a"),
        ([entry(1, text=[1])], "mp-1 is damaged: expected CIF text or a structure dictionary"),
        ([entry(1, 99.0), entry(2, math.nan)], "no usable crystal among 2 entries"),
        ([], "no usable crystal among 0 entries"),
    ],
)
def test_wrong_contents(tmp_path, entries, message):
    path = write_megnet(tmp_path / "bad.zip", entries)
    with pytest.raises(ValueError, match=message):
        MaterialsProject(tmp_path / "root", source=path, log=False)
    good = write_megnet(tmp_path / "good.zip", [entry(1)])
    assert len(MaterialsProject(tmp_path / "root", source=good, log=False)) == 1


def test_the_other_snapshot(tmp_path, snapshot):
    matbench = write_matbench(tmp_path / "m.json.gz", [[structure(4.0), -1.0]])
    with pytest.raises(
        ValueError, match="has the layout of Matbench, not the one of 'megnet2018'; check name and source"
    ):
        MaterialsProject(tmp_path / "root", source=matbench, log=False)
    with pytest.raises(ValueError, match="has the layout of MEGNet, not the one of 'matbench'; check name and source"):
        MaterialsProject(tmp_path / "root", "matbench", source=snapshot, log=False)


def test_matbench(tmp_path):
    rows = [[structure(4 + 0.01 * row), -0.1 * row] for row in range(13)]
    rows[5][1] = 3.0
    path = write_matbench(tmp_path / "matbench_mp_e_form.json.gz", rows)
    dataset = MaterialsProject(tmp_path / "root", "matbench", source=path, log=False)
    assert len(dataset) == 12
    assert dataset[5].material_id == "mb-mp-e-form-000007"
    assert dataset.report["folds"] == "of these 13 rows, not the official ones"
    # scikit-learn's KFold(5, shuffle=True, random_state=18012019) of 13 rows
    expected = [[1, 4, 11], [2, 3, 10], [7, 8, 12], [0, 5], [6, 9]]
    for number, rows_of_test in enumerate(expected):
        fold = dataset.fold(number)
        names = [dataset[int(place)].material_id for place in fold["test"]]
        assert names == [f"mb-mp-e-form-{row + 1:06d}" for row in rows_of_test if row != 5]
        assert sorted(fold["train"].tolist() + fold["test"].tolist()) == list(range(12))
    with pytest.raises(ValueError, match="expected a fold from 0 to 4, got 5"):
        dataset.fold(5)


def test_only_matbench_has_folds(tmp_path, snapshot):
    with pytest.raises(ValueError, match='only the snapshot "matbench" has folds'):
        MaterialsProject(tmp_path / "root", source=snapshot, log=False).fold(0)


def test_official_folds():
    """Of all 132,752 rows: size, sum and checksum of the sorted test rows as scikit-learn 1.x gives them."""
    sums = [1765557812, 1762333243, 1754451058, 1766390889, 1762747374]
    checksums = ["d904bb9b6a501a7a", "c5a57a516187199c", "7e0b21a51bed9830", "ed05c8b1fc415f22", "efce824f4a3274ad"]
    for number in range(5):
        rows = np.sort(materials_project.fold_rows(materials_project.MATBENCH_ROWS, number))
        assert int(rows.sum()) == sums[number]
        assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16] == checksums[number]


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_elements_one_after_another(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    elements = [{"a": [1, "]", '"', "é"]}, [], [[{}]], {"b": None}, "text, [", [1.5e300]]
    plain, inside = tmp_path / "plain.json", tmp_path / "inside.json"
    plain.write_text(json.dumps(elements), encoding="utf-8")
    inside.write_text(json.dumps({"index": [1, 2], "columns": ["data"], "data": elements}, indent=2))
    head, found = json_stream.head_and_elements(plain, "data")
    assert head is None
    assert list(found) == elements
    head, found = json_stream.head_and_elements(inside, "data")
    assert head == {"index": [1, 2], "columns": ["data"], "data": []}
    assert list(found) == elements


@pytest.mark.parametrize("kind", ["zip", "gzip", "plain"])
def test_damaged_files(tmp_path, kind):
    path, name = tmp_path / "raw", "matbench" if kind == "gzip" else "megnet2018"
    if kind == "gzip":
        write_matbench(path, [[structure(4 + 0.1 * row), -0.1 * row] for row in range(6)])
    else:
        write_megnet(path, [entry(row) for row in range(1, 7)])
    if kind == "plain":
        with zipfile.ZipFile(path) as archive:
            path.write_bytes(archive.read("mp.2018.6.1.json"))
    content, rng, messages = path.read_bytes(), np.random.default_rng(0), []
    for trial in range(80):
        damaged = bytearray(content[: rng.integers(len(content)) if trial % 2 else len(content)])
        for place in rng.integers(max(len(damaged), 1), size=rng.integers(0, 4)):
            if damaged:
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            dataset = MaterialsProject(tmp_path / str(trial), name, source=path, log=False)
        except (ValueError, OSError) as error:
            messages.append(str(error))
            assert not list((tmp_path / str(trial)).rglob("*.pt*"))
        else:
            assert dataset._data.pos.isfinite().all()
    assert len(messages) > 30
    assert min(map(len, messages)) > 20


def test_query(tmp_path, monkeypatch):
    asked = {}

    class Client:
        def __init__(self, api_key):
            asked["api_key"] = api_key
            self.materials = types.SimpleNamespace(summary=types.SimpleNamespace(search=self.search))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def get_database_version(self):
            return "2025.09.25"

        def search(self, **criteria):
            asked.update(criteria)
            for number, energy in ((20, -1.5), (3, None), (11, 0.25)):
                crystal = types.SimpleNamespace(as_dict=lambda: structure(4.0))
                yield types.SimpleNamespace(
                    material_id=f"mp-{number}", structure=crystal, formation_energy_per_atom=energy
                )

    module = types.ModuleType("mp_api.client")
    module.MPRester = Client
    monkeypatch.setitem(sys.modules, "mp_api", types.ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", module)
    path = MaterialsProject.query(tmp_path / "small.json.zip", "secret", num_sites=(1, 60))
    assert asked == {
        "api_key": "secret",
        "num_sites": (1, 60),
        "include_gnome": False,
        "deprecated": False,
        "fields": ["material_id", "structure", "formation_energy_per_atom"],
    }
    dataset = MaterialsProject(tmp_path / "root", "query", source=path, log=False)
    assert [(data.material_id, float(data.formation_energy)) for data in dataset] == [("mp-11", 0.25), ("mp-20", -1.5)]
    assert dataset.report["left_out"]["no_energy"] == 1
    assert dataset.report["query"]["database_version"] == "2025.09.25"
    assert dataset.report["query"]["query"]["num_sites"] == [1, 60]
    assert b"secret" not in path.read_bytes()
    with pytest.raises(ValueError, match="a snapshot is never replaced"):
        MaterialsProject.query(path)
    monkeypatch.setattr(Client, "search", lambda self, **_: iter(()))
    with pytest.raises(ValueError, match="no material fulfils {'elements': \\['Xx'\\]}"):
        MaterialsProject.query(tmp_path / "none.zip", elements=["Xx"])
    assert not list(tmp_path.glob("none*"))


def test_query_without_the_client(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mp_api", None)
    with pytest.raises(ImportError, match=r'pip install "pyg_schnet\[mp\]"'):
        MaterialsProject.query(tmp_path / "file.zip")


def test_bundled_alloys(tmp_path):
    dataset = MaterialsProject(tmp_path, "bundled", log=False)
    assert len(dataset) == dataset.report["rows"] >= 200
    assert set(dataset._data.z.tolist()) == {13, 28, 29, 46, 47, 78, 79}
    elements = [data for data in dataset if data.z.unique().numel() == 1][:1]
    # the first is fcc aluminium, the reference itself
    assert float(elements[0].formation_energy) == pytest.approx(0, abs=1e-9)


def test_bundled_energies_are_those_of_the_stored_crystals(tmp_path):
    ase, emt = pytest.importorskip("ase"), pytest.importorskip("ase.calculators.emt")
    dataset = MaterialsProject(tmp_path, "bundled", log=False)

    def energy(data):
        atoms = ase.Atoms(data.z.numpy(), data.pos.numpy(), cell=data.cell[0].numpy(), pbc=True)
        atoms.calc = emt.EMT()
        return atoms.get_potential_energy() / len(atoms)

    fcc = {int(data.z[0]): data for data in reversed(dataset[:28]) if data.z.numel() == 1}
    reference = {
        number: energy(min((d for d in dataset[:28] if d.z.tolist() == [number]), key=energy)) for number in fcc
    }
    for data in dataset[5::50]:
        expected = energy(data) - sum(reference[number] for number in data.z.tolist()) / len(data.z)
        # positions are float32 (1e-6 Angstrom at forces of some eV/Angstrom)
        assert float(data.formation_energy) == pytest.approx(expected, abs=2e-5)


def test_card_of_the_bundled_alloys():
    folder = bundled_path("emt_alloys")
    content = (folder / "mp.2018.6.1.json.zip").read_bytes()
    card = (folder / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    assert f"{len(content):,} bytes" in card
    assert len(content) < 2e6


@pytest.fixture(scope="module")
def published(tmp_path_factory, request):
    """All crystals of the published files, nothing left out."""
    import os

    if "PYG_SCHNET_DATA" not in os.environ:
        pytest.skip("PYG_SCHNET_DATA is not set")
    root, source = tmp_path_factory.mktemp("published"), os.environ["PYG_SCHNET_DATA"]
    return [MaterialsProject(root, name, source=source, log=False, **EVERYTHING) for name in ("megnet2018", "matbench")]


def test_published_files(published):
    megnet, matbench = published
    assert len(megnet) == 30_000
    assert len(matbench) == 2_000
    assert (megnet._data.formation_energy < -5).sum() == 2
    assert (megnet._data.formation_energy > 2).sum() == 10
    assert megnet._data.z.numel() == 776_182


def test_published_files_agree_where_they_overlap(published):
    megnet, matbench = published
    by_energy = {}
    for place, energy in enumerate(megnet._data.formation_energy.tolist()):
        by_energy.setdefault(energy, []).append(place)
    agree = 0
    for place, energy in enumerate(matbench._data.formation_energy.tolist()[:200]):
        other = matbench[place]
        for candidate in by_energy.get(energy, []) if energy else []:  # equal to all 16 digits: the same crystal
            data = megnet[candidate]
            assert data.z.sort().values.tolist() == other.z.sort().values.tolist()
            # the CIF text has eight decimals
            assert float(data.cell.det().abs()) == pytest.approx(float(other.cell.det().abs()), rel=1e-5)
            agree += 1
    assert agree > 20


def test_sites_in_cells_far_away(tmp_path):
    """Fractional coordinates are those of any image: the digits of the nearest one are kept."""
    far = structure(4.0)
    far["sites"][1]["abc"] = [2000.5, -1999.5, 0.5]
    rows = [[structure(4.0), -1.0], [far, -1.0]]
    path = write_matbench(tmp_path / "matbench_mp_e_form.json.gz", rows)
    near, far = MaterialsProject(tmp_path, "matbench", source=path, log=False)
    torch.testing.assert_close(far.pos, near.pos, rtol=0, atol=1e-6)
