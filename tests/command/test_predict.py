"""Predictions for files and parts: beside the labels, in every format, whole or not at all."""

import csv
import json
import time

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread, read, write

from pyg_schnet import Potential, SchNet
from pyg_schnet.command import predict as module
from pyg_schnet.command.predict import predict_file, predict_part
from pyg_schnet.command.predictor import Predictor
from pyg_schnet.command.shards import Shard
from pyg_schnet.models import Committee, CommitteePotential
from pyg_schnet.models.elements import TrainingSet, UnknownElementWarning
from pyg_schnet.simulation import atoms_to_data
from pyg_schnet.training import PotentialTask, PropertyTask


def arrays_in(path):
    with np.load(path) as file:
        return dict(file)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SchNet(8, 8, 1, num_gaussians=20, cutoff=5.0, cutoff_function="cosine", std=10.0).eval()


@pytest.fixture
def frames(tmp_path):
    """A labelled molecule, an unlabelled one, a crystal with a stress, a molecule in a box; and their file."""
    structures = [molecule("H2O"), molecule("CH4"), bulk("NaCl", "rocksalt", a=5.6), molecule("CO", cell=[6, 7, 8])]
    for number, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=number)
    structures[0].calc = SinglePointCalculator(structures[0], energy=-14.0, forces=np.ones((3, 3)))
    structures[2].calc = SinglePointCalculator(structures[2], energy=-3.0, stress=np.arange(6.0))
    structures[3].info |= {"config_type": "boxed", "gap": 7.0}
    write(tmp_path / "in.xyz", structures, format="extxyz")
    return read(tmp_path / "in.xyz", ":")


def expected(model, atoms):
    potential = CommitteePotential(model) if isinstance(model, Committee) else Potential(model)
    return potential(atoms_to_data(atoms), stress=bool(atoms.cell.rank == 3))


