"""MD17: molecular dynamics of small molecules with energies and forces."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.rmd17 import MOLECULES, archive, read_revised, tables_beside
from pyg_schnet.datasets.rounding import rounded_positions
from pyg_schnet.datasets.sgdml_npz import read_npz
from pyg_schnet.files.source import RemoteFile
from pyg_schnet.units import conversion

#: Folders of the files of MD17 and MD22.
BASE_URL = "http://www.quantum-machine.org/gdml/data/npz/"
MD22_URL = "http://www.quantum-machine.org/gdml/repo/datasets/"


class Entry(NamedTuple):
    """What is known of a trajectory.

    Attributes:
        family: ``"md17"``, ``"revised"``, ``"ccsd"``, ``"md22"`` or ``"bundled"``.
        file: Name of the file upstream; of the molecule in the archive of the revised MD17.
        formula: Sum formula, by which a file that belongs to another molecule is recognised.
        frames: Number of frames published.
        title: The name in PyG, or in the publication.
    """

    family: str
    file: str
    formula: str
    frames: int
    title: str


_ENTRIES = (
    Entry("md17", "md17_aspirin.npz", "C9H8O4", 211_762, "aspirin"),
    Entry("md17", "azobenzene_dft.npz", "C12H10N2", 99_999, "azobenzene"),
    Entry("md17", "md17_benzene2017.npz", "C6H6", 627_983, "benzene"),
    Entry("md17", "md17_ethanol.npz", "C2H6O", 555_092, "ethanol"),
    Entry("md17", "md17_malonaldehyde.npz", "C3H4O2", 993_237, "malonaldehyde"),
    Entry("md17", "md17_naphthalene.npz", "C10H8", 326_250, "naphthalene"),
    Entry("md17", "paracetamol_dft.npz", "C8H9NO2", 106_490, "paracetamol"),
    Entry("md17", "md17_salicylic.npz", "C7H6O3", 320_231, "salicylic acid"),
    Entry("md17", "md17_toluene.npz", "C7H8", 442_790, "toluene"),
    Entry("md17", "md17_uracil.npz", "C4H4N2O2", 133_770, "uracil"),
    Entry("md17", "benzene2018_dft.npz", "C6H6", 49_863, "benzene FHI-aims"),
    Entry("ccsd", "aspirin_ccsd.zip", "C9H8O4", 1500, "aspirin CCSD"),
    Entry("ccsd", "benzene_ccsd_t.zip", "C6H6", 1500, "benzene CCSD(T)"),
    Entry("ccsd", "ethanol_ccsd_t.zip", "C2H6O", 2000, "ethanol CCSD(T)"),
    Entry("ccsd", "malonaldehyde_ccsd_t.zip", "C3H4O2", 1500, "malonaldehyde CCSD(T)"),
    Entry("ccsd", "toluene_ccsd_t.zip", "C7H8", 1501, "toluene CCSD(T)"),
    Entry("md22", "md22_Ac-Ala3-NHMe.npz", "C12H22N4O4", 85_109, "Ac-Ala3-NHMe"),
    Entry("md22", "md22_DHA.npz", "C22H32O2", 69_753, "DHA"),
    Entry("md22", "md22_stachyose.npz", "C24H42O21", 27_272, "stachyose"),
    Entry("md22", "md22_AT-AT.npz", "C20H22N14O4", 20_001, "AT-AT"),
    Entry("md22", "md22_AT-AT-CG-CG.npz", "C38H42N30O8", 10_153, "AT-AT-CG-CG"),
    Entry("md22", "md22_buckyball-catcher.npz", "C120H28", 6102, "buckyball-catcher"),
    Entry("md22", "md22_double-walled_nanotube.npz", "C326H44", 5032, "double-walled nanotube"),
    Entry("bundled", "ethanol_xtb.npz", "C2H6O", 2000, "ethanol_xtb"),
    Entry("bundled", "malonaldehyde_xtb.npz", "C3H4O2", 1200, "malonaldehyde_xtb"),
    Entry("bundled", "c20_xtb.npz", "C20", 500, "c20_xtb"),
)


def key_of(name: str) -> str:
    """One spelling of the name of a molecule, under which :data:`CATALOGUE` has it.

    Args:
        name: The name in any spelling, such as PyG's.

    Returns:
        The key.

    Example:
        >>> key_of("ethanol CCSD(T)")
        'ethanol_ccsd_t'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _catalogue() -> dict[str, Entry]:
    entries = {key_of(entry.title): entry for entry in _ENTRIES}
    for molecule in MOLECULES:
        title = "salicylic acid" if molecule == "salicylic" else molecule
        frames = 99_988 if molecule == "azobenzene" else 100_000
        entries[f"revised_{key_of(title)}"] = Entry(
            "revised", molecule, entries[key_of(title)].formula, frames, f"revised {title}"
        )
    return entries


