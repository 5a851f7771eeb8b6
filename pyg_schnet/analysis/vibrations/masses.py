"""Masses of the atoms of a structure."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data


def atomic_masses(data: Data, masses: Tensor | Sequence[float] | None = None) -> Tensor:
    """The masses of the atoms: those given, else those of the structure, else the standard atomic weights.

    Args:
        data: A structure with ``z`` [n] and, for isotopes, ``mass`` or ``masses`` [n].
        masses: Masses in atomic mass units [n], for example ``atoms.get_masses()`` of ASE.

    Returns:
        Masses in atomic mass units [n] float64; standard weights are those of ASE (IUPAC 2016).

    Raises:
        ImportError: If ASE is needed and missing.
        TypeError: If masses are no numbers.
        ValueError: If there is not one positive mass for each atom, or no such element.

    Example:
        >>> atomic_masses(Data(z=torch.tensor([8, 1])), [15.995, 2.014]).tolist()
        [15.995, 2.014]
    """
    given: Any = masses
    if given is None:
        given = next((data[name] for name in ("mass", "masses") if data.get(name) is not None), None)
    numbers = data.z.detach().cpu().long()
    if given is None:
        return _standard(numbers)
    try:
        found = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError):
        raise TypeError(f"`masses` must be a number for each atom [{len(numbers)}], got {given!r}") from None
    if found.numel() != len(numbers):
        raise ValueError(f"`masses` must have shape [{len(numbers)}], one for each atom, got {list(found.shape)}")
    found = found.reshape(-1)
    wrong = ~(found.isfinite() & (found > 0))
    if wrong.any():
        atom = int(wrong.nonzero()[0])
        raise ValueError(f"`masses` must be positive, in atomic mass units, got {float(found[atom])} for atom {atom}")
    return found


def _standard(numbers: Tensor) -> Tensor:
    try:
        from ase.data import atomic_masses as weights  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            'standard masses need ASE; install it with pip install "pyg_schnet[md]" or pass `masses`'
        ) from error
    possible = (numbers > 0) & (numbers < len(weights))
    if not possible.all():
        atom = int((~possible).nonzero()[0])
        raise ValueError(f"atom {atom} has the atomic number {int(numbers[atom])}, which has no mass; pass `masses`")
    return torch.tensor(weights[numbers.numpy()], dtype=torch.float64)
