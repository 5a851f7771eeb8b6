"""Structures of a user's files as plain arrays in the units of the files, before anything is known of them."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.ase_files import Read, guess_number, is_bare
from pyg_schnet.datasets.crystal import is_shared
from pyg_schnet.datasets.own_files import count_all, structures_of
from pyg_schnet.datasets.property_table import PropertyTable

#: Fields of extended xyz and of ASE that describe the structure or how it was made.
_NO_LABELS = {"pbc", "Lattice", "occupancy", "spacegroup", "unit_cell", "tags", "initial_charges", "initial_magmoms"}
#: So many structures are all looked at; of more, so many runs of so many.
MOST, RUNS, RUN = 100_000, 8, 5_000


class One(NamedTuple):
    """A structure.

    Attributes:
        file: The file it is from.
        numbers: Atomic numbers [n].
        pos: Positions [n, 3].
        cell: Lattice vectors as rows [3, 3].
        pbc: Periodic axes [3].
        fields: Numbers, arrays and strings by name.
    """

    file: Path
    numbers: NDArray
    pos: NDArray
    cell: NDArray
    pbc: NDArray
    fields: dict[str, Any]


class Gathered:
    """All structures of some files; of more than 100,000, eight runs of 5,000 at equal distances.

    Args:
        files: The files.
        table: Table of properties.
        format: ASE's name of the format, if the names of the files do not tell.
        show: True to show a progress bar.

    Raises:
        ImportError: If ASE is not installed.
        ValueError: If a file is damaged or holds no structures, or some structures alone lack lattice vectors.
    """

    def __init__(
        self, files: Sequence[Path], table: PropertyTable | None = None, format: str | None = None, show: bool = True
    ) -> None:
        self.all: list[One] = []
        #: Shape of each field, as :func:`~pyg_schnet.datasets.labels.find_labels` takes it, and how many have it.
        self.shapes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        #: Crystals that are left out because sites are occupied in part.
        self.partly_occupied = 0
        #: Structures with periodic axes but no lattice vectors, which are taken as open.
        self.without_cell = 0
        #: Number of structures in each file, those that were not looked at included.
        self.totals: Counter[Path] = Counter()
        for path, read in self._read(files, table, format, show):
            if is_shared(read.of_structure.get("occupancy")):
                self.partly_occupied += 1
                self.totals[path] -= 1
                continue
            atoms = read.atoms
            fields = {
                name: value for name, value in read.fields().items() if name not in _NO_LABELS and not is_bare(value)
            }
            for name, value in fields.items():
                seen[name][_shape(name, value, len(atoms), read)] += 1
            numbers = np.asarray(atoms.numbers, dtype=np.int64)
            pbc, cell = np.asarray(atoms.pbc), atoms.cell.array
            if pbc.any() and not cell.any():
                pbc, self.without_cell = np.zeros(3, dtype=bool), self.without_cell + 1
            self.all.append(One(path, numbers, atoms.positions, cell, pbc, fields))
        if not self.all:
            raise ValueError(f"no structure is left, {self.partly_occupied} have sites partly occupied")
        if self.without_cell and any(one.pbc.any() for one in self.all):
            raise ValueError(
                f"{self.without_cell:,} structures have periodic axes but no lattice vectors, and others have both; "
                "give them lattice vectors or open axes"
            )
        for name, kinds in seen.items():
            self.counts[name] = sum(kinds.values())
            self.shapes[name] = kinds.most_common(1)[0][0]
        self.sizes = np.array([len(one.numbers) for one in self.all])
        self.formulas = [_formula(one.numbers) for one in self.all]

    def _read(
        self, files: Sequence[Path], table: PropertyTable | None, format: str | None, show: bool
    ) -> Iterator[tuple[Path, Read]]:
        """Structures to look at."""
        if sum(guess_number(file, format) for file in files) <= MOST:
            for path, _, read in structures_of(files, table, format, show):
                self.totals[path] += 1
                yield path, read
            return
        counts = count_all(files, format)
        self.totals.update(dict(zip(files, counts, strict=True)))
        before = np.cumsum([0, *counts])
        for first in np.linspace(0, before[-1] - min(RUN, before[-1]), RUNS, dtype=np.int64).tolist():
            place = int(np.searchsorted(before, first, side="right")) - 1
            run = structures_of(files, table, format, show, (place, first - int(before[place])))
            yield from ((path, read) for path, _, read in itertools.islice(run, RUN))

    @property
    def total(self) -> int:
        """Number of structures, those that were not looked at included."""
        return self.totals.total()

    def values(self, key: str) -> NDArray:
        """A field of one number.

        Args:
            key: Its name.

        Returns:
            The numbers [M], NaN where there is none.
        """
        found = np.full(len(self.all), np.nan)
        for place, one in enumerate(self.all):
            value = one.fields.get(key)
            if value is not None and np.size(value) == 1 and not isinstance(value, str):
                found[place] = float(np.asarray(value).reshape(()))
        return found

    def arrays(self, key: str) -> list[NDArray | None]:
        """A field of several numbers.

        Args:
            key: Its name.

        Returns:
            The arrays, ``None`` where there is none.
        """
        found: list[NDArray | None] = []
        for one in self.all:
            value = one.fields.get(key)
            found.append(None if value is None or isinstance(value, str) else np.asarray(value, dtype=np.float64))
        return found


def _shape(name: str, value: Any, n: int, read: Read) -> str:
    if isinstance(value, str):
        return "word"
    try:
        array = np.asarray(value)
    except ValueError:
        return "other"
    if array.dtype.kind not in "iufb":
        return "other"
    of_atoms = name in read.of_atoms or (name in read.of_either and (n != 3 or "force" in name.lower()))
    if of_atoms:
        return "vectors" if array.shape == (n, 3) else "other"
    return "number" if array.size == 1 else "matrix" if array.size in {6, 9} else "other"


def _formula(numbers: NDArray) -> tuple[tuple[int, int], ...]:
    z, counts = np.unique(numbers, return_counts=True)
    return tuple(zip(z.tolist(), counts.tolist(), strict=True))
