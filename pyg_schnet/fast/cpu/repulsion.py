"""The repulsion of :class:`pyg_schnet.nn.ZBLRepulsion` and its slopes in compiled loops, of those pairs that feel it.

Most pairs of a structure are farther apart than atoms that are bonded, so the rest takes hardly any time. All is
computed in float64.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, compiled, inlined
from pyg_schnet.ops.repulsion import COULOMB, EXPONENT, LENGTH, SCREENING
from pyg_schnet.ops.repulsion import ENVELOPE as P


@inlined()
def _repelled(d: float, first: float, second: float, end: float, scale: float) -> tuple[float, float]:
    """Energy of a pair, and its derivative with respect to the distance."""
    per_length, screening, slope = (first**EXPONENT + second**EXPONENT) / LENGTH, 0.0, 0.0
    for weight, decay in SCREENING:
        one = weight * np.exp(-decay * per_length * d)
        screening += one
        slope -= decay * per_length * one
    coulomb, u, total = scale * COULOMB * first * second / d, d / end, 0.5 * P * (P + 1)
    for k in range(P - 1, 0, -1):
        total = total * u + 0.5 * k * (k + 1)
    envelope = (1.0 - u) ** 3 * total
    of_envelope = -0.5 * P * (P + 1) * (P + 2) * u ** (P - 1) * (1.0 - u) ** 2 / end
    energy = coulomb * screening
    return energy * envelope, (coulomb * slope - energy / d) * envelope + energy * of_envelope


@inlined()
def _felt(
    x: float, y: float, z: float, first: int, second: int, repulsion: tuple[ndarray, float, float]
) -> tuple[float, float]:
    """Energy of a pair, and its derivative by the distance, over the distance; zeros for most pairs."""
    reach, cutoff, scale = repulsion
    end, squared = min(reach[first] + reach[second], cutoff), x * x + y * y + z * z
    if squared >= end * end:
        return 0.0, 0.0
    d = np.sqrt(squared)
    energy, slope = _repelled(d, np.float64(first), np.float64(second), end, scale)
    return energy, slope / d


@inlined()
def repel_pairs(
    contributions: ndarray,
    slopes: ndarray,
    pairs: tuple[ndarray, ndarray, ndarray],
    z: ndarray,
    repulsion: tuple[ndarray, float, float],
    symmetric: bool,
    a: int,
) -> None:
    """Add the repulsion of pairs, and its slopes.

    Args:
        contributions: To be added to, energies of atoms from a on [N - a] float64.
        slopes: To be added to, derivatives with respect to the vectors of the pairs [P * 3].
        pairs: Vectors [P * 3], targets and sources of pairs [P].
        z: Atomic numbers [N].
        repulsion: What :func:`pyg_schnet.fast.repulsion.as_loops_know` returned.
        symmetric: True if each pair stands for its opposite, too.
        a: Number of the first atom.
    """
    vec, target, source = pairs
    for n in range(len(target)):
        i, j = target[n], source[n]
        x, y, w = np.float64(vec[3 * n]), np.float64(vec[3 * n + 1]), np.float64(vec[3 * n + 2])
        energy, slope = _felt(x, y, w, z[i], z[j], repulsion)
        if energy > 0.0:
            contributions[i - a] += 0.5 * energy
            if symmetric:
                contributions[j - a] += 0.5 * energy
            part = slope if symmetric else 0.5 * slope
            for axis in range(3):
                slopes[3 * n + axis] += part * vec[3 * n + axis]


@compiled(CONTRACT)
def repel(
    contributions: ndarray,
    slopes: ndarray,
    pairs: tuple[ndarray, ndarray, ndarray],
    z: ndarray,
    repulsion: tuple[ndarray, float, float],
    symmetric: bool,
) -> None:
    """The same of all atoms, see :func:`repel_pairs`."""
    repel_pairs(contributions, slopes, pairs, z, repulsion, symmetric, 0)


@compiled(CONTRACT)
def repel_few(
    energies: ndarray,
    forces: ndarray,
    z: ndarray,
    pos: ndarray,
    batch: ndarray,
    pairs: ndarray,
    repulsion: tuple[ndarray, float, float],
) -> None:
    """Add the repulsion of pairs in open structures, from positions to forces.

    Args:
        energies: To be added to [B] float64.
        forces: To be added to [N, 3].
        z: Atomic numbers [N].
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N].
        pairs: Targets and sources of pairs, each of which stands for its opposite, too [2, P].
        repulsion: What :func:`pyg_schnet.fast.repulsion.as_loops_know` returned.
    """
    for n in range(pairs.shape[1]):
        i, j = pairs[0, n], pairs[1, n]
        x, y, w = pos[j, 0] - pos[i, 0], pos[j, 1] - pos[i, 1], pos[j, 2] - pos[i, 2]
        energy, slope = _felt(np.float64(x), np.float64(y), np.float64(w), z[i], z[j], repulsion)
        if energy > 0.0:
            energies[batch[i]] += energy
            for axis in range(3):
                part = slope * (pos[j, axis] - pos[i, axis])
                forces[i, axis] += part
                forces[j, axis] -= part
