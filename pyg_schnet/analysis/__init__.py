"""Studies of a trained model."""

from pyg_schnet.analysis.conservation import energy_drift, energy_plot
from pyg_schnet.analysis.errors import Predictions, error_summary, parity_plot, predict

__all__ = ["Predictions", "energy_drift", "energy_plot", "error_summary", "parity_plot", "predict"]
