"""Cutoff functions as layers."""

import numbers

import torch
from torch import Tensor, nn

from pyg_schnet.ops import cosine_cutoff, mollifier_cutoff, polynomial_cutoff


def check_positive(name: str, value: float) -> float:
    """Return ``value``, or raise an error that names it if it is no positive and finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    if not 0.0 < value < float("inf"):
        raise ValueError(f"`{name}` must be positive, got {value}")
    return float(value)


class CosineCutoff(nn.Module):
    """Cosine cutoff, exactly zero at and beyond ``cutoff``, see :func:`pyg_schnet.ops.cosine_cutoff`.

    Args:
        cutoff: Cutoff distance in Angstrom.

    Raises:
        ValueError: If ``cutoff`` is not positive.

    Example:
        >>> CosineCutoff(5.0)(torch.tensor([0.0, 5.0]))
        tensor([1., 0.])
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = check_positive("cutoff", cutoff)

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Factor of each edge.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            Factors between 0 and 1 [E].
        """
        return cosine_cutoff(edge_weight, self.cutoff)

    def extra_repr(self) -> str:
        """The cutoff, for printing."""
        return f"cutoff={self.cutoff}"


class MollifierCutoff(CosineCutoff):
    """Mollifier cutoff, smooth to all orders, see :func:`pyg_schnet.ops.mollifier_cutoff`.

    Args:
        cutoff: Cutoff distance in Angstrom.

    Raises:
        ValueError: If ``cutoff`` is not positive.

    Example:
        >>> MollifierCutoff(5.0)(torch.tensor([0.0, 5.0]))
        tensor([1., 0.])
    """

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Factor of each edge.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            Factors between 0 and 1 [E].
        """
        return mollifier_cutoff(edge_weight, self.cutoff)


class PolynomialCutoff(CosineCutoff):
    """Polynomial cutoff, its first and second derivative continuous, see :func:`pyg_schnet.ops.polynomial_cutoff`.

    Args:
        cutoff: Cutoff distance in Angstrom.
        exponent: Exponent p, at least 1.

    Raises:
        ValueError: If ``cutoff`` is not positive or ``exponent`` less than 1.

    Example:
        >>> PolynomialCutoff(5.0)(torch.tensor([0.0, 5.0]))
        tensor([1., 0.])
    """

    def __init__(self, cutoff: float, exponent: int = 6) -> None:
        super().__init__(cutoff)
        if exponent < 1:
            raise ValueError(f"`exponent` must be at least 1, got {exponent}")
        self.exponent = exponent

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Factor of each edge.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            Factors between 0 and 1 [E].
        """
        return polynomial_cutoff(edge_weight, self.cutoff, self.exponent)


def vanishes(cutoff: nn.Module, distance: float) -> bool:
    """True if a cutoff function is exactly zero from a distance on, as far as that is known.

    Args:
        cutoff: The function.
        distance: The distance in Angstrom.

    Returns:
        True for the cutoff functions of this package.

    Example:
        >>> vanishes(CosineCutoff(5.0), 5.0), vanishes(NoCutoff(), 5.0)
        (True, False)
    """
    known = type(cutoff) in {CosineCutoff, MollifierCutoff, PolynomialCutoff}
    return known and isinstance(cutoff, CosineCutoff) and cutoff.cutoff <= distance


class NoCutoff(nn.Module):
    """No cutoff function, as in the papers: a filter enters with factor one up to the end of its graph.

    Example:
        >>> NoCutoff()(torch.tensor([0.0, 5.0]))
        tensor([1., 1.])
    """

    def forward(self, edge_weight: Tensor) -> Tensor:
        """Factor one for each edge.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            Ones [E].
        """
        return torch.ones_like(edge_weight)


#: Cutoff functions by name; ``None`` is none.
CUTOFF_FUNCTIONS: dict[str | None, type[nn.Module]] = {
    "cosine": CosineCutoff,
    "mollifier": MollifierCutoff,
    "polynomial": PolynomialCutoff,
    None: NoCutoff,
}


def cutoff_function(name: str | None, cutoff: float) -> nn.Module:
    """A cutoff function by its name.

    Args:
        name: One of :data:`CUTOFF_FUNCTIONS`.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        The cutoff function as a layer.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in CUTOFF_FUNCTIONS:
        raise ValueError(f"`cutoff_function` must be one of {', '.join(map(repr, CUTOFF_FUNCTIONS))}, got {name!r}")
    return NoCutoff() if name is None else CUTOFF_FUNCTIONS[name](cutoff)
