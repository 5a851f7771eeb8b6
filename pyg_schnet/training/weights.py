"""How much structures and atoms count in the loss, by keys of the data."""

from typing import Any, NamedTuple

from torch import Tensor
from torch_geometric.data import Data

#: Keys of weights: of all that a structure is learnt from, of a single label of it, and of each atom.
WEIGHTS = ("config_weight", "config_energy_weight", "config_forces_weight", "config_stress_weight", "atom_weight")


class Weights(NamedTuple):
    """Weights of what is to be learnt, ``None`` where everything counts alike.

    Attributes:
        energy: Of the energies [B].
        forces: Of the forces of each structure [B].
        stress: Of the stresses [B].
        atoms: Of the forces of each atom [N].
    """

    energy: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None
    atoms: Tensor | None = None


def weights_of(data: Data) -> Weights:
    """Weights by the keys of the data.

    ``config_weight`` [1] in each Data counts for all of a structure, ``config_energy_weight``,
    ``config_forces_weight`` and ``config_stress_weight`` beside it for one label; ``atom_weight`` [n] for the forces of
    each atom.

    Args:
        data: Structures.

    Returns:
        Their weights.

    Raises:
        ValueError: If there is not one weight for each structure or atom.

    Example:
        >>> import torch
        >>> weights_of(Data(pos=torch.zeros(2, 3), config_weight=torch.tensor([3.0]))).energy
        tensor([3.])
    """
    structures = getattr(data, "num_graphs", 1)
    common = _read(data, "config_weight", structures, "structures")

    def of(label: str) -> Tensor | None:
        own = _read(data, f"config_{label}_weight", structures, "structures")
        if common is None or own is None:
            return common if own is None else own
        return common * own

    atoms = _read(data, "atom_weight", data.num_nodes, "atoms")
    return Weights(of("energy"), of("forces"), of("stress"), atoms)


def _read(data: Data, key: str, count: Any, of: str) -> Tensor | None:
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, Tensor) or value.numel() != count:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"`{key}` must have one value for each of the {count} {of}, got {got}")
    return value.reshape(-1)
