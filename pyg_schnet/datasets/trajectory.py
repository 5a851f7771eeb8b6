"""A user's own structures with energies and forces, from any file that ASE reads (extra ``md``)."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated, StructureDataset
from pyg_schnet.datasets.frames import Frame, Frames
from pyg_schnet.datasets.source import RemoteFile
from pyg_schnet.units import STRESS, conversion


class Trajectory(StructureDataset):
    """Structures with energies and forces from a user's own files: extended xyz, ASE databases, anything ASE reads.

    Each structure is a ``Data`` with ``z`` [n] int64, ``pos`` [n, 3] float32 in Angstrom, ``energy`` [1] float64 in eV,
    ``forces`` [n, 3] float32 in eV/Angstrom and, if any structure is periodic, ``cell`` [1, 3, 3] float32 in Angstrom
    and ``pbc`` [1, 3]. If any structure has a stress, all have ``stress`` [1, 3, 3] float32 in eV/Angstrom^3 (in ASE's
    sign), NaN where it is not known. Structures may differ in composition.

    Structures with NaN or infinite positions, energies or forces are left out, and ``report`` counts them; structures
    that occur more than once are kept and counted.

    Args:
        root: Folder for processed files.
        path: The file, or several of them.
        energy_key: Name of the energy in the files; ``None`` if there is none.
        forces_key: Name of the forces; ``None`` if there are none.
        stress_key: Name of the stress (3 x 3, 9 or 6 numbers in Voigt's order xx, yy, zz, yz, xz, xy).
        virial_key: Name of the virial, of which ``stress = -virial / volume``, in place of the stress; an energy.
        cell_key: Name of the lattice vectors (3 x 3 or 9 numbers, rows), if they are not where the format has them.
        pbc: Periodic axes, if they are not to be as the files say.
        energy_unit: Unit of energy of the files: ``"eV"``, ``"kcal/mol"``, ``"Ha"``, ``"kJ/mol"`` or ``"meV"``.
        length_unit: Unit of length: ``"Ang"``, ``"Bohr"`` or ``"nm"``. Forces are in energy per length.
        stress_unit: ``"eV/Ang^3"``, ``"GPa"`` or ``"kbar"``; ``None`` for energy per length cubed.
        format: ASE's name of the format, if the name of the file does not tell.
        transform: Applied to each structure when it is accessed.
        pre_transform: Applied to each structure once, before it is stored.
        pre_filter: Structures for which it is false are not stored.
        log: Whether to print that files are processed.
        force_reload: Whether to read the files again; that is done anyway when they have changed.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ASE is not installed.
        ValueError: If a unit is not known, or a file is damaged or lacks a field.

    Example:
        >>> import ase, ase.io, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> water = ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], info={"E": -76.4})
        >>> ase.io.write(f"{folder}/water.xyz", water, format="extxyz")
        >>> options = {"energy_key": "E", "energy_unit": "Ha", "forces_key": None, "log": False}
        >>> dataset = Trajectory(folder, f"{folder}/water.xyz", **options)
        >>> len(dataset), round(float(dataset[0].energy), 2)
        (1, -2078.95)
    """

    licence: ClassVar[str] = "as the user's files"

    def __init__(
        self,
        root: str | Path,
        path: str | Path | Sequence[str | Path],
        *,
        energy_key: str | None = "energy",
        forces_key: str | None = "forces",
        stress_key: str | None = "stress",
        virial_key: str | None = None,
        cell_key: str | None = None,
        pbc: bool | Sequence[bool] | None = None,
        energy_unit: str = "eV",
        length_unit: str = "Ang",
        stress_unit: str | None = None,
        format: str | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        log: bool = True,
        force_reload: bool = False,
    ) -> None:
        paths = [path] if isinstance(path, (str, Path)) else list(path)
        self.paths = [Path(one).expanduser().resolve() for one in paths]
        missing = [str(one) for one in self.paths if not one.is_file()]
        if missing or not self.paths:
            raise FileNotFoundError(
                f"expected one file or more with structures, found no {', '.join(missing) or 'name'}"
            )
        self.keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key, "virial": virial_key}
        self.cell_key, self.format = cell_key, format
        self.pbc = None if pbc is None else tuple(bool(axis) for axis in np.broadcast_to(np.asarray(pbc), 3))
        self.factors = _factors(energy_unit, length_unit, stress_unit)
        #: Units by key of the structures.
        self.units = {"pos": "Ang", "cell": "Ang", "energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang^3"}  # type: ignore[misc]
        where = hashlib.sha256("\n".join(map(str, self.paths)).encode()).hexdigest()[:8]
        names = {"cell": cell_key, "pbc": self.pbc, "format": format} | self.keys
        how = {"unit": energy_unit, "length": length_unit, "stress_unit": stress_unit}
        super().__init__(
            root,
            "trajectory",
            {"file": f"{self.paths[0].stem}-{where}"} | names | how,
            source=self.paths[0],  # so that changed files are noticed
            transform=transform,
            pre_transform=pre_transform,
            pre_filter=pre_filter,
            log=log,
            force_reload=force_reload,
        )

    def files(self) -> list[RemoteFile]:
        """The user's files."""
        return [RemoteFile(str(path), bundled=path) for path in self.paths]

    def read(self, paths: dict[str, Path]) -> Collated:
        """Convert units and collate all structures."""
        frames = Frames()
        for path in paths.values():
            for number, (atoms, fields) in enumerate(_structures(path, self.format)):
                frames.add(self._frame(f"{path}, structure {number}", atoms, fields))
        return frames.collated(", ".join(paths))

    def _frame(self, where: str, atoms: Any, fields: dict[str, Any]) -> Frame:
        """One structure in the units of this package."""
        cell = np.asarray(atoms.cell.array, dtype=np.float64)
        if self.cell_key is not None:
            cell = self._numbers(where, fields, self.cell_key, "cell_key", (9,)).reshape(3, 3)
        pbc = atoms.pbc if self.pbc is None else np.array(self.pbc)
        if self.cell_key is not None and self.pbc is None and not pbc.any():
            pbc = np.ones(3, dtype=bool)
        if pbc.any() and not abs(np.linalg.det(np.where(pbc[:, None], cell, np.eye(3)))) > 0:
            raise ValueError(f"{where} is periodic but its cell has no volume; give `cell_key` or `pbc=False`")
        energy, forces, stress = None, None, None
        if self.keys["energy"] is not None:
            energy = float(self._numbers(where, fields, self.keys["energy"], "energy_key", (1,))[0])
            energy *= self.factors["energy"]
        if self.keys["forces"] is not None:
            forces = self._numbers(where, fields, self.keys["forces"], "forces_key", (3 * len(atoms),)).reshape(-1, 3)
            forces = forces * self.factors["forces"]
        if self.keys["virial"] is not None and self.keys["virial"] in fields:
            volume = abs(np.linalg.det(cell))
            if not volume > 0:
                raise ValueError(f"{where} has a virial but no volume; give `cell_key` or leave `virial_key` out")
            virial = self._numbers(where, fields, self.keys["virial"], "virial_key", (6, 9))
            stress = -_matrix(where, virial) / volume * self.factors["virial"]
        elif self.keys["stress"] is not None and self.keys["stress"] in fields:
            stress = _matrix(where, self._numbers(where, fields, self.keys["stress"], "stress_key", (6, 9)))
            stress = stress * self.factors["stress"]
        length = self.factors["length"]
        return Frame(atoms.numbers, atoms.positions * length, energy, forces, stress, cell * length, pbc)

    @staticmethod
    def _numbers(where: str, fields: dict[str, Any], key: str, option: str, sizes: tuple[int, ...]) -> NDArray:
        if key not in fields:
            found = ", ".join(sorted(fields)) or "none"
            raise ValueError(f"{where} has no field {key!r}; its fields are {found}: name one of them as `{option}`")
        try:
            numbers = np.asarray(fields[key], dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: expected numbers in the field {key!r}, got {fields[key]!r}") from None
        if numbers.size not in sizes:
            expected = " or ".join(map(str, sizes))
            raise ValueError(f"{where}: expected {expected} numbers in the field {key!r}, got {numbers.size}")
        return numbers


def _factors(energy: str, length: str, stress: str | None) -> dict[str, float]:
    """What numbers of the files are multiplied with."""
    if stress is not None and stress not in STRESS:
        raise ValueError(f"`stress_unit` must be one of {', '.join(STRESS)} or None, got {stress!r}")
    to_ev, to_ang = conversion(energy, "eV"), conversion(length, "Ang")
    return {
        "energy": to_ev,
        "length": to_ang,
        "forces": to_ev / to_ang,
        "stress": to_ev / to_ang**3 if stress is None else STRESS[stress],
        "virial": to_ev / to_ang**3,  # the volume it is divided by is in the files' unit
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


def _structures(path: Path, format: str | None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each structure of a file as ASE's Atoms, and the fields it comes with."""
    try:
        import ase.db  # noqa: PLC0415
        import ase.io  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('Trajectory needs ASE; install it with pip install "pyg_schnet[md]"') from error
    count = 0
    try:
        with path.open("rb") as stream:
            is_database = format == "db" or (format is None and stream.read(15) == b"SQLite format 3")
        if is_database:
            with ase.db.connect(str(path), type="db", use_lock_file=False) as database:
                for row in database.select():
                    results = {key: row[key] for key in ("energy", "forces", "stress", "free_energy") if key in row}
                    yield row.toatoms(), results | dict(row.data) | row.key_value_pairs
                    count += 1
        else:
            for atoms in ase.io.iread(str(path), index=":", format=format, do_not_split_by_at_sign=True):
                results = {} if atoms.calc is None else dict(atoms.calc.results)
                arrays = {key: value for key, value in atoms.arrays.items() if key not in {"numbers", "positions"}}
                yield atoms, results | arrays | atoms.info
                count += 1
    except PermissionError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} cannot be read after {count} structures ({type(error).__name__}: {error})") from None
    if count == 0:
        raise ValueError(f"{path} holds no structures")
