"""Table V: SchNet of several sizes and trade-offs, each trained for so many minutes."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from labels import Labelled

from pyg_schnet import SchNet, load
from pyg_schnet.analysis import evaluate
from pyg_schnet.training import PotentialTask, SplitDataModule, fit
from pyg_schnet.units import KCAL_PER_MOL


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        blocks: Interaction blocks T.
        features: Feature dimensions F.
        rho: Trade-off between energies and forces.
        energy: The paper's mean absolute error of energies in kcal/mol.
        forces: That of forces in kcal/mol/Angstrom.
    """

    blocks: int
    features: int
    rho: float
    energy: float
    forces: float

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"T{self.blocks}_F{self.features}_rho{self.rho:g}"


#: The paper's; its fourth and sixth rows are the same network.
ROWS = (
    Row(3, 64, 0.01, 0.228, 0.401),
    Row(6, 64, 0.01, 0.202, 0.217),
    Row(3, 128, 0.01, 0.188, 0.197),
    Row(6, 128, 0.01, 0.1002, 0.120),
    Row(6, 128, 0.1, 0.027, 0.171),
    Row(6, 128, 0.001, 0.238, 0.061),
    Row(6, 128, 0.0, 0.260, 0.058),
)


#: Learning rate of the first step, twice that of the paper, whose rows had days, and steps in which it rises to it. It
#: falls to zero on a cosine within the minutes of a row.
LEARNING_RATE, WARMUP_STEPS = 2e-3, 200


def trained(row: Row, data: Labelled, minutes: float, out: Path, validate_every: int = 500) -> dict[str, Any]:
    """Train the network of a row and test it, if that is not done yet, or go on if there are more minutes now.

    Args:
        row: The row.
        data: The labelled frames.
        minutes: How long to train at most, interruptions not counted.
        out: Where the folder of the run is.
        validate_every: Steps between validations.

    Returns:
        Errors in kcal/mol and kcal/mol/Angstrom, steps and time.
    """
    folder = out / row.name
    path = folder / "errors.json"
    if path.exists() and (done := json.loads(path.read_text()))["minutes"] >= minutes:
        return done
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    torch.manual_seed(0)
    if not (folder / "last.ckpt").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed before it had anything to go on from
    module = SplitDataModule(data.dataset, data.split, batch_size=32)
    sizes = {"num_interactions": row.blocks, "hidden_channels": row.features, "num_filters": row.features}
    model = SchNet.preset("jcp2018", filters="auto", **sizes)
    model.reference.set(*module.energy_per_atom())
    options = {"max_minutes": minutes, "validate_every": validate_every, "resume": (folder / "last.ckpt").exists()}
    task = PotentialTask(model, row.rho, learning_rate=LEARNING_RATE, schedule="cosine", warmup_steps=WARMUP_STEPS)
    result = fit(task, module, folder, **options, accelerator="cpu")
    of_energy, of_forces = evaluate(load(result.model), module.part("test"))
    errors = {
        "energy_kcal": of_energy.metrics()["mae"] / KCAL_PER_MOL,
        "forces_kcal": of_forces.metrics()["mae"] / KCAL_PER_MOL,
        "steps": result.steps,
        "best_step": result.best_step,
        "minutes": minutes,
        "test": len(of_energy.true),
    }
    path.write_text(json.dumps(errors, indent=1))
    return errors
