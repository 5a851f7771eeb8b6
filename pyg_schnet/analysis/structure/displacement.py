"""Mean square displacements and diffusion coefficients, over all origins of time."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.structure.clock import Clock
from pyg_schnet.analysis.structure.snapshot import Snapshot, masses_of, same_atoms
from pyg_schnet.analysis.structure.trajectories import snapshots
from pyg_schnet.analysis.structure.unwrapping import Unwrapper
from pyg_schnet.units import SYMBOLS

#: Atoms that are transformed at a time.
_ATOMS = 64


class Displacement(NamedTuple):
    """How far atoms get.

    Attributes:
        time: Times in ps [M], from zero on.
        msd: Mean square displacement in Angstrom^2 [M].
        error: Its standard error, from its spread over the atoms taken as independent [M]; NaN for one atom.
        of_atoms: Mean square displacement of each atom [M, n].
        z: Atomic numbers [n].
        dimensions: Number of axes along which displacements count.
    """

    time: Tensor
    msd: Tensor
    error: Tensor
    of_atoms: Tensor
    z: Tensor
    dimensions: int

    def of(self, element: str | int) -> "Displacement":
        """The same of the atoms of one element.

        Args:
            element: Symbol or atomic number.

        Returns:
            Their displacement.

        Raises:
            ValueError: If there is none.
        """
        number = SYMBOLS.index(element) if element in SYMBOLS else element
        atoms = (self.z == number).nonzero().squeeze(1) if isinstance(number, int) else self.z[:0]
        if len(atoms) == 0:
            present = ", ".join(SYMBOLS[one] for one in self.z.unique().tolist())
            raise ValueError(f"there are no atoms of {element!r}; expected one of {present}")
        return _averaged(self.time, self.of_atoms[:, atoms], self.z[atoms], self.dimensions)


class Diffusion(NamedTuple):
    """A diffusion coefficient.

    Attributes:
        coefficient: D in Angstrom^2/ps, which is 1e-4 cm^2/s.
        error: Its standard error, from its spread over the atoms taken as independent; NaN for one atom.
        intercept: The line at time zero, in Angstrom^2.
        fit: First and last time of the fit in ps.
        exponent: Slope of the logarithm of the displacement by that of time in the range of the fit: 1 of diffusion, 2
            of free flight, 0 of a solid.
    """

    coefficient: float
    error: float
    intercept: float
    fit: tuple[float, float]
    exponent: float


def mean_square_displacement(
    trajectory: Any,
    timestep: float | None = None,
    *,
    window: int | None = None,
    axes: str = "xyz",
    unwrap: bool = True,
    drift: bool = True,
    progress: bool = True,
) -> Displacement:
    r"""Mean square displacement of the atoms by time, averaged over all origins of time.

    .. math:: \mathrm{MSD}(t) = \frac{1}{N} \sum_i \left\langle |r_i(t_0 + t) - r_i(t_0)|^2 \right\rangle_{t_0}

    (M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, section 2.7). Atoms are followed through periodic
    boundaries by the nearest image between frames, in cells that change, too. Without a ``window`` the paths are kept,
    and all times found by Fourier transforms (V. Calandrini et al., Collection SFN 12, 201 (2011)); with one only that
    many frames are, however long the trajectory is.

    Args:
        trajectory: As in :func:`radial_distribution`, with the same atoms in all frames.
        timestep: Time between frames in fs; ``None`` for that of the file (``time`` or ``time_fs`` of its frames).
        window: Number of times to find, the first being zero; ``None`` for as many as there are frames.
        axes: Axes along which displacements count, for example ``"xy"`` of a slab.
        unwrap: True to follow atoms through periodic boundaries; false if positions are not wrapped.
        drift: True if the motion of the centre of mass counts; false takes it off.
        progress: True to show a progress bar.

    Returns:
        The displacement, of all atoms and of each; :meth:`Displacement.of` one element.

    Raises:
        ImportError: If masses of the elements are needed and ASE is not installed.
        TypeError: If the trajectory or an option is of another kind.
        ValueError: If there are fewer than two frames, atoms change, or the time between frames is not known or
            changes.

    Example:
        >>> from torch_geometric.data import Data
        >>> flight = [Data(z=torch.tensor([1]), pos=torch.tensor([[2.0 * t, 0, 0]])) for t in range(4)]
        >>> [round(one) for one in mean_square_displacement(flight, timestep=1000).msd.tolist()]
        [0, 4, 16, 36]
    """
    if not isinstance(axes, str) or not axes or len(set(axes)) < len(axes) or not set(axes) <= set("xyz"):
        raise ValueError(f"`axes` must be some of 'xyz', got {axes!r}")
    columns = ["xyz".index(axis) for axis in axes]
    store = _All() if window is None else _Window(count("window", window, least=2))
    clock, follow, first, number = Clock(timestep), Unwrapper(), None, 0
    for snapshot in snapshots(trajectory, "displacement", progress, single=True):
        first = snapshot if first is None else first
        same_atoms(first, snapshot, number)
        clock.tick(snapshot)
        pos = follow(snapshot) if unwrap else snapshot.pos
        store.add((pos if drift else pos - _centre(first, pos))[:, columns])
        number += 1
    if first is None or number < 2:
        raise ValueError("the trajectory has one frame; a displacement needs at least two")
    of_atoms = torch.from_numpy(store.result())
    time = torch.arange(len(of_atoms), dtype=torch.float64) * (clock.timestep() / 1000)
    return _averaged(time, of_atoms, torch.from_numpy(first.z), len(columns))


def diffusion_coefficient(displacement: Displacement, fit: tuple[float, float] | None = None) -> Diffusion:
    r"""Diffusion coefficient from the slope of the mean square displacement, in d dimensions.

    .. math:: \mathrm{MSD}(t) = 2 d D t + c

    by a least-squares line (A. Einstein, Ann. Phys. 322, 549 (1905)).

    Args:
        displacement: Of :func:`mean_square_displacement`.
        fit: First and last time of the fit in ps; ``None`` for a tenth to a half of the longest one: at longer times
            few origins are left.

    Returns:
        The coefficient.

    Raises:
        ValueError: If ``fit`` is no range, or fewer than two times are in it.

    Example:
        >>> time = torch.arange(5.0)
        >>> walk = Displacement(time, 12 * time, time, 12 * time[:, None], torch.tensor([1]), 3)
        >>> diffusion_coefficient(walk, (1, 4)).coefficient
        2.0
    """
    longest = float(displacement.time[-1])
    try:
        start, stop = (0.1 * longest, 0.5 * longest) if fit is None else map(float, fit)
    except (TypeError, ValueError):
        raise ValueError(f"`fit` must be a first and a last time in ps, got {fit!r}") from None
    slack = 1e-9 * longest
    inside = (displacement.time >= start - slack) & (displacement.time <= stop + slack)
    if int(inside.sum()) < 2:
        raise ValueError(
            f"{int(inside.sum())} times are within the fit from {start:g} to {stop:g} ps, of {len(displacement.time)} "
            f"up to {longest:g} ps; expected at least two: pass another `fit` or a longer trajectory"
        )
    time, msd = displacement.time[inside].double(), displacement.msd[inside].double()
    centred = time - time.mean()
    slopes = centred @ displacement.of_atoms[inside].double() / (centred @ centred) / (2 * displacement.dimensions)
    coefficient = float(slopes.mean())
    error = float(slopes.std() / len(slopes) ** 0.5) if len(slopes) > 1 else float("nan")
    intercept = float(msd.mean() - 2 * displacement.dimensions * coefficient * time.mean())
    return Diffusion(coefficient, error, intercept, (float(time[0]), float(time[-1])), _exponent(time, msd))


class _All:
    """Keeps all frames; Fourier transforms find all times at once."""

    def __init__(self) -> None:
        self.frames: list[NDArray] = []

    def add(self, pos: NDArray) -> None:
        self.frames.append(pos)

    def result(self) -> NDArray:
        """Mean square displacement of each atom [M, n]."""
        path = np.stack(self.frames)  # [M, n, d]
        self.frames.clear()
        found = np.empty(path.shape[:2])
        for start in range(0, path.shape[1], _ATOMS):
            found[:, start : start + _ATOMS] = _by_fourier(path[:, start : start + _ATOMS])
        return found


class _Window:
    """Keeps so many frames; each new one meets those."""

    def __init__(self, times: int) -> None:
        self.times, self.number = times, 0
        self.frames: NDArray | None = None
        self.sums: NDArray | None = None

    def add(self, pos: NDArray) -> None:
        if self.frames is None or self.sums is None:
            self.frames, self.sums = np.empty((self.times, *pos.shape)), np.zeros((self.times, len(pos)))
        self.frames[self.number % self.times] = pos
        self.number += 1
        known = min(self.number, self.times)
        places = (self.number - 1 - np.arange(known)) % self.times  # by age
        step = pos - self.frames[places]
        self.sums[:known] += np.einsum("mnk,mnk->mn", step, step)

    def result(self) -> NDArray:
        """Mean square displacement of each atom [M, n]."""
        known = min(self.number, self.times)
        sums = np.zeros((0, 0)) if self.sums is None else self.sums[:known]
        return sums / (self.number - np.arange(known))[:, None]


def _by_fourier(path: NDArray) -> NDArray:
    """Mean squares of sums and differences: those of the two positions, less twice their mean product."""
    frames = len(path)
    path = path - path.mean(axis=0)
    origins = (frames - np.arange(frames))[:, None]
    size = 1 << (2 * frames - 1).bit_length()  # zeros keep the end from meeting the beginning
    spectrum = np.fft.rfft(path, size, axis=0)
    products = np.fft.irfft(np.square(np.abs(spectrum)).sum(axis=2), size, axis=0)[:frames]
    squares = np.cumsum(np.square(path).sum(axis=2), axis=0)
    early, late = squares[::-1], squares[-1] - np.vstack([np.zeros_like(squares[:1]), squares[:-1]])
    found = (early + late - 2 * products) / origins
    found[0] = 0.0
    return np.maximum(found, 0.0)


def _centre(first: Snapshot, pos: NDArray) -> NDArray:
    masses = masses_of(first)
    return masses @ pos / masses.sum()


def _averaged(time: Tensor, of_atoms: Tensor, z: Tensor, dimensions: int) -> Displacement:
    atoms = of_atoms.size(1)
    spread = of_atoms.std(dim=1) / atoms**0.5 if atoms > 1 else torch.full_like(time, torch.nan)
    return Displacement(time, of_atoms.mean(dim=1), spread, of_atoms, z, dimensions)


def _exponent(time: Tensor, msd: Tensor) -> float:
    known = (time > 0) & (msd > 0)
    if int(known.sum()) < 2:
        return float("nan")
    x, y = time[known].log(), msd[known].log()
    x = x - x.mean()
    return float(x @ (y - y.mean()) / (x @ x))
