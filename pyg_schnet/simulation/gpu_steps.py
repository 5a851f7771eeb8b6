"""Steps of the same atoms on a GPU, recorded without being asked."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.models import CommitteePotential, Potential
from pyg_schnet.models.recordable import members_of
from pyg_schnet.simulation.freezing import freeze_if_large
from pyg_schnet.simulation.recorded import RecordedPotential
from pyg_schnet.simulation.same_values import SameValues
from pyg_schnet.sizes import SIZES


class GpuSteps:
    """Energies and forces of the same atoms in step after step, see :class:`~pyg_schnet.simulation.RecordedPotential`.

    The first evaluation of any atoms is an ordinary one. Large structures are evaluated with frozen filters, if nobody
    has decided otherwise and the kernels for them have passed their test.

    Args:
        potential: The potential of a model or of a committee, on any device.
    """

    def __init__(self, potential: Any) -> None:
        self._model: Any = potential.model
        #: True if steps can be recorded.
        self.usable = False
        if type(potential) in {Potential, CommitteePotential}:
            members = members_of(potential.model)
            self.usable = all(one.recordable and one.embedding.weight.device.type == "cuda" for one in members)
        self._key: tuple[Any, ...] = ()
        self._same: SameValues | None = None
        self._z: Tensor | None = None
        self._steps: RecordedPotential | None = None

    def __call__(
        self,
        z: Tensor,
        positions: ndarray,
        cell: ndarray | None,
        pbc: ndarray,
        batch: Tensor | None = None,
        *,
        stress: bool = False,
        virials: bool = False,
    ) -> dict[str, Tensor] | None:
        """One step.

        Args:
            z: Atomic numbers, checked, the same tensor in each step [N].
            positions: Positions in Angstrom [N, 3].
            cell: Lattice vectors as rows in Angstrom [B, 3, 3]; ``None`` without.
            pbc: Periodic axes [B, 3].
            batch: Structure of each atom [N].
            stress: True to return the stress.
            virials: True to return the virials of the atoms.

        Returns:
            What :class:`~pyg_schnet.Potential` returns, in float64 on the CPU; ``None`` where that is for it to do.

        Raises:
            ValueError: If positions or cell are impossible.
        """
        key = z.data_ptr(), z.shape, pbc.tobytes(), cell is None, stress, virials
        if not self._going_on(key, self._z is z, len(z)):
            self._z = z
            return None

        def first() -> RecordedPotential:
            axes = None if cell is None else torch.from_numpy(pbc).reshape(-1, 3)
            vectors = None if cell is None else torch.from_numpy(cell).to(self._dtype)
            return RecordedPotential(self._model, z, batch, vectors, axes, stress=stress, virials=virials)

        return self._made(first, lambda steps: steps.of_numbers(positions, cell))

    def on_device(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor,
        batch_size: int,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        virials: bool = False,
    ) -> dict[str, Tensor] | None:
        """One step from and for the device.

        Args:
            z: Atomic numbers of any kind of integers, on the device [N].
            pos: Positions in Angstrom, in the numbers of the model [N, 3].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.
            cell: Lattice vectors as rows in Angstrom [B, 3, 3]; ``None`` without.
            pbc: Periodic axes, on the CPU [B, 3]; ``None`` without.
            virials: True to return the virials of the atoms.

        Returns:
            What :class:`~pyg_schnet.Potential` returns, in tensors of their own; ``None`` where that is for it to do.

        Raises:
            ValueError: If positions or cell are impossible.
        """
        axes = None if pbc is None else pbc.numpy().tobytes()
        same = self._same is not None and self._same.as_before(z, batch)
        if not self._going_on((z.shape, batch_size, axes, virials), same, len(z)):
            self._same = SameValues(z, batch)
            return None

        def first() -> RecordedPotential:
            given = z.long(), batch.long(), cell, pbc
            return RecordedPotential(self._model, *given, batch_size=batch_size, virials=virials)

        return self._made(first, lambda steps: steps(pos, cell))

    @property
    def rebuilds(self) -> int:
        """How often pairs of these atoms have been searched."""
        return 0 if self._steps is None else self._steps.rebuilds

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = members_of(self._model)[0].embedding.weight.dtype
        return dtype

    def _going_on(self, key: tuple[Any, ...], same: bool, atoms: int) -> bool:
        """True if steps are those of the same atoms as before, and not too many."""
        if not self.usable or not 0 < atoms <= SIZES.recorded_up_to:
            return False
        freeze_if_large(self._model, atoms)
        if same and key == self._key:
            return True
        self._key, self._steps = key, None
        return False

    def _made(
        self, first: Callable[[], RecordedPotential], step: Callable[[RecordedPotential], dict[str, Tensor]]
    ) -> dict[str, Tensor] | None:
        try:
            if self._steps is None:
                self._steps = first()
            return step(self._steps)
        except torch.OutOfMemoryError:
            self.usable, self._steps = False, None
            said = "steps are too large to be recorded on this GPU; each is computed by itself"
            warnings.warn(said, RuntimeWarning, stacklevel=4)
            return None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_key": (), "_z": None, "_same": None, "_steps": None}
