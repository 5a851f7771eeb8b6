"""Compiled steps of dynamics for groups of open structures: neighbours, forces and the motion in one call.

A step of a small molecule takes less time than a call from Python. So loops do many of them before they return:
velocity Verlet, or, with a thermostat, the steps B A O A B of Leimkuhler and Matthews (Appl. Math. Res. Express 2013,
34). Positions, velocities and forces are float64, the network computes in the numbers of its weights. Pairs within the
cutoff and a skin are kept as long as Verlet's rule allows, see :mod:`pyg_schnet.graph.skin`; those that count are taken
from them in an order that does not depend on when they were searched, and neither do results, to the last bit.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, compiled, inlined
from pyg_schnet.fast.cpu.first_order import Network, embed, group_both_ways
from pyg_schnet.fast.cpu.memory import doubles, empty, integers
from pyg_schnet.fast.cpu.repulsion import repel_pairs
from pyg_schnet.fast.cpu.saved import scratch
from pyg_schnet.fast.random_numbers import mixed, three_normals
from pyg_schnet.graph.skin import SEARCH_MARGIN

#: Why steps end too early: numbers that are not finite, or an atom that moves too far in a step.
NOT_FINITE, TOO_FAST = 1, 2

_mixed, _three_normals = inlined()(mixed), inlined()(three_normals)


class Motion(NamedTuple):
    """How atoms move.

    Attributes:
        timestep: Time of a step in fs.
        decay: What a thermostat leaves of the velocities in a step; 1 without one.
        acceleration: Acceleration of each atom by a unit of force, in Angstrom/fs^2 per eV/Angstrom [N].
        noise: What a thermostat adds to the velocities in a step, in Angstrom/fs [N].
        seed: Lower and upper half of the seed of the random numbers.
        longest: The longest move of an atom in a step, in Angstrom.
    """

    timestep: float
    decay: float
    acceleration: ndarray
    noise: ndarray
    seed: tuple[np.uint64, np.uint64]
    longest: float


class Atoms(NamedTuple):
    """What stays as it is.

    Attributes:
        z: Atomic numbers that the network knows [N].
        batch: Structure of each atom, sorted [N].
        within: Number of each atom within its structure [N].
        shares: Share of each atom's contribution in the energy, in eV per unit of the network [N] float64.
        first: First atom of each group of structures, and the number of all [G + 1].
        like: An array of the numbers of the network.
    """

    z: ndarray
    batch: ndarray
    within: ndarray
    shares: ndarray
    first: ndarray
    like: ndarray


@inlined()
def _squared(pos: ndarray, i: int, j: int) -> float:
    """Squared distance."""
    x, y, z = pos[j, 0] - pos[i, 0], pos[j, 1] - pos[i, 1], pos[j, 2] - pos[i, 2]
    return x * x + y * y + z * z


@inlined()
def _search(pos: ndarray, batch: ndarray, a: int, b: int, reach: float) -> tuple[ndarray, ndarray]:
    """Targets and sources of all pairs of atoms a to b within a distance, one of each two opposite ones."""
    limit, count, first = reach * reach, 0, a
    for i in range(a, b):
        if batch[i] != batch[first]:
            first = i
        for j in range(first, i):
            count += _squared(pos, i, j) < limit
    target, source, count, first = integers(count), integers(count), 0, a
    for i in range(a, b):
        if batch[i] != batch[first]:
            first = i
        for j in range(first, i):
            if _squared(pos, i, j) < limit:
                target[count], source[count] = i, j
                count += 1
    return target, source


@inlined()
def _drift(pos: ndarray, velocities: ndarray, a: int, b: int, time: float) -> None:
    for i in range(a, b):
        for axis in range(3):
            pos[i, axis] += time * velocities[i, axis]


@inlined()
def _kick(velocities: ndarray, forces: ndarray, a: int, b: int, motion: Motion) -> None:
    """Half a step of acceleration."""
    for i in range(a, b):
        for axis in range(3):
            velocities[i, axis] += 0.5 * motion.timestep * (forces[i, axis] * motion.acceleration[i])


@inlined()
def _thermostat(velocities: ndarray, atoms: Atoms, a: int, b: int, motion: Motion, step: int) -> None:
    """The random part of a step, exact for any friction."""
    low, high = np.uint64(step) & np.uint64(0xFFFFFFFF), np.uint64(step) >> np.uint64(32)
    for i in range(a, b):
        counters = low, high, np.uint64(atoms.batch[i]), np.uint64(atoms.within[i])
        x, y, z = _three_normals(_mixed(counters, motion.seed))
        velocities[i, 0] = motion.decay * velocities[i, 0] + motion.noise[i] * x
        velocities[i, 1] = motion.decay * velocities[i, 1] + motion.noise[i] * y
        velocities[i, 2] = motion.decay * velocities[i, 2] + motion.noise[i] * z


@inlined()
def _farthest(pos: ndarray, before: ndarray, a: int, b: int) -> tuple[float, int]:
    """The largest squared distance of an atom from where it was, and which one; an atom that is nowhere is farthest."""
    largest, which = 0.0, a
    for i in range(a, b):
        x, y, z = pos[i, 0] - before[i - a, 0], pos[i, 1] - before[i - a, 1], pos[i, 2] - before[i - a, 2]
        moved = x * x + y * y + z * z
        if not moved <= largest:
            largest, which = moved, i
            if not np.isfinite(moved):
                return np.inf, i
    return largest, which


@inlined()
def _move(pos: ndarray, velocities: ndarray, atoms: Atoms, a: int, b: int, motion: Motion, step: int) -> None:
    """A step of the positions, with half a step of the thermostat's before and after it."""
    if motion.decay < 1.0:
        _drift(pos, velocities, a, b, 0.5 * motion.timestep)
        _thermostat(velocities, atoms, a, b, motion, step)
        _drift(pos, velocities, a, b, 0.5 * motion.timestep)
    else:
        _drift(pos, velocities, a, b, motion.timestep)


