"""Structures gathered one by one, in parts, and collated into tensors."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated
from pyg_schnet.datasets.columns import Columns
from pyg_schnet.datasets.fields import (
    Field,
    FieldColumn,
    FieldFacts,
    Way,
    possible_name,
    strings_of,
    values_of,
    way_of,
)
from pyg_schnet.datasets.fingerprint import digest
from pyg_schnet.datasets.parts import Part, Parts
from pyg_schnet.datasets.rounding import LARGEST, NEAR
from pyg_schnet.graph.centre import FARTHEST, centred


class Frame(NamedTuple):
    """One structure in the units of this package.

    Attributes:
        z: Atomic numbers [n].
        pos: Positions [n, 3] in Angstrom.
        energy: In eV; ``None`` or NaN if it is not known.
        forces: [n, 3] in eV/Angstrom; ``None``, or NaN for atoms of which it is not known.
        stress: [3, 3] in eV/Angstrom^3.
        cell: Lattice vectors as rows [3, 3] in Angstrom.
        pbc: Periodic axes [3].
        further: Further fields by name.
    """

    z: NDArray
    pos: NDArray
    energy: float | None
    forces: NDArray | None
    stress: NDArray | None
    cell: NDArray
    pbc: NDArray
    further: dict[str, Field] = {}  # noqa: RUF012  never changed


#: A part is full with so many structures, or numbers of all kinds.
_STRUCTURES, _NUMBERS = 20_000, 8_000_000


class Frames:
    """Gathers structures in float64 and rounds them where float32 keeps their digits.

    Structures far from the origin are moved near it, see :func:`pyg_schnet.graph.centre.centred`; those whose largest
    coordinate is below 32 Angstrom, or at most twice their own extent, keep the positions of the file. Structures with
    positions or lattice vectors that are not finite are left out and counted; so are those beyond 1e9 Angstrom. Labels
    that are not there, not finite, or too large for float32 are NaN, and counted; structures that repeat are counted.

    Args:
        name: What to call the file in errors.

    Example:
        >>> frames = Frames("helium.xyz")
        >>> none = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        >>> frames.add(Frame(np.array([2]), np.zeros((1, 3)), -79.0, np.zeros((1, 3)), None, *none))
        >>> collated([frames.part({})], "helium.xyz")[2]
        {'structures': 1, 'left out, not finite': 0, 'duplicates': 0, 'without stress': 0}
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._frames: list[Frame] = []
        self._hashes: list[bytes] = []
        self._columns: dict[str, FieldColumn] = {}
        self._left_out: Counter[str] = Counter()
        self._numbers = 0

    def add(self, frame: Frame) -> None:
        """Gather one structure.

        Args:
            frame: The structure.
        """
        largest = max(np.abs(frame.pos).max(initial=0.0), np.abs(frame.cell).max(initial=0.0))
        if not np.isfinite(largest):
            self._left_out["not finite"] += 1
            return
        if largest > FARTHEST:
            self._left_out["too far from the origin"] += 1
            return
        self._hashes.append(digest(frame.z, frame.pos, frame.cell, frame.pbc))
        energy = np.nan if frame.energy is None or not np.isfinite(frame.energy) else frame.energy
        pos = centred(frame.pos, frame.cell, frame.pbc, near=NEAR).astype(np.float32)
        rounded = frame._replace(pos=pos, energy=energy, forces=_rows(frame.forces), stress=_whole(frame.stress))
        for name in frame.further:
            if name not in self._columns:
                self._columns[name] = FieldColumn(len(self._frames))
        for name, column in self._columns.items():
            column.add(frame.further.get(name), len(frame.z))
        self._frames.append(rounded._replace(further={}))
        self._numbers += 8 * len(frame.z) + sum(np.size(one.value) for one in frame.further.values())

    def leave_out(self, why: str) -> None:
        """Count a structure that is not gathered.

        Args:
            why: The reason, a word or two for the report.
        """
        self._left_out[why] += 1

    @property
    def full(self) -> bool:
        """True if it is time for :meth:`part`."""
        return len(self._frames) >= _STRUCTURES or self._numbers >= _NUMBERS

    def part(self, facts: dict[str, Any]) -> Part:
        """What was gathered since the last part.

        Args:
            facts: What to note of it besides.

        Returns:
            Structures as arrays, and facts; nothing is kept here.

        Raises:
            ValueError: If a structure has no or impossible atoms.
        """
        frames, count = self._frames, len(self._frames)
        arrays: dict[str, NDArray] = {}
        if count:
            z = np.concatenate([frame.z for frame in frames])
            sizes = np.array([len(frame.z) for frame in frames])
            if sizes.min() == 0 or z.min() < 1 or z.max() > 118:
                raise ValueError(
                    f"{self.name}: expected atoms with atomic numbers from 1 to 118 in all structures; remove the rest"
                )
            arrays = {
                "z": z.astype(np.int64),
                "sizes": sizes.astype(np.int64),
                "pos": np.concatenate([frame.pos for frame in frames]),
                "energy": np.array([frame.energy for frame in frames], dtype=np.float64),
                "hashes": np.frombuffer(b"".join(self._hashes), dtype=np.int64).reshape(-1, 2)[:, 0],
            }
            arrays |= _optional(frames)
        for number, column in enumerate(self._columns.values()):
            arrays |= {f"field {number} {name}": array for name, array in column.arrays().items()}
        seen = {
            "count": count,
            "left out": dict(self._left_out),
            "energies": bool(count) and not np.isnan(arrays["energy"]).all(),
            "without forces": sum(frame.forces is None for frame in frames),
            "without stress": sum(frame.stress is None for frame in frames),
            "periodic": any(bool(frame.pbc.any()) for frame in frames),
            "fields": {name: asdict(column.facts) for name, column in self._columns.items()},
        }
        self.__init__(self.name)  # type: ignore[misc]
        return Part(arrays, seen | facts)


