"""What all datasets share: files from mirrors, a processed file for each set of options, frames cut without copies."""

import errno
import glob
import json
import os
import re
import secrets
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.data.collate import collate
from torch_geometric.data.data import BaseData

from pyg_schnet.batching import completed
from pyg_schnet.datasets.columns import Columns, mapped
from pyg_schnet.datasets.fingerprint import checksum
from pyg_schnet.datasets.parts import Parts
from pyg_schnet.datasets.prepared import prepared_columns
from pyg_schnet.datasets.sequence import cut_out
from pyg_schnet.datasets.summary import one_line, summary
from pyg_schnet.files import replacing
from pyg_schnet.files.source import RemoteFile, cache_folder, provide, writing

#: Version of what is stored; files of another one are made again.
FORMAT = 2
#: The same where the numbers are in files of their own beside it.
MAPPED = 3

#: All structures as one Data, where each begins by key, and what people should know of how they were read.
Collated = tuple[Data, dict[str, Tensor], dict[str, Any]]


class StructureDataset(InMemoryDataset):
    """A dataset of molecules or crystals.

    A subclass names its files (:meth:`files`) and reads them into collated tensors (:meth:`read`). From here come
    download or local mirror, one processed file for each set of options, locks between processes, files that are
    either whole or absent, and access without a Python object for each structure.

    Args:
        root: Folder for downloaded and processed files; by default in the cache of the system.
        folder: Folder of this dataset inside ``root``.
        options: Everything that changes what is stored, by name; part of the name of the processed file.
        source: A raw file or a folder with raw files; ``None`` for the folder in the environment variable
            ``PYG_SCHNET_DATA``, if set, then the internet.
        transform: Applied to each structure when it is accessed.
        pre_transform: Applied to each structure once, before it is stored.
        pre_filter: Structures for which it is false are not stored.
        log: True to print that files are processed.
        force_reload: True to read the raw files again.

    Raises:
        ValueError: If a raw file is damaged.
        FileNotFoundError: If ``source`` does not hold the files.
        OSError: If they cannot be downloaded.
    """

    #: Units by key of the structures.
    units: ClassVar[Mapping[str, str]] = {}
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    #: Folder inside a mirror where the files may lie.
    subfolder: ClassVar[str] = ""

    def __init__(
        self,
        root: str | Path | None,
        folder: str,
        options: Mapping[str, Any],
        *,
        source: str | Path | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        self.folder, self.options, self.source = folder, dict(options), source
        applied = {"pre_transform": pre_transform, "pre_filter": pre_filter}
        given = {name: value for name, value in (self.options | applied).items() if value is not None}
        #: Checksum of all that decides what is stored, empty without any option; taken before anything is applied,
        #: because transforms may count what they have seen.
        self.identity = checksum(dict(sorted(given.items()))) if given else ""
        self._stored_as = self._name()
        #: What people should know of how the files were read, for example how many structures were left out and why.
        self.report: dict[str, Any] = {}
        #: Tensors that belong to the dataset as a whole, for example published splits; filled by :meth:`read`.
        self.extras: dict[str, Tensor] = {}
        #: Files that are read beside the raw ones, such as published splits; filled by :meth:`read`.
        self.beside: list[Path] = []
        #: Where :meth:`read` has put numbers that may not fit into memory.
        self._columns: Columns | None = None
        root = cache_folder(None) / "data" if root is None else root
        super().__init__(str(root), transform, pre_transform, pre_filter, log=log, force_reload=force_reload)
        self.load(self.processed_paths[0])

    @abstractmethod
    def files(self) -> list[RemoteFile]:
        """The raw files that these options need."""

    @abstractmethod
    def read(self, paths: dict[str, Path]) -> Collated:
        """Read the raw files.

        Args:
            paths: Where each file is, by its name.

        Returns:
            All structures collated into one ``Data``, positions where each begins by key (one more than structures),
            and a report of plain numbers and strings.

        Raises:
            ValueError: If a file is damaged, with its path and what is wrong.
        """

    @property
    def raw_dir(self) -> str:
        """Folder of downloaded files."""
        return str(Path(self.root) / self.folder / "raw")

    @property
    def processed_dir(self) -> str:
        """Folder of processed files."""
        return str(Path(self.root) / self.folder / "processed")

    @property
    def raw_file_names(self) -> list[str]:
        """Names of the raw files."""
        return [file.name for file in self.files()]

    @property
    def processed_file_names(self) -> str:
        """A name that changes with every option, also where names do not tell small letters from large ones."""
        return self._stored_as

    def _name(self) -> str:
        """What is readable of the options, and a checksum of all of them."""
        if not self.identity:
            return "data.pt"
        options = sorted((name, value) for name, value in self.options.items() if value is not None)
        plain = "-".join(f"{name}={value}" for name, value in options)
        return f"{re.sub(r'[^A-Za-z0-9=.+-]+', '_', plain)[:60].strip('_')}-{self.identity}.pt".lstrip("-")

    def load(self, path: str, data_cls: type[BaseData] = Data) -> None:
        """Open a processed file without reading it: the tensors are mapped into memory and read when they are used.

        Args:
            path: The processed file.
            data_cls: Class of the structures.

        Raises:
            ValueError: If it is not a processed file of this package.
        """
        stored = _open(Path(path))
        if stored is None:
            raise ValueError(
                f"{path} is no processed file of this version of pyg_schnet; delete it to have it made again"
            )
        self._data, self.slices = data_cls.from_dict(stored["data"]), stored["slices"]
        self._columns = None
        self.report, self.extras = json.loads(stored["facts"])["report"], stored["extras"]

    def _download(self) -> None:
        """Nothing: files are fetched when they are read, and not at all if what is stored is up to date."""

    def _process(self) -> None:
        path = Path(self.processed_paths[0])
        if self.force_reload or not self._is_stored(path):
            folder = Path(self.root) / self.folder
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(folder / ".lock")
                lock.acquire()
            try:  # another process may have been at it: look again
                if self.force_reload or not self._is_stored(path):
                    self.process()
            finally:
                lock.release()

    def process(self) -> None:
        """Read the raw files and store all structures collated; what is stored is whole or absent."""
        paths = {}
        for file in self.files():
            paths[file.name] = provide(file, Path(self.raw_dir), self.source, self.subfolder)
        if self.log:
            few = (
                [*paths]
                if len(paths) < 4
                else [f"{len(paths):,} files, {next(iter(paths))} to {next(reversed(paths))}"]
            )
            print(f"reading {', '.join(few)} ...", flush=True)
        identity = {name: _identity(path) for name, path in paths.items()}
        try:
            data, slices, report = self.read(paths)
        except ValueError as error:
            ours = [str(path) for path in paths.values() if path.parent == Path(self.raw_dir)]
            if not ours:
                raise
            raise ValueError(f"{error} (delete {', '.join(ours)} to have it downloaded again)") from None
        if self.pre_filter is not None or self.pre_transform is not None:
            data, slices = self._prepared(data, slices)
        beside = [one for one in map(_identity_if_there, self.beside) if one is not None]
        facts = {"files": identity, "beside": beside, "report": report, "options": self.identity}
        with writing(Path(self.processed_dir)):
            Path(self.processed_dir).mkdir(parents=True, exist_ok=True)
            content: dict[str, Any] = {"extras": self.extras, "facts": json.dumps(facts)}
            columns = self._columns
            if columns is None or columns.folder is None:
                content |= {"format": FORMAT, "data": data.to_dict(), "slices": slices}
                _write(Path(self.processed_paths[0]), content)
            else:
                self._store(content, data, slices, columns, columns.folder)
        shutil.rmtree(self._work, ignore_errors=True)

    def parts_of(self, paths: dict[str, Path]) -> Parts:
        """What was read so far of the raw files, which may not fit into memory.

        Args:
            paths: Where each file is, by its name.

        Returns:
            The parts; those that an interrupted process has left, if the files have not changed since.
        """
        files = {name: _identity(path) for name, path in paths.items()}
        identity = {"format": [FORMAT, MAPPED], "options": self.identity, "files": files}
        parts = Parts(self._work / "parts", json.dumps(identity))
        if self.log and len(parts):
            print(f"going on behind {len(parts):,} parts that were read before ...", flush=True)
        return parts

    def columns_for(self, parts: Parts) -> Columns:
        """Where the numbers of all parts are to be put.

        Args:
            parts: The parts.

        Returns:
            A place in memory for a single part, else files.
        """
        self._columns = Columns(None if parts.in_memory else self._work / "columns")
        return self._columns

    @property
    def _work(self) -> Path:
        """Folder of what is there only while much data are processed."""
        return Path(self.processed_dir) / f".work-{Path(self._stored_as).stem}"

    def _store(
        self, content: dict[str, Any], data: Data, slices: dict[str, Tensor], columns: Columns, place: Path
    ) -> None:
        """Store numbers that are in files: these get their place, and then comes the file that tells what they are."""
        path = Path(self.processed_paths[0])
        about = columns.described(data.to_dict(), slices)
        columns.sync()
        folder = path.with_name(f"{path.stem}.{secrets.token_hex(4)}")
        place.rename(folder)
        _write(path, content | about | {"format": MAPPED, "folder": folder.name})
        for other in path.parent.glob(
            f"{glob.escape(path.stem)}.????????"
        ):  # of before, or of a process that was killed
            if other != folder and other.is_dir():
                shutil.rmtree(other, ignore_errors=True)

    def _prepared(self, data: Data, slices: dict[str, Tensor]) -> tuple[Data, dict[str, Tensor]]:
        """The structures that pass ``pre_filter``, after ``pre_transform``."""
        self._data, self.slices = data, slices
        if self._columns is not None and self._columns.folder is not None:
            own = (self.get(position) for position in range(self.len()))
            self._columns = Columns(self._work / "prepared")
            return prepared_columns(own, self.pre_filter, self.pre_transform, self._columns)
        kept = list(range(self.len()))
        if self.pre_filter is not None:  # which may not change what it looks at
            kept = [position for position in kept if self.pre_filter(self.get(position))]
        if not kept:
            raise ValueError("`pre_filter` leaves no structure")
        structures = [self.get(position) for position in kept]
        if self.pre_transform is not None:
            structures = [self.pre_transform(one) for one in structures]
        # PyG's own method stores a single structure in another way than several
        data, slices, _ = collate(Data, list(completed(structures)), increment=False, add_batch=False)
        return data, slices

    def get(self, idx: int) -> Data:
        """One structure, a copy out of the collated tensors (PyG would keep one of each ever accessed).

        Args:
            idx: Position of the structure.

        Returns:
            The structure; what is done to it does not change the dataset.
        """
        return cut_out(self._data, self.slices, idx)

    def __repr__(self) -> str:
        return one_line(self)

    def __str__(self) -> str:
        return summary(self)

    def _is_stored(self, path: Path) -> bool:
        """True if what is stored is of these options and of raw files as they are now.

        Without ``source`` raw files that are gone, or only on another machine, are not missed.
        """
        stored = _open(path)
        if stored is None:
            return False
        facts = json.loads(stored["facts"])
        if facts["options"] != self.identity:
            return False
        if self.source is None:
            return all(_is_as_before(file) for file in [*facts["files"].values(), *facts["beside"]])
        if any(_identity_if_there(Path(file["path"])) != file for file in facts["beside"]):
            return False
        return all(
            facts["files"].get(file.name) == _identity(provide(file, Path(self.raw_dir), self.source, self.subfolder))
            for file in self.files()
        )


def _identity(path: Path) -> dict[str, Any]:
    """What tells a file from another one without reading it."""
    stat = path.stat()
    # the second time cannot be set back; where it is that of creation, it does no harm
    changed = [stat.st_mtime_ns, stat.st_ctime_ns]
    return {"path": str(path.resolve()), "size": stat.st_size, "changed": changed}


def _identity_if_there(path: Path) -> dict[str, Any] | None:
    return _identity(path) if path.is_file() else None


def _is_as_before(file: dict[str, Any]) -> bool:
    """True if a raw file is gone, or what it was; copies of a whole folder keep size and time to the second."""
    path = Path(file["path"])
    if not path.is_file():
        return True
    now = _identity(path)
    return now["size"] == file["size"] and now["changed"][0] // 10**9 == file["changed"][0] // 10**9


def _open(path: Path) -> dict[str, Any] | None:
    """The content of a processed file, ``None`` if it is absent, damaged or of another version of this package."""
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, mmap=True, weights_only=True)
    except Exception:  # a damaged file fails in many ways, and each of them means: make it again
        return None
    if isinstance(stored, dict) and stored.get("format") == MAPPED:
        return _with_columns(stored, path.parent / stored["folder"])
    return stored if isinstance(stored, dict) and stored.get("format") == FORMAT else None


def _with_columns(stored: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The content of a processed file with the numbers that are in files beside it; ``None`` if one of them is gone."""
    try:
        known = {name: mapped(folder, about) for name, about in stored["columns"].items()}
    except (OSError, ValueError):
        return None
    places = {part: {key: known.get(name, name) for key, name in stored[part].items()} for part in ("data", "slices")}
    return stored | places


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as part, part.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # so PyTorch reports a write that fails
            raise OSError(errno.ENOSPC, str(error)) from None
        stream.flush()
        os.fsync(stream.fileno())
