"""``pyg-schnet md`` and ``pyg-schnet relax``: files of many structures, going on after an interruption, refusals."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from pyg_schnet import SchNet, load, save
from pyg_schnet.command import main
from pyg_schnet.models import DTNN, Committee
from pyg_schnet.simulation import Dynamics
from pyg_schnet.simulation.ase import SchNetCalculator

ETHANOL = "md17-ethanol"


@pytest.fixture
def folder(tmp_path, monkeypatch, make_model):
    """Where commands run: a molecule as it is and shaken, a crystal, a model of both with weak forces."""
    shaken = molecule("CH3CH2OH")
    shaken.rattle(0.03, seed=1)
    ase.io.write(tmp_path / "two.xyz", [molecule("CH3CH2OH"), shaken])
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.02, seed=1)
    ase.io.write(tmp_path / "solid.xyz", atoms)
    save(make_model(mean=-3.0, std=0.05), tmp_path / "weak.safetensors")
    save(make_model(std=0.5), tmp_path / "strong.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*words):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words)])
    return str(stopped.value)


def test_dynamics_of_a_file_go_on(folder, capsys):
    """Two structures, two replicas each: interrupted at step 30 and made longer, the same as in one piece."""
    words = ["md", str(ETHANOL), "two.xyz", "--temperature", "250", "--interval", "6", "--replicas", "2", "--seed", "9"]
    main([*words, "--steps", "30"])
    said = capsys.readouterr().out
    assert "md.extxyz: 4 structures, 36 atoms, 30 steps, 0.015 ps" in said
    main([*words, "--steps", "50", "--resume", "true"])
    main([*words, "--steps", "50", "--output", "whole.extxyz"])
    assert (folder / "md.extxyz").read_bytes() == (folder / "whole.extxyz").read_bytes()
    frames = ase.io.read("md.extxyz", "1::4")
    assert [one.info["step"] for one in frames] == [0, 6, 12, 18, 24, 30, 36, 42, 48]
    expected = Dynamics(load(ETHANOL), ase.io.read("two.xyz", ":"), temperature=250, replicas=2, seed=9)
    expected.run(48)
    np.testing.assert_allclose(frames[-1].positions, expected.positions[9:18], atol=1e-8)
    capsys.readouterr()
    main([*words, "--steps", "50", "--resume", "true"])
    assert "50 steps are done already" in capsys.readouterr().out


def test_constant_energy_tells_its_drift(folder, capsys):
    main(
        ["md", str(ETHANOL), "two.xyz", "--temperature", "200", "--friction", "0", "--steps", "200", "--interval", "5"]
    )
    said = capsys.readouterr().out.splitlines()
    assert "meV/atom/ps at worst" in said[1]
    main(["md", "weak.safetensors", "solid.xyz", "--steps", "4", "--output", "solid.traj", "--dtype", "float64"])
    assert ase.io.read("solid.traj", -1).info["step"] == 0


def test_dynamics_under_pressure_go_on(folder, capsys):
    """Interrupted between two moves of the cell, the same as in one piece, and only at the same pressure."""
    words = ["md", "weak.safetensors", "solid.xyz", "--temperature", "250", "--interval", "4", "--pressure", "0.5"]
    words += ["--barostat", "full", "--pressure_time", "200", "--bulk_modulus", "25"]
    main([*words, "--steps", "13"])
    assert "at 0.5 GPa" in capsys.readouterr().out
    main([*words, "--steps", "24", "--resume", "true"])
    main([*words, "--steps", "24", "--output", "whole.extxyz"])
    assert (folder / "md.extxyz").read_bytes() == (folder / "whole.extxyz").read_bytes()
    first, *_, last = ase.io.read("md.extxyz", ":")
    assert np.abs(last.cell.array - first.cell.array).max() > 1e-5
    said = capsys.readouterr().out
    volume = float(said.split("volume of an atom ")[-1].split()[0])
    assert volume == pytest.approx(last.get_volume() / 2, rel=0.02)
    more = ["--steps", "30", "--resume", "true"]
    assert "begun with --pressure 0.5, got 1.0" in refusal(*words, *more, "--pressure", "1")
    assert "begun with --barostat full, got isotropic" in refusal(*words, *more, "--barostat", "isotropic")
    assert "structure 0 has no volume" in refusal(
        "md", "weak.safetensors", "two.xyz", "--temperature", "9", "--pressure", "0", "--output", "b.xyz"
    )


def test_refusals_of_dynamics(folder):
    words = ["md", ETHANOL, "two.xyz", "--steps", "4"]
    assert "there is no file none.xyz with structures" in refusal("md", ETHANOL, "none.xyz")
    assert "there is no file md.extxyz.restart to go on from" in refusal(*words, "--resume", "true")
    assert "--output must end in one of .extxyz, .xyz, .traj" in refusal(*words, "--output", "md.pdb")
    assert "there is no folder no" in refusal(*words, "--output", "no/md.xyz")
    assert "`timestep` must be finite and positive" in refusal(*words, "--timestep", "0")
    assert "did you mean 'timestep'?" in refusal(*words, "--timestp", "1")
    assert not list(folder.glob("md*"))
    main([*map(str, words)])
    kept = (folder / "md.extxyz").read_bytes()
    assert "is there already; name another file" in refusal(*words)
    assert "begun with --temperature None, got 300" in refusal(*words, "--temperature", "300", "--resume", "true")
    assert "another number of replicas" in refusal(*words, "--replicas", "2", "--resume", "true")
    assert "written with another model" in refusal("md", "weak.safetensors", "two.xyz", "--resume", "true")
    assert (folder / "md.extxyz").read_bytes() == kept
    broken = refusal("md", ETHANOL, "two.xyz", "--timestep", "30", "--temperature", "300", "--output", "b.xyz")
    assert "moved by more than 0.5 Angstrom at step" in broken
    assert ase.io.read("b.xyz", -1).info["step"] == 0


def test_relaxation_of_a_file(folder, capsys):
    main(["relax", str(ETHANOL), "two.xyz", "--fmax", "0.005"])
    assert "2 structures relaxed, no force above 0.005" in capsys.readouterr().out
    relaxed = ase.io.read("relaxed.extxyz", ":")
    model = load(ETHANOL)
    for one in relaxed:
        assert one.info["converged"]
        one.calc = SchNetCalculator(model, dtype=torch.float64)
        assert np.linalg.norm(one.get_forces(), axis=1).max() < 0.0051
    first, second = relaxed
    assert np.abs(first.get_all_distances() - second.get_all_distances()).max() < 0.05


def test_relaxation_goes_on_after_a_torn_frame(folder, capsys):
    words = ["relax", str(ETHANOL), "two.xyz", "--fmax", "0.02"]
    main(words)
    whole = (folder / "relaxed.extxyz").read_bytes()
    for size in (0, 100, len(whole) // 2 - 5, len(whole) - 3, len(whole)):
        (folder / "relaxed.extxyz").write_bytes(whole[:size])
        main([*words, "--resume", "true"])
        assert (folder / "relaxed.extxyz").read_bytes() == whole, size
    ase.io.write("other.xyz", molecule("H2O"))
    assert "is not of these structures" in refusal("relax", ETHANOL, "other.xyz", "--resume", "true")
    assert (folder / "relaxed.extxyz").read_bytes() == whole


def test_cells_relax_too(folder, capsys):
    main(["relax", "strong.safetensors", "solid.xyz", "--cell", "true", "--fmax", "0.005"])
    assert "1 structure relaxed" in capsys.readouterr().out
    relaxed = ase.io.read("relaxed.extxyz")
    assert abs(relaxed.get_volume() - ase.io.read("solid.xyz").get_volume()) > 1
    relaxed.calc = SchNetCalculator(load("strong.safetensors"))
    assert np.abs(relaxed.get_stress()).max() * relaxed.get_volume() < 0.01  # it was 0.025


def test_what_does_not_converge_is_said(folder, capsys):
    main(["relax", str(ETHANOL), "two.xyz", "--steps", "1"])
    assert "of which 2 still had forces above 0.01 eV/Angstrom after 1 steps (number 0, 1;" in capsys.readouterr().out
    assert [one.info["converged"] for one in ase.io.read("relaxed.extxyz", ":")] == [False, False]


def test_a_committee_of_several_kinds_relaxes(folder, make_model):
    members = [SchNet(8, 8, 1, 20, cutoff=4.0), DTNN(8, 8, 1, 20, cutoff=4.0)]
    for name, order in (("one", members), ("other", members[::-1])):
        Committee(order).save(folder / name)
        main(["relax", name, "two.xyz", "--steps", "1", "--output", f"{name}.extxyz"])
    one, other = (ase.io.read(f"{name}.extxyz").positions for name in ("one", "other"))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_refusals_of_relaxation(folder):
    ase.io.write("strange.xyz", [molecule("CH4"), Atoms("H2", np.zeros((2, 3)))])
    words = ["relax", "weak.safetensors", "two.xyz"]
    assert "--fmax must be a positive number" in refusal(*words, "--fmax", "0")
    assert "--steps must be at least 1" in refusal(*words, "--steps", "0")
    assert "structure 0 has no complete cell to relax" in refusal(*words, "--cell", "true")
    assert "name another file than two.xyz" in refusal(*words, "--output", "two.xyz", "--resume", "true")
    assert "two.xyz is there already" in refusal(*words, "--output", "two.xyz")
    assert "--output must end in one of .extxyz, .xyz" in refusal(*words, "--output", "a.traj")
    assert "strange.xyz, structure 1: " in refusal("relax", "weak.safetensors", "strange.xyz", "--steps", "2")
    assert len(ase.io.read("two.xyz", ":")) == 2
