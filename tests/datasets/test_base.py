"""What all datasets share: one processed file for each set of options, whole or absent, for any number of processes."""

import errno
import multiprocessing
import os
import signal
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import StructureLoader, base
from pyg_schnet.datasets.base import StructureDataset
from pyg_schnet.files.source import RemoteFile


class Numbers(StructureDataset):
    """A structure for each word of a file; every reading leaves a line in a log."""

    def __init__(self, root, pause=0, **options):
        self.pause = pause
        super().__init__(root, "numbers", {}, log=False, **options)

    def files(self):
        return [RemoteFile("numbers.txt")]

    def read(self, paths):
        (path,) = paths.values()
        first = not (Path(self.root) / "log").exists()
        with open(Path(self.root) / "log", "a") as log:
            log.write(f"read by {os.getpid()}\n")
        time.sleep(self.pause if first else 0)
        words = path.read_text().split()
        if not words:
            raise ValueError(f"{path} holds no numbers")
        energy = torch.tensor([float(word) for word in words], dtype=torch.float64)
        where = torch.arange(len(words) + 1)
        data = Data(z=torch.ones(len(words), dtype=torch.int64), pos=torch.zeros(len(words), 3), energy=energy)
        return data, dict.fromkeys(("z", "pos", "energy"), where), {"numbers": len(words)}


def count(root, raw, pause, answers):
    answers.put(len(Numbers(root, pause, source=raw)))


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("1 2 3")
    return path


def read_times(root):
    return (root / "log").read_text().count("read")


