"""Which elements, compositions and charges the weights of a model have seen, and what is said where they have not."""

import warnings
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.graph import can_inspect, radius_graph
from pyg_schnet.models.charges import (
    Electrons,
    UnknownChargeWarning,
    either,
    electrons_in,
    of_charge,
    of_unpaired,
    tenths,
    whole,
)
from pyg_schnet.ops import edge_vectors
from pyg_schnet.units import SYMBOLS

#: How far apart, in Angstrom, atoms of training examples are looked at: beyond, no pair is too near.
NEIGHBORHOOD = 5.0


class UnknownElementWarning(UserWarning):
    """Atoms of an element that no training example had: their embedding still is what chance made it."""


class UnknownCompositionWarning(UserWarning):
    """Structures of another composition than the only one of all training examples.

    From one composition nobody can tell how the energy is shared among the elements.
    """


class TrainingSet(NamedTuple):
    """What the weights of a model have been trained on.

    Attributes:
        elements: Number of atoms by atomic number.
        structures: Number of structures.
        compositions: Number of different compositions, those of the same proportions counted once; at most, if a model
            was trained on several sets.
        distances: Smallest and largest distance in Angstrom, images included, of each two elements as far as one looked
            (:data:`NEIGHBORHOOD`), by their symbols in the order of atomic numbers, ``"H-O"``; empty if not known.
        charges: Number of structures by net charge, in units of the elementary charge; empty if not known.
        unpaired: Number of structures by their number of unpaired electrons; empty if not known.

    Example:
        >>> from torch_geometric.data import Data
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.0, 1, 0]]))
        >>> batch = Batch.from_data_list([water, water])
        >>> TrainingSet.of([batch])
        TrainingSet(elements={1: 4, 8: 2}, structures=2, compositions=1, distances={}, charges={0: 2}, unpaired={0: 2})
        >>> TrainingSet.of([batch], cutoff=1.2).distances
        {'H-O': (1.0, 1.0)}
    """

    elements: dict[int, int]
    structures: int
    compositions: int
    distances: dict[str, tuple[float, float]] = {}  # noqa: RUF012, nobody changes it
    charges: dict[float, int] = {}  # noqa: RUF012
    unpaired: dict[int, int] = {}  # noqa: RUF012

    @classmethod
    def of(cls, batches: Iterable[Batch], cutoff: float | None = None) -> Self:
        """Count the atoms of structures, and their charges as far as they say them.

        Args:
            batches: Structures with ``z`` [N] and ``batch`` [N].
            cutoff: Distance in Angstrom up to which distances are looked at; ``None`` for not at all.

        Returns:
            Their elements, number, compositions, distances, charges and unpaired electrons, see
            :func:`~pyg_schnet.models.charges.electrons_in`.
        """
        atoms, structures, compositions = dict[int, int](), 0, set[tuple[tuple[int, int], ...]]()
        distances = dict[str, tuple[float, float]]()
        charges, unpaired = dict[float, int](), dict[int, int]()
        for part in batches:
            of_charges, of_unpaired_electrons = electrons_in(part)
            charges, unpaired = _sums(charges, of_charges), _sums(unpaired, of_unpaired_electrons)
            if cutoff is not None:
                try:
                    distances = _wider(distances, distances_of(part, cutoff))
                except ValueError:  # a structure is an impossible one, which is said when it is trained on
                    distances, cutoff = {}, None
            structures += part.num_graphs
            present, place = np.unique(part.z.detach().cpu().numpy().reshape(-1), return_inverse=True)
            counts = _counts(place, part.batch.cpu().numpy(), len(present), part.num_graphs)  # [B, K]
            for number, count in zip(present.tolist(), counts.sum(0).tolist(), strict=True):
                atoms[number] = atoms.get(number, 0) + count
            counts //= np.maximum(1, np.gcd.reduce(counts, axis=1, keepdims=True))
            for row in np.unique(counts, axis=0).tolist():
                if formula := tuple((z, n) for z, n in zip(present.tolist(), row, strict=True) if n):
                    compositions.add(formula)
        ordered: Any = [dict(sorted(one.items())) for one in (atoms, distances, charges, unpaired)]
        return cls(ordered[0], structures, len(compositions), *ordered[1:])

    def __or__(self, other: "TrainingSet") -> "TrainingSet":
        """Both sets, if they are not the same one; what only one of them knows of is not known."""
        further: Any = list(zip(self[3:], other[3:], strict=True))  # files of older versions do not know all of it
        if self[:3] == other[:3] and all(a == b or not (a and b) for a, b in further):
            return TrainingSet(*self[:3], *(a or b for a, b in further))
        same = self.compositions == other.compositions == 1 and _shares(self) == _shares(other)
        compositions = 1 if same else self.compositions + other.compositions
        joins: list[Callable[..., Any]] = [_wider, _sums, _sums]
        joined: Any = [
            dict(sorted(join(a, b).items())) if a and b else {} for join, (a, b) in zip(joins, further, strict=True)
        ]
        return TrainingSet(
            _sums(self.elements, other.elements), self.structures + other.structures, compositions, *joined
        )

    @classmethod
    def read(cls, stored: Any) -> Self | None:
        """From what :func:`pyg_schnet.save` wrote.

        Args:
            stored: The entry of the header, ``None`` in files of older versions.

        Returns:
            The training set, ``None`` if it is not known.

        Raises:
            ValueError: If the entry is none.
        """
        if stored is None:
            return None
        try:
            atoms = {int(number): int(count) for number, count in stored["elements"].items()}
            distances = {
                str(pair): (float(near), float(far)) for pair, (near, far) in (stored.get("distances") or {}).items()
            }
            charges = {whole(float(one)): int(count) for one, count in (stored.get("charges") or {}).items()}
            unpaired = {int(one): int(count) for one, count in (stored.get("unpaired") or {}).items()}
            found = cls(atoms, int(stored["structures"]), int(stored["compositions"]), distances, charges, unpaired)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError("its training set has no elements, structures and compositions") from None
        if not atoms or min(atoms) < 0 or max(atoms) > 10**6:
            raise ValueError(f"its training set has impossible elements {list(atoms)[:5]}")
        for pair, (near, far) in distances.items():
            if not 0 < near <= far < np.inf:
                raise ValueError(f"its training set has impossible distances of {pair}, {near} to {far}")
        return found


