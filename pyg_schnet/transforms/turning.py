"""What turns with a structure: positions, lattice vectors, forces, stresses and whatever else points somewhere."""

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

#: Keys with these words are vectors in their last dimension, if that has three elements.
_VECTOR = re.compile(r"^pos$|^cell$|force|velocit|momenta|dipole|displacement|edge_vec", re.IGNORECASE)
#: Keys with these words are tensors in their last two dimensions.
_TENSOR = re.compile(r"stress|virial|polari[sz]|quadrupole|born_effective", re.IGNORECASE)
#: Keys with these words are numbers, however many.
_NUMBER = re.compile(r"weight|charge|_mae$|_std$|edge_cutoff|^edge_attr$", re.IGNORECASE)


def kind_of(data: Data, key: str) -> str:
    """What becomes of a key when a structure turns.

    Args:
        data: A structure.
        key: One of its keys.

    Returns:
        ``"vector"`` (rows that turn: ``pos``, ``cell``, keys with "force", "velocit", "momenta", "dipole",
        "displacement"), ``"tensor"`` (keys with "stress", "virial", "polariz", "quadrupole"), ``"voigt"`` (such a key
        without two dimensions of three), ``"unknown"`` (three floating-point numbers that may be a vector or not) or
        ``"number"``, which stays: everything else.

    Example:
        >>> data = Data(pos=torch.zeros(2, 3), stress=torch.zeros(1, 3, 3), spins=torch.zeros(2, 3), y=torch.zeros(1))
        >>> [kind_of(data, key) for key in ("pos", "stress", "spins", "y")]
        ['vector', 'tensor', 'unknown', 'number']
    """
    value = data[key]
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() == 0 or _NUMBER.search(key):
        return "number"
    if _TENSOR.search(key):
        return "tensor" if value.shape[-2:] == (3, 3) else "voigt" if value.size(-1) in {6, 9} else "number"
    # in a batch of three structures their numbers are [3], too
    three = value.size(-1) == 3 and (value.dim() > 1 or not isinstance(data, Batch))
    if not three:
        return "number"
    if _VECTOR.search(key):
        return "vector"
    return "unknown" if value.dim() > 1 else "number"


def turn(
    data: Data,
    matrix: Tensor,
    vectors: Collection[str] = (),
    tensors: Collection[str] = (),
    unchanged: Collection[str] = (),
) -> None:
    r"""Turn all that points somewhere, in place: :math:`v' = R v` and :math:`\sigma' = R \sigma R^T`.

    Args:
        data: A structure or a batch, which gets new tensors.
        matrix: The rotation or reflection R [3, 3].
        vectors: Further keys that are vectors [..., 3].
        tensors: Further keys that are tensors [..., 3, 3].
        unchanged: Keys that stay as they are.

    Raises:
        ValueError: If it is not clear whether a key is a vector, or a tensor does not have the shape of one; before
            anything is changed.

    Example:
        >>> data = Data(pos=torch.tensor([[1.0, 0.0, 0.0]]), energy=torch.tensor([2.0]))
        >>> turn(data, torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
        >>> data.pos.tolist(), data.energy.tolist()
        ([[0.0, 1.0, 0.0]], [2.0])
    """
    turned: dict[str, Tensor] = {}
    for key in data.keys():  # noqa: SIM118  a Data is no dictionary
        if key in unchanged:
            continue
        kind = "vector" if key in vectors else "tensor" if key in tensors else kind_of(data, key)
        if kind != "number":
            turned[key] = _turned(key, kind, data[key], matrix)
    for key, value in turned.items():
        data[key] = value


def _turned(key: str, kind: str, value: Any, matrix: Tensor) -> Tensor:
    shape = list(getattr(value, "shape", ()))
    if kind == "unknown":
        raise ValueError(
            f"`{key}` {shape} may be vectors that turn with the structure, or not; name it as one of `vectors`, "
            "`tensors` or `unchanged` of pyg_schnet.transforms.RandomRotate"
        )
    if kind == "voigt" or shape[-1:] != [3] or (kind == "tensor" and shape[-2:] != [3, 3]):
        expected = "[..., 3]" if kind == "vector" else "[..., 3, 3]"
        raise ValueError(f"`{key}` must have shape {expected} to turn with the structure, got {shape}")
    precise = matrix.to(value.device, torch.float64)
    rows = value.double() @ precise.T
    return (rows if kind == "vector" else precise @ rows).to(value.dtype)
