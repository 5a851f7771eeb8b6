"""Further fields of a file: kept as tensors and strings under names that a ``Data`` can take."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from pyg_schnet.batching import OF_ATOMS, OF_STRUCTURES
from pyg_schnet.datasets.ase_files import is_bare
from pyg_schnet.datasets.rounding import LARGEST
from pyg_schnet.datasets.strings import iter_unpacked, packed

#: Keys of a structure, which no field of a file can take.
TAKEN = {"z", "pos", "cell", "pbc", "batch", "ptr", "num_nodes", "face", "edge_index", "edge_shift", "edge_cutoff"}
#: Properties of ``Data`` that may be set and mean nothing to a batch.
_FREE = {"y", "time"}
#: PyG raises keys with these words by numbers of atoms when it makes a batch.
_RAISED = {"index": "idx", "batch": "bat"}


class Field(NamedTuple):
    """What one structure has of a field.

    Attributes:
        value: Numbers or a string.
        of_atoms: True if there is a row for each atom; ``None`` if the file does not tell.
    """

    value: Any
    of_atoms: bool | None


def possible_name(name: str, taken: Iterable[str] = ()) -> str:
    """The name of a field in a ``Data``.

    It is the name itself, unless ``Data`` could not take it or PyG would change the values when it makes a batch:
    "index" becomes "idx" and "batch" becomes "bat", underscores in front are left out, and names that are taken (keys
    of a structure such as ``z``, attributes and methods of ``Data`` such as ``size``) get an underscore behind.

    Args:
        name: The name in the file.
        taken: Further names that are taken.

    Returns:
        The name to use.

    Example:
        >>> [possible_name(name) for name in ("homo", "size", "my_index", "_note", "z")]
        ['homo', 'size_', 'my_idx', 'note', 'z_']
    """
    for word, other in _RAISED.items():
        name = re.sub(word, other, name, flags=re.IGNORECASE)
    name = name.lstrip("_") or "field"
    taken = {*TAKEN, *taken}
    while name in taken or (hasattr(Data, name) and name not in _FREE):
        name += "_"
    return name


@dataclass
class FieldFacts:
    """What decides how a field is kept, of some structures; those of more are had by :meth:`merge`.

    Attributes:
        count: Number of structures that have it, but for those with a bare word.
        strings: Number of strings.
        numbers: Number of numbers and arrays of them.
        scalars: Number of single numbers.
        bare: Number of words without a value, see :func:`~pyg_schnet.datasets.ase_files.is_bare`.
        false: Number of ``False``.
        told: What files say of :attr:`Field.of_atoms`, ``None`` left out.
        told_bare: The same of bare words.
        large: True if float64 cannot hold a whole number.
        whole: True if all numbers are whole.
        largest: The largest size of a whole number.
        shapes: Two different shapes at most.
        rows: Two different shapes of a row at most.
        unlike: True if an array has not a row for each atom.
    """

    count: int = 0
    strings: int = 0
    numbers: int = 0
    scalars: int = 0
    bare: int = 0
    false: int = 0
    told: list[bool] = field(default_factory=list)
    told_bare: list[bool] = field(default_factory=list)
    large: bool = False
    whole: bool = True
    largest: float = 0.0
    shapes: list[list[int]] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    unlike: bool = False

    def see(self, given: Field, array: NDArray | None, atoms: int) -> None:
        """Add what one structure has.

        Args:
            given: The field.
            array: Its numbers; ``None`` if it has none.
            atoms: Number of atoms.
        """
        told = [] if given.of_atoms is None else [given.of_atoms]
        if is_bare(given.value):
            self.bare += 1
            _add(self.told_bare, told)
            return
        self.count += 1
        _add(self.told, told)
        self.false += isinstance(given.value, (bool, np.bool_))
        self.strings += isinstance(given.value, str)
        if array is not None:
            self.numbers += 1
            self.scalars += array.ndim == 0
            if array.dtype.kind in "biu":
                self.largest = max(self.largest, float(np.abs(array.astype(float)).max(initial=0)))
                self.large |= array.dtype.kind != "b" and self.largest > 2**53
            else:
                self.whole = False
            _add(self.shapes, [list(array.shape)])
            _add(self.rows, [list(array.shape[1:])])
            self.unlike |= array.shape[:1] != (atoms,)

    def merge(self, other: "FieldFacts") -> None:
        """Add what is known of further structures.

        Args:
            other: Facts of them.
        """
        for name in ("count", "strings", "numbers", "scalars", "bare", "false"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("told", "told_bare", "shapes", "rows"):
            _add(getattr(self, name), getattr(other, name))
        self.large, self.whole, self.unlike = (
            self.large | other.large,
            self.whole & other.whole,
            self.unlike | other.unlike,
        )
        self.largest = max(self.largest, other.largest)

    @property
    def only_words(self) -> bool:
        """True if there are no other values than true and false, so that a bare word is one of them."""
        return self.count == self.false

    def settled(self) -> "FieldFacts":
        """The facts with bare words as what they are: true where there is nothing but true and false, else nothing."""
        if not self.only_words or not self.bare:
            return self
        facts = FieldFacts(**asdict(self))
        bare = self.bare
        facts.merge(
            FieldFacts(bare, 0, bare, bare, told=self.told_bare, largest=1.0, shapes=[[]], rows=[[]], unlike=True)
        )
        return facts


class Way(NamedTuple):
    """How a field is kept.

    Attributes:
        dropped: Why it is not, if so.
        strings: True if it is a list of strings.
        of_atoms: True if there is a row for each atom.
        shape: Shape of a row.
        single: True to keep float32.
        only_words: See :attr:`FieldFacts.only_words`.
    """

    dropped: str | None = None
    strings: bool = False
    of_atoms: bool = False
    shape: tuple[int, ...] = ()
    single: bool = False
    only_words: bool = False


def way_of(name: str, facts: FieldFacts) -> Way:
    """How a field is kept.

    Numbers of structures are float64 [B], vectors and tensors float32 [B, ...], those of atoms float32 [N, ...], or
    float64 for whole numbers that float32 would round. Strings are lists.

    Args:
        name: The name that it gets.
        facts: What is known of it, of all structures.

    Returns:
        The way.
    """
    only_words, facts = facts.only_words, facts.settled()
    if (
        facts.strings and facts.strings + facts.scalars == facts.count
    ):  # a name in one may look like a number in another
        return Way(strings=True)
    if facts.numbers < facts.count:
        return Way("neither numbers nor strings")
    if facts.large:
        return Way("whole numbers too large for float64")
    of_atoms = _is_of_atoms(name, facts)
    if of_atoms is None:
        return Way("of atoms in some structures, of the whole in others")
    shapes = facts.rows if of_atoms else facts.shapes
    if len(shapes) > 1 or (of_atoms and facts.unlike):
        return Way("of different shapes")
    shape = tuple(shapes[0])
    single = bool(of_atoms or shape) and not (facts.whole and facts.largest > 2**24)  # as float32 holds
    return Way(None, False, of_atoms, shape, single, only_words)


def _is_of_atoms(name: str, facts: FieldFacts) -> bool | None:
    """True if a field has a row for each atom; ``None`` if that differs between structures."""
    if name in OF_ATOMS and not facts.scalars:
        return True
    if len(facts.told) == 2:
        return None
    if facts.told:
        return facts.told[0]
    vectors = facts.shapes == [[3]]  # of three atoms each, or rather one vector
    return name in OF_ATOMS or not vectors


#: What a structure has of a field, besides the types of numbers: nothing, a string, a bare word, something else, a
#: whole number that float64 cannot hold.
_NOTHING, _STRING, _BARE, _OTHER, _LARGE = 0, ord("S"), ord("*"), ord("O"), ord("#")


class FieldColumn:
    """A field of some structures, as arrays that lose nothing of what may be kept.

    Example:
        >>> column = FieldColumn()
        >>> for value in (0.5, None, 2):
        ...     column.add(None if value is None else Field(value, False), 1)
        >>> values_of(column.arrays(), np.ones(3, dtype=int), "gap", way_of("gap", column.facts))
        array([0.5, nan, 2. ])
    """

    def __init__(self, before: int = 0) -> None:
        self.facts = FieldFacts()
        self._codes, self._counts = [_NOTHING] * before, [0] * before
        self._values: list[NDArray] = []
        self._strings: list[str | None] = []

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, given: Field | None, atoms: int) -> None:
        """Add what a structure has.

        Args:
            given: The field; ``None`` if the structure lacks it.
            atoms: Number of atoms.
        """
        code, count = _NOTHING, 0
        if given is not None:
            array = _numbers(given.value)
            self.facts.see(given, array, atoms)
            if is_bare(given.value):
                code = _BARE
            elif array is None:
                code = _STRING if isinstance(given.value, str) else _OTHER
            elif array.ndim == 0 and array.dtype.kind in "iu" and abs(int(array)) > 2**53:
                code = _LARGE
            else:
                code, count = ord(array.dtype.char), array.size
                self._values.append(array.astype(np.float64).reshape(-1))
            if code in {_STRING, _LARGE}:
                self._strings.append(str(given.value))
        self._codes.append(code)
        self._counts.append(count)

    def arrays(self) -> dict[str, NDArray]:
        """The column as arrays.

        Returns:
            ``codes`` and ``counts`` [M], ``values`` float64 and the strings.
        """
        text, ends = packed(self._strings)
        return {
            "codes": np.array(self._codes, dtype=np.uint8),
            "counts": np.array(self._counts, dtype=np.int64),
            "values": np.concatenate(self._values) if self._values else np.zeros(0),
            "text": text,
            "ends": ends,
        }


def strings_of(arrays: dict[str, NDArray]) -> list[str | None]:
    """The strings of a field.

    Args:
        arrays: From :meth:`FieldColumn.arrays`.

    Returns:
        A string for each structure, ``None`` where it lacks one.
    """
    values, strings = iter(arrays["values"].tolist()), iter_unpacked(arrays["text"], arrays["ends"])
    found: list[str | None] = []
    for code in arrays["codes"].tolist():
        if code in {_STRING, _LARGE}:
            found.append(next(strings))
        elif code in {_NOTHING, _BARE, _OTHER}:
            found.append(None)
        else:
            found.append(str(np.dtype(chr(code)).type(next(values))))
    return found


def values_of(arrays: dict[str, NDArray] | None, sizes: NDArray, name: str, way: Way) -> NDArray:
    """The numbers of a field.

    Args:
        arrays: From :meth:`FieldColumn.arrays`; ``None`` if no structure has it.
        sizes: Numbers of atoms [M].
        name: The name that it gets.
        way: How it is kept.

    Returns:
        The rows [M, ...] or [N, ...]; NaN where a structure lacks them, as are values that float32 cannot hold; one
        for weights.

    Raises:
        ValueError: If a weight is negative, not finite or no single number.
    """
    rows = sizes if way.of_atoms else np.ones(len(sizes), dtype=np.int64)
    joined = np.full((int(rows.sum()), *way.shape), {**OF_STRUCTURES, **OF_ATOMS}.get(name, np.nan), dtype=np.float64)
    if arrays is not None:
        if way.only_words:
            joined[np.repeat(arrays["codes"] == _BARE, rows)] = 1.0
        given = (arrays["codes"] != _NOTHING) & (arrays["codes"] != _BARE)
        joined[np.repeat(given, rows)] = arrays["values"].reshape(-1, *way.shape)
    if name == "atom_weight" or re.fullmatch(r"config_(\w+_)?weight", name):
        _check_weights(name, joined, way.of_atoms, way.shape)
    if not way.single:
        return joined
    with np.errstate(over="ignore"):
        return np.where(np.abs(joined) <= LARGEST, joined, np.nan).astype(np.float32)


def _add(known: list, more: Sequence) -> None:
    """Add what is new; two are as good as many."""
    for one in more:
        if one not in known and len(known) < 2:
            known.append(one)


def _numbers(value: Any) -> NDArray | None:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def _check_weights(name: str, weights: NDArray, of_atoms: bool, shape: tuple[int, ...]) -> None:
    if of_atoms != (name == "atom_weight") or shape:
        expected = "one number for each atom" if name == "atom_weight" else "one number for each structure"
        raise ValueError(f"the field {name!r} is a weight of the loss and must be {expected}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = float(weights[~(np.isfinite(weights) & (weights >= 0))].flat[0])
        raise ValueError(f"the field {name!r} is a weight of the loss and must be finite and not negative, got {bad}")
