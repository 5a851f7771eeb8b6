"""Pickled files read without running them.

A pickle names the functions and classes that rebuild its objects, and a reader that imports them runs whatever code a
file asks for. Here only tensors and plain containers are rebuilt; every other name becomes a :class:`Record`, which
keeps what the file says about an object and does nothing.
"""

import functools
import io
import pickle
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from pyg_schnet.compat import tensor_in


class Record:
    """What a file says about an object whose class is not imported: its attributes and no behaviour."""

    #: Name of the class with its module.
    path = ""

    def __new__(cls, *_args: Any, **_named: Any) -> "Record":
        """Make an empty record, whatever the arguments."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Keep the state: attributes by name, anything else as ``state``."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.__dict__.update({str(name): value for name, value in part.items()})
        if not any(isinstance(part, dict) for part in parts):
            self.__dict__["state"] = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget an item of a class derived from ``dict``."""

    def append(self, value: Any) -> None:
        """Forget an item of a class derived from ``list``."""

    add = append


class InertUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing: tensors and containers are rebuilt, all else becomes :class:`Record`."""

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        super().__init__(file, **options)
        # fresh objects each time, so that a file which writes attributes to them changes nothing outside
        self._classes: dict[str, Any] = {
            "collections.OrderedDict": type("OrderedDict", (OrderedDict,), {}),
            "builtins.set": set,
            "__builtin__.set": set,
            "torch._utils._rebuild_tensor": _rebuild_tensor(),
            "torch._utils._rebuild_tensor_v2": _rebuild_tensor(),
            "torch._utils._rebuild_parameter": _rebuild_parameter(),
            "torch._utils._rebuild_parameter_with_state": _rebuild_parameter(),
            "torch.nn.parameter.Parameter": _rebuild_parameter(),
        }

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for a class or function; nothing is imported."""
        path = f"{module}.{name}"
        if path not in self._classes:
            # no real module: torch looks for the source code of classes in old files
            self._classes[path] = type(name.rpartition(".")[2], (Record,), {"path": path, "__module__": "record"})
        return self._classes[path]


def read_torch(source: Path | IO[bytes], name: str | None = None) -> Any:
    """Read a file of ``torch.save``, of any version, without running code that it names.

    Args:
        source: The file, or its open content.
        name: How to call it in messages.

    Returns:
        Tensors (on the CPU) and containers; :class:`Record` for every other object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> torch.save(torch.nn.Linear(2, 2), path)
        >>> type(read_torch(path)).path, state_of(read_torch(path))["weight"].shape
        ('torch.nn.modules.linear.Linear', torch.Size([2, 2]))
    """
    name = str(source) if name is None else name
    if isinstance(source, Path):
        if not source.is_file():
            raise FileNotFoundError(f"there is no file {source}")
        with source.open("rb") as file:
            return read_torch(io.BytesIO(file.read()), name)
    if tarfile.is_tarfile(source):
        raise ValueError(f"{name} is a tar archive; expected a file of torch.save")
    source.seek(0)
    if zipfile.is_zipfile(source):
        source.seek(0)
        with zipfile.ZipFile(source) as archive:
            if any(member.endswith("constants.pkl") for member in archive.namelist()):
                raise ValueError(f"{name} is a TorchScript program; expected a state dict or model of torch.save")
    source.seek(0)
    inert: Any = SimpleNamespace(__name__="inert", Unpickler=InertUnpickler, load=_load)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the source code of classes in old files is not checked
            return torch.load(source, map_location="cpu", pickle_module=inert, weights_only=False)
    except Exception as error:  # a damaged pickle may fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name} is not a readable file of torch.save ({reason})") from None


def read_namespace(path: Path) -> dict[str, Any]:
    """Read the attributes of an object that ``numpy.save`` pickled, without running code that the file names.

    Args:
        path: An ``npy`` file with one object, for example an ``argparse.Namespace``.

    Returns:
        The attributes by name.

    Raises:
        ValueError: If the file holds something else.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = header(file)
            if not dtype.hasobject:
                raise ValueError(f"an array of {dtype}")
            array = InertUnpickler(file, encoding="latin1").load()
        (content,) = vars(array)["state"][-1]
    except Exception as error:  # a damaged pickle may fail in any way
        raise ValueError(f"{path} is not a pickled namespace of numpy.save ({error})") from None
    if isinstance(content, Record | dict):
        return dict(vars(content) if isinstance(content, Record) else content)
    raise ValueError(f"{path} holds {type(content).__name__}, expected a pickled namespace")


def state_of(module: Any, prefix: str = "") -> dict[str, Tensor]:
    """The state dict of a module, or of its record.

    Args:
        module: A ``torch.nn.Module`` or a :class:`Record` of one.
        prefix: What to put before all names.

    Returns:
        Parameters and persistent buffers by name.

    Raises:
        ValueError: If one is no plain tensor.
    """
    inside = vars(module)
    hidden = inside.get("_non_persistent_buffers_set") or ()
    state: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        for name, value in (inside.get(kind) or {}).items():
            if isinstance(value, Record):
                raise ValueError(f"expected a plain tensor as {prefix}{name}, got {type(value).path}")
            if isinstance(value, Tensor) and name not in hidden:
                state[f"{prefix}{name}"] = value.detach()
    for name, child in (inside.get("_modules") or {}).items():
        if isinstance(child, Record | nn.Module):
            state |= state_of(child, f"{prefix}{name}.")
    return state


def part_of(module: Any, path: str) -> Any:
    """A submodule or attribute of a module, or of its record.

    Args:
        module: A ``torch.nn.Module`` or a :class:`Record` of one.
        path: Names, joined by dots.

    Returns:
        The part, or ``None`` if there is none.
    """
    for name in path.split("."):
        inside = vars(module) if isinstance(module, Record | nn.Module) else {}
        module = (inside.get("_modules") or {}).get(name, inside.get(name))
    return module


def name_of(value: Any) -> str:
    """The name of a function (also a partial one) or class, or of the class of an object, without its module.

    Args:
        value: A function, class or object, or what :class:`InertUnpickler` made of it.

    Returns:
        The name.
    """
    if isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, Record) and type(value).path == "functools.partial":
        state = vars(value).get("state")
        value = state[0] if isinstance(state, tuple) and state else value
    if isinstance(value, Record):
        value = type(value)
    if isinstance(value, type) and issubclass(value, Record):
        return value.path.rpartition(".")[2]
    return str(getattr(value, "__name__", type(value).__name__))


def _load(file: IO[bytes], **options: Any) -> Any:
    return InertUnpickler(file, **options).load()


def _rebuild_tensor() -> Any:
    def rebuild(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: Any) -> Tensor:
        return tensor_in(storage, offset, size, stride)

    return rebuild


def _rebuild_parameter() -> Any:
    def rebuild(data: Tensor, *_rest: Any) -> Tensor:
        return data

    return rebuild