def nearest_known(sets: Sequence[TrainingSet]) -> dict[str, float]:
    """Smallest distances that all of some training sets had.

    Args:
        sets: Those of a model, or of the members of a committee.

    Returns:
        The largest of their smallest distances in Angstrom, by pair of elements; empty if one does not know them.

    Example:
        >>> near = TrainingSet({1: 2}, 1, 1, {"H-H": (0.6, 0.8)})
        >>> nearest_known([near, near._replace(distances={"H-H": (0.7, 0.8)})])
        {'H-H': 0.7}
    """
    every = [one.distances for one in sets]
    if not every or not all(every):
        return {}
    return {pair: max(one[pair][0] for one in every) for pair in set.intersection(*({*one} for one in every))}


def seen_by(model: Any, batches: Iterable[Batch]) -> TrainingSet | None:
    """What the weights of a model have seen once it is trained on more structures.

    Args:
        model: The model.
        batches: The training examples.

    Returns:
        Both; ``None``, not known, if the model was trained before on what is not known.
    """
    if model.training_set is None:
        return None if model.trained_elsewhere else TrainingSet.of(batches, min(model.cutoff, NEIGHBORHOOD))
    return model.training_set | TrainingSet.of(batches, min(model.cutoff, NEIGHBORHOOD))


def distances_of(structures: Data, cutoff: float) -> dict[str, tuple[float, float]]:
    """How near and how far the atoms of each two elements are, images included.

    Args:
        structures: One structure or a batch, with ``z``, ``pos`` and, where they are periodic, ``cell`` and ``pbc``.
        cutoff: Distance in Angstrom up to which they are looked at.

    Returns:
        Smallest and largest distance in Angstrom, by the symbols of both elements in the order of atomic numbers.

    Raises:
        ValueError: If two atoms are at the same place, or a cell is an impossible one.

    Example:
        >>> from torch_geometric.data import Data
        >>> chain = Data(z=torch.tensor([6, 1]), pos=torch.tensor([[0.0, 0, 0], [1.5, 0, 0]]))
        >>> chain.cell, chain.pbc = 4.0 * torch.eye(3)[None], torch.tensor([[True, False, False]])
        >>> distances_of(chain, 4.5)
        {'H-H': (4.0, 4.0), 'H-C': (1.5, 2.5), 'C-C': (4.0, 4.0)}
    """
    pos, batch, cell, pbc = (structures.get(name) for name in ("pos", "batch", "cell", "pbc"))
    pos, cell = pos.double(), None if cell is None else cell.double()
    graph = radius_graph(pos, cutoff, batch, cell=cell, pbc=pbc)
    length = edge_vectors(pos, graph.edge_index, graph.edge_shift, cell, batch).norm(dim=1)
    kinds, place = structures.z.reshape(-1).unique(return_inverse=True)
    first, second = place[graph.edge_index].sort(dim=0).values
    key = first * len(kinds) + second
    near, far = length.new_full((len(kinds) ** 2,), np.inf), length.new_zeros(len(kinds) ** 2)
    near.scatter_reduce_(0, key, length, "amin")
    far.scatter_reduce_(0, key, length, "amax")
    names = [_symbol(number) for number in kinds.tolist()]
    found = far.nonzero().squeeze(1).tolist()
    pairs = [f"{names[one // len(kinds)]}-{names[one % len(kinds)]}" for one in found]
    return dict(zip(pairs, zip(near[found].tolist(), far[found].tolist(), strict=True), strict=True))


