"""QM9: small organic molecules with 19 properties."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.qm9_records import (
    ELEMENTS,
    PROPERTIES,
    Records,
    read_atomref,
    read_records,
    read_uncharacterized,
)
from pyg_schnet.datasets.rounding import rounded_positions
from pyg_schnet.files.source import RemoteFile
from pyg_schnet.units import HARTREE

ARCHIVE, UNCHARACTERIZED, ATOMREF = "dsgdb9nsd.xyz.tar.bz2", "uncharacterized.txt", "atomref.txt"
#: Of each file: number at figshare, size in bytes, sha256.
FILES: dict[str, tuple[int, int, str]] = {
    ARCHIVE: (3195389, 86_144_227, "3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c"),
    UNCHARACTERIZED: (3195404, 486_752, "3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24"),
    ATOMREF: (3195395, 964, "af739d4a0fbe894a56f346ad6045ee1b74c58f8a8c9ef3fbfed920c9ad8b00f9"),
}
#: Where figshare gives them, the address that answers most reliably first.
ADDRESSES = (
    "https://api.figshare.com/v2/file/download/{}",
    "https://ndownloader.figshare.com/files/{}",
    "https://springernature.figshare.com/ndownloader/files/{}",
)
#: Molecules in the upstream list of doubtful ones.
NUM_UNCHARACTERIZED = 3054
#: Folder of the bundled molecules.
BUNDLED = "qm9_small"
#: Energies that also come as energy minus that of the free atoms.
ATOMIZATION = ("U0", "U", "H", "G")
#: The targets in PyG's order, with PyG's units.
TARGET_UNITS: dict[str, str] = {
    "mu": "D",
    "alpha": "a0^3",
    "homo": "eV",
    "lumo": "eV",
    "gap": "eV",
    "r2": "a0^2",
    "zpve": "eV",
    "U0": "eV",
    "U": "eV",
    "H": "eV",
    "G": "eV",
    "Cv": "cal/(mol K)",
    "U0_atom": "eV",
    "U_atom": "eV",
    "H_atom": "eV",
    "G_atom": "eV",
    "A": "GHz",
    "B": "GHz",
    "C": "GHz",
}


class QM9(StructureDataset):
    """Molecules of up to nine C, N, O and F with 19 properties (Ramakrishnan et al., Sci. Data 1, 140022, 2014).

    Each molecule is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] float32 in Angstrom, ``y`` [1, 19] float64 and
    ``gdb`` [1] int64, its number in the database. ``y`` has the targets of PyG's QM9 in its order and units: mu, alpha,
    homo, lumo, gap, r2, zpve, U0, U, H, G, Cv, U0_atom, U_atom, H_atom, G_atom, A, B, C (:attr:`targets` gives columns,
    :attr:`target_units` units). The ``_atom`` columns are energies minus those of the free atoms. All come from the
    raw records, so total energies keep their digits: a float32 step of U0 is 1 to 2 meV. Hartrees are converted with
    CODATA 2014, as in ASE; PyG uses CODATA 2018, which makes total energies differ by up to 0.16 meV.

    Molecules are ordered by ``gdb``. The 3,054 whose relaxed geometry is not the molecule meant are left out by default
    (130,831 of 133,885 remain); :attr:`report` counts them.

    Args:
        root: Folder for downloaded and processed files; by default in the cache of the system.
        name: ``"qm9"``, or ``"bundled"`` for the molecules that come with the package (not those of QM9).
        target: Name or column of one target, then ``y`` is [1, 1]; ``None`` for all 19.
        uncharacterized: True to keep the molecules that failed the consistency check.
        source: The raw archive, next to which the text files lie, or a folder that holds all; by default the folder in
            the environment variable ``PYG_SCHNET_DATA`` is searched before anything is downloaded.
        transform: Applied to each molecule when it is accessed.
        pre_transform: Applied to each molecule once, before it is stored.
        pre_filter: Molecules for which it is false are not stored.
        log: True to print that files are processed.
        force_reload: True to read the raw files again.

    Raises:
        ValueError: If the name or target is not known or a raw file is damaged.
        FileNotFoundError: If ``source`` does not hold the files.
        OSError: If they cannot be downloaded.

    Example:
        >>> import tempfile
        >>> dataset = QM9(tempfile.mkdtemp(), "bundled", target="U0", log=False)
        >>> dataset[0].z.tolist(), dataset[0].y.shape, dataset.target_units["U0"]
        ([6, 1, 1, 1, 1], torch.Size([1, 1]), 'eV')
        >>> references = dataset.atomref("U0")  # for SchNet(atomref=...)
        >>> references.shape
        torch.Size([100, 1])
    """

    subfolder: ClassVar[str] = "qm9"
    units: ClassVar[dict[str, str]] = {"pos": "Ang"} | TARGET_UNITS
    licence: ClassVar[str] = "CC0 1.0"
    citation: ClassVar[str] = (
        "R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld, Sci. Data 1, 140022 (2014), "
        "doi:10.1038/sdata.2014.22"
    )
    #: Columns of ``y`` by name, before one is chosen.
    targets: ClassVar[dict[str, int]] = {name: column for column, name in enumerate(TARGET_UNITS)}
    target_units: ClassVar[dict[str, str]] = TARGET_UNITS

    def __init__(
        self,
        root: str | Path | None = None,
        name: str = "qm9",
        *,
        target: str | int | None = None,
        uncharacterized: bool = False,
        source: str | Path | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        if name not in {"qm9", "bundled"}:
            raise ValueError(f"unknown dataset {name!r}; expected 'qm9' or 'bundled'")
        self.name, self.uncharacterized = name, uncharacterized
        self.target_name = None if target is None else _target(target)
        self.archive = ARCHIVE
        if source is not None and Path(source).expanduser().is_file():  # the text files lie next to the archive
            source = Path(source).expanduser()
            self.archive, source = source.name, source.parent
        super().__init__(
            root,
            "qm9" if name == "qm9" else BUNDLED,
            {"uncharacterized": uncharacterized},
            source=source,
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )
        if self.target_name is not None:  # what is stored has all targets
            column = self.targets[self.target_name]
            self._data.y = self._data.y[:, column : column + 1].clone()

    def files(self) -> list[RemoteFile]:
        """The archive, the free atoms, and the list of doubtful molecules if they are to be left out."""
        names = [ARCHIVE, ATOMREF] if self.uncharacterized else [ARCHIVE, ATOMREF, UNCHARACTERIZED]
        if self.name == "bundled":
            return [RemoteFile(name, bundled=bundled_path(BUNDLED) / name) for name in names]
        files = []
        for name in names:
            number, size, sha256 = FILES[name]
            urls = tuple(address.format(number) for address in ADDRESSES)
            files.append(RemoteFile(self.archive if name == ARCHIVE else name, urls, sha256, size))
        return files

    def read(self, paths: dict[str, Path]) -> Collated:
        """Parse the records, leave out doubtful molecules, convert units and collate."""
        records = read_records(paths[self.archive])
        references = read_atomref(paths[ATOMREF])
        report: dict[str, Any] = {"records": len(records.ids), "uncharacterized_removed": 0}
        if not self.uncharacterized:
            listed = read_uncharacterized(paths[UNCHARACTERIZED])
            if self.name == "qm9" and len(listed) != NUM_UNCHARACTERIZED:
                raise ValueError(
                    f"{paths[UNCHARACTERIZED]} lists {len(listed)} molecules, expected {NUM_UNCHARACTERIZED}; "
                    f"fetch it again or pass `uncharacterized=True` to keep all molecules"
                )
            doubtful = np.isin(records.ids, listed)
            if doubtful.all():
                raise ValueError(f"{paths[self.archive]} holds uncharacterized molecules only; check the archive")
            report["uncharacterized_removed"] = int(doubtful.sum())
            records = records.keep(~doubtful)
        report |= {"molecules": len(records.ids), "atoms": len(records.z), "atomrefs": _converted(references)}
        return *_collated(str(paths[self.archive]), records, references), report

    def atomref(self, target: str | int) -> Tensor | None:
        """What free atoms contribute to a target, by atomic number; PyG's method of this name.

        Args:
            target: Name or column of the target.

        Returns:
            [100, 1] float64 in the unit of the target (zero for elements that do not occur), ``None`` if a target is no
            sum over atoms: only zpve, U0, U, H, G and Cv have one (2.981 cal/(mol K) for Cv, where PyG has zeros).

        Raises:
            ValueError: If the target is not known.
        """
        values = self.report["atomrefs"].get(_target(target))
        if values is None:
            return None
        references = torch.zeros(100, 1, dtype=torch.float64)
        for symbol, value in values.items():
            references[ELEMENTS[symbol]] = value
        return references


def _target(target: str | int) -> str:
    """Name of a target given by name or column."""
    names = list(TARGET_UNITS)
    if isinstance(target, int) and 0 <= target < len(names):
        return names[target]
    if target not in TARGET_UNITS:
        raise ValueError(f"unknown target {target!r}; expected a column 0 to 18 or one of {', '.join(names)}")
    return str(target)


def _converted(references: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """References in the units of the targets."""
    factors = {name: HARTREE if TARGET_UNITS[name] == "eV" else 1.0 for name in references}
    return {name: {symbol: x * factors[name] for symbol, x in row.items()} for name, row in references.items()}


def _targets(records: Records, references: dict[str, dict[str, float]]) -> NDArray[np.float64]:
    """All 19 targets [M, 19]; references are subtracted in Hartree, before the conversion."""
    raw = dict(zip(PROPERTIES, records.properties.T, strict=True))
    starts = np.cumsum(records.atoms) - records.atoms
    for name in ATOMIZATION:
        by_number = np.zeros(max(ELEMENTS.values()) + 1)
        by_number[list(ELEMENTS.values())] = [references[name][symbol] for symbol in ELEMENTS]
        raw[f"{name}_atom"] = raw[name] - np.add.reduceat(by_number[records.z], starts)
    factors = [HARTREE if unit == "eV" else 1.0 for unit in TARGET_UNITS.values()]
    return np.stack([raw[name] for name in TARGET_UNITS], axis=1) * factors


def _collated(where: str, records: Records, references: dict[str, dict[str, float]]) -> tuple[Data, dict[str, Tensor]]:
    molecules = torch.arange(len(records.ids) + 1)
    atoms = torch.from_numpy(np.concatenate([[0], np.cumsum(records.atoms)]))
    data = Data(
        z=torch.from_numpy(records.z),
        pos=torch.from_numpy(rounded_positions(where, records.pos, records.atoms)),
        y=torch.from_numpy(_targets(records, references)),
        gdb=torch.from_numpy(records.ids),
    )
    data.num_nodes = len(records.z)
    return data, {"z": atoms, "pos": atoms, "y": molecules, "gdb": molecules}