@inlined()
def _near(
    pos: ndarray, kept: tuple[ndarray, ndarray], cutoff: float, like: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """Vectors [P * 3], targets and sources of those pairs that are within the cutoff, in the order of those kept."""
    (target, source), limit, count = kept, cutoff * cutoff, 0
    for n in range(len(target)):
        count += _squared(pos, target[n], source[n]) < limit
    vec, i, j, count = empty(3 * count, like), integers(count), integers(count), 0
    for n in range(len(target)):
        if _squared(pos, target[n], source[n]) < limit:
            i[count], j[count] = target[n], source[n]
            for axis in range(3):
                vec[3 * count + axis] = pos[j[count], axis] - pos[i[count], axis]
            count += 1
    return vec, i, j


@inlined()
def _add_forces(forces: ndarray, slopes: ndarray, target: ndarray, source: ndarray) -> None:
    """Add the derivatives of the energy with respect to the vectors of pairs."""
    for n in range(len(target)):
        for axis in range(3):
            forces[target[n], axis] += np.float64(slopes[3 * n + axis])
            forces[source[n], axis] -= np.float64(slopes[3 * n + axis])


@inlined()
def _not_finite(contributions: ndarray, forces: ndarray, a: int, b: int) -> int:
    """An atom whose energy or force is no number, or -1."""
    bad = -1
    for n in range(a, b):
        if not np.isfinite(contributions[n - a] + forces[n, 0] + forces[n, 1] + forces[n, 2]):
            bad = n
    return bad


@compiled(CONTRACT)
def advance(
    state: tuple[ndarray, ndarray, ndarray, ndarray],
    trouble: ndarray,
    atoms: Atoms,
    motion: Motion,
    network: Network,
    repulsion: tuple[ndarray, float, float] | None,
    reach: tuple[float, float],
    steps: tuple[int, int],
    groups: tuple[int, int],
) -> None:
    """Move the atoms of some groups; or, with no steps, evaluate energies and forces where they are.

    Args:
        state: To be changed: positions in Angstrom, velocities in Angstrom/fs, forces in eV/Angstrom, [N, 3] float64
            each; energies without references, in eV [B] float64.
        trouble: To be written for each group: after how many steps there was trouble, 0 for none, which of the two, and
            the structure [G, 3]; the state of such a group means nothing.
        atoms: What the structures consist of.
        motion: How they move.
        network: The network.
        repulsion: What :func:`~pyg_schnet.fast.cpu.repulsion.repel_pairs` takes; ``None`` is compiled by itself.
        reach: Cutoff and skin in Angstrom.
        steps: Number of the first step, by which its random numbers are known, and how many.
        groups: The first group and the one behind the last.
    """
    (pos, velocities, forces, energies), (cutoff, skin), size = state, reach, network.sizes[0]
    none = empty(np.int64(0), atoms.like)
    for group in range(groups[0], groups[1]):
        a, b = atoms.first[group], atoms.first[group + 1]
        features, x = empty((b - a) * size, atoms.like), empty((b - a) * size, atoms.like)
        embed(features, atoms.z[a:b], network, atoms.like)
        left = scratch(len(network.blocks), network.sizes, b - a, atoms.like)
        contributions, shares, reference = doubles(b - a), atoms.shares[a:b], pos[a:b].copy()
        kept = _search(pos, atoms.batch, a, b, (cutoff + skin) * SEARCH_MARGIN)
        before = np.empty((b - a, 3), np.float64)
        for step in range(min(1, steps[1]), steps[1] + 1):
            if step > 0:
                before[:] = pos[a:b]
                _kick(velocities, forces, a, b, motion)
                _move(pos, velocities, atoms, a, b, motion, steps[0] + step - 1)
                moved, atom = _farthest(pos, before, a, b)
                if not (moved <= motion.longest * motion.longest and np.isfinite(moved)):
                    trouble[group, 0], trouble[group, 2] = step, atoms.batch[atom]
                    trouble[group, 1] = TOO_FAST if np.isfinite(moved) else NOT_FINITE
                    break
                if 4.0 * _farthest(pos, reference, a, b)[0] > skin * skin:
                    reference[:] = pos[a:b]
                    kept = _search(pos, atoms.batch, a, b, (cutoff + skin) * SEARCH_MARGIN)
            vec, i, j = _near(pos, kept, cutoff, atoms.like)
            x[:] = features
            slopes, some = empty(len(vec), vec), (contributions, x, shares, none, none)
            group_both_ways(some, slopes, network, (vec, i, j), np.arange(len(i)), a, left, True)
            if repulsion is not None:
                repel_pairs(contributions, slopes, (vec, i, j), atoms.z, repulsion, True, a)
            forces[a:b] = 0.0
            _add_forces(forces, slopes, i, j)
            if step > 0:
                _kick(velocities, forces, a, b, motion)
            atom = _not_finite(contributions, forces, a, b)
            if atom >= 0:
                trouble[group, 0], trouble[group, 1], trouble[group, 2] = max(step, 1), NOT_FINITE, atoms.batch[atom]
                break
        for n in range(a, b):
            energies[atoms.batch[n]] = 0.0
        for n in range(a, b):
            energies[atoms.batch[n]] += contributions[n - a]