def _sums(one: dict[Any, int], other: dict[Any, int]) -> dict[Any, int]:
    """Counts of both."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted(one.keys() | other.keys())}


def _wider(
    one: dict[str, tuple[float, float]], other: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Distances of both."""
    pairs = {pair: (one.get(pair, other.get(pair)), other.get(pair, one.get(pair))) for pair in one | other}
    return {pair: (min(a[0], b[0]), max(a[1], b[1])) for pair, (a, b) in pairs.items() if a and b}


def check_elements(
    model: Any, z: Any, strict: bool = False, batch: Any = None, electrons: Electrons | None = None
) -> None:
    """Warn once, or refuse, where a model is asked for elements that it was never trained on.

    The same goes for other compositions if all its training examples had one, and for net charges and unpaired
    electrons that none had, as far as structures say theirs. Nothing is said of what the training set of a model does
    not know, and of tensors on a GPU, for which the host would have to wait; ``strict`` waits.

    Args:
        model: An :class:`~pyg_schnet.models.AtomisticModel` or a :class:`~pyg_schnet.models.Committee`, of which each
            member must know the element.
        z: Atomic numbers [N]; whatever is wrong with them is left to the model.
        strict: True to refuse.
        batch: Structure of each atom [N]; without it, compositions are those of all atoms together.
        electrons: What the structures say of their charges and unpaired electrons.

    Raises:
        ValueError: If ``strict`` and there is such an element, composition, charge or number of unpaired electrons.

    Warns:
        UnknownElementWarning: Once for each model and element.
        UnknownCompositionWarning: Once for each model.
        UnknownChargeWarning: Once for each model and charge or number of unpaired electrons.

    Example:
        >>> from pyg_schnet import SchNet
        >>> model = SchNet(16, 16, 1)
        >>> model.training_set = TrainingSet({1: 400, 6: 100}, structures=100, compositions=1)
        >>> check_elements(model, torch.tensor([6, 1, 1, 1, 1]), strict=True)
    """
    if model.training_sets:
        _all_known(model, z, strict, batch, electrons)


def unfamiliar(
    model: Any, z: Tensor, batch: Tensor, batch_size: int, electrons: Electrons | None = None
) -> Tensor | None:
    """Structures with elements or charges that a model was never trained on, or not of its only composition.

    Says what :func:`check_elements` says, but on a GPU.

    Args:
        model: A model or committee, as in :func:`check_elements`.
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        electrons: What they say of their charges and unpaired electrons.

    Returns:
        True where there is one [B] bool; ``None`` if there is none or nothing is known.
    """
    memory = None if _all_known(model, z, False, batch, electrons) else _memory_of(model)
    if memory is None:
        return None
    strange = memory.strange(z, batch, batch_size)
    return strange if electrons is None else strange | memory.charged(electrons).to(strange.device)


