"""Which models can be recorded, to be played again without Python."""

from typing import Any

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.potential import Potential


def recordable(model: Any) -> AtomisticModel:
    """The model of energies whose steps can be recorded.

    Args:
        model: A model or its potential.

    Returns:
        The model.

    Raises:
        TypeError: If it is no :class:`~pyg_schnet.models.AtomisticModel`.
        ValueError: If it predicts something else than one energy, or looks at values.
    """
    own: Any = model.model if isinstance(model, Potential) else Potential(model).model
    if not own.recordable:
        raise ValueError(
            f"{type(own).__name__} cannot be recorded: it looks at values of its input; use the ordinary Potential"
        )
    return own
