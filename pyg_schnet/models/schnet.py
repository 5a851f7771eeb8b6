"""SchNet, top to bottom as in the paper."""

from typing import Any, Self

from torch import Tensor, nn

from pyg_schnet.fast.features import features_at_once
from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.graph import Edges
from pyg_schnet.models.arguments import architecture, common
from pyg_schnet.models.atomistic import AtomisticModel, check_sizes
from pyg_schnet.models.constructors import Published
from pyg_schnet.models.presets import Presets, preset_arguments
from pyg_schnet.models.spellings import check_spellings
from pyg_schnet.nn import InteractionBlock
from pyg_schnet.nn.activation import activation
from pyg_schnet.nn.basis import radial_basis
from pyg_schnet.nn.cutoff import check_positive, vanishes
from pyg_schnet.nn.cutoff import cutoff_function as make_cutoff
from pyg_schnet.nn.reference import PerTarget


class SchNet(TabulatedFilters, Published, AtomisticModel):
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
        readout: ``"add"`` for extensive, ``"mean"`` for intensive properties, ``"dipole"``, ``"dipole_magnitude"``,
            ``"spatial_extent"``, ``"polarizability"`` or any aggregation of PyG, see
            :func:`~pyg_schnet.nn.make_readout`.
        mean: Mean of the property per atom, see :class:`~pyg_schnet.nn.Reference`.
        std: Standard deviation of the property per atom.
        atomref: Property of single atoms by atomic number, up to [max_z + 1, C].
        out_channels: Number of targets C.
        basis: Radial basis: ``"gaussian"`` or ``"bessel"``.
        trainable_basis: True if centres and widths (or frequencies) of the basis are learned.
        gamma: Inverse squared width of the Gaussians in 1/Angstrom^2, ``None`` for PyG's.
        cutoff_function: ``"cosine"``, ``"mollifier"``, ``"polynomial"`` or ``None``; without one, the energy jumps when
            a pair crosses the cutoff.
        activate_last: True if the filter networks activate their second layer, as in the papers.
        act: Activation, see :data:`~pyg_schnet.nn.activation.ACTIVATIONS`.
        output_act: Activation of the output network; ``None`` for ``act``.
        normalization: Normalisation of the convolution by the number of neighbours: ``"mean"`` as in the paper for
            crystals, ``"smooth"`` (see :class:`~pyg_schnet.nn.NeighborNormalization`) or ``None``.
        shared_interactions: True if all interaction blocks have the same weights.
        zero_output: True if the last layer starts at zero, as in the authors' code; with ``"dipole_magnitude"`` it does
            not, as the length of a vector has no gradient there.
        filters: How filters are evaluated, ``"exact"``, ``"table"`` or ``"auto"``, see
            :class:`~pyg_schnet.fast.tabulated.TabulatedFilters`; no part of the architecture.
        knot_spacing: Likewise.
        readout_options: Arguments of the readout, for example ``{"processing_steps": 3}`` of ``"set2set"``.
        repulsion: ``"zbl"`` to add the repulsion of nuclei at short distance, see :class:`~pyg_schnet.nn.ZBLRepulsion`;
            for energies in eV only.
        max_z: Largest atomic number.
        **spellings: Arguments of PyG's SchNet that mean the same here: ``interaction_graph`` (exact, of this cutoff),
            ``max_num_neighbors=None``, ``dipole=False``. Others are refused with what to write instead.

    Raises:
        TypeError: If there is no such argument.
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
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
        readout: str | nn.Module = "add",
        mean: PerTarget | None = None,
        std: PerTarget | None = None,
        atomref: Tensor | None = None,
        out_channels: int = 1,
        basis: str = "gaussian",
        trainable_basis: bool = False,
        gamma: float | None = None,
        cutoff_function: str | None = "cosine",
        activate_last: bool = False,
        act: str = "ssp",
        output_act: str | None = None,
        normalization: str | None = None,
        shared_interactions: bool = False,
        zero_output: bool = False,
        filters: str = "auto",
        knot_spacing: float | None = None,
        readout_options: dict[str, Any] | None = None,
        repulsion: str | None = None,
        max_z: int = 118,
        **spellings: Any,
    ) -> None:
        check_spellings(spellings, SchNet, cutoff)
        config = architecture(SchNet, locals())
        config["cutoff"] = check_positive("cutoff", cutoff)
        ssp = activation(act)
        if output_act is not None:
            activation(output_act, "output_act")
        labels: dict[str, Any] = {"mean": mean, "std": std, "atomref": atomref}
        super().__init__(
            **common(config),
            config=config,
            act=act if output_act is None else output_act,
            **labels,
            filters=filters,
            knot_spacing=knot_spacing,
        )
        check_sizes(num_filters=num_filters, num_gaussians=num_gaussians)
        if not isinstance(num_interactions, int):
            raise TypeError(f"`num_interactions` must be an int, got {type(num_interactions).__name__}")
        if num_interactions < 0:
            raise ValueError(f"`num_interactions` must be at least 0, got {num_interactions}")
        self.basis = radial_basis(basis, self.cutoff, num_gaussians, gamma, trainable_basis)
        envelope = make_cutoff(cutoff_function, self.cutoff)
        blocks = min(1, num_interactions) if shared_interactions else num_interactions
        self.interactions = nn.ModuleList(
            InteractionBlock(hidden_channels, num_gaussians, num_filters, envelope, activate_last, ssp, normalization)
            for _ in range(blocks)
        )

    @property
    def num_interactions(self) -> int:
        """Number T of interactions: of all blocks there are, or of calls of the one that all share."""
        return int(self.config["num_interactions"]) if self.config["shared_interactions"] else len(self.interactions)

    def represent(self, z: Tensor, edges: Edges) -> Tensor:
        """Features of the atoms after all interactions.

        Args:
            z: Atomic numbers [N].
            edges: Edges within the cutoff.

        Returns:
            Features [N, hidden_channels].
        """
        edge_index, edge_pair = edges.edge_index, edges.edge_pair
        edge_weight = edges.edge_vec.norm(dim=-1)  # [P]
        x = self.embedding(z)  # [N, F]  equation (1)
        if (at_once := features_at_once(self, x, edges, edge_weight)) is not None:
            return at_once
        for interaction, edge_attr in zip(self.blocks, self.expanded(edges, edge_weight), strict=True):
            x = x + interaction(x, edge_index, edge_weight, edge_attr, edge_pair)  # equations (2) and (3)
        return x

    @property
    def vanishes_at_cutoff(self) -> bool:
        """True if pairs at and beyond the cutoff add exactly nothing, as with all cutoff functions of this package."""
        convolutions = [block.conv for block in self.blocks]
        counted = any(conv.norm is not None and conv.norm.kind == "mean" for conv in convolutions)
        return not counted and all(vanishes(conv.cutoff, self.cutoff) for conv in convolutions)

    @property
    def blocks(self) -> list[Any]:
        """The interaction block of each step: one for all if they are shared."""
        return [self.interactions[step % len(self.interactions)] for step in range(self.num_interactions)]

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Self:
        """A named variant, see :mod:`pyg_schnet.models.presets` for the differences.

        Args:
            name: ``"nips2017"`` (the first paper), ``"jcp2018"`` (the second, molecules), ``"jcp2018-materials"`` (the
                second, crystals), ``"schnetpack"`` (SchNetPack 2) or ``"pyg"`` (PyG's SchNet).
            **overrides: Arguments that replace those of the preset.

        Returns:
            The model, weights drawn at random.

        Raises:
            ValueError: If there is no such preset.
            TypeError: If an override is no argument of SchNet.
        """
        return cls(**preset_arguments(name, **overrides))

    @staticmethod
    def presets() -> Presets:
        """All named variants.

        Returns:
            Arguments of each by its name; print it for one line each.

        Example:
            >>> list(SchNet.presets())
            ['nips2017', 'jcp2018', 'jcp2018-materials', 'schnetpack', 'pyg']
            >>> SchNet(**SchNet.presets()["jcp2018"]).cutoff
            20.0
        """
        return Presets.all()
