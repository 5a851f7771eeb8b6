"""Energies and forces of one structure after another, as simulations ask for them.

From step to step most stays as it was: the same atoms, almost the same places. Where that pays, pairs are kept in a
skin list, see :class:`~pyg_schnet.graph.VerletList`, which is exact for whatever comes next: other atoms, another cell,
atoms that were wrapped, the images of a band that take turns. Everything else is the ordinary potential.
"""

from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.graph import Edges, VerletList
from pyg_schnet.graph.centre import centred
from pyg_schnet.models import AtomisticModel, Committee, CommitteePotential, Potential
from pyg_schnet.models.atomistic import searches_as_usual
from pyg_schnet.models.charges import Electrons
from pyg_schnet.models.committee import means_and_spreads
from pyg_schnet.models.elements import unfamiliar
from pyg_schnet.models.potential import derivatives
from pyg_schnet.models.structures import Structures
from pyg_schnet.simulation.gpu_steps import GpuSteps
from pyg_schnet.simulation.near_origin import NearOrigin
from pyg_schnet.simulation.prepared import asked
from pyg_schnet.sizes import SIZES

#: How much farther than the cutoff pairs are kept, in Angstrom: crystals at room temperature are then searched once in
#: tens of steps, for a third more pairs of a cutoff of 5 Angstrom.
SKIN = 0.5
#: The most steps for which the list rests after it has been of no use.
LONGEST_REST = 256


