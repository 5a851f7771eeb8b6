"""The vibrational density of states of a trajectory."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_schnet.analysis.checks import positive
from pyg_schnet.analysis.structure.clock import Clock
from pyg_schnet.analysis.structure.snapshot import Snapshot, masses_of, same_atoms
from pyg_schnet.analysis.structure.trajectories import snapshots
from pyg_schnet.analysis.structure.unwrapping import Unwrapper
from pyg_schnet.units import SYMBOLS

#: Wavenumber in 1/cm of one oscillation in a fs.
PER_FS = 1e15 / 29979245800
#: Fewest frames of which a spectrum is made.
_FEWEST = 4


class DensityOfStates(NamedTuple):
    """Density of vibrational states.

    Attributes:
        wavenumber: Wavenumbers in 1/cm [K], from zero up to the largest one that the time between frames allows.
        density: Number of modes per 1/cm [K]; the sum over all, times ``resolution``, is the number of modes.
        of_elements: Share of the atoms of each element by symbol [K]; they add up to ``density``.
        resolution: Distance of the wavenumbers in 1/cm.
        segments: Number of segments of the trajectory that were averaged.
    """

    wavenumber: Tensor
    density: Tensor
    of_elements: dict[str, Tensor]
    resolution: float
    segments: int


def density_of_states(
    trajectory: Any,
    timestep: float | None = None,
    *,
    resolution: float = 5.0,
    source: str = "auto",
    modes: float | None = None,
    progress: bool = True,
) -> DensityOfStates:
    r"""Vibrational density of states: the power spectrum of the mass-weighted velocities.

    .. math:: D(\tilde\nu) \propto \sum_i m_i \int \langle v_i(t_0 + t) \cdot v_i(t_0) \rangle\,
        e^{-2 \pi i c \tilde\nu t}\, dt

    (J. M. Dickey and A. Paskin, Phys. Rev. 188, 1407 (1969)), found as the average of the squared Fourier transforms of
    segments of the trajectory, which overlap by half and are multiplied with a Hann window (P. D. Welch, IEEE Trans.
    Audio Electroacoust. 15, 70 (1967)): a line is seen 1.4 times ``resolution`` wide, at half its height. Only one
    segment is kept, however long the trajectory is. It is scaled to the number of modes.

    Without velocities they are the differences of positions between frames, divided by what these make of an
    oscillation, :math:`\sin(\omega \Delta t / 2) / (\omega \Delta t / 2)`, so that the result is the same. Frames
    must be closer than half of the shortest period: oscillations faster than the largest wavenumber, 1 / (2 c dt),
    appear as slower ones.

    Args:
        trajectory: As in :func:`radial_distribution`, with the same atoms in all frames.
        timestep: Time between frames in fs; ``None`` for that of the file (``time`` or ``time_fs`` of its frames).
        resolution: Distance of the wavenumbers in 1/cm that is wanted, which says how long segments are; of a shorter
            trajectory the whole is one segment, and the distance larger.
        source: ``"velocities"``, ``"positions"`` or ``"auto"``: velocities if the first frame has them.
        modes: Number of modes to scale to; ``None`` for 3 N. Of a molecule that neither moves nor turns these are
            3 N - 6.
        progress: True to show a progress bar.

    Returns:
        The density of states.

    Raises:
        ImportError: If masses of the elements are needed and ASE is not installed.
        TypeError: If the trajectory or an option is of another kind.
        ValueError: If there are too few frames, atoms change or do not move, velocities are missing, or the time
            between frames is not known or changes.

    Example:
        >>> from torch_geometric.data import Data
        >>> x = 0.1 * torch.sin(2 * torch.pi * 1000 / PER_FS * torch.arange(4000.0, dtype=torch.float64))
        >>> spring = [Data(z=torch.tensor([6]), pos=torch.tensor([[float(one), 0, 0]])) for one in x]
        >>> found = density_of_states(spring, timestep=1.0, resolution=20, progress=False)
        >>> peak = float(found.wavenumber[found.density.argmax()])
        >>> abs(peak - 1000) < 20, round(float(found.density.sum() * found.resolution), 6)
        (True, 3.0)
    """
    resolution = positive("resolution", resolution)
    modes = None if modes is None else positive("modes", modes)
    if source not in {"auto", "velocities", "positions"}:
        raise ValueError(f"`source` must be 'auto', 'velocities' or 'positions', got {source!r}")
    clock, motion = Clock(timestep), _Motion(source)
    spectrum: _Spectrum | None = None
    first: Snapshot | None = None
    for number, snapshot in enumerate(snapshots(trajectory, "density of states", progress, single=True)):
        first = snapshot if first is None else first
        same_atoms(first, snapshot, number)
        clock.tick(snapshot)
        velocities = motion(snapshot, number)
        if velocities is None:
            continue
        spectrum = spectrum or _Spectrum(first)
        if spectrum.length is None and number >= 1:  # the second frame tells the time step
            spectrum.length = max(_FEWEST, math.ceil(PER_FS / (resolution * clock.timestep())))
        spectrum.add(velocities)
    if spectrum is None or first is None:
        raise ValueError(f"the trajectory has one frame; a spectrum needs at least {_FEWEST}")
    power, length = spectrum.result()
    step = PER_FS / (length * clock.timestep())
    if motion.differences:
        power = power / np.sinc(np.arange(len(power)) / length)[:, None] ** 2
    if not power.sum() > 0:
        raise ValueError("no atom moves in any frame; a density of states needs motion")
    scale = (3 * len(first.z) if modes is None else modes) / (power.sum() * step)
    shares = {
        SYMBOLS[one]: torch.from_numpy(scale * power[:, first.z == one].sum(axis=1)) for one in np.unique(first.z)
    }
    wavenumber = step * torch.arange(len(power), dtype=torch.float64)
    return DensityOfStates(wavenumber, torch.stack(list(shares.values())).sum(0), shares, step, spectrum.segments)


class _Motion:
    """Velocities of a frame, or displacements since the one before it.

    Args:
        source: As in :func:`density_of_states`.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.follow = Unwrapper()
        self.last: NDArray | None = None

    @property
    def differences(self) -> bool:
        """True if these are differences of positions."""
        return self.source == "positions"

    def __call__(self, snapshot: Snapshot, number: int) -> NDArray | None:
        """Velocities [n, 3] in any unit; ``None`` of the first frame, if they are differences."""
        if self.source == "auto":
            self.source = "positions" if snapshot.velocities is None else "velocities"
        if not self.differences:
            if snapshot.velocities is None:
                raise ValueError(f"frame {number} has no velocities; take those of positions by source='positions'")
            return snapshot.velocities
        last, self.last = self.last, self.follow(snapshot)
        return None if last is None else self.last - last


