"""Labels that are none: the same number everywhere, energies never calculated, files in different units."""

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.gathered import Gathered
from pyg_schnet.datasets.label_values import LabelFields
from pyg_schnet.datasets.labels import FoundLabels, find_labels
from pyg_schnet.units import ENERGY

#: Structures from which a number that never changes, or a median, says anything.
_FEWEST = 3
#: Median distances from the median beyond which an energy of zero, and the median of another file, is another quantity.
_FAR = 20.0
#: Natural logarithms by which quotients of energies and of their spreads may differ from that of two units.
_SAME, _SPREAD = 0.03, 1.0
#: Words for a calculation that did not converge.
_NO = {"f", "false", "no", "0"}


def labels_and_placeholders(gathered: Gathered, given: Mapping[str, str]) -> tuple[FoundLabels, dict[str, str]]:
    """Find the labels, but for fields that hold the same number everywhere.

    These are energies that are one number for structures that differ, and forces, stresses and virials that are all
    zero; forces that are zero by symmetry stay where there are stresses.

    Args:
        gathered: The structures.
        given: Names of labels that are known.

    Returns:
        The labels, and a sentence for each field that is none.
    """
    shapes, dropped, fields = dict(gathered.shapes), dict[str, str](), LabelFields(gathered)
    while True:
        found = find_labels(shapes, given, fields.constant, fields.same)
        every = [(label, key) for label, key in found.keys.items() if label not in given]
        every += [(label, key) for label, keys in found.others.items() for key in keys]
        new = {key: said for label, key in every if (said := _placeholder(gathered, label, key)) is not None}
        if {"stress", "virial"} & {label for label, key in found.keys.items() if key not in new}:
            new.pop(found.keys.get("forces", ""), None)
        if not new:
            return found, dropped
        dropped |= new
        shapes = {name: shape for name, shape in shapes.items() if name not in dropped}


def _placeholder(gathered: Gathered, label: str, key: str) -> str | None:
    """What is said of a field that is the same everywhere."""
    many = f"in all {len(gathered.all):,} structures and is not taken for {label}"
    if label == "energy":
        energies = gathered.values(key)
        known = np.flatnonzero(np.isfinite(energies))
        differ = len({gathered.all[place].pos.tobytes() for place in known[:100].tolist()}) >= _FEWEST
        return f"{key!r} is {energies[known[0]]:g} {many}" if differ and np.ptp(energies[known]) == 0 else None
    arrays = [array for array in gathered.arrays(key) if array is not None and array.size > (label == "forces") * 3]
    zero = len(arrays) >= _FEWEST and not any(np.nan_to_num(array).any() for array in arrays)
    return f"{key!r} is zero {many}" if zero else None


def not_calculated(gathered: Gathered, energies: NDArray) -> NDArray:
    """Structures whose energy is exactly zero, while others of their composition are far from zero.

    Args:
        gathered: The structures.
        energies: Their energies [M].

    Returns:
        Their places.
    """
    groups = dict[Any, list[int]](_by(gathered.formulas, energies))
    found = []
    for places in groups.values():
        values = energies[places]
        others = values[values != 0]
        if len(others) >= _FEWEST and len(others) < len(values):
            middle = float(np.median(others))
            if abs(middle) > _FAR * float(np.median(np.abs(others - middle))):
                found += [place for place in places if energies[place] == 0]
    return np.array(sorted(found), dtype=np.int64)


def not_converged(gathered: Gathered) -> NDArray:
    """Structures whose field ``converged`` says that they are not.

    Args:
        gathered: The structures.

    Returns:
        Their places.
    """
    said = [one.fields.get("converged", True) for one in gathered.all]
    return np.flatnonzero([np.size(one) == 1 and str(np.asarray(one).reshape(())).lower() in _NO for one in said])


def check_files(gathered: Gathered, energies: NDArray) -> None:
    """Refuse files whose energies of one composition are in different units.

    Args:
        gathered: The structures.
        energies: Their energies [M], as they are in the files.

    Raises:
        ValueError: If medians, and spreads, of one composition in two files are as unlike as two units.
    """
    groups: dict[Any, dict[Path, list[int]]] = defaultdict(dict)
    for (file, formula), places in _by(
        [(one.file, gathered.formulas[n]) for n, one in enumerate(gathered.all)], energies
    ):
        groups[formula][file] = places
    for by_file in groups.values():
        known = [(file, energies[places]) for file, places in by_file.items() if len(places) >= _FEWEST]
        for (one, first), (other, second) in combinations(known[:20], 2):
            units = _units_apart(first, second)
            if units is not None:
                raise ValueError(
                    f"energies of one composition are about {np.median(first):.6g} in {one.name} and "
                    f"{np.median(second):.6g} in {other.name}, as unlike as {units[0]} and {units[1]}; convert the "
                    "files to one unit"
                )


def _units_apart(first: NDArray, second: NDArray) -> tuple[str, str] | None:
    """Two units as unlike as energies in two files, if there are."""
    middle, other = float(np.median(first)), float(np.median(second))
    spread, spread_2 = (float(np.median(np.abs(one - np.median(one)))) for one in (first, second))
    if not middle * other > 0 or abs(middle - other) < _FAR * max(spread, spread_2) or not spread * spread_2 > 0:
        return None
    off, spreads = math.log(middle / other), math.log(spread / spread_2)
    units = min(
        ((a, b) for a in ENERGY for b in ENERGY if a != b),
        key=lambda pair: abs(off - math.log(ENERGY[pair[1]] / ENERGY[pair[0]])),
    )
    apart = math.log(ENERGY[units[1]] / ENERGY[units[0]])
    return units if abs(off - apart) < _SAME and abs(spreads - apart) < _SPREAD else None


def _by(keys: list, energies: NDArray) -> Any:
    """Places of known energies by key."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if math.isfinite(energies[place]):
            groups[key].append(place)
    return groups.items()
