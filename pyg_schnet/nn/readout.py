"""From atoms to structures."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_geometric.nn.aggr import Aggregation
from torch_geometric.nn.resolver import aggregation_resolver

from pyg_schnet.nn.activation import ShiftedSoftplus
from pyg_schnet.nn.filter import dense, reset_dense
from pyg_schnet.nn.moments import DipoleMoment, Polarizability, SpatialExtent
from pyg_schnet.segments import add_up, in_segments

#: Aggregations of the atoms' contributions.
CONTRIBUTION_READOUTS = ("add", "sum", "mean", "max", "min", "mul", "median")


class Atomwise(nn.Module):
    r"""Prediction network: the contribution of each atom to the property.

    Atom-wise F to F/2, ssp, atom-wise F/2 to 1; Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.E and
    figure 1.

    Args:
        hidden_channels: Size of the atom features, at least two.
        out_channels: Number of properties.
        act: Activation; ``None`` for :class:`ShiftedSoftplus`.
        zero_output: True if the last layer starts at zero, as in the authors' code, so that an untrained model predicts
            the references.

    Example:
        >>> Atomwise(16)(torch.rand(3, 16)).shape
        torch.Size([3, 1])
    """

    def __init__(
        self, hidden_channels: int, out_channels: int = 1, act: nn.Module | None = None, zero_output: bool = False
    ) -> None:
        super().__init__()
        self.zero_output = zero_output
        self.lin1 = dense(hidden_channels, hidden_channels // 2)
        self.act = ShiftedSoftplus() if act is None else act
        self.lin2 = dense(hidden_channels // 2, out_channels)
        if zero_output:
            nn.init.zeros_(self.lin2.weight)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        reset_dense(self.lin1)
        reset_dense(self.lin2)
        if self.zero_output:
            nn.init.zeros_(self.lin2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Contribution of each atom.

        Args:
            x: Atom features [N, hidden_channels].

        Returns:
            Contributions [N, out_channels].
        """
        return self.lin2(self.act(self.lin1(x)))


class Readout(nn.Module):
    """From contributions of the atoms to the structure: sum for extensive, mean for intensive properties.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.E. Every structure gets a row, an empty one too.

    Args:
        readout: ``"add"`` (also ``"sum"``), ``"mean"`` or another aggregation of PyG without parameters that keeps the
            number of channels: ``"max"``, ``"min"``, ``"mul"``, ``"median"``.

    Raises:
        ValueError: If ``readout`` is none of these.

    Example:
        >>> Readout("mean")(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), batch_size=2).flatten()
        tensor([2., 0.])
    """

    def __init__(self, readout: str = "add") -> None:
        super().__init__()
        if readout not in CONTRIBUTION_READOUTS:
            raise ValueError(f"`readout` must be one of {', '.join(map(repr, CONTRIBUTION_READOUTS))}, got {readout!r}")
        self.aggr: Aggregation = aggregation_resolver(readout)
        self.reference = {"add": "add", "sum": "add", "mean": "mean"}.get(readout, "once")

    def forward(
        self, y: Tensor, batch: Tensor, batch_size: int, z: Tensor | None = None, pos: Tensor | None = None
    ) -> Tensor:
        """Aggregate over the atoms of each structure.

        Args:
            y: Contributions [N, C].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.
            z: Not used.
            pos: Not used.

        Returns:
            Properties [B, C].
        """
        if self.reference in {"add", "mean"} and in_segments(y):
            total = add_up(y, batch, batch_size, ascending=True)
            if self.reference == "add":
                return total
            return total / add_up(torch.ones_like(y[:, :1]), batch, batch_size, ascending=True).clamp(min=1)
        return self.aggr(y, batch, dim_size=batch_size, dim=0)


