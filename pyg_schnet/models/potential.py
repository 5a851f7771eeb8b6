"""A potential: energy, forces, virials, stress and second derivatives of a model of energies."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet.graph import check_structures, may_inspect
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.compiled import as_it_was_written, not_compiled
from pyg_schnet.models.edges import Edges
from pyg_schnet.models.elements import check_elements
from pyg_schnet.models.inputs import check_volume, given_inputs
from pyg_schnet.ops import edge_vectors, forces_from_edges, gradient, stress_from_virials, virials_from_edges


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
        stress: Whether a call returns the stress, unless it says otherwise.
        virials: Whether a call returns the virials of the atoms, unless it says otherwise.
        strict: Whether to refuse elements that the model was never trained on, see
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
            stress: Whether to return the stress; every structure then needs a complete cell, periodic or not.
                ``None`` for what the constructor was told.
            virials: Whether to return the virials of the atoms, which need no cell.

        Returns:
            ``energy`` in eV [B] and ``forces`` in eV/Angstrom [N, 3]; if asked for, ``stress`` in eV/Angstrom^3
            [B, 3, 3], with the whole volume of the cell as in ASE, and ``virials`` in eV [N, 3, 3]. The energy is
            float64 whatever the dtype of the model: float32 cannot tell total energies apart.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument has the wrong shape or impossible values, or a stress is asked for without a
                cell. On a GPU, where values are not looked at, the stress of a cell without volume is NaN.
        """
        if torch.compiler.is_compiling():
            graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
            rest = {"batch_size": batch_size, "stress": stress, "virials": virials}
            return not_compiled(self, data, pos, batch, **graph, **rest)
        stress = self.stress if stress is None else stress
        virials = self.virials if virials is None else virials
        inputs = self._inputs(data, pos, batch, edge_index, edge_shift, cell, pbc, batch_size)
        check_elements(self.model, inputs[0], self.strict, inputs[3]["batch"])
        differentiable = self.model.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            if not (differentiable or stress or virials) and _is_open(*inputs[1:]):
                found = self.model.energies_and_forces(*inputs[:2], inputs[3]["batch"], inputs[2])
                if found is not None:
                    return {"energy": found[0], "forces": found[1]}
            point = self._evaluate(*inputs, differentiable, first_only=True)
            if stress:
                check_volume(point.cell)
            return first_derivatives(point, stress, virials, differentiable)

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
        inputs = self._inputs(data, pos, batch, edge_index, edge_shift, cell, pbc, batch_size)
        check_elements(self.model, inputs[0], self.strict, inputs[3]["batch"])
        differentiable = self.model.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            point = self._evaluate(*inputs, differentiable)
            slope = gradient(point.energy, point.edge_vec, create_graph=True)
            return _hessians(point, slope, differentiable)

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
        inputs = self._inputs(data, pos, batch, edge_index, edge_shift, cell, pbc, batch_size)
        check_elements(self.model, inputs[0], self.strict, inputs[3]["batch"])
        differentiable = self.model.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            point = self._evaluate(*inputs, differentiable)
            _check_vector(vector, point.batch.size(0), point.edge_vec.dtype)
            slope = gradient(point.energy, point.edge_vec, create_graph=True)
            return _product(point, slope, usable(vector), differentiable)

    def _inputs(
        self,
        data: Data | Tensor,
        pos: Tensor | None,
        batch: Tensor | None,
        edge_index: Tensor | None,
        edge_shift: Tensor | None,
        cell: Tensor | None,
        pbc: Tensor | None,
        batch_size: int | None,
    ) -> tuple[Tensor, Tensor, int | None, dict[str, Tensor | None]]:
        """Atomic numbers, positions, number of structures and the optional tensors, from either way to call."""
        given = {"batch": batch, "edge_index": edge_index, "edge_shift": edge_shift, "cell": cell, "pbc": pbc}
        return given_inputs(data, pos, self.model.cutoff, batch_size, given)

    def _evaluate(
        self,
        z: Tensor,
        pos: Tensor,
        batch_size: int | None,
        given: dict[str, Tensor | None],
        differentiable: bool,
        first_only: bool = False,
    ) -> "Point":
        z, pos = usable(z), usable(pos)
        given = {name: usable(tensor) for name, tensor in given.items()}
        batch, batch_size = check_structures(pos, given.pop("batch"), batch_size)
        edges: Edges = self.model.edges(z, pos, batch, batch_size, **given)
        return evaluate_on(self.model, z, pos, batch, batch_size, edges, given["cell"], differentiable, first_only)


