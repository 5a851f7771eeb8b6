"""Potentials whose truth is known, for simulations."""

import pytest
import torch
from torch import Tensor

from pyg_schnet.models import AtomisticModel


class Springs(AtomisticModel):
    """Springs between neighbours, E = k/2 (d - d0)^2: the face-centred cubic crystal of nearest neighbours at d0.

    There, C11 = 2^(1/2) k / d0, C12 = C44 = C11 / 2 (Born and Huang, section 11), without any pressure.
    """

    def __init__(self, stiffness: float = 2.0, length: float = 2.6, cutoff: float = 3.1) -> None:
        super().__init__(2, cutoff, {"readout": "add"})
        self.stiffness, self.length = stiffness, length

    def energies(self, distances: Tensor) -> Tensor:
        return 0.5 * self.stiffness * (distances - self.length).square()

    def predict(self, z, pos, batch, batch_size, edges):
        energy = self.energies(edges.edge_weight)
        return pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], energy).unsqueeze(-1)


class Morse(Springs):
    """E = D (1 - exp(-a (d - d0)))^2, with k = 2 D a^2."""

    depth, range = 0.6, 1.7  # eV, 1/Angstrom

    def energies(self, distances: Tensor) -> Tensor:
        return self.depth * (1 - torch.exp(-self.range * (distances - self.length))).square()


@pytest.fixture
def springs() -> type[Springs]:
    return Springs


@pytest.fixture
def morse() -> type[Morse]:
    return Morse
