"""Studies of a trained model."""

from pyg_schnet.analysis.chemical_potential import local_chemical_potential
from pyg_schnet.analysis.conservation import energy_drift, energy_plot
from pyg_schnet.analysis.errors import Predictions, error_summary, parity_plot, predict
from pyg_schnet.analysis.evaluate import evaluate
from pyg_schnet.analysis.learning_curve import learning_curve
from pyg_schnet.analysis.published import Published, published, published_rows
from pyg_schnet.analysis.report import Report, in_paper_units
from pyg_schnet.analysis.target_errors import TargetErrors

__all__ = [
    "Predictions",
    "Published",
    "Report",
    "TargetErrors",
    "energy_drift",
    "energy_plot",
    "error_summary",
    "evaluate",
    "in_paper_units",
    "learning_curve",
    "local_chemical_potential",
    "parity_plot",
    "predict",
    "published",
    "published_rows",
]
