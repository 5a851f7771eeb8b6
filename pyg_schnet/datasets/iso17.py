"""ISO17: molecular dynamics of isomers of C7O2H10, with known and unknown isomers to test on."""

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch_geometric.data import Data

from pyg_schnet.datasets.ase_db import Molecules, is_sqlite, read_molecules
from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.splits import Split
from pyg_schnet.files.source import RemoteFile

ARCHIVE = "iso17.tar.gz"
#: The parts, and how many structures each has upstream.
PARTS: dict[str, int] = {
    "reference": 404_000,
    "reference_eq": 101,
    "test_within": 101_000,
    "test_other": 130_000,
    "test_eq": 5_881,
}
BUNDLED = {"bundled": "iso17_xtb", "iso17_xtb": "iso17_xtb"}
#: Files with the published ids, and the number by which a structure says that it belongs there.
SUBSETS = {"train_ids.txt": 1, "validation_ids.txt": 2}
_FORMULA = {6: 7, 8: 2, 1: 10}
_DAMAGE = (tarfile.TarError, zlib.error, EOFError, ValueError)


class ISO17(StructureDataset):
    """Isomers of C7O2H10 in motion (Schütt et al., NIPS 2017), PBE+TS at 500 K.

    Each structure is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] float32 in Angstrom, ``energy`` [1] float64 in eV,
    ``forces`` [n, 3] float32 in eV/Angstrom, and ``subset`` [1]: 1 if the published split trains on it, 2 if it
    validates on it, else 0. The order of the atoms differs between isomers.

    Args:
        root: Folder for raw and processed files; by default in the cache of the system.
        part: ``"reference"`` (404,000 frames to train and validate on), ``"test_within"`` (101,000 other frames of the
            same isomers), ``"test_other"`` (130,000 frames of other isomers), ``"reference_eq"`` and ``"test_eq"``
            (equilibrium structures, all forces zero).
        name: ``"iso17"``, or ``"bundled"`` for GFN2-xTB dynamics in the same layout, which needs no download.
        source: The upstream archive, one of its databases, or a folder that holds the archive or the databases; by
            default the folder named in the environment variable ``PYG_SCHNET_DATA`` is searched before the archive is
            downloaded.
        transform: Applied to each structure when it is accessed.
        pre_transform: Applied to each structure once, before it is stored.
        pre_filter: Structures for which it is false are not stored.
        log: True to print that files are processed.
        force_reload: True to process the raw file again.

    Raises:
        ValueError: If an argument is not known or the raw file is damaged.
        FileNotFoundError: If ``source`` does not hold the file.

    Example:
        >>> import tempfile
        >>> dataset = ISO17(tempfile.mkdtemp(), "test_other", name="bundled", log=False)
        >>> dataset[0].pos.shape, dataset.units["forces"]
        (torch.Size([19, 3]), 'eV/Ang')
    """

    subfolder: ClassVar[str] = "iso17"
    units: ClassVar[dict[str, str]] = {"pos": "Ang", "energy": "eV", "forces": "eV/Ang"}
    licence: ClassVar[str] = "MIT"
    citation: ClassVar[str] = (
        "K. T. Schütt et al., SchNet: A continuous-filter convolutional neural network for modeling quantum "
        "interactions, Advances in Neural Information Processing Systems 30 (2017)"
    )

    def __init__(
        self,
        root: str | Path | None = None,
        part: str = "reference",
        *,
        name: str = "iso17",
        source: str | Path | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r}; expected one of {', '.join(PARTS)}")
        if name not in {"iso17", *BUNDLED}:
            raise ValueError(f"unknown name {name!r}; expected one of iso17, {', '.join(BUNDLED)}")
        self.name, self.part = name, part
        super().__init__(
            root,
            BUNDLED.get(name, name),
            {"part": part},
            source=source,
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )

    def files(self) -> list[RemoteFile]:
        """The archive with all parts; a mirror may hold it unpacked."""
        if self.name in BUNDLED:
            return [RemoteFile(ARCHIVE, bundled=bundled_path(BUNDLED[self.name]) / ARCHIVE)]
        hosts = ("http://www.quantum-machine.org", "http://quantum-machine.org")
        urls = tuple(f"{host}/datasets/{ARCHIVE}" for host in hosts)
        return [RemoteFile(ARCHIVE, urls, alternatives=(f"{self.part}.db",))]

    def read(self, paths: dict[str, Path]) -> Collated:
        """Read one part and the published ids."""
        (path,) = paths.values()
        if is_sqlite(path):
            database, ids = path, _read_ids(path.parent, self.part)
            self.beside = [path.parent / name for name in SUBSETS]
            molecules = read_molecules(database, "total_energy", "atomic_forces")
        else:
            home = Path(self.root) / self.folder
            for left_behind in home.glob("unpacked-*"):  # by a process that was killed; the lock is ours
                shutil.rmtree(left_behind, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="unpacked-", dir=home) as folder:
                database = _unpacked(path, Path(folder), self.part)
                ids = _read_ids(Path(folder), self.part)
                molecules = read_molecules(database, "total_energy", "atomic_forces")
        _check_formula(molecules, path)
        subset = np.zeros(len(molecules.ids), dtype=np.int64)
        for file, number in SUBSETS.items():
            chosen = np.isin(molecules.ids, ids[file])
            if (subset[chosen] != 0).any() or chosen.sum() != len(ids[file]):
                raise ValueError(f"{path}: {file} names rows twice or rows that {self.part}.db does not have")
            subset[chosen] = number
        report = {"structures": len(subset)} | {file: int((subset == number).sum()) for file, number in SUBSETS.items()}
        return *_collated(molecules, subset), report

    def official_split(self) -> Split:
        """The published split of the part ``"reference"`` into training and validation.

        Returns:
            Positions in this dataset of ``train`` and ``val``.

        Raises:
            ValueError: If this is another part or the published ids were not beside the database.
        """
        if self.part != "reference":
            raise ValueError(f'only the part "reference" is split, this is {self.part!r}: test on all of it')
        subset = self._data.subset
        parts = {name: (subset == number).nonzero().flatten() for name, number in (("train", 1), ("val", 2))}
        if not parts["train"].numel():
            raise ValueError(f"the ids of the published split ({', '.join(SUBSETS)}) were not beside the database")
        return Split(parts, len(subset), method="official")


