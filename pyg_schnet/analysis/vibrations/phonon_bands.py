"""Phonon bands, density of states and heat capacity, from force constants (extra ``phonons``)."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike

from pyg_schnet.units import KJ_PER_MOL


class PhononBands(NamedTuple):
    """Frequencies along a path in the Brillouin zone.

    Attributes:
        distances: Distance along the path of each wave vector in 1/Angstrom, without a factor of two pi [Q].
        frequencies: Frequencies in THz, from the lowest; imaginary ones are negative [Q, 3m] for m atoms in the
            primitive cell.
        points: Wave vectors in units of the reciprocal primitive lattice [Q, 3].
        ticks: Distances of the special points [S].
        labels: Their names [S]; two in one where the path jumps.
        pieces: Where unbroken pieces of the path begin and end, rows of the above.
    """

    distances: ndarray
    frequencies: ndarray
    points: ndarray
    ticks: ndarray
    labels: list[str]
    pieces: list[tuple[int, int]]


class PhononDensity(NamedTuple):
    """Density of states of the phonons.

    Attributes:
        frequencies: Frequencies in THz [P].
        density: States per THz in the primitive cell [P]; the integral is three times its number of atoms.
    """

    frequencies: ndarray
    density: ndarray


def phonon_bands(phonon: Any, path: str | None = None, points: int = 200) -> PhononBands:
    """Bands between the special points of the Brillouin zone.

    Args:
        phonon: What :func:`~pyg_schnet.analysis.phonons` returned, or any ``Phonopy`` with force constants.
        path: Names of special points, a comma where the path jumps, for example ``"GXWKG,L"``; ``None`` for the path
            of W. Setyawan and S. Curtarolo, Comput. Mater. Sci. 49, 299 (2010), which ASE knows for every lattice.
        points: Number of wave vectors in all, about.

    Returns:
        The bands.

    Raises:
        ImportError: If ASE is missing.
        ValueError: If the path names a point that this lattice has not, or is no path.
    """
    try:
        from ase.cell import Cell  # noqa: PLC0415
        from ase.dft.kpoints import parse_path_string  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('paths in Brillouin zones need ASE; install it with pip install "pyg_schnet[md]"') from error
    if not isinstance(points, int) or points < 2:
        raise ValueError(f"`points` must be an integer of at least 2, got {points!r}")
    cell = Cell(phonon.primitive.cell)
    special = cell.bandpath(npoints=0).special_points
    legs = parse_path_string(cell.bandpath(npoints=0).path if path is None else path)
    if unknown := sorted({name for leg in legs for name in leg} - special.keys()):
        raise ValueError(
            f"`path` {path!r} names {', '.join(unknown)}; this lattice has the points {', '.join(sorted(special))}"
        )
    if max((len(leg) for leg in legs), default=0) < 2:
        raise ValueError(f"`path` must lead from one special point to another, for example 'GX', got {path!r}")
    return _along([leg for leg in legs if len(leg) > 1], special, cell.reciprocal().array, phonon, points)


def _along(
    legs: list[list[str]], special: dict[str, ndarray], reciprocal: ndarray, phonon: Any, points: int
) -> PhononBands:
    lengths = [
        float(np.linalg.norm((special[end] - special[begin]) @ reciprocal))
        for leg in legs
        for begin, end in pairwise(leg)
    ]
    spacing = sum(lengths) / points
    vectors: list[ndarray] = []
    distances: list[float] = []
    ticks: list[float] = []
    labels: list[str] = []
    pieces, place = [], 0.0
    for leg in legs:
        first = len(distances)
        if labels:  # the path jumps
            labels[-1] += f"|{leg[0]}"
        else:
            ticks.append(0.0)
            labels.append(leg[0])
        vectors.append(special[leg[0]])
        distances.append(place)
        for begin, end in pairwise(leg):
            step = special[end] - special[begin]
            length = float(np.linalg.norm(step @ reciprocal))
            parts = np.linspace(0, 1, max(2, round(length / spacing) + 1))[1:]
            vectors += [special[begin] + part * step for part in parts]
            distances += (place + length * parts).tolist()
            place += length
            ticks.append(place)
            labels.append(end)
        pieces.append((first, len(distances)))
    found = np.array(vectors)
    frequencies = np.asarray(phonon.run_qpoints(found).frequencies)
    return PhononBands(np.array(distances), frequencies, found, np.array(ticks), labels, pieces)


def phonon_density(phonon: Any, mesh: float | Sequence[int] = 100.0, *, width: float | None = None) -> PhononDensity:
    """Density of states, by phonopy on a mesh of the Brillouin zone.

    Args:
        phonon: What :func:`~pyg_schnet.analysis.phonons` returned, or any ``Phonopy`` with force constants.
        mesh: Numbers of wave vectors along each reciprocal vector, or a length in Angstrom: 100 for about 40 along the
            vectors of copper.
        width: Standard deviation of normal distributions in THz; ``None`` for linear tetrahedra.

    Returns:
        The density of states.
    """
    _run_mesh(phonon, mesh)
    found = phonon.run_total_dos(sigma=width, use_tetrahedron_method=width is None)
    return PhononDensity(np.asarray(found.frequency_points), np.asarray(found.dos))


def phonon_heat_capacity(phonon: Any, temperatures: ArrayLike, mesh: float | Sequence[int] = 100.0) -> ndarray:
    """Heat capacity at constant volume, by phonopy on a mesh of the Brillouin zone.

    Args:
        phonon: What :func:`~pyg_schnet.analysis.phonons` returned, or any ``Phonopy`` with force constants.
        temperatures: Temperatures in K [T].
        mesh: As of :func:`phonon_density`.

    Returns:
        Heat capacities of the primitive cell in eV/K [T]; imaginary modes and the acoustic ones at the zone centre have
        no part in them.

    Raises:
        ValueError: If a temperature is negative or not finite.
    """
    kelvin = np.atleast_1d(np.asarray(temperatures, dtype=np.float64))
    if not (np.isfinite(kelvin) & (kelvin >= 0)).all():
        raise ValueError(f"a temperature must be finite and not negative, in K, got {temperatures!r}")
    _run_mesh(phonon, mesh)
    found = phonon.run_thermal_properties(temperatures=kelvin, exclude_gamma_acoustic=True)
    return np.asarray(found.heat_capacity) * KJ_PER_MOL / 1000


def _run_mesh(phonon: Any, mesh: float | Sequence[int]) -> None:
    with warnings.catch_warnings():  # that it uses less symmetry, or another mesh as dense as this
        warnings.filterwarnings("ignore", message="Mesh")
        phonon.run_mesh(mesh, is_gamma_center=True)
