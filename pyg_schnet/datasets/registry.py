"""What datasets there are, what of them is on this machine, and how each is opened."""

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.md17 import CATALOGUE
from pyg_schnet.files.source import MIRROR_VARIABLE


@dataclass(frozen=True)
class Family:
    """What datasets of one origin have in common.

    Attributes:
        dataset: Name of the class in :mod:`pyg_schnet.datasets`.
        units: Units of the targets.
        licence: Licence of the data.
        citation: What to cite.
        subfolder: Folder inside a mirror.
    """

    dataset: str
    units: str
    licence: str
    citation: str
    subfolder: str


_NOT_STATED = "not stated by the authors"
FAMILIES: dict[str, Family] = {
    "MD17": Family(
        "MD17",
        "energy eV, forces eV/Ang",
        _NOT_STATED,
        "S. Chmiela et al., Machine learning of accurate energy-conserving molecular force fields, "
        "Sci. Adv. 3, e1603015 (2017)",
        "md17",
    ),
    "revised MD17": Family(
        "MD17",
        "energy eV, forces eV/Ang",
        "CC0",
        "A. S. Christensen and O. A. von Lilienfeld, On the role of gradients for machine learning of molecular "
        "energies and forces, Mach. Learn.: Sci. Technol. 1, 045018 (2020)",
        "rmd17",
    ),
    "MD17 CCSD(T)": Family(
        "MD17",
        "energy eV, forces eV/Ang",
        _NOT_STATED,
        "S. Chmiela et al., Towards exact molecular dynamics simulations with machine-learned force fields, "
        "Nat. Commun. 9, 3887 (2018)",
        "md17",
    ),
    "MD22": Family(
        "MD17",
        "energy eV, forces eV/Ang",
        _NOT_STATED,
        "S. Chmiela et al., Accurate global machine learning force fields for molecules with hundreds of atoms, "
        "Sci. Adv. 9, eadf0873 (2023)",
        "md17",
    ),
    "QM9": Family(
        "QM9",
        "19 targets, see QM9.units",
        "CC0",
        "R. Ramakrishnan et al., Quantum chemistry structures and properties of 134 kilo molecules, "
        "Sci. Data 1, 140022 (2014)",
        "qm9",
    ),
    "ISO17": Family(
        "ISO17",
        "energy eV, forces eV/Ang",
        "MIT",
        "K. T. Schütt et al., SchNet: A continuous-filter convolutional neural network for modeling quantum "
        "interactions, Advances in Neural Information Processing Systems 30 (2017)",
        "iso17",
    ),
    "Materials Project": Family(
        "MaterialsProject",
        "formation energy eV/atom",
        "CC-BY 4.0",
        "A. Jain et al., Commentary: The Materials Project, APL Mater. 1, 011002 (2013); megnet2018: C. Chen et al., "
        "Chem. Mater. 31, 3564 (2019); matbench: A. Dunn et al., npj Comput. Mater. 6, 138 (2020)",
        "materials_project",
    ),
    "bundled": Family("", "as the datasets they stand for", "MIT", "this project; see the card of each", ""),
}


@dataclass(frozen=True)
class Known:
    """A dataset that can be opened by name.

    Attributes:
        name: Its name here.
        family: Key of :data:`FAMILIES`.
        dataset: Name of the class in :mod:`pyg_schnet.datasets`.
        arguments: Arguments of the class besides ``root``.
        structures: How many there are; ``None`` if that is not published.
        files: Raw files; in a mirror any of ``alternatives`` does as well.
        size: Size of the download in bytes; ``None`` if it is not known.
        folder: Folder inside ``root``.
        alternatives: Other names of what the mirror may have.
    """

    name: str
    family: str
    dataset: str
    arguments: dict[str, Any]
    structures: int | None
    files: tuple[str, ...]
    size: int | None
    folder: str
    alternatives: tuple[str, ...] = field(default=())

    def where(self, root: str | Path, source: str | Path | None = None) -> list[str]:
        """What of the dataset is on this machine.

        Args:
            root: Folder for downloaded and processed files.
            source: A local mirror; by default that of the environment variable ``PYG_SCHNET_DATA``.

        Returns:
            Any of ``"bundled"``, ``"mirror"``, ``"downloaded"`` and ``"processed"``.
        """
        home, found = Path(root) / self.folder, []
        if self.family == "bundled":
            return ["bundled"] * _is_bundled(self) + ["processed"] * _is_processed(self, home)
        mirror = source if source is not None else os.environ.get(MIRROR_VARIABLE)
        if mirror:
            folders = [Path(mirror).expanduser(), Path(mirror).expanduser() / FAMILIES[self.family].subfolder]
            found += ["mirror"] * (
                _all_in(folders, self.files) or any(_all_in(folders, [a]) for a in self.alternatives)
            )
        found += ["downloaded"] * _all_in([home / "raw"], self.files)
        return found + ["processed"] * _is_processed(self, home)


def _all_in(folders: list[Path], files: Any) -> bool:
    return any(all((folder / file).is_file() for file in files) for folder in folders)