def _unpacked(path: Path, folder: Path, part: str) -> Path:
    """Unpack the database of a part, and the files with ids, wherever they lie in the archive."""
    wanted, found = {f"{part}.db", *SUBSETS}, set()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name in wanted and member.isfile() and (stream := archive.extractfile(member)) is not None:
                    with (folder / name).open("wb") as file:
                        shutil.copyfileobj(stream, file, 1 << 20)
                    found.add(name)
    except _DAMAGE as error:
        raise ValueError(f"{path} is not readable as a tar archive ({error}); fetch or copy it again") from None
    if f"{part}.db" not in found:
        raise ValueError(f"{path} has no {part}.db; it is not the archive of ISO17")
    return folder / f"{part}.db"


def _read_ids(folder: Path, part: str) -> dict[str, np.ndarray]:
    """Published ids, none for parts that are not split."""
    ids = {}
    for name in SUBSETS:
        path = folder / name
        text = path.read_bytes().split() if part == "reference" and path.is_file() else []
        if not all(word.isdigit() and len(word) < 10 for word in text):
            raise ValueError(f"{name}: expected row numbers, one on each line; fetch or copy it again")
        ids[name] = np.array([int(word) for word in text], dtype=np.int64)
    return ids


def _check_formula(molecules: Molecules, path: Path) -> None:
    atoms = sum(_FORMULA.values())
    right = molecules.sizes == atoms
    if right.all():
        z = molecules.z.reshape(-1, atoms)
        for number, count in _FORMULA.items():
            right &= (z == number).sum(axis=1) == count
    if not right.all():
        raise ValueError(f"{path}: row {molecules.ids[~right][0]} is no isomer of C7O2H10; is it a database of ISO17?")


def _collated(molecules: Molecules, subset: np.ndarray) -> tuple[Data, dict[str, Any]]:
    data = Data(
        z=torch.from_numpy(molecules.z),
        pos=torch.from_numpy(molecules.positions),
        energy=torch.from_numpy(molecules.energies),
        forces=torch.from_numpy(molecules.forces),
        subset=torch.from_numpy(subset),
    )
    data.num_nodes = len(molecules.z)
    of_atoms = torch.from_numpy(np.concatenate([[0], molecules.sizes.cumsum()]))
    slices = {"z": of_atoms, "pos": of_atoms, "forces": of_atoms}
    return data, slices | dict.fromkeys(("energy", "subset"), torch.arange(len(subset) + 1))
