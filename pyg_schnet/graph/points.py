"""Which atoms, periodic images among them, are around arbitrary points of space."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_schnet.graph.edges import squared_norm
from pyg_schnet.graph.lattice import Lattice, lattice_of
from pyg_schnet.graph.reduction import in_old_vectors, reduced
from pyg_schnet.sizes import SIZES

#: Candidates may be that much farther apart than the cutoff; the exact test comes afterwards.
SLACK = 1 + 1e-6
#: Points of which neighbours are counted to estimate those of all.
SAMPLE = 128


class Surroundings:
    """Atoms of one structure and the images of them that are within a cutoff of its cell.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        cutoff: Cutoff distance in Angstrom.
        cell: Lattice vectors as rows [1, 3, 3], or ``None``.
        pbc: Periodic axes [1, 3], or ``None``.

    Raises:
        TypeError: If cell or axes are of the wrong kind.
        ValueError: If cell and axes do not fit.

    Example:
        >>> copper = Surroundings(torch.zeros(1, 3).double(), 3.0, 2.5 * torch.eye(3)[None], torch.ones(1, 3) > 0)
        >>> atom, point, shift = copper.around(torch.tensor([[1.25, 1.25, 1.25]]).double())
        >>> len(atom), sorted(shift.sum(1).tolist())
        (8, [0, 1, 1, 1, 2, 2, 2, 3])
    """

    def __init__(self, pos: Tensor, cutoff: float, cell: Tensor | None = None, pbc: Tensor | None = None) -> None:
        self.pos, self.cutoff = pos.detach(), cutoff
        self.lattice = lattice_of(cell, pbc, 1, pos.device)
        self.matrix: Tensor | None = None
        if self.lattice is not None and (short := reduced(self.lattice)) is not None:
            self.lattice, self.matrix = short
        self.atom, self.image = self._images()  # [M], [M, 3] of atoms that are moved into the cell
        self.place = self.pos[self.atom]  # [M, 3]
        if self.lattice is not None:
            self.wrap = self._cells_of(self.pos)  # [N, 3]
            steps = self.image - self.wrap[self.atom]
            self.place = self.place + steps.to(pos.dtype) @ self.lattice.cell[0]

    def _cells_of(self, points: Tensor) -> Tensor:
        """Cells from which points are moved into the first one [P, 3], zero along open axes."""
        lattice: Lattice = self.lattice  # type: ignore[assignment]
        fractions = points @ lattice.inverse[0]
        return torch.where(lattice.pbc, fractions.floor(), 0.0).long()

    def _images(self) -> tuple[Tensor, Tensor]:
        device, atoms = self.pos.device, torch.arange(self.pos.size(0), device=self.pos.device)
        if self.lattice is None:
            return atoms, torch.zeros(atoms.size(0), 3, dtype=torch.long, device=device)
        reach = self.cutoff * SLACK / self.lattice.height[0]  # [3] cells
        most = torch.where(self.lattice.pbc[0], (reach + 1).floor(), 0.0).long().tolist()
        steps = torch.tensor(list(itertools.product(*(range(-n, n + 1) for n in most))), device=device)  # [S, 3]
        fractions = self.pos @ self.lattice.inverse[0]
        inside = torch.where(self.lattice.pbc, fractions - fractions.floor(), 0.0)
        seen = inside.unsqueeze(0) + steps.unsqueeze(1)  # [S, N, 3]
        near = (((seen >= -reach) & (seen <= 1 + reach)) | ~self.lattice.pbc).all(-1)
        step, atom = near.nonzero(as_tuple=True)
        return atom, steps[step]

    def around(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All atoms and images closer than the cutoff to each point.

        Args:
            points: Points in Angstrom [P, 3] float64.

        Returns:
            Atom [E], point [E], sorted, and image of the atom in cells [E, 3]: the vector from point to image is
            ``pos[atom] - points[point] + shift @ cell``.
        """
        points = points.detach()
        found = [self._around(points, start, stop) for start, stop in self._pieces(points.size(0))]
        if len(found) == 1:
            return found[0]
        atom, point, shift = zip(*found, strict=True)
        return torch.cat(atom), torch.cat(point), torch.cat(shift)

    def _pieces(self, count: int) -> Iterator[tuple[int, int]]:
        size = max(1, SIZES.pairs_at_once // max(1, self.atom.size(0)))
        for start in range(0, max(1, count), size):
            yield start, min(count, start + size)

    def _around(self, points: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        points = points[start:stop]
        moved, cells = points, None
        if self.lattice is not None:
            cells = self._cells_of(points)
            moved = points - cells.to(points.dtype) @ self.lattice.cell[0]
        near = self._in_reach(moved)
        squared = squared_norm((self.place[near].unsqueeze(0) - moved.unsqueeze(1)).reshape(-1, 3))
        reach = self.cutoff * SLACK
        point, place = (squared < reach * reach).view(points.size(0), near.size(0)).nonzero(as_tuple=True)
        atom, shift = self.atom[near][place], self.image[near][place]
        if cells is not None:
            shift = shift - self.wrap[atom] + cells[point]
            if self.matrix is not None:
                shift = in_old_vectors(shift, self.matrix.expand(shift.size(0), 3, 3))
        return atom, point + start, shift

    def _in_reach(self, points: Tensor) -> Tensor:
        """Images near the box around some points [M']."""
        if points.size(0) == 0:
            return self.atom[:0]
        low, high = points.amin(0) - self.cutoff * SLACK, points.amax(0) + self.cutoff * SLACK
        return ((self.place >= low) & (self.place <= high)).all(1).nonzero().squeeze(1)

    def degree(self, points: Tensor) -> int:
        """About how many neighbours a point has at most, from some of them."""
        count = min(SAMPLE, points.size(0))
        some = points[torch.linspace(0, max(0, points.size(0) - 1), count, device=points.device).long()]
        _, point, _ = self.around(some)
        return int(torch.bincount(point, minlength=1).max())

    def order(self, points: Tensor) -> Tensor:
        """An order in which points that are close in space follow one another [P]."""
        points = points.detach()
        if self.lattice is not None:
            points = points - self._cells_of(points).to(points.dtype) @ self.lattice.cell[0]
        if points.size(0) == 0 or self.atom.size(0) <= SAMPLE:
            return torch.arange(points.size(0), device=points.device)
        bins = ((points - points.amin(0)) / self.cutoff).clamp(max=2**20).long()
        number = bins.amax(0) + 1
        return torch.argsort((bins[:, 0] * number[1] + bins[:, 1]) * number[2] + bins[:, 2], stable=True)
