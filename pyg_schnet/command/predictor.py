"""What a trained model predicts, structure by structure, many at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.datasets.fingerprint import checksum
from pyg_schnet.graph.lattice import SMALLEST_RELATIVE_VOLUME
from pyg_schnet.models import AtomisticModel, Committee, CommitteePotential, Potential, properties
from pyg_schnet.models.charges import Electrons, said_of
from pyg_schnet.models.elements import check_elements
from pyg_schnet.simulation.freezing import frozen_copy
from pyg_schnet.training import PotentialTask, TrainingTask
from pyg_schnet.units import conversion, target_unit

Trained = AtomisticModel | Committee
#: Units of what a potential predicts.
POTENTIAL_UNITS = {"energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang^3"}
#: A batch is complete with so many structures or atoms.
_STRUCTURES, _ATOMS = 128, 8192
#: Keys that a model looks at.
_NEEDED = ("z", "pos", "cell", "pbc", "edge_index", "edge_shift", "edge_cutoff")


class Predictor:
    """A trained model, frozen where it can be, that is asked for many structures at a time; labels are not looked at.

    Args:
        task: The task the model was trained for.
        trained: The model or committee.
        strict: True to refuse elements and charges that it was never trained on; otherwise each is warned of once.
    """

    def __init__(self, task: TrainingTask, trained: Trained, strict: bool = False) -> None:
        self.is_potential = isinstance(task, PotentialTask)
        self.is_committee = isinstance(trained, Committee)
        self.strict = strict
        given: Any = trained
        self._weights = dict(given.state_dict())
        self._about = [str(one.config) for one in (given if self.is_committee else [given])]
        model: Any = frozen_copy(trained, "cpu", None, None)
        self.model = model
        first: Any = model[0] if self.is_committee else model
        self.dtype: torch.dtype = first.embedding.weight.dtype
        self.names: list[str] = list(POTENTIAL_UNITS) if self.is_potential else list(task.names)
        if not self.is_potential and first.out_channels != len(self.names):
            raise ValueError(
                f"the model predicts {first.out_channels} values, but the task has {len(self.names)} targets "
                f"({', '.join(self.names)}); name the weights of this task"
            )
        #: Units of what is predicted, as far as they are known.
        self.units = POTENTIAL_UNITS if self.is_potential else {name: first.units.get(name, "") for name in self.names}
        #: True if energies are those of whole structures.
        self.is_total = self.is_potential and first.config["readout"] != "mean"
        if self.is_potential:
            self._potential: Any = CommitteePotential(model) if self.is_committee else Potential(model)
            self._factor = conversion(target_unit(first.units).removesuffix("/atom") or "eV", "eV")

    @property
    def identity(self) -> str:
        """What tells its predictions from those of another model or task."""
        weights = {name: value for name, value in self._weights.items() if isinstance(value, Tensor)}
        return checksum([weights, self.names, self.units, self.is_total, self.is_committee, self.strict, self._about])

    def each(self, structures: Sequence[Data]) -> list[dict[str, Any]]:
        """Predictions for structures.

        Args:
            structures: Structures with ``z``, ``pos`` and, for crystals, ``cell`` and ``pbc``.

        Returns:
            For each structure numbers and arrays by name, those of a committee also with ``..._std``: ``energy``,
            ``forces`` [n, 3] and, where the cell has a volume, ``stress`` [3, 3]; or the targets of the task.

        Raises:
            ValueError: If a structure is an impossible one.
        """
        found: list[dict[str, Any]] = [{} for _ in structures]
        spanned = [self.is_potential and _has_volume(data) for data in structures]
        for stress in (False, True):
            numbers = [number for number, one in enumerate(spanned) if one is stress]
            if numbers:
                batch = Batch.from_data_list([self._needed(structures[number]) for number in numbers])
                outputs = self._of_potential(batch, stress) if self.is_potential else self._of_properties(batch)
                for number, one in zip(numbers, _shared_out(outputs, batch), strict=True):
                    found[number] = one
        return found

    def _needed(self, data: Data) -> Data:
        """What the model looks at, in its numbers, and charges; the graph only if it is whole."""
        has_graph = data.get("edge_index") is not None and data.get("edge_shift") is not None
        kept = Data()
        for key in _NEEDED:
            value = data.get(key)
            if value is None or (key.startswith("edge") and not has_graph):
                continue
            kept[key] = value.to(self.dtype) if key in {"pos", "cell"} else value
        for key, number in said_of(data._store._mapping).items():
            kept[key] = torch.tensor([number], dtype=torch.float64)
        return kept

    def _of_potential(self, batch: Batch, stress: bool) -> dict[str, Tensor]:
        check_elements(self.model, batch.z, self.strict, batch.batch, Electrons.of(batch))
        out = self._potential(batch, stress=stress)
        return {name: self._factor * value.detach().double() for name, value in out.items()}

    def _of_properties(self, batch: Batch) -> dict[str, Tensor]:
        check_elements(self.model, batch.z, self.strict, batch.batch, Electrons.of(batch))
        with torch.no_grad():
            if not self.is_committee:
                return dict(zip(self.names, properties(self.model, batch).unbind(1), strict=True))
            mean, std, _ = self.model(batch)
        named = dict(zip(self.names, mean.unbind(1), strict=True))
        return named | {f"{name}_std": value for name, value in zip(self.names, std.unbind(1), strict=True)}


def batches(structures: Iterator[Any], atoms_of: Any) -> Iterator[list[Any]]:
    """Structures in portions that are predicted at a time.

    Args:
        structures: The structures.
        atoms_of: Number of atoms of one.

    Yields:
        Lists of them.
    """
    portion: list[Any] = []
    atoms = 0
    for one in structures:
        portion.append(one)
        atoms += atoms_of(one)
        if len(portion) >= _STRUCTURES or atoms >= _ATOMS:
            yield portion
            portion, atoms = [], 0
    if portion:
        yield portion


def _has_volume(data: Data) -> bool:
    """True if there is a stress: three lattice vectors that are linearly independent."""
    cell = data.get("cell")
    if cell is None or cell.numel() != 9 or not bool(cell.any()):
        return False
    vectors = cell.detach().double().numpy().reshape(3, 3)
    lengths = np.linalg.norm(vectors, axis=1).prod()
    return bool(abs(np.linalg.det(vectors)) > SMALLEST_RELATIVE_VOLUME * lengths)  # False for NaN


def _shared_out(outputs: dict[str, Tensor], batch: Batch) -> Iterator[dict[str, Any]]:
    """What belongs to each structure."""
    arrays: dict[str, ndarray] = {name: value.cpu().numpy() for name, value in outputs.items()}
    starts = batch.ptr.tolist()
    for number in range(batch.num_graphs):
        rows = slice(starts[number], starts[number + 1])
        yield {
            name: array[rows] if name.startswith("forces") else _plain(array[number]) for name, array in arrays.items()
        }


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
