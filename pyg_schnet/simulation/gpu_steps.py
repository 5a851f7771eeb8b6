"""Steps of the same atoms on a GPU, recorded without being asked."""

import warnings
from typing import Any

import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.models import Potential
from pyg_schnet.simulation.freezing import freeze_if_large
from pyg_schnet.simulation.recorded import RecordedPotential
from pyg_schnet.sizes import SIZES


class GpuSteps:
    """Energies and forces of the same atoms in step after step, see :class:`~pyg_schnet.simulation.RecordedPotential`.

    The first evaluation of any atoms is an ordinary one. Large structures are evaluated with frozen filters, if nobody
    has decided otherwise and the kernels for them have passed their test.

    Args:
        potential: The potential of a model, on any device.
    """

    def __init__(self, potential: Any) -> None:
        self._model: Any = potential.model
        #: True if steps can be recorded.
        self.usable = False
        if type(potential) is Potential and potential.model.embedding.weight.device.type == "cuda":
            self.usable = potential.model.recordable
        self._key: tuple[Any, ...] = ()
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
        if not self.usable or not 0 < len(z) <= SIZES.recorded_up_to:
            return None
        freeze_if_large(self._model, len(z))
        key = z.data_ptr(), z.shape, pbc.tobytes(), cell is None, stress, virials
        if key != self._key or self._z is not z:
            self._key, self._z, self._steps = key, z, None
            return None
        try:
            if self._steps is None:
                axes = None if cell is None else torch.from_numpy(pbc).reshape(-1, 3)
                vectors = None if cell is None else torch.from_numpy(cell).to(self._model.embedding.weight.dtype)
                more = {"stress": stress, "virials": virials}
                self._steps = RecordedPotential(self._model, z, batch, vectors, axes, **more)
            return self._steps.of_numbers(positions, cell)
        except torch.OutOfMemoryError:
            self.usable, self._steps = False, None
            said = "steps are too large to be recorded on this GPU; each is computed by itself"
            warnings.warn(said, RuntimeWarning, stacklevel=3)
            return None

    @property
    def rebuilds(self) -> int:
        """How often pairs of these atoms have been searched."""
        return 0 if self._steps is None else self._steps.rebuilds

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_key": (), "_z": None, "_steps": None}
