"""A batch of structures as one object, whichever way a model was called."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.graph import Edges, can_inspect, check_structures
from pyg_schnet.models.charges import Electrons

_KEYS = ("z", "pos", "batch", "edge_index", "edge_shift", "cell", "pbc")


@dataclass(slots=True)
class Structures:
    """What a model is asked about; not checked until :meth:`check` or :meth:`find_edges` is called.

    Attributes:
        z: Atomic numbers [N].
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N]; ``None`` for one structure, until it is checked.
        batch_size: Number of structures B; ``None`` if it was not said, until it is checked.
        edge_index: Neighbours j -> i [2, E], if they are given.
        edge_shift: Image of the source of each edge [E, 3], if they are given.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3], if there are any.
        pbc: Periodic axes [B, 3], if there are any.
        edges: Edges within the cutoff of a model, once they are known.
        electrons: What a ``Data`` says of its charges and unpaired electrons, which models do not look at.
    """

    z: Any
    pos: Any
    batch: Any = None
    batch_size: Any = None
    edge_index: Tensor | None = None
    edge_shift: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | None = None
    edges: Edges | None = None
    electrons: Electrons | None = None

    @classmethod
    def of(cls, data: Any, pos: Any, cutoff: float, batch_size: int | None = None, **optional: Any) -> Self:
        """From either way to call a model.

        Args:
            data: A ``Data`` or ``Batch``, or the atomic numbers [N].
            pos: Positions [N, 3]; ``None`` beside a ``Data``.
            cutoff: That of the model, in Angstrom.
            batch_size: Number of structures, if it is given.
            **optional: The tensors ``batch``, ``edge_index``, ``edge_shift``, ``cell`` and ``pbc``, or ``None``.

        Returns:
            The structures.

        Raises:
            TypeError: If neither or both are given.
            ValueError: If something is missing in the ``Data``, or its graph was made with a smaller cutoff.
        """
        if not isinstance(data, Data):
            if isinstance(data, (list, tuple)) and data and all(isinstance(one, Data) for one in data):
                raise TypeError("`data` is a list of Data; pass them as one batch: Batch.from_data_list(data)")
            if pos is None:
                raise TypeError("`pos` is missing: pass a Data object or the tensors z and pos")
            return cls(data, pos, batch_size=batch_size, **optional)
        if pos is not None or batch_size is not None or [*optional.values()].count(None) < len(optional):
            raise TypeError("pass either a Data object alone or tensors (z, pos, ...), not both")
        return cls.of_data(data, cutoff)

    @classmethod
    def of_data(cls, data: Data, cutoff: float) -> Self:
        """From a ``Data`` or ``Batch``.

        Its ``edge_index`` is taken only beside an ``edge_shift``: elsewhere it usually holds chemical bonds.

        Args:
            data: Structures with ``z`` and ``pos``.
            cutoff: That of the model, in Angstrom.

        Returns:
            The structures.

        Raises:
            ValueError: If a tensor is missing or the graph was made with a smaller cutoff.
        """
        z, pos, batch, edge_index, edge_shift, cell, pbc = map(data.get, _KEYS)
        if not isinstance(z, Tensor) or not isinstance(pos, Tensor):
            name = "pos" if isinstance(z, Tensor) else "z"
            raise ValueError(f"`data` must have `z` [N] and `pos` [N, 3]; `{name}` is missing")
        if edge_shift is None:
            edge_index = None
        if edge_index is not None:
            _check_reach(data.get("edge_cutoff"), cutoff)
        batch_size = data.num_graphs if isinstance(data, Batch) else None
        electrons = Electrons.of(data)
        return cls(z, pos, batch, batch_size, edge_index, edge_shift, cell, pbc, electrons=electrons)

    def check(self) -> Self:
        """Check positions and batch, and fill in the batch of one structure.

        Tensors that were made in inference mode, which autograd cannot use, are replaced by copies outside of it.

        Returns:
            The structures themselves.

        Raises:
            TypeError: If they are of the wrong kind.
            ValueError: If they have the wrong shape or impossible values.
        """
        if not torch.compiler.is_compiling() and not torch.is_inference_mode_enabled():
            for name in _KEYS:
                setattr(self, name, usable(getattr(self, name)))
        self.batch, self.batch_size = check_structures(self.pos, self.batch, self.batch_size)
        return self

    def find_edges(self, model: Any) -> Edges:
        """The edges within the cutoff of a model; all input is checked when they are first asked for.

        Args:
            model: The model.

        Returns:
            The edges.

        Raises:
            TypeError: If something is of the wrong kind.
            ValueError: If something has the wrong shape or impossible values.
        """
        if self.edges is None:
            self.check()
            given = {"edge_index": self.edge_index, "edge_shift": self.edge_shift, "cell": self.cell, "pbc": self.pbc}
            self.edges = model.edges(self.z, self.pos, self.batch, self.batch_size, **given)
        return self.edges

    @property
    def structure_of_atoms(self) -> tuple[Tensor, int]:
        """Structure of each atom [N], and the number of structures B."""
        return self.batch, self.batch_size

    def with_edges(self, edges: Edges) -> Self:
        """The same structures with edges that are known already."""
        return dataclasses.replace(self, edges=edges)


def usable(tensor: Any) -> Any:
    """The tensor itself, or a copy that autograd may use if it was made in inference mode.

    Args:
        tensor: A tensor or ``None``.

    Returns:
        The same values.
    """
    return tensor.clone() if isinstance(tensor, Tensor) and tensor.is_inference() else tensor


def _check_reach(edge_cutoff: Tensor | None, cutoff: float) -> None:
    """Refuse a graph that ends before the model does; on a GPU the values are not looked at."""
    if edge_cutoff is not None and can_inspect(edge_cutoff) and float(edge_cutoff.min()) < cutoff * (1 - 1e-6):
        raise ValueError(
            f"the graph was built with a cutoff of {float(edge_cutoff.min()):g} Angstrom, the model needs {cutoff:g}; "
            f"build it with RadiusGraph({cutoff:g})"
        )
