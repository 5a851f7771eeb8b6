"""Pickles read without running them."""

import collections
import contextlib
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pyg_schnet.convert import from_pretrained, from_schnetpack
from pyg_schnet.convert.safe_pickle import InertUnpickler, Record, name_of, part_of, read_torch, state_of

both_formats = pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])


class Mischief:
    """Runs a command when an ordinary reader unpickles it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.system, (self.command,)


def write(content: Any, path: Path, legacy: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@both_formats
def test_code_in_a_file_is_not_run(legacy: bool, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    mischief = Mischief(f"touch '{ran}'")
    path = write(mischief, tmp_path / "model", legacy)
    torch.load(path, weights_only=False)
    assert ran.exists()  # it does harm
    ran.unlink()
    with pytest.raises(ValueError, match=r"expected a model or state dict of SchNetPack, got (posix|nt)\.system"):
        from_schnetpack(path)
    with pytest.raises(
        ValueError, match=r"expected a pickled model of SchNetPack for 'qm9-U0', got (posix|nt)\.system"
    ):
        from_pretrained("qm9-U0", source=path)
    write({"representation.embedding.weight": mischief}, path, legacy)
    with pytest.raises(ValueError, match="expected tensors .* by name, got system"):
        from_schnetpack(path)
    assert not ran.exists()


COMMAND = b"__import__('os').mkdir('ran')"
ATTACKS = {
    "global": b"cbuiltins\neval\n(V" + COMMAND + b"\ntR.",
    "inst": b"(V" + COMMAND + b"\nibuiltins\nexec\n.",
    "obj": b"(cbuiltins\nexec\nV" + COMMAND + b"\no.",
    "stack global": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c" + bytes([len(COMMAND)]) + COMMAND + b"\x85R.",
    "dotted": b"\x80\x04\x8c\x02os\x8c\x0dpath.os.mkdir\x93\x8c\x03ran\x85R.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_way_to_name_code(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(TypeError):  # `exec` is no class, which comes after it ran
        pickle.loads(ATTACKS[attack])
    assert Path("ran").exists()  # it does harm
    Path("ran").rmdir()
    InertUnpickler(io.BytesIO(ATTACKS[attack])).load()
    assert not Path("ran").exists()


def test_attributes_written_to_classes_change_nothing_outside() -> None:
    """Opcode BUILD sets attributes of whatever lies on the stack; here these are throw-away stand-ins."""
    before = torch._utils._rebuild_tensor_v2.__defaults__
    attack = b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__defaults__'\n(I1\ntstb."
    InertUnpickler(io.BytesIO(attack)).load()
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    attack = b"ccollections\nOrderedDict\n(N}S'update'\nI1\nstb."
    InertUnpickler(io.BytesIO(attack)).load()
    assert callable(collections.OrderedDict.update)


@both_formats
def test_modules_become_records_with_their_tensors(legacy: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 1, bias=False)))
    record = read_torch(write(model, tmp_path / "model", legacy))
    assert type(record).path == "torch.nn.modules.container.Sequential"
    expected = model.state_dict()
    for state in (state_of(record), state_of(model)):
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert part_of(record, "2.0.out_features") == 1
    assert part_of(record, "2.1.out_features") is part_of(record, "2.nothing.at.all") is None


@both_formats
def test_containers_and_shared_storage(legacy: bool, tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4).double()
    content = {"a": [whole, whole[1:, ::2]], "b": collections.OrderedDict(c=(1, "x", None)), "d": {1, 2}}
    read = read_torch(write(content, tmp_path / "model", legacy))
    assert torch.equal(read["a"][0], whole)
    assert torch.equal(read["a"][1], whole[1:, ::2])
    assert read["a"][0].untyped_storage().data_ptr() == read["a"][1].untyped_storage().data_ptr()
    assert dict(read["b"]) == {"c": (1, "x", None)}
    assert read["d"] == {1, 2}


def test_names_of_what_is_read() -> None:
    made = pickle.dumps([np.float64(1.0), np.mean, collections.deque([1, 2]), collections.defaultdict(int, a=1)])
    scalar, function, queue, table = InertUnpickler(io.BytesIO(made)).load()
    assert [name_of(each) for each in (function, queue, table)] == ["mean", "deque", "defaultdict"]
    assert isinstance(scalar, Record)
    assert name_of(nn.functional.silu) == "silu"
    assert name_of(nn.Linear(1, 1)) == "Linear"


@pytest.mark.parametrize("size", [0, 1, 30, 300])
@both_formats
def test_cut_off_files(size: int, legacy: bool, tmp_path: Path) -> None:
    path = write(nn.Linear(8, 8), tmp_path / "model", legacy)
    os.truncate(path, size)
    with pytest.raises(ValueError, match="model is not a readable file of torch.save"):
        from_schnetpack(path)


def test_other_kinds_of_files(tmp_path: Path) -> None:
    program = tmp_path / "program.pt"
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    with pytest.raises(ValueError, match="is a TorchScript program; expected a state dict or model"):
        from_schnetpack(program)
    with tarfile.open(tmp_path / "model.tar", "w") as tar:
        tar.add(program, "storages")
    with pytest.raises(ValueError, match="is a tar archive; expected a file of torch.save"):
        from_schnetpack(tmp_path / "model.tar")
