"""Net charges and unpaired electrons of structures, as far as these say them.

A network of atomic numbers and positions knows nothing of either: an ammonium ion and NH4 are the same to it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.batching import CHARGES, MULTIPLICITIES
from pyg_schnet.graph import can_inspect


class UnknownChargeWarning(UserWarning):
    """Structures with a net charge, or with unpaired electrons, that no training example had."""


class Electrons(NamedTuple):
    """What structures say of their electrons; what they do not say is nowhere assumed.

    Attributes:
        charge: Net charge of each structure [B] float64, NaN where it is not said; ``None`` if it is said nowhere.
        unpaired: Number of unpaired electrons [B] float64, likewise.
    """

    charge: Tensor | None
    unpaired: Tensor | None

    @classmethod
    def of(cls, data: Data) -> Self | None:
        """What a ``Data`` or ``Batch`` says.

        Args:
            data: Structures, with any of ``charge``, ``total_charge``, ``multiplicity`` and ``spin_multiplicity``, each
                one number for each structure; other shapes, as those of charges of atoms, are not looked at.

        Returns:
            What is said, ``None`` if nothing is.

        Example:
            >>> Electrons.of(Data(charge=torch.tensor([-1]), multiplicity=torch.tensor([1])))
            Electrons(charge=tensor([-1.], dtype=torch.float64), unpaired=tensor([0.], dtype=torch.float64))
        """
        store = data._store._mapping
        said = [[store[name] for name in names if name in store] for names in (CHARGES, MULTIPLICITIES)]
        if not any(said):
            return None
        batch, count = store.get("batch"), 1
        if isinstance(data, Batch):
            count = data.num_graphs
        elif isinstance(batch, Tensor):
            if not can_inspect(batch):
                return None
            count = int(batch.max()) + 1
        charge, multiplicity = (next(filter(_is_there, (_numbers(one, count) for one in part)), None) for part in said)
        unpaired = None if multiplicity is None else torch.where(multiplicity >= 1, multiplicity - 1, torch.nan)
        return None if charge is None and unpaired is None else cls(charge, unpaired)


def said_of(fields: Any) -> dict[str, Any]:
    """What fields of a structure say of its electrons.

    Args:
        fields: A mapping by name, such as ``info`` of ASE's ``Atoms``.

    Returns:
        ``charge`` and ``multiplicity``, those that are said.

    Example:
        >>> said_of({"total_charge": -1, "name": "acetate"})
        {'charge': -1.0}
    """
    found = {}
    for key, names in (("charge", CHARGES), ("multiplicity", MULTIPLICITIES)):
        for value in (fields[name] for name in names if name in fields):
            number = _numbers(value, 1)
            if number is not None and bool(number.isfinite()) and not (key == "multiplicity" and number < 1):
                found[key] = float(number)
                break
    return found


def electrons_in(batch: Batch) -> tuple[dict[float, int], dict[int, int]]:
    """Charges and unpaired electrons of training examples; one that does not say its charge counts as neutral.

    Where no multiplicity is said, the lowest one that fits is meant: an odd number of electrons has one unpaired.

    Args:
        batch: Structures with ``z`` [N] and ``batch`` [N].

    Returns:
        Number of structures by net charge, and by number of unpaired electrons.

    Example:
        >>> ammonium = Data(z=torch.tensor([7, 1, 1, 1, 1]), pos=torch.zeros(5, 3), charge=torch.tensor([1]))
        >>> electrons_in(Batch.from_data_list([ammonium, ammonium]))
        ({1: 2}, {0: 2})
    """
    said = Electrons.of(batch) or Electrons(None, None)
    nothing = np.full(batch.num_graphs, np.nan)
    charge, unpaired = (nothing if part is None else part.detach().cpu().numpy() for part in said)
    charge = tenths(np.nan_to_num(charge))
    protons = np.bincount(batch.batch.cpu().numpy(), batch.z.reshape(-1).cpu().numpy(), batch.num_graphs)
    fewest = np.mod(np.round(protons - charge), 2)
    return counted(charge), {int(n): c for n, c in counted(np.where(np.isnan(unpaired), fewest, unpaired)).items()}


def counted(values: NDArray) -> dict[float, int]:
    """How often each number occurs; whole ones as integers."""
    found, counts = np.unique(values, return_counts=True)
    return {whole(one): count for one, count in zip(found.tolist(), counts.tolist(), strict=True)}


def whole(number: float) -> float:
    """The integer that a number is, else the number."""
    return int(number) if number == int(number) else number


def tenths(charge: Any) -> Any:
    """Charges to one digit, which is more than sums of charges of atoms are rounded by.

    Args:
        charge: A tensor or array.

    Returns:
        The same, rounded, without negative zeros.
    """
    return (10 * charge).round() / 10 + 0.0


def of_charge(charge: float) -> str:
    """A net charge in words.

    Example:
        >>> of_charge(0), of_charge(-1), of_charge(0.5)
        ('no net charge', 'a net charge of -1', 'a net charge of +0.5')
    """
    return f"a net charge of {charge:+g}" if charge else "no net charge"


def of_unpaired(count: float) -> str:
    """Unpaired electrons in words.

    Example:
        >>> of_unpaired(0), of_unpaired(1), of_unpaired(2)
        ('no unpaired electron', '1 unpaired electron', '2 unpaired electrons')
    """
    return f"{count:g} unpaired electron{'s' if count > 1 else ''}" if count else "no unpaired electron"


def either(words: Iterable[str]) -> str:
    """Several things of which each occurs."""
    return " or ".join(words)


def _numbers(value: Any, count: int) -> Tensor | None:
    """One number for each structure [B] float64, ``None`` if that is something else."""
    if isinstance(value, (str, bytes, bool)) or value is None:
        return None
    try:
        found = torch.as_tensor(value).detach()
    except (TypeError, ValueError, RuntimeError):
        return None
    usual = found.numel() == count and found.dtype != torch.bool and not found.is_complex()
    return found.reshape(-1).double() if usual else None


def _is_there(value: Any) -> bool:
    return value is not None