def check_fields(model, atoms, found):
    """Predictions of float32 tables, written with eight digits."""
    for name, value in expected(model, atoms).items():
        given = np.asarray(found[f"predicted_{name}"])
        right = value.squeeze(0).numpy() if name[:6] != "forces" else value.numpy()
        if name.startswith("stress") and given.shape == (6,):
            right = right[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(given, right, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("suffix", ["xyz", "extxyz", "traj", "db"])
def test_structures_keep_what_they_came_with(suffix, model, frames, tmp_path):
    committee = Committee([model, SchNet(8, 8, 1, num_gaussians=20, cutoff=5.0, std=10.0).eval()])
    path = predict_file(PotentialTask(model), committee, tmp_path / "in.xyz", tmp_path / f"out.{suffix}")
    back = list(iread(path, ":"))
    assert len(back) == len(frames)
    rows = list(ase.db.connect(path).select()) if suffix == "db" else [None] * len(frames)
    for before, after, row in zip(frames, back, rows, strict=True):
        assert after.numbers.tolist() == before.numbers.tolist()
        np.testing.assert_allclose(after.positions, before.positions, atol=1e-7)
        found = after.info | after.arrays if row is None else dict(row.data) | row.key_value_pairs
        check_fields(committee, before, found)
        assert "energy in eV" in found["predicted_units"]
        results = {} if after.calc is None else after.calc.results
        for name, value in ({} if before.calc is None else before.calc.results).items():
            np.testing.assert_allclose(results[name], value, atol=1e-7)
        if before.calc is None:  # ASE gives the predictions where there is nothing else
            assert results["energy"] == pytest.approx(found["predicted_energy"], rel=1e-9)
        else:
            assert results.keys() == before.calc.results.keys()
    found = back[3].info if suffix != "db" else rows[3].key_value_pairs
    assert (found["config_type"], found["gap"]) == ("boxed", 7.0)


def test_tables(model, frames, tmp_path):
    task = PotentialTask(model)
    paths = {
        end: predict_file(task, model, tmp_path / "in.xyz", tmp_path / f"out.{end}") for end in ("csv", "json", "npz")
    }
    with paths["csv"].open() as file:
        lines = list(csv.DictReader(file))
    rows = json.loads(paths["json"].read_text())
    assert rows["units"]["predicted_forces"] == "eV/Ang"
    arrays = arrays_in(paths["npz"])
    starts = np.cumsum([0, *arrays["atoms"]])
    for number, atoms in enumerate(frames):
        out = expected(model, atoms)
        energy = float(lines[number]["predicted_energy [eV]"])
        assert energy == pytest.approx(out["energy"].item(), abs=1e-5)
        assert rows["structures"][number]["predicted_energy"] == arrays["predicted_energy"][number] == energy
        forces = arrays["predicted_forces"][starts[number] : starts[number + 1]]
        np.testing.assert_allclose(forces, out["forces"], atol=2e-5)
        np.testing.assert_allclose(rows["structures"][number]["predicted_forces"], forces)
    assert [line["true_energy [eV]"] for line in lines] == ["-14.0", "", "-3.0", ""]
    assert np.isnan(arrays["true_energy"]).tolist() == [False, True, False, True]
    assert np.isnan(arrays["predicted_stress"]).all((1, 2)).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(arrays["true_stress"][2], [[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    np.testing.assert_array_equal(arrays["energy"], arrays["predicted_energy"])  # as before
    assert not [name for name in lines[0] if "forces" in name or "stress" in name]


def test_properties(frames, tmp_path):
    """Several targets, one of which the file has; not an energy to ASE, whatever its name."""
    model = SchNet(8, 8, 1, out_channels=2, readout="mean", num_gaussians=20, cutoff=5.0).eval()
    model.units = {"gap": "eV"}
    task = PropertyTask(model, ["gap", "energy"])
    found = read(predict_file(task, model, tmp_path / "in.xyz", tmp_path / "out.xyz"), ":")
    for before, after in zip(frames, found, strict=True):
        data = atoms_to_data(before)
        right = model(data.z, data.pos, cell=data.cell, pbc=data.pbc)[0]
        np.testing.assert_allclose(
            [after.info["predicted_gap"], after.info["predicted_energy"]], right.detach(), atol=1e-5
        )
        assert (after.calc is None) == (before.calc is None)
        assert after.info["predicted_units"] == "gap in eV"
    assert found[3].info["gap"] == 7.0
    with pytest.raises(ValueError, match="the model predicts 2 values, but the task has 1 targets"):
        predict_file(PropertyTask(model, ["gap"]), model, tmp_path / "in.xyz", tmp_path / "o.xyz")


def test_units_of_the_model_are_converted(model, frames, tmp_path):
    right = predict_file(PotentialTask(model), model, tmp_path / "in.xyz", tmp_path / "ev.npz")
    model.units = {"energy": "kcal/mol"}
    other = predict_file(PotentialTask(model), model, tmp_path / "in.xyz", tmp_path / "kcal.npz")
    for name in ("predicted_energy", "predicted_forces", "predicted_stress"):
        np.testing.assert_allclose(arrays_in(other)[name], 0.0433641 * arrays_in(right)[name], rtol=1e-5)


def test_parts_without_labels(model, frames, tmp_path):
    """A list of Data, some with a label."""
    structures = [atoms_to_data(atoms, labels=True) for atoms in frames]
    path = predict_part(PotentialTask(model), structures, model, tmp_path / "part.npz")
    arrays = arrays_in(path)
    assert np.isnan(arrays["true_energy"]).tolist() == [False, True, False, True]
    assert arrays["true_forces"].shape == arrays["predicted_forces"].shape
    bare = [atoms_to_data(atoms) for atoms in frames]
    back = read(predict_part(PotentialTask(model), bare, model, tmp_path / "part.xyz"), ":")
    for atoms, before in zip(back, frames, strict=True):
        check_fields(model, before, atoms.info | atoms.arrays)
    assert "true_energy" not in arrays_in(predict_part(PotentialTask(model), bare, model, tmp_path / "bare.npz"))


def test_nothing_is_overwritten_unasked(model, frames, tmp_path):
    given = PotentialTask(model), model, tmp_path / "in.xyz"
    path = predict_file(*given, tmp_path / "out.csv")
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"out.csv is there already; .* --overwrite true"):
        predict_file(*given, path)
    assert path.read_text() == "precious"
    assert predict_file(*given, path, overwrite=True).read_text() != "precious"
    before = (tmp_path / "in.xyz").read_bytes()
    (tmp_path / "link.xyz").symlink_to(tmp_path / "in.xyz")
    for same in ("in.xyz", "link.xyz"):
        with pytest.raises(ValueError, match="would replace the structures they are for"):
            predict_file(*given, tmp_path / same, overwrite=True)
    assert (tmp_path / "in.xyz").read_bytes() == before


def broken(tmp_path, name):
    """A file of 300 structures, of which number 200 is impossible."""
    structures = [molecule("H2O") for _ in range(300)]
    if name == "element":
        structures[200].numbers[1] = 0
    elif name == "place":
        structures[200].positions[1] = structures[200].positions[0]
    write(tmp_path / "b.xyz", structures, format="extxyz")
    if name == "text":
        lines = (tmp_path / "b.xyz").read_text().splitlines()
        lines[5 * 200 + 3] = "H zero zero zero"
        (tmp_path / "b.xyz").write_text("\n".join(lines))
    return tmp_path / "b.xyz"


@pytest.mark.parametrize("name", ["element", "place", "text"])
def test_broken_structures_are_named(name, model, tmp_path):
    """By number; what was there before stays, and nothing half-written."""
    path = tmp_path / "out.xyz"
    path.write_text("precious")
    with pytest.raises(ValueError, match=r"structure 200 cannot be predicted|cannot be read after 200 structures"):
        predict_file(PotentialTask(model), model, broken(tmp_path, name), path, overwrite=True)
    assert path.read_text() == "precious"
    assert {one.name for one in tmp_path.iterdir()} == {"out.xyz", "b.xyz"}


@pytest.mark.parametrize("suffix", ["xyz", "db", "npz", "traj"])
def test_interrupted_leaves_nothing(suffix, model, frames, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "each", stop)
    with pytest.raises(KeyboardInterrupt):
        predict_file(PotentialTask(model), model, tmp_path / "in.xyz", tmp_path / f"out.{suffix}")
    assert [one.name for one in tmp_path.iterdir()] == ["in.xyz"]


def test_unknown_elements(model, frames, tmp_path):
    model.training_set = TrainingSet({1: 10, 6: 5, 8: 5}, 5, 3)
    given = PotentialTask(model), model, tmp_path / "in.xyz"
    with pytest.warns(UnknownElementWarning, match=r"element Na \(11\), element Cl \(17\)"):
        predict_file(*given, tmp_path / "out.npz")
    with pytest.raises(ValueError, match=r"in.xyz, structure 2 cannot be predicted: .*element Na"):
        predict_file(*given, tmp_path / "strict.npz", strict=True)


@pytest.mark.parametrize(
    ("source", "output", "error", "message"),
    [
        ("none.xyz", "out.xyz", FileNotFoundError, "there is no file .*none.xyz with structures"),
        ("in.xyz", "out.cif", ValueError, r"must end with one of .xyz, .extxyz, .*, got out.cif"),
        ("empty.xyz", "out.xyz", ValueError, "holds no structures|cannot be read"),
    ],
)
def test_impossible_files(source, output, error, message, model, frames, tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(error, match=message):
        predict_file(PotentialTask(model), model, tmp_path / source, tmp_path / output)
    assert not (tmp_path / output).exists()


def test_fields_of_all_kinds_survive(model, tmp_path):
    """What ASE's writers stumble over: a field beside a result of its name, matrices of atoms, words of databases."""
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((3, 3)))
    atoms.info |= {"energy": 2.0, "id": 5, "name": "3", "matrix": np.eye(2), "dipole": np.ones(3)}
    atoms.arrays |= {"tensor": np.ones((3, 2, 2)), "tag": np.array(["a", "b", "c"])}
    write(tmp_path / "in.traj", atoms)
    for suffix in ("xyz", "db", "traj", "npz"):
        path = predict_file(PotentialTask(model), model, tmp_path / "in.traj", tmp_path / f"out.{suffix}")
        assert path.stat().st_size > 0
    structure = atoms_to_data(atoms)
    structure.tensor = torch.ones(3, 2, 2)
    path = predict_part(PotentialTask(model), [structure], model, tmp_path / "tensor.xyz")
    assert read(path).arrays["tensor"].shape == (3, 4)


def test_many_structures_take_little_time(model, tmp_path):
    """Batches, not one structure at a time, which would take a millisecond each at least."""
    structures = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 1e-4 * k]]) for k in range(1500)]
    data = [atoms_to_data(atoms) for atoms in structures]
    predictor = Predictor(PotentialTask(model), model)
    predictor.each(data[:2])
    start, found = time.process_time(), []
    for portion in module.batches(iter(data), lambda one: one.num_nodes):
        found += predictor.each(portion)
    assert len(found) == 1500
    assert time.process_time() - start < 1.0


