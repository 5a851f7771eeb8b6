"""What a first look at a user's own structures found."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.gathered import Gathered
from pyg_schnet.datasets.guessed_units import Guess
from pyg_schnet.datasets.labels import FoundLabels
from pyg_schnet.datasets.stiffness import Stiffness

#: Correlation of energies and work from which they belong together.
_FOLLOW = 0.85


@dataclass
class Survey:
    """What some files hold; energies, lengths and their quotients are in eV and Angstrom.

    Attributes:
        files: The files, those to train with first.
        parts: Number of structures in the files of each part.
        gathered: The structures that were looked at, in the units of the files.
        labels: Names of the labels.
        units: Unit of the ``energy``, ``length``, ``forces`` and ``stress`` and why it is taken.
        energies: [M], NaN where it is not known.
        rest: Energies without what each element brings [M].
        force_square: Mean square of the forces, NaN for none.
        largest_force: The largest component.
        stress_square: Mean square of the stresses (sum over nine components), NaN for none.
        ratio: Typical distance of nearest neighbours in sums of covalent radii.
        shortest: Shortest distance by pair of elements, of the structures that were looked at.
        neighbour: Typical distance of a nearest neighbour.
        room: Least room between a structure and its images, infinite for open ones.
        slope: Change of energy between structures near each other over the work of the forces, and the correlation of
            the two; both are negative for gradients.
        stiffness: How stiff bonds are, in the unit of the forces; negative for gradients.
        signs: -1 where ``forces`` are gradients of the energy, and where the ``stress``, or the virial, has not ASE's
            sign; else 1.
        near: Correlation of neighbouring frames, and after how many frames there is none.
        duplicates: Number of structures that repeat another one.
        placeholders: Fields that have the names of labels and the same number everywhere, and a sentence on each.
        not_calculated: Structures whose energy is exactly zero, unlike that of others of their composition.
        odd: What is odd, a sentence each.
        group_key: Field with the molecule or material of each structure, ``None`` for none.
        properties: Further numbers of the structures, which might be learnt.
        passed_over: Files in folders that are not read.
        without_volume: Number of structures whose stress or virial says nothing, because they have no volume.
    """

    files: list[Path]
    parts: dict[str, int]
    gathered: Gathered
    labels: FoundLabels
    units: dict[str, Guess]
    energies: NDArray
    rest: NDArray
    force_square: float = math.nan
    largest_force: float = 0.0
    stress_square: float = math.nan
    ratio: float = math.nan
    shortest: dict[tuple[int, int], float] = field(default_factory=dict)
    neighbour: float = math.nan
    room: float = math.inf
    slope: tuple[float, float] = (math.nan, 0.0)
    stiffness: Stiffness | None = None
    signs: dict[str, int] = field(default_factory=dict)
    near: tuple[float, int] = (0.0, 0)
    duplicates: int = 0
    placeholders: dict[str, str] = field(default_factory=dict)
    not_calculated: NDArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    odd: list[str] = field(default_factory=list)
    group_key: str | None = None
    properties: list[str] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    without_volume: int = 0

    def __len__(self) -> int:
        return len(self.gathered.all)

    @property
    def follows(self) -> bool:
        """True if energies follow the work of the forces, or of gradients, so that they belong together."""
        return abs(self.slope[1]) > _FOLLOW

    @property
    def periodic(self) -> int:
        """Number of structures with a periodic axis."""
        return sum(bool(one.pbc.any()) for one in self.gathered.all)

    @property
    def elements(self) -> dict[int, int]:
        """Number of structures with each element."""
        found: dict[int, int] = {}
        for formula in self.gathered.formulas:
            for number, _ in formula:
                found[number] = found.get(number, 0) + 1
        return dict(sorted(found.items()))

    @property
    def compositions(self) -> int:
        """Number of different compositions."""
        return len(set(self.gathered.formulas))

    @property
    def groups(self) -> int:
        """Number of different groups, or of compositions where no field names groups."""
        return len(set(self.group_of))

    @property
    def group_of(self) -> list[Any]:
        """The group of each structure: what the field says, or its composition."""
        if self.group_key is None:
            return list(self.gathered.formulas)
        return [str(one.fields.get(self.group_key)) for one in self.gathered.all]

    def within_and_between(self) -> tuple[float, float]:
        """Variance of the energies within groups, and of the means of groups.

        Returns:
            Both in eV^2; NaN for the first if no group has two structures.
        """
        groups: dict[Any, list[float]] = {}
        for group, value in zip(self.group_of, self.rest, strict=True):
            if math.isfinite(value):
                groups.setdefault(group, []).append(value)
        several = [np.array(values) for values in groups.values() if len(values) > 1]
        count = sum(map(len, several)) - len(several)
        within = sum(float(((values - values.mean()) ** 2).sum()) for values in several) / count if count else math.nan
        means = np.array([np.mean(values) for values in groups.values()])
        return within, float(means.var()) if len(means) else math.nan