def collated(
    parts: Iterable[Part], name: str, columns: Columns | None = None, dropped: dict[str, str] | None = None
) -> Collated:
    """All structures as tensors.

    Args:
        parts: From :meth:`Frames.part`; gone through twice, with one of them in memory at a time.
        name: What to call the file in errors.
        columns: Where to put the numbers; by default in memory.
        dropped: Why fields of the files are left out, by their names; for the report.

    Returns:
        One ``Data``, where each structure begins by key, and the counts. Labels that no structure has are no keys.

    Raises:
        ValueError: If no structure is left, or a weight is negative.
    """
    columns = Columns(None) if columns is None else columns
    whole = _Whole(parts.facts if isinstance(parts, Parts) else [part.facts for part in parts])
    if not whole.count:
        raise ValueError(f"{name}: {whole.why_nothing()}")
    counts: Counter[str] = Counter()
    columns.append("of structures", np.zeros(1, dtype=np.int64))
    columns.append("of atoms", np.zeros(1, dtype=np.int64))
    begin = np.zeros(2, dtype=np.int64)
    for part in parts:
        if not part.facts["count"]:
            continue
        for key, array in _labels_of(part, whole).items():
            columns.append(key, array)
        _add_fields(part, whole, columns, name)
        sizes = part.arrays["sizes"]
        columns.append("of structures", begin[0] + np.arange(1, len(sizes) + 1))
        columns.append("of atoms", begin[1] + np.cumsum(sizes))
        begin += len(sizes), sizes.sum()
        columns.append("hashes", part.arrays["hashes"])
        counts["without energy"] += int(np.isnan(part.arrays["energy"]).sum())
        if "forces" in part.arrays:
            lacking = np.isnan(part.arrays["forces"]).any(axis=1) & np.repeat(part.arrays["has forces"], sizes)
            counts["atoms without forces"] += int(lacking.sum())
    keys = whole.keys
    values = {key: columns.strings(key) if key in whole.strings else columns.tensor(key) for key in keys}
    begins = {kind: columns.tensor(f"of {kind}") for kind in ("atoms", "structures")}
    slices = {key: begins["atoms" if key in whole.of_atoms else "structures"] for key in keys}
    return Data(**values), slices, whole.report(counts, _repeated(columns), dropped or {})


class _Whole:
    """What all parts together have."""

    def __init__(self, facts: list[dict[str, Any]]) -> None:
        self.count = sum(one["count"] for one in facts)
        self.left_out: Counter[str] = Counter()
        fields: dict[str, FieldFacts] = {}
        for one in facts:
            self.left_out.update(one["left out"])
            for name, known in one["fields"].items():
                fields.setdefault(name, FieldFacts()).merge(FieldFacts(**known))
        self.without_forces = sum(one["without forces"] for one in facts)
        self.without_stress = sum(one["without stress"] for one in facts)
        self.keys = ["z", "pos"]
        self.keys += ["energy"] if any(one["energies"] for one in facts) else []
        self.keys += ["forces"] if self.without_forces < self.count else []
        self.keys += ["stress"] if self.without_stress < self.count else []
        self.keys += ["cell", "pbc"] if any(one["periodic"] for one in facts) else []
        self.of_atoms = {"z", "pos", "forces"}
        self.strings: set[str] = set()
        #: New name and way of each field that is kept, by its name in the file.
        self.ways: dict[str, tuple[str, Way]] = {}
        self.dropped: dict[str, str] = {}
        taken = {*self.keys, "energy", "forces", "stress"}
        for name in sorted(fields, key=lambda name: possible_name(name, taken) != name):  # first those that keep theirs
            new = possible_name(name, {*taken, *self.keys})
            way = way_of(new, fields[name])
            if way.dropped is not None:
                self.dropped[name] = way.dropped
                continue
            self.ways[name] = new, way
            self.keys.append(new)
            if way.strings:
                self.strings.add(new)
            elif way.of_atoms:
                self.of_atoms.add(new)

    def why_nothing(self) -> str:
        """Why no structure is left."""
        occupied = self.left_out["sites partly occupied"]
        if occupied:
            return f"no structure is left, {occupied} have sites partly occupied"
        return f"none of {sum(self.left_out.values())} structures has finite positions and lattice vectors"

    def report(self, counts: Counter[str], duplicates: int, dropped: dict[str, str]) -> dict[str, Any]:
        """What people should know."""
        report: dict[str, Any] = {
            "structures": self.count,
            "left out, not finite": self.left_out["not finite"],
            "duplicates": duplicates,
            "without stress": self.without_stress if "stress" in self.keys else 0,
        }
        some: dict[str, Any] = {
            "left out, too far from the origin": self.left_out["too far from the origin"],
            "left out, sites partly occupied": self.left_out["sites partly occupied"],
            "without energy": counts["without energy"],
            "without forces": self.without_forces,
            "atoms without forces": counts["atoms without forces"],
            "further fields": sorted(new for new, _ in self.ways.values()),
            "renamed": {name: new for name, (new, _) in self.ways.items() if new != name},
            "dropped": dropped | self.dropped,
        }
        return report | {key: value for key, value in some.items() if value}


