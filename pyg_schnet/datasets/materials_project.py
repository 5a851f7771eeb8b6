"""Materials Project: crystals and their formation energies, from frozen snapshots."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.cif import read_cif
from pyg_schnet.datasets.columns import Columns
from pyg_schnet.datasets.crystal import Crystal, PartialOccupancyError, from_dict
from pyg_schnet.datasets.json_stream import head_and_elements, member
from pyg_schnet.datasets.materials_project_query import ABOUT, query
from pyg_schnet.datasets.parts import Part, Parts
from pyg_schnet.datasets.rounding import rounded_positions
from pyg_schnet.datasets.splits import Split
from pyg_schnet.datasets.strings import iter_unpacked, packed
from pyg_schnet.datasets.unphysical import isolated_or_impossible
from pyg_schnet.files.source import RemoteFile

_FIGSHARE = 15087992
#: The frozen snapshots; the first is the nearest public one to the set of the SchNet paper (69,640 crystals).
SNAPSHOTS: dict[str, RemoteFile] = {
    "megnet2018": RemoteFile(
        "mp.2018.6.1.json.zip",
        (
            f"https://api.figshare.com/v2/file/download/{_FIGSHARE}",
            f"https://ndownloader.figshare.com/files/{_FIGSHARE}",
            f"https://figshare.com/ndownloader/files/{_FIGSHARE}",
        ),
    ),
    "matbench": RemoteFile(
        "matbench_mp_e_form.json.gz",
        ("https://ml.materialsproject.org/projects/matbench_mp_e_form.json.gz",),
        sha256="dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f",
    ),
}
BUNDLED = {"bundled": "emt_alloys", "emt_alloys": "emt_alloys"}
#: Matbench's official folds are of this many rows.
MATBENCH_ROWS = 132_752
#: What entries are left out for, in the order in which it is looked at.
REASONS = ("duplicate", "no_energy", "energy_out_of_range", "partial_occupancy", "impossible_geometry", "isolated_atom")

#: Crystals of a part.
_AT_ONCE = 5_000

#: An entry: its name, its structure (CIF text or dictionary) and its formation energy in eV/atom.
Entry = tuple[str, Any, Any]


class MaterialsProject(StructureDataset):
    """Crystals of the Materials Project with formation energies.

    Each crystal is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] and ``cell`` [1, 3, 3] float32 in Angstrom, ``pbc``
    [1, 3] bool, ``formation_energy`` [1] float64 in eV/atom, and ``material_id``, a string. Positions are computed in
    float64. Entries are left out, and counted in ``report["left_out"]``, if their name was read before, the energy is
    missing or outside ``energy_range``, a site is partially occupied, atoms are at the same place (or closer packed
    than 1 Angstrom^3 per atom), or an atom has no neighbour.

    Args:
        root: Folder for raw and processed files; by default in the cache of the system.
        name: ``"megnet2018"`` (MEGNet's snapshot of 2018-06-01, 69,239 crystals), ``"matbench"`` (its task
            ``mp_e_form``, 132,752 crystals with official folds), ``"query"`` (what :meth:`query` wrote, named by
            ``source``), or ``"bundled"`` for alloys computed with a classical potential, which need no download.
        source: The upstream file or a folder that holds it; by default the folder named in the environment variable
            ``PYG_SCHNET_DATA`` is searched before the file is downloaded.
        energy_range: Formation energies in eV/atom that are physical, both included; ``None`` keeps all.
        isolation_cutoff: Crystals in which an atom has no neighbour closer than this, in Angstrom, are left out (MEGNet
            looked within 4); ``None`` keeps them.
        transform: Applied to each crystal when it is accessed.
        pre_transform: Applied to each crystal once, before it is stored.
        pre_filter: Crystals for which it is false are not stored.
        log: True to print that files are processed.
        force_reload: True to process the raw file again.

    Raises:
        ValueError: If an argument is not possible or the raw file is damaged.
        FileNotFoundError: If ``source`` does not hold the file.

    Example:
        >>> import tempfile
        >>> dataset = MaterialsProject(tempfile.mkdtemp(), "bundled", log=False)
        >>> dataset.units["formation_energy"], dataset[0].material_id
        ('eV/atom', 'emt-0001')
    """

    subfolder: ClassVar[str] = "materials_project"
    units: ClassVar[dict[str, str]] = {"pos": "Ang", "cell": "Ang", "formation_energy": "eV/atom"}
    licence: ClassVar[str] = "CC-BY 4.0"
    citation: ClassVar[str] = (
        "A. Jain et al., Commentary: The Materials Project, APL Materials 1, 011002 (2013); snapshot megnet2018: C. "
        "Chen et al., Chem. Mater. 31, 3564 (2019); matbench: A. Dunn et al., npj Comput. Mater. 6, 138 (2020)"
    )
    query = staticmethod(query)

    def __init__(
        self,
        root: str | Path | None = None,
        name: str = "megnet2018",
        *,
        source: str | Path | None = None,
        energy_range: tuple[float, float] | None = (-5.0, 2.0),
        isolation_cutoff: float | None = 4.0,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        self.name = name
        known = [*SNAPSHOTS, *BUNDLED, "query"]
        if name not in known:
            raise ValueError(f"unknown snapshot {name!r}; expected one of {', '.join(known)}")
        if name == "query" and source is None:
            raise ValueError('expected `source`, the file written by MaterialsProject.query, for the name "query"')
        if energy_range is not None:
            low, high = (float(energy) for energy in energy_range)
            if not low < high:
                raise ValueError(f"`energy_range` must be (lowest, highest) in eV/atom, got {energy_range}")
            energy_range = (low, high)
        if isolation_cutoff is not None and not 0 < isolation_cutoff < 100:
            raise ValueError(f"`isolation_cutoff` must be positive and below 100 Angstrom, got {isolation_cutoff}")
        self.energy_range = energy_range
        self.isolation_cutoff = None if isolation_cutoff is None else float(isolation_cutoff)
        super().__init__(
            root,
            f"materials_project_{BUNDLED.get(name, name)}",
            {
                "energy": "all" if energy_range is None else f"{low}to{high}",
                "isolation": "kept" if isolation_cutoff is None else self.isolation_cutoff,
            },
            source=source,
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )

    def files(self) -> list[RemoteFile]:
        """The snapshot."""
        if self.name in BUNDLED:
            name = SNAPSHOTS["megnet2018"].name
            return [RemoteFile(name, bundled=bundled_path(BUNDLED[self.name]) / name)]
        return [SNAPSHOTS.get(self.name, RemoteFile("query.json.zip"))]

    def read(self, paths: dict[str, Path]) -> Collated:
        """Read structures and energies, a part at a time, and leave out what is no example to learn from."""
        (path,) = paths.values()
        parts = self.parts_of(paths)
        if not parts.complete:
            self._gather(path, parts)
        left_out: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        for facts in parts.facts:
            left_out.update(facts["left_out"])
        rows, kept = parts.facts[-1]["rows"], sum(facts["count"] for facts in parts.facts)
        if not kept:
            raise ValueError(f"{path} has no usable crystal among {rows} entries; left out: {dict(left_out)}")
        report: dict[str, Any] = {"rows": rows, "structures": kept, "left_out": dict(left_out)}
        if self.name == "matbench":
            report["folds"] = "official" if rows == MATBENCH_ROWS else f"of these {rows} rows, not the official ones"
        if self.name == "query":
            report["query"] = member(path, ABOUT)
        return *_collated(parts, self.columns_for(parts)), report

    def _gather(self, path: Path, parts: Parts) -> None:
        """Read entries behind those of the parts there are."""
        names = {name for part in parts for name in iter_unpacked(part.arrays["seen text"], part.arrays["seen ends"])}
        done = parts.facts[-1]["rows"] if parts.facts else 0
        left_out: Counter[str] = Counter()
        kept: list[tuple[str, Crystal, float]] = []
        rows = 0
        with tqdm(None, "reading", unit="crystal", delay=2, disable=not self.log, leave=False) as bar:
            for row, entry in enumerate(_entries(path, "matbench" if self.name == "matbench" else "megnet2018")):
                rows = row + 1
                bar.update()
                if row < done:
                    continue
                name, structure, label = entry
                reason, energy = self._label(label, row, path)
                if name in names:
                    reason = "duplicate"
                if reason is None:
                    try:
                        kept.append((name, _crystal(structure), energy))
                        names.add(name)
                    except PartialOccupancyError:
                        reason = "partial_occupancy"
                    except ValueError as error:
                        raise ValueError(f"{path}: {name} is damaged: {error}; fetch or copy the file again") from None
                if reason is not None:
                    left_out[reason] += 1
                if len(kept) == _AT_ONCE:
                    parts.add(self._part(str(path), kept, left_out, rows, complete=False))
                    kept, left_out = [], Counter()
        parts.add(self._part(str(path), kept, left_out, rows, complete=True))

    def _part(
        self, where: str, kept: list[tuple[str, Crystal, float]], left_out: Counter[str], rows: int, complete: bool
    ) -> Part:
        """Crystals as arrays, without impossible ones."""
        seen = packed([name for name, _, _ in kept])
        impossible, isolated = isolated_or_impossible([crystal for _, crystal, _ in kept], self.isolation_cutoff)
        left_out["impossible_geometry"], left_out["isolated_atom"] = len(impossible), len(isolated)
        kept = [one for number, one in enumerate(kept) if number not in impossible and number not in isolated]
        arrays = dict(zip(("seen text", "seen ends"), seen, strict=True)) | (_arrays(where, kept) if kept else {})
        return Part(arrays, {"complete": complete, "rows": rows, "count": len(kept), "left_out": dict(left_out)})

    def fold(self, number: int) -> Split:
        """One of Matbench's five folds, ``KFold(5, shuffle=True, random_state=18012019)`` over the rows of the file.

        The official folds belong to the complete file of 132,752 rows; for a reduced file the same recipe is applied to
        its rows, and ``report["folds"]`` says so. Entries left out are in no fold: for results that compare with the
        leaderboard keep them (``energy_range=None, isolation_cutoff=None``).

        Args:
            number: The fold, 0 to 4.

        Returns:
            Positions in this dataset of ``train`` and ``test``.

        Raises:
            ValueError: If this is not Matbench or there is no such fold.
        """
        if self.name != "matbench":
            raise ValueError(f'only the snapshot "matbench" has folds, this is {self.name!r}')
        if number not in range(5):
            raise ValueError(f"expected a fold from 0 to 4, got {number}")
        tested = np.zeros(self.report["rows"], dtype=bool)
        tested[fold_rows(len(tested), number)] = True
        names = self._data.material_id
        rows = [int(str(one).rsplit("-", 1)[1]) - 1 for one in ([names] if isinstance(names, str) else names)]
        of_test = torch.from_numpy(tested[rows])
        parts = {"train": (~of_test).nonzero().flatten(), "test": of_test.nonzero().flatten()}
        return Split(parts, len(rows), method="matbench", fold=number)

    def _label(self, label: Any, row: int, path: Path) -> tuple[str | None, float]:
        """Why the entry cannot stay, if so, and its energy."""
        if label is None:
            return "no_energy", math.nan
        if isinstance(label, bool) or not isinstance(label, int | float):
            raise ValueError(f"{path}: entry {row} has the formation energy {str(label)[:40]!r}, expected a number")
        if not abs(label) < 1e6:  # also not for NaN
            return "no_energy", math.nan
        if self.energy_range is not None and not self.energy_range[0] <= label <= self.energy_range[1]:
            return "energy_out_of_range", float(label)
        return None, float(label)


def _entries(path: Path, layout: str) -> Iterator[Entry]:
    """Entries of a file in the layout of MEGNet (array of objects) or of Matbench (pandas, "split")."""
    head, elements = head_and_elements(path, "data")
    if (head is None) != (layout == "megnet2018"):
        found = "Matbench" if head is not None else "MEGNet"
        raise ValueError(f"{path} has the layout of {found}, not the one of {layout!r}; check name and source")
    if head is not None and head.get("columns") != ["structure", "e_form"]:
        raise ValueError(f"{path} has the columns {str(head.get('columns'))[:80]}, expected structure and e_form")
    keys = ("material_id", "structure", "formation_energy_per_atom")
    for row, element in enumerate(elements):
        if head is None:
            missing = [key for key in keys if not isinstance(element, Mapping) or key not in element]
            if missing:
                raise ValueError(f"{path}: entry {row} lacks {', '.join(missing)}; is it a MEGNet snapshot?")
            yield (str(element[keys[0]]), element[keys[1]], element[keys[2]])
        else:
            if not isinstance(element, list) or len(element) != 2:
                raise ValueError(f"{path}: row {row} is no pair of structure and formation energy")
            yield (f"mb-mp-e-form-{row + 1:06d}", *element)


def _crystal(structure: Any) -> Crystal:
    if isinstance(structure, str):
        return read_cif(structure)
    if isinstance(structure, Mapping):
        return from_dict(structure)
    raise ValueError(f"expected CIF text or a structure dictionary, got {str(structure)[:40]!r}")


def _arrays(where: str, entries: list[tuple[str, Crystal, float]]) -> dict[str, NDArray]:
    names, crystals, energies = zip(*entries, strict=True)
    sizes = np.array([len(crystal.numbers) for crystal in crystals])
    cells = np.stack([crystal.cell for crystal in crystals])
    text, ends = packed(names)
    return {
        "z": np.concatenate([crystal.numbers for crystal in crystals]),
        "sizes": sizes,
        "pos": rounded_positions(where, np.concatenate([crystal.positions() for crystal in crystals]), sizes, cells),
        "cell": cells.astype(np.float32),
        "pbc": np.ones((len(entries), 3), dtype=bool),
        "formation_energy": np.array(energies, dtype=np.float64),
        "text": text,
        "ends": ends,
    }


def _collated(parts: Parts, columns: Columns) -> tuple[Data, dict[str, Tensor]]:
    columns.append("of crystals", np.zeros(1, dtype=np.int64))
    columns.append("of atoms", np.zeros(1, dtype=np.int64))
    crystals = atoms = 0
    for part in parts:
        if not part.facts["count"]:
            continue
        for key in ("z", "pos", "cell", "pbc", "formation_energy"):
            columns.append(key, part.arrays[key])
        columns.extend("material_id", list(iter_unpacked(part.arrays["text"], part.arrays["ends"])))
        sizes = part.arrays["sizes"]
        columns.append("of crystals", crystals + np.arange(1, len(sizes) + 1))
        columns.append("of atoms", atoms + np.cumsum(sizes))
        crystals, atoms = crystals + len(sizes), atoms + int(sizes.sum())
    keys = ("z", "pos", "cell", "pbc", "formation_energy")
    data = Data(**{key: columns.tensor(key) for key in keys}, material_id=columns.strings("material_id"))
    data.num_nodes = atoms
    of_atoms, of_crystals = columns.tensor("of atoms"), columns.tensor("of crystals")
    slices = {"z": of_atoms, "pos": of_atoms}
    return data, slices | dict.fromkeys(("cell", "pbc", "formation_energy", "material_id"), of_crystals)


def fold_rows(rows: int, number: int) -> np.ndarray:
    """Rows of a test set of Matbench, as scikit-learn's ``KFold(5, shuffle=True, random_state=18012019)`` draws them.

    Args:
        rows: Number of rows in all.
        number: The fold, from 0 to 4.

    Returns:
        The rows, about a fifth of all.

    Example:
        >>> [len(fold_rows(12, number)) for number in range(5)]
        [3, 3, 2, 2, 2]
    """
    order = np.arange(rows)
    np.random.RandomState(18012019).shuffle(order)
    return np.array_split(order, 5)[number]
