"""The model and how it learns from the frames."""

import random
import zlib
from pathlib import Path
from typing import Any

import torch
from labels import Frame
from torch_geometric.data import Data

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import Split, as_dataset
from pyg_schnet.training import PotentialTask, SplitDataModule, fit
from pyg_schnet.training.loss import LossName

#: Every so many molecules one is for validation, with all of its frames.
VALIDATED = 25
#: rho of the paper, 0.01, is for one molecule; with thousands the energies need a larger share, in the end more still.
RHO, LAST_RHO = 0.1, 0.3
#: At the end differences count as they are, not squared, so that the few frames with large forces do not hide how
#: energies change as stiff bonds turn, and what holds planar groups flat; frames that say so count more.
FINAL: dict[str, Any] = {"rho": 1.0, "loss": "absolute", "weighted": True}
#: How much energies and forces of kinds of frames then count, if not 1: of molecules with so many heavy atoms at most.
#: Small ones have few relatives to learn from, and what turning their bonds costs must be right for barriers to be.
ENERGY_WEIGHTS = {3: {"turned": 40.0, "bent": 6.0}, 4: {"turned": 14.0, "bent": 6.0}, 99: {"turned": 4.0}}
FORCES_WEIGHTS = {4: {"turned": 3.0, "bent": 4.0}, 99: {"bent": 2.0}}
#: Which of these kinds a frame is of; one at its minimum counts as turned by its energy, as bent by its forces.
_ENERGY_KINDS = {"relaxed": "turned", "scan": "turned", "scan, relaxing": "turned", "bent": "bent"}
_FORCES_KINDS = {"scan": "turned", "scan, relaxing": "turned", "relaxed": "bent", "close": "bent", "bent": "bent"}


def new_model() -> SchNet:
    """The network: a smooth cutoff of 5 Angstrom, which no force notices, and energies that are sums over atoms."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_channels": 128, "num_filters": 128, "num_interactions": 4, "num_gaussians": 50}
    return SchNet(**sizes, cutoff=5.0, cutoff_function="polynomial", activate_last=True, filters="auto", max_z=10)


def is_validated(molecule: str) -> bool:
    """True if a molecule is for validation; a pair is never."""
    return "." not in molecule and zlib.crc32(molecule.encode()) % VALIDATED == 0


def weights_of(frame: Frame) -> tuple[float, float]:
    """How much energy and forces of a frame count in the last training."""
    heavy = int((frame.numbers > 1).sum())
    energy = next(weights for most, weights in ENERGY_WEIGHTS.items() if heavy <= most)
    forces = next(weights for most, weights in FORCES_WEIGHTS.items() if heavy <= most)
    return (
        energy.get(_ENERGY_KINDS.get(frame.kind, ""), 1.0),
        forces.get(_FORCES_KINDS.get(frame.kind, ""), 1.0),
    )


def learnt(
    frames: list[Frame],
    folder: Path,
    steps: int,
    begin: Path | None = None,
    rate: float = 2e-3,
    rho: float = RHO,
    loss: LossName = "squared",
    weighted: bool = False,
    **options: Any,
) -> Path:
    """Train, or go on training with more frames.

    Args:
        frames: Labelled frames.
        folder: Folder of the run; one that was interrupted goes on, one that has ended is left as it is.
        steps: Steps of 32 frames each.
        begin: Model to begin with; ``None`` for a new one.
        rate: Learning rate of the first step; it falls to zero on a cosine.
        rho: Weight of the energies in the loss.
        loss: What becomes of differences.
        weighted: True if some kinds of frames count more.
        **options: Further options of :func:`pyg_schnet.training.fit`.

    Returns:
        The model file.
    """
    if (folder / "done").exists():
        return folder / "model.safetensors"
    data = [
        Data(
            z=torch.as_tensor(one.numbers),
            pos=torch.as_tensor(one.positions, dtype=torch.float32),
            energy=torch.tensor([one.energy], dtype=torch.float64),
            forces=torch.as_tensor(one.forces, dtype=torch.float32),
            config_energy_weight=torch.tensor([weights_of(one)[0] if weighted else 1.0]),
            config_forces_weight=torch.tensor([weights_of(one)[1] if weighted else 1.0]),
        )
        for one in frames
    ]
    parts: dict[str, list[int]] = {"train": [], "val": []}
    for k, one in enumerate(frames):
        parts["val" if is_validated(one.molecule) else "train"].append(k)
    random.Random(0).shuffle(parts["val"])
    parts["val"] = sorted(parts["val"][:2000])
    split = Split({name: torch.tensor(part, dtype=torch.long) for name, part in parts.items()}, len(data))
    module = SplitDataModule(as_dataset(data), split, batch_size=32)
    model = new_model() if begin is None else load(begin).train().requires_grad_(True)
    task = PotentialTask(
        model,
        rho,
        learning_rate=rate,
        schedule="cosine",
        warmup_steps=min(500, steps // 10),
        references="fit" if begin is None else "none",
        energy_unit="meV",
        loss=loss,
    )
    settings: dict[str, Any] = {"accelerator": "cpu", "gradient_clip_val": 10.0, "ema_decay": 0.999}
    settings |= {"validate_every": max(1, min(2000, steps // 4)), "resume": (folder / "last.ckpt").exists()}
    fit(task, module, folder, max_steps=steps, **settings | options)
    (folder / "done").touch()
    return folder / "model.safetensors"
