"""What is said where structures seem to be in Bohr or nanometres, which no command but ``init`` looks for."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyg_schnet.datasets.guessed_units import guess_length_unit
from pyg_schnet.datasets.nearest import nearest
from pyg_schnet.models.elements import TrainingSet, nearest_known
from pyg_schnet.units import SYMBOLS

#: Structures that are looked at.
_LOOKED_AT = 50
#: The nearest pair over the nearest one of the training, of elements for which that is a usual distance.
_USUAL = (0.6, 1.5)
_NOBLE = {2, 10, 18, 36, 54, 86}


def check_scale(sets: Sequence[TrainingSet], structures: Sequence[Any], source: str, strict: bool = False) -> None:
    """Warn, or refuse, where distances of neighbours are those of another unit of length.

    Nothing is said where a model was trained on atoms as near as those of the structures.

    Args:
        sets: Training sets of the model, as far as they are known.
        structures: ASE's ``Atoms``, of which some are looked at.
        source: Where they are from.
        strict: True to refuse.

    Raises:
        ValueError: If ``strict`` and the distances are those of another unit.

    Warns:
        UserWarning: If they are.
    """
    ratio, shortest = _distances(structures[:_LOOKED_AT])
    only_noble = all({*map(int, atoms.numbers)} <= _NOBLE for atoms in structures[:_LOOKED_AT])
    guess = guess_length_unit(ratio, only_noble)
    if guess.unit == "Ang":
        return
    known = nearest_known(sets)
    shares = {pair: shortest[pair] / known[pair] for pair in shortest.keys() & known.keys()}
    if any(_USUAL[0] < share < _USUAL[1] for share in shares.values()):
        return
    text = f"the structures of {source} seem to be in {guess.unit}: {guess.why}"
    if shares:
        pair = min(shares, key=lambda pair: shares[pair])
        text += f"; {pair} are {shortest[pair]:.2f} apart, in the training {known[pair]:.2f} and more"
    text += "; expected Angstrom: convert them if they are not"
    if strict:
        raise ValueError(text)
    warnings.warn(text, stacklevel=3)


def _distances(structures: Sequence[Any]) -> tuple[float, dict[str, float]]:
    """Typical distance of nearest neighbours in sums of covalent radii, and the shortest by pair of elements."""
    from ase.data import covalent_radii  # noqa: PLC0415  an extra

    ratios, shortest = [np.empty(0)], dict[str, float]()
    for atoms in structures:
        first, second, apart = nearest(atoms.positions, atoms.cell.array, atoms.pbc)
        here, there = atoms.numbers[first], atoms.numbers[second]
        ratios.append(apart / (covalent_radii[here] + covalent_radii[there]))
        for a, b, distance in zip(here.tolist(), there.tolist(), apart.tolist(), strict=True):
            pair = f"{SYMBOLS[min(a, b)]}-{SYMBOLS[max(a, b)]}"
            shortest[pair] = min(distance, shortest.get(pair, np.inf))
    whole = np.concatenate(ratios)
    return float(np.median(whole)) if whole.size else np.nan, shortest
