"""From files of one's own to a trained model: three users, and what else files may hold."""

import csv
import gzip
import itertools
import json
import shlex
import sqlite3

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.units import kcal, mol

from pyg_schnet import load
from pyg_schnet.datasets import MD17, Trajectory
from pyg_schnet.models import read_header

SHORT = ["--trainer.max_steps", "3", "--model.warmup_steps", "0", "--trainer.accelerator", "cpu"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def settings(call, here):
    """The settings that are written for some files."""

    def written(*words):
        call("init", *words)
        return yaml.safe_load((here / "settings.yaml").read_text())

    return written


def task(found):
    return found["model"]["init_args"]


def data(found):
    return found["data"]["dataset"]["init_args"]


def ethanol(root, count=120, unit=1.0, name="forces"):
    frames = []
    for one in MD17(root, "ethanol_xtb", log=False)[:count]:
        atoms = Atoms(one.z.numpy(), one.pos.double().numpy(), info={"energy": (float(one.energy) - 3760.0) / unit})
        atoms.arrays[name] = one.forces.double().numpy() / unit
        frames.append(atoms)
    return frames


def with_emt(atoms, seed, amount=0.08):
    atoms = atoms.copy()
    atoms.rattle(amount, seed=seed)
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    results |= {"stress": atoms.get_stress()} if atoms.pbc.all() else {}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_a_chemist_with_frames(root, call, settings, here, capsys):
    """Frames in kcal/mol: four commands without an edit, from the file to a picosecond."""
    write("frames.xyz", ethanol(root, unit=kcal / mol), format="extxyz")
    found = settings("frames.xyz")
    said = capsys.readouterr().out
    assert "120 of 9 atoms, open: C2H6O" in said
    assert data(found)["energy_unit"] == "kcal/mol"
    network = task(found)["model"]["init_args"]
    assert (network["cutoff"], network["num_gaussians"], network["cutoff_function"]) == (5.0, 50, "polynomial")
    assert 0.003 <= task(found)["rho"] <= 0.03
    assert found["data"]["split"] == "block"
    call("fit", "--config", "settings.yaml", *SHORT)
    model = load("results/frames")
    assert model.elements == [1, 6, 8]
    energies = [atoms.get_potential_energy() * kcal / mol for atoms in read("frames.xyz", ":")]
    assert float(model.reference.mean) * 9 == pytest.approx(np.mean(energies), abs=0.1)
    for line in said.splitlines()[-2:]:  # the commands that it names are commands
        words = line.split()
        assert words[0] == "pyg-schnet"
        call(*(["20" if before == "--steps" else word for before, word in itertools.pairwise(words)]))
    report = json.loads((here / "results/frames/test/report.json").read_text())
    assert report["targets"]["energy"]["unit"] == "kcal/mol"
    assert len(read("md.extxyz", ":")[-1]) == 9


def test_a_molecule_in_a_box_with_a_file_for_tests(root, call, settings, here):
    """Forces of another name; the box is too wide to matter; the names of the files tell what they are for."""
    frames = ethanol(root, 60, name="force")
    for atoms in frames:
        atoms.set_cell([25.0] * 3)
        atoms.center()
        atoms.pbc = True
    write("mol_train.xyz", frames[:45], format="extxyz")
    write("mol_test.xyz", frames[45:], format="extxyz")
    found = settings("mol_train.xyz", "mol_test.xyz")
    assert data(found)["forces_key"] == "force"
    assert data(found)["pbc"] is False
    assert data(found)["test"] == str(here / "mol_test.xyz")
    assert (found["data"]["split"], found["data"]["num_val"]) == ("files", 4)
    call("fit", "--config", "settings.yaml", *SHORT)
    training = read_header(here / "results/mol/model.safetensors")["training"]
    assert training["num_val"] == 4
    assert training["num_train"] in {40, 41}  # whole runs of four or five frames are taken out
    call("test", "--config", "results/mol/config.yaml")
    assert json.loads((here / "results/mol/test/report.json").read_text())["facts"]["structures"] == 15


@pytest.mark.parametrize("per_atom", [True, False])
def test_a_materials_scientist_with_cifs(call, settings, here, capsys, per_atom):
    """A folder of CIFs and a table in it; whether the property grows with size is seen from the numbers."""
    (here / "cifs").mkdir()
    rows = [["material_id", "value (eV)", "source"]]
    for number in range(24):
        size = 1 + number % 3
        atoms = with_emt(bulk(("Cu", "Ag", "Au", "Al")[number % 4]) * (1, 1, size), number)
        write(f"cifs/mp-{number}.cif", atoms)
        value = atoms.get_potential_energy() + 3.0 * size
        rows.append([f"mp-{number}", value / size if per_atom else value, "EMT"])
    with open("cifs/table.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = settings("cifs")
    assert found["model"]["class_path"].endswith("PropertyTask")
    assert task(found)["targets"] == ["value"]
    assert task(found)["model"]["init_args"]["readout"] == ("mean" if per_atom else "add")
    assert data(found) == {"path": str(here / "cifs"), "table": str(here / "cifs" / "table.csv")}
    call("fit", "--config", "settings.yaml", *SHORT)
    call("predict", "--config", "results/cifs/config.yaml", "--input", "cifs", "--output", "out.csv")
    with open("out.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == sorted(f"mp-{number}.cif" for number in range(24))
    assert np.isfinite([float(line["predicted_value [eV]"]) for line in lines]).all()


def test_crystals_with_stress(call, settings, here):
    frames = [with_emt(bulk("Cu", cubic=True) * (1, 1, 1), seed) for seed in range(40)]
    write("cu.traj", frames)
    found = settings("cu.traj")
    forces = np.mean([(atoms.get_forces() ** 2).sum(axis=1).mean() for atoms in frames])
    stresses = np.mean([(atoms.get_stress(voigt=False) ** 2).sum() for atoms in frames])
    assert task(found)["rho_stress"] == pytest.approx(min(max(forces / stresses, 10), 1000), rel=0.3)
    assert task(found)["model"]["init_args"]["cutoff"] == 6.0
    call("fit", "--config", "settings.yaml", *SHORT)
    call("test", "--config", "results/cu/config.yaml")
    assert "stress" in json.loads((here / "results/cu/test/report.json").read_text())["targets"]


@pytest.mark.parametrize("key", ["stress", "virial"])
def test_stresses_beside_open_frames_and_slabs(call, settings, here, capsys, key):
    """Zeros stand where there is none; a name that the data set does not look for by itself is written."""
    frames = []
    for seed in range(30):
        atoms = bulk("Cu", cubic=True)
        atoms.pbc = [True, seed % 3 != 1, seed % 3 == 0]
        if seed % 3 == 2:
            atoms.cell, atoms.pbc = None, False
        known = with_emt(atoms, seed)
        stress = known.get_stress(voigt=False) if atoms.pbc.all() else np.zeros((3, 3))
        made = Atoms(known.numbers, known.positions, cell=known.cell, pbc=known.pbc)
        made.info = {"energy": known.get_potential_energy()}
        made.info[key] = stress if key == "stress" else -stress * (known.get_volume() if atoms.pbc.all() else 0)
        made.arrays["forces"] = known.get_forces()
        frames.append(made)
    write("cu.xyz", frames, format="extxyz")
    found = settings("cu.xyz")
    assert "20 structures have a stress but no complete periodic cell" in capsys.readouterr().out
    assert task(found)["rho_stress"] >= 10
    assert data(found).get("virial_key") == ("virial" if key == "virial" else None)
    call("fit", "--config", "settings.yaml", *SHORT)
    (here / "settings.yaml").unlink()
    write("open.xyz", [one for one in frames if not one.pbc.any()] * 2, format="extxyz")
    assert "rho_stress" not in task(settings("open.xyz"))


def test_several_molecules_go_whole_into_a_part(call, settings, here):
    """Twelve molecules, four frames each, named; energies of compositions by least squares, energies count more."""
    names = ["CH4", "C2H6", "C2H4", "C2H2", "CH3OH", "H2O", "NH3", "CH3CH2OH", "H2CO", "HCN", "CO2", "N2"]
    frames = []
    for name in names:
        for seed in range(4):
            atoms = with_emt(molecule(name), seed)
            atoms.info |= {"Molecule": name, "config_type": "rattled"}
            frames.append(atoms)
    write("many.extxyz", frames)
    found = settings("many.extxyz")
    assert (found["data"]["split"], found["data"]["group_key"]) == ("group", "Molecule")
    assert task(found)["references"] == "fit"
    assert 0.01 <= task(found)["rho"] <= 0.1
    call("fit", "--config", "settings.yaml", *SHORT)
    with np.load("results/many/split.npz") as split:
        kinds = [{names[i // 4] for i in split[part].tolist()} for part in ("train", "val", "test")]
    assert not any(one & other for one, other in itertools.combinations(kinds, 2))


def test_energies_alone_in_other_capitals(call, settings, here):
    frames = [with_emt(molecule("CH4"), seed) for seed in range(30)]
    bare = [Atoms(a.numbers, a.positions, info={"Total_Energy": a.get_potential_energy()}) for a in frames]
    write("bare.xyz", bare, format="extxyz")
    found = settings("bare.xyz")
    assert data(found)["energy_key"] == "Total_Energy"
    assert task(found)["forces"] is False
    call("fit", "--config", "settings.yaml", *SHORT)
    assert (here / "results/bare/model.safetensors").exists()


def test_neighbouring_frames_of_a_trajectory_are_kept_apart(settings, here):
    """A slow oscillation: as many frames are left out between the parts as it takes to forget."""
    write("slow.xyz", oscillating(400), format="extxyz")
    found = settings("slow.xyz")["data"]
    assert found["split"] == "block"
    assert 8 <= found["gap"] <= 16  # a quarter of a period is 12.6 frames


def oscillating(count, element="H"):
    """Frames of a slow oscillation, which resemble their neighbours."""
    time = np.arange(count)
    energies = np.sin(time / 8)
    places = [[[0, 0, 0], [0, 0, 0.75 + 0.05 * energy]] for energy in energies]
    return [Atoms(f"{element}2", pos, info={"energy": e}) for pos, e in zip(places, energies, strict=True)]


@pytest.mark.parametrize("more", ["single atoms", "compositions"])
def test_a_trajectory_is_one_beside_other_structures(settings, more):
    """Neighbouring frames are never drawn at random into different parts."""
    if more == "single atoms":
        frames = [Atoms(one, info={"energy": -1.0}) for one in ("H", "O", "N")] + oscillating(150)
    else:
        frames = [frame for element in "HNO" for frame in oscillating(60, element)]
    write("frames.xyz", frames, format="extxyz")
    found = settings("frames.xyz")["data"]
    assert found["split"] == "block"
    assert found["gap"] > 0
    assert found.get("blocks", 10) == (10 if more == "single atoms" else 15)


def test_copies_and_single_atoms_are_not_held_out(call, settings, capsys):
    atoms = [Atoms(one, info={"energy": energy}) for one, energy in (("H", -13.0), ("C", -1000.0))]
    some = [with_emt(molecule("CH4"), seed) for seed in range(15)]
    frames = [Atoms(a.numbers, a.positions, info={"energy": a.get_potential_energy()}) for a in some]
    write("frames.xyz", [*atoms, *frames, *frames], format="extxyz")
    settings("frames.xyz")
    call("fit", "--config", "settings.yaml", *SHORT)
    said = capsys.readouterr().err
    assert "copies of others in another part of the split" in said
    with np.load("results/frames/split.npz") as split:
        parts = {name: split[name] for name in ("train", "val", "test")}
    assert {0, 1} <= set(parts["train"].tolist())
    of = {name: {(one - 2) % 15 for one in part.tolist() if one > 1} for name, part in parts.items()}
    assert not any(of[one] & of[other] for one, other in itertools.combinations(of, 2))


def test_structures_to_test_on_are_not_trained_with(call, settings, here, capsys):
    """A file to test on that repeats a part of the file to train with."""
    frames = [with_emt(molecule("CH4"), seed) for seed in range(30)]
    write("train.xyz", frames, format="extxyz")
    write("test.xyz", frames[:10], format="extxyz")
    settings("train.xyz", "test.xyz")
    call("fit", "--config", "settings.yaml", *SHORT)
    assert "10 structures are left out: they are copies" in capsys.readouterr().err
    (run,) = (here / "results").iterdir()
    with np.load(run / "split.npz") as split:
        assert len(split["test"]) == 10
        assert not set(range(10)) & set(split["train"].tolist())


def test_nothing_is_replaced_and_units_can_be_said(root, call, here):
    write("frames.xyz", ethanol(root, 30), format="extxyz")
    (here / "settings.yaml").write_text("mine")
    with pytest.raises(
        SystemExit, match=r"settings.yaml exists already and is not replaced; name another file with --out"
    ):
        call("init", "frames.xyz")
    assert (here / "settings.yaml").read_text() == "mine"
    call("init", "frames.xyz", "--output", "other.yaml", "--energy-unit", "kJ/mol", "--forces-unit", "eV/Ang")
    found = yaml.safe_load((here / "other.yaml").read_text())
    assert data(found)["energy_unit"] == "kJ/mol"
    assert data(found)["forces_unit"] == "eV/Ang"


def test_what_is_in_a_folder(call, settings, here, capsys):
    """Compressed files are read; what is not read is named, and so are lines of a table without a file."""
    (here / "cifs").mkdir()
    for number in range(12):
        write(f"cifs/mp-{number}.cif", bulk("NaCl", "rocksalt", a=5 + number / 10))
    packed = here / "cifs" / "mp-3.cif"
    packed.with_name("mp-3.cif.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    rows = [f"mp-{number},{number / 7}" for number in range(14)]
    (here / "cifs" / "gaps.csv").write_text("\n".join(["id,gap", *rows]))
    (here / "cifs" / "notes.txt").write_text("mine")
    settings("cifs")
    said = " ".join(capsys.readouterr().out.split())
    assert "12 of 2 atoms" in said
    assert "not read notes.txt structures" in said
    assert "odd 2 lines of gaps.csv are of no file: mp-12, mp-13" in said
    (here / "settings.yaml").unlink()
    (here / "cifs" / "more.csv").write_text("id,gap\nmp-1,1\n")
    with pytest.raises(SystemExit, match=r"properties with --table \(beside the files: gaps.csv, more.csv\)"):
        call("init", "cifs")
    with pytest.raises(SystemExit, match=r"gaps.csv is a table, which alone has no structures; .*from_smiles"):
        call("init", "cifs/gaps.csv")


def test_an_energy_that_is_a_text(call, here):
    """The number is there, but its unit makes it a word."""
    frames = [molecule("CH4") for _ in range(12)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=number)
        atoms.info["REF_energy"] = f"-{number}.5 eV"
    write("f.xyz", frames, format="extxyz")
    with pytest.raises(
        SystemExit, match="'REF_energy' is a text, '-0.5 eV': write the number alone, and name its unit"
    ):
        call("init", "f.xyz")


def test_gradients_are_learnt_as_forces(root, settings, here):
    """Their sign is turned by the settings; a field of that name needs nothing said."""
    frames = ethanol(root, 60, name="gradient")
    for atoms in frames:
        atoms.arrays["gradient"] *= -1
    write("frames.xyz", frames, format="extxyz")
    found = data(settings("frames.xyz"))
    assert (found["forces_key"], found["forces_sign"]) == ("gradient", -1)
    dataset = Trajectory(here, **found, log=False)
    np.testing.assert_allclose(dataset[5].forces, -frames[5].arrays["gradient"], rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="`forces_sign` must be 1 or -1, got 0"):
        Trajectory(here, "frames.xyz", forces_sign=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_virials_are_learnt_as_stresses(settings, here, sign):
    frames = []
    for seed in range(24):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array * (0.98 + 0.002 * seed), scale_atoms=True)
        atoms = with_emt(atoms, seed)
        virial = -sign * atoms.get_stress(voigt=False) * atoms.get_volume()
        frames.append(Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True))
        frames[-1].info = {"energy": atoms.get_potential_energy(), "virial": virial}
        frames[-1].arrays["forces"] = atoms.get_forces()
    write("frames.xyz", frames, format="extxyz")
    found = data(settings("frames.xyz"))
    assert found["virial_key"] == "virial"
    dataset = Trajectory(here, **found, log=False)
    np.testing.assert_allclose(dataset[23].stress[0], atoms.get_stress(voigt=False), rtol=1e-4, atol=1e-6)


def test_energies_of_zero_among_others_are_refused(root, call, here):
    frames = ethanol(root, 30)
    frames[4].info["energy"] = 0.0
    write("frames.xyz", frames, format="extxyz")
    with pytest.raises(SystemExit, match="the energy of 1 structure is exactly 0 .* leave them out, or write nan"):
        call("init", "frames.xyz")
    assert not (here / "settings.yaml").exists()


def broken(kind):
    if kind == "cut":
        text = "9\nProperties=species:S:1:pos:R:3 energy=1\nC 0 0 0\n"
    elif kind == "words":
        text = "once upon a time\n"
    else:
        text = ""
    with open("broken.xyz", "w") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (lambda: broken("cut"), "broken.xyz", "broken.xyz cannot be read after 0 structures"),
        (lambda: broken("words"), "broken.xyz", "broken.xyz cannot be read after 0 structures"),
        (lambda: broken("empty"), "broken.xyz", "broken.xyz"),
        (lambda: sqlite3.connect("a.db").close(), "a.db", "a.db"),
        (lambda: None, "nowhere.xyz", "found no nowhere.xyz"),
        (
            lambda: write("one.xyz", molecule("CH4")),
            "one.xyz",
            "there is nothing to learn: no energy and no other number",
        ),
        (
            lambda: write("few.xyz", [with_emt(molecule("CH4"), s) for s in range(3)]),
            "few.xyz",
            "3 structures with a known energy are too few",
        ),
        (
            lambda: write("same.xyz", [with_emt(molecule("CH4"), 1)] * 12),
            "same.xyz",
            "only 1 of 12 structures differ from one another, too few",
        ),
        (
            lambda: write("f.xyz", [with_emt(molecule("CH4"), s) for s in range(12)]),
            "f.xyz --group-key mol",
            r"no structure has a field 'mol' \(--group_key\)",
        ),
        (
            lambda: write("f.xyz", [with_emt(molecule("CH4"), s) for s in range(12)]),
            "f.xyz --target gap",
            "--target must be a number of each structure, energy; got 'gap'",
        ),
    ],
    ids=["cut", "words", "empty", "empty database", "absent", "no label", "few", "same", "group", "target"],
)
def test_broken_files_are_one_sentence(call, here, make, words, message):
    make()
    with pytest.raises(SystemExit, match=message) as ended:
        call("init", *words.split())
    assert str(ended.value).startswith("pyg-schnet: ")
    assert "\n" not in str(ended.value)
    assert not (here / "settings.yaml").exists()


def numbered(names, forces="forces", count=12):
    """A file whose frames have numbers of some names, all different, and forces."""
    frames = [with_emt(molecule("CH4"), seed) for seed in range(count)]
    made = []
    for place, one in enumerate(frames):
        info = {name: one.get_potential_energy() + (-place if number else 0) for number, name in enumerate(names)}
        made.append(Atoms(one.numbers, one.positions, info=info))
        if forces:
            made[-1].arrays[forces] = one.get_forces()
    write("frames.xyz", made, format="extxyz")


@pytest.mark.parametrize(
    ("names", "forces", "message"),
    [
        (
            ["U", "step"],
            "forces",
            "there are forces, 'forces', but .* the numbers are U, step: name .* with --energy_key",
        ),
        (["energy_per_atom"], "forces", "the numbers are energy_per_atom: name"),
        (["gap", "homo", "nsites"], "", "gap and homo could be learnt; name one of them with --target"),
        (
            ["step", "temperature"],
            "",
            "no energy and no other number that varies but step, temperature; the fields are",
        ),
        (["pbe_energy", "mp2_energy"], "forces", "mp2_energy and pbe_energy differ, .* name them with --energy_key"),
    ],
)
def test_what_to_learn_is_not_guessed(call, here, names, forces, message):
    numbered(names, forces)
    with pytest.raises(SystemExit, match=message):
        call("init", "frames.xyz")
    assert not (here / "settings.yaml").exists()


@pytest.mark.parametrize(
    ("names", "words", "learns"),
    [
        (["E0", "step", "time"], [], "energy 'E0', forces 'forces'"),
        (["U", "step"], ["--energy_key", "U"], "energy 'U', forces 'forces'"),
        (["U", "gap"], ["--target", "gap"], "'gap', not the forces"),
        (["mp2_energy", "pbe_energy"], ["--energy_key", "pbe_energy"], "energy 'pbe_energy', forces 'forces'"),
    ],
)
def test_it_is_said_what_is_learnt(settings, here, capsys, names, words, learns):
    numbered(names)
    found = settings("frames.xyz", *words)
    assert f"learns        {learns}\n" in capsys.readouterr().out
    if "gap" in learns:
        assert task(found)["targets"] == ["gap"]
    else:
        assert f"'{data(found)['energy_key']}'" in learns


def test_the_only_property_of_a_table(settings, here):
    """Numbers that describe a crystal are passed over."""
    (here / "cifs").mkdir()
    rows = ["material_id,nsites,spacegroup_number,band_gap"]
    for number in range(12):
        write(f"cifs/m-{number}.cif", bulk("NaCl", "rocksalt", a=5 + number / 20))
        rows.append(f"m-{number},{2 + number % 2},{225 - number % 3},{number / 10}")
    (here / "cifs/id_prop.csv").write_text("\n".join(rows))
    assert task(settings("cifs"))["targets"] == ["band_gap"]


@pytest.mark.parametrize(("apart", "rho"), [(0.0, 0.01), (1.0, 0.0316), (30.0, 0.1)])
def test_weight_of_energies(settings, here, apart, rho):
    """Means of ten molecules differ by so many spreads of each: the share of the variance between them decides."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(400):
        atoms = Atoms("HF", [[0, 0, 0], [0, 0, 0.9 + rng.normal() / 30]], info={"mol": f"m{number % 10}"})
        atoms.info["energy"] = rng.normal() + apart * (-1) ** (number % 10) - 2700
        atoms.arrays["forces"] = rng.normal(size=(2, 3))
        frames.append(atoms)
    write("m.xyz", frames, format="extxyz")
    assert task(settings("m.xyz"))["rho"] == pytest.approx(rho, rel=0.35)


def test_periodic_axes_without_a_lattice_are_open(call, settings, here):
    frames = [with_emt(molecule("CH4"), s) for s in range(12)]
    for one in frames:
        one.pbc = True
    write("frames.xyz", frames, format="extxyz")
    assert data(settings("frames.xyz"))["pbc"] is False
    assert Trajectory(here, "frames.xyz", pbc=False, log=False)[0].get("pbc") is None


def test_one_file_to_validate_on_by_its_option(settings, here):
    frames = [with_emt(molecule("CH3CH2OH"), seed) for seed in range(30)]
    write("a.xyz", frames[:20], format="extxyz")
    write("b.xyz", frames[20:], format="extxyz")
    found = settings("a.xyz", "--val", "b.xyz")
    assert data(found)["val"] == str(here / "b.xyz")


def test_commands_are_quoted_and_each_run_has_a_folder_of_its_own(settings, here, capsys):
    """Names with spaces and quotes; a run of another file of the same name is there."""
    (here / "a user's").mkdir()
    (here / "results/frames").mkdir(parents=True)
    frames = [with_emt(molecule("CH4"), seed) for seed in range(12)]
    write("a user's/frames.xyz", frames, format="extxyz")
    assert settings("a user's/frames.xyz")["trainer"]["directory"] == "results/frames-2"
    words = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert words[0] == ["pyg-schnet", "test", "--config", "results/frames-2/config.yaml"]
    assert words[1][:4] == ["pyg-schnet", "md", "results/frames-2", "a user's/frames.xyz"]