def _all_known(model: Any, z: Any, strict: bool, batch: Any, electrons: Electrons | None = None) -> bool:
    """True if all is surely known; where it is not, say so."""
    memory = _memory_of(model)
    if memory is None:
        return True
    known = _elements_known(memory, z, strict, batch)
    return (electrons is None or memory.accepts_electrons(electrons, strict)) and known


def _elements_known(memory: "_Memory", z: Any, strict: bool, batch: Any) -> bool:
    if type(z) is not Tensor or z.dtype != torch.long:
        return False
    if not can_inspect(z):
        if not strict or z.device.type == "cpu":
            return False
        z = z.cpu()
    given: Any = z.numpy().tobytes()
    if memory.formulas:
        batch = batch.cpu() if isinstance(batch, Tensor) and batch.shape == z.shape else None
        given = given, None if batch is None else batch.numpy().tobytes()
    if given != memory.accepted:
        if not memory.accepts(z.reshape(-1), torch.zeros_like(z) if batch is None else batch, strict):
            return False
        memory.accepted = given
    return True


class _Memory:
    """What has been worked out of the training sets of a model or committee, and what has been said.

    Args:
        sets: The training sets that are known.
        max_z: Largest atomic number that is not refused anyway.
        who: What speaks, for texts.
    """

    def __init__(self, sets: tuple[TrainingSet, ...], max_z: int, who: str) -> None:
        self.sets, self.max_z, self.who = sets, max_z, who
        self.elements = common_elements(sets)
        self.known = torch.ones(max_z + 2, dtype=torch.bool)  # its ends stand for all that the model refuses
        self.known[1:-1] = torch.tensor([number in self.elements for number in range(1, max_z + 1)])
        self.formulas = [dict(one) for one in {tuple(_shares(one).items()) for one in sets if one.compositions == 1}]
        #: Numbers that all sets had which know them; ``None`` if none does.
        self.charges, self.unpaired = _common([one.charges for one in sets]), _common([one.unpaired for one in sets])
        self.accepted: Any = None
        self.told: set[Any] = set()

    def accepts(self, z: Tensor, batch: Any, strict: bool) -> bool:
        """True if all is known; where it is not, say so.

        Args:
            z: Atomic numbers [N] on the CPU.
            batch: Structure of each atom [N], looked at if all training examples had one composition.
            strict: True to refuse.
        """
        if not self.known.numpy().take(z.numpy(), mode="clip").all():
            missing = [n for n in z.unique().tolist() if 0 < n <= self.max_z and not self.known[n]]
            new = missing if strict else [n for n in missing if n not in self.told]
            if new:
                self.told.update(new)
                self._say(self._of_elements(new), UnknownElementWarning, strict)
            return False
        if not self.formulas or not self.strange(z, batch, int(batch.max()) + 1).any():
            return True
        if strict or "composition" not in self.told:
            self.told.add("composition")
            self._say(self._of_composition(), UnknownCompositionWarning, strict)
        return False

    def strange(self, z: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Structures of which something is not known [B] bool."""
        known = self.known.to(z.device)
        kinds = self.max_z + 2
        z = z.clamp(0, kinds - 1)
        unknown = torch.zeros(batch_size, dtype=torch.long, device=z.device)
        strange = unknown.index_add(0, batch, (~known[z]).long()) > 0
        if not self.formulas:
            return strange
        counts = torch.zeros(batch_size * kinds, dtype=torch.long, device=z.device)
        counts = counts.index_add(0, batch * kinds + z, torch.ones_like(z)).view(batch_size, kinds)
        for formula in self.formulas:
            shares = torch.tensor([formula.get(number, 0) for number in range(kinds)], device=z.device)
            strange |= (counts * shares.sum() != counts.sum(1, keepdim=True) * shares).any(1)
        return strange

    def charged(self, electrons: Electrons) -> Tensor:
        """Structures that say a charge or a number of unpaired electrons that no training example had [B] bool."""
        strange = torch.zeros(())
        for said, known in ((electrons.charge, self.charges), (electrons.unpaired, self.unpaired)):
            if said is not None and known is not None:
                rounded = tenths(said)
                familiar = torch.isin(rounded, torch.tensor(known).to(rounded)) | ~rounded.isfinite()
                strange = strange.to(rounded) + ~familiar
        return strange > 0

    def accepts_electrons(self, electrons: Electrons, strict: bool) -> bool:
        """True if charges and unpaired electrons are known; where they are not, say so.

        Args:
            electrons: What structures say.
            strict: True to refuse.
        """
        accepted = True
        parts = (electrons.charge, self.charges, of_charge), (electrons.unpaired, self.unpaired, of_unpaired)
        for said, known, in_words in parts:
            if said is None or known is None:
                continue
            if not can_inspect(said) and (not strict or said.device.type == "cpu"):
                accepted = False
                continue
            strange = {one for one in tenths(said).tolist() if one not in known and np.isfinite(one)}
            new = sorted(strange) if strict else sorted(one for one in strange if in_words(one) not in self.told)
            if new:
                self.told.update(map(in_words, new))
                self._say(self._of_electrons(new, known, in_words), UnknownChargeWarning, strict)
            accepted &= not strange
        return accepted

    def _of_electrons(self, new: list[float], known: list[float], in_words: Callable[[float], str]) -> str:
        return (
            f"the {self.who} was trained on structures with {either(map(in_words, known))}, never with "
            f"{either(map(in_words, new))}; it sees nothing but atomic numbers and positions, so that what it predicts "
            "is not that of such structures, train it on some that say so"
        )

    def _say(self, text: str, kind: type[Warning], strict: bool) -> None:
        if strict:
            raise ValueError(text)
        warnings.warn(text, kind, stacklevel=6)

    def _of_elements(self, missing: Sequence[int]) -> str:
        one = len(missing) == 1
        names = ", ".join(f"element {_symbol(number)} ({number})" for number in missing)
        return (
            f"the {self.who} was trained on {_listed(self.elements)}, never on {names}; what it predicts for "
            f"{'it' if one else 'them'} means nothing, train it on structures with {'it' if one else 'them'}"
        )

    def _of_composition(self) -> str:
        parts = sorted(self.formulas[0].items())
        name = "".join(f"{_symbol(number)}{count if count > 1 else ''}" for number, count in parts)
        return (
            f"the {self.who} was trained on a single composition, {name}, which does not tell how the energy is shared "
            "among its elements; what it predicts for another composition means nothing, train it on such structures"
        )


def common_elements(sets: Sequence[TrainingSet]) -> list[int]:
    """Elements of all training sets.

    Args:
        sets: At least one.

    Returns:
        Atomic numbers, sorted.
    """
    return sorted(set.intersection(*({*one.elements} for one in sets)))


def _memory_of(model: Any) -> _Memory | None:
    """What is remembered of a model, made anew if it has been trained since."""
    sets = model.training_sets
    if not sets:
        return None
    memory: _Memory | None = model.__dict__.get("_memory")
    if memory is None or memory.sets != sets:
        many = isinstance(model, Sized)
        max_z = min(member.embedding.max_z for member in model) if many else model.embedding.max_z
        memory = model._memory = _Memory(sets, max_z, "committee" if many else "model")
    return memory


def _common(every: Sequence[dict[Any, int]]) -> list[Any] | None:
    """What all of those have that have anything."""
    known = [{*one} for one in every if one]
    return sorted(set.intersection(*known)) if known else None


def _counts(place: np.ndarray, structures: np.ndarray, kinds: int, batch_size: int) -> np.ndarray:
    """Atoms of each kind [B, K] in each structure."""
    flat = np.bincount(structures * kinds + place.reshape(-1), minlength=kinds * batch_size)
    return flat.reshape(batch_size, kinds)


def _shares(one: TrainingSet) -> dict[int, int]:
    """The formula of a single composition, in smallest numbers."""
    divisor = int(np.gcd.reduce([*one.elements.values()])) or 1
    return {number: count // divisor for number, count in one.elements.items()}


def _symbol(number: int) -> str:
    return SYMBOLS[number] if 0 < number < len(SYMBOLS) else f"[{number}]"


def _listed(elements: Sequence[int]) -> str:
    names = [_symbol(number) for number in elements]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "no common element"
