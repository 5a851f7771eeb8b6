"""Structures of ASE as ``Data`` of PyG, and back (extra ``md``)."""

from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.graph.centre import centred
from pyg_schnet.models.charges import said_of

try:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.data import chemical_symbols
    from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
except ImportError as error:
    raise ImportError('structures of ASE need ASE; install it with pip install "pyg_schnet[md]"') from error

#: Labels of a ``Data`` that ASE keeps as results of a calculator.
LABELS = ("energy", "forces", "stress")
#: Keys that belong to the structure itself, or to a graph made of it.
_STRUCTURE = {"z", "pos", "cell", "pbc", "batch", "ptr", "num_nodes", "edge_index", "edge_shift", "edge_cutoff"}
#: Names of a ``Data`` that mean something else to ASE, and what they are called there.
_TAKEN = ("numbers", "positions")


def atoms_to_data(
    atoms: Atoms, dtype: torch.dtype | None = None, device: str | torch.device = "cpu", *, labels: bool = False
) -> Data:
    """A structure of ASE as a ``Data`` of PyG.

    Positions far from the origin are brought near it before they are rounded, see
    :func:`~pyg_schnet.graph.centre.centred`: nothing but their differences matters to a model.

    Args:
        atoms: The structure.
        dtype: Floating-point type; ``None`` for torch's default.
        device: Where to put the tensors.
        labels: True to take energy, forces and stress along, as far as the calculator of ``atoms`` has them already.

    Returns:
        ``z`` [n], ``pos`` [n, 3] and ``cell`` [1, 3, 3] in Angstrom, ``pbc`` [1, 3]; ``charge``, ``multiplicity`` [1]
        float64, where ``atoms`` say them (:func:`said_by`); with ``labels`` also ``energy`` [1] float64 in eV,
        ``forces`` [n, 3] in eV/Angstrom and ``stress`` [1, 3, 3] in eV/Angstrom^3, those known.

    Raises:
        TypeError: If ``atoms`` is no ``Atoms``, or ``dtype`` no floating-point type.
        ValueError: If a position is more than 1e9 Angstrom from the origin.

    Example:
        >>> from ase.build import bulk
        >>> atoms_to_data(bulk("Fe")).pbc
        tensor([[True, True, True]])
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(f"`atoms` must be an Atoms of ASE, got {type(atoms).__name__}")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_floating_point:
        raise TypeError(f"`dtype` must be a floating-point type such as torch.float32, got {dtype}")
    cell = atoms.cell.array
    data = Data(
        z=torch.tensor(atoms.numbers, dtype=torch.long, device=device),
        pos=torch.tensor(centred(atoms.positions, cell, atoms.pbc), dtype=dtype, device=device),
        cell=torch.tensor(cell, dtype=dtype, device=device).unsqueeze(0),
        pbc=torch.tensor(atoms.pbc, device=device).unsqueeze(0),
    )
    for name, value in said_by(atoms).items():
        data[name] = torch.tensor([value], dtype=torch.float64, device=device)
    if labels:
        _add_labels(data, atoms, dtype, device)
    return data


def said_by(atoms: Atoms) -> dict[str, float]:
    """The net charge and the multiplicity of a structure of ASE, as far as it says them.

    Its ``info`` goes before the sum of its initial charges. Initial magnetic moments, where a calculation starts, and
    ``info["spin"]``, which means different things to different programs, are not looked at.

    Args:
        atoms: The structure.

    Returns:
        ``charge`` and ``multiplicity``, those that are said.

    Example:
        >>> said_by(Atoms("OH", [[0, 0, 0], [0, 0, 0.96]], charges=[-1.2, 0.2], info={"multiplicity": 1}))
        {'charge': -1.0, 'multiplicity': 1.0}
    """
    charges = atoms.arrays.get("initial_charges")
    summed = {} if charges is None else {"charge": round(float(charges.sum()), 6)}
    return summed | (said_of(atoms.info) if atoms.info else {})


def data_to_atoms(data: Data) -> Atoms | list[Atoms]:
    """A ``Data`` of PyG as a structure of ASE, with all that it holds.

    Energy, forces and stress become results of a ``SinglePointCalculator``, whatever is known of them; further fields
    with a row for each atom go to ``atoms.arrays``, all others to ``atoms.info``, under their own names. Edges are left
    out.

    Args:
        data: A structure with ``z`` and ``pos``, or a ``Batch`` of them.

    Returns:
        The structure; a list of structures for a ``Batch``.

    Raises:
        TypeError: If ``data`` is no ``Data``.
        ValueError: If it has no ``z`` or ``pos``, or shapes do not fit, or ``z`` holds what is no atomic number.

    Example:
        >>> labels = {"energy": torch.tensor([-2.0]), "gap": torch.tensor([7.0])}
        >>> atoms = data_to_atoms(Data(z=torch.tensor([8, 1, 1]), pos=torch.eye(3), **labels))
        >>> str(atoms.symbols), atoms.get_potential_energy(), atoms.info
        ('OH2', -2.0, {'gap': 7.0})
    """
    if not isinstance(data, Data):
        raise TypeError(f"`data` must be a Data or Batch of PyG, got {type(data).__name__}")
    if isinstance(data, Batch):
        return [_atoms_of(one) for one in data.to_data_list()]
    return _atoms_of(data)


def _add_labels(data: Data, atoms: Atoms, dtype: torch.dtype, device: str | torch.device) -> None:
    """What the calculator knows of this very structure; nothing is computed."""
    calculator = atoms.calc
    if calculator is None or calculator.calculation_required(atoms, []):
        return
    results = calculator.results
    if "energy" in results:
        data.energy = torch.tensor([results["energy"]], dtype=torch.float64, device=device)
    if "forces" in results:
        data.forces = torch.as_tensor(np.array(results["forces"]), dtype=dtype, device=device)
    if "stress" in results:
        stress = np.asarray(results["stress"], dtype=np.float64)
        full = voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress
        data.stress = torch.as_tensor(full, dtype=dtype, device=device).unsqueeze(0)


def _atoms_of(data: Data) -> Atoms:
    for name in ("z", "pos"):
        if not isinstance(data.get(name), Tensor):
            raise ValueError(f"`data` must have `z` [N] and `pos` [N, 3]; `{name}` is missing")
    numbers, positions = _array(data.z), _array(data.pos)
    if numbers.ndim != 1 or positions.shape != (len(numbers), 3):
        raise ValueError(
            f"`z` and `pos` must have shapes [N] and [N, 3], got {list(numbers.shape)} and {list(positions.shape)}"
        )
    possible = np.isin(numbers, np.arange(len(chemical_symbols)))
    if not possible.all():
        atom = int(np.flatnonzero(~possible)[0])
        raise ValueError(
            f"`z` must hold atomic numbers from 0 to {len(chemical_symbols) - 1}, got {numbers[atom]} for atom {atom}"
        )
    cell, pbc = data.get("cell"), data.get("pbc")
    atoms = Atoms(
        numbers.astype(np.int64),
        positions.astype(np.float64),
        cell=None if cell is None else _shaped("cell", cell, (3, 3)),
        pbc=None if pbc is None else _shaped("pbc", pbc, (3,)).astype(bool),
    )
    results = _results(data)
    for name in data.keys():  # noqa: SIM118  a Data is no mapping
        if name not in _STRUCTURE and name not in LABELS:
            _keep(atoms, name, data[name])
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _results(data: Data) -> dict[str, Any]:
    """Labels as ASE has them; those that are not known at all are left out."""
    results: dict[str, Any] = {}
    for name in LABELS:
        value = data.get(name)
        if not isinstance(value, Tensor) or value.numel() == 0 or bool(value.isnan().all()):
            continue
        if name == "energy":
            results[name] = float(_shaped(name, value, ()))
        elif name == "forces":
            results[name] = _shaped(name, value, (data.z.numel(), 3))
        else:
            results[name] = full_3x3_to_voigt_6_stress(_shaped(name, value, (3, 3)))
    return results


def _shaped(name: str, value: Tensor, shape: tuple[int, ...]) -> ndarray:
    """What a structure has of its own, float64, with or without the first dimension that a batch gives it."""
    array = _array(value).astype(np.float64)
    if array.shape not in {shape, (1, *shape)} and not (shape == () and array.size == 1):
        raise ValueError(
            f"`{name}` of a structure must have the shape {list(shape)} or {[1, *shape]}, got {list(array.shape)}"
        )
    return array.reshape(shape)


def _keep(atoms: Atoms, name: str, value: Any) -> None:
    """A further field, with the atoms if it has a row for each of them, else with the structure."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        atoms.info[name] = value
        return
    array = _array(value)
    of_atoms = array.ndim > 0 and len(array) == len(atoms) and name not in _TAKEN
    if of_atoms and (len(atoms) > 1 or name.startswith("atom")):  # of a single atom, most are the structure's
        atoms.new_array(name, array)
    elif array.size == 1:
        atoms.info[name] = array.reshape(-1)[0].item()
    else:  # a vector of a structure is stored [1, ...]
        atoms.info[name] = array[0] if array.ndim > 1 and len(array) == 1 else array


def _array(value: Tensor) -> ndarray:
    value = value.detach().cpu()
    array: ndarray = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return array
