"""MD17: molecular dynamics of small molecules with energies and forces."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.sgdml_npz import read_npz
from pyg_schnet.datasets.source import RemoteFile
from pyg_schnet.units import conversion

BASE_URL = "http://www.quantum-machine.org/gdml/data/npz/"
#: The molecules and their files upstream.
FILES: dict[str, str] = {
    "aspirin": "md17_aspirin.npz",
    "azobenzene": "azobenzene_dft.npz",
    "benzene": "md17_benzene2017.npz",
    "ethanol": "md17_ethanol.npz",
    "malonaldehyde": "md17_malonaldehyde.npz",
    "naphthalene": "md17_naphthalene.npz",
    "paracetamol": "paracetamol_dft.npz",
    "salicylic_acid": "md17_salicylic.npz",
    "toluene": "md17_toluene.npz",
    "uracil": "md17_uracil.npz",
}
#: Their sum formulas, by which a file that belongs to another molecule is recognised.
FORMULAS: dict[str, str] = {
    "aspirin": "C9H8O4",
    "azobenzene": "C12H10N2",
    "benzene": "C6H6",
    "ethanol": "C2H6O",
    "ethanol_xtb": "C2H6O",
    "malonaldehyde": "C3H4O2",
    "naphthalene": "C10H8",
    "paracetamol": "C8H9NO2",
    "salicylic_acid": "C7H6O3",
    "toluene": "C7H8",
    "uracil": "C4H4N2O2",
}
#: Datasets in the same layout that come with the package.
BUNDLED: dict[str, str] = {"ethanol_xtb": "ethanol_xtb.npz"}


class MD17(StructureDataset):
    """Molecular dynamics trajectories with energies and forces (Chmiela et al., Sci. Adv. 3, e1603015, 2017).

    Each frame is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] float32 in Angstrom, ``energy`` [1] float64 in eV and
    ``forces`` [n, 3] float32 in eV/Angstrom. Energies stay float64 because a float32 step of a total energy (0.008 to
    0.03 kcal/mol) is as large as the errors reported for MD17. The files' own fingerprint is verified.

    Args:
        root: Folder for raw and processed files.
        name: A molecule (``"ethanol"``, ``"aspirin"``, ...), or ``"ethanol_xtb"`` for the bundled GFN2-xTB trajectory,
            which needs no download.
        source: The upstream npz file or a folder that holds it; by default the folder named in the environment variable
            ``PYG_SCHNET_DATA`` is searched before the file is downloaded.
        transform: Applied to each frame when it is accessed.
        pre_transform: Applied to each frame once, before it is stored.
        pre_filter: Frames for which it is false are not stored.
        log: Whether to print that files are processed.
        force_reload: Whether to process the raw file again.

    Raises:
        ValueError: If the name is not known or the raw file is damaged.
        FileNotFoundError: If ``source`` does not hold the file.

    Example:
        >>> import tempfile
        >>> dataset = MD17(tempfile.mkdtemp(), "ethanol_xtb", log=False)
        >>> len(dataset), dataset.units["forces"]
        (2000, 'eV/Ang')
    """

    subfolder: ClassVar[str] = "md17"
    units: ClassVar[dict[str, str]] = {"pos": "Ang", "energy": "eV", "forces": "eV/Ang"}

    def __init__(
        self,
        root: str | Path,
        name: str,
        *,
        source: str | Path | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        self.name = name.replace(" ", "_")
        if self.name not in FILES | BUNDLED:
            raise ValueError(f"unknown molecule {name!r}; expected one of {', '.join([*FILES, *BUNDLED])}")
        super().__init__(
            root,
            self.name,
            {},
            source=source,
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )

    def files(self) -> list[RemoteFile]:
        """The npz file."""
        if self.name in BUNDLED:
            name = BUNDLED[self.name]
            return [RemoteFile(name, bundled=bundled_path(self.name) / name)]
        return [RemoteFile(FILES[self.name], (BASE_URL + FILES[self.name],))]

    def read(self, paths: dict[str, Path]) -> Collated:
        """Convert units and collate all frames."""
        (path,) = paths.values()
        data, slices = _collated(path, self.name)
        return data, slices, {"frames": int(slices["energy"].numel()) - 1}


def _collated(path: Path, name: str) -> tuple[Data, dict[str, Any]]:
    """All frames of a file as one Data, and where each frame begins."""
    raw = read_npz(path)
    formula = _formula(raw["z"].tolist())
    if formula != FORMULAS[name]:
        raise ValueError(f"the file given for {name} holds {formula}, expected {FORMULAS[name]}; check name and source")
    frames, atoms = raw["R"].shape[:2]
    kcal = conversion("kcal/mol", "eV")
    data = Data(
        z=torch.from_numpy(raw["z"]).repeat(frames),
        pos=torch.from_numpy(raw["R"]).float().reshape(-1, 3),
        energy=torch.from_numpy(raw["E"] * kcal),
        forces=torch.from_numpy(raw["F"] * kcal).float().reshape(-1, 3),
    )
    data.num_nodes = frames * atoms
    of_atoms, of_frames = torch.arange(frames + 1) * atoms, torch.arange(frames + 1)
    return data, {"z": of_atoms, "pos": of_atoms, "energy": of_frames, "forces": of_atoms}


def _formula(z: list[int]) -> str:
    """Sum formula of a molecule of C, H, N and O; other elements appear by their numbers."""
    counts = Counter({6: "C", 1: "H", 7: "N", 8: "O"}.get(number, f"[{number}]") for number in z)
    order = [*(element for element in "CHNO" if element in counts), *sorted(counts.keys() - set("CHNO"))]
    return "".join(f"{element}{counts[element] if counts[element] > 1 else ''}" for element in order)
