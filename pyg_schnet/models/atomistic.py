"""What all models share: graph in, features of atoms in the middle, properties of structures out."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet.graph import Edges, can_inspect
from pyg_schnet.models.arguments import unusual
from pyg_schnet.models.compiled import forget_foreign_methods, without_compiled_methods
from pyg_schnet.models.edges import find_edges, given_edges
from pyg_schnet.models.elements import TrainingSet, check_elements
from pyg_schnet.models.inputs import check_atoms, check_cell
from pyg_schnet.models.spellings import check_state
from pyg_schnet.models.structures import Structures
from pyg_schnet.nn import AtomEmbedding, Atomwise, FeatureReadout, Readout, Reference, ZBLRepulsion, make_readout
from pyg_schnet.nn.activation import activation
from pyg_schnet.nn.cutoff import check_positive
from pyg_schnet.nn.reference import PerTarget
from pyg_schnet.nn.repulsion import make_repulsion
from pyg_schnet.segments import add_up
from pyg_schnet.units import ENERGY


class AtomisticModel(nn.Module):
    """A model of properties of structures from features of their atoms.

    A subclass writes :meth:`represent`, the network between embedding and output, and gets from here the exact graph,
    the output network, every readout, references, and all derivatives through :class:`~pyg_schnet.Potential`.

    Args:
        hidden_channels: Size F of the atom features.
        cutoff: Distance in Angstrom up to which atoms interact.
        config: All arguments of the subclass by name, references excepted: what :func:`pyg_schnet.save` writes.
        readout: How a property of the structure comes from its atoms, see :func:`~pyg_schnet.nn.make_readout`.
        readout_options: Arguments of the readout.
        out_channels: Number of targets C.
        act: Activation of the output network, see :data:`~pyg_schnet.nn.activation.ACTIVATIONS`.
        zero_output: True if the last layer starts at zero.
        mean: Mean of the property per atom, see :class:`~pyg_schnet.nn.Reference`.
        std: Standard deviation of the property per atom.
        atomref: Property of single atoms by atomic number, up to [max_z + 1, C].
        repulsion: ``"zbl"`` to add the repulsion of nuclei at short distance, see :class:`~pyg_schnet.nn.ZBLRepulsion`;
            for energies in eV only.
        max_z: Largest atomic number.

    Raises:
        ValueError: If an argument is out of its range, or there is a repulsion beside something else than one energy
            that is the sum of contributions.
    """

    #: True if the network can be recorded: it computes the same for all values of its input, see
    #: :mod:`pyg_schnet.fast.cuda_graph`.
    recordable = True
    readout: Any
    reference: Reference
    repulsion: ZBLRepulsion | None
    _compile_options: dict[str, Any] | None = None

    def __init__(
        self,
        hidden_channels: int,
        cutoff: float,
        config: dict[str, Any],
        *,
        readout: str | nn.Module = "add",
        readout_options: dict[str, Any] | None = None,
        out_channels: int = 1,
        act: str = "ssp",
        zero_output: bool = False,
        mean: PerTarget | None = None,
        std: PerTarget | None = None,
        atomref: Tensor | None = None,
        repulsion: str | None = None,
        max_z: int = 118,
    ) -> None:
        super().__init__()
        check_sizes(hidden_channels=hidden_channels, out_channels=out_channels, max_z=max_z)
        if hidden_channels < 2:
            raise ValueError(f"`hidden_channels` must be at least 2, got {hidden_channels}")
        self.cutoff = check_positive("cutoff", cutoff)
        self.config = config
        #: Units of what is predicted, if they are known; :func:`pyg_schnet.save` keeps them.
        self.units: dict[str, str] = {}
        #: What the weights were trained on, if that is known; :func:`pyg_schnet.save` keeps it.
        self.training_set: TrainingSet | None = None
        #: True if the weights come from a training whose examples are not known.
        self.trained_elsewhere = False
        self.out_channels = out_channels
        self.readout = make_readout(readout, hidden_channels, readout_options)
        latent, size = getattr(self.readout, "channels", None), hidden_channels
        if latent is not None and out_channels != 1:
            raise ValueError(f"`out_channels` must be 1 with readout={readout!r}, got {out_channels}")
        if isinstance(self.readout, FeatureReadout):
            size = self.readout.out_channels(hidden_channels)
        flat = getattr(self.readout, "flat_at_zero", False)  # from there no weight would ever move
        self.embedding = AtomEmbedding(max_z, hidden_channels)
        self.output = Atomwise(size, latent or out_channels, activation(act), zero_output and not flat)
        self.reference = Reference(max_z, mean, std, atomref, out_channels, self.readout.reference)
        self.register_load_state_dict_pre_hook(_check_state)
        if self.readout.reference is None and not self.reference.trivial:
            raise ValueError(f"readout={readout!r} has no reference; leave out `mean` and `atomref`")
        self.repulsion = make_repulsion(repulsion, max_z, self.cutoff)
        one_sum = out_channels == 1 and isinstance(self.readout, Readout) and self.readout.reference == "add"
        if self.repulsion is not None and not one_sum:
            raise ValueError(
                "a `repulsion` is part of an energy, which is one sum over atoms: expected readout='add' and "
                f"out_channels=1, got readout={readout!r} and out_channels={out_channels}; leave out `repulsion`"
            )

    def represent(self, z: Tensor, edges: Edges) -> Tensor:
        """The network: features of the atoms from their numbers and the edges between them.

        Args:
            z: Atomic numbers [N].
            edges: Edges within the cutoff.

        Returns:
            Features [N, hidden_channels].
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `represent(z, edges)`")

    def compile_network(self, **options: Any) -> Self:
        """Compile :meth:`represent`, which takes most of the time; everything around it stays as it is.

        Copies of the model compile their own network with the same options, files do not know of it. After
        ``model.represent = torch.compile(model.represent)`` instead, copies have the plain network. Second derivatives
        (Hessians, and training on forces), which compilers do not have, are those of the plain network.

        Args:
            **options: Arguments of ``torch.compile``, for example ``dynamic=True`` for structures of many sizes.

        Returns:
            The model itself.

        Example:
            >>> from pyg_schnet import SchNet
            >>> model = SchNet(16, 16, 2).compile_network(backend="eager")
            >>> model(torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]])).shape
            torch.Size([1, 1])
        """
        self.__dict__.pop("represent", None)
        self._compile_options = options
        self.represent = torch.compile(self.represent, **options)  # type: ignore[method-assign]
        return self

    def __getstate__(self) -> dict[str, Any]:
        return without_compiled_methods(self, dict(super().__getstate__()))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        forget_foreign_methods(self)
        if self._compile_options is not None:
            self.compile_network(**self._compile_options)

    def _replicate_for_data_parallel(self) -> Self:
        replica: Self = super()._replicate_for_data_parallel()
        replica.__dict__ = without_compiled_methods(replica, replica.__dict__)
        return replica

    @property
    def elements(self) -> list[int] | None:
        """Atomic numbers of the training set, sorted; ``None`` if it is not known."""
        return None if self.training_set is None else sorted(self.training_set.elements)

    @property
    def training_sets(self) -> tuple[TrainingSet, ...]:
        """The training set, if it is known; a committee has one for each member."""
        return () if self.training_set is None else (self.training_set,)

    def reset_parameters(self) -> None:
        """Draw all weights anew; references stay."""
        self.training_set, self.trained_elsewhere = None, False
        for module in self.children():
            if not isinstance(module, Reference):
                _reset(module)

    def forward(
        self,
        z: Tensor | Data,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Predict the properties of each structure, references included, in the dtype of the model.

        Args:
            z: Atomic numbers [N] int64; or, alone, a PyG ``Data`` or ``Batch``, which is read as by a
                :class:`~pyg_schnet.Potential`.
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N] int64, sorted; ``None`` for one structure.
            edge_index: Neighbours j -> i [2, E]; ``None`` to search all pairs within the cutoff.
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures, needed only if the last ones may be empty.

        Returns:
            Properties [B, C]; [B, 3] for the vector of a dipole moment.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        given, edges = self._asked(z, pos, batch, batch_size, graph)
        residual = self.predict(given.z, given.pos, *given.structure_of_atoms, edges)
        return self.total(residual, given.z, *given.structure_of_atoms).to(residual.dtype)

    def features(
        self,
        z: Tensor | Data,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Features of the atoms after the last interaction, for heads of your own; arguments as in :meth:`forward`.

        Returns:
            Features [N, hidden_channels].
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        given, edges = self._asked(z, pos, batch, batch_size, graph)
        return self.represent(given.z, edges)

    def contributions(
        self,
        z: Tensor | Data,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Contribution of each atom, references included: their sum or mean is the property of the structure.

        Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.E; arguments as in :meth:`forward`.

        Returns:
            Contributions [N, C] float64.

        Raises:
            ValueError: If the readout is neither ``"add"`` nor ``"mean"``.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        given, edges = self._asked(z, pos, batch, batch_size, graph)
        return self.shares_on(given.z, edges)

    def _asked(
        self, z: Any, pos: Any, batch: Any, batch_size: int | None, graph: dict[str, Tensor | None]
    ) -> tuple[Structures, Edges]:
        """The structures, all checked, and their edges."""
        structures = Structures.of(z, pos, self.cutoff, batch_size, batch=batch, **graph)
        check_elements(self, structures.z, batch=structures.batch, electrons=structures.electrons)
        return structures, structures.find_edges(self)

    def shares_on(self, z: Tensor, edges: Edges) -> Tensor:
        """What :meth:`contributions` returns, on edges that are known already.

        Args:
            z: Atomic numbers [N].
            edges: Edges within the cutoff.

        Returns:
            Contributions [N, C] float64.

        Raises:
            ValueError: If the readout is neither ``"add"`` nor ``"mean"``.
        """
        if self.readout.reference not in {"add", "mean"} or hasattr(self.readout, "channels"):
            raise ValueError(
                f"contributions of atoms exist for readout='add' and 'mean', got {self.config['readout']!r}"
            )
        shares = self.reference.std * self.output(self.represent(z, edges)) + self.reference(z)
        return shares if self.repulsion is None else shares + self.repulsion(z, edges)

    def edges(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor,
        batch_size: int,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
    ) -> Edges:
        """Check the input and find its edges, or take those given; ``batch`` is already checked.

        Returns:
            The edges within the cutoff.
        """
        self.check_input(z, pos, edge_shift, cell, pbc)
        structures = Structures(z, pos, batch, batch_size, edge_index, edge_shift, cell, pbc)
        return (find_edges if edge_index is None else given_edges)(structures, self.cutoff)

    def check_input(
        self, z: Tensor, pos: Tensor, edge_shift: Tensor | None, cell: Tensor | None, pbc: Tensor | None
    ) -> None:
        """Check whatever does not need the edges; positions are already checked by themselves.

        Args:
            z: Atomic numbers [N].
            pos: Positions in Angstrom [N, 3].
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows [B, 3, 3].
            pbc: Periodic axes [B, 3].

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If shapes or elements do not fit the model, or a moment is asked for in a crystal.
        """
        check_atoms(z, pos, self.embedding)
        check_cell(cell, pos)
        self._check_open(pbc, edge_shift)

    def predict(self, z: Tensor, pos: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> Tensor:
        """From the edges to the properties, references excluded.

        An energy depends on the positions through the vectors of the edges alone, by which
        :class:`~pyg_schnet.Potential` differentiates it.

        Args:
            z: Atomic numbers [N].
            pos: Positions in Angstrom [N, 3]; only moments look at them.
            batch: Structure of each atom [N].
            batch_size: Number of structures B.
            edges: Edges within the cutoff.

        Returns:
            Properties less their references [B, C].
        """
        y, given = self.represent(z, edges), (z, pos, batch, batch_size, edges)  # [N, F]
        if torch.is_autocast_enabled(pos.device.type):  # sums over atoms need more digits than 16 bits have
            with torch.autocast(pos.device.type, enabled=False):
                return self._property(y.to(pos.dtype), *given)
        return self._property(y, *given)

    def _property(self, y: Tensor, z: Tensor, pos: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> Tensor:
        """From the features [N, F] to the properties."""
        y = self._read_out(y, z, pos, batch, batch_size)
        if self.repulsion is None:
            return y
        # in the unit of the property, whatever its scale
        return y + add_up(self.repulsion(z, edges), batch, y.size(0), ascending=True)

    def _read_out(self, y: Tensor, z: Tensor, pos: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        if isinstance(self.readout, FeatureReadout):
            y = self.output(self.readout(y, batch, batch_size))
        else:
            y = self.readout(self.output(y), batch, batch_size, z, pos)
        return self.reference.std.to(y.dtype) * y  # [B, C]

    @property
    def vanishes_at_cutoff(self) -> bool:
        """True if pairs at and beyond the cutoff add exactly nothing, so that they may stay among the edges."""
        return False

    def follow_weights(self) -> None:
        """Bring up to date what follows from the weights, if a subclass keeps such things."""

    def total(self, residual: Tensor, z: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Add the references of each structure.

        Args:
            residual: What :meth:`predict` returned [B, C].
            z: Atomic numbers [N].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.

        Returns:
            Properties [B, C] float64.
        """
        return residual.double() + self.reference.of_structures(z, batch, batch_size)

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults, for printing."""
        return ", ".join(f"{name}={value!r}" for name, value in unusual(self, self.config).items())

    def _check_open(self, pbc: Tensor | None, edge_shift: Tensor | None) -> None:
        if not getattr(self.readout, "channels", None):
            return
        for tensor in (pbc, edge_shift):
            if tensor is not None and can_inspect(tensor) and bool(tensor.any()):
                raise ValueError(
                    f"readout={self.config['readout']!r} is a moment of the positions and not defined in periodic "
                    "structures; expected open ones"
                )


def _check_state(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    check_state({name.removeprefix(prefix) for name in state if name.startswith(prefix)})


def check_sizes(**sizes: int) -> None:
    """Check that sizes are positive integers.

    Args:
        **sizes: Sizes by the name of their argument.

    Raises:
        TypeError: If one is no integer.
        ValueError: If one is less than 1.
    """
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise TypeError(f"`{name}` must be an int, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"`{name}` must be at least 1, got {size}")


def _reset(module: nn.Module) -> None:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()  # type: ignore[operator]
    else:
        for child in module.children():
            _reset(child)


def searches_as_usual(model: AtomisticModel) -> bool:
    """True if a model finds its edges by :meth:`AtomisticModel.edges`, which nobody has replaced.

    Args:
        model: The model.

    Returns:
        True or False.
    """
    return type(model).edges is AtomisticModel.edges and "edges" not in vars(model)


def check_unit(model: AtomisticModel, unit: str) -> None:
    """Refuse another unit for the energy of a model with a repulsion than that of its repulsion, in the beginning eV.

    Args:
        model: The model.
        unit: Unit of what it predicts; empty if it is not known, which is taken for eV.

    Raises:
        ValueError: If they do not fit.
    """
    if model.repulsion is None:
        return
    scale = float(model.repulsion.scale)
    own = next((name for name, value in ENERGY.items() if abs(scale * value - 1) < 1e-6), "eV")
    if unit not in {"", own}:
        raise ValueError(
            f"the energy of a model with repulsion={model.config['repulsion']!r} must be in {own}, as its repulsion "
            f"is, got the unit {unit!r}; convert the data to {own}, or begin with a new model without `repulsion`"
        )