#: All trajectories by key.
CATALOGUE: dict[str, Entry] = _catalogue()


class MD17(StructureDataset):
    """Molecular dynamics trajectories with energies and forces: MD17, revised MD17, CCSD(T), MD22 and bundled ones.

    Each frame is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] float32 in Angstrom, ``energy`` [1] float64 in eV and
    ``forces`` [n, 3] float32 in eV/Angstrom. Energies stay float64 because a float32 step of a total energy (0.008 to
    0.03 kcal/mol) is as large as the errors reported for MD17. The files' own fingerprint is verified.

    Names are those of PyG, also with underscores (``"salicylic_acid"``, ``"ethanol_ccsd_t"``):

    - MD17, PBE+TS (Chmiela et al., Sci. Adv. 3, e1603015, 2017): ``"ethanol"``, ``"aspirin"``, ...
    - revised MD17, PBE/def2-SVP with tight convergence (Christensen and von Lilienfeld, 2020):
      ``"revised ethanol"``, ...; its five splits by :meth:`official_split`. One archive of 1 GB serves all
      molecules.
    - coupled cluster (Chmiela et al., Nat. Commun. 9, 3887, 2018): ``"ethanol CCSD(T)"``, ..., ``"aspirin CCSD"``
    - MD22, PBE+MBD (Chmiela et al., Sci. Adv. 9, eadf0873, 2023): ``"Ac-Ala3-NHMe"``, ``"DHA"``, ``"stachyose"``,
      ``"AT-AT"``, ``"AT-AT-CG-CG"``, ``"buckyball-catcher"``, ``"double-walled nanotube"``
    - GFN2-xTB trajectories that come with this package: ``"ethanol_xtb"``, ``"malonaldehyde_xtb"``, ``"c20_xtb"``

    The authors advise against training on more than 1,000 frames of MD17 and revised MD17.

    Args:
        root: Folder for raw and processed files; by default in the cache of the system.
        name: Name of the trajectory.
        train: For coupled cluster, whether the published training or test part is read; ``None`` for all others.
        revised: True if the revised labels of the molecule ``name`` are meant.
        check_fingerprint: True if a file that does not have the fingerprint it states is refused.
        source: The upstream file or a folder that holds it; by default the folder named in the environment variable
            ``PYG_SCHNET_DATA`` is searched before the file is downloaded.
        transform: Applied to each frame when it is accessed.
        pre_transform: Applied to each frame once, before it is stored.
        pre_filter: Frames for which it is false are not stored.
        log: True to print that files are processed.
        force_reload: True to process the raw file again.

    Raises:
        ValueError: If the name is not known, ``train`` does not fit, or the raw file is damaged.
        FileNotFoundError: If ``source`` does not hold the file.
        OSError: If the file cannot be downloaded.

    Example:
        >>> import tempfile
        >>> dataset = MD17(tempfile.mkdtemp(), "ethanol_xtb", log=False)
        >>> len(dataset), dataset.units["forces"]
        (2000, 'eV/Ang')
    """

    subfolder: ClassVar[str] = "md17"
    units: ClassVar[dict[str, str]] = {"pos": "Ang", "energy": "eV", "forces": "eV/Ang"}
    licence: ClassVar[str] = "revised MD17: CC0; the others: not stated by their authors; bundled: MIT"
    citation: ClassVar[str] = (
        "Chmiela et al., Sci. Adv. 3, e1603015 (2017); revised: Christensen and von Lilienfeld, "
        "Mach. Learn.: Sci. Technol. 1, 045018 (2020); CCSD(T): Chmiela et al., Nat. Commun. 9, 3887 (2018); "
        "MD22: Chmiela et al., Sci. Adv. 9, eadf0873 (2023)"
    )

    def __init__(
        self,
        root: str | Path | None = None,
        name: str = "",
        *,
        train: bool | None = None,
        revised: bool = False,
        check_fingerprint: bool = True,
        source: str | Path | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        self.name = key_of(f"revised {name}" if revised and not key_of(name).startswith("revised_") else name)
        if self.name not in CATALOGUE:
            known = ", ".join(entry.title for entry in CATALOGUE.values())
            raise ValueError(f"unknown molecule {name!r}{' (revised)' if revised else ''}; expected one of {known}")
        self.entry = CATALOGUE[self.name]
        if (self.entry.family == "ccsd") != (train is not None):
            expected = "True or False, for its training or its test part" if train is None else "None"
            raise ValueError(f"`train` must be {expected}, for {self.entry.title!r}, got {train}")
        self.train, self.check_fingerprint = train, check_fingerprint
        in_archive = self.entry.family == "revised"  # shared by ten molecules
        super().__init__(
            root,
            "rmd17" if in_archive else self.name,
            {
                "name": self.name if in_archive else None,
                "train": train,
                "fingerprint": None if check_fingerprint else "unchecked",
            },
            source=source,
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )

    def files(self) -> list[RemoteFile]:
        """The npz file or the archive that holds it."""
        family, name = self.entry.family, self.entry.file
        if family == "bundled":
            return [RemoteFile(name, bundled=bundled_path(self.name) / name)]
        if family == "revised":
            return [archive(name)]
        if family == "ccsd":
            return [RemoteFile(name, (BASE_URL + name,), alternatives=(Path(name).stem + self._part,))]
        return [RemoteFile(name, ((MD22_URL if family == "md22" else BASE_URL) + name,))]

    def read(self, paths: dict[str, Path]) -> Collated:
        """Convert units and collate all frames."""
        (path,) = paths.values()
        if self.entry.family == "revised":
            raw, splits = read_revised(path, self.entry.file, progress=bool(self.log))
            self.beside = tables_beside(path, self.entry.file) if path.suffix == ".npz" else []
            self.extras = {name: torch.from_numpy(positions) for name, positions in splits.items()}
        else:
            other = {"-train.npz": "-test.npz", "-test.npz": "-train.npz"}.get(self._part)
            if other is not None and path.name.endswith(other):
                raise ValueError(f"`train` is {self.train}, but `source` is {path}; give the archive or the other part")
            raw = read_npz(path, self._part or None, self.check_fingerprint)
        formula = sum_formula(raw["z"].tolist())
        if formula != self.entry.formula:
            raise ValueError(
                f"the file given for {self.entry.title} holds {formula}, expected {self.entry.formula}; "
                "check name and source"
            )
        data, slices = _collated(str(path), raw)
        return data, slices, {"frames": len(raw["R"]), "frames published": self.entry.frames, "formula": formula}

    def official_split(self, number: int = 1) -> dict[str, Tensor]:
        """One of the splits published with revised MD17.

        Args:
            number: Which of them, from 1.

        Returns:
            Positions of the frames for ``train`` and ``test``, in the published order.

        Raises:
            ValueError: If there is no such split, or frames were left out so that positions have changed.
        """
        known = sorted(int(name[6:]) for name in self.extras if name.startswith("train_"))
        if number not in known:
            have = f"there are {known}" if known else "only the revised MD17 has some, in the folder `splits`"
            raise ValueError(f"{self.entry.title!r} has no official split {number}; {have}")
        if self.pre_filter is not None or self._indices is not None:
            raise ValueError("official splits count all frames; take them from the dataset without filter or selection")
        return {part: self.extras[f"{part}_{number}"] for part in ("train", "test")}

    @property
    def _part(self) -> str:
        return "" if self.train is None else "-train.npz" if self.train else "-test.npz"


def _collated(where: str, raw: dict[str, NDArray]) -> tuple[Data, dict[str, Tensor]]:
    """All frames of a file as one Data, and where each frame begins."""
    frames, atoms = raw["R"].shape[:2]
    kcal = conversion("kcal/mol", "eV")
    data = Data(
        z=torch.from_numpy(raw["z"]).repeat(frames),
        pos=torch.from_numpy(rounded_positions(where, raw["R"].reshape(-1, 3), np.full(frames, atoms))),
        energy=torch.from_numpy(raw["E"] * kcal),
        forces=torch.from_numpy(raw["F"] * kcal).float().reshape(-1, 3),
    )
    of_atoms, of_frames = torch.arange(frames + 1) * atoms, torch.arange(frames + 1)
    return data, {"z": of_atoms, "pos": of_atoms, "energy": of_frames, "forces": of_atoms}


def sum_formula(z: list[int]) -> str:
    """Sum formula of a molecule of C, H, N and O; other elements appear by their numbers.

    Args:
        z: Atomic numbers.

    Returns:
        The formula, carbon first.

    Example:
        >>> sum_formula([8, 1, 6, 1])
        'CH2O'
    """
    counts = Counter({6: "C", 1: "H", 7: "N", 8: "O"}.get(number, f"[{number}]") for number in z)
    order = [*(element for element in "CHNO" if element in counts), *sorted(counts.keys() - set("CHNO"))]
    return "".join(f"{element}{counts[element] if counts[element] > 1 else ''}" for element in order)
