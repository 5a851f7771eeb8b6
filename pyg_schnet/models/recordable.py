"""Which models can be recorded, to be played again without Python."""

from typing import Any

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.committee import Committee, CommitteePotential
from pyg_schnet.models.potential import Potential


def recordable(model: Any) -> AtomisticModel | Committee:
    """The model of energies whose steps can be recorded.

    Args:
        model: A model, a committee or the potential of either.

    Returns:
        The model or committee.

    Raises:
        TypeError: If it is no :class:`~pyg_schnet.models.AtomisticModel` and no committee of such.
        ValueError: If it predicts something else than one energy, or looks at values.
    """
    own: Any = model.model if isinstance(model, (Potential, CommitteePotential)) else model
    for member in members_of(own):
        if not Potential(member).model.recordable:
            raise ValueError(
                f"{type(member).__name__} cannot be recorded: it looks at values of its input; use the ordinary "
                "Potential"
            )
    return own


def members_of(model: Any) -> list[Any]:
    """The members of a committee, or the model itself as the only one."""
    return list(model) if isinstance(model, Committee) else [model]
