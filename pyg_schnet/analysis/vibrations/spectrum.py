"""Spectra of normal modes: lines, and the curve that an instrument would show."""

import math
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.analysis.vibrations.modes import NormalModes

#: Half-width at half maximum of a normal distribution, in standard deviations.
_HALF = math.sqrt(2 * math.log(2))


class Spectrum(NamedTuple):
    """A spectrum, all float64.

    Attributes:
        wavenumbers: Where the curve is known, in cm^-1 [P].
        curve: The broadened spectrum [P]: strength per cm^-1, so that its integral is the sum of all strengths.
        lines: Wavenumbers of the lines in cm^-1 [L]; negative ones are imaginary.
        strengths: Strength of each line [L]: number of its modes, or their intensity in km/mol.
        width: Full width of a line at half of its height, in cm^-1.
        infrared: True if strengths are infrared intensities.
    """

    wavenumbers: Tensor
    curve: Tensor
    lines: Tensor
    strengths: Tensor
    width: float
    infrared: bool


def spectrum(
    modes: NormalModes,
    intensities: Tensor | ArrayLike | None = None,
    *,
    width: float = 10.0,
    shape: str = "lorentz",
    points: int = 2000,
    tolerance: float = 1.0,
) -> Spectrum:
    r"""Lines of the vibrations, and their sum as broadened curves.

    .. math:: S(\tilde\nu) = \sum_k A_k\, \frac{1}{\pi} \frac{\Gamma/2}{(\tilde\nu - \tilde\nu_k)^2 + (\Gamma/2)^2}

    Args:
        modes: The normal modes.
        intensities: Strength of each mode [3n], for example
            :func:`~pyg_schnet.analysis.infrared_intensities`; ``None`` to count modes.
        width: Full width of a line at half of its height in cm^-1.
        shape: ``"lorentz"`` as above, or ``"gauss"``.
        points: Number of points of the curve.
        tolerance: Modes that are closer than this make one line, in cm^-1.

    Returns:
        Lines without the rigid motions, and the curve of the real ones.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range, or there are no vibrations.

    Example:
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
        >>> from pyg_schnet.analysis.vibrations.relaxation import relaxed
        >>> _ = torch.manual_seed(0)
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> model = SchNet.preset("jcp2018", num_interactions=1)
        >>> spectrum(normal_modes(model, relaxed(model, water))).strengths
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    width, points = positive("width", width, "cm^-1"), count("points", points, least=2)
    if shape not in {"lorentz", "gauss"}:
        raise ValueError(f"`shape` must be 'lorentz' or 'gauss', got {shape!r}")
    vibrating = ~modes.rigid
    if not vibrating.any():
        raise ValueError("a single atom does not vibrate and has no spectrum; pass modes of a molecule or crystal")
    strength = torch.ones(len(modes)) if intensities is None else torch.as_tensor(intensities)
    strength = strength.detach().cpu().double()
    if strength.shape != modes.wavenumbers.shape:
        raise ValueError(f"`intensities` must have shape [{len(modes)}], one for each mode, got {list(strength.shape)}")
    values, strength = modes.wavenumbers[vibrating], strength[vibrating]
    top = max(float(values.max()), 0.0) * 1.08 + 5 * width
    grid = torch.linspace(0.0, top, points, dtype=torch.float64)
    offset = (grid.unsqueeze(1) - values[values > 0]) / (width / 2)  # in half widths [P, M]
    if shape == "lorentz":
        profile = 1 / (math.pi * (1 + offset.square()))
    else:
        profile = torch.exp(-0.5 * (_HALF * offset).square()) * _HALF / math.sqrt(2 * math.pi)
    curve = (profile / (width / 2)) @ strength[values > 0]
    lines, strengths = _lines(values, strength, tolerance)
    return Spectrum(grid, curve, lines, strengths, width, intensities is not None)


def _lines(values: Tensor, strength: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Mean wavenumber and total strength of modes that are closer than the tolerance."""
    new = torch.cat([torch.ones(1, dtype=torch.bool), values.diff() > tolerance])
    group = new.long().cumsum(0) - 1
    count = int(group[-1]) + 1
    total = torch.zeros(count, dtype=torch.float64).index_add_(0, group, strength)
    mean = torch.zeros(count, dtype=torch.float64).index_add_(0, group, values) / torch.bincount(group)
    return mean, total
