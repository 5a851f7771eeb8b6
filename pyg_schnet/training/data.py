"""Data of a run: a dataset and its split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DistributedSampler
from torch_geometric.data import Dataset

from pyg_schnet.datasets import Split, StructureLoader, as_dataset, save_split


class SplitDataModule(LightningDataModule):
    """Mini-batches of the parts of a split.

    The order of the training examples depends on ``seed`` and the epoch only, so that a resumed run sees the same
    batches. So does a run of several processes: each takes its share of every mini-batch, the mini-batches are those of
    one process.

    Args:
        dataset: Structures with what is to be learnt: a dataset, or whatever :func:`pyg_schnet.datasets.as_dataset`
            takes, for example a list of ``Data``.
        split: Positions of ``train``, ``val`` and perhaps ``test`` examples, see
            :func:`pyg_schnet.datasets.random_split`: tensors, arrays, lists, ranges, slices, or masks with a truth
            value for each example.
        batch_size: Examples in a mini-batch, over all processes.
        seed: Seed of the order of the training examples.
        device: Where batches are assembled, for example ``"cuda"``: training and validation examples are moved there
            once. By default batches are assembled where the data are, and Lightning moves them.
        tests: Further datasets to test on, by name.

    Raises:
        TypeError: If ``dataset`` holds no structures, or a part of ``split`` no positions.
        ValueError: If training or validation part are empty, parts overlap, positions lie outside the dataset or
            ``batch_size`` is below 1.
    """

    def __init__(
        self,
        dataset: Any,
        split: Mapping[str, Any],
        batch_size: int = 32,
        seed: int = 0,
        device: str | torch.device | None = None,
        tests: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(split, Mapping):
            raise TypeError(
                f"`split` must be positions by part, {{'train': ..., 'val': ...}}, got {type(split).__name__}; "
                "make one with pyg_schnet.datasets.random_split"
            )
        dataset = as_dataset(dataset)
        parts = {name: _positions(name, part, len(dataset)) for name, part in split.items()}
        for part in ("train", "val"):
            if len(parts.get(part, ())) == 0:
                raise ValueError(f"the split has no {part!r} examples; training needs at least one")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
        made = split.made if isinstance(split, Split) else {}
        self.dataset, self.split = dataset, Split(parts, len(dataset), **made)
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.tests = {name: as_dataset(one) for name, one in (tests or {}).items()}

    def energy_per_atom(self) -> tuple[float, float]:
        """Mean and standard deviation of the energy per atom over the training set, in eV; NaN does not count.

        Returns:
            Mean and standard deviation; 1 in place of the latter if all energies are equal.
        """
        batches = StructureLoader(self.dataset[self.split["train"]], batch_size=1000)
        per_atom = torch.cat([batch.energy.double().view(-1) / batch.ptr.diff() for batch in batches])
        per_atom = per_atom[~per_atom.isnan()]
        std = float(per_atom.std()) if per_atom.numel() > 1 else 0.0
        return float(per_atom.mean()), std if std > 0 else 1.0

    def part(self, name: str) -> Dataset:
        """The examples of a part of the split, or of one of the further tests.

        Args:
            name: ``"train"``, ``"val"``, ``"test"``, or the name of a further test.

        Returns:
            The examples.

        Raises:
            ValueError: If there is no such part, or it is empty.
        """
        if name in self.tests:
            return self.tests[name]
        if not len(self.split.get(name, ())):
            have = [part for part in self.split if len(self.split[part])]
            raise ValueError(f"there are no {name!r} examples; expected one of {', '.join([*have, *self.tests])}")
        return self.dataset[self.split[name]]

    def train_dataloader(self) -> StructureLoader:
        """Training batches, in a new order each epoch; an incomplete last batch is left out."""
        subset, (processes, rank) = self.dataset[self.split["train"]], self._place()
        if self.batch_size % processes:
            raise ValueError(
                f"`batch_size` counts the examples of all processes, a multiple of {processes}; got {self.batch_size}"
            )
        drop_last = len(subset) >= self.batch_size
        # without padding, which would give several processes a batch that one does not have
        sampler: DistributedSampler = DistributedSampler(
            subset, processes, rank, shuffle=True, seed=self.seed, drop_last=drop_last
        )
        own = self.batch_size // processes
        return StructureLoader(subset, own, sampler=sampler, drop_last=drop_last, device=self.device)

    def val_dataloader(self) -> StructureLoader:
        """Validation batches, of several processes each its share."""
        processes, rank = self._place()
        own = self.split["val"][rank::processes]
        if len(self.split["val"]) < processes:  # refused by all of them, none waits for another
            raise ValueError(
                f"{len(self.split['val'])} validation examples are too few for {processes} processes; "
                "expected at least one for each"
            )
        return StructureLoader(self.dataset[own], self.batch_size, device=self.device)

    def examples_of(self, epoch: int, batch: int) -> Tensor:
        """Which examples are in a mini-batch.

        Args:
            epoch: Number of the epoch.
            batch: Number of the mini-batch in the epoch.

        Returns:
            Positions in the dataset [..], those of all processes.
        """
        train = self.split["train"]
        sampler: DistributedSampler = DistributedSampler(self.dataset[train], 1, 0, shuffle=True, seed=self.seed)
        sampler.set_epoch(epoch)
        order = torch.tensor(list(sampler))
        return train[order[batch * self.batch_size : (batch + 1) * self.batch_size]]

    def _place(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def save_split(self, path: Path) -> None:
        """Write the split with the name of its dataset, see :func:`pyg_schnet.datasets.save_split`.

        Args:
            path: The npz file.
        """
        save_split(path, self.split, self.dataset)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must agree with."""
        return {
            "train": self.split["train"],
            "val": self.split["val"],
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume a run with other data.

        Args:
            state_dict: The state of the interrupted run.

        Raises:
            ValueError: If split, batch size or seed differ.
        """
        own = self.state_dict()
        same = all(torch.equal(torch.as_tensor(own[key]), torch.as_tensor(state_dict[key])) for key in own)
        if not same:
            raise ValueError(
                "the interrupted run had another split, batch size or seed; "
                "resume with the same ones or start in another directory"
            )


def _positions(name: str, part: Any, size: int) -> Tensor:
    """Positions of a part of a split, however they are given."""
    if isinstance(part, slice):
        part = range(*part.indices(size))
    try:
        chosen = torch.as_tensor(part if isinstance(part, Tensor) else np.asarray(part))
    except (TypeError, ValueError):
        raise TypeError(
            f"part {name!r} of the split must be positions or a mask, got {type(part).__name__}; expected numbers "
            f"from 0 to {size - 1}"
        ) from None
    if chosen.dtype != torch.bool:
        return chosen
    if chosen.shape != (size,):
        raise ValueError(
            f"part {name!r} of the split is a mask {list(chosen.shape)}; expected a truth value for each of the {size} "
            "examples"
        )
    return chosen.nonzero().flatten()
