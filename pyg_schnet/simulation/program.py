"""Energies, forces and virials as a program of ``torch.export``: operations of torch alone, for any number of atoms."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.fast.ways import exactly
from pyg_schnet.graph import Edges, radius_graph, within_cutoff
from pyg_schnet.models import AtomisticModel, CommitteePotential, Potential
from pyg_schnet.models.committee import mean_and_spread
from pyg_schnet.models.compiled import as_it_was_written
from pyg_schnet.ops import edge_vectors, first_derivatives, gradient
from pyg_schnet.simulation.prepared import checked_dtype, energy_unit_of, first_of, own_potential, potential_of
from pyg_schnet.units import ENERGY

#: How far a program may be from its model, of the largest value, in each kind of numbers: rounding, no more.
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}
#: Libraries of operations that libtorch brings along, and those that count sizes.
_OF_TORCH = {"aten", "prims", "prim", "higher_order", "_operator", "math", "torch"}
#: Numbers of atoms of the structures by which a program is traced, and of those by which it is compared: all sizes of
#: the first are different from each other, and none is 3, the number of coordinates.
_TRACED, _COMPARED = (2, 4, 3, 1, 4), ((1,), (3,), (2, 1, 4))
#: Those by which a package is compared with its program: compilers work on 4, 8 or 16 numbers at a time, and on a rest.
_COMPILED = (*_COMPARED, (8,), (16,), (17,), (8, 8, 8), (2,) * 9)


def program(model: Any, *, dtype: torch.dtype | None = None, energy_unit: str | None = None) -> ExportedProgram:
    """What :func:`~pyg_schnet.simulation.exporting.export` compiles, for other compilers and other devices.

    Args:
        model: What :class:`~pyg_schnet.simulation.ase.SchNetCalculator` takes.
        dtype: ``torch.float32`` or ``torch.float64`` for the network, ``None`` for that of the model.
        energy_unit: Unit of the model's energies; ``None`` for what it says itself, else eV.

    Returns:
        The program, whose inputs and outputs are those of the package; it has been compared with its model for
        several numbers of atoms, edges and structures.

    Raises:
        TypeError: If ``model`` is none of these, or a potential of another kind, with forces of its own.
        ValueError: If the model has no energy of structures, or what it computes depends on values in a way that a
            compiler cannot follow.

    Example:
        >>> from pyg_schnet import SchNet
        >>> traced = program(SchNet(8, 8, 1)).module()
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]], dtype=torch.float64)
        >>> batch, cell = torch.tensor([0, 0]), torch.zeros(1, 3, 3, dtype=torch.float64)
        >>> edge_index, edge_shift = torch.tensor([[1, 0], [0, 1]]), torch.zeros(2, 3, dtype=torch.long)
        >>> energy, forces, virial = traced(z, pos, batch, edge_index, edge_shift, cell)
        >>> energy.shape, forces.shape, virial.shape
        (torch.Size([1]), torch.Size([2, 3]), torch.Size([1, 3, 3]))
    """
    potential = exact_potential(model, dtype)
    unit, elements = ENERGY[energy_unit_of(potential, energy_unit)], elements_of(potential)
    models = [as_it_was_written(one) for one in members_of(potential)]
    reach = float(potential.model.cutoff)
    with _quiet(), exactly():
        try:
            traced = _traced(models, unit, _examples(_TRACED, reach, elements))
            every = [_examples(sizes, reach, elements) for sizes in _COMPARED]
            found = [traced.module()(*one) for one in every]
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"{_name(potential)} cannot be exported, {_reason(error)}") from error
        expected = [_evaluated(potential, unit, *one) for one in every]
    if foreign := sorted(
        {_library(node.target) for node in traced.graph.nodes if node.op == "call_function"} - _OF_TORCH
    ):
        raise ValueError(
            f"{_name(potential)} cannot be exported, it needs operations of {', '.join(foreign)}, which libtorch lacks"
        )
    if not all(_alike(ours[:3], theirs, potential) for ours, theirs in zip(found, expected, strict=True)):
        raise ValueError(
            f"{_name(potential)} cannot be exported, the program gives other values than the model: something "
            "depends on the number of atoms, edges or structures in a way that a compiler cannot follow"
        )
    return traced


def agrees(package: Callable[..., Sequence[Tensor]], traced: ExportedProgram, potential: Any) -> bool:
    """True if what a compiler made of a program gives the same values, for several numbers of atoms and structures.

    Args:
        package: What was compiled.
        traced: What it was compiled from.
        potential: The potential, see :func:`exact_potential`.

    Returns:
        True if all values agree but for rounding.
    """
    run, reach, elements = traced.module(), float(potential.model.cutoff), elements_of(potential)
    every = (_examples(sizes, reach, elements) for sizes in _COMPILED)
    return all(_alike(package(*inputs), run(*inputs), potential) for inputs in every)


def _alike(ours: Sequence[Tensor], theirs: Sequence[Tensor], potential: Any) -> bool:
    """True if values differ by no more than rounding in the kind of numbers of a potential."""
    bound = _ROUNDING[first_of(potential).embedding.weight.dtype]
    return all(
        torch.allclose(one, other, rtol=bound, atol=bound * float(other.abs().max().clamp(min=1.0)))
        for one, other in zip(ours, theirs, strict=True)
    )


def exact_potential(model: Any, dtype: torch.dtype | None = None) -> Any:
    """A copy of the potential of a model on the CPU, whose filters are evaluated.

    Args:
        model: What a simulation takes.
        dtype: Floating-point type; ``None`` for the model's own.

    Returns:
        The potential.

    Raises:
        TypeError, ValueError: As :func:`program`.
    """
    potential = own_potential(potential_of(model), "cpu", checked_dtype(dtype), frozen=False, only_usual=True)
    for one in members_of(potential):
        if isinstance(one, TabulatedFilters):
            one.filters = "exact"
    return potential


def members_of(potential: Potential | CommitteePotential) -> list[AtomisticModel]:
    """The models of a potential.

    Args:
        potential: The potential.

    Returns:
        The model, or the members of the committee.
    """
    return list(potential.model) if isinstance(potential, CommitteePotential) else [potential.model]


def elements_of(potential: Potential | CommitteePotential) -> list[int]:
    """Elements that a potential was trained on, all that it takes if they are not known.

    Args:
        potential: The potential.

    Returns:
        Atomic numbers, sorted.
    """
    largest = min(one.embedding.weight.size(0) for one in members_of(potential)) - 1
    return potential.model.elements or list(range(1, largest + 1))


class _Energies(nn.Module):
    """Energies of structures [B] from the vectors of their edges."""

    def __init__(self, model: AtomisticModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, z: Tensor, pos: Tensor, batch: Tensor, edge_index: Tensor, edge_vec: Tensor, cell: Tensor
    ) -> Tensor:
        structures = batch, cell.size(0)
        residual = self.model.predict(z, pos, *structures, Edges(edge_index, edge_vec, None, edge_index))
        return self.model.total(residual, z, *structures).squeeze(-1)


class _Program(nn.Module):
    """A traced function under names of its arguments."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(
        self, z: Tensor, pos: Tensor, batch: Tensor, edge_index: Tensor, edge_shift: Tensor, cell: Tensor
    ) -> tuple[Tensor, ...]:
        return self.function(z, pos, batch, edge_index, edge_shift, cell)


