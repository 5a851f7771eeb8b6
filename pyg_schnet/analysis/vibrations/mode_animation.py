"""Normal modes as moving structures (extra ``md``)."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.analysis.vibrations.modes import NormalModes
from pyg_schnet.files import replacing
from pyg_schnet.units import BOLTZMANN, SPRING_QUANTUM, WAVENUMBER


def mode_amplitude(modes: NormalModes, mode: int, temperature: float = 300.0) -> Tensor:
    r"""How far the atoms go in a mode: to the classical turning points of an oscillator with the energy kT.

    .. math:: \Delta r_i = u_i \sqrt{2 k T} / \omega

    Args:
        modes: The normal modes.
        mode: Number of the mode, from 0; negative numbers count from the end.
        temperature: Temperature in K.

    Returns:
        Displacements in Angstrom [n, 3]; those of an imaginary mode as if its wavenumber were real.

    Raises:
        ValueError: If there is no such mode, it is a rigid motion, which has no amplitude, or the temperature is not
            positive.
    """
    number = _checked(modes, mode)
    if not 0 < temperature < math.inf:
        raise ValueError(f"`temperature` must be positive, in K, got {temperature}")
    wavenumber = abs(float(modes.wavenumbers[number]))
    if wavenumber == 0:
        raise ValueError(f"mode {number} has the wavenumber 0 and no amplitude at a temperature; pass `amplitude`")
    omega = WAVENUMBER * wavenumber / SPRING_QUANTUM  # root of eV/Angstrom^2/u
    return modes.displacements[number] * math.sqrt(2 * BOLTZMANN * temperature) / omega


def mode_frames(
    modes: NormalModes, mode: int, *, temperature: float = 300.0, amplitude: float | None = None, frames: int = 30
) -> list[Any]:
    """One period of a mode as structures of ASE.

    Args:
        modes: The normal modes.
        mode: Number of the mode, from 0; negative numbers count from the end.
        temperature: Temperature in K that sets the amplitude, see :func:`mode_amplitude`.
        amplitude: How far the atom that moves most goes, in Angstrom, in place of the temperature.
        frames: Number of structures.

    Returns:
        ``Atoms``, beginning at rest; ``info`` has ``mode`` and ``wavenumber``, ``arrays["displacement"]`` [n, 3] is
        where each atom is going at first, in Angstrom.

    Raises:
        ImportError: If ASE is missing.
        ValueError: If there is no such mode, or an argument is not positive.
    """
    number = _checked(modes, mode)
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"`frames` must be a positive integer, got {frames!r}")
    if amplitude is None:
        moved = mode_amplitude(modes, number, temperature)
    elif not 0 < amplitude < math.inf:
        raise ValueError(f"`amplitude` must be positive, in Angstrom, got {amplitude}")
    else:
        shape = modes.displacements[number]
        moved = amplitude * shape / shape.norm(dim=1).max()
    rest, found = modes.atoms(), []
    for phase in (2 * math.pi * torch.arange(frames, dtype=torch.float64) / frames).tolist():
        atoms = rest.copy()
        atoms.positions += math.sin(phase) * moved.numpy()
        atoms.info |= {"mode": number, "wavenumber": float(modes.wavenumbers[number])}
        atoms.arrays["displacement"] = moved.numpy().copy()
        found.append(atoms)
    return found


def write_animation(modes: NormalModes, mode: int, path: str | Path, **options: Any) -> Path:
    """Write one period of a mode as extended xyz, which OVITO, Jmol, VMD and ASE's viewer play.

    Args:
        modes: The normal modes.
        mode: Number of the mode, from 0; negative numbers count from the end.
        path: File to write, folders included.
        **options: Those of :func:`mode_frames`.

    Returns:
        The path.

    Raises:
        ImportError: If ASE is missing.
        ValueError: As of :func:`mode_frames`.
    """
    frames = mode_frames(modes, mode, **options)
    from ase.io import write  # noqa: PLC0415  ASE is there

    for atoms in frames:  # standard ones are no news, and others are beside the point of a film
        atoms.arrays.pop("masses", None)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        write(part, frames, format="extxyz")
    return path


def _checked(modes: NormalModes, mode: int) -> int:
    if isinstance(mode, bool) or not isinstance(mode, int) or not -len(modes) <= mode < len(modes):
        raise ValueError(f"`mode` must be a number from 0 to {len(modes) - 1}, got {mode!r}")
    return mode % len(modes)