class FeatureReadout(nn.Module):
    """From features of the atoms to features of the structure by any aggregation of PyG.

    Args:
        aggr: An aggregation of PyG, for example ``Set2Set(64, processing_steps=3)``.

    Example:
        >>> from torch_geometric.nn.aggr import Set2Set
        >>> FeatureReadout(Set2Set(16, processing_steps=3))(torch.rand(4, 16), torch.tensor([0, 0, 1, 1]), 2).shape
        torch.Size([2, 32])
    """

    reference = "once"

    def __init__(self, aggr: Aggregation) -> None:
        super().__init__()
        self.aggr = aggr

    def reset_parameters(self) -> None:
        """Draw the weights of the aggregation anew."""
        self.aggr.reset_parameters()

    def out_channels(self, in_channels: int) -> int:
        """Size of the aggregated features.

        Args:
            in_channels: Size of the atoms' features.

        Returns:
            Size of the structures' features.

        Raises:
            ValueError: If the aggregation does not take features of this size.
        """
        first = next(self.aggr.parameters(), torch.zeros(()))
        try:
            with torch.no_grad():
                atoms = torch.zeros(2, in_channels, dtype=first.dtype, device=first.device)
                out = self(atoms, torch.zeros(2, dtype=torch.long, device=first.device), 1)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"the readout {type(self.aggr).__name__} does not take {in_channels} atom features ({reason})"
            ) from None
        if out.dim() != 2 or out.size(0) != 1:
            raise ValueError(
                f"the readout must give a row for each structure, {type(self.aggr).__name__} gave {list(out.shape)}"
            )
        return out.size(1)

    def forward(
        self, x: Tensor, batch: Tensor, batch_size: int, z: Tensor | None = None, pos: Tensor | None = None
    ) -> Tensor:
        """Aggregate over the atoms of each structure.

        Args:
            x: Atom features [N, F].
            batch: Structure of each atom [N], sorted.
            batch_size: Number of structures B.
            z: Not used.
            pos: Not used.

        Returns:
            Features of the structures [B, F'].
        """
        with sdpa_kernel(SDPBackend.MATH):  # the only attention that can be differentiated twice, for forces
            return self.aggr(x, batch, dim_size=batch_size, dim=0)


#: Readouts from latent charges.
MOMENTS: dict[str, Callable[..., nn.Module]] = {
    "dipole": DipoleMoment,
    "dipole_magnitude": partial(DipoleMoment, magnitude=True),
    "spatial_extent": SpatialExtent,
    "polarizability": Polarizability,
}


def make_readout(readout: str | nn.Module, hidden_channels: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A readout by its name.

    ========================================================  =======================================================
    name                                                      property of the structure
    ========================================================  =======================================================
    ``"add"``, ``"sum"``, ``"mean"``, ``"max"``, ``"min"``,   aggregated contributions of the atoms, see
    ``"mul"``, ``"median"``                                   :class:`Readout`
    ``"dipole"``, ``"dipole_magnitude"``                      see :class:`~pyg_schnet.nn.DipoleMoment`
    ``"spatial_extent"``                                      see :class:`~pyg_schnet.nn.SpatialExtent`
    ``"polarizability"``                                      see :class:`~pyg_schnet.nn.Polarizability`
    any other aggregation of PyG, for example ``"set2set"``,  output network of the atoms' aggregated features, see
    ``"attentional"``, ``"softmax"``                          :class:`FeatureReadout`
    ========================================================  =======================================================

    Args:
        readout: One of these names, or an aggregation of PyG (of which a file cannot be saved).
        hidden_channels: Size of the atom features; passed to aggregations that ask for it.
        options: Further arguments of an aggregation, or the ``masses`` of a dipole moment.

    Returns:
        The readout as a layer.

    Raises:
        TypeError: If ``readout`` is neither a string nor an aggregation.
        ValueError: If there is none of this name, or options do not fit.

    Example:
        >>> make_readout("set2set", 16, {"processing_steps": 2})
        FeatureReadout(
          (aggr): Set2Set(16, 32)
        )
    """
    if isinstance(readout, Aggregation):
        return FeatureReadout(readout)
    if not isinstance(readout, str):
        raise TypeError(f"`readout` must be a name or an Aggregation of PyG, got {type(readout).__name__}")
    if readout in CONTRIBUTION_READOUTS or readout in MOMENTS:
        allowed = {"masses"} if readout.startswith("dipole") else set()
        if set(options or {}) - allowed:
            raise ValueError(f"readout={readout!r} takes no `readout_options`, got {options}")
        return MOMENTS[readout](**(options or {})) if readout in MOMENTS else Readout(readout)
    name = readout.lower().replace("_", "").removesuffix("aggregation")
    if name in {"lstm", "gru"}:
        raise ValueError(f"readout={readout!r} depends on the order of the atoms; expected one that does not")
    defaults: dict[str, dict[str, Any]] = {
        "set2set": {"in_channels": hidden_channels, "processing_steps": 3},
        "attentional": {"gate_nn": nn.Linear(hidden_channels, 1)},
        "settransformer": {"channels": hidden_channels},
        "graphmultisettransformer": {"channels": hidden_channels},
    }
    try:
        return FeatureReadout(aggregation_resolver(name, **(defaults.get(name, {}) | (options or {}))))
    except (ValueError, TypeError, AssertionError) as error:
        known = ", ".join(map(repr, (*CONTRIBUTION_READOUTS, *MOMENTS)))
        raise ValueError(
            f"`readout` must be one of {known} or an aggregation of PyG with its `readout_options`, got {readout!r} "
            f"with {options or {}} ({(str(error).splitlines() or ['impossible sizes'])[0]})"
        ) from None
