"""A potential: energy and forces from one call."""

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_schnet.graph import check_structures, may_inspect
from pyg_schnet.ops import forces_from_energy


class Potential(nn.Module):
    r"""Energy and forces of a model that predicts energies.

    .. math:: F_i = -\frac{\partial \hat E}{\partial r_i}

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (4). While the model is in training mode,
    energy and forces are differentiable again.

    Args:
        model: A model of energies with the methods ``residual`` and ``total`` of :class:`~pyg_schnet.SchNet`.

    Example:
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> out = Potential(SchNet.preset("jcp2018"))(water)
        >>> out["energy"].shape, out["forces"].shape
        (torch.Size([1]), torch.Size([3, 3]))
    """

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        data: Data | Tensor,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        batch_size: int | None = None,
    ) -> dict[str, Tensor]:
        """Energy and forces of each structure.

        Args:
            data: A PyG ``Data`` or ``Batch`` with ``z`` and ``pos``; or the atomic numbers [N], followed by ``pos``.
                The ``edge_index`` of a ``Data`` is used only beside an ``edge_shift``, as
                :class:`~pyg_schnet.transforms.RadiusGraph` writes it: elsewhere it usually holds chemical bonds.
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N]; ``None`` for one structure.
            edge_index: Neighbours j -> i [2, E]; ``None`` to search them.
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows in Angstrom [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures, needed only if the last ones may be empty.

        Returns:
            ``energy`` in eV [B] and ``forces`` in eV/Angstrom [N, 3]. The energy of a model with references is float64,
            whatever the dtype of the model: float32 cannot tell total energies apart.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values.
        """
        given = {"batch": batch, "edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        if isinstance(data, Data):
            if pos is not None or batch_size is not None or any(value is not None for value in given.values()):
                raise TypeError("pass either a Data object alone or tensors (z, pos, ...), not both")
            z, pos, batch_size, given = _tensors_of(data)
            if given["edge_index"] is not None:
                _check_reach(data.get("edge_cutoff"), self.model.cutoff)
        else:
            z = data
            if pos is None:
                raise TypeError("`pos` is missing: pass a Data object or the tensors z and pos")
        return self._evaluate(z, pos, batch_size, **given)

    def _evaluate(
        self, z: Tensor, pos: Tensor, batch_size: int | None, batch: Tensor | None, **graph: Tensor | None
    ) -> dict[str, Tensor]:
        differentiable = self.model.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            z, pos, batch = (_usable(tensor) for tensor in (z, pos, batch))
            graph = {name: _usable(tensor) for name, tensor in graph.items()}
            batch, batch_size = check_structures(pos, batch, batch_size)
            if not pos.requires_grad:
                pos = pos.detach().requires_grad_()
            residual = self.model.residual(z, pos, batch, batch_size, **graph)  # [B, 1]
            forces = forces_from_energy(residual, pos, create_graph=differentiable)
            energy = self.model.total(residual, z, batch, batch_size)
        energy = energy.squeeze(-1)  # [B]
        return {"energy": energy if differentiable else energy.detach(), "forces": forces}


def _check_reach(edge_cutoff: Tensor | None, cutoff: float) -> None:
    """Refuse a graph that ends before the model does; on a GPU the values are not looked at."""
    if edge_cutoff is not None and may_inspect(edge_cutoff) and float(edge_cutoff.min()) < cutoff * (1 - 1e-6):
        raise ValueError(
            f"the graph was built with a cutoff of {float(edge_cutoff.min()):g} Angstrom, the model needs {cutoff:g}; "
            f"build it with RadiusGraph({cutoff:g})"
        )


def _usable(tensor: Any) -> Any:
    """The tensor itself, or a copy that autograd may use if it was made in inference mode."""
    return tensor.clone() if isinstance(tensor, Tensor) and tensor.is_inference() else tensor


def _tensors_of(data: Data) -> tuple[Tensor, Tensor, int | None, dict[str, Tensor | None]]:
    """Atomic numbers, positions, number of structures and the optional tensors of a Data object."""
    for name in ("z", "pos"):
        if not isinstance(data.get(name), Tensor):
            raise ValueError(f"`data` must have `z` [N] and `pos` [N, 3]; `{name}` is missing")
    optional = {name: data.get(name) for name in ("batch", "edge_shift", "cell", "pbc")}
    optional["edge_index"] = data.get("edge_index") if optional["edge_shift"] is not None else None
    batch_size = data.num_graphs if isinstance(data, Batch) else None
    return data.z, data.pos, batch_size, optional
