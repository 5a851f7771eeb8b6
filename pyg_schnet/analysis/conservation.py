"""Conservation of energy in molecular dynamics."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, new_figure, save_figure


def energy_drift(time: ArrayLike, energy: ArrayLike, num_atoms: int) -> float:
    """Drift of the total energy: slope of the least-squares line through it, per atom.

    Args:
        time: Times in ps [M].
        energy: Total (potential plus kinetic) energies in eV [M].
        num_atoms: Number of atoms.

    Returns:
        The drift in eV/atom/ps, with its sign.

    Raises:
        ValueError: If shapes do not match, there are fewer than two points or atoms, all times are the same, or
            something is not finite.

    Example:
        >>> round(energy_drift([0.0, 1.0, 2.0], [5.0, 5.5, 6.0], num_atoms=10), 6)
        0.05
    """
    times, energies = np.asarray(time, dtype=np.float64), np.asarray(energy, dtype=np.float64)
    if times.ndim != 1 or times.shape != energies.shape or times.size < 2:
        raise ValueError(
            f"`time` and `energy` must have the same shape [M], M at least 2; got {list(times.shape)} "
            f"and {list(energies.shape)}"
        )
    if num_atoms < 1:
        raise ValueError(f"`num_atoms` must be at least 1, got {num_atoms}")
    for name, values in (("time", times), ("energy", energies)):
        if wrong := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{wrong} of {values.size} values of `{name}` are not finite; leave them out")
    if np.ptp(times) == 0:
        raise ValueError(f"all values of `time` are {times[0]:g}; a drift needs times that differ")
    centred = times - times.mean()
    return float(centred @ (energies - energies.mean()) / (centred @ centred) / num_atoms)


def energy_plot(time: ArrayLike, potential: ArrayLike, kinetic: ArrayLike, num_atoms: int, path: str | Path) -> Path:
    """Draw potential, kinetic and total energy over time; the total once more, enlarged, with its drift.

    Args:
        time: Times in ps [M].
        potential: Potential energies in eV [M].
        kinetic: Kinetic energies in eV [M].
        num_atoms: Number of atoms.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        ValueError: As :func:`energy_drift`.
    """
    times, potentials, kinetics = (np.asarray(values, dtype=np.float64) for values in (time, potential, kinetic))
    if not times.shape == potentials.shape == kinetics.shape:
        shapes = " and ".join(str(list(values.shape)) for values in (times, potentials, kinetics))
        raise ValueError(f"`time`, `potential` and `kinetic` must have the same shape [M], got {shapes}")
    total = potentials + kinetics
    drift, start = energy_drift(times, total, num_atoms), potentials[0]
    figure, (left, right) = new_figure(columns=2, height=3.6)
    curves = {"potential": (potentials - start, BLUE), "kinetic": (kinetics, ORANGE), "total": (total - start, "black")}
    for name, (values, colour) in curves.items():
        left.plot(times, values, color=colour, linewidth=0.8, label=name)
    left.set(xlabel="time (ps)", ylabel="energy (eV), potential from its start")
    left.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.13))
    per_atom = (total - total.mean()) / num_atoms * 1000
    right.plot(times, per_atom, color=GREY, linewidth=0.6)
    right.plot(times, drift * 1000 * (times - times.mean()), color=ORANGE, linewidth=1.2)
    right.set(xlabel="time (ps)", ylabel="total energy less its mean (meV/atom)")
    right.set_title(f"drift {drift * 1000:+.2g} meV/atom/ps", fontsize="medium")
    return save_figure(figure, path)
