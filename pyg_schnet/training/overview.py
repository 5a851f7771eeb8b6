"""What a run is about to learn from: said in a line, and looked at for labels in other units than they should be."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet.datasets import StructureLoader
from pyg_schnet.datasets.targets import Target
from pyg_schnet.training.weights import WEIGHTS, weights_of
from pyg_schnet.units import KCAL_PER_MOL, SYMBOLS

#: Root mean square of the components of forces in eV/Angstrom that no ordinary set of structures exceeds.
LARGEST_FORCE = 15.0
#: Total energies of atoms are about this times :math:`Z^{7/3}` in eV (Thomas and Fermi, 0.77 Hartree): with all
#: electrons, there is nothing deeper.
_ALL_ELECTRONS = 20.9


class Overview(NamedTuple):
    """Figures of a training set.

    Attributes:
        structures: Number of structures.
        atoms: Smallest and largest number of atoms.
        elements: Atomic numbers.
        values: Mean, standard deviation and number of known values of each target, per atom if ``per_atom``.
        per_atom: True if the values are those of atoms.
        force: Root mean square of the known components of forces, NaN for none.
        known_forces: Number of atoms with known forces; ``None`` if forces are not learnt.
        depth: Largest ratio of the size of a total energy to that of all electrons.
    """

    structures: int
    atoms: tuple[int, int]
    elements: list[int]
    values: list[tuple[float, float, int]]
    per_atom: bool
    force: float
    known_forces: tuple[int, int] | None
    depth: float

    def in_words(self, targets: Sequence[Target], validation: int) -> str:
        """One line about it.

        Args:
            targets: What is learnt.
            validation: Number of validation examples.

        Returns:
            The line.
        """
        low, high = self.atoms
        sizes = f"{low} atoms each" if low == high else f"{low} to {high} atoms"
        symbols = ", ".join(SYMBOLS[number] if number < len(SYMBOLS) else str(number) for number in self.elements)
        parts = [f"{self.structures:,} training and {validation:,} validation examples of {symbols} ({sizes})"]
        for target, (mean, spread, known) in zip(targets, self.values, strict=True):
            per, unit = " per atom" if self.per_atom else "", f" {target.unit}" if target.unit else ""
            missing = f", {self.structures - known:,} not known" if known < self.structures else ""
            parts.append(f"{target.name}{per} {mean:.6g}, spread {spread:.3g}{unit}{missing}")
        if self.known_forces is not None:
            known, total = self.known_forces
            missing = f", {total - known:,} of {total:,} atoms without" if known < total else ""
            parts.append(f"RMS force {self.force:.3g} eV/Ang{missing}")
        return "; ".join(parts)

    def doubts(self) -> list[str]:
        """What cannot be in the units that a potential is learnt in.

        Returns:
            A sentence for each.
        """
        found = []
        if self.force > LARGEST_FORCE:
            found.append(
                f"the RMS force of the training set is {self.force:.3g} eV/Ang, those of molecules and crystals are "
                f"some 0.1 to 5; are they in kcal/mol/Ang (then it is {self.force * KCAL_PER_MOL:.3g} eV/Ang), or are "
                "there structures that flew apart? Convert them or tell the dataset their unit"
            )
        if self.depth > 1:
            mean = self.values[0][0]
            found.append(
                f"the energies of the training set are {mean:.6g} eV per atom, deeper than with all electrons; are "
                f"they in kcal/mol (then it is {mean * KCAL_PER_MOL:.6g} eV) or meV? Convert them or tell the dataset "
                "their unit"
            )
        return found


def overview(
    dataset: Any, targets: Sequence[Target], forces_key: str | None, potential: bool, stress: bool = False
) -> Overview:
    """Go through a training set once.

    Args:
        dataset: The training examples.
        targets: What is learnt of each structure.
        forces_key: Key of the forces; ``None`` if they are not learnt.
        potential: True if the first target is a total energy in eV.
        stress: True if stresses are learnt.

    Returns:
        Its figures.

    Raises:
        ValueError: If forces are learnt and none is known, or weights are impossible.
    """
    sizes, values, depths, elements = list[Tensor](), list[Tensor](), list[Tensor](), set[int]()
    squares, known, heaviest = 0.0, 0, 0.0
    for batch in StructureLoader(dataset, batch_size=1000):
        n = batch.ptr.diff().cpu()
        sizes.append(n)
        elements |= set(batch.z.unique().tolist())
        found = torch.stack([target.values(batch).double().cpu() for target in targets], dim=1)  # [B, C]
        values.append(found / n.unsqueeze(1) if potential else found)
        if potential:
            bound = 1.5 * _ALL_ELECTRONS * batch.z.double().abs() ** (7 / 3) + 20.0
            depths.append(found[:, 0].abs() / torch.zeros(len(n)).double().index_add(0, batch.batch.cpu(), bound.cpu()))
        if forces_key is not None and batch.get(forces_key) is not None:
            forces = batch[forces_key].double()
            finite = forces.isfinite()
            squares += float(forces[finite].square().sum())
            known += int(finite.sum())
        heaviest = max(heaviest, _heaviest_weight(batch, forces_key is not None, stress))
    atoms, column = torch.cat(sizes), torch.cat(values)
    total = int(atoms.sum())
    if forces_key is not None and not known:
        raise ValueError(
            f"no training example has a known `{forces_key}` to learn; set `forces=False`, or name their key "
            "(`forces_key`)"
        )
    if heaviest == 0:
        raise ValueError("all weights of the training set are zero, so that there is nothing to learn")
    deepest = torch.cat(depths).nan_to_num(0.0, posinf=0.0).max() if depths else torch.zeros(())
    return Overview(
        len(atoms),
        (int(atoms.min()), int(atoms.max())),
        sorted(elements),
        [_spread(one[one.isfinite()]) for one in column.T],
        potential,
        math.sqrt(squares / known) if known else math.nan,
        None if forces_key is None else (known // 3, total),
        float(deepest),
    )


def _spread(values: Tensor) -> tuple[float, float, int]:
    if not values.numel():
        return math.nan, math.nan, 0
    return float(values.mean()), float(values.std(correction=0)), values.numel()


def _heaviest_weight(batch: Any, forces: bool, stress: bool) -> float:
    """The largest weight of what is learnt from a batch, 1 if it has none."""
    for key in WEIGHTS:
        weights = batch.get(key)
        if isinstance(weights, Tensor) and not (weights.isfinite().all() and (weights >= 0).all()):
            raise ValueError(f"`{key}` must be at least 0 and finite for all examples, got {float(weights.min())}")
    found = weights_of(batch)
    parts = [found.energy, *[found.stress] * stress]
    if forces:
        of_structures, atoms = found.forces, found.atoms
        if of_structures is not None and atoms is not None:
            atoms = of_structures[batch.batch] * atoms
        parts.append(of_structures if atoms is None else atoms)
    return max(1.0 if part is None else float(part.max()) for part in parts)