class SteppedPotential:
    """A potential for structures that mostly differ little from the one before.

    Pairs are kept in a skin list if the structure is periodic or has more atoms than are done in one pass, and the
    model is frozen: networks that are evaluated for each pair take so long that the search does not count, and small
    molecules are searched in no time. While structures jump so far that pairs are searched at every step, as where
    several take turns, the list rests. On a GPU, steps of the same atoms are recorded, see
    :class:`~pyg_schnet.simulation.gpu_steps.GpuSteps`.

    Args:
        potential: The potential of a model or of a committee, in evaluation mode.
        skin: How much farther than the cutoff pairs are kept, in Angstrom.
    """

    #: What the structure says of its charge and unpaired electrons.
    electrons: Electrons | None = None

    def __init__(self, potential: Potential | CommitteePotential, skin: float = SKIN) -> None:
        self.potential = potential
        model: Any = potential.model
        self._members: list[AtomisticModel] = list(model) if isinstance(model, Committee) else [model]
        weight: Any = self._members[0].embedding.weight
        self.device, self.dtype = weight.device, weight.dtype
        #: The list, or ``None`` where it never pays.
        self.neighbors: VerletList | None = None
        usual = type(potential) in {Potential, CommitteePotential}  # one of another kind may have its own forces
        if usual and self.device.type == "cpu" and all(map(_reads_tables, self._members)):
            self.neighbors = VerletList(max(member.cutoff for member in self._members), skin)
        #: The potential of each member of a committee that is frozen.
        self._singles = [Potential(member) for member in self._members if len(self._members) > 1 and self.neighbors]
        self._rest, self._served, self._length = 0, 1, SIZES.steps_of_rest
        self._gpu, self._place = GpuSteps(potential), NearOrigin()

    def __call__(
        self, z: Tensor, positions: ndarray, cell: ndarray, pbc: ndarray, *, stress: bool, virials: bool
    ) -> dict[str, Tensor]:
        """Energy and derivatives of a structure.

        Args:
            z: Atomic numbers, already checked [n].
            positions: Positions in Angstrom, float64 [n, 3].
            cell: Lattice vectors as rows in Angstrom, zero where there are none [3, 3].
            pbc: Periodic axes [3].
            stress: True to return the stress; the cell then has a volume.
            virials: True to return the virials of the atoms.

        Returns:
            What :class:`~pyg_schnet.Potential` or :class:`~pyg_schnet.models.CommitteePotential` returns; a user's own
            potential need not take ``stress`` and ``virials``, or return them.

        Raises:
            ValueError: If positions or cell are impossible.
        """
        if self._gpu.usable:
            vectors = cell[None] if cell.any() or pbc.any() else None
            near, axes = self._place(positions, cell, pbc), pbc[None]
            played = self._gpu(z, near, vectors, axes, stress=stress, virials=virials)
            if played is not None:
                return played
        lists = self.neighbors is not None and len(z) > 0 and (len(z) > SIZES.max_atoms or pbc.any())
        if lists and not self._is_resting():
            return self._listed(z, positions, cell, pbc, stress, virials)
        pos, periodic = self.tensors(positions, cell, pbc)
        if self._singles and not (periodic or stress or virials) and self._strange(z) is None:
            return self._of_committee(z, [single(z, pos) for single in self._singles])  # a molecule has a shorter way
        return asked(self.potential, z, pos, **periodic, stress=stress, virials=virials)

    @property
    def rebuilds(self) -> int:
        """How often pairs of atoms that are kept from step to step have been searched."""
        return self._gpu.rebuilds if self.neighbors is None else self.neighbors.rebuilds

    @property
    def use_of_list(self) -> tuple[int, int, int]:
        """Steps for which the list rests, those that its pairs have served, and those of the next rest."""
        return self._rest, self._served, self._length

    @use_of_list.setter
    def use_of_list(self, use: tuple[int, int, int]) -> None:
        self._rest, self._served, self._length = use

    def tensors(self, positions: ndarray, cell: ndarray, pbc: ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """A structure in the numbers of the model.

        Args:
            positions: Positions in Angstrom, float64 [n, 3].
            cell: Lattice vectors as rows in Angstrom [3, 3].
            pbc: Periodic axes [3].

        Returns:
            Positions [n, 3], near the origin, and ``cell`` [1, 3, 3] and ``pbc`` [1, 3] unless there are none.
        """
        pos = torch.tensor(centred(positions, cell, pbc), dtype=self.dtype, device=self.device)
        if not (cell.any() or pbc.any()):
            return pos, {}
        vectors = torch.tensor(cell, dtype=self.dtype, device=self.device).unsqueeze(0)
        return pos, {"cell": vectors, "pbc": torch.tensor(pbc, device=self.device).unsqueeze(0)}

    def _is_resting(self) -> bool:
        self._rest = max(0, self._rest - 1)
        return self._rest > 0

    def _listed(
        self, z: Tensor, positions: ndarray, cell: ndarray, pbc: ndarray, stress: bool, virials: bool
    ) -> dict[str, Tensor]:
        """With the pairs of the list, whose vectors are rounded only when they are known."""
        pos, periodic = torch.tensor(positions), {}
        if pbc.any():
            periodic = {"cell": torch.tensor(cell).unsqueeze(0), "pbc": torch.tensor(pbc).unsqueeze(0)}
        pair_index, vector = self._pairs(pos, periodic)
        batch, shape = torch.zeros_like(z), torch.tensor(cell, dtype=self.dtype).unsqueeze(0)
        edge_vec, every = vector.to(self.dtype), []
        with torch.inference_mode(False), torch.enable_grad():
            for member in self._members:
                near = vector.square().sum(1) < member.cutoff**2 if len(self._members) > 1 else None
                edges = _edges(pair_index, edge_vec, near)
                structures = Structures(z, pos.to(self.dtype), batch, 1, cell=shape, edges=edges)
                every.append(derivatives(member, structures, stress, virials))
        return every[0] if isinstance(self.potential, Potential) else self._of_committee(z, every)

    def _of_committee(self, z: Tensor, every: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Means and spreads of what members say, as :class:`~pyg_schnet.models.CommitteePotential` gives them."""
        return means_and_spreads(every, self._strange(z), torch.zeros_like(z))

    def _strange(self, z: Tensor) -> Tensor | None:
        """True if a committee was never trained on something of a structure; ``None`` if it was."""
        return unfamiliar(self.potential.model, z, torch.zeros_like(z), 1, self.electrons)

    def _pairs(self, pos: Tensor, periodic: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Pairs of the list; it rests for a while if it was searched twice for one step each."""
        neighbors: Any = self.neighbors
        before = neighbors.rebuilds
        found: tuple[Tensor, Tensor] = neighbors.pairs(pos, None, **periodic)
        if neighbors.rebuilds == before:
            self._served, self._length = self._served + 1, SIZES.steps_of_rest
        else:
            unused, self._served = self._served == 0, 0
            if unused:
                self._rest, self._length, self._served = self._length, min(2 * self._length, LONGEST_REST), 1
        return found


def _reads_tables(member: AtomisticModel) -> bool:
    """True if a model is frozen and takes edges as they come."""
    return searches_as_usual(member) and getattr(member, "frozen", False)


def _edges(pair_index: Tensor, edge_vec: Tensor, near: Tensor | None) -> Edges:
    """Both directions of pairs, or of those that are near."""
    if near is not None:
        pair_index, edge_vec = pair_index[:, near], edge_vec[near]
    number = torch.arange(pair_index.size(1))
    return Edges(torch.cat([pair_index, pair_index.flip(0)], dim=1), edge_vec, torch.cat([number, number]), pair_index)
