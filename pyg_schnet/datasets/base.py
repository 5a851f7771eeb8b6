"""What all datasets share: files from mirrors, a processed file for each set of options, frames cut without copies."""

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.data.dataset import _repr as without_addresses
from torch_geometric.data.separate import separate

from pyg_schnet.datasets.source import RemoteFile, provide

#: All structures as one Data, where each begins by key, and what people should know of how they were read.
Collated = tuple[Data, dict[str, Tensor], dict[str, Any]]


class StructureDataset(InMemoryDataset):
    """A dataset of molecules or crystals.

    A subclass names its files (:meth:`files`) and reads them into collated tensors (:meth:`read`). From here come
    download or local mirror, one processed file for each set of options, locks between processes, files that are
    either whole or absent, and access without a Python object for each structure.

    Args:
        root: Folder for downloaded and processed files.
        folder: Folder of this dataset inside ``root``.
        options: Everything that changes what is stored, by name; part of the name of the processed file.
        source: A raw file or a folder with raw files; ``None`` for the folder in the environment variable
            ``PYG_SCHNET_DATA``, if set, then the internet.
        transform: Applied to each structure when it is accessed.
        pre_transform: Applied to each structure once, before it is stored.
        pre_filter: Structures for which it is false are not stored.
        log: Whether to print that files are processed.
        force_reload: Whether to read the raw files again.

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
        root: str | Path,
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
        #: What people should know of how the files were read, for example how many structures were left out and why.
        self.report: dict[str, Any] = {}
        super().__init__(str(root), transform, pre_transform, pre_filter, log=log, force_reload=force_reload)
        self.load(self.processed_paths[0])
        self.report = json.loads(self._facts_path.read_text())["report"]

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
        """A name that changes with every option."""
        plain = "-".join(f"{name}={value}" for name, value in sorted(self.options.items()) if value is not None)
        applied = [without_addresses(one) for one in (self.pre_transform, self.pre_filter) if one is not None]
        if applied or len(plain) > 100:
            plain = f"{plain[:60]}-{hashlib.sha256(repr((plain, applied)).encode()).hexdigest()[:12]}"
        return f"{plain or 'data'}.pt".replace("/", "_").replace(" ", "")

    @property
    def _facts_path(self) -> Path:
        return Path(self.processed_paths[0]).with_suffix(".json")

    def _download(self) -> None:
        """Nothing: files are fetched when they are read, and not at all if what is stored is up to date."""

    def _process(self) -> None:
        if not self.force_reload and self._is_stored():
            return
        folder = Path(self.root) / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # another process may be at it: wait, then look again
            if not self.force_reload and self._is_stored():
                return
            self.process()

    def process(self) -> None:
        """Read the raw files and store all structures collated; what is stored is whole or absent."""
        paths = {}
        for file in self.files():
            paths[file.name] = provide(file, Path(self.raw_dir), self.source, self.subfolder)
        if self.log:
            print(f"reading {', '.join(paths)} ...", flush=True)
        data, slices, report = self.read(paths)
        if self.pre_filter is not None or self.pre_transform is not None:
            self._data, self.slices = data, slices
            structures = [self.get(index) for index in range(self.len())]
            if self.pre_filter is not None:
                structures = [one for one in structures if self.pre_filter(one)]
            if not structures:
                raise ValueError("`pre_filter` leaves no structure")
            if self.pre_transform is not None:
                structures = [self.pre_transform(one) for one in structures]
            data, slices = self.collate(structures)
        Path(self.processed_dir).mkdir(parents=True, exist_ok=True)
        facts = {"files": {name: _identity(path) for name, path in paths.items()}, "report": report}
        _write(self._facts_path, lambda part: part.write_text(json.dumps(facts, indent=1)))
        _write(Path(self.processed_paths[0]), lambda part: torch.save((data.to_dict(), slices, Data), part))

    def get(self, idx: int) -> Data:
        """One structure, cut out of the collated tensors (PyG would keep a copy of each ever accessed).

        Args:
            idx: Position of the structure.

        Returns:
            The structure.
        """
        if self.slices is None:  # PyG stores a single structure uncollated
            return copy.copy(self._data)
        return separate(cls=Data, batch=self._data, idx=idx, slice_dict=self.slices, decrement=False)

    def _is_stored(self) -> bool:
        """Whether what is stored is of these raw files; other ones are noticed only if ``source`` is given."""
        if not (Path(self.processed_paths[0]).is_file() and self._facts_path.is_file()):
            return False
        if self.source is None:
            return True
        stored = json.loads(self._facts_path.read_text())["files"]
        return all(
            stored.get(file.name) == _identity(provide(file, Path(self.raw_dir), self.source, self.subfolder))
            for file in self.files()
        )


def _identity(path: Path) -> dict[str, Any]:
    """What tells a file from another one without reading it."""
    stat = path.stat()
    return {"path": str(path.resolve()), "size": stat.st_size, "changed": stat.st_mtime_ns}


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
