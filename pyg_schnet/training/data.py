"""Data of a run: a dataset and its split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DistributedSampler
from torch_geometric.data import Dataset

from pyg_schnet.datasets import Split, StructureLoader, save_split


class SplitDataModule(LightningDataModule):
    """Mini-batches of the parts of a split.

    The order of the training examples depends on ``seed`` and the epoch only, so that a resumed run sees the same
    batches.

    Args:
        dataset: Structures with ``energy`` and ``forces``.
        split: Positions of ``train``, ``val`` and perhaps ``test`` examples, see
            :func:`pyg_schnet.datasets.random_split`.
        batch_size: Examples in a mini-batch.
        seed: Seed of the order of the training examples.
        device: Where batches are assembled, for example ``"cuda"``: training and validation examples are moved there
            once. By default batches are assembled where the data are, and Lightning moves them.

    Raises:
        ValueError: If training or validation part are empty, parts overlap, positions lie outside the dataset or
            ``batch_size`` is below 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Mapping[str, Tensor],
        batch_size: int = 32,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__()
        for part in ("train", "val"):
            if len(split.get(part, ())) == 0:
                raise ValueError(f"the split has no {part!r} examples; training needs at least one")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
        made = split.made if isinstance(split, Split) else {}
        self.dataset, self.split = dataset, Split(split, len(dataset), **made)
        self.batch_size, self.seed, self.device = batch_size, seed, device

    def energy_per_atom(self) -> tuple[float, float]:
        """Mean and standard deviation of the energy per atom over the training set, in eV.

        Returns:
            Mean and standard deviation; 1 in place of the latter if all energies are equal.
        """
        batches = StructureLoader(self.dataset[self.split["train"]], batch_size=1000)
        per_atom = torch.cat([batch.energy.double() / batch.ptr.diff() for batch in batches])
        std = float(per_atom.std()) if per_atom.numel() > 1 else 0.0
        return float(per_atom.mean()), std if std > 0 else 1.0

    def train_dataloader(self) -> StructureLoader:
        """Training batches, in a new order each epoch; an incomplete last batch is left out."""
        subset = self.dataset[self.split["train"]]
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler: DistributedSampler = DistributedSampler(subset, replicas, rank, shuffle=True, seed=self.seed)
        drop_last = len(subset) >= self.batch_size
        return StructureLoader(subset, self.batch_size, sampler=sampler, drop_last=drop_last, device=self.device)

    def val_dataloader(self) -> StructureLoader:
        """Validation batches."""
        return StructureLoader(self.dataset[self.split["val"]], self.batch_size, device=self.device)

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
