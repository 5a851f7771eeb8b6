"""Arrays that grow, in memory or in files that are mapped into memory when they are read."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_schnet.datasets.strings import Strings, packed


class Columns:
    """Arrays and lists of strings by name, to which rows are added.

    Args:
        folder: A folder for one file each, which is made and emptied; ``None`` to keep all in memory.

    Example:
        >>> import tempfile
        >>> columns = Columns(Path(tempfile.mkdtemp()))
        >>> columns.append("energy", np.array([1.0, 2.0]))
        >>> columns.append("energy", np.array([3.0]))
        >>> columns.tensor("energy")
        tensor([1., 2., 3.], dtype=torch.float64)
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._pieces: dict[str, list[NDArray]] = {}
        self._files: dict[str, Path] = {}
        self._kinds: dict[str, tuple[np.dtype, list[int]]] = {}
        self._strings: dict[str, list[str | None]] = {}
        self._lengths: dict[str, int] = {}
        self._dims: dict[str, int] = {}
        self._tensors: dict[str, Tensor] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                path.unlink()

    def append(self, name: str, rows: NDArray, dim: int = 0) -> None:
        """Add rows to an array.

        Args:
            name: Name of the array.
            rows: The rows, of the same type and shape as those before.
            dim: Which dimension is that of the rows.

        Raises:
            ValueError: If type or shape differ.
            OSError: If they cannot be written.
        """
        rows, self._dims[name] = np.moveaxis(rows, dim, 0), dim
        dtype, shape = self._kinds.setdefault(name, (rows.dtype, [0, *rows.shape[1:]]))
        if rows.dtype != dtype or list(rows.shape[1:]) != shape[1:]:
            raise ValueError(
                f"`{name}` is {dtype} {shape[1:]} in the first structures and {rows.dtype} {list(rows.shape[1:])} in "
                "later ones; expected the same in all"
            )
        shape[0] += len(rows)
        if self.folder is None:
            self._pieces.setdefault(name, []).append(rows)
            return
        path = self._files.setdefault(name, self.folder / f"{len(self._files)}.bin")
        with path.open("ab") as file:
            np.ascontiguousarray(rows).tofile(file)

    def extend(self, name: str, strings: list[str | None]) -> None:
        """Add strings to a list.

        Args:
            name: Name of the list.
            strings: The strings.

        Raises:
            OSError: If they cannot be written.
        """
        known = self._strings.setdefault(name, [])
        if self.folder is None:
            known += strings
            return
        text, ends = packed(strings, self._lengths.get(name, 0))
        self._lengths[name] = self._lengths.get(name, 0) + len(text)
        self.append(f"{name}: text", text)
        self.append(f"{name}: ends", ends)

    def tensor(self, name: str) -> Tensor:
        """An array as it is now.

        Args:
            name: Name of the array.

        Returns:
            The array, mapped into memory if it is in a file.
        """
        if self.folder is None:
            self._pieces[name] = [np.concatenate(self._pieces[name])]
            return torch.from_numpy(self._pieces[name][0]).movedim(0, self._dims[name])
        self._tensors[name] = mapped(self.folder, self.about(name))
        return self._tensors[name]

    def strings(self, name: str) -> Any:
        """A list of strings as it is now.

        Args:
            name: Name of the list.

        Returns:
            The list; :class:`~pyg_schnet.datasets.strings.Strings` if it is in files.
        """
        if self.folder is None:
            return self._strings[name]
        return Strings(self.tensor(f"{name}: text"), self.tensor(f"{name}: ends"))

    def drop(self, name: str) -> None:
        """Forget an array.

        Args:
            name: Name of the array.
        """
        self._kinds.pop(name)
        self._pieces.pop(name, None)
        if self.folder is not None:
            self._files[name].unlink()

    def about(self, name: str) -> dict[str, Any]:
        """What :func:`mapped` needs to know.

        Args:
            name: Name of an array in a file, or of a list of strings.

        Returns:
            File, type and shape; or ``text`` and ``ends`` with these.
        """
        if name in self._strings:
            return {one: self.about(f"{name}: {one}") for one in ("text", "ends")}
        dtype, shape = self._kinds[name]
        return {"file": self._files[name].name, "dtype": str(dtype), "shape": list(shape), "dim": self._dims[name]}

    def described(self, data: Mapping[str, Any], slices: Mapping[str, Any]) -> dict[str, Any]:
        """What is to be known of a ``Data`` whose tensors are these arrays, beside the arrays.

        Args:
            data: Values by key: arrays and strings of this object, and numbers.
            slices: Where structures begin, by key: arrays of this object.

        Returns:
            ``data`` and ``slices`` with names in place of arrays, and ``columns``, what :func:`mapped` needs by name.
        """
        names = {key: key for key, value in data.items() if not isinstance(value, (int, float))}
        places = {id(tensor): name for name, tensor in self._tensors.items()}
        begins = {key: places[id(value)] for key, value in slices.items()}
        about = {name: self.about(name) for name in {*names.values(), *begins.values()}}
        return {"data": dict(data) | names, "slices": begins, "columns": about}

    def sync(self) -> None:
        """Wait until all is on the disk.

        Raises:
            OSError: If it cannot be written.
        """
        for path in self._files.values():
            if path.exists():
                with path.open("rb+") as file, contextlib.suppress(OSError):  # file systems that cannot be asked
                    os.fsync(file.fileno())


def mapped(folder: Path, about: dict[str, Any]) -> Any:
    """An array or a list of strings out of files, mapped into memory; what is done to it does not change them.

    Args:
        folder: Where the files are.
        about: What :meth:`Columns.about` has said; ``dim`` is where the rows belong, the first dimension without it.

    Returns:
        A tensor, or :class:`~pyg_schnet.datasets.strings.Strings`.

    Raises:
        ValueError: If a file is not there or has another size.
    """
    if "text" in about:
        return Strings(mapped(folder, about["text"]), mapped(folder, about["ends"]))
    path, dtype = folder / about["file"], getattr(torch, about["dtype"])
    count = int(np.prod(about["shape"], dtype=np.int64))
    if not path.is_file() or path.stat().st_size != count * dtype.itemsize:
        raise ValueError(f"{path} is not there, or not whole")
    if not count:
        return torch.empty(about["shape"], dtype=dtype)
    values = torch.from_file(str(path), shared=False, size=count, dtype=dtype).reshape(about["shape"])
    return values.movedim(0, about["dim"])
