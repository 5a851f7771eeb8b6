"""What is not held out for validation and tests: copies of structures to train with, and single atoms."""

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyg_schnet.datasets.fingerprint import digest
from pyg_schnet.datasets.loader import StructureLoader
from pyg_schnet.datasets.sequence import as_dataset, sizes_of
from pyg_schnet.datasets.splits import Split

#: Structures that are compared at a time.
_AT_ONCE = 1000


def without_copies(split: Split, dataset: Any) -> tuple[Split, int]:
    """Leave out copies of structures in another part: a test on structures that are known says nothing.

    Structures are copies if elements, positions, lattice vectors and periodic axes are the same to the last digit that
    is stored. Those to train with, which are the most, make way for those held out.

    Args:
        split: The split.
        dataset: Its dataset, or whatever :func:`~pyg_schnet.datasets.as_dataset` takes.

    Returns:
        The split, and how many structures were left out.

    Raises:
        ValueError: If nothing would be left of a part.

    Example:
        >>> from torch_geometric.data import Data
        >>> atoms = [Data(z=torch.tensor([z]), pos=torch.zeros(1, 3)) for z in (1, 2, 2, 3)]
        >>> split = Split({"train": [0, 1], "val": [2, 3]})
        >>> without_copies(split, atoms)
        ({'train': tensor([0]), 'val': tensor([2, 3])}, 1)
    """
    of = torch.from_numpy(_copies_of(as_dataset(dataset)))
    known = torch.empty(0, dtype=torch.long)
    parts = dict(split)
    for name in [*sorted(split.keys() - {"train"}, reverse=True), "train"]:  # val, test, train
        part = split[name]
        parts[name] = part[~torch.isin(of[part], known)]
        if len(part) and not len(parts[name]):
            raise ValueError(
                f"all {len(part)} {name!r} examples of the split are copies of others that are in another part; give "
                "structures that differ, or leave the copies out"
            )
        known = torch.cat([known, of[part]])
    left_out = sum(len(part) for part in split.values()) - sum(len(part) for part in parts.values())
    return Split(parts, len(of), **split.made), left_out


def training_on_atoms(split: Split, dataset: Any) -> tuple[Split, int]:
    """Move single atoms from the other parts to those to train with.

    They are in the data to say where the energies of the elements begin. None of them resembles any other structure, so
    a model that never saw it errs by all of the energy. Where a part has nothing else, the last structures to train
    with take their places.

    Args:
        split: The split.
        dataset: Its dataset, or whatever :func:`~pyg_schnet.datasets.as_dataset` takes.

    Returns:
        The split, and how many atoms were moved.

    Example:
        >>> from torch_geometric.data import Data
        >>> data = [Data(z=torch.ones(n, dtype=torch.long), pos=torch.zeros(n, 3)) for n in (2, 1, 3)]
        >>> training_on_atoms(Split({"train": [0], "test": [1, 2]}), data)
        ({'train': tensor([0, 1]), 'test': tensor([2])}, 1)
    """
    alone = torch.from_numpy(_single_atoms(dataset))
    train, parts, moved = split["train"], dict(split), 0
    for name, part in split.items():
        atoms = part[alone[part]]
        if name == "train" or not len(atoms):
            continue
        others = train[~alone[train]]
        instead = others[len(others) - len(atoms) :] if len(atoms) == len(part) else others[:0]
        parts[name] = torch.cat([part[~alone[part]], instead])
        train = torch.cat([train[~torch.isin(train, instead)], atoms]).sort().values
        moved += len(atoms)
    return Split(parts | {"train": train}, len(alone), **split.made), moved


def _copies_of(dataset: Any) -> NDArray:
    """For each structure the number of the first one that is the same [M]."""
    first: dict[bytes, int] = {}
    of = np.empty(len(dataset), dtype=np.int64)
    place = 0
    for batch in StructureLoader(dataset, batch_size=_AT_ONCE):
        ends = batch.ptr.tolist()
        z, pos = batch.z.numpy(), batch.pos.numpy()
        cells, pbc = batch.get("cell"), batch.get("pbc")
        for k, (begin, end) in enumerate(itertools.pairwise(ends)):
            parts = [z[begin:end], pos[begin:end]]
            parts += [] if cells is None else [cells.view(-1, 3, 3)[k].numpy()]
            parts += [] if pbc is None else [pbc.view(-1, 3)[k].numpy()]
            of[place] = first.setdefault(digest(*parts), place)
            place += 1
    return of


def _single_atoms(dataset: Any) -> NDArray:
    """Which structures are an atom without periodic images [M]."""
    found = np.zeros(len(dataset), dtype=bool)
    for place in torch.nonzero(sizes_of(dataset) == 1).flatten().tolist():
        pbc = dataset[place].get("pbc")
        found[place] = pbc is None or not bool(pbc.any())
    return found
