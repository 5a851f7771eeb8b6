"""Whether energies follow the work of forces between structures that are near each other, in any order."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.gathered import One

#: Root mean square displacements in Angstrom between which work says something, and how many of the least are taken.
_NEAR, _PAIRS = (1e-4, 0.3), 60
#: Structures of one molecule that are all compared with each other, at most, and products of their square and of
#: their atoms; pairs of structures in all.
_COMPARED, _EFFORT, _MOST = 250, 4e6, 60_000


def near_pairs(structures: Sequence[One], size: float) -> list[tuple[int, int]]:
    """Pairs of structures of the same atoms that are nearest to each other.

    Neighbours in the file are looked at, and some of each molecule among each other, turned onto each other where they
    are open. Periodic ones must have one cell.

    Args:
        structures: The structures.
        size: Their unit of length in Angstrom.

    Returns:
        Their places, nearest pairs first.
    """
    groups: dict[Any, list[int]] = defaultdict(list)
    for place, one in enumerate(structures):
        if len(one.numbers) > 1 and np.isfinite(one.pos).all():
            cell = (one.cell * one.pbc[:, None]).tobytes()
            groups[one.numbers.tobytes(), cell].append(place)
    found, left = list[tuple[float, int, int]](), _MOST
    for places in sorted(groups.values(), key=len, reverse=True):
        first, second = _compared(places, len(structures[places[0]].numbers))
        first, second = first[:left], second[:left]
        left -= len(first)
        if not len(first):
            break
        open_ = not structures[places[0]].pbc.any()
        apart = _displacements(structures, first, second, open_) * size
        good = np.flatnonzero((apart > _NEAR[0]) & (apart < _NEAR[1]))
        nearest = good[np.argsort(apart[good])][:_PAIRS]
        found += zip(apart[nearest].tolist(), first[nearest].tolist(), second[nearest].tolist(), strict=True)
    return [(one, other) for _, one, other in sorted(found)[:_PAIRS]]


def work_and_energy(
    structures: Sequence[One], energies: NDArray, forces: Sequence[NDArray | None], size: float
) -> tuple[float, float]:
    r"""How well energies follow the work of the forces.

    Between two structures :math:`\Delta E \approx -\tfrac{1}{2} \sum_i (F_i + F_i') \cdot (x_i' - x_i)`. The slope of
    the one against the other is 1 in units that belong together.

    Args:
        structures: The structures.
        energies: Their energies [M]; those that are not finite are left out, with their pairs.
        forces: Their forces [n, 3], ``None`` where they are not known.
        size: The unit of length in Angstrom.

    Returns:
        Slope, negative for gradients, and correlation of the two.
    """
    known = {
        place: rows
        for place, rows in enumerate(forces)
        if rows is not None and np.isfinite(rows).all() and math.isfinite(energies[place])
    }
    places = list(known)
    steps, works = [], []
    for first, second in near_pairs([structures[place] for place in places], size):
        one, other = places[first], places[second]
        here, there = known[one], known[other]
        pos, pos_2 = structures[one].pos * size, structures[other].pos * size
        if not structures[one].pbc.any():
            pos, pos_2 = pos - pos.mean(axis=0), pos_2 - pos_2.mean(axis=0)
            turn = _turns((pos.T @ pos_2)[None])[0][0]
            pos, here = pos @ turn, here @ turn
        steps.append(energies[other] - energies[one])
        works.append(-0.5 * float(((here + there) * (pos_2 - pos)).sum()))
    step, work = np.array(steps), np.array(works)
    if len(step) < 10 or step.std() == 0 or work.std() == 0:
        return math.nan, 0.0
    correlation = float(np.corrcoef(step, work)[0, 1])
    return float(step.std() / work.std() * np.sign(correlation)), correlation


def _compared(places: list[int], atoms: int) -> tuple[NDArray, NDArray]:
    """Pairs of a group: neighbours in the file, and some among each other."""
    many = max(2, min(_COMPARED, int(math.sqrt(_EFFORT / atoms))))
    some = np.array(places[:: -(-len(places) // many)])
    i, j = np.triu_indices(len(some), 1)
    following = [pair for pair in pairwise(places) if pair[1] == pair[0] + 1][: _MOST // 2]
    first = np.concatenate([[one for one, _ in following], some[i]]).astype(int)
    second = np.concatenate([[other for _, other in following], some[j]]).astype(int)
    return first, second


def _displacements(structures: Sequence[One], first: NDArray, second: NDArray, open_: bool) -> NDArray:
    """Root mean square displacement of the atoms in each pair."""
    used, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
    pos = np.stack([structures[place].pos for place in used.tolist()])
    i, j = inverse[: len(first)], inverse[len(first) :]
    if open_:
        pos = pos - pos.mean(axis=1, keepdims=True)
    squares = (pos**2).sum(axis=(1, 2))
    found = np.empty(len(i))
    step = max(1, int(_EFFORT // pos[0].size))
    for begin in range(0, len(i), step):
        a, b = i[begin : begin + step], j[begin : begin + step]
        products = np.einsum("pna,pnb->pab", pos[a], pos[b])
        common = _turns(products)[1] if open_ else np.trace(products, axis1=1, axis2=2)
        found[begin : begin + step] = squares[a] + squares[b] - 2 * common
    return np.sqrt(np.maximum(found, 0.0) / pos.shape[1])


def _turns(products: NDArray) -> tuple[NDArray, NDArray]:
    """Rotations that turn first positions onto second ones, and the sums of products after them (Kabsch)."""
    left, values, right = np.linalg.svd(products)
    values[:, 2] *= (hand := np.sign(np.linalg.det(left @ right)))
    left[:, :, 2] *= hand[:, None]
    return left @ right, values.sum(axis=1)
