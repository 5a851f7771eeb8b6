"""How structures of a file hang together: trajectories whose frames resemble each other, groups, repeated ones."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.fingerprint import digest
from pyg_schnet.datasets.gathered import Gathered

#: Correlation of neighbouring frames from which on a file is taken for a trajectory, and below which one forgot.
_NEAR, _FORGOTTEN = 0.3, 0.15
#: Words in names of fields that say which molecule or material a structure is of, the best first.
_GROUPS = (
    "molecule",
    "mol",
    "smiles",
    "inchi",
    "compound",
    "system",
    "group",
    "material",
    "trajectory",
    "traj",
    "name",
)


def memory(values: NDArray, of: Sequence[object]) -> tuple[float, int]:
    """Correlation of neighbouring frames, and after how many frames there is none.

    Args:
        values: A number of each frame [M], energies for example; NaN where it is not known.
        of: What each frame is of; only frames of the same are compared.

    Returns:
        Correlation of a frame with the next one, and the number of frames after which it is below 0.15, 0 if
        neighbouring frames do not resemble each other.

    Example:
        >>> walk = np.sin(np.arange(1000) / 20)
        >>> correlation, gap = memory(walk, ["a"] * 1000)
        >>> round(correlation, 2), 20 < gap < 40
        (1.0, True)
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(of))}
    group = np.array([names[name] for name in of])
    rest = np.array(values, dtype=np.float64)
    for number in range(len(names)):
        chosen = group == number
        known = rest[chosen][np.isfinite(rest[chosen])]
        rest[chosen] -= known.mean() if len(known) else 0.0
    first = _correlation(rest, group, 1)
    if not first > _NEAR:
        return first, 0
    for lag in range(2, max(3, len(rest) // 20)):
        if not _correlation(rest, group, lag) > _FORGOTTEN:
            return first, lag
    return first, max(2, len(rest) // 20)


def _correlation(rest: NDArray, group: NDArray, lag: int) -> float:
    pairs = (group[lag:] == group[:-lag]) & np.isfinite(rest[lag:]) & np.isfinite(rest[:-lag])
    if pairs.sum() < 10:
        return 0.0
    before, after = rest[:-lag][pairs], rest[lag:][pairs]
    size = np.sqrt((before**2).mean() * (after**2).mean())
    return float((before * after).mean() / size) if size > 0 else 0.0


def find_group_key(gathered: Gathered) -> str | None:
    """Name of the field that says which molecule or material a structure is of.

    Args:
        gathered: The structures.

    Returns:
        A field that all structures have, with two values or more, each of which has two structures on the average;
        ``None`` if there is none.
    """
    for word in _GROUPS:
        for name, shape in gathered.shapes.items():
            parts = re.split(r"[^a-z]+", name.lower())
            if word not in parts or shape not in {"word", "number"} or gathered.counts[name] < len(gathered.all):
                continue
            kinds = {str(one.fields[name]) for one in gathered.all}
            if 2 <= len(kinds) <= len(gathered.all) / 2:
                return name
    return None


def repeated(gathered: Gathered) -> int:
    """Number of structures that are in the files once more, to the last digit.

    Args:
        gathered: The structures.

    Returns:
        The number.
    """
    return len(gathered.all) - len({digest(one.numbers, one.pos, one.cell, one.pbc) for one in gathered.all})


def of_composition(values: NDArray, numbers: Sequence[NDArray]) -> NDArray:
    """What is left of values when those of the elements, by least squares, are taken off.

    Args:
        values: A number of each structure [M]; NaN where it is not known.
        numbers: Atomic numbers of each structure.

    Returns:
        The rest [M].
    """
    elements = np.unique(np.concatenate(list(numbers)))
    counts = np.array([[np.count_nonzero(z == element) for element in elements] for z in numbers], dtype=np.float64)
    known = np.isfinite(values)
    rest = np.full(len(values), np.nan)
    if known.any():
        best, *_ = np.linalg.lstsq(counts[known], values[known], rcond=None)
        rest[known] = values[known] - counts[known] @ best
        rest[known] -= rest[known].mean()
    return rest
