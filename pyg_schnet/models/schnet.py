"""SchNet, top to bottom as in the paper."""

import inspect
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyg_schnet.graph import check_structures, radius_graph, within_cutoff
from pyg_schnet.models.inputs import check_atoms, check_cell, check_distances, check_edges
from pyg_schnet.models.presets import preset_arguments
from pyg_schnet.nn import (
    AtomEmbedding,
    Atomwise,
    CosineCutoff,
    GaussianSmearing,
    InteractionBlock,
    NoCutoff,
    Readout,
    Reference,
    ShiftedSoftplus,
)
from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.ops import edge_vectors


class SchNet(nn.Module):
    r"""SchNet: properties of molecules and materials from continuous-filter convolutions.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II and figure 1:

    .. math::
        x_i^0 &= a_{Z_i} && (1) \\
        x_i^{l+1} &= x_i^l + v_i^l, \quad
            v_i^l = \mathrm{dense}\,\mathrm{ssp}\,\mathrm{dense} \sum_j (\mathrm{dense}\, x_j^l) \circ W^l(d_{ij}) &&
            (2, 3) \\
        \hat P &= \sum_i \hat P_i, \quad \hat P_i = \mathrm{dense}\,\mathrm{ssp}\,\mathrm{dense}\, x_i^T

    The first arguments are those of PyG's SchNet, with its defaults; :meth:`preset` gives the variants of the papers.
    Every pair within the cutoff interacts: the graph is exact and never truncated.

    Args:
        hidden_channels: Size F of the atom features.
        num_filters: Number of filters.
        num_interactions: Number T of interaction blocks.
        num_gaussians: Number of Gaussians from 0 to ``cutoff``.
        cutoff: Distance in Angstrom up to which atoms interact.
        readout: ``"add"`` for extensive, ``"mean"`` for intensive properties.
        mean: Mean of the property per atom, see :class:`~pyg_schnet.nn.Reference`.
        std: Standard deviation of the property per atom.
        atomref: Property of single atoms by atomic number, up to [max_z + 1, 1].
        gamma: Inverse squared width of the Gaussians in 1/Angstrom^2, ``None`` for PyG's.
        cutoff_function: ``"cosine"`` or ``None``; without one, the energy jumps when a pair crosses the cutoff.
        activate_last: Whether the filter networks activate their second layer, as in the papers.
        act: Activation: ``"ssp"``, or ``"ssp-pyg"`` for PyG's, see :mod:`~pyg_schnet.models.presets`.
        normalization: Normalisation of the convolution by the number of neighbours: ``"mean"`` as in the paper for
            crystals, ``"smooth"`` (see :class:`~pyg_schnet.nn.NeighborNormalization`) or ``None``.
        max_z: Largest atomic number.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> model = SchNet.preset("jcp2018", num_interactions=3)
        >>> z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> model(z, pos).shape
        torch.Size([1, 1])
    """

    def __init__(
        self,
        hidden_channels: int = 128,
        num_filters: int = 128,
        num_interactions: int = 6,
        num_gaussians: int = 50,
        cutoff: float = 10.0,
        *,
        readout: str = "add",
        mean: float | None = None,
        std: float | None = None,
        atomref: Tensor | None = None,
        gamma: float | None = None,
        cutoff_function: str | None = "cosine",
        activate_last: bool = False,
        act: str = "ssp",
        normalization: str | None = None,
        max_z: int = 118,
    ) -> None:
        super().__init__()
        _check_sizes(hidden_channels=hidden_channels, num_filters=num_filters, max_z=max_z)
        if hidden_channels < 2 or num_interactions < 0:
            raise ValueError(
                "`hidden_channels` must be at least 2 and `num_interactions` at least 0, "
                f"got {hidden_channels} and {num_interactions}"
            )
        self.cutoff = check_positive("cutoff", cutoff)
        self.config: dict[str, Any] = {  # what `save` writes; references travel as tensors
            "hidden_channels": hidden_channels,
            "num_filters": num_filters,
            "num_interactions": num_interactions,
            "num_gaussians": num_gaussians,
            "cutoff": self.cutoff,
            "readout": readout,
            "gamma": gamma,
            "cutoff_function": cutoff_function,
            "activate_last": activate_last,
            "act": act,
            "normalization": normalization,
            "max_z": max_z,
        }
        self.embedding = AtomEmbedding(max_z, hidden_channels)
        self.basis = GaussianSmearing(0.0, self.cutoff, num_gaussians, gamma)
        envelope, activation = _cutoff_function(cutoff_function, self.cutoff), _activation(act)
        self.interactions = nn.ModuleList(
            InteractionBlock(
                hidden_channels, num_gaussians, num_filters, envelope, activate_last, activation, normalization
            )
            for _ in range(num_interactions)
        )
        self.output = Atomwise(hidden_channels, act=activation)
        self.readout = Readout(readout)
        self.reference = Reference(max_z, mean, std, atomref)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Self:
        """A named variant, see :mod:`pyg_schnet.models.presets` for the differences.

        Args:
            name: ``"jcp2018"`` (the paper, molecules), ``"jcp2018-materials"`` (the paper, crystals) or ``"pyg"``
                (PyG's SchNet).
            **overrides: Arguments that replace those of the preset.

        Returns:
            The model, weights drawn at random.

        Raises:
            ValueError: If there is no such preset.
            TypeError: If an override is no argument of SchNet.
        """
        known = inspect.signature(cls).parameters
        for argument in overrides:
            if argument not in known:
                raise TypeError(f"SchNet has no argument {argument!r}; expected one of {', '.join(known)}")
        return cls(**preset_arguments(name, **overrides))

    def reset_parameters(self) -> None:
        """Draw all weights anew; references stay."""
        self.embedding.reset_parameters()
        for interaction in self.interactions:
            interaction.reset_parameters()  # type: ignore[operator]
        self.output.reset_parameters()

    def forward(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Predict the property of each structure, references included, in the dtype of the model.

        Args:
            z: Atomic numbers [N] int64.
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N] int64, sorted; ``None`` for one structure.
            edge_index: Neighbours j -> i [2, E]; ``None`` to search all pairs within the cutoff.
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures, needed only if the last ones may be empty.

        Returns:
            Properties [B, 1].

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values.
        """
        batch, batch_size = check_structures(pos, batch, batch_size)
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        residual = self.residual(z, pos, batch, batch_size, **graph)
        return self.total(residual, z, batch, batch_size).to(residual.dtype)

    def residual(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor,
        batch_size: int,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
    ) -> Tensor:
        """What the network adds to the references; arguments as in :meth:`forward`, ``batch`` checked.

        Returns:
            Properties less their references [B, 1].
        """
        check_atoms(z, pos, self.embedding.weight.dtype)
        check_cell(cell, pos)
        if edge_index is None:
            graph = radius_graph(pos, self.cutoff, batch, cell, pbc, batch_size=batch_size)
            edge_index, (pairs, edge_pair) = graph.edge_index, graph.pairs()
            edge_vec = edge_vectors(pos, edge_index[:, pairs], graph.edge_shift[pairs], cell, batch)
            edge_weight = edge_vec.norm(dim=-1)  # [E / 2] distances: i -> j has that and the filter of j -> i
        else:
            check_edges(edge_index, edge_shift, cell, batch, batch_size)
            edge_weight, edge_pair = edge_vectors(pos, edge_index, edge_shift, cell, batch).norm(dim=-1), None  # [E]
            check_distances(edge_weight, edge_index)
            # a graph for a larger cutoff has more edges
            inside = within_cutoff(pos, edge_index, edge_shift, cell, batch, self.cutoff)
            edge_weight, edge_index = edge_weight[inside], edge_index[:, inside]
        edge_attr = self.basis(edge_weight)  # [E or E / 2, G]

        x = self.embedding(z)  # [N, F]  equation (1)
        for interaction in self.interactions:
            x = x + interaction(x, edge_index, edge_weight, edge_attr, edge_pair)  # equations (2) and (3)
        y = self.output(x)  # [N, 1]
        return self.reference.std * self.readout(y, batch, batch_size)  # [B, 1]

    def total(self, residual: Tensor, z: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Add the references of each structure.

        Args:
            residual: What :meth:`residual` returned [B, 1].
            z: Atomic numbers [N].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.

        Returns:
            Properties [B, 1]: float64, or the residual itself if there are no references.
        """
        if self.reference.trivial:
            return residual
        return residual.double() + self.readout(self.reference(z), batch, batch_size)

    def extra_repr(self) -> str:
        """The arguments, for printing."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())


def _cutoff_function(name: str | None, cutoff: float) -> nn.Module:
    if name is None:
        return NoCutoff()
    if name != "cosine":
        raise ValueError(f"`cutoff_function` must be 'cosine' or None, got {name!r}")
    return CosineCutoff(cutoff)


def _activation(name: str) -> nn.Module:
    if name not in {"ssp", "ssp-pyg"}:
        raise ValueError(f"`act` must be 'ssp' or 'ssp-pyg', got {name!r}")
    return ShiftedSoftplus() if name == "ssp" else ShiftedSoftplus(float(torch.tensor(2.0).log()), linear_from=20.0)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise TypeError(f"`{name}` must be an int, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"`{name}` must be at least 1, got {size}")