def _optional(frames: list[Frame]) -> dict[str, NDArray]:
    """What some structures have."""
    arrays: dict[str, NDArray] = {}
    if any(frame.forces is not None for frame in frames):
        unknown = [np.full(frame.pos.shape, np.nan, dtype=np.float32) for frame in frames]
        arrays["forces"] = np.concatenate(
            [none if frame.forces is None else frame.forces for frame, none in zip(frames, unknown, strict=True)]
        )
        arrays["has forces"] = np.array([frame.forces is not None for frame in frames])
    if any(frame.stress is not None for frame in frames):
        nothing = np.full((3, 3), np.nan, dtype=np.float32)
        arrays["stress"] = np.stack([nothing if frame.stress is None else frame.stress for frame in frames])
    if any(frame.cell.any() or frame.pbc.any() for frame in frames):
        arrays["cell"] = np.stack([frame.cell for frame in frames]).astype(np.float32)
        arrays["pbc"] = np.stack([frame.pbc for frame in frames]).astype(bool)
    return arrays


def _labels_of(part: Part, whole: _Whole) -> dict[str, NDArray]:
    """What is no further field of a part, as all parts have it."""
    arrays, count, atoms = part.arrays, part.facts["count"], len(part.arrays["z"])
    empty = {
        "forces": np.full((atoms, 3), np.nan, dtype=np.float32),
        "stress": np.full((count, 3, 3), np.nan, dtype=np.float32),
        "cell": np.zeros((count, 3, 3), dtype=np.float32),
        "pbc": np.zeros((count, 3), dtype=bool),
    }
    own = {"z", "pos", "energy", *empty}
    return {key: arrays[key] if key in arrays else empty[key] for key in whole.keys if key in own}


def _add_fields(part: Part, whole: _Whole, columns: Columns, where: str) -> None:
    """Add further fields of a part."""
    numbers = {name: number for number, name in enumerate(part.facts["fields"])}
    for name, (new, way) in whole.ways.items():
        arrays = None
        if name in numbers:
            kinds = ("codes", "counts", "values", "text", "ends")
            arrays = {kind: part.arrays[f"field {numbers[name]} {kind}"] for kind in kinds}
        if way.strings:
            columns.extend(new, [None] * part.facts["count"] if arrays is None else strings_of(arrays))
            continue
        try:
            columns.append(new, values_of(arrays, part.arrays["sizes"], new, way))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _repeated(columns: Columns, at_once: int = 1 << 25) -> int:
    """How many structures there were before, by their hashes, of which not all are in memory."""
    hashes = columns.tensor("hashes").numpy()
    shares, unique = -(-len(hashes) // at_once), 0
    for share in range(shares):
        pieces = (hashes[at : at + at_once] for at in range(0, len(hashes), at_once))
        unique += len(np.unique(np.concatenate([piece[piece % shares == share] for piece in pieces])))
    columns.drop("hashes")
    return len(hashes) - unique


def _rows(forces: NDArray | None) -> NDArray | None:
    """Forces in float32, NaN for atoms of which one component is not known; ``None`` if none is known."""
    if forces is None:
        return None
    known = (np.abs(forces) <= LARGEST).all(axis=1, keepdims=True)
    return np.where(known, forces, np.nan).astype(np.float32) if known.any() else None


def _whole(stress: NDArray | None) -> NDArray | None:
    """A stress in float32, ``None`` if one component is not known."""
    return stress.astype(np.float32) if stress is not None and (np.abs(stress) <= LARGEST).all() else None
