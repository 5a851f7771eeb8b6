"""A committee: several models of one property, their mean and how far they differ."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet.fast.pair_vectors import pair_vectors
from pyg_schnet.files import replacing
from pyg_schnet.graph import Edges, neighbor_pairs, within_cutoff
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.checkpoint import content_of
from pyg_schnet.models.compiled import not_compiled
from pyg_schnet.models.elements import TrainingSet, check_elements, common_elements, unfamiliar
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.models.loading import load_model
from pyg_schnet.models.model_folder import FILE
from pyg_schnet.models.potential import Potential, derivatives
from pyg_schnet.models.structures import Structures


class CommitteeOutput(NamedTuple):
    """What a committee predicts, float64.

    Attributes:
        mean: Mean over the members [B, C].
        std: Standard deviation over the members with Bessel's correction [B, C].
        members: Prediction of each member [M, B, C].
    """

    mean: Tensor
    std: Tensor
    members: Tensor


def mean_and_spread(members: Tensor) -> CommitteeOutput:
    r"""Mean and standard deviation over the first axis, with Bessel's correction.

    .. math:: \bar y = \frac{1}{M} \sum_m y_m, \quad s^2 = \frac{1}{M - 1} \sum_m (y_m - \bar y)^2

    Both are taken relative to the first member: equal members have exactly its value as mean and exactly zero as
    spread, and no digits are lost beside large references. Where the spread is zero, so is its gradient.

    Args:
        members: Values [M, ...], M at least 2.

    Returns:
        Mean and standard deviation [...] and the members [M, ...], float64.

    Example:
        >>> mean_and_spread(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))[:2]
        (tensor([2., 5.], dtype=torch.float64), tensor([1.4142, 0.0000], dtype=torch.float64))
    """
    members = members.double()
    difference = members - members[0]
    shift = difference.mean(0)
    variance = (difference - shift).square().sum(0) / (members.size(0) - 1)
    equal = variance == 0  # the slope of the root is infinite there
    std = torch.where(equal, 0.0, torch.where(equal, 1.0, variance).sqrt())
    return CommitteeOutput(members[0] + shift, std, members)


class Committee(nn.Module):
    """Several models of the same property, for example of one configuration trained from several seeds.

    A deep ensemble (Lakshminarayanan, Pritzel and Blundell, NIPS 2017): the mean is usually a better prediction than
    that of one model, and where the members differ much, none of them is to be trusted. The spread says how far they
    differ, not how far their mean is from the truth: what all got wrong in the same way it does not show.

    Members may differ in architecture, sizes and cutoff. The graph is searched once, for the largest cutoff.
    :class:`CommitteePotential` gives forces and stress. Where a member was never trained on an element of a structure,
    the committee warns once and the spreads of the structure are infinite, however little its members differ.

    Args:
        members: At least two models.

    Raises:
        TypeError: If ``members`` is no sequence of models.
        ValueError: If there are fewer than two or they differ in number of targets, readout, units, dtype or device.

    Example:
        >>> from pyg_schnet import SchNet
        >>> committee = Committee([SchNet(16, 16, 1), SchNet(24, 24, 2, cutoff=5.0)])
        >>> z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> y = committee(z, pos)
        >>> y.mean.shape, y.std.shape, y.members.shape
        (torch.Size([1, 1]), torch.Size([1, 1]), torch.Size([2, 1, 1]))
    """

    members: nn.ModuleList

    def __init__(self, members: Sequence[AtomisticModel] | nn.ModuleList) -> None:
        super().__init__()
        models = _checked(members)
        self.members = nn.ModuleList(models)
        # as its members are: what was loaded is in evaluation mode
        self.training = self.members.training = any(member.training for member in models)

    @classmethod
    def load(
        cls,
        path: str | Path | Sequence[str | Path],
        device: str | torch.device = "cpu",
        *,
        filters: str | None = None,
    ) -> Self:
        """Read a committee whose members were written by :func:`pyg_schnet.save`.

        Args:
            path: A folder with ``member_0/model.safetensors``, ``member_1/model.safetensors``, ..., as ``pyg-schnet
                fit --members`` writes it, too; or a list of files, folders of runs and checkpoints.
            device: Where to put the members.
            filters: How to evaluate the filters, see :func:`pyg_schnet.load`.

        Returns:
            The committee in evaluation mode, members in the order of their numbers or of the list.

        Raises:
            FileNotFoundError: If there is no such folder or file, or a member without its file.
            ValueError: If a file is damaged, there is no such device, or the members form no committee.
        """
        files = _files_of(Path(path)) if isinstance(path, (str, os.PathLike)) else path
        return cls([load_model(file, device, filters=filters) for file in files])

    def save(self, folder: str | Path, **info: Any) -> None:
        """Write each member to its own file, ``member_0/model.safetensors`` and so on, as :func:`pyg_schnet.save` does.

        No file is replaced before all members are written, and each is in a single step.

        Args:
            folder: Folder of the committee; made if it does not exist.
            **info: Passed to :func:`pyg_schnet.save` for every member.

        Raises:
            FileNotFoundError: If the folder above does not exist.
            TypeError: If a member or ``info`` cannot be written.
            ValueError: If the folder holds other members already, which would be read as part of this committee.
        """
        folder = Path(folder)
        if not folder.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {folder.parent} to make {folder.name} in; create it first")
        homes = [folder / f"member_{number}" for number in range(len(self.members))]
        if others := [found.name for found in _homes_in(folder) if found not in homes]:
            raise ValueError(
                f"{folder} already holds {', '.join(others)}, which this committee of {len(homes)} does not have; "
                "remove them or choose another folder"
            )
        contents = [content_of(member, **info) for member in self]
        with contextlib.ExitStack() as stack:  # all are written before one takes its name
            for home, content in zip(homes, contents, strict=True):
                home.mkdir(parents=True, exist_ok=True)
                stack.enter_context(replacing(home / FILE)).write_bytes(content)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[AtomisticModel]:
        return cast(Iterator[AtomisticModel], iter(self.members))

    def __getitem__(self, number: int) -> AtomisticModel:
        return cast(AtomisticModel, self.members[number])

    @property
    def widest(self) -> AtomisticModel:
        """The first member with the largest cutoff."""
        return max(self, key=lambda member: member.cutoff)

    @property
    def cutoff(self) -> float:
        """The largest cutoff in Angstrom, which a precomputed graph must reach."""
        return self.widest.cutoff

    @property
    def training_sets(self) -> tuple[TrainingSet, ...]:
        """Training sets of the members of which it is known."""
        return tuple(member.training_set for member in self if member.training_set is not None)

    @property
    def elements(self) -> list[int] | None:
        """Atomic numbers that all members were trained on, sorted; ``None`` if that is not known of any."""
        return common_elements(self.training_sets) if self.training_sets else None

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
    ) -> CommitteeOutput:
        """Predict the properties of each structure, references included.

        All is float64, whatever the dtype of the members: a float32 step of a total energy can exceed the spread.

        Args:
            z: Atomic numbers [N] int64; or, alone, a PyG ``Data`` or ``Batch``, as in a :class:`CommitteePotential`.
            pos: Positions in Angstrom [N, 3], in the dtype of the members.
            batch: Structure of each atom [N] int64, sorted; ``None`` for one structure.
            edge_index: Neighbours j -> i [2, E] up to :attr:`cutoff`; ``None`` to search them.
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures, needed only if the last ones may be empty.

        Returns:
            Mean and standard deviation [B, C] and the members' predictions [M, B, C]; C is 3 for the vector of a
            dipole moment, whose components are then taken one by one.

        Raises:
            TypeError, ValueError: As :meth:`~pyg_schnet.models.AtomisticModel.forward`.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        given = Structures.of(z, pos, self.cutoff, batch_size, batch=batch, **graph)
        graphs = self.edges_of(given)
        z, pos, (batch, batch_size) = given.z, given.pos, given.structure_of_atoms
        strange = unfamiliar(self, z, batch, batch_size, given.electrons)
        every = []
        for member, edges in zip(self, graphs, strict=True):
            residual = member.predict(z, pos, batch, batch_size, edges)
            every.append(member.total(residual, z, batch, batch_size))
        found = mean_and_spread(torch.stack(every))
        return found._replace(std=_unbounded(found.std, strange))

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
    ) -> CommitteeOutput:
        """Contribution of each atom, see :meth:`~pyg_schnet.models.AtomisticModel.contributions`.

        The spread of a structure is not the sum of those of its atoms: members may divide the same sum differently.
        Arguments as in :meth:`forward`.

        Returns:
            Mean and standard deviation [N, C] and the members' contributions [M, N, C], float64.

        Raises:
            ValueError: If the readout is neither ``"add"`` nor ``"mean"``.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        given = Structures.of(z, pos, self.cutoff, batch_size, batch=batch, **graph)
        graphs = self.edges_of(given)
        z, pos, (batch, batch_size) = given.z, given.pos, given.structure_of_atoms
        strange = unfamiliar(self, z, batch, batch_size, given.electrons)
        shares = [member.shares_on(z, edges) for member, edges in zip(self, graphs, strict=True)]
        found = mean_and_spread(torch.stack(shares))
        return found._replace(std=_unbounded(found.std, strange, batch))

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
    ) -> list[Edges]:
        """Check the input and find the edges of each member, or take those given; ``batch`` is already checked.

        Returns:
            The edges within the cutoff of each member; members of the same cutoff share them.
        """
        for member in self:
            member.check_input(z, pos, edge_shift, cell, pbc)
        cutoffs = {member.cutoff: member for member in self}
        if edge_index is None and len(cutoffs) > 1:
            found = _nested_edges(Structures(z, pos, batch, batch_size, cell=cell, pbc=pbc), list(cutoffs))
        else:
            graph = edge_index, edge_shift, cell, pbc
            found = {cutoff: member.edges(z, pos, batch, batch_size, *graph) for cutoff, member in cutoffs.items()}
        return [found[member.cutoff] for member in self]

    def edges_of(self, structures: Structures) -> list[Edges]:
        """The same of structures, which are checked before.

        Args:
            structures: The structures.

        Returns:
            The edges within the cutoff of each member.
        """
        given = structures.check()
        graph = given.edge_index, given.edge_shift, given.cell, given.pbc
        return self.edges(given.z, given.pos, *given.structure_of_atoms, *graph)


class CommitteePotential(nn.Module):
    r"""Mean energy of a committee, its derivatives, and the spread of each.

    .. math::
        \bar E = \frac{1}{M} \sum_m E_m, \quad \bar F_i = -\frac{\partial \bar E}{\partial r_i}, \quad
        s(F_{ia})^2 = \frac{1}{M - 1} \sum_m (F_{m,ia} - \bar F_{ia})^2

    The mean forces, stress and virials are the derivatives of the mean energy, so dynamics with them is conservative.
    The spreads are standard deviations with Bessel's correction, of each component by itself, in float64. A number for
    each atom that does not depend on the axes is that of the force as a vector,
    ``out["forces_std"].square().sum(-1).sqrt()``, the root of the summed variances; its largest value over the atoms
    of a structure is the usual sign that the structure should be labelled and trained on.

    Args:
        model: A committee of models of energies.
        stress: True if a call returns the stress, unless it says otherwise.
        virials: True if a call returns the virials of the atoms, unless it says otherwise.
        strict: True to refuse elements and charges that a member was never trained on, see
            :func:`~pyg_schnet.models.elements.check_elements`; otherwise it warns once, and spreads are infinite.

    Raises:
        TypeError: If ``model`` is no :class:`Committee`.
        ValueError: If it predicts something else than one energy.

    Example:
        >>> from pyg_schnet import SchNet
        >>> potential = CommitteePotential(Committee([SchNet(16, 16, 1), SchNet(16, 16, 1)]))
        >>> out = potential(torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]]))
        >>> {name: list(value.shape) for name, value in out.items()}
        {'energy': [1], 'energy_std': [1], 'forces': [2, 3], 'forces_std': [2, 3]}
    """

    model: Committee

    def __init__(self, model: Committee, *, stress: bool = False, virials: bool = False, strict: bool = False) -> None:
        super().__init__()
        if not isinstance(model, Committee):
            raise TypeError(f"`model` must be a Committee, got {type(model).__name__}; pass one model to Potential")
        for member in model:
            Potential(member)  # raises unless it has an energy to differentiate
        self.model = model
        self.stress = stress
        self.virials = virials
        self.strict = strict

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
        stress: bool | None = None,
        virials: bool | None = None,
    ) -> dict[str, Tensor]:
        """Mean energy and first derivatives of each structure, and their spreads.

        Args:
            data: As in :meth:`~pyg_schnet.Potential.forward`, like all other arguments. A precomputed graph must reach
                up to the largest cutoff of the members.
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N].
            edge_index: Neighbours j -> i [2, E].
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows in Angstrom [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures.
            stress: True to return the stress; ``None`` for what the constructor was told.
            virials: True to return the virials of the atoms; ``None`` for what the constructor was told.

        Returns:
            Means in the units and dtypes of :meth:`~pyg_schnet.Potential.forward`: ``energy`` [B], ``forces`` [N, 3]
            and, if asked for, ``virials`` [N, 3, 3] and ``stress`` [B, 3, 3]; with each the standard deviation over the
            members, of the same shape and in float64: ``energy_std``, ``forces_std``, ``virials_std``, ``stress_std``.

        Raises:
            TypeError, ValueError: As :meth:`~pyg_schnet.Potential.forward`.
        """
        if torch.compiler.is_compiling():
            graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
            rest = {"batch_size": batch_size, "stress": stress, "virials": virials}
            return not_compiled(self, data, pos, batch, **graph, **rest)
        stress = self.stress if stress is None else stress
        virials = self.virials if virials is None else virials
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        given = Structures.of(data, pos, self.model.cutoff, batch_size, batch=batch, **graph)
        if self.strict:
            check_elements(self.model, given.z, True, given.batch, given.electrons)
        differentiable = self.model.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            graphs = self.model.edges_of(given)
            if stress:
                check_volume(given.cell)
            how = {"stress": stress, "virials": virials, "differentiable": differentiable}
            pairs = zip(self.model, graphs, strict=True)
            every = [derivatives(member, given.with_edges(edges), **how) for member, edges in pairs]
            strange = unfamiliar(self.model, given.z, *given.structure_of_atoms, given.electrons)
            return means_and_spreads(every, strange, given.batch)


def means_and_spreads(every: list[dict[str, Tensor]], strange: Tensor | None, batch: Tensor) -> dict[str, Tensor]:
    """Results of a committee from those of its members.

    Args:
        every: What each member's potential returned.
        strange: Structures of which a member was never trained on something [B] bool; ``None`` if there is none.
        batch: Structure of each atom [N].

    Returns:
        The means, and with each its spread as ``<name>_std``, infinite for such structures.
    """
    out: dict[str, Tensor] = {}
    for name, first in every[0].items():
        mean, std, _ = mean_and_spread(torch.stack([one[name] for one in every]))
        std = _unbounded(std, strange, batch if name in {"forces", "virials"} else None)
        out |= {name: mean.to(first.dtype), f"{name}_std": std}
    return out


def _unbounded(std: Tensor, strange: Tensor | None, batch: Tensor | None = None) -> Tensor:
    """Infinite spreads where members were not trained: however little they differ, it means nothing."""
    if strange is None:
        return std
    strange = strange if batch is None else strange[batch]
    return std.masked_fill(strange.view(-1, *[1] * (std.dim() - 1)), torch.inf)


def _nested_edges(structures: Structures, cutoffs: list[float]) -> dict[float, Edges]:
    """Edges within each cutoff, from one search: the same, in the same order, as a search of their own finds."""
    pos, batch, cell = structures.pos, structures.batch, structures.cell
    graph = batch, structures.batch_size, cell, structures.pbc
    edge_index, pair_index, pair_shift, edge_pair = neighbor_pairs(pos, max(cutoffs), *graph)
    edge_vec = pair_vectors(pos, pair_index, pair_shift, cell, batch)
    if cell is not None:  # vectors of open axes may be NaN
        cell = torch.where(cell.isfinite().all(-1, keepdim=True), cell, 0.0)
    found = {}
    for cutoff in cutoffs:
        inside = within_cutoff(pos, pair_index, pair_shift, cell, batch, cutoff)  # [P]
        kept = inside[edge_pair]  # [E]
        number = inside.cumsum(0) - 1  # of the pairs that are left
        found[cutoff] = Edges(edge_index[:, kept], edge_vec[inside], number[edge_pair[kept]], pair_index[:, inside])
    return found


def _checked(members: Any) -> list[AtomisticModel]:
    if not isinstance(members, (Sequence, nn.ModuleList)) or isinstance(members, str):
        raise TypeError(f"`members` must be a list of at least two models, got {type(members).__name__}")
    for number, member in enumerate(members):
        if not isinstance(member, AtomisticModel):
            raise TypeError(
                f"member {number} must be an AtomisticModel, for example a SchNet, got {type(member).__name__}"
            )
    if len(members) < 2:
        raise ValueError(f"a committee needs at least 2 members to have a spread, got {len(members)}; train more")
    models = cast(list[AtomisticModel], list(members))
    expected = _traits(models[0])
    for number, member in enumerate(models):
        for name, value in _traits(member).items():
            if value != expected[name]:
                raise ValueError(
                    f"all members must have the same {name}, got {expected[name]} in member 0 and {value} in member "
                    f"{number}; leave one of them out or make them alike"
                )
    return models


def _traits(member: AtomisticModel) -> dict[str, Any]:
    """What all members must have in common."""
    readout, weight = member.config["readout"], member.embedding.weight
    name = readout if isinstance(readout, str) else type(readout).__name__
    return {
        "number of targets": member.out_channels,
        "readout": "add" if name == "sum" else name,
        "units": member.units,
        "dtype": weight.dtype,
        "device": weight.device,
    }


def _homes_in(folder: Path) -> list[Path]:
    """Folders of members, in the order of their numbers."""
    homes = [home for home in folder.glob("member_*") if home.is_dir()]
    return sorted(homes, key=lambda home: (len(home.name), home.name))


def _files_of(folder: Path) -> list[Path]:
    if folder.is_file():
        raise ValueError(f"{folder} is one model; pass the folder of a committee or a list of at least two files")
    homes = _homes_in(folder)
    if not homes:
        raise FileNotFoundError(f"there is no member_0/{FILE} in {folder}; pass the folder of a committee")
    for home in homes:
        if not (home / FILE).is_file():
            raise FileNotFoundError(f"{home} has no {FILE}; finish this member or pass a list of the others' files")
    return [home / FILE for home in homes]
