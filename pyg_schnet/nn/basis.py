"""The radial basis as a layer."""

import torch
from torch import Tensor, nn

from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.ops import gaussian_basis


class GaussianSmearing(nn.Module):
    r"""Gaussians :math:`\exp(-\gamma (d - \mu_k)^2)` with centres on a uniform grid.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.1, see :func:`pyg_schnet.ops.gaussian_basis`.

    Args:
        start: First centre in Angstrom.
        stop: Last centre in Angstrom.
        num_gaussians: Number of Gaussians G, at least two.
        gamma: Inverse squared width in 1/Angstrom^2; ``None`` for :math:`1 / (2 h^2)` with the grid spacing h, as in
            PyG.

    Raises:
        ValueError: If the grid has fewer than two centres or no extent, or ``gamma`` is not positive.

    Example:
        >>> GaussianSmearing(0.0, 2.0, 3, gamma=1.0)(torch.tensor([1.0])).round(decimals=4)
        tensor([[0.3679, 1.0000, 0.3679]])
    """

    offset: Tensor

    def __init__(
        self, start: float = 0.0, stop: float = 5.0, num_gaussians: int = 50, gamma: float | None = None
    ) -> None:
        super().__init__()
        if num_gaussians < 2:
            raise ValueError(f"`num_gaussians` must be at least 2, got {num_gaussians}")
        if not stop > start:
            raise ValueError(f"`stop` must be larger than `start`, got {stop} and {start}")
        if gamma is not None:
            check_positive("gamma", gamma)
        self.register_buffer("offset", torch.linspace(start, stop, num_gaussians))
        self.gamma = 0.5 / float(self.offset[1] - self.offset[0]) ** 2 if gamma is None else float(gamma)

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Expand distances.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            The expanded distances [E, G].
        """
        return gaussian_basis(edge_weight, self.offset, self.gamma)

    def extra_repr(self) -> str:
        """Grid and width, for printing."""
        first, last = float(self.offset[0]), float(self.offset[-1])
        return f"{first:g}..{last:g}, num_gaussians={self.offset.numel()}, gamma={self.gamma:g}"
