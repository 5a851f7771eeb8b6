"""From atoms to structures."""

from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation
from torch_geometric.nn.resolver import aggregation_resolver

from pyg_schnet.nn.activation import ShiftedSoftplus
from pyg_schnet.nn.filter import dense, reset_dense


class Atomwise(nn.Module):
    r"""Prediction network: the contribution of each atom to the property.

    Atom-wise F to F/2, ssp, atom-wise F/2 to 1; Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.E and
    figure 1.

    Args:
        hidden_channels: Size of the atom features, at least two.
        out_channels: Number of properties.
        act: Activation; ``None`` for :class:`ShiftedSoftplus`.

    Example:
        >>> import torch
        >>> Atomwise(16)(torch.rand(3, 16)).shape
        torch.Size([3, 1])
    """

    def __init__(self, hidden_channels: int, out_channels: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.lin1 = dense(hidden_channels, hidden_channels // 2)
        self.act = ShiftedSoftplus() if act is None else act
        self.lin2 = dense(hidden_channels // 2, out_channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        reset_dense(self.lin1)
        reset_dense(self.lin2)

    def forward(self, x: Tensor) -> Tensor:
        """Contribution of each atom.

        Args:
            x: Atom features [N, hidden_channels].

        Returns:
            Contributions [N, out_channels].
        """
        return self.lin2(self.act(self.lin1(x)))


class Readout(nn.Module):
    """Sum (extensive properties) or mean (intensive properties) of the atoms' contributions.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.E. Every structure gets a row, an empty one too.

    Args:
        readout: ``"add"`` (also ``"sum"``) or ``"mean"``.

    Raises:
        ValueError: If ``readout`` is neither.

    Example:
        >>> import torch
        >>> Readout("mean")(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), batch_size=2).flatten()
        tensor([2., 0.])
    """

    def __init__(self, readout: str = "add") -> None:
        super().__init__()
        if readout not in {"add", "sum", "mean"}:
            raise ValueError(f"`readout` must be 'add' or 'mean', got {readout!r}")
        self.aggr: Aggregation = aggregation_resolver(readout)

    def forward(self, y: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Aggregate over the atoms of each structure.

        Args:
            y: Contributions [N, C].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.

        Returns:
            Properties [B, C].
        """
        return self.aggr(y, batch, dim_size=batch_size, dim=0)
