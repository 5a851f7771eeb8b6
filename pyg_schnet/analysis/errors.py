"""Errors of a model on a dataset."""

from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import NDArray

from pyg_schnet.analysis.error_figures import draw_parity
from pyg_schnet.analysis.evaluate import Structures, evaluation_mode, joined, potential_pairs
from pyg_schnet.analysis.figure import new_figure, save_figure
from pyg_schnet.analysis.target_errors import TargetErrors, mae_and_rmse
from pyg_schnet.models import AtomisticModel
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


def predict(model: AtomisticModel, dataset: Structures, batch_size: int = 100, progress: bool = True) -> Predictions:
    """Evaluate a model on all structures of a dataset, on the device of the model.

    Args:
        model: A model of energies, in the unit it knows itself (``model.units``) or in eV.
        dataset: Structures with ``energy`` and ``forces``.
        batch_size: Structures evaluated at a time.
        progress: True to show a progress bar.

    Returns:
        Predictions beside the true values.

    Raises:
        ValueError: If the dataset is empty or has no energies or forces.
    """
    pairs: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {"energy": [], "forces": []}
    with evaluation_mode(model):
        for _, found in potential_pairs(model, dataset, batch_size, progress):
            for name, known in pairs.items():
                if name not in found:
                    raise ValueError(
                        f"the structures have no `{name}` to compare with; see `evaluate` for other targets"
                    )
                known.append(found[name])
    return Predictions(*joined(pairs["energy"]), *joined(pairs["forces"]))


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
        >>> import numpy as np
        >>> one, zero = np.ones(1), np.zeros((1, 3))
        >>> error_summary(Predictions(one, one - 1, zero, zero), "meV")["energy_mae"]
        1000.0
    """
    factor = conversion("eV", energy_unit)
    summary: dict[str, float] = {}
    for name in ("energy", "forces"):
        error = (getattr(predictions, name) - getattr(predictions, f"{name}_target")) * factor
        summary |= {f"{name}_{kind}": value for kind, value in mae_and_rmse(error).items()}
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
    figure, panels = new_figure(columns=2)
    shown = (("energy", "energy less its mean", ""), ("forces", "force component", "/Ang"))
    for panel, (name, title, per) in zip(panels, shown, strict=True):
        values = [getattr(predictions, key) for key in (name, f"{name}_target")]
        errors = TargetErrors(name, f"eV{per}", *values).converted(f"{energy_unit}{per}")
        draw_parity(panel, errors, title, centred=name == "energy")
    return save_figure(figure, path)
