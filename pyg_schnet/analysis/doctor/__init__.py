"""Checks of a model, of whatever class: derivatives, symmetries, smoothness, rounding, coverage."""

from pyg_schnet.analysis.doctor.check import Check, Diagnosis, Skipped
from pyg_schnet.analysis.doctor.examination import doctor

__all__ = ["Check", "Diagnosis", "Skipped", "doctor"]
