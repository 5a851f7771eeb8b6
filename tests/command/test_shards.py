"""Shares of the structures: who says which, files of their own, killed and joined as if nothing had happened."""

import json
import os

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from pyg_schnet import SchNet, save
from pyg_schnet.command import predict as module
from pyg_schnet.command.join import join
from pyg_schnet.command.predict import predict_file, predict_part
from pyg_schnet.command.predictor import Predictor
from pyg_schnet.command.shards import Shard, shard_of
from pyg_schnet.simulation import atoms_to_data
from pyg_schnet.training import PotentialTask

from .conftest import write_settings

SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "3"}
ARRAY |= {"SLURM_ARRAY_TASK_STEP": "2"}


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        ("3/16", SLURM, (3, 16)),
        (None, {}, (1, 1)),
        (None, {"RANK": "2", "WORLD_SIZE": "3"} | SLURM, (3, 3)),
        (None, SLURM, (2, 4)),
        (None, ARRAY, (3, 3)),
        (None, ARRAY | SLURM, (10, 12)),
        (None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (1, 1)),
    ],
)
def test_who_says_which_share(given, environment, expected):
    shard = shard_of(given, environment)
    assert shard[:2] == expected
    assert bool(shard.told_by) == (given is None and expected[1] > 1)


@pytest.mark.parametrize("given", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2"])
def test_impossible_shares(given):
    with pytest.raises(ValueError, match=f"--shard must be I/N with I from 1 to N, such as 3/16, got '{given}'"):
        shard_of(given)


@pytest.mark.parametrize("environment", [{"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "4"}])
def test_environments_that_contradict_themselves(environment):
    with pytest.raises(ValueError, match="with --shard I/N"):
        shard_of(None, environment)


def test_shares_are_all_structures_once():
    for total in (0, 1, 7, 100):
        for count in (1, 3, 7, 16):
            shares = [Shard(number, count).places(total) for number in range(1, count + 1)]
            assert [place for share in shares for place in share] == list(range(total))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture
def task():
    torch.manual_seed(0)
    return PotentialTask(SchNet(8, 8, 1, num_gaussians=20, cutoff=5.0, cutoff_function="cosine", std=10.0).eval())


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two files of 37 structures; labels and stresses of some only; pieces of seven structures."""
    structures = []
    for number in range(37):
        atoms = molecule("H2O") if number % 5 else bulk("NaCl", "rocksalt", a=5.6)
        atoms.rattle(0.05, seed=number)
        if number > 20:
            atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=np.ones((len(atoms), 3)))
        structures.append(atoms)
    (tmp_path / "pool").mkdir()
    ase.io.write(tmp_path / "pool/a.xyz", structures[:11], format="extxyz")
    ase.io.write(tmp_path / "pool/b.xyz", structures[11:], format="extxyz")
    monkeypatch.setattr(module, "PIECE", 7)
    monkeypatch.setattr("pyg_schnet.command.predictor._STRUCTURES", 4)
    return tmp_path / "pool"


def content(path):
    """What a file holds, but for the time when it was written."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: (arrays[name].dtype, arrays[name].shape, arrays[name].tobytes()) for name in arrays.files}
    if path.suffix == ".db":
        rows = list(ase.db.connect(path).select())
        return [(row.id, encoded(row.toatoms()), row.key_value_pairs, str(row.data)) for row in rows]
    if path.suffix == ".traj":
        return [(encoded(atoms), str(atoms.info)) for atoms in ase.io.read(path, ":")]
    return path.read_bytes()


def encoded(atoms):
    results = {} if atoms.calc is None else {name: np.asarray(one).tolist() for name, one in atoms.calc.results.items()}
    return atoms.numbers.tolist(), atoms.positions.tolist(), atoms.cell.array.tolist(), json.dumps(results)


@pytest.mark.parametrize("suffix", ["csv", "json", "npz", "xyz", "traj", "db"])
def test_joined_shards_are_the_whole(suffix, task, source, tmp_path, monkeypatch):
    """Also the pieces of one, and of those with a piece of everything."""
    found = [predict_file(task, task.model, source, tmp_path / f"alone.{suffix}")]
    for number in (3, 1, 2):
        path = predict_file(task, task.model, source, tmp_path / f"out.{suffix}", shard=Shard(number, 3))
        assert path.name == f"out.shard-{number}-of-3.{suffix}"
    join(str(tmp_path / f"out.{suffix}"))
    monkeypatch.setattr(module, "PIECE", 1000)
    found += [tmp_path / f"out.{suffix}", predict_file(task, task.model, source, tmp_path / f"whole.{suffix}")]
    whole = content(found[2])
    assert content(found[0]) == whole
    assert content(found[1]) == whole
    assert not list(tmp_path.glob(".pieces-*"))


KILLED = """
import os, signal
from pyg_schnet import load
from pyg_schnet.command import predict, predictor
from pyg_schnet.training import PotentialTask
predict.PIECE, predictor._STRUCTURES = 7, 4
model, each, seen = load({model!r}), predictor.Predictor.each, []
def until(self, structures):
    seen.extend(structures)
    if len(seen) > 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return each(self, structures)
predictor.Predictor.each = until
predict.predict_file(PotentialTask(model), model, predict.Path({source!r}), predict.Path({output!r}))
"""


def test_killed_predictions_go_on(task, source, tmp_path, monkeypatch, forks):
    """By the signal that nobody can catch: behind the last piece, with the same bytes as if nothing had happened."""
    expected = predict_file(task, task.model, source, tmp_path / "alone.csv").read_bytes()
    save(task.model, tmp_path / "model.safetensors")
    given = {"model": str(tmp_path / "model.safetensors"), "source": str(source), "output": str(tmp_path / "out.csv")}
    assert forks.run(KILLED.format(**given)).returncode not in {0, 1}
    pieces = sorted(one.name for one in tmp_path.glob(".pieces-out.csv/0*.csv"))
    assert pieces == [f"{first:012d}-{first + 8:012d}.csv" for first in (0, 8)]
    assert not (tmp_path / "out.csv").exists()
    each, seen = Predictor.each, []
    monkeypatch.setattr(Predictor, "each", lambda self, structures: seen.extend(structures) or each(self, structures))
    assert predict_file(task, task.model, source, tmp_path / "out.csv").read_bytes() == expected
    assert len(seen) == 37 - 16
    assert not list(tmp_path.glob(".pieces-*"))


def test_pieces_of_another_model_are_not_gone_on_with(task, source, tmp_path, monkeypatch):
    each, seen = Predictor.each, []

    def once(self, structures):
        seen.extend(structures)
        if len(seen) == 12:
            raise KeyboardInterrupt
        return each(self, structures)

    monkeypatch.setattr(Predictor, "each", once)
    with pytest.raises(KeyboardInterrupt):
        predict_file(task, task.model, source, tmp_path / "out.csv")
    assert list(tmp_path.glob(".pieces-out.csv/0*.csv"))
    with torch.no_grad():
        task.model.embedding.weight += 1.0
    seen.clear()
    monkeypatch.setattr(Predictor, "each", each)
    found = predict_file(task, task.model, source, tmp_path / "out.csv").read_bytes()
    assert found == predict_file(task, task.model, source, tmp_path / "again.csv").read_bytes()


def test_finished_shards_are_left(task, source, tmp_path, monkeypatch, capsys):
    given = (task, task.model, source, tmp_path / "out.csv")
    path = predict_file(*given, shard=Shard(2, 3))
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(Predictor, "each", None)
    assert predict_file(*given, shard=Shard(2, 3)) == path
    assert path.stat().st_mtime_ns == before
    assert "shard 2/3 is there already" in capsys.readouterr().out
    with torch.no_grad():
        task.model.embedding.weight += 1.0
    with pytest.raises(FileExistsError, match="is there already, of another model or other structures"):
        predict_file(*given, shard=Shard(2, 3))
    with pytest.raises(FileNotFoundError, match=r"lacks shards 1/3, 3/3: run predict with --shard 1/3 first"):
        join(str(tmp_path / "out.csv"))
    with pytest.raises(FileNotFoundError, match="no shards other.shard-1-of-"):
        join(str(tmp_path / "other.csv"))
    with pytest.raises(ValueError, match="has 37 structures, too few for 40 shards"):
        predict_file(*given, shard=Shard(1, 40))


def test_shards_of_a_dataset(task, source, tmp_path):
    structures = [atoms_to_data(atoms, labels=True) for atoms in ase.io.read(source / "a.xyz", ":")]
    alone = predict_part(task, structures, task.model, tmp_path / "alone.npz")
    for number in (1, 2):
        predict_part(task, structures, task.model, tmp_path / "out.npz", shard=Shard(number, 2))
    join(str(tmp_path / "out.npz"))
    assert content(tmp_path / "out.npz") == content(alone)


def test_environment_on_the_command_line(task, root, call, tmp_path, monkeypatch, capsys):
    """As Slurm and torchrun set it; Lightning does not wait for processes that are none of its own."""
    ase.io.write(tmp_path / "in.xyz", [molecule("CH3CH2OH")] * 5, format="extxyz")
    save(task.model, tmp_path / "model.safetensors")
    words = [
        "--config",
        write_settings(tmp_path, root),
        "--weights",
        tmp_path / "model.safetensors",
        "--input",
        tmp_path / "in.xyz",
        "--output",
        tmp_path / "out.csv",
    ]
    slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "screen", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"}
    slurm |= {"SLURM_PROCID": "1", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "2"}
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}
    torchrun |= {"TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for environment in (slurm, torchrun):
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            call("predict", *words)
            assert os.environ.items() >= environment.items()
    assert "shard 2/2 by Slurm (all structures: --shard 1/1)" in capsys.readouterr().out
    call("join", tmp_path / "out.csv")
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["structure", "0", "1", "2", "3", "4"]
    call("predict", *words[:-1], tmp_path / "all.csv", "--shard", "1/1")
    assert (tmp_path / "all.csv").read_text().splitlines() == rows
