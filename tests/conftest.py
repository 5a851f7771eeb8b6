"""Fixtures shared by all tests: seeds, molecules, models, the mirror of real data."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet import SchNet

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("fixed")
torch.set_num_threads(1)  # as many test processes as cores: threads of their own would only wait for each other


class Molecules(NamedTuple):
    """Several structures as one batch, float64."""

    z: Tensor
    pos: Tensor
    batch: Tensor

    def split(self) -> list[tuple[Tensor, Tensor]]:
        """Atomic numbers and positions of each structure."""
        count = int(self.batch.max()) + 1
        return [(self.z[self.batch == i], self.pos[self.batch == i]) for i in range(count)]

    def data(self, dtype: torch.dtype = torch.float64) -> list[Data]:
        """Each structure as a Data object."""
        return [Data(z=z, pos=pos.to(dtype)) for z, pos in self.split()]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """Folder of the reference data; without it the test is skipped."""
    if "PYG_SCHNET_DATA" not in os.environ:
        pytest.skip("PYG_SCHNET_DATA is not set")
    return Path(os.environ["PYG_SCHNET_DATA"])


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device there is."""
    return torch.device(request.param)


@pytest.fixture
def water() -> tuple[Tensor, Tensor]:
    """Atomic numbers and positions of water, slightly off its mirror symmetry."""
    return torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)


@pytest.fixture
def molecules(water: tuple[Tensor, Tensor]) -> Molecules:
    """Water, methane (a tetrahedron) and a puckered ring of six carbons with two oxygens, all within 6 Angstrom."""
    methane = 1.09 / math.sqrt(3) * torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    angle = torch.arange(8) * (math.pi / 4)
    ring = torch.stack([2.1 * angle.cos(), 1.9 * angle.sin(), 0.3 * (3 * angle).cos()], dim=1)
    parts = [water, (torch.tensor([6, 1, 1, 1, 1]), methane), (torch.tensor([6, 6, 8, 6, 6, 6, 8, 6]), ring)]
    pos = torch.cat([part.double() for _, part in parts])
    pos = pos + 0.05 * torch.randn(pos.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batch = torch.arange(3).repeat_interleave(torch.tensor([3, 5, 8]))
    return Molecules(torch.cat([z for z, _ in parts]), pos, batch)


@pytest.fixture
def scramble() -> Callable[[nn.Module], nn.Module]:
    """Function that draws all parameters, biases too, from a normal distribution: a mix-up cannot hide behind zeros."""

    def scramble(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=0.3)
        return module

    return scramble


@pytest.fixture
def make_model(scramble: Callable[[nn.Module], nn.Module]) -> Callable[..., SchNet]:
    """Function that makes a small SchNet in float64; every size is different."""

    def make_model(**options: Any) -> SchNet:
        sizes = {"hidden_channels": 10, "num_filters": 7, "num_interactions": 2, "num_gaussians": 16, "cutoff": 5.0}
        return scramble(SchNet(**(sizes | options)).double())

    return make_model


@pytest.fixture
def rotation() -> Tensor:
    """A random proper rotation [3, 3] float64."""
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    return q * torch.linalg.det(q)