def _is_processed(known: Known, home: Path) -> bool:
    pattern = f"name={known.name}*.pt" if known.family == "revised MD17" else "*.pt"  # ten molecules in one folder
    return any((home / "processed").glob(pattern))


def _is_bundled(known: Known) -> bool:
    try:
        folder = bundled_path(known.name)
    except FileNotFoundError:
        return False
    return _all_in([folder], known.files)


def _of_md17() -> list[Known]:
    names = {"md17": "MD17", "revised": "revised MD17", "ccsd": "MD17 CCSD(T)", "md22": "MD22", "bundled": "bundled"}
    made = []
    for name, entry in CATALOGUE.items():
        revised, ccsd = entry.family == "revised", entry.family == "ccsd"
        stem, arguments = Path(entry.file).stem, {"name": name} | ({"train": True} if ccsd else {})
        made.append(
            Known(
                name,
                names[entry.family],
                "MD17",
                arguments,
                entry.frames,
                ("rmd17.tar.bz2",) if revised else (entry.file,),
                1_066_301_513 if revised else None,
                "rmd17" if revised else name,
                (f"rmd17_{entry.file}.npz",) if revised else (f"{stem}-train.npz", f"{stem}-test.npz") if ccsd else (),
            )
        )
    return made


def _others() -> list[Known]:
    qm9 = ("dsgdb9nsd.xyz.tar.bz2", "uncharacterized.txt", "atomref.txt")
    megnet, crystals = ("mp.2018.6.1.json.zip",), "MaterialsProject"
    return [
        Known("qm9", "QM9", "QM9", {}, 130_831, qm9, 86_631_943, "qm9"),
        Known("iso17", "ISO17", "ISO17", {}, 640_982, ("iso17.tar.gz",), None, "iso17"),
        Known(
            "mp_megnet2018",
            "Materials Project",
            crystals,
            {"name": "megnet2018"},
            69_239,
            megnet,
            None,
            "materials_project_megnet2018",
        ),
        Known(
            "mp_matbench",
            "Materials Project",
            crystals,
            {"name": "matbench"},
            132_752,
            ("matbench_mp_e_form.json.gz",),
            None,
            "materials_project_matbench",
        ),
        Known("qm9_small", "bundled", "QM9", {"name": "bundled"}, 504, (qm9[0],), None, "qm9_small"),
        Known("iso17_xtb", "bundled", "ISO17", {"name": "bundled"}, 960, ("iso17.tar.gz",), None, "iso17_xtb"),
        Known(
            "emt_alloys", "bundled", crystals, {"name": "bundled"}, 515, megnet, None, "materials_project_emt_alloys"
        ),
    ]


#: All datasets by name.
REGISTRY: dict[str, Known] = {one.name: one for one in (*_of_md17(), *_others())}


def open_dataset(name: str, root: str | Path, **options: Any) -> Any:
    """Open a dataset by its name in :data:`REGISTRY`.

    Args:
        name: Its name.
        root: Folder for downloaded and processed files.
        **options: Passed to the class, for example ``source`` or ``log``.

    Returns:
        The dataset.

    Raises:
        ValueError: If there is no such dataset.

    Example:
        >>> import tempfile
        >>> len(open_dataset("ethanol_xtb", tempfile.mkdtemp(), log=False))
        2000
    """
    if name not in REGISTRY:
        raise ValueError(f"unknown dataset {name!r}; expected one of {', '.join(REGISTRY)}")
    known = REGISTRY[name]
    dataset = getattr(importlib.import_module("pyg_schnet.datasets"), known.dataset, None)
    if dataset is None:
        raise ValueError(
            f"this version of pyg_schnet has no {known.dataset}, which reads {name!r}; install a newer one"
        )
    return dataset(root, **(known.arguments | options))


def overview(root: str | Path, source: str | Path | None = None) -> str:
    """A table of all datasets and what of them is on this machine, with units, licences and citations.

    Args:
        root: Folder for downloaded and processed files.
        source: A local mirror; by default that of the environment variable ``PYG_SCHNET_DATA``.

    Returns:
        The text that ``python -m pyg_schnet.datasets`` prints.
    """
    width = max(map(len, REGISTRY))
    lines = [f"{'name':{width}} {'class':16} {'structures':>10} {'download':>9}  here"]
    for title, family in FAMILIES.items():
        members = [one for one in REGISTRY.values() if one.family == title]
        lines += ["", f"{title}: {family.units}; licence: {family.licence}", f"  {family.citation}"]
        for one in members:
            count = "?" if one.structures is None else f"{one.structures:,}"
            size = "-" if title == "bundled" else "?" if one.size is None else f"{one.size / 1e6:,.0f} MB"
            here = ", ".join(one.where(root, source)) or "-"
            lines.append(f"{one.name:{width}} {one.dataset:16} {count:>10} {size:>9}  {here}")
    lines += ["", f"here: what is in {root}, in the mirror (--source or {MIRROR_VARIABLE}) or in the package itself;"]
    lines += ["the files of revised MD17 are in one archive; '?' is not published"]
    return "\n".join(lines)
