r"""Cells that breathe at a given pressure: stochastic cell rescaling, isotropic and of the full cell.

A barostat of first order: lattice vectors and positions are stretched by a small random strain, again and again, whose
drift is the difference between the pressure inside and that outside.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.fast.random_numbers import normal_vectors
from pyg_schnet.units import BOLTZMANN

#: What may change: the volume alone, or all lengths and angles of a cell.
BAROSTATS = ("isotropic", "full")
#: Steps between two moves of the cell, during which lists of pairs stay what they are.
STEPS_PER_MOVE = 5
#: The largest strain of a move of the cell that dynamics go on with.
LARGEST_STRAIN = 0.1
#: Numbers of the "atoms" whose random numbers are those of a cell; no structure has as many.
_NOBODY = np.array([2**32 - 2, 2**32 - 1])


def strains(
    virials: ndarray,
    volumes: ndarray,
    atoms: ndarray,
    *,
    temperature: float,
    pressure: float,
    barostat: str,
    rate: float,
    seed: int,
    step: int,
) -> ndarray:
    r"""The strains of a move of the cells.

    .. math::
        \eta = \frac{\beta}{3 \tau} \left( \Pi - P \right) \Delta t
            + \sqrt{\frac{2 k_B T \beta}{3 V \tau} \Delta t}\; \xi, \qquad
        \Pi = \frac{\Xi + N k_B T}{V}

    with the virial :math:`\Xi`, a symmetric :math:`\xi` of independent normal numbers, of variance 1 on the diagonal
    and 1/2 beside it, the compressibility :math:`\beta` and the relaxation time :math:`\tau`. An isotropic barostat
    keeps the trace alone. Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020), for volumes; Del Tatto, Raiteri,
    Bernetti and Bussi, Appl. Sci. 12, 1139 (2022), for full cells. Of the two forms of the kinetic part, this is the
    one with its mean, which needs a thermostat and leaves velocities alone.

    For a small :math:`\Delta t`, volumes are distributed as :math:`V^N Z(V) \exp(-P V / k_B T)`, where :math:`Z` is the
    mean of :math:`\exp(-U / k_B T)` over positions and, of a full cell, over its shapes. Written in the logarithm of
    the strain, the measure is that of the group of all strains, :math:`V\,\mathrm{d} \ln V` or
    :math:`V^{-2}\,\mathrm{d}^9 h`, and the drift that the noise makes where the volume changes cancels with it.

    Args:
        virials: Minus the derivatives of the energies with respect to a strain, in eV [B, 3, 3].
        volumes: In Angstrom^3 [B].
        atoms: Number of atoms of each structure [B].
        temperature: In K.
        pressure: In eV/Angstrom^3.
        barostat: One of ``BAROSTATS``.
        rate: :math:`\beta \Delta t / \tau` in Angstrom^3/eV.
        seed: Seed of the random numbers.
        step: Number of the step.

    Returns:
        Symmetric strains [B, 3, 3].

    Example:
        >>> still = {"temperature": 0.0, "pressure": 0.0, "rate": 0.3, "seed": 0, "step": 0}
        >>> virial = np.diag([2.0, 0.0, 1.0])[None]
        >>> given = virial, np.array([10.0]), np.array([1])
        >>> full, isotropic = (strains(*given, barostat=name, **still) for name in ("full", "isotropic"))
        >>> np.diag(full[0]).round(3).tolist(), np.diag(isotropic[0]).round(3).tolist()
        ([0.02, 0.0, 0.01], [0.01, 0.01, 0.01])
    """
    energy, volume = BOLTZMANN * temperature, volumes[:, None, None]
    inside = (virials + atoms[:, None, None] * energy * np.eye(3)) / volume
    drift = rate / 3.0 * ((inside + np.swapaxes(inside, 1, 2)) / 2.0 - pressure * np.eye(3))
    strain = drift + np.sqrt(2.0 * energy * rate / (3.0 * volume)) * _symmetric_noise(seed, step, len(volumes))
    if barostat == "isotropic":
        strain = np.trace(strain, axis1=1, axis2=2)[:, None, None] / 3.0 * np.eye(3)
    found: ndarray = strain
    return found


def stretches(strains: ndarray) -> ndarray:
    """What strains do to vectors, as rows: the exponential of symmetric matrices.

    Args:
        strains: Symmetric strains [B, 3, 3].

    Returns:
        Matrices [B, 3, 3], to be multiplied from the right.

    Example:
        >>> stretches(np.diag([np.log(2.0), 0.0, 0.0])[None])[0].round(6).tolist()
        [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    values, vectors = np.linalg.eigh(strains)
    matrices: ndarray = (vectors * np.exp(values)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    return matrices


def _symmetric_noise(seed: int, step: int, count: int) -> ndarray:
    """Symmetric matrices of normal numbers [B, 3, 3], which depend on nothing but seed, step and structure."""
    structure = np.repeat(np.arange(count), 2)
    numbers = normal_vectors(seed, step, structure, np.tile(_NOBODY, count)).reshape(count, 2, 3)
    noise = np.zeros((count, 3, 3))
    diagonal, (row, column) = np.arange(3), np.triu_indices(3, 1)
    noise[:, diagonal, diagonal] = numbers[:, 0]
    noise[:, row, column] = noise[:, column, row] = numbers[:, 1] / np.sqrt(2.0)
    return noise
