"""A potential for step after step of the same atoms, which a GPU plays as one recording."""

import math
import numbers
from functools import partial
from typing import Any, NamedTuple

import torch
from numpy import ndarray
from torch import Tensor, nn

from pyg_schnet.fast.cuda_graph import Addresses, Replay
from pyg_schnet.fast.padding import ghosts_for
from pyg_schnet.graph import check_structures
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.models.committee import Committee, means_and_spreads
from pyg_schnet.models.elements import check_elements, unfamiliar
from pyg_schnet.models.inputs import check_atoms, check_cell, check_volume
from pyg_schnet.models.potential import derivatives
from pyg_schnet.models.recordable import members_of, recordable
from pyg_schnet.models.structures import Structures
from pyg_schnet.simulation.recorded_pairs import (
    MovingAtoms,
    Reach,
    SkinPairs,
    edges_and_limits,
    empty_pairs,
    fill_pairs,
    is_stale,
    moving_atoms,
    places_for,
    search_pairs,
)


class _Session(NamedTuple):
    """What steps of one shape share: tensors that stay where they are, and what is made of them."""

    atoms: MovingAtoms
    pairs: SkinPairs
    replay: Replay[tuple[dict[str, Tensor], Tensor]]
    weights: Addresses
    like: dict[str, Tensor]


