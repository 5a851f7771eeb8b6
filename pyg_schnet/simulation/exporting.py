"""Energies and forces for programs that have no Python: models as packages of AOTInductor, with libtorch as host."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from pyg_schnet.compat import compile_package, find_cpp_compiler, load_package
from pyg_schnet.files import replacing
from pyg_schnet.models import CommitteePotential
from pyg_schnet.simulation.prepared import energy_unit_of, first_of, potential_of
from pyg_schnet.simulation.program import agrees, elements_of, exact_potential, members_of, program

#: What a package takes, in this order; kind of numbers, shape and meaning of each. All are contiguous.
INPUTS = {
    "z": "contiguous int64 [N], atomic numbers",
    "pos": "contiguous float64 [N, 3], positions in Angstrom",
    "batch": "contiguous int64 [N], structure of each atom, sorted",
    "edge_index": "contiguous int64 [2, E], source j and target i of each edge, both directions of a pair",
    "edge_shift": "contiguous int64 [E, 3], image of the source in cells",
    "cell": "contiguous float64 [B, 3, 3], lattice vectors as rows in Angstrom, zero for open structures",
}
#: What it returns, in this order.
OUTPUTS = {
    "energy": "float64 [B], eV",
    "forces": "float64 [N, 3], eV/Angstrom",
    "virial": "float64 [B, 3, 3], eV, the negative derivative by the strain",
}
#: What it returns besides if the model is a committee.
SPREADS = {
    "energy_std": "float64 [B], eV, spread of the members",
    "forces_std": "float64 [N, 3], eV/Angstrom, spread of the members",
}


def export(
    model: Any,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    energy_unit: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    r"""Compile a model into a package from which a program in C++ has energies, forces and virials.

    .. math::
        E = \sum_i E_i, \quad F_i = -\frac{\partial E}{\partial r_i}, \quad W = -\frac{\partial E}{\partial \varepsilon}

    The package needs libtorch of the version it was made with and no Python; it is machine code for processors like
    this one. It takes and returns tensors in the order of :data:`INPUTS` and :data:`OUTPUTS`, of any number of atoms N,
    edges E and structures B, on the CPU, and always in eV and Angstrom, whatever the unit of the model. The host
    passes contiguous tensors, since packages read memory row by row whatever the strides say, and libtorch looks at
    neither strides nor shapes nor kinds unless the environment variable ``AOTI_RUNTIME_CHECK_INPUTS`` is 1. It also
    searches the neighbours: each pair within the cutoff as two edges, j -> i and i -> j, in any order. Farther edges,
    as lists with a skin have them, are left out by the package. The virial has the sign of LAMMPS; stress is
    ``-virial / volume``. Filters are evaluated, never read from tables. Of a committee all is the mean of its
    members, and their spreads follow (:data:`SPREADS`).

    A package cannot say what is wrong: tensors of another kind or shape, float32 positions for example, and atomic
    numbers that the model does not know, 0 among them, give numbers that mean nothing, or end the process. A host
    checks them.

    What a host must know is in the metadata of the package, see :func:`metadata`. In C++, with libtorch::

        torch::inductor::AOTIModelPackageLoader model("model.pt2");
        double cutoff = std::stod(model.get_metadata()["cutoff"]);
        std::vector<at::Tensor> out = model.run({z, pos, batch, edge_index, edge_shift, cell});

    ``examples/export`` is a whole program. In Python, without this package: ``torch._inductor.aoti_load_package``.

    Args:
        model: What :class:`~pyg_schnet.simulation.ase.SchNetCalculator` takes: a model of energies, a committee, a
            potential of either, a file, a folder or the name of a trained model.
        path: File to write, ``*.pt2``.
        dtype: ``torch.float32`` or ``torch.float64`` for the network, ``None`` for that of the model; vectors of edges
            and sums are in float64.
        energy_unit: Unit of the model's energies; ``None`` for what it says itself, else eV.
        overwrite: True to replace a file that is there.
        progress: True to show a progress bar; compiling takes half a minute.

    Returns:
        The path.

    Raises:
        ArithmeticError: If the package gives other values than the model at some sizes: compilers make mistakes, too.
        FileExistsError: If there is such a file.
        FileNotFoundError: If there is no C++ compiler, or no folder to write into.
        TypeError: If ``model`` is none of these, or a potential of another kind, with forces of its own.
        ValueError: If ``path`` has another ending, or the model has no energy of structures, or what it computes
            depends on values in a way that a compiler cannot follow.

    Example:
        >>> import tempfile
        >>> from pyg_schnet import SchNet
        >>> path = Path(tempfile.mkdtemp()) / "model.pt2"
        >>> export(SchNet(16, 16, 1), path).stat().st_size > 0  # doctest: +SKIP
        True
    """
    path = _checked_path(path, overwrite)
    potential = exact_potential(model, dtype)
    facts = metadata(potential, energy_unit)
    if find_cpp_compiler() is None:
        raise FileNotFoundError(
            "a package is compiled by a C++ compiler, and there is none; install g++ or clang++, or name yours by the "
            "environment variable CXX"
        )
    with tqdm(None, f"exporting {path.name}", 2, leave=False, disable=None if progress else True) as bar:
        traced = program(potential, energy_unit=energy_unit)
        bar.update(1)
        with replacing(path) as part:
            compile_package(traced, part, facts)
            if not agrees(load_package(part), traced, potential):
                raise ArithmeticError(
                    f"the package gives other values than its model, compiled by torch {torch.__version__} and "
                    f"{find_cpp_compiler()}; nothing is written: try another version of either, or another `dtype`"
                )
        bar.update(1)
    return path


def metadata(model: Any, energy_unit: str | None = None) -> dict[str, str]:
    """What the host of a package must know, as it stands in the package.

    Args:
        model: As in :func:`export`.
        energy_unit: As in :func:`export`.

    Returns:
        ``cutoff`` in Angstrom; ``elements``, the atomic numbers of the training separated by blanks, all numbers up to
        the largest if it is not known; ``inputs`` and ``outputs`` as JSON; ``dtype`` of the network; ``units``;
        ``model``; ``format``, 1; versions of ``pyg_schnet`` and ``torch``.

    Raises:
        TypeError, ValueError: As :func:`export`.

    Example:
        >>> from pyg_schnet import SchNet
        >>> facts = metadata(SchNet(8, 8, 1, cutoff=5.0))
        >>> facts["cutoff"], facts["units"], json.loads(facts["inputs"])["pos"]
        ('5.0', 'eV Angstrom', 'contiguous float64 [N, 3], positions in Angstrom')
    """
    potential = potential_of(model)
    energy_unit_of(potential, energy_unit)
    many = isinstance(potential, CommitteePotential)
    names = [type(one).__name__ for one in members_of(potential)]
    return {
        "format": "1",
        "model": f"Committee of {', '.join(names)}" if many else names[0],
        "cutoff": repr(float(potential.model.cutoff)),
        "elements": " ".join(map(str, elements_of(potential))),
        "units": "eV Angstrom",
        "dtype": str(first_of(potential).embedding.weight.dtype).removeprefix("torch."),
        "inputs": json.dumps(INPUTS),
        "outputs": json.dumps(OUTPUTS | (SPREADS if many else {})),
        "pyg_schnet": sys.modules["pyg_schnet"].__version__,
        "torch": torch.__version__,
    }


def _checked_path(path: Any, overwrite: bool) -> Path:
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"`path` must end in .pt2, by which libtorch knows a package, got {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; choose another name, or replace it with overwrite=True")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into; create it first")
    return path