def _traced(models: Sequence[AtomisticModel], unit: float, example: tuple[Tensor, ...]) -> ExportedProgram:
    """Energies are traced first, then they and their derivatives: a compiler does not follow autograd itself."""
    z, pos, batch, edge_index, edge_shift, cell = example
    n, e, b = Dim("atoms"), Dim("edges"), Dim("structures")
    networks = []
    for model in models:
        dtype = model.embedding.weight.dtype
        given = (
            z,
            pos.to(dtype),
            batch,
            edge_index,
            edge_vectors(pos, edge_index, edge_shift, cell, batch).to(dtype),
            cell,
        )
        shapes = ({0: n}, {0: n}, {0: n}, {1: e}, {0: e}, {0: b})
        networks.append(torch.export.export(_Energies(model), given, dynamic_shapes=shapes, strict=False).module())

    def outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(networks, models, strict=True)
        every = [
            _with_derivatives(network, model.cutoff, model.embedding.weight.dtype, *inputs) for network, model in pairs
        ]
        if len(every) == 1:
            return tuple(unit * one for one in every[0])
        energy, forces, virial = (mean_and_spread(torch.stack(one)) for one in zip(*every, strict=True))
        found = energy.mean, forces.mean, virial.mean, energy.std, forces.std
        return tuple(unit * one for one in found)

    function = make_fx(outputs, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
    shapes = ({0: n}, {0: n}, {0: n}, {1: e}, {0: e}, {0: b})
    return torch.export.export(_Program(function), example, dynamic_shapes=shapes, strict=False)


def _with_derivatives(
    network: Callable[..., Tensor],
    cutoff: float,
    dtype: torch.dtype,
    z: Tensor,
    pos: Tensor,
    batch: Tensor,
    edge_index: Tensor,
    edge_shift: Tensor,
    cell: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Energies [B], forces [N, 3] and virials [B, 3, 3] float64 in the unit of the model."""
    inside = within_cutoff(pos, edge_index, edge_shift, cell, batch, cutoff)
    edge_index = edge_index[:, inside]
    edge_vec = edge_vectors(pos, edge_index, edge_shift[inside], cell, batch)
    moved = edge_vec.to(dtype).detach().requires_grad_()
    energy = network(z, pos.to(dtype), batch, edge_index, moved, cell)
    slope = gradient(energy, moved).detach().double()
    found = first_derivatives(energy.detach().double(), slope, edge_vec, edge_index, batch, virials=True)
    virial = slope.new_zeros(cell.size(0), 3, 3).index_add(0, batch, found["virials"])
    return found["energy"], found["forces"], virial


def _evaluated(potential: Any, unit: float, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The same by the potential itself."""
    z, pos, batch, edge_index, edge_shift, cell = inputs
    dtype = first_of(potential).embedding.weight.dtype
    graph = {"edge_index": edge_index, "edge_shift": edge_shift, "cell": cell.to(dtype)}
    found = potential(z, pos.to(dtype), batch, batch_size=len(cell), virials=True, **graph)
    virial = cell.new_zeros(cell.shape).index_add(0, batch, found["virials"].double())
    return unit * found["energy"].double(), unit * found["forces"].double(), unit * virial


def _examples(sizes: Sequence[int], cutoff: float, elements: list[int]) -> tuple[Tensor, ...]:
    """Chains of atoms in boxes, with their images; one that has a single atom is alone in the world."""
    step = min(1.3, cutoff / 3)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    number = torch.arange(len(batch))
    pos = step * torch.stack([number, 0.3 * (number % 2), 0.2 * (number % 3)], dim=1).double()
    pos[:, 0] -= torch.tensor([pos[batch == one, 0].min() for one in range(len(sizes))], dtype=torch.float64)[batch]
    periodic = torch.tensor(sizes) > 1
    cell = torch.eye(3, dtype=torch.float64) * max(5 * step, 0.7 * cutoff) * periodic.view(-1, 1, 1)
    graph = radius_graph(pos, 1.1 * cutoff, batch, cell, periodic.unsqueeze(1).expand(-1, 3), batch_size=len(sizes))
    z = torch.tensor(elements)[number % min(len(elements), 3)]
    return z, pos, batch, graph.edge_index, graph.edge_shift, cell


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch says while it traces is for those who write it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _name(potential: Any) -> str:
    names = sorted({type(one).__name__ for one in members_of(potential)})
    return f"this {names[0]}" if isinstance(potential, Potential) else f"this committee of {' and '.join(names)}"


def _library(target: Any) -> str:
    """Where an operation comes from."""
    return str(getattr(target, "namespace", None) or getattr(target, "__module__", "?")).split(".", maxsplit=1)[0]


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    if "DataDependent" in kind or "data-dependent" in str(error):
        return "sizes of what it computes depend on values, which a compiler cannot follow"
    return f"torch cannot trace it ({(str(error).splitlines() or [kind])[0][:200]})"
