"""What the operations of the tabulated convolution are given, in three parts that always come together."""

from typing import NamedTuple

from torch import Tensor


class Pairs(NamedTuple):
    """Edges as the form of :mod:`pyg_schnet.fast.convolution` reads them.

    Attributes:
        d: Distances in Angstrom [E].
        s: Weights [E]; ``None`` for ones.
        target: Index i of the atom that receives [E].
        source: Index j of the atom that sends [E].
    """

    d: Tensor
    s: Tensor | None
    target: Tensor
    source: Tensor

    def reversed(self) -> "Pairs":
        """The same edges with their ends exchanged."""
        return Pairs(self.d, self.s, self.source, self.target)


class Form(NamedTuple):
    """Which form it is.

    Attributes:
        start: First knot in Angstrom.
        spacing: Distance between knots in Angstrom.
        order: Order p of the derivative of the table.
        symmetric: True if each edge stands for both of its directions.
    """

    start: float
    spacing: float
    order: int
    symmetric: bool

    def next_order(self) -> "Form":
        """The same with the next derivative of the table."""
        return self._replace(order=self.order + 1)
