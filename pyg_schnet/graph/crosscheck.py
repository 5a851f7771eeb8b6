"""Compare all installed back ends of the neighbour search on random structures.

python -m pyg_schnet.graph.crosscheck --num-systems 100
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_schnet.graph.backends import BACKENDS
from pyg_schnet.graph.edges import Graph
from pyg_schnet.graph.neighbors import radius_graph


class System(NamedTuple):
    """A batch of structures, float64: positions [N, 3], structure [N], cells [B, 3, 3], axes [B, 3], cutoff."""

    pos: Tensor
    batch: Tensor
    cell: Tensor
    pbc: Tensor
    cutoff: float

    def to(self, device: torch.device | str) -> "System":
        """The same on another device."""
        pos, batch, cell, pbc = (value.to(device) for value in self[:4])
        return System(pos, batch, cell, pbc, self.cutoff)

    def graph(self, backend: str) -> Graph:
        """Its radius graph by one back end."""
        size = self.pbc.size(0)
        return radius_graph(self.pos, self.cutoff, self.batch, self.cell, self.pbc, backend, batch_size=size)


@dataclass(frozen=True)
class Comparison:
    """How one back end did on one kind of systems.

    Attributes:
        backend: Name of the back end.
        kind: Kind of the systems.
        systems: How many were compared.
        edges: Edges that plain PyTorch found in them.
        missing: Edges that this back end did not find.
        extra: Edges that only this back end found.
        different: Systems whose graph is not the same, edge by edge and in the same order.
    """

    backend: str
    kind: str
    systems: int
    edges: int
    missing: int
    extra: int
    different: int


@dataclass(frozen=True)
class Report:
    """What :func:`cross_check` found.

    Attributes:
        comparisons: One entry for each back end and kind of systems it can do.
        not_installed: Back ends whose package is missing.
    """

    comparisons: tuple[Comparison, ...]
    not_installed: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """True if all graphs are identical."""
        return all(comparison.different == 0 for comparison in self.comparisons)

    def table(self) -> str:
        """The report as lines of text."""
        line = "{:14} {:12} {:>8} {:>9} {:>8} {:>8} {:>10}"
        rows = [line.format("backend", "kind", "systems", "edges", "missing", "extra", "different")]
        rows += [line.format(*vars(comparison).values()) for comparison in self.comparisons]
        if self.not_installed:
            rows.append(f"not installed: {', '.join(self.not_installed)}")
        return "\n".join(rows)


def cross_check(num_systems: int = 20, seed: int = 0, device: torch.device | str = "cpu") -> Report:
    """Compare the graphs of all installed back ends with those of plain PyTorch.

    Args:
        num_systems: Random systems of each kind; each is a batch of one to four structures.
        seed: Seed of the random systems.
        device: Where to search; back ends that do not run there are left out.

    Returns:
        The report; nothing is printed.

    Raises:
        ValueError: If ``num_systems`` is not positive.

    Example:
        >>> report = cross_check(num_systems=2)
        >>> report.agree, report.comparisons[0].backend
        (True, 'torch')
    """
    if num_systems < 1:
        raise ValueError(f"`num_systems` must be positive, got {num_systems}")
    device = torch.device(device)
    comparisons = []
    for kind, draw in KINDS.items():
        generator = torch.Generator().manual_seed(seed)
        systems = [draw(generator).to(device) for _ in range(num_systems)]
        expected = [system.graph("torch") for system in systems]
        for name, backend in BACKENDS.items():
            if backend.installed() and backend.suits(device, periodic=kind != "open"):
                comparisons.append(_compare(name, kind, systems, expected))
    return Report(tuple(comparisons), tuple(name for name in BACKENDS if not BACKENDS[name].installed()))


def _compare(backend: str, kind: str, systems: list[System], expected: list[Graph]) -> Comparison:
    edges = missing = extra = different = 0
    for system, graph in zip(systems, expected, strict=True):
        found = system.graph(backend)
        wanted, got = _edges(graph), _edges(found)
        edges += len(wanted)
        missing, extra = missing + len(wanted - got), extra + len(got - wanted)
        different += not all(torch.equal(one, other) for one, other in zip(*map(_tensors, (graph, found)), strict=True))
    return Comparison(backend, kind, len(systems), edges, missing, extra, different)


def _tensors(graph: Graph) -> tuple[Tensor, ...]:
    return graph.edge_index, graph.edge_shift, graph.rowptr, graph.reverse


def _edges(graph: Graph) -> set[tuple[int, ...]]:
    return set(map(tuple, torch.cat([graph.edge_index, graph.edge_shift.T]).T.tolist()))


def _draw(generator: torch.Generator, pbc: Tensor, width: float, atoms: int) -> System:
    """Structures with these periodic axes [B, 3] in random cells of about this width, some atoms outside."""
    structures = pbc.size(0)
    stretch = torch.tensor([1.0, 0.6, 1.7], dtype=torch.float64)
    random = torch.randn(structures, 3, 3, dtype=torch.float64, generator=generator)
    cell = width * stretch.unsqueeze(-1) * (torch.eye(3, dtype=torch.float64) + 0.25 * random.clamp(-1.2, 1.2))
    sizes = torch.randint(0, atoms + 1, (structures,), generator=generator)
    batch = torch.arange(structures).repeat_interleave(sizes)
    fractional = 2 * torch.rand(len(batch), 3, dtype=torch.float64, generator=generator) - 0.5
    cutoff = 1.5 + 4 * float(torch.rand(1, generator=generator))
    return System(torch.einsum("nk,nkl->nl", fractional, cell[batch]), batch, cell, pbc, cutoff)


def _axes(generator: torch.Generator, share: tuple[float, float, float]) -> Tensor:
    structures = int(torch.randint(1, 5, (1,), generator=generator))
    return torch.rand(structures, 3, generator=generator) < torch.tensor(share)


#: Random systems by kind.
KINDS: dict[str, Callable[[torch.Generator], System]] = {
    "open": lambda generator: _draw(generator, _axes(generator, (0, 0, 0)), 8.0, 60),
    "slab": lambda generator: _draw(generator, _axes(generator, (1, 1, 0)), 7.0, 40),
    "triclinic": lambda generator: _draw(generator, _axes(generator, (1, 1, 1)), 9.0, 60),
    "small cell": lambda generator: _draw(generator, _axes(generator, (1, 1, 1)), 2.5, 4),
    "mixed": lambda generator: _draw(generator, _axes(generator, (0.5, 0.5, 0.5)), 5.0, 20),
}


def main() -> int:
    """Print the report; the exit status is 1 if any graph differs."""
    parser = argparse.ArgumentParser(
        prog="python -m pyg_schnet.graph.crosscheck", description="Compare all installed back ends on random systems."
    )
    parser.add_argument("--num-systems", type=int, default=20, help="systems of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    report = cross_check(options.num_systems, options.seed, options.device)
    print(report.table())
    return 0 if report.agree else 1


if __name__ == "__main__":
    sys.exit(main())