_CIF = """data_{name}
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1.0
Cl1 Cl 0.5 0.5 0.5 {occupancy}
"""


def test_damaged_and_partly_occupied_crystals_are_left_out(model, tmp_path):
    """The others are predicted under their numbers, also by shards; only what is predicted has known values."""
    for name, occupancy in (("a", "1.0"), ("b", "0.5"), ("c", "1.0"), ("d", "1.0")):
        (tmp_path / f"{name}.cif").write_text(_CIF.format(name=name, occupancy=occupancy))
    (tmp_path / "c.cif").write_text(_CIF[:90])
    given = (PotentialTask(model), model, tmp_path)
    left_out = r"1 file: .*c\.cif cannot be read .*it lacks _cell_angle_beta.*; 1 crystal with .* in part: b\.cif"
    with pytest.warns(UserWarning, match=left_out):
        path = predict_file(*given, tmp_path / "out.csv")
    head, *lines = path.read_text().splitlines()
    assert [(line.split(",")[0], line.split(",")[3]) for line in lines] == [("0", "a.cif"), ("3", "d.cif")]
    assert "true_" not in head
    with pytest.warns(UserWarning, match=r"1 file: .*c\.cif cannot be read"):
        path = predict_file(*given, tmp_path / "out.csv", shard=Shard(2, 2))
    assert path.read_text().splitlines()[1:] == lines[1:]
    for name in "ad":
        (tmp_path / f"{name}.cif").unlink()
    with pytest.raises(ValueError, match="no structure of .* is left to predict; left out are 1 file: .*; 1 crystal"):
        predict_file(*given, tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()