class RecordedPotential:
    r"""Energies and forces of moving atoms, as :class:`~pyg_schnet.Potential` gives them, in steps of fixed shape.

    Small systems are bound by the time in which kernels are launched. On a GPU, everything from positions to forces is
    therefore recorded once as a CUDA graph and then played again, which is a single launch. Pairs within cutoff + skin
    are kept in a fixed number of places; which of them are closer than the cutoff, and whether atoms have moved or the
    cell has changed so far that pairs may be missing (see :mod:`pyg_schnet.simulation.recorded_pairs`), is found out on
    the device within the step. The host reads this one flag; if it is set, pairs are searched again and the step is
    repeated, so results are always exact. An atom that is wrapped into the cell has moved. If there are too few places,
    there are more from then on, and a new recording. On a CPU the same function is called instead.

    Values of weights are read at every step. If layers, parameters or frozen tables are replaced, a GPU plays one step
    in vain and makes a new recording; options of the model that are no tensors are those of the recording, call
    :meth:`reset` after changing them. Results cannot be differentiated. ``filters="table"`` makes tables of all
    distances, as in a compiler, and ``"auto"`` is exact; best is a frozen model.

    Args:
        model: A model of energies, such as a SchNet or DTNN, a :class:`~pyg_schnet.models.Committee`, or the potential
            of either.
        z: Atomic numbers [N].
        batch: Structure of each atom [N]; ``None`` for one structure.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        batch_size: Number of structures, needed only if the last ones may be empty.
        skin: How much farther pairs are kept, in Angstrom; large ones are searched more rarely and cost more between.
        stress: True to return the stress; needs a complete cell.
        virials: True to return the virials of the atoms.
        strict: True to refuse elements that the model was never trained on, see
            :func:`~pyg_schnet.models.elements.check_elements`; otherwise it warns once.

    Attributes:
        rebuilds: How often pairs have been searched.
        recordings: How many recordings (on a CPU: shapes) have been needed.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes or values do not fit, or the model cannot be recorded.

    Example:
        >>> from pyg_schnet import SchNet
        >>> z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> potential = RecordedPotential(SchNet.preset("jcp2018").freeze(), z)
        >>> for step in range(3):
        ...     out = potential(pos + 0.01 * step)
        >>> out["energy"].shape, out["forces"].shape, potential.rebuilds
        (torch.Size([1]), torch.Size([3, 3]), 1)
    """

    def __init__(
        self,
        model: nn.Module,
        z: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        batch_size: int | None = None,
        skin: float = 0.5,
        stress: bool = False,
        virials: bool = False,
        strict: bool = False,
    ) -> None:
        self.model: Any = recordable(model)
        self._members = members_of(self.model)
        self.skin, self.stress, self.virials = _checked_skin(skin), stress, virials
        if not isinstance(z, Tensor):
            raise TypeError(f"`z` must be a tensor of atomic numbers [N], got {type(z).__name__}")
        weight = self._weight
        at_rest = torch.zeros(z.numel(), 3, dtype=weight.dtype, device=weight.device)
        for member in self._members:
            check_atoms(z, at_rest, member.embedding)  # where it is: on the CPU values are seen
        check_cell(cell, at_rest)
        self._z, self._like = z.detach().to(weight.device, copy=True), at_rest
        batch, self._batch_size = check_structures(at_rest, batch, batch_size)
        lattice_of(cell, pbc, self._batch_size, weight.device)
        if stress:
            check_volume(cell)
        check_elements(self.model, z, strict, batch)
        #: True for each structure of which a member of a committee was never trained on something.
        self._strange = None
        if isinstance(self.model, Committee):
            self._strange = unfamiliar(self.model, z, batch.to(z.device), self._batch_size)
            self._strange = None if self._strange is None else self._strange.to(weight.device)
        self._batch = batch.to(weight.device, copy=True)
        own = (None if one is None else one.detach().to(weight.device, copy=True) for one in (cell, pbc))
        self._cell, self._pbc = own
        self.rebuilds, self.recordings = 0, 0
        self._session: _Session | None = None
        self._pinned: dict[str, Tensor] = {}

    def __call__(self, pos: Tensor, cell: Tensor | None = None) -> dict[str, Tensor]:
        """One step.

        Args:
            pos: Positions in Angstrom [N, 3], on the device and in the dtype of the model.
            cell: New lattice vectors [B, 3, 3]; ``None`` for the latest.

        Returns:
            ``energy`` in eV [B] float64, ``forces`` in eV/Angstrom [N, 3] and, if asked for, ``stress`` in
            eV/Angstrom^3 [B, 3, 3] and ``virials`` in eV [N, 3, 3], as :meth:`pyg_schnet.Potential.forward` gives them,
            in tensors of their own; of a committee, with the spreads of
            :meth:`pyg_schnet.models.CommitteePotential.forward`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If shapes or values do not fit, or two atoms are at the same place.
        """
        self._check(pos, cell)
        self._follow_weights()
        with torch.inference_mode(False), torch.no_grad():
            cell = self._cell if cell is None else cell.detach().to(pos.device, copy=True)
            found = self._played(pos, cell)
            if found is None or self._is_stale(found[1]):  # here alone the host waits
                found = self._searched(pos, cell)
            self._cell = cell
            return {name: value.clone() for name, value in found[0].items()}

    def of_numbers(self, positions: ndarray, cell: ndarray | None = None) -> dict[str, Tensor]:
        """The same from and for the CPU: on a GPU, one copy there, one launch and one copy back.

        Args:
            positions: Positions in Angstrom [N, 3].
            cell: New lattice vectors as rows [B, 3, 3]; ``None`` for the latest.

        Returns:
            What a call returns, in float64 on the CPU.

        Raises:
            ValueError: As a call.
        """
        with torch.inference_mode(False), torch.no_grad():
            pos = self._sent("pos", positions)
            vectors = None if cell is None else self._sent("cell", cell)
            numbers = self._numbers_of(pos, vectors)
            if numbers is None or self._is_stale(numbers):  # no pairs yet, or some may be missing
                out = self(pos, vectors)
                return {name: value.detach().double().cpu() for name, value in out.items()}
            self._cell = self._cell if vectors is None else vectors
        session: Any = self._session
        shapes = {name: value.shape for name, value in session.like.items()}
        parts = numbers[2:].split([shape.numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def _numbers_of(self, pos: Tensor, cell: Tensor | None) -> Tensor | None:
        """All results of a step one behind the other on the CPU; ``None`` without pairs."""
        self._follow_weights()
        if self._session is None or pos.device != self._weight.device:
            return None
        found = self._played(pos, self._cell if cell is None else cell)
        return None if found is None else found[1].to("cpu")  # here alone the host waits

    def _is_stale(self, numbers: Tensor) -> bool:
        moved, shortest = numbers[:2].tolist()
        return is_stale(moved, shortest, self.skin)

    def _sent(self, name: str, values: ndarray) -> Tensor:
        """Numbers on the device of the model, by way of memory that stays where it is."""
        given, device, dtype = torch.from_numpy(values), self._like.device, self._like.dtype
        if device.type != "cuda":
            return given.to(device, dtype, copy=True)
        if name not in self._pinned:
            self._pinned[name] = torch.empty(given.shape, dtype=dtype, pin_memory=True)
        self._pinned[name].copy_(given)  # what was here has long been sent: each step waits for its results
        return self._pinned[name].to(device, non_blocking=True)

    def reset(self) -> None:
        """Forget pairs and recording; the next step makes new ones."""
        self._session = None

    @property
    def places(self) -> int:
        """Number of places for pairs; 0 before the first step."""
        return 0 if self._session is None else self._session.pairs.there.numel()

    def _played(self, pos: Tensor, cell: Tensor | None) -> tuple[dict[str, Tensor], Tensor] | None:
        """A step with the pairs there are; ``None`` if that is not enough."""
        session = self._session
        if session is None:
            return None
        session.atoms.pos[: pos.size(0)].copy_(pos)
        if session.atoms.cell is not None and cell is not None:
            session.atoms.cell[:-1].copy_(cell)
        found = session.replay()
        if session.replay.recorded and not session.weights.hold():  # looked up while the device computes
            self._session = None
            return None
        return found

    def _searched(self, pos: Tensor, cell: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        """A step after a new search."""
        structures = self._batch, self._batch_size, cell, self._pbc
        index, shift = search_pairs(pos, *structures, self.model.cutoff + self.skin)
        self.rebuilds += 1
        session = self._session
        if session is None or self.places < index.size(1):
            self._session = session = self._started(pos, cell, index.size(1))
        fill_pairs(session.pairs, session.atoms, index, shift)
        found = session.replay()
        session.like.update({name: value.detach() for name, value in found[0].items()})
        return found

    def _started(self, pos: Tensor, cell: Tensor | None, pairs: int) -> _Session:
        """Tensors for so many pairs, and what will be recorded of them."""
        places = places_for(pairs)
        atoms = moving_atoms(
            self._z, self._batch, self._batch_size, pos, cell, self._pbc, 2 * ghosts_for(places), self.model.cutoff
        )
        held = empty_pairs(atoms, pos.size(0), places)
        self.recordings += 1
        how = self._batch_size, self.skin, self.stress, self.virials, self._strange
        step = partial(results_of_step, self.model, atoms, held, *how)
        return _Session(atoms, held, Replay(step, pos.device), Addresses(self.model), {})

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self._members[0].embedding.weight
        return weight

    def _follow_weights(self) -> None:
        for member in self._members:
            member.follow_weights()

    def __getstate__(self) -> dict[str, Any]:  # a copy makes recordings of its own
        return self.__dict__ | {"_session": None, "_pinned": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"_pinned": {}} | state)

    def _check(self, pos: Tensor, cell: Tensor | None) -> None:
        if not isinstance(pos, Tensor):
            raise TypeError(f"`pos` must be a tensor [N, 3] in Angstrom, got {type(pos).__name__}")
        if pos.shape != self._like.shape:
            raise ValueError(
                f"`pos` must have shape {list(self._like.shape)}, a row for each atom of `z`, got {list(pos.shape)}; "
                "other atoms need a RecordedPotential of their own"
            )
        weight = self._weight
        if not pos.device == weight.device == self._like.device or weight.dtype != self._like.dtype:
            raise ValueError(
                f"`pos` is on {pos.device}, the model is {weight.dtype} on {weight.device} and was {self._like.dtype} "
                f"on {self._like.device}; make a new RecordedPotential after moving the model, and move `pos` to it"
            )
        for member in self._members:
            check_atoms(self._z, pos, member.embedding)
        check_cell(cell, pos)
        if cell is not None and (self._cell is None or cell.shape != self._cell.shape):
            expected = "none, as in the constructor" if self._cell is None else f"shape {list(self._cell.shape)}"
            raise ValueError(f"`cell` must have {expected}, got {list(cell.shape)}")
        if cell is not None and self.stress:
            check_volume(cell)


def results_of_step(
    model: Any,
    atoms: MovingAtoms,
    pairs: SkinPairs,
    batch_size: int,
    skin: float,
    stress: bool,
    virials: bool,
    strange: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """From positions to results; all that happens here may be recorded.

    Args:
        model: A model of energies, or a committee.
        atoms: Structures with ghosts, see :func:`~pyg_schnet.simulation.recorded_pairs.moving_atoms`.
        pairs: Their pairs, see :func:`~pyg_schnet.simulation.recorded_pairs.fill_pairs`.
        batch_size: Number of structures B.
        skin: How much farther than the cutoff pairs are kept, in Angstrom.
        stress: True to return the stress.
        virials: True to return the virials of the atoms.
        strange: Structures of which a member of a committee was never trained on something [B]; ``None`` for none.

    Returns:
        What :class:`RecordedPotential` returns; and all of it one behind the other in float64, behind the two numbers
        that tell whether it counts, see :func:`~pyg_schnet.simulation.recorded_pairs.is_stale`.
    """
    num_atoms = pairs.reference.size(0)
    members = [(member, Reach(member.cutoff, member.vanishes_at_cutoff)) for member in members_of(model)]
    edges, *limits = edges_and_limits(pairs, atoms, dict.fromkeys(reach for _, reach in members), skin)
    structures, every = Structures(atoms.z, atoms.pos, atoms.batch, batch_size + 1, cell=atoms.cell), []
    sizes = {"energy": batch_size, "forces": num_atoms, "stress": batch_size, "virials": num_atoms}
    for member, reach in members:
        with torch.enable_grad():
            out = derivatives(member, structures.with_edges(edges[reach]), stress, virials)
        every.append({name: value[: sizes[name]] for name, value in out.items()})
    results = every[0]
    if isinstance(model, Committee):
        results = means_and_spreads(every, strange, atoms.batch[:num_atoms])
    return results, torch.cat([value.reshape(-1) for value in (*limits, *results.values())])


def _checked_skin(skin: float) -> float:
    if isinstance(skin, bool) or not isinstance(skin, numbers.Real):
        raise TypeError(f"`skin` must be a number in Angstrom, got {type(skin).__name__}")
    if not 0 <= skin < math.inf:
        raise ValueError(f"`skin` must be finite and not negative, got {skin}; 0.3 to 1 Angstrom are usual")
    return float(skin)