def start(number, *arguments):
    """Processes by fork, which need not import everything again."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=count, args=(*arguments, answers)) for _ in range(number)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads of the parent: it has none that hold locks
        for process in processes:
            process.start()
    return processes, answers


def test_processes_at_once(tmp_path, raw):
    processes, answers = start(3, tmp_path, raw, 0.2)
    assert [answers.get(timeout=60) for _ in processes] == [3, 3, 3]
    for process in processes:
        process.join()
    assert read_times(tmp_path) == 1
    assert [path.suffix for path in (tmp_path / "numbers/processed").iterdir()] == [".pt"]


def test_process_that_is_killed(tmp_path, raw):
    processes, answers = start(2, tmp_path, raw, 100)
    log = tmp_path / "log"
    while not (log.exists() and log.read_text().endswith("\n")):
        time.sleep(0.01)
    os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)  # the one that reads; the other waits for its lock
    assert answers.get(timeout=60) == 3
    for process in processes:
        process.join()
    assert sorted(process.exitcode for process in processes) == [-signal.SIGKILL, 0]
    assert read_times(tmp_path) == 2


def test_changed_source_is_noticed(tmp_path, raw):
    assert len(Numbers(tmp_path, source=raw)) == len(Numbers(tmp_path, source=raw)) == len(Numbers(tmp_path)) == 3
    assert read_times(tmp_path) == 1
    raw.write_text("1 2 3 4")
    assert len(Numbers(tmp_path, source=raw)) == 4
    assert read_times(tmp_path) == 2


def test_source_of_the_same_size_is_noticed(tmp_path, raw):
    """Changed where it is, and another one that is as old."""
    assert [float(one.energy) for one in Numbers(tmp_path, source=raw)] == [1, 2, 3]
    stat = raw.stat()
    raw.write_text("4 5 6")
    os.utime(raw, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert [float(one.energy) for one in Numbers(tmp_path, source=raw)] == [4, 5, 6]
    other = tmp_path / "mirror" / "numbers.txt"
    other.parent.mkdir()
    other.write_text("7 8 9")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert [float(one.energy) for one in Numbers(tmp_path, source=other)] == [7, 8, 9]
    assert read_times(tmp_path) == 3


def test_processed_file_of_another_version_is_made_again(tmp_path, raw):
    Numbers(tmp_path, source=raw)
    (path,) = (tmp_path / "numbers/processed").iterdir()
    stored = torch.load(path, weights_only=True)
    torch.save(stored | {"format": "another", "slices": None}, path)
    assert [float(one.energy) for one in Numbers(tmp_path, source=raw)] == [1, 2, 3]
    assert read_times(tmp_path) == 2


def test_options_of_any_length_have_a_name(tmp_path, raw):
    """Which file systems take, and which says all of them."""

    class Named(Numbers):
        def __init__(self, root, **options):
            self.pause = 0
            StructureDataset.__init__(self, root, "numbers", options, source=raw, log=False)

        def read(self, paths):
            data, slices, report = super().read(paths)
            return data, slices, report | self.options

    options = [{"key": 80 * "x" + end} for end in ("", "y", 300 * "y", 300 * "y" + "z")]
    for given in options * 2:
        assert Named(tmp_path, **given).report == {"numbers": 3} | given
    assert len(list((tmp_path / "numbers/processed").iterdir())) == len(options)


@pytest.mark.parametrize("damage", ["empty", "half", "other", "old"])
def test_damaged_processed_file_is_made_again(tmp_path, raw, damage):
    path = tmp_path / "numbers/processed/data.pt"
    Numbers(tmp_path, source=raw)
    content = path.read_bytes()
    if damage == "old":
        torch.save((Data().to_dict(), None, Data), path)
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "other": b"<html>"}[damage])
    dataset = Numbers(tmp_path, source=raw)
    assert (len(dataset), dataset.report) == (3, {"numbers": 3})
    assert path.read_bytes()[:4] == content[:4]


def test_functions_that_differ_in_a_number_are_told_apart(tmp_path, raw):
    def above(limit, data):
        return float(data.energy) > limit

    filters = [lambda data: float(data.energy) > 1, lambda data: float(data.energy) > 2]
    filters += [partial(above, 1), partial(above, 2)]
    for limit in (1, 2):
        filters.append(lambda data, limit=limit: float(data.energy) > limit)
    assert [len(Numbers(tmp_path, source=raw, pre_filter=one)) for one in filters] == [2, 1, 2, 1, 2, 1]
    assert read_times(tmp_path) == 6
    assert len(Numbers(tmp_path, source=raw, pre_filter=lambda data: float(data.energy) > 1)) == 2
    assert read_times(tmp_path) == 6  # the same code, written elsewhere
    with pytest.raises(ValueError, match="`pre_filter` leaves no structure"):
        Numbers(tmp_path, source=raw, pre_filter=lambda data: float(data.energy) > 3)


class Bound:
    """Limits of methods and of keywords."""

    def __init__(self, limit):
        self.limit = limit

    def passes(self, data):
        return float(data.energy) > self.limit


def test_functions_that_differ_in_anything_are_told_apart(tmp_path, raw):
    """Methods of two objects, defaults and keywords, what is looked up, dtypes of tensors; in whichever order."""

    def above(data, *, limit):
        return float(data.energy) > limit

    def default(data, *, limit=1):
        return float(data.energy) > limit

    def another(data, *, limit=2):
        return float(data.energy) > limit

    another.__code__ = default.__code__  # the default alone tells them apart
    pairs = [
        (Bound(1).passes, Bound(2).passes),
        (partial(above, limit=1), partial(above, limit=2)),
        (default, another),
        (lambda data: data.energy.sum() > 1, lambda data: data.z.sum() > 1),
        (lambda data: torch.tensor([1.0]).dtype == torch.float64, lambda data: torch.tensor([1]).dtype == torch.int64),
    ]
    found = [len(Numbers(tmp_path, source=raw, pre_filter=one)) for pair in pairs[:3] for one in pair]
    assert found == [2, 1] * 3
    assert len(Numbers(tmp_path, source=raw, pre_filter=pairs[3][0])) == 2
    with pytest.raises(ValueError, match="leaves no structure"):  # nothing of another one is taken
        Numbers(tmp_path, source=raw, pre_filter=pairs[3][1])

    def shifted(by):
        return lambda data: data.clone().update({"energy": data.energy, "by": by})

    for by in (torch.tensor([1], dtype=torch.int32), torch.tensor([1]), torch.tensor([1.0]), torch.tensor([True])):
        assert Numbers(tmp_path, source=raw, pre_transform=shifted(by))[0].by.dtype == by.dtype


def test_transforms_that_differ_in_an_attribute_are_told_apart(tmp_path, raw):
    class Shift:
        def __init__(self, by):
            self.by = torch.tensor(by)

        def __call__(self, data):
            data.energy = data.energy + self.by
            return data

    assert [float(Numbers(tmp_path, source=raw, pre_transform=Shift(by))[0].energy) for by in (1.0, 2.0)] == [2, 3]


def test_single_structure(tmp_path, raw):
    raw.write_text("5")
    for options in ({}, {"pre_transform": lambda data: data}):
        dataset = Numbers(tmp_path, source=raw, **options)
        assert (len(dataset), float(dataset[0].energy)) == (1, 5.0)
        assert len(dataset.slices["energy"]) == 2


def test_full_disk_and_recovery(tmp_path, raw, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left in .*processed; free some and run again"):
            Numbers(tmp_path, source=raw)
    assert list((tmp_path / "numbers/processed").iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("failed writing")))
        with pytest.raises(OSError, match="no space left"):
            Numbers(tmp_path, source=raw)
    assert len(Numbers(tmp_path, source=raw)) == 3


def test_root_that_cannot_be_written(tmp_path, raw, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    Numbers(tmp_path, source=raw)
    monkeypatch.setattr(base.Path, "mkdir", refuse)
    assert len(Numbers(tmp_path, source=raw)) == 3  # what is stored can be read
    with pytest.raises(OSError, match="other cannot be written to|numbers cannot be written to; make it writable"):
        Numbers(tmp_path / "other", source=raw)
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="a file is in its way; choose another `root`"):
        Numbers(tmp_path / "file", source=raw)


def test_raw_file_that_is_damaged(tmp_path, raw):
    raw.write_text("")
    with pytest.raises(ValueError, match="numbers.txt holds no numbers$"):
        Numbers(tmp_path, source=raw)
    folder = tmp_path / "other/numbers/raw"
    folder.mkdir(parents=True)
    (folder / "numbers.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds no numbers \(delete .*numbers.txt to have it downloaded again\)"):
        Numbers(tmp_path / "other")
    raw.write_text("1 2 3")
    assert len(Numbers(tmp_path, source=raw)) == 3


def test_extras_are_stored(tmp_path, raw):
    class WithExtras(Numbers):
        def read(self, paths):
            self.extras = {"train": torch.tensor([2, 0])}
            return super().read(paths)

    WithExtras(tmp_path, source=raw)
    assert WithExtras(tmp_path).extras["train"].tolist() == [2, 0]
    assert isinstance(Numbers(tmp_path).files()[0], RemoteFile)


def test_options_never_share_a_file(tmp_path):
    """Not those that are written alike, nor those that only some file systems tell apart."""

    class Options(Numbers):
        def __init__(self, root, options, **more):
            self.pause = 0
            StructureDataset.__init__(self, root, "numbers", options, log=False, **more)

    (tmp_path / "numbers.txt").write_text("1 2 3")
    values = [
        1,
        "1",
        1.0,
        "a/b",
        "a_b",
        "a b",
        "ab",
        "A_b",
        "None",
        (True, False),
        "(True, False)",
        "x-b=2",
        "ü",
        "a" * 300,
    ]
    made = [{"a": value} for value in values] + [{"a": "x", "b": 2}, {"a": "x", "b": "2"}, {"b": "x"}, {}]
    names = [Options(tmp_path, one, source=tmp_path / "numbers.txt").processed_file_names for one in made]
    assert len({name.lower() for name in names}) == len(made)
    assert all(len(name) < 100 and name.isascii() and "/" not in name for name in names)
    assert read_times(tmp_path) == len(made)
    assert Options(tmp_path, {"a": None}).processed_file_names == names[-1]


def test_a_file_of_other_options_is_noticed(tmp_path, raw):
    """Copied or renamed by hand, for example."""
    one = Numbers(tmp_path, source=raw, pre_filter=lambda data: float(data.energy) > 1)
    two = Numbers(tmp_path, source=raw, pre_filter=lambda data: float(data.energy) > 2)
    Path(two.processed_paths[0]).write_bytes(Path(one.processed_paths[0]).read_bytes())
    assert len(Numbers(tmp_path, source=raw, pre_filter=lambda data: float(data.energy) > 2)) == 1


def test_a_filter_that_counts_is_stored_once(tmp_path, raw):
    class Every:
        def __init__(self):
            self.seen = 0

        def __call__(self, data):
            self.seen += 1
            return self.seen % 2 == 1

    assert [len(Numbers(tmp_path, source=raw, pre_filter=Every())) for _ in range(2)] == [2, 2]
    assert read_times(tmp_path) == 1


def test_changed_files_of_the_same_size_and_time_are_noticed(tmp_path, raw):
    assert float(Numbers(tmp_path, source=raw)[0].energy) == 1.0
    times = raw.stat().st_atime_ns, raw.stat().st_mtime_ns
    raw.write_text("7 2 3")
    os.utime(raw, ns=times)
    assert float(Numbers(tmp_path, source=raw)[0].energy) == 7.0


def test_a_changed_download_is_noticed_and_a_lost_one_is_not_missed(tmp_path):
    raw = tmp_path / "numbers/raw/numbers.txt"
    raw.parent.mkdir(parents=True)
    raw.write_text("1 2 3")
    assert len(Numbers(tmp_path)) == 3
    raw.write_text("1 2 3 4")
    assert len(Numbers(tmp_path)) == 4
    raw.unlink()
    assert len(Numbers(tmp_path)) == 4


def _spoil(data):
    """A careless transform: everything in place."""
    for value in data.to_dict().values():
        if value.is_floating_point():
            value.add_(1.0)
    return data


def test_what_is_done_to_a_structure_is_not_done_to_the_dataset(tmp_path, raw):
    dataset = Numbers(tmp_path, source=raw, transform=_spoil)
    assert [float(dataset[0].energy) for _ in range(3)] == [2.0, 2.0, 2.0]
    assert [float(data.energy) for data in dataset[[2, 0]]] == [4.0, 2.0]
    plain = Numbers(tmp_path, source=raw)
    _spoil(plain[0])
    for key in ("energy", "pos", "z"):
        plain[1][key].zero_()
    for batch in StructureLoader(plain, batch_size=1):
        _spoil(batch)
    for batch in DataLoader(plain, batch_size=1):
        _spoil(batch)
    assert plain._data.energy.tolist() == [1.0, 2.0, 3.0]
    assert plain._data.pos.abs().max() == 0.0
    assert plain._data.z.tolist() == [1, 1, 1]
    assert Numbers(tmp_path, source=raw)._data.energy.tolist() == [1.0, 2.0, 3.0]


def test_a_filter_does_not_change_what_is_stored(tmp_path, raw):
    def careless(data):
        data.energy += 100.0
        return True

    assert Numbers(tmp_path, source=raw, pre_filter=careless)._data.energy.tolist() == [1.0, 2.0, 3.0]


def test_a_pre_transform_may_leave_keys_out(tmp_path, raw):
    def some(data):
        if float(data.energy) > 1:
            data.stress = torch.ones(1, 3, 3)
        return data

    dataset = Numbers(tmp_path, source=raw, pre_transform=some)
    assert [bool(data.stress.isnan().all()) for data in dataset] == [True, False, False]


def test_copies_of_pyg_s_own_making(tmp_path, raw):
    """Of a single structure PyG keeps no positions at which structures begin."""
    dataset = Numbers(tmp_path, source=raw)
    for chosen, expected in ([2], [3.0]), ([1, 0], [2.0, 1.0]):
        copied = dataset.copy(chosen)
        copied[0].energy.zero_()
        assert [float(data.energy) for data in copied] == expected