class _Spectrum:
    """Average of the power spectra of segments of velocities."""

    def __init__(self, first: Snapshot) -> None:
        self.masses, self.segments = masses_of(first), 0
        self.length: int | None = None
        self.frames: list[NDArray] = []
        self.power: NDArray | float = 0.0

    def add(self, velocities: NDArray) -> None:
        """Add a frame."""
        self.frames.append(velocities)
        if self.length is not None and len(self.frames) >= self.length:
            self._segment()
            del self.frames[: self.length // 2]

    def result(self) -> tuple[NDArray, int]:
        """Mean power of each atom [K, n], and the length of the segments."""
        if self.segments == 0:
            if len(self.frames) < _FEWEST:
                raise ValueError(
                    f"the trajectory has too few frames, {len(self.frames)} velocities; expected {_FEWEST}"
                )
            self.length = len(self.frames)
            self._segment()
        return np.asarray(self.power) / self.segments, int(self.length or 0)

    def _segment(self) -> None:
        length = len(self.frames)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)
        part = np.fft.rfft(np.stack(self.frames) * window[:, None, None], axis=0)
        power = np.square(np.abs(part)).sum(axis=2) * self.masses  # [K, n]
        power[1 : (length + 1) // 2] *= 2  # negative frequencies
        self.power = self.power + power
        self.segments += 1
