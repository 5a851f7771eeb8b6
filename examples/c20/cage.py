"""The paper's two networks of C20, and what they say of the molecule at rest: its geometry and its 54 vibrations."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write

from pyg_schnet import SchNet, save
from pyg_schnet.analysis import normal_modes, relaxed
from pyg_schnet.datasets import MD17
from pyg_schnet.files.whole import replacing
from pyg_schnet.simulation.structures import atoms_to_data, data_to_atoms

NETWORKS = ("c20-force", "c20-energy")


def networks(source: str | None, out: Path) -> dict[str, Path]:
    """Files of the two networks, from a folder or the internet.

    Args:
        source: Folder with the networks, ``"download"``, or ``None`` for the folder in PYG_SCHNET_DATA.
        out: Where to write them for the engines.

    Returns:
        The file of each.

    Raises:
        FileNotFoundError: If they are not there.
    """
    source = source or os.environ.get("PYG_SCHNET_DATA") or None
    if source is None:
        raise FileNotFoundError(
            "name the folder with the paper's C20 networks, --c20 FOLDER (or set PYG_SCHNET_DATA), or fetch them from "
            "the authors' repository with --c20 download"
        )
    files = {name: out / f"{name}.safetensors" for name in NETWORKS}
    for name, path in files.items():
        if not path.exists():
            model = SchNet.from_pretrained(name, source=None if source == "download" else source)
            with replacing(path) as part:
                save(model, part, units=model.units)
    return files


def vibrations(models: dict[str, SchNet], out: Path) -> dict[str, Any]:
    """Relax the cage with both networks and find its vibrations.

    Args:
        models: The networks.
        out: Where minima and wavenumbers are kept.

    Returns:
        Of each network the energy of the minimum in eV, wavenumbers in cm^-1, levels and zero-point energy in eV.
    """
    path = out / "vibrations.json"
    if path.exists():
        return json.loads(path.read_text())
    start = _cage(out)
    found = {}
    for name, model in models.items():
        minimum = relaxed(model, start)
        modes = normal_modes(model, minimum)
        atoms = data_to_atoms(minimum)
        write(out / f"minimum_{name}.xyz", atoms)
        distances = np.sort(atoms.get_all_distances(), axis=1)[:, 1:4]
        found[name] = {
            "energy_eV": modes.energy,
            "largest_force_eV_per_Ang": modes.largest_force,
            "bonds_Ang": [float(distances.min()), float(distances.mean()), float(distances.max())],
            "wavenumbers_cm": modes.vibrations.tolist(),
            "quanta_eV": modes.quanta.tolist(),
            "zero_point_energy_eV": modes.zero_point_energy,
        }
    path.write_text(json.dumps(found, indent=1))
    return found


def minimum_of(out: Path, name: str = "c20-force") -> Atoms:
    """The minimum that :func:`vibrations` found."""
    return read(out / f"minimum_{name}.xyz")


def _cage(out: Path) -> Any:
    """A cage to begin with: the first bundled frame, which GFN2-xTB made."""
    return atoms_to_data(data_to_atoms(MD17(out / "data", "c20_xtb", log=False)[0]))
