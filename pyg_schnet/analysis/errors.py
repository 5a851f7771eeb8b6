"""Errors of a model on a dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Dataset
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from pyg_schnet.analysis.figure import BLUE, GREY, new_figure, save_figure
from pyg_schnet.models import Potential, SchNet
from pyg_schnet.units import conversion


@dataclass(frozen=True)
class Predictions:
    """True and predicted energies and forces, in eV and eV/Angstrom, float64.

    Attributes:
        energy: Predicted energies [M].
        energy_target: True energies [M].
        forces: Predicted forces of all atoms [N, 3].
        forces_target: True forces [N, 3].
    """

    energy: NDArray
    energy_target: NDArray
    forces: NDArray
    forces_target: NDArray


def predict(model: SchNet, dataset: Dataset, batch_size: int = 100, progress: bool = True) -> Predictions:
    """Evaluate a model on all structures of a dataset, on the device of the model.

    Args:
        model: A model of energies in eV.
        dataset: Structures with ``energy`` and ``forces``.
        batch_size: Structures evaluated at a time.
        progress: Whether to show a progress bar.

    Returns:
        Predictions beside the true values.

    Raises:
        ValueError: If the dataset is empty.
    """
    if len(dataset) == 0:
        raise ValueError("there is no structure to evaluate; expected at least one")
    potential, device = Potential(model).eval(), next(model.parameters()).device
    parts: dict[str, list[torch.Tensor]] = {"energy": [], "energy_target": [], "forces": [], "forces_target": []}
    for batch in tqdm(DataLoader(dataset, batch_size), "evaluating", unit="batch", disable=not progress, leave=False):
        out = potential(batch.to(device))
        for name in ("energy", "forces"):
            parts[name].append(out[name].double().cpu())
            parts[f"{name}_target"].append(batch[name].double().cpu())
    return Predictions(**{name: torch.cat(tensors).numpy() for name, tensors in parts.items()})


def error_summary(predictions: Predictions, energy_unit: str = "kcal/mol") -> dict[str, float]:
    r"""Mean absolute and root mean squared errors of energies and force components.

    .. math:: \mathrm{MAE} = \langle |\hat y - y| \rangle, \quad \mathrm{RMSE} = \langle (\hat y - y)^2 \rangle^{1/2}

    as in tables III and IV of J. Chem. Phys. 148, 241722 (2018).

    Args:
        predictions: Predictions.
        energy_unit: Unit of the energies; forces are in this unit per Angstrom.

    Returns:
        ``energy_mae``, ``energy_rmse``, ``forces_mae`` and ``forces_rmse``.

    Example:
        >>> one, zero = np.ones(1), np.zeros((1, 3))
        >>> error_summary(Predictions(one, one - 1, zero, zero), "meV")["energy_mae"]
        1000.0
    """
    factor = conversion("eV", energy_unit)
    summary = {}
    for name in ("energy", "forces"):
        error = (getattr(predictions, name) - getattr(predictions, f"{name}_target")) * factor
        summary[f"{name}_mae"] = float(np.abs(error).mean())
        summary[f"{name}_rmse"] = float(np.sqrt(np.square(error).mean()))
    return summary


def parity_plot(predictions: Predictions, path: str | Path, energy_unit: str = "kcal/mol") -> Path:
    """Draw predicted against true energies and forces.

    Args:
        predictions: Predictions.
        path: PNG file to write.
        energy_unit: Unit of the energies; forces are in this unit per Angstrom.

    Returns:
        The path.
    """
    factor, summary = conversion("eV", energy_unit), error_summary(predictions, energy_unit)
    mean = predictions.energy_target.mean()
    shown = {
        "energy": ("energy less its mean", energy_unit, predictions.energy - mean, predictions.energy_target - mean),
        "forces": ("force component", f"{energy_unit}/Å", predictions.forces, predictions.forces_target),
    }
    figure, panels = new_figure(columns=2)
    for panel, (name, (title, unit, predicted, true)) in zip(panels, shown.items(), strict=True):
        x, y = true.ravel() * factor, predicted.ravel() * factor
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        panel.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1)
        panel.scatter(x, y, s=4, color=BLUE, alpha=0.3, linewidths=0, rasterized=True, zorder=2)
        panel.set(xlabel=f"true {title} ({unit})", ylabel=f"predicted ({unit})", aspect="equal")
        text = f"MAE {summary[f'{name}_mae']:.3g} {unit}\nRMSE {summary[f'{name}_rmse']:.3g} {unit}"
        panel.text(0.04, 0.96, text, transform=panel.transAxes, va="top")
    return save_figure(figure, path)
