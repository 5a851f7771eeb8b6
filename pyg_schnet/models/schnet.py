"""SchNet, top to bottom as in the paper."""

import inspect
from pathlib import Path
from typing import Any, NoReturn, Self

from torch import Tensor, nn

from pyg_schnet.models.atomistic import check_sizes
from pyg_schnet.models.edges import Edges
from pyg_schnet.models.frozen_molecules import frozen_molecules
from pyg_schnet.models.frozen_pass import frozen_pass
from pyg_schnet.models.presets import Presets, preset_arguments
from pyg_schnet.models.spellings import check_spellings, pretrained_name
from pyg_schnet.models.tabulated import TabulatedModel
from pyg_schnet.models.training_pass import training_pass
from pyg_schnet.nn import InteractionBlock
from pyg_schnet.nn.activation import activation
from pyg_schnet.nn.basis import radial_basis
from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.nn.cutoff import cutoff_function as make_cutoff
from pyg_schnet.nn.reference import PerTarget
from pyg_schnet.ops import FilterTable


class SchNet(TabulatedModel):
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
        trainable_basis: Whether centres and widths (or frequencies) of the basis are learned.
        gamma: Inverse squared width of the Gaussians in 1/Angstrom^2, ``None`` for PyG's.
        cutoff_function: ``"cosine"``, ``"mollifier"``, ``"polynomial"`` or ``None``; without one, the energy jumps when
            a pair crosses the cutoff.
        activate_last: Whether the filter networks activate their second layer, as in the papers.
        act: Activation, see :data:`~pyg_schnet.nn.activation.ACTIVATIONS`.
        output_act: Activation of the output network; ``None`` for ``act``.
        normalization: Normalisation of the convolution by the number of neighbours: ``"mean"`` as in the paper for
            crystals, ``"smooth"`` (see :class:`~pyg_schnet.nn.NeighborNormalization`) or ``None``.
        shared_interactions: Whether all interaction blocks have the same weights.
        zero_output: Whether the last layer starts at zero, as in the authors' code.
        filters: How filters are evaluated, no part of the architecture: ``model.filters`` may be set at any time.
            ``"exact"``: filter networks are evaluated for every pair; ``"table"``: at the knots of a smooth table,
            from which the pairs read them (1e-6 of the energies, also in training on forces); ``"auto"``: from a table
            where that is faster, for float32 on a CPU with the extra ``fast``, else exact. For inference :meth:`freeze`
            the tables. In ``torch.compile`` and in recorded steps, ``"table"`` makes tables of all distances, and
            ``"auto"`` is exact.
        knot_spacing: Distance between the knots of tables in Angstrom; errors of energies grow with its sixth, of
            forces with its fifth power. ``None`` for a tenth of the width of the Gaussians, see
            :func:`~pyg_schnet.ops.knot_spacing`.
        readout_options: Arguments of the readout, for example ``{"processing_steps": 3}`` of ``"set2set"``.
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
        max_z: int = 118,
        **spellings: Any,
    ) -> None:
        if spellings:
            check_spellings(spellings, list(inspect.signature(SchNet).parameters)[:-1], cutoff)
        config: dict[str, Any] = {
            "hidden_channels": hidden_channels,
            "num_filters": num_filters,
            "num_interactions": num_interactions,
            "num_gaussians": num_gaussians,
            "cutoff": check_positive("cutoff", cutoff),
            "readout": readout,
            "out_channels": out_channels,
            "basis": basis,
            "trainable_basis": trainable_basis,
            "gamma": gamma,
            "cutoff_function": cutoff_function,
            "activate_last": activate_last,
            "act": act,
            "output_act": output_act,
            "normalization": normalization,
            "shared_interactions": shared_interactions,
            "zero_output": zero_output,
            "readout_options": readout_options,
            "max_z": max_z,
        }
        ssp = activation(act)
        if output_act is not None:
            activation(output_act, "output_act")
        super().__init__(
            hidden_channels,
            cutoff,
            config,
            readout=readout,
            readout_options=readout_options,
            out_channels=out_channels,
            act=act if output_act is None else output_act,
            zero_output=zero_output,
            mean=mean,
            std=std,
            atomref=atomref,
            max_z=max_z,
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
        edge_index, edge_weight, edge_pair = edges.edge_index, edges.edge_weight, edges.edge_pair
        tables = self.tables(edge_weight)
        if tables is not None:
            return self._represent_by_tables(z, edges, edge_weight, tables)
        edge_attr = self.basis(edge_weight)  # [P, G]
        x = self.embedding(z)  # [N, F]  equation (1)
        for block in range(self.num_interactions):
            interaction = self.interactions[block % len(self.interactions)]  # one block for all if they are shared
            x = x + interaction(x, edge_index, edge_weight, edge_attr, edge_pair)  # equations (2) and (3)
        return x

    def _represent_by_tables(self, z: Tensor, edges: Edges, edge_weight: Tensor, tables: list[FilterTable]) -> Tensor:
        """The same with filters from tables."""
        x = self.embedding(z)
        if not tables:
            return x
        first, *others = (block.conv for block in self.interactions)
        shared = all(conv.cutoff is first.cutoff for conv in others)  # type: ignore[union-attr]
        factor = first.factor(edge_weight) if shared else None  # type: ignore[union-attr, operator]
        graph = edges.pair_index, edge_weight, edges.edge_index, edges.edge_pair, factor
        for block in range(self.num_interactions):
            one = block % len(self.interactions)
            x = x + self.interactions[one].tabulated(x, tables[one], *graph)  # type: ignore[operator]
        return x

    def energies_and_slopes(
        self, z: Tensor, batch: Tensor, batch_size: int, edges: Edges, differentiable: bool = False
    ) -> tuple[Tensor, Tensor] | None:
        """Those of small structures by a frozen model, or by one with tables that are made anew.

        See :mod:`pyg_schnet.models.frozen_pass` and :mod:`pyg_schnet.models.training_pass`.
        """
        if not self._is_plain():
            return None
        if not self.frozen:
            return training_pass(self, z, batch, batch_size, edges, differentiable)
        return None if differentiable else frozen_pass(self, z, batch, batch_size, edges)

    def energies_and_forces(self, z: Any, pos: Any, batch: Any, batch_size: int | None) -> tuple[Tensor, Tensor] | None:
        """Those of small molecules by a frozen model, see :mod:`pyg_schnet.models.frozen_molecules`."""
        return frozen_molecules(self, z, pos, batch, batch_size) if self.frozen and self._is_plain() else None

    def _is_plain(self) -> bool:
        """Whether nobody has put a method of his own in the place of one that short cuts leave out."""
        names, kind = ("check_input", "edges", "represent", "tables", "predict", "total"), type(self)
        if kind is not SchNet and any(getattr(kind, name) is not getattr(SchNet, name) for name in names):
            return False
        return not any(name in self.__dict__ for name in names)

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

    @staticmethod
    def from_tensorflow(path: str | Path, **arguments: Any) -> "SchNet":
        """A network of the authors' TensorFlow code, see :func:`~pyg_schnet.convert.from_tensorflow`.

        Args:
            path: Its folder, the prefix of a checkpoint, or an ``npz`` file with its variables.
            **arguments: As in :func:`~pyg_schnet.convert.from_tensorflow`, for example ``energy_unit="eV"``.

        Returns:
            The model in float64 and evaluation mode, energies in the network's own unit: kcal/mol for C20.
        """
        from pyg_schnet.convert import from_tensorflow  # noqa: PLC0415, it imports this file

        return from_tensorflow(path, **arguments)

    @staticmethod
    def from_qm9_pretrained(root: str | Path, dataset: Any, target: int) -> NoReturn:
        """PyG's way to a published model, which here is :meth:`from_pretrained`.

        Args:
            root: Where PyG would keep the archive.
            dataset: QM9.
            target: Number of the property.

        Raises:
            NotImplementedError: Always, with what to write instead.
        """
        name = pretrained_name(target)
        raise NotImplementedError(
            f"write SchNet.from_pretrained({name!r}, root={str(root)!r}) for the model; it comes without PyG's splits "
            "of the dataset, take those of pyg_schnet.datasets"
        )

    @staticmethod
    def from_pretrained(name: str, **arguments: Any) -> "SchNet":
        """A published, trained model, see :func:`~pyg_schnet.convert.from_pretrained`.

        Args:
            name: ``"c20-energy"``, ``"c20-force"``, or a property of QM9 such as ``"qm9-U0"``.
            **arguments: As in :func:`~pyg_schnet.convert.from_pretrained`, for example ``source="models"``.

        Returns:
            The model in evaluation mode.
        """
        from pyg_schnet.convert import from_pretrained  # noqa: PLC0415, it imports this file

        return from_pretrained(name, **arguments)