class Point(NamedTuple):
    """Energies [B], and the vectors [P, 3] and atoms [2, P] of the pairs that they were computed from.

    ``slope`` [P, 3] is known only where energies come with their derivatives.
    """

    energy: Tensor
    edge_vec: Tensor
    pair_index: Tensor
    batch: Tensor
    batch_size: int
    cell: Tensor | None
    slope: Tensor | None = None


def evaluate_on(
    model: AtomisticModel,
    z: Tensor,
    pos: Tensor,
    batch: Tensor,
    batch_size: int,
    edges: Edges,
    cell: Tensor | None,
    differentiable: bool,
    first_only: bool = False,
) -> Point:
    """Energies on edges that are known already, ready to be differentiated.

    Args:
        model: A model of energies.
        z: Atomic numbers [N].
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        edges: Edges within the cutoff of the model.
        cell: Lattice vectors [B, 3, 3].
        differentiable: Whether derivatives are to be differentiable again.
        first_only: Whether :func:`first_derivatives` is all that is asked for, which some models have at once.

    Returns:
        Energies, and what they are differentiated by.
    """
    if differentiable or not first_only:
        model = as_it_was_written(model)
    found = model.energies_and_slopes(z, batch, batch_size, edges, differentiable) if first_only else None
    if found is not None:
        energy = model.total(found[0], z, batch, batch_size).squeeze(-1)
        return Point(energy, edges.edge_vec.detach(), edges.pair_index, batch, batch_size, cell, found[1])
    if not (differentiable and edges.edge_vec.requires_grad):  # nobody differentiates through positions or cell
        edges = edges._replace(edge_vec=edges.edge_vec.detach().requires_grad_())
    residual = model.predict(z, pos, batch, batch_size, edges)  # [B, 1]
    energy = model.total(residual, z, batch, batch_size).squeeze(-1)  # [B]
    return Point(energy, edges.edge_vec, edges.pair_index, batch, batch_size, cell)


def first_derivatives(point: Point, stress: bool, virials: bool, differentiable: bool) -> dict[str, Tensor]:
    """What :meth:`Potential.forward` returns; the cell is already checked.

    Args:
        point: What :func:`evaluate_on` returned.
        stress: Whether to return the stress, if there is a cell.
        virials: Whether to return the virials.
        differentiable: Whether all is to be differentiable again.

    Returns:
        ``energy``, ``forces`` and, if asked for, ``virials`` and ``stress``.
    """
    num_atoms = point.batch.size(0)
    slope = point.slope  # [P, 3]
    if slope is None:
        slope = gradient(point.energy, point.edge_vec, create_graph=differentiable)
    out = {"energy": point.energy, "forces": forces_from_edges(slope, point.pair_index, num_atoms)}
    if stress or virials:
        w = virials_from_edges(slope, point.edge_vec, point.pair_index, num_atoms)
        if virials:
            out["virials"] = w
        if stress and point.cell is not None:
            out["stress"] = stress_from_virials(w, point.cell, point.batch)
    return out if differentiable else {name: value.detach() for name, value in out.items()}


