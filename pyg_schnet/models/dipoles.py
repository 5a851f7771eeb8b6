"""Dipole moments of molecules, by a model of its own beside that of the energy."""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.committee import Committee
from pyg_schnet.models.exact import exact_copy
from pyg_schnet.nn.moments import DipoleMoment
from pyg_schnet.units import DEBYE

#: Units of dipole moments in e Angstrom.
DIPOLE: dict[str, float] = {"D": DEBYE, "Debye": DEBYE, "e*Ang": 1.0, "eAng": 1.0, "e Ang": 1.0}
#: Names under which a model may know the unit of its dipole moment.
_NAMES = ("mu", "dipole", "dipole_moment")


class Dipoles:
    """Vectors of dipole moments in e Angstrom, evaluated in float64 by exact copies of a model.

    Args:
        model: A model with ``readout="dipole"`` or ``"dipole_magnitude"``, of which the vector before its length is
            taken counts, or a committee of such.
        unit: ``"D"`` or ``"e*Ang"``; ``None`` for what the model says, Debye if it says nothing, which is the unit of
            QM9.

    Raises:
        TypeError: If ``model`` is no model.
        ValueError: If it predicts no dipole moment, or there is no such unit.

    Example:
        >>> from pyg_schnet import SchNet
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]])
        >>> Dipoles(SchNet(8, 8, 1, readout="dipole"))(z, pos)[1:]  # along the bond alone
        tensor([0., 0.], dtype=torch.float64)
    """

    def __init__(self, model: Any, unit: str | None = None) -> None:
        if not isinstance(model, (AtomisticModel, Committee)):
            raise TypeError(f"`dipole_model` must be a model with readout='dipole', got {type(model).__name__}")
        members: list[Any] = list(model) if isinstance(model, Committee) else [model]
        for member in members:
            if not isinstance(member.readout, DipoleMoment):
                raise ValueError(
                    f"`dipole_model` must predict a dipole moment, got readout={member.config.get('readout')!r}; "
                    "expected 'dipole' or 'dipole_magnitude'"
                )
        unit = unit or next((members[0].units[name] for name in _NAMES if name in members[0].units), "D")
        if unit not in DIPOLE:
            raise ValueError(f"`dipole_unit` must be one of {', '.join(map(repr, DIPOLE))}, got {unit!r}")
        self.unit, self.members = unit, [_vectors_of(member) for member in members]

    def __call__(self, z: Tensor, pos: Tensor) -> Tensor:
        """Dipole moment of a molecule; of a committee the mean.

        Args:
            z: Atomic numbers [n].
            pos: Positions in Angstrom [n, 3].

        Returns:
            The vector in e Angstrom [3] float64, on the CPU; differentiable with respect to the positions.
        """
        every = []
        for member in self.members:
            device = member.embedding.weight.device
            every.append(member(z.to(device), pos.to(device, torch.float64))[0].cpu())
        return DIPOLE[self.unit] * torch.stack(every).mean(0)


def _vectors_of(model: AtomisticModel) -> Any:
    own: Any = exact_copy(model)
    own.readout.magnitude = False
    return own
