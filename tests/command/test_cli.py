"""The command line: a run from a file of settings, its reports and predictions, a committee, refusals."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.units
import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule
from ase.io import read, write

from pyg_schnet import Potential, load
from pyg_schnet.command.data import with_absolute_paths
from pyg_schnet.datasets import MD17, load_split
from pyg_schnet.models import Committee, CommitteePotential, read_header
from pyg_schnet.nn import ZBLRepulsion
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.training import RunTrainer, read_checkpoint

from .conftest import write_settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root):
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    from pyg_schnet.command import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pyg-schnet"])
        main(["fit", "--config", str(write_settings(folder, root))])
    return folder / "run"


def test_fit_leaves_all_that_is_needed(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"model.safetensors", "best.ckpt", "last.ckpt", "split.npz", "config.yaml", "done.json", "log"} <= names
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert settings["seed_everything"] == 1
    assert settings["model"]["init_args"]["learning_rate"] == 5e-3
    assert not {"resume", "members", "config"} & set(settings)
    training = read_header(trained / "model.safetensors")["training"]
    assert training["seed"] == 1
    assert training["num_train"] == 64
    assert json.loads((trained / "done.json").read_text())["steps"] == training["steps"] == 8


def test_test_reports_the_errors_of_the_model(trained, root, call, capsys):
    call("test", "--config", trained / "config.yaml", "--unit", "meV")
    report = json.loads((trained / "test" / "report.json").read_text())
    assert "| energy | meV |" in capsys.readouterr().out
    for name in ("report.md", "errors.png", "parity.png"):
        assert (trained / "test" / name).stat().st_size > 500
    dataset = MD17(root, "ethanol_xtb", log=False)
    potential = Potential(load(trained / "model.safetensors"))
    errors = [
        float((potential(dataset[int(i)])["energy"] - dataset[int(i)].energy).abs())
        for i in load_split(trained / "split.npz", dataset)["test"]
    ]
    assert report["facts"]["structures"] == len(errors) == 48
    assert report["facts"]["steps"] == 8
    assert report["targets"]["energy"]["mae"] == pytest.approx(1000 * np.mean(errors), rel=1e-4)  # float32
    assert report["targets"]["forces"]["unit"] == "meV/Ang"


def test_predictions_of_a_part_and_of_a_file(trained, root, call, tmp_path):
    call("predict", "--config", trained / "config.yaml", "--part", "val")
    with np.load(trained / "val.npz") as file:
        arrays = dict(file)
    assert arrays["energy"].shape == (32,)
    assert arrays["forces"].shape == (32 * 9, 3)
    dataset = MD17(root, "ethanol_xtb", log=False)
    first = dataset[int(load_split(trained / "split.npz", dataset)["val"][0])]
    expected = Potential(load(trained / "model.safetensors"))(first)
    np.testing.assert_allclose(arrays["energy"][0], expected["energy"].item(), atol=1e-5)
    from ase import Atoms

    write(tmp_path / "in.xyz", [Atoms(first.z.numpy(), first.pos.numpy())] * 2)
    call("predict", "--config", trained / "config.yaml", "--input", tmp_path / "in.xyz", "--output", tmp_path / "o.xyz")
    frames = read(tmp_path / "o.xyz", index=":")
    assert len(frames) == 2
    np.testing.assert_allclose(frames[1].get_potential_energy(), expected["energy"].item(), atol=1e-4)
    np.testing.assert_allclose(frames[1].get_forces(), expected["forces"].numpy(), atol=1e-4)


def test_reports_are_in_the_unit_of_the_task(trained, call, capsys):
    """That of its settings unless another is asked for; energy per atom and references alone stand beside."""
    reports = {}
    for unit in ("kcal/mol", "eV"):
        call("test", "--config", trained / "config.yaml", "--model.energy_unit", unit)
        reports[unit] = json.loads((trained / "test" / "report.json").read_text())["targets"]
        assert f"| energy_per_atom | {unit}/atom |" in capsys.readouterr().out
    for name, targets in reports["eV"].items():
        assert targets["mae"] == pytest.approx(0.0433641 * reports["kcal/mol"][name]["mae"], rel=1e-5)
    assert {name: target["unit"] for name, target in reports["eV"].items()} == {
        "energy": "eV",
        "energy_per_atom": "eV/atom",
        "forces": "eV/Ang",
    }
    energy = reports["eV"]["energy"]
    assert reports["eV"]["energy_per_atom"]["mae"] == pytest.approx(energy["mae"] / 9, rel=1e-9)
    assert energy["mae_of_references"] > 0


def test_a_run_is_used_from_everywhere(trained, root, call, tmp_path, monkeypatch):
    """From another folder, after it was moved, and without its data, if they are not asked for."""
    moved = shutil.copytree(trained, tmp_path / "elsewhere" / "moved")
    settings = yaml.safe_load((moved / "config.yaml").read_text())
    settings["trainer"]["directory"] = "run"
    gone = settings["data"]["dataset"]["init_args"] | {"root": str(tmp_path / "gone"), "source": str(tmp_path / "none")}
    settings["data"]["dataset"]["init_args"] = gone
    (moved / "config.yaml").write_text(yaml.safe_dump(settings))
    write(tmp_path / "in.xyz", molecule("CH3CH2OH"))
    monkeypatch.chdir(tmp_path)
    call("predict", "--config", "elsewhere/moved/config.yaml", "--input", "in.xyz")
    assert read(moved / "predictions.xyz").info["predicted_energy"]
    with pytest.raises(SystemExit, match="predictions.xyz is there already; .*--overwrite true"):
        call("predict", "--config", "elsewhere/moved/config.yaml", "--input", "in.xyz")
    for weights in (moved, moved / "best.ckpt", moved / "model.safetensors"):
        words = ["--input", "in.xyz", "--output", f"{weights.name}.csv", "--weights", weights]
        call("predict", "--config", "elsewhere/moved/config.yaml", *words)
    with pytest.raises(SystemExit, match="there is no model file nowhere"):
        call("predict", "--config", "elsewhere/moved/config.yaml", "--input", "in.xyz", "--weights", "nowhere")


def test_paths_in_the_settings_of_a_run_are_absolute(trained, root):
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert settings["data"]["dataset"]["init_args"]["root"] == str(root)
    given = {"dataset": {"init_args": {"root": "data", "path": [__file__, "none.xyz"]}}, "split": "random"}
    found = with_absolute_paths(given)
    assert found["dataset"]["init_args"] == {"root": str(Path.cwd() / "data"), "path": [__file__, "none.xyz"]}
    assert found["split"] == "random"


def test_interrupted(root, call, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyg_schnet.command.cli.load_trained", stop)
    with pytest.raises(SystemExit) as ended:
        call("test", "--config", write_settings(tmp_path, root))
    assert ended.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_existing_run_is_refused_and_can_be_prolonged(root, call, tmp_path):
    settings = write_settings(tmp_path, root)
    call("fit", "--config", settings)
    with pytest.raises(SystemExit, match="already holds a run; go on with it"):
        call("fit", "--config", settings)
    call("fit", "--config", settings, "--resume", "true", "--trainer.max_steps", "12")
    assert json.loads((tmp_path / "run" / "done.json").read_text())["steps"] == 12


def test_trained_weights_are_trained_further(trained, root, call, tmp_path):
    """They are kept in the folder, so that the run goes on without their file; other architectures are refused."""
    settings, weights = write_settings(tmp_path, root, max_steps=4), trained / "model.safetensors"
    call("fit", "--config", settings, "--weights", trained)  # the folder of its run
    start, model = load(tmp_path / "run" / "start.safetensors"), load(tmp_path / "run" / "model.safetensors")
    assert torch.equal(start.embedding.weight, load(weights).embedding.weight)
    assert torch.equal(start.reference.std, model.reference.std)
    # four steps of 5e-3 from there; drawn anew they would be far off
    assert float((start.embedding.weight - model.embedding.weight).abs().max().detach()) < 4 * 5e-3 + 1e-6
    assert read_header(tmp_path / "run" / "model.safetensors")["training"]["weights"] == str(trained)
    call("fit", "--config", tmp_path / "run" / "config.yaml", "--resume", "true", "--trainer.max_steps", "8")
    whole = ["--trainer.directory", tmp_path / "whole", "--trainer.max_steps", "8"]
    call("fit", "--config", settings, "--weights", weights, *whole)
    parts, whole = (load(tmp_path / name / "model.safetensors").state_dict() for name in ("run", "whole"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    other = ["--model.model.init_args.cutoff", "5.0", "--trainer.directory", tmp_path / "other"]
    with pytest.raises(SystemExit, match=r"another architecture: cutoff is 6\.0 there, 5\.0 in the settings"):
        call("fit", "--config", settings, "--weights", weights, *other)
    assert not (tmp_path / "other").exists()


def test_a_run_with_a_repulsion_and_weights_that_decay(root, call, tmp_path):
    """From the run to its errors, and to another one that goes on with its weights."""
    settings, words = write_settings(tmp_path, root, max_steps=4), ["--model.model.repulsion", "zbl"]
    call("fit", "--config", settings, *words, "--model.weight_decay", "0.03")
    call("test", "--config", tmp_path / "run" / "config.yaml")
    report = json.loads((tmp_path / "run" / "test" / "report.json").read_text())
    model = load(tmp_path / "run")
    assert isinstance(model.repulsion, ZBLRepulsion)
    assert model.repulsion.scale.dtype == torch.float64
    data = MD17(root, "ethanol_xtb", log=False)
    errors = []
    for index in load_split(tmp_path / "run" / "split.npz", data)["test"].tolist():
        errors.append((Potential(model)(data[index])["forces"] - data[index].forces).abs().mean())
    expected = float(torch.stack(errors).mean()) / ase.units.kcal * ase.units.mol
    assert report["targets"]["forces"]["mae"] == pytest.approx(expected, rel=1e-3)
    call("fit", "--config", settings, *words, "--weights", tmp_path / "run", "--trainer.directory", tmp_path / "next")
    assert isinstance(load(tmp_path / "next").repulsion, ZBLRepulsion)


def test_committee(root, call, tmp_path):
    """Members of different seeds, mean and spread in report and predictions; ASE takes the folder."""
    settings = write_settings(tmp_path, root, max_steps=4)
    call("fit", "--config", settings, "--members", "2")
    run = tmp_path / "run"
    committee = Committee.load(run)
    weights = [member.embedding.weight for member in committee]
    assert not torch.equal(*weights)
    splits = [load_split(run / f"member_{i}" / "split.npz")["train"] for i in range(2)]
    assert torch.equal(*splits)
    call("test", "--config", settings)
    facts = json.loads((run / "test" / "report.json").read_text())["facts"]
    assert facts["members"] == 2
    call("predict", "--config", settings)
    with np.load(run / "test.npz") as file:
        arrays = dict(file)
    dataset = MD17(root, "ethanol_xtb", log=False)
    test = load_split(run / "member_0" / "split.npz", dataset)["test"]
    out = CommitteePotential(committee)(dataset[int(test[0])])
    np.testing.assert_allclose(arrays["energy_std"][0], out["energy_std"].item(), rtol=1e-3)
    assert facts["energy_mean_spread [eV]"] == pytest.approx(arrays["energy_std"].mean(), rel=1e-3)
    assert SchNetCalculator(run).implemented_properties
    # an interrupted committee goes on with the member that was at work: here nothing is left to do
    before = (run / "member_0" / "model.safetensors").read_bytes()
    call("fit", "--config", settings, "--members", "2", "--resume", "true")
    assert (run / "member_0" / "model.safetensors").read_bytes() == before
    call("test", "--config", run / "config.yaml", "--part", "val")
    assert json.loads((run / "val" / "report.json").read_text())["facts"]["members"] == 2


def test_members_see_the_examples_in_orders_of_their_own(root, call, tmp_path, monkeypatch):
    """Of one split, from weights drawn with seeds of their own."""
    orders, weights, run = [], [], RunTrainer.run

    def watched(trainer, task, data, *rest):
        orders.append([data.examples_of(epoch, 0).tolist() for epoch in range(2)])
        weights.append(task.model.embedding.weight.detach().clone())
        return run(trainer, task, data, *rest)

    monkeypatch.setattr(RunTrainer, "run", watched)
    call("fit", "--config", write_settings(tmp_path, root, max_steps=1), "--members", "3")
    assert len(orders) == 3
    for epoch in range(2):
        assert len({tuple(order[epoch]) for order in orders}) == 3
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    seeds = [yaml.safe_load((tmp_path / f"run/member_{i}/config.yaml").read_text())["data"]["seed"] for i in range(3)]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize(
    ("words", "trained_on"),
    [
        (["--model.forces", "false"], "energy"),
        (["--model.rho", "0"], "forces"),
        (["--model.rho", "0.1"], "energy and forces"),
    ],
    ids=["energies", "forces", "both"],
)
def test_reports_say_what_was_trained_on(root, call, tmp_path, words, trained_on):
    """By which the column of the paper is chosen."""
    settings = write_settings(tmp_path, root, max_steps=4)
    call("fit", "--config", settings, *words)
    call("test", "--config", tmp_path / "run" / "config.yaml")
    facts = json.loads((tmp_path / "run" / "test" / "report.json").read_text())["facts"]
    assert (facts["trained_on"], facts["num_train"]) == (trained_on, 64)


def test_property_task(root, call, tmp_path):
    settings = yaml.safe_load(write_settings(tmp_path, root).read_text())
    settings["model"]["class_path"] = "pyg_schnet.training.PropertyTask"
    settings["model"]["init_args"] |= {"targets": ["homo", "lumo"], "references": "mean"}
    settings["model"]["init_args"]["model"]["init_args"] |= {"out_channels": 2, "readout": "mean"}
    settings["data"] |= {"num_train": 32, "num_val": 16, "num_test": 16}
    settings["data"]["dataset"] = {
        "class_path": "pyg_schnet.datasets.QM9",
        "init_args": {"root": str(root), "name": "bundled"},
    }
    settings["trainer"]["max_steps"] = 4
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    call("fit", "--config", tmp_path / "settings.yaml")
    call("test", "--config", tmp_path / "settings.yaml")
    report = json.loads((tmp_path / "run" / "test" / "report.json").read_text())
    assert {name: target["unit"] for name, target in report["targets"].items()} == {"homo": "eV", "lumo": "eV"}


def test_settings_are_printed(root, call, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        call("fit", "--config", write_settings(tmp_path, root), "--model.rho", "0.5", "--print_config")
    assert ended.value.code in {0, None}
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["rho"] == 0.5
    assert printed["data"]["batch_size"] == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model.learning_rat 1", "there is no option 'learning_rat'; did you mean 'learning_rate'"),
        ("--trainer.max_stepss 1", "did you mean 'trainer.max_steps'"),
        ("--model.model.num_interaction 2", "did you mean 'num_interactions'"),
        ("--model.rho -1", "^pyg-schnet: `rho` must not be negative, got -1.0$"),
        ("--data.num_train 5000", "there are 2000 examples, fewer than the 5000 to train"),
        ("--data.num_train ten", "expected float or int or null, got ten"),
        ("--data.split nothing", "unknown split 'nothing'; expected one of random, paper"),
        ("--model pyg_schnet.training.PropertyTask --model.targets U0", "MD17 has no target 'U0', it has energy"),
        ("--data.dataset.name ethanol_xbt", "unknown molecule 'ethanol_xbt'"),
        ("--trainer.max_steps -1", "a run needs an end"),
    ],
    ids=lambda value: value.split()[0].removeprefix("--") if value.startswith("--") else "",
)
def test_what_is_wrong_is_said_before_anything_is_written(root, call, tmp_path, words, message):
    settings = write_settings(tmp_path, root)
    with pytest.raises(SystemExit, match=message):
        call("fit", "--config", settings, *words.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("text", "given"), [("", "nothing"), ("- a\n- b\n", "- a - b")])
def test_file_without_settings(call, tmp_path, text, given):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SystemExit, match=f"must hold names with values, as those in examples/configs, got {given}"):
        call("fit", "--config", tmp_path / "config.yaml")


def test_unknown_key_in_a_file(root, call, tmp_path):
    settings = write_settings(tmp_path, root)
    settings.write_text(settings.read_text().replace("num_train", "num_trian"))
    with pytest.raises(SystemExit, match="there is no option 'data.num_trian'; did you mean 'data.num_train'"):
        call("fit", "--config", settings)


def test_untrained_run_has_nothing_to_test(root, call, tmp_path):
    with pytest.raises(SystemExit, match="holds no trained model; train one with `pyg-schnet fit`"):
        call("test", "--config", write_settings(tmp_path, root))


def test_model_of_another_unit_is_refused_on_resume(root, call, tmp_path):
    settings = write_settings(tmp_path, root)
    call("fit", "--config", settings)
    checkpoint = read_checkpoint(tmp_path / "run" / "last.ckpt")
    checkpoint["units"] = {"energy": "kcal/mol"}
    torch.save(checkpoint, tmp_path / "run" / "last.ckpt")
    with pytest.raises(SystemExit, match="other units: energy was in kcal/mol, now in eV"):
        call("fit", "--config", settings, "--resume", "true", "--trainer.max_steps", "12")


def test_killed_in_mid_epoch_and_resumed_equals_uninterrupted(root, call, tmp_path):
    """kill -9 of a process at work; weights, optimizer and order of the data go on as if nothing had happened."""
    whole, killed = (write_settings(tmp_path / name, root, max_steps=60) for name in ("whole", "killed"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pyg_schnet", "fit", "--config", str(killed), "--trainer.max_steps", "100000"]
    )
    checkpoint = tmp_path / "killed" / "run" / "last.ckpt"
    try:
        for _ in range(1200):
            if checkpoint.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        time.sleep(0.05)  # into the next epoch
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    stopped = read_checkpoint(checkpoint)["global_step"]
    assert 0 < stopped < 60, "killed too late for this test to say anything"
    call("fit", "--config", killed, "--resume", "true")
    call("fit", "--config", whole)
    first, second = (read_checkpoint(tmp_path / name / "run" / "last.ckpt") for name in ("whole", "killed"))
    assert first["global_step"] == second["global_step"] == 60
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(first[key][name], second[key][name]) for name in first[key])
    models = [load(tmp_path / name / "run" / "model.safetensors").state_dict() for name in ("whole", "killed")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