def _product(point: Point, slope: Tensor, vector: Tensor, differentiable: bool) -> Tensor:
    """The Hessian times a vector [N, 3], by way of the displacements of the pairs."""
    moved = edge_vectors(vector, point.pair_index)  # [P, 3]
    change = gradient(slope, point.edge_vec, moved, create_graph=differentiable, retain_graph=True)
    return -forces_from_edges(change, point.pair_index, point.batch.size(0))


def _hessians(point: Point, slope: Tensor, differentiable: bool) -> list[Tensor]:
    batch, num_atoms = point.batch, point.batch.size(0)
    count = torch.bincount(batch, minlength=point.batch_size)  # [B]
    number = torch.arange(num_atoms, device=batch.device) - (count.cumsum(0) - count)[batch]  # within its structure
    sizes = count.tolist()
    # all matrices one behind the other; `row` is where that of a coordinate begins
    length = 3 * count
    start = (length * length).cumsum(0) - length * length
    axes = torch.arange(3, device=batch.device)
    row = start[batch].unsqueeze(1) + (3 * number.unsqueeze(1) + axes) * length[batch].unsqueeze(1)  # [N, 3]
    flat = slope.new_zeros(sum(9 * size * size for size in sizes))
    for atom in range(max(sizes, default=0)):
        larger = (count[batch] > atom).nonzero().squeeze(1)
        for axis in range(3):
            vector = slope.new_zeros(num_atoms, 3)
            vector[number == atom, axis] = 1.0
            column = _product(point, slope, vector, differentiable)
            flat[row[larger] + 3 * atom + axis] = column[larger]
    parts = flat.split([9 * size * size for size in sizes])
    return [part.view(size, 3, size, 3) for part, size in zip(parts, sizes, strict=True)]


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


def _check_vector(vector: Any, num_atoms: int, dtype: torch.dtype) -> None:
    if not isinstance(vector, Tensor) or vector.dtype != dtype:
        kind = vector.dtype if isinstance(vector, Tensor) else type(vector).__name__
        raise TypeError(f"`vector` must be a {dtype} tensor [N, 3] like `pos`, got {kind}")
    if vector.shape != (num_atoms, 3):
        raise ValueError(f"`vector` must have shape [{num_atoms}, 3] like `pos`, got {list(vector.shape)}")


def _is_open(pos: Any, batch_size: int | None, given: dict[str, Tensor | None]) -> bool:
    """Whether structures surely have no periodic axes, all is as it should be, and edges are still to be found."""
    cell, pbc = given["cell"], given["pbc"]
    if given["edge_index"] is not None or given["edge_shift"] is not None:
        return False
    if cell is None and pbc is None:
        return True
    if not isinstance(pos, Tensor) or not isinstance(cell, Tensor) or not isinstance(pbc, Tensor):
        return False
    if not (pbc.shape == (1, 3) and pbc.dtype == torch.bool and (given["batch"] is None or batch_size == 1)):
        return False
    fits = cell.shape == (1, 3, 3) and cell.dtype == pos.dtype and cell.device == pos.device
    return fits and may_inspect(pbc) and not pbc.any()


def usable(tensor: Any) -> Any:
    """The tensor itself, or a copy that autograd may use if it was made in inference mode.

    Args:
        tensor: A tensor or ``None``.

    Returns:
        The same values.
    """
    return tensor.clone() if isinstance(tensor, Tensor) and tensor.is_inference() else tensor


def recordable(model: Any) -> AtomisticModel:
    """The model of energies whose steps can be recorded.

    Args:
        model: A model or its potential.

    Returns:
        The model.

    Raises:
        TypeError: If it is no :class:`~pyg_schnet.models.AtomisticModel`.
        ValueError: If it predicts something else than one energy, or looks at values.
    """
    own: Any = model.model if isinstance(model, Potential) else Potential(model).model
    if not own.recordable:
        raise ValueError(
            f"{type(own).__name__} cannot be recorded: it looks at values of its input; use the ordinary Potential"
        )
    return own
