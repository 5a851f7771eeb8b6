"""A potential: energy, forces, virials, stress and second derivatives of a model of energies."""

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet.fast.shortcut import shortcut
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.compiled import as_it_was_written, not_compiled
from pyg_schnet.models.elements import check_elements
from pyg_schnet.models.hessian import check_vector, hessian_vector, hessians
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.models.structures import Structures, usable
from pyg_schnet.ops import first_derivatives, gradient


class Potential(nn.Module):
    r"""Energy of a model and its derivatives.

    .. math::
        F_i = -\frac{\partial \hat E}{\partial r_i}, \quad
        \sigma = \frac{1}{V} \frac{\partial \hat E}{\partial \varepsilon}, \quad
        \sum_i w_i = -\frac{\partial \hat E}{\partial \varepsilon} = -V \sigma, \quad
        H_{ia,jb} = \frac{\partial^2 \hat E}{\partial r_{ia} \partial r_{jb}}

    Forces by equation (4) of Schütt et al., J. Chem. Phys. 148, 241722 (2018). The strain :math:`\varepsilon` takes
    positions and lattice vectors, as rows, to :math:`r (1 + \varepsilon)`. The stress has the sign of ASE: positive
    diagonal elements pull inwards; the virials of the atoms have that of LAMMPS and of most data sets, see
    :func:`~pyg_schnet.ops.virials_from_edges`. While the model is in training mode (a loaded one is not; call
    ``model.train()``), all of them are differentiable again. With ``readout="mean"`` the energy is that per atom and so
    are all derivatives of it: multiply by the number of atoms of the structure.

    Args:
        model: A model of energies. To compile it, compile its network, ``model.compile_network()``. Derivatives are
            taken outside: ``torch.compile(Potential(model))`` gives the same results, no faster.
        stress: True if a call returns the stress, unless it says otherwise.
        virials: True if a call returns the virials of the atoms, unless it says otherwise.
        strict: True to refuse elements and charges that the model was never trained on, see
            :func:`~pyg_schnet.models.elements.check_elements`; otherwise it warns once.

    Raises:
        TypeError: If ``model`` is no :class:`~pyg_schnet.models.AtomisticModel`, or overrides its ``forward``.
        ValueError: If it predicts something else than one energy.

    Example:
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> potential = Potential(SchNet.preset("jcp2018"))
        >>> out = potential(water)
        >>> out["energy"].shape, out["forces"].shape
        (torch.Size([1]), torch.Size([3, 3]))
        >>> potential(water, virials=True)["virials"].shape, potential.hessian(water)[0].shape
        (torch.Size([3, 3, 3]), torch.Size([3, 3, 3, 3]))
    """

    model: Any

    def __init__(self, model: nn.Module, *, stress: bool = False, virials: bool = False, strict: bool = False) -> None:
        super().__init__()
        _check_model(model)
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
        """Energy and first derivatives of each structure.

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
            stress: True to return the stress; every structure then needs a complete cell, periodic or not.
                ``None`` for what the constructor was told.
            virials: True to return the virials of the atoms, which need no cell.

        Returns:
            ``energy`` in eV [B] and ``forces`` in eV/Angstrom [N, 3]; if asked for, ``stress`` in eV/Angstrom^3
            [B, 3, 3], with the whole volume of the cell as in ASE, and ``virials`` in eV [N, 3, 3]. The energy is
            float64 whatever the dtype of the model: float32 cannot tell total energies apart.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values, or a stress is asked for without a
                cell. On a GPU, where values are not looked at, the stress of a cell without volume is NaN.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        if torch.compiler.is_compiling():
            rest = {"batch_size": batch_size, "stress": stress, "virials": virials}
            return not_compiled(self, data, pos, batch, **graph, **rest)
        stress = self.stress if stress is None else stress
        virials = self.virials if virials is None else virials
        structures, differentiable = self._given(data, pos, batch, batch_size, graph)
        with torch.inference_mode(False), torch.enable_grad():
            if stress:
                structures.find_edges(self.model)  # whatever else is wrong is said first
                check_volume(structures.cell)
            return derivatives(self.model, structures, stress, virials, differentiable)

    def hessian(
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
    ) -> list[Tensor]:
        """Second derivatives of the energy of each structure with respect to the positions of its atoms.

        In a crystal, the images of an atom move with it: the Hessian is that at the centre of the Brillouin zone. All
        structures of a batch are differentiated at once, an atom and a direction of each in one backward pass, so a
        batch takes as many passes as three times the atoms of its largest structure. The sum over all atoms of a
        structure vanishes, because a translation costs nothing.

        Args:
            data: As in :meth:`forward`, like all other arguments.
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N].
            edge_index: Neighbours j -> i [2, E].
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows in Angstrom [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures.

        Returns:
            For each structure, also if there is only one, its Hessian [n, 3, n, 3] in eV/Angstrom^2, in the dtype of
            the model; ``hessian.view(3 * n, 3 * n)`` is the matrix.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        structures, differentiable = self._given(data, pos, batch, batch_size, graph)
        with torch.inference_mode(False), torch.enable_grad():
            return hessians(
                *energy_on(as_it_was_written(self.model), structures, differentiable), structures, differentiable
            )

    def hessian_vector_product(
        self,
        data: Data | Tensor,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        vector: Tensor,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        r"""Product of the Hessian and a vector, in one backward pass and without the Hessian.

        .. math:: (H v)_{ia} = \sum_{jb} \frac{\partial^2 \hat E}{\partial r_{ia} \partial r_{jb}} v_{jb}

        Args:
            data: As in :meth:`forward`, like all other arguments.
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N].
            vector: A displacement of every atom [N, 3].
            edge_index: Neighbours j -> i [2, E].
            edge_shift: Image of the source of each edge [E, 3].
            cell: Lattice vectors as rows in Angstrom [B, 3, 3].
            pbc: Periodic axes [B, 3].
            batch_size: Number of structures.

        Returns:
            The product [N, 3]: eV/Angstrom for a vector in Angstrom.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values.
        """
        graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        structures, differentiable = self._given(data, pos, batch, batch_size, graph)
        with torch.inference_mode(False), torch.enable_grad():
            energy, edge_vec = energy_on(as_it_was_written(self.model), structures, differentiable)
            check_vector(vector, structures.batch.size(0), edge_vec.dtype)
            return hessian_vector(energy, edge_vec, structures, usable(vector), differentiable)

    def _given(
        self, data: Any, pos: Any, batch: Any, batch_size: int | None, graph: dict[str, Tensor | None]
    ) -> tuple[Structures, bool]:
        """The structures, and whether their derivatives are to be differentiable again."""
        structures = Structures.of(data, pos, self.model.cutoff, batch_size, batch=batch, **graph)
        check_elements(self.model, structures.z, self.strict, structures.batch, structures.electrons)
        return structures, self.model.training and torch.is_grad_enabled()


def derivatives(
    model: AtomisticModel,
    structures: Structures,
    stress: bool = False,
    virials: bool = False,
    differentiable: bool = False,
) -> dict[str, Tensor]:
    """Energies of structures and their first derivatives.

    Args:
        model: A model of energies.
        structures: The structures.
        stress: True to return the stress, if there is a cell.
        virials: True to return the virials of the atoms.
        differentiable: True if derivatives are to be differentiable again.

    Returns:
        What :meth:`Potential.forward` returns.
    """
    model = as_it_was_written(model) if differentiable else model
    if (found := shortcut(model, structures, differentiable, stress, virials)) is not None:
        return found
    energy, edge_vec = energy_on(model, structures, differentiable)
    slope = gradient(energy, edge_vec, create_graph=differentiable)  # [P, 3]
    graph = edge_vec, structures.find_edges(model).pair_index, structures.batch, structures.cell
    out = first_derivatives(energy, slope, *graph, stress=stress, virials=virials)
    return out if differentiable else {name: value.detach() for name, value in out.items()}


def energy_on(model: AtomisticModel, structures: Structures, differentiable: bool) -> tuple[Tensor, Tensor]:
    """Energies of structures, and the vectors of pairs by which they can be differentiated.

    Args:
        model: A model of energies.
        structures: The structures.
        differentiable: True if derivatives are to be differentiable again.

    Returns:
        Energies [B] float64 and vectors [P, 3].
    """
    edges = structures.find_edges(model)
    if not (differentiable and edges.edge_vec.requires_grad):  # nobody differentiates through positions or cell
        edges = edges._replace(edge_vec=edges.edge_vec.detach().requires_grad_())
    batch, batch_size = structures.structure_of_atoms
    residual = model.predict(structures.z, structures.pos, batch, batch_size, edges)  # [B, 1]
    return model.total(residual, structures.z, batch, batch_size).squeeze(-1), edges.edge_vec


def _check_model(model: Any) -> None:
    if hasattr(model, "_orig_mod"):
        raise TypeError(
            "`model` is compiled as a whole, which cannot be differentiated here; compile its network instead: "
            "model.compile_network()"
        )
    if not isinstance(model, AtomisticModel):
        raise TypeError(
            f"`model` must be an AtomisticModel, for example a SchNet, to have derivatives, got {type(model).__name__}"
        )
    if type(model).forward is not AtomisticModel.forward:
        raise TypeError(
            f"{type(model).__name__} has a `forward` of its own, which derivatives do not go through; override "
            "`predict` or `represent` instead"
        )
    if model.out_channels != 1:
        raise ValueError(
            f"`model` must predict one energy per structure, got one with {model.out_channels} targets; "
            "expected out_channels=1"
        )
    if hasattr(model.readout, "channels"):
        raise ValueError(
            f"`model` must predict an energy, got one with readout={model.config['readout']!r}, another property; "
            "expected readout='add'"
        )
