"""Structures that the benchmarks measure: molecules, crystals and boxes of water, in float32."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_schnet import radius_graph
from pyg_schnet.datasets import from_smiles
from pyg_schnet.graph.edges import Graph

ASPIRIN, ETHANOL = "CC(=O)Oc1ccccc1C(=O)O", "CCO"
#: Molecules of 18 atoms, the mean of QM9, nine of them heavy at most.
MOLECULES = ("CCc1ccccc1", "COc1ccccc1N", "CC1CCOC(=O)C1", "CC1=CC(=O)CCC1", "CN1CCOCC1", "NC(=O)c1ccc(N)cc1")
#: Cutoff of the box of water in Angstrom, and distance of its molecules at 1 g/cm^3.
WATER_CUTOFF, WATER_SPACING = 5.2, 3.104
#: Places of A, B and three O in the cubic cell of a perovskite, and elements that take those of A and B.
PEROVSKITE = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))
A_SITES, B_SITES = (11, 19, 20, 38, 56, 57), (22, 25, 26, 40, 41)


class System(NamedTuple):
    """Structures with their cutoff, and lattice vectors and periodic axes if they have any."""

    cutoff: float
    z: Tensor
    pos: Tensor
    batch: Tensor
    periodic: dict[str, Tensor]

    def to(self, device: str) -> "System":
        """The same on another device."""
        periodic = {name: value.to(device) for name, value in self.periodic.items()}
        return System(self.cutoff, self.z.to(device), self.pos.to(device), self.batch.to(device), periodic)

    def double(self) -> "System":
        """The same in float64."""
        periodic = {
            name: value.double() if value.is_floating_point() else value for name, value in self.periodic.items()
        }
        return self._replace(pos=self.pos.double(), periodic=periodic)

    def graph(self) -> Graph:
        """All edges within the cutoff."""
        cell, pbc = self.periodic.get("cell"), self.periodic.get("pbc")
        return radius_graph(self.pos, self.cutoff, self.batch, cell, pbc)


def molecules(smiles: tuple[str, ...], count: int, cutoff: float = 10.0) -> System:
    """Molecules in turns, with atoms displaced by 0.05 Angstrom."""
    kinds = [from_smiles(one) for one in smiles]
    chosen = [kinds[k % len(kinds)] for k in range(count)]
    pos = torch.cat([one.pos for one in chosen])
    pos = pos + 0.05 * torch.randn(pos.shape, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(count).repeat_interleave(torch.tensor([len(one.z) for one in chosen]))
    return System(cutoff, torch.cat([one.z for one in chosen]), pos, batch, {})


def crystals(count: int, cutoff: float) -> System:
    """Perovskites of 20 atoms, each of other elements and strained a little, atoms displaced by 0.05 Angstrom."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(1))  # two by two by one cubic cells
    place = (corner.unsqueeze(1) + torch.tensor(PEROVSKITE)).view(-1, 3)  # [20, 3]
    strain = torch.eye(3) + 0.02 * torch.randn(count, 3, 3, generator=generator)
    vectors = (3.8 + 0.4 * torch.rand(count, 1, 1, generator=generator)) * strain  # [B, 3, 3]
    pos = place @ vectors  # [B, 20, 3]
    pos = pos + 0.05 * torch.randn(pos.shape, generator=generator)
    a, b = (torch.tensor(s)[torch.randint(len(s), (count,), generator=generator)] for s in (A_SITES, B_SITES))
    z = torch.stack([a, b, *[torch.full_like(a, 8)] * 3], dim=1).repeat(1, len(corner))  # [B, 20]
    cell = torch.tensor([[2.0], [2.0], [1.0]]) * vectors
    periodic = {"cell": cell, "pbc": torch.ones(count, 3, dtype=torch.bool)}
    return System(cutoff, z.flatten(), pos.view(-1, 3), torch.arange(count).repeat_interleave(len(place)), periodic)


def water(edge: int, cutoff: float = WATER_CUTOFF) -> System:
    """A periodic box of edge^3 water molecules on a grid, turned at random."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(*[torch.arange(edge)] * 3) * WATER_SPACING  # [M, 3]
    turns, _ = torch.linalg.qr(torch.randn(len(grid), 3, 3, generator=generator))
    molecule = torch.tensor([[0.0, 0, 0], [0.958, 0, 0], [-0.240, 0.927, 0]])
    pos = (grid.unsqueeze(1) + molecule @ turns).view(-1, 3)
    cell = edge * WATER_SPACING * torch.eye(3).unsqueeze(0)
    periodic = {"cell": cell, "pbc": torch.ones(1, 3, dtype=torch.bool)}
    z = torch.tensor([8, 1, 1]).repeat(len(grid))
    return System(cutoff, z, pos, torch.zeros_like(z), periodic)
