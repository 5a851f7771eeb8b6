"""SchNet as an ASE calculator (extra ``md``)."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data

from pyg_schnet.models import Potential, load

try:
    from ase import Atoms
    from ase.calculators.calculator import Calculator, all_changes
except ImportError as error:
    raise ImportError('the calculator needs ASE; install it with pip install "pyg_schnet[md]"') from error


def atoms_to_data(atoms: Atoms, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Data:
    """A structure of ASE as a ``Data`` of PyG.

    Args:
        atoms: The structure.
        dtype: Floating-point type; ``None`` for torch's default.
        device: Where to put the tensors.

    Returns:
        ``z`` [n], ``pos`` [n, 3] and ``cell`` [1, 3, 3] in Angstrom, ``pbc`` [1, 3].

    Example:
        >>> from ase.build import bulk
        >>> atoms_to_data(bulk("Fe")).pbc
        tensor([[True, True, True]])
    """
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return Data(
        z=torch.as_tensor(atoms.numbers, dtype=torch.long, device=device),
        pos=torch.as_tensor(atoms.positions, dtype=dtype, device=device),
        cell=torch.as_tensor(atoms.cell.array, dtype=dtype, device=device).unsqueeze(0),
        pbc=torch.as_tensor(atoms.pbc, device=device).unsqueeze(0),
    )


class SchNetCalculator(Calculator):
    """Energies (eV) and forces (eV/Angstrom) of a SchNet for all that ASE does: dynamics, relaxation, vibrations.

    Args:
        model: A model of energies in eV, a :class:`~pyg_schnet.Potential`, or the path of a file written by
            :func:`pyg_schnet.save`. The calculator works on a copy.
        device: Where to evaluate, for example ``"cuda"``.
        dtype: Floating-point type to evaluate in; ``None`` for the model's own.
        **kwargs: Passed to ASE's ``Calculator``.

    Raises:
        TypeError: If ``model`` is none of these.
        ValueError: If it predicts a mean over the atoms instead of an energy.

    Example:
        >>> from ase.build import molecule
        >>> from pyg_schnet import SchNet
        >>> water = molecule("H2O")
        >>> water.calc = SchNetCalculator(SchNet.preset("jcp2018"))
        >>> water.get_forces().shape
        (3, 3)
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012  ASE declares it so

    def __init__(
        self,
        model: nn.Module | str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(model, (str, Path)):
            model = load(model)
        if not isinstance(model, nn.Module):
            raise TypeError(f"`model` must be a SchNet, a Potential or a path, got {type(model).__name__}")
        bare: Any = model.model if isinstance(model, Potential) else model
        if bare.config["readout"] == "mean":
            raise ValueError("`model` has readout='mean' and predicts an energy per atom; dynamics need readout='add'")
        self.potential = Potential(copy.deepcopy(bare)).to(device=device, dtype=dtype).eval().requires_grad_(False)
        first = next(self.potential.parameters())
        self.device, self.dtype = first.device, first.dtype

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy and forces; called by ASE.

        Args:
            atoms: The structure.
            properties: Not looked at: energy and forces come from one evaluation.
            system_changes: Not looked at.
        """
        super().calculate(atoms, properties or ["energy"], system_changes)
        structure: Any = self.atoms
        out = self.potential(atoms_to_data(structure, self.dtype, self.device))
        energy = float(out["energy"])
        self.results = {"energy": energy, "free_energy": energy, "forces": out["forces"].cpu().numpy()}
