"""Atom embeddings."""

import torch
from torch import Tensor, nn

from pyg_schnet.graph import can_inspect


class AtomEmbedding(nn.Embedding):
    r"""A learned vector for each chemical element.

    .. math:: x_i^0 = a_{Z_i}

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (1). Row 0 is not used.

    Args:
        max_z: Largest atomic number.
        hidden_channels: Size of the vectors.

    Example:
        >>> AtomEmbedding(118, 16)(torch.tensor([6, 1])).shape
        torch.Size([2, 16])
    """

    def __init__(self, max_z: int, hidden_channels: int) -> None:
        super().__init__(max_z + 1, hidden_channels)
        self.max_z = max_z

    def forward(self, z: Tensor) -> Tensor:
        """Vectors of the atoms.

        Args:
            z: Atomic numbers [N] int64.

        Returns:
            Features [N, hidden_channels].

        Raises:
            TypeError: If ``z`` is not int64.
            ValueError: If an atomic number is out of range (checked on the CPU only, where it costs no
                synchronisation).
        """
        check_numbers(z, self.max_z)
        return super().forward(z)


def check_numbers(z: Tensor, max_z: int) -> None:
    """Check atomic numbers: int64, and from 1 to the largest, which is seen on the CPU only.

    Args:
        z: Atomic numbers [N].
        max_z: Largest atomic number.

    Raises:
        TypeError: If ``z`` is not int64.
        ValueError: If an atomic number is out of range.
    """
    if z.dtype != torch.long:
        raise TypeError(f"`z` must hold atomic numbers as int64 [N], got {z.dtype}; convert them, for example z.long()")
    if not can_inspect(z):
        return
    values = z.numpy()
    low, high = int(values.min()), int(values.max())
    if low < 1 or high > max_z:
        raise ValueError(
            f"`z` must hold atomic numbers from 1 to {max_z}, got {low if low < 1 else high}; "
            + ("remove such atoms" if low < 1 else "remove such atoms, or train a model with a larger `max_z`")
        )
