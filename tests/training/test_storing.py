"""Work that must not be lost: checkpoints are whole, the one before is kept, damage is noticed, one run in a folder."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import MD17
from pyg_schnet.training import PotentialTask, SplitDataModule, fit, read_checkpoint
from pyg_schnet.training import storing as storing_module
from pyg_schnet.training.storing import WholeCheckpoints, last_state, only_run_in, previous


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


def run(dataset, folder, max_steps=8, **options):
    """Two steps an epoch and a validation after each second epoch."""
    torch.manual_seed(0)
    data = SplitDataModule(dataset, {"train": range(16), "val": range(16, 24)}, batch_size=8)
    task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0), learning_rate=5e-3)
    options = {"validate_every": 4, "logger": False, "accelerator": "cpu", "enable_progress_bar": False} | options
    return fit(task, data, folder, max_steps=max_steps, **options)


@pytest.fixture(scope="module")
def made(dataset, tmp_path_factory):
    """Function for the folder of a run of so many steps, made once and not to be changed."""
    folder = tmp_path_factory.mktemp("runs")

    def made(max_steps):
        if not (folder / f"{max_steps}").exists():
            run(dataset, folder / f"{max_steps}", max_steps)
        return folder / f"{max_steps}"

    return made


def flipped(path, part=0.5):
    """Damage a single byte of a file."""
    content = bytearray(path.read_bytes())
    content[int(part * len(content))] ^= 0xFF
    path.write_bytes(bytes(content))


def storing(path, value):
    WholeCheckpoints(path.parent).save_checkpoint({"value": torch.tensor(value), "global_step": value}, path)


def test_the_one_before_is_kept(tmp_path):
    for value in range(3):
        storing(tmp_path / "last.ckpt", value)
    assert read_checkpoint(tmp_path / "last.ckpt")["value"] == 2
    assert read_checkpoint(tmp_path / "last-previous.ckpt")["value"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "last-previous.ckpt"}
    storing(tmp_path / "mine.ckpt", 1)
    storing(tmp_path / "mine.ckpt", 2)
    assert not previous(tmp_path / "mine.ckpt").exists()


def test_file_systems_without_second_names(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(storing_module.os, "link", refuse)
    for value in range(2):
        storing(tmp_path / "last.ckpt", value)
    assert read_checkpoint(tmp_path / "last-previous.ckpt")["value"] == 0


def test_temporary_folder_is_not_used(tmp_path, monkeypatch):
    """On clusters it is on another file system, and may be full."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    storing(tmp_path / "last.ckpt", 1)
    assert read_checkpoint(tmp_path / "last.ckpt")["value"] == 1


def test_full_disk_in_a_run(dataset, made, tmp_path, monkeypatch):
    """In the middle of a validation: one sentence, and the run goes on from before once there is room."""
    run(dataset, tmp_path / "parts", 4)
    before = (tmp_path / "parts" / "last.ckpt").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storing_module.os, "fsync", full)
        with pytest.raises(OSError, match=r"could not be written \(No space left on device\); what was stored before"):
            run(dataset, tmp_path / "parts", 12, resume=True)
    assert (tmp_path / "parts" / "last.ckpt").read_bytes() == before
    assert not list((tmp_path / "parts").glob(".*"))
    run(dataset, tmp_path / "parts", 12, resume=True)
    for name in ("last.ckpt", "best.ckpt"):
        whole, parts = (read_checkpoint(folder / name)["state_dict"] for folder in (made(12), tmp_path / "parts"))
        assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_damage_inside_is_noticed(tmp_path, part):
    """Torch reads such a file without a word, with other weights."""
    WholeCheckpoints(tmp_path).save_checkpoint({"weights": torch.arange(10_000.0)}, tmp_path / "last.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "last.ckpt")["weights"], torch.arange(10_000.0))
    flipped(tmp_path / "last.ckpt", part)
    with pytest.raises(ValueError, match="not a readable checkpoint .*; remove it to start the run again"):
        read_checkpoint(tmp_path / "last.ckpt")


def cut(path):
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize("damage", [flipped, cut, lambda path: path.unlink()], ids=["flipped", "cut", "gone"])
def test_damaged_run_goes_on_from_the_one_before(dataset, made, tmp_path, damage, capfd):
    shutil.copytree(made(8), tmp_path / "parts")
    damage(tmp_path / "parts" / "last.ckpt")
    run(dataset, tmp_path / "parts", 12, resume=True)
    said = capfd.readouterr().err
    assert "; the run goes on from the one before, last-previous.ckpt, of step 4" in said
    whole, parts = (load(folder / "model.safetensors").state_dict() for folder in (made(12), tmp_path / "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_nothing_to_go_on_from(tmp_path):
    assert last_state(tmp_path) == (None, 0)
    for name in ("last.ckpt", "last-previous.ckpt"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"last\.ckpt is not a readable checkpoint"):
        last_state(tmp_path)


def test_one_run_at_a_time(dataset, tmp_path):
    with only_run_in(tmp_path):
        for resume in (False, True):
            with pytest.raises(BlockingIOError, match="another run is at work in .*; wait for its end or choose"):
                run(dataset, tmp_path, resume=resume)
    assert not any(tmp_path.iterdir())
    assert run(dataset, tmp_path).steps == 8


def hold(folder, held):
    """Be the only run in a folder until somebody ends that."""
    with only_run_in(folder):
        held.set()
        time.sleep(600)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
def test_lock_of_a_dead_process_holds_nothing(dataset, tmp_path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    job = context.Process(target=hold, args=(tmp_path, held))
    job.start()
    assert held.wait(60)
    with pytest.raises(BlockingIOError, match="another run is at work"):
        run(dataset, tmp_path)
    job.kill()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    assert run(dataset, tmp_path).steps == 8


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(storing_module.FileLock, "acquire", refuse)
    with only_run_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()


def test_killed_while_it_stores_its_state(dataset, made, tmp_path):
    """The temporary folder lies on another file system; wherever the process dies, the run goes on."""
    script = textwrap.dedent(
        """
        import os, pathlib, sys
        import torch
        from pyg_schnet import SchNet
        from pyg_schnet.datasets import MD17
        from pyg_schnet.training import PotentialTask, SplitDataModule, fit
        replace, count = pathlib.Path.replace, [0]
        def dying(path, target):
            count[0] += pathlib.Path(target).name == "last.ckpt"
            if count[0] == 2:
                os.kill(os.getpid(), 9)
            return replace(path, target)
        pathlib.Path.replace = dying
        torch.manual_seed(0)
        dataset = MD17(sys.argv[1], "ethanol_xtb", log=False)
        data = SplitDataModule(dataset, {"train": range(16), "val": range(16, 24)}, batch_size=8)
        task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0), learning_rate=5e-3)
        fit(task, data, sys.argv[2], max_steps=8, validate_every=4, logger=False, accelerator="cpu")
        """
    )
    words = [sys.executable, "-c", script, dataset.root, tmp_path / "parts"]
    environment = os.environ | ({"TMPDIR": "/dev/shm"} if os.path.isdir("/dev/shm") else {})
    start = time.monotonic()
    job = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert job.returncode == -9, (job.stderr[-2000:], time.monotonic() - start)
    assert read_checkpoint(tmp_path / "parts" / "last.ckpt")["global_step"] == 4
    run(dataset, tmp_path / "parts", 8, resume=True)
    whole, parts = (load(folder / "model.safetensors").state_dict() for folder in (made(8), tmp_path / "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
