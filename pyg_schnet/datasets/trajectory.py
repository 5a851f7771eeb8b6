"""A user's own structures, from any file that ASE reads (extra ``md``)."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.ase_files import Read, is_bare
from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.collate import Frame, Frames, collated
from pyg_schnet.datasets.crystal import has_stress, is_shared
from pyg_schnet.datasets.fields import Field, possible_name
from pyg_schnet.datasets.own_files import Paths, files_of, structures_of, told_unit
from pyg_schnet.datasets.parts import Parts
from pyg_schnet.datasets.property_table import PropertyTable, read_table
from pyg_schnet.datasets.splits import PART
from pyg_schnet.datasets.summary import USERS_OWN
from pyg_schnet.files.source import RemoteFile
from pyg_schnet.graph.lattice import SMALLEST_RELATIVE_VOLUME
from pyg_schnet.units import FORCE, STRESS, conversion

#: Version of how files are read; what was read in another way is read again.
_READER = 2


class Trajectory(StructureDataset):
    """Structures from a user's own files: extended xyz, ASE databases, npz files, CIFs, anything ASE reads.

    Each structure is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] float32 in Angstrom, ``energy`` [1] float64 in eV,
    ``forces`` [n, 3] float32 in eV/Angstrom, ``stress`` [1, 3, 3] float32 in eV/Angstrom^3 (in ASE's sign) and, if any
    structure is periodic, ``cell`` [1, 3, 3] float32 in Angstrom and ``pbc`` [1, 3]. Structures may differ in
    composition, and in periodic axes: molecules, wires, slabs and crystals in any orientation.

    A label that a structure lacks is NaN, also for single atoms, and adds nothing to a loss; a label that none has is
    no key. Further fields are kept under their own names, as they stand in the file, and may be targets: numbers of
    structures [1] float64, vectors and tensors [1, ...] float32, those of atoms [n, ...] float32, strings. A name that
    ``Data`` cannot take is changed (:func:`~pyg_schnet.datasets.fields.possible_name`; :attr:`renamed`). Fields called
    ``config_weight``, ``config_energy_weight``, ``config_forces_weight``, ``config_stress_weight`` and, for each atom,
    ``atom_weight`` are weights of the loss, one where they are lacking.

    Structures whose positions or lattice vectors are NaN, infinite or beyond 1e9 Angstrom are left out, and so are
    crystals with sites that are occupied in part. Those far from
    the origin are moved near it, so that float32 keeps their digits; below 32 Angstrom, or twice their own extent,
    positions stay as the file has them. Structures that occur more than once are kept. ``report`` counts all this and
    says which fields are kept, renamed or dropped.

    Args:
        root: Folder for processed files; by default in the cache of the system.
        path: The file, or several: paths, folders and patterns, see :func:`~pyg_schnet.datasets.own_files.files_of`.
        val: Files with structures to validate on, if they are separate; they come behind those of ``path``, and
            ``split: files`` on the command line, or :meth:`file_split`, gives them back.
        test: Files with structures to test on, if they are separate.
        table: Table of properties (csv) with a line for each file, see
            :func:`~pyg_schnet.datasets.property_table.read_table`: its columns are fields of the structures. What a
            file has itself goes before; files without a line lack the properties.
        energy_key: Name of the energy in the files; ``None`` to leave it out. Data without one need not say so, but a
            name given here must occur.
        forces_key: Name of the forces; the same holds for it.
        stress_key: Name of the stress (3 x 3, 9 or 6 numbers in Voigt's order xx, yy, zz, yz, xz, xy). That of a
            structure without a periodic axis or a complete cell is not known, nor are zeros where an axis is open.
        virial_key: Name of the virial, of which ``stress = -virial / volume``, in place of the stress; an energy.
        cell_key: Name of the lattice vectors (3 x 3 or 9 numbers, rows), if they are not where the format has them.
        pbc: Periodic axes, if they are not to be as the files say.
        energy_unit: Unit of energy of the files: ``"eV"``, ``"kcal/mol"``, ``"Ha"``, ``"kJ/mol"`` or ``"meV"``;
            ``None`` for what npz files, databases of SchNetPack or the name of the column of ``table`` say; Ha where
            xyz files have the words of CREST, xtb, ORCA or CP2K; else eV.
        length_unit: Unit of length: ``"Ang"``, ``"Bohr"`` or ``"nm"``; ``None`` for what the files say, else Angstrom.
        forces_unit: Unit of forces, for example ``"Ha/Bohr"``; ``None`` for what the files say, else energy per length.
        forces_sign: -1 where the files have gradients of the energy in place of forces.
        stress_sign: -1 where the stress (or virial) of the files is positive under compression, as VASP's is.
        stress_unit: ``"eV/Ang^3"``, ``"GPa"`` or ``"kbar"``; ``None`` for energy per length cubed.
        format: ASE's name of the format, if the name of the file does not tell.
        transform: Applied to each structure when it is accessed.
        pre_transform: Applied to each structure once, before it is stored.
        pre_filter: Structures for which it is false are not stored.
        log: True to print that files are processed.
        force_reload: True to read the files again; that is done anyway when they have changed.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If ``path`` is no path.
        ImportError: If ASE is not installed.
        ValueError: If a unit or a sign is not known, files say different ones, a file is damaged, no structure has a
            field that was named, or ``table`` has no line for any of the files, or one for two of them.

    Example:
        >>> import ase, ase.io, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> water = ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], info={"E": -76.4})
        >>> ase.io.write(f"{folder}/water.xyz", water, format="extxyz")
        >>> options = {"energy_key": "E", "energy_unit": "Ha", "log": False}
        >>> dataset = Trajectory(folder, f"{folder}/water.xyz", **options)
        >>> len(dataset), round(float(dataset[0].energy), 2)
        (1, -2078.95)
    """

    licence: ClassVar[str] = USERS_OWN

    def __init__(
        self,
        root: str | Path | None = None,
        path: Paths = (),
        *,
        val: Paths = (),
        test: Paths = (),
        table: str | Path | None = None,
        energy_key: str | None = "energy",
        forces_key: str | None = "forces",
        stress_key: str | None = "stress",
        virial_key: str | None = None,
        cell_key: str | None = None,
        pbc: bool | Sequence[bool] | None = None,
        energy_unit: str | None = None,
        length_unit: str | None = None,
        stress_unit: str | None = None,
        forces_unit: str | None = None,
        forces_sign: int = 1,
        stress_sign: int = 1,
        format: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        own = {"train": files_of(path)} | {
            name: files_of(more) for name, more in (("val", val), ("test", test)) if more
        }
        #: Part of the split that each file is for.
        self.part_of = {file: name for name, files in own.items() for file in files}
        self.paths, self.parts = list(self.part_of), list(own)
        if len(self.paths) < sum(map(len, own.values())):
            twice = next(one for one in own["train"] if self.part_of[one] != "train" or len(own) < 2)
            raise ValueError(f"{twice} is in two of `path`, `val` and `test`; a file can be for one part only")
        self.table: PropertyTable | None = None if table is None else read_table(table)
        self.keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key, "virial": virial_key}
        self.cell_key, self.format = cell_key, format
        if pbc is not None and np.shape(pbc) not in {(), (3,)}:
            raise ValueError(f"`pbc` must be True, False or three of them, got {pbc}")
        self.pbc = None if pbc is None else tuple(bool(axis) for axis in np.broadcast_to(np.asarray(pbc), 3))
        energy_unit = energy_unit or told_unit("energy", self.paths, self.table, energy_key) or "eV"
        length_unit = length_unit or told_unit("length", self.paths) or "Ang"
        forces_unit = forces_unit or told_unit("forces", self.paths, key=forces_key)
        signs = {"forces_sign": forces_sign, "stress_sign": stress_sign}
        self.factors = _factors(energy_unit, length_unit, stress_unit, forces_unit, signs)
        #: Units by key of the structures.
        self.units = {"pos": "Ang", "cell": "Ang", "energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang^3"}  # type: ignore[misc]
        if self.table is not None:
            self.units = {possible_name(name): unit for name, unit in self.table.units.items()} | dict(self.units)  # type: ignore[misc]
        tables = [] if self.table is None else [self.table.path.resolve()]
        where = hashlib.sha256("\n".join(map(str, [*self.paths, *tables])).encode()).hexdigest()[:8]
        names = {"cell": cell_key, "pbc": self.pbc, "format": format} | self.keys
        how = {"unit": energy_unit, "length": length_unit, "stress_unit": stress_unit, "forces_unit": forces_unit}
        how |= {name: str(sign) for name, sign in signs.items() if sign != 1}
        if len(own) > 1:
            how |= {"parts": ",".join(f"{name}:{len(files)}" for name, files in own.items())}
        super().__init__(
            root,
            "trajectory",
            {"file": f"{self.paths[0].stem}-{where}", "reader": _READER} | names | how,
            source=self.paths[0],  # so that changed files are noticed
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )

    def files(self) -> list[RemoteFile]:
        """The user's files."""
        tables = [] if self.table is None else [self.table.path.resolve()]
        return [RemoteFile(str(path), bundled=path) for path in [*self.paths, *tables]]

    @property
    def renamed(self) -> dict[str, str]:
        """Names of further fields in the data by those in the files, where they differ."""
        return self.report.get("renamed", {})

    @property
    def labels(self) -> list[str]:
        """Further fields that are kept."""
        return self.report.get("further fields", [])

    def read(self, paths: dict[str, Path]) -> Collated:
        """Convert units and collate all structures, of which no more than a part is in memory."""
        name = ", ".join([*paths][:3]) + ", ..." * (len(paths) > 3)
        parts = self.parts_of(paths)
        # names of fields, the first structure's in words, which structure comes next, how many stresses lack a volume
        notes: dict[str, Any] = {"found": [], "first": "", "next": [0, 0], "flat": 0}
        notes |= {key: parts.facts[-1][key] for key in notes} if parts.facts else {}
        if not parts.complete:
            self._gather(parts, Frames(name), notes)
            notes = parts.facts[-1]
        found, first = set(notes["found"]), notes["first"]
        for label, key in {**self.keys, "cell": self.cell_key}.items():
            if key not in {None, label, *found}:
                raise ValueError(f"{first.format(repr(key))}: name one of them as `{label}_key`")
        dropped = {}
        for label in ("energy", "forces", "stress"):
            key = self.keys["virial" if label == "stress" and self.keys["virial"] in found else label]
            if key != label and label in found - set(self.keys.values()):
                dropped[label] = "not asked for" if key is None else f"{key!r} is asked for instead"
        data, slices, report = collated(parts, name, self.columns_for(parts), dropped)
        if notes["flat"]:
            self._note_flat(notes["flat"], "stress" in data, report)
        if self.table is not None:
            lacking = sum(self.table.row_of(path) is None for path in self.paths)
            report |= {"files without a line of the table": lacking} if lacking else {}
            without_file = len(self.table.without_file(self.paths))
            report |= {"lines of the table without a file": without_file} if without_file else {}
        return data, slices, report

    def _note_flat(self, number: int, any_stress: bool, report: dict[str, Any]) -> None:
        """Say how many stresses are not known because structures have no volume."""
        if not any_stress and self.keys["virial"] is not None:
            raise ValueError(
                f"no structure with a virial {self.keys['virial']!r} has a periodic cell with a volume, of which a "
                "stress is part; give `cell_key` or leave `virial_key` out"
            )
        report["stress without a cell"] = number
        if self.log:
            print(f"the stress of {number:,} structures without a complete periodic cell is taken as not known")

    def _gather(self, parts: Parts, frames: Frames, notes: dict[str, Any]) -> None:
        """Read structures behind those of the parts there are."""
        found, first, flat = dict.fromkeys(notes["found"]), notes["first"], notes["flat"]
        numbers = {path: number for number, path in enumerate(self.paths)}
        for path, number, read in structures_of(self.paths, self.table, self.format, self.log, notes["next"]):
            if frames.full:
                place = [numbers[path], number]
                facts = {"complete": False, "found": [*found], "first": first, "next": place, "flat": flat}
                parts.add(frames.part(facts))
            where, fields = f"{path}, structure {number}", read.fields()
            first = first or f"{where} has no field {{}}; its fields are {', '.join(sorted(fields)) or 'none'}"
            found |= dict.fromkeys(fields)
            if is_shared(read.of_structure.get("occupancy")):
                frames.leave_out("sites partly occupied")
            else:
                frame = self._frame(where, read, fields, self.part_of[path])
                stresses = [fields[name] for name in fields if name in {self.keys["stress"], self.keys["virial"]}]
                flat += frame.stress is None and not all(map(is_bare, stresses))
                frames.add(frame)
        end = [len(self.paths), 0]
        parts.add(frames.part({"complete": True, "found": [*found], "first": first, "next": end, "flat": flat}))

    def file_split(self) -> dict[str, Tensor]:
        """Which structures are in the files of which part.

        Returns:
            Positions of ``train`` and, where there are files for them, ``val`` and ``test``.
        """
        if len(self.parts) == 1:
            return {"train": torch.arange(self.len())}
        part = self._data[PART].long()
        return {name: (part == number).nonzero().flatten() for number, name in enumerate(self.parts)}

    def _frame(self, where: str, read: Read, fields: dict[str, Any], part: str) -> Frame:
        """One structure in the units of this package."""
        fields = {name: value for name, value in fields.items() if not is_bare(value)}
        atoms, cell = read.atoms, np.asarray(read.atoms.cell.array, dtype=np.float64)
        pbc = atoms.pbc if self.pbc is None else np.array(self.pbc)
        if self.cell_key in fields:
            cell = self._numbers(where, fields, self.cell_key, (9,)).reshape(3, 3)
            if self.pbc is None and not pbc.any():
                pbc = np.ones(3, dtype=bool)
        if not _spans(cell[pbc]):
            raise ValueError(f"{where} is periodic but its cell has no volume; give `cell_key` or `pbc=False`")
        energy, forces = None, None
        if self.keys["energy"] in fields:
            energy = float(self._numbers(where, fields, self.keys["energy"], (1,))[0]) * self.factors["energy"]
        if self.keys["forces"] in fields:
            forces = self._numbers(where, fields, self.keys["forces"], (3 * len(atoms),)).reshape(-1, 3)
            forces = forces * self.factors["forces"]
        stress = self._stress(where, fields, cell, pbc)
        length = self.factors["length"]
        positions = atoms.positions * length
        further = self._further(read)
        if len(self.parts) > 1:
            further[PART] = Field(self.parts.index(part), False)
        return Frame(atoms.numbers, positions, energy, forces, stress, cell * length, pbc, further)

    def _stress(self, where: str, fields: dict[str, Any], cell: NDArray, pbc: NDArray) -> NDArray | None:
        """The stress of a structure, ``None`` if it has none or no volume."""
        label = next((label for label in ("virial", "stress") if self.keys[label] in fields), None)
        if label is None:
            return None
        matrix = _matrix(where, self._numbers(where, fields, self.keys[label], (6, 9)))
        if not has_stress(matrix, cell, pbc):
            return None
        return matrix * self.factors[label] / (-abs(np.linalg.det(cell)) if label == "virial" else 1.0)

    def _further(self, read: Read) -> dict[str, Field]:
        """Fields that are not labels; one that has the name of a label but is none is left out."""
        used = {*self.keys.values(), self.cell_key, "energy", "forces", "stress"}
        parts = ((read.of_atoms, True), (read.of_structure, False), (read.of_either, None))
        return {
            name: Field(value, of_atoms) for part, of_atoms in parts for name, value in part.items() if name not in used
        }

    @staticmethod
    def _numbers(where: str, fields: dict[str, Any], key: Any, sizes: tuple[int, ...]) -> NDArray:
        try:
            numbers = np.asarray(fields[key], dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: expected numbers in the field {key!r}, got {fields[key]!r}") from None
        if numbers.size not in sizes:
            expected = " or ".join(map(str, sizes))
            raise ValueError(f"{where}: expected {expected} numbers in the field {key!r}, got {numbers.size}")
        return numbers


def _factors(
    energy: str, length: str, stress: str | None, forces: str | None, signs: dict[str, int]
) -> dict[str, float]:
    """What numbers of the files are multiplied with."""
    for name, sign in signs.items():
        if sign not in {1, -1}:
            raise ValueError(f"`{name}` must be 1 or -1, got {sign!r}")
    if stress is not None and stress not in STRESS:
        raise ValueError(f"`stress_unit` must be one of {', '.join(STRESS)} or None, got {stress!r}")
    if forces is not None and forces not in FORCE:
        raise ValueError(f"`forces_unit` must be one of {', '.join(FORCE)} or None, got {forces!r}")
    to_ev, to_ang = conversion(energy, "eV"), conversion(length, "Ang")
    return {
        "energy": to_ev,
        "length": to_ang,
        "forces": signs["forces_sign"] * (to_ev / to_ang if forces is None else FORCE[forces]),
        "stress": signs["stress_sign"] * (to_ev / to_ang**3 if stress is None else STRESS[stress]),
        "virial": signs["stress_sign"] * to_ev / to_ang**3,  # the volume it is divided by is in the files' unit
    }


def _matrix(where: str, numbers: NDArray) -> NDArray:
    """A symmetric matrix [3, 3] from its 9 elements, or from 6 in Voigt's order."""
    if numbers.size == 6:
        xx, yy, zz, yz, xz, xy = numbers
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    matrix = numbers.reshape(3, 3)
    skew = np.abs(matrix - matrix.T).max()
    if skew > 1e-3 * np.abs(matrix).max() + 1e-8:  # printed digits may differ, a stress may not
        raise ValueError(f"{where}: expected a symmetric stress or virial, its elements differ by {skew:g}")
    return (matrix + matrix.T) / 2


def _spans(vectors: NDArray) -> bool:
    """True if the periodic lattice vectors [k, 3] are linearly independent; not finite ones are left to others.

    The open axes count as normals of the periodic ones, whatever the file has for them.
    """
    if not len(vectors) or not np.isfinite(vectors).all():
        return True
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    if not largest.all():
        return False
    scaled = vectors / largest  # whose squares are numbers, however long they are
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    return bool(np.prod(np.linalg.svd(scaled, compute_uv=False)) > SMALLEST_RELATIVE_VOLUME)
