"""Radial bases as layers."""

import math

import torch
from torch import Tensor, nn

from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.ops import bessel_basis, gaussian_basis


class GaussianSmearing(nn.Module):
    r"""Gaussians :math:`\exp(-\gamma (d - \mu_k)^2)` with centres on a uniform grid.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.1, see :func:`pyg_schnet.ops.gaussian_basis`.

    The centres are rounded to torch's default dtype when they are made, as PyG's are; ``double()`` afterwards keeps the
    rounding, 1e-6 Angstrom at most.

    Args:
        start: First centre in Angstrom.
        stop: Last centre in Angstrom.
        num_gaussians: Number of Gaussians G, at least two.
        gamma: Inverse squared width in 1/Angstrom^2; ``None`` for :math:`1 / (2 h^2)` with the grid spacing h, as in
            PyG.
        trainable: True if centres and widths, then one for each Gaussian, are learned.

    Raises:
        ValueError: If the grid has fewer than two centres or no extent, or ``gamma`` is not positive.

    Example:
        >>> GaussianSmearing(0.0, 2.0, 3, gamma=1.0)(torch.tensor([1.0])).round(decimals=4)
        tensor([[0.3679, 1.0000, 0.3679]])
    """

    offset: Tensor

    def __init__(
        self,
        start: float = 0.0,
        stop: float = 5.0,
        num_gaussians: int = 50,
        gamma: float | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        if num_gaussians < 2:
            raise ValueError(f"`num_gaussians` must be at least 2, got {num_gaussians}")
        if not stop > start:
            raise ValueError(f"`stop` must be larger than `start`, got {stop} and {start}")
        if gamma is not None:
            check_positive("gamma", gamma)
        offset = torch.linspace(start, stop, num_gaussians)
        if gamma is None:  # from float32 whatever the default is, as PyG has it: a saved model must come back the same
            first, second = torch.linspace(start, stop, num_gaussians, dtype=torch.float32, device="cpu")[:2]
            gamma = 0.5 / float(second - first) ** 2
        self._drawn, self._range = (offset.clone(), float(gamma)), (start, stop)
        self.gamma: float | nn.Parameter = self._drawn[1]
        if trainable:
            self.offset = nn.Parameter(offset)
            self.gamma = nn.Parameter(torch.full_like(offset, self._drawn[1]))
        else:
            self.register_buffer("offset", offset)

    def reset_parameters(self) -> None:
        """Put learned centres and widths back to the uniform grid."""
        if isinstance(self.gamma, nn.Parameter):
            with torch.no_grad():
                self.offset.copy_(self._drawn[0])
                self.gamma.fill_(self._drawn[1])

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Expand distances.

        Args:
            edge_weight: Distances in Angstrom [E]; [E, 1] as in PyG, too.

        Returns:
            The expanded distances [E, G].
        """
        return gaussian_basis(edge_weight.reshape(-1), self.offset, self.gamma)

    def extra_repr(self) -> str:
        """Grid and width, for printing."""
        kind, (start, stop) = ", trainable" if isinstance(self.gamma, nn.Parameter) else "", self._range
        return f"{start:g}..{stop:g}, num_gaussians={self.offset.numel()}, gamma={self._drawn[1]:g}{kind}"


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero, see :func:`pyg_schnet.ops.bessel_basis`.

    Args:
        cutoff: Cutoff distance in Angstrom.
        num_radial: Number of functions G.
        trainable: True if the frequencies are learned.

    Raises:
        ValueError: If ``cutoff`` is not positive or ``num_radial`` less than 1.

    Example:
        >>> BesselBasis(2.0, 2)(torch.tensor([1.0])).round(decimals=4).abs()
        tensor([[1., 0.]])
    """

    frequencies: Tensor

    def __init__(self, cutoff: float, num_radial: int, trainable: bool = False) -> None:
        super().__init__()
        self.cutoff = check_positive("cutoff", cutoff)
        if num_radial < 1:
            raise ValueError(f"`num_radial` must be at least 1, got {num_radial}")
        frequencies = math.pi * torch.arange(1, num_radial + 1, dtype=torch.get_default_dtype())
        if trainable:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies)

    def reset_parameters(self) -> None:
        """Put learned frequencies back to multiples of pi."""
        with torch.no_grad():
            number = torch.arange(1, self.frequencies.numel() + 1, device=self.frequencies.device)
            self.frequencies.copy_(math.pi * number)

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Expand distances.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            The expanded distances [E, G].
        """
        return bessel_basis(edge_weight, self.frequencies, self.cutoff)

    def extra_repr(self) -> str:
        """Cutoff and size, for printing."""
        return f"cutoff={self.cutoff:g}, num_radial={self.frequencies.numel()}"


def radial_basis(
    name: str, cutoff: float, size: int, gamma: float | None = None, trainable: bool = False
) -> GaussianSmearing | BesselBasis:
    """A radial basis from zero to the cutoff by its name.

    Args:
        name: ``"gaussian"`` or ``"bessel"``.
        cutoff: Cutoff distance in Angstrom.
        size: Number of functions G.
        gamma: Inverse squared width of the Gaussians in 1/Angstrom^2, see :class:`GaussianSmearing`.
        trainable: True if the parameters of the basis are learned.

    Returns:
        The basis as a layer.

    Raises:
        ValueError: If there is none of this name, or ``gamma`` is given for a basis without widths.
    """
    if name == "gaussian":
        return GaussianSmearing(0.0, cutoff, size, gamma, trainable)
    if name != "bessel":
        raise ValueError(f"`basis` must be 'gaussian' or 'bessel', got {name!r}")
    if gamma is not None:
        raise ValueError(f"`gamma` is the width of Gaussians, but `basis` is 'bessel'; leave it out, got {gamma}")
    return BesselBasis(cutoff, size, trainable)
