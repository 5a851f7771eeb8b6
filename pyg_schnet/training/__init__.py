"""Training with Lightning (extra ``train``)."""

try:
    import lightning  # noqa: F401
except ImportError as error:
    raise ImportError('training needs Lightning; install it with pip install "pyg_schnet[train]"') from error

from pyg_schnet.training.data import SplitDataModule
from pyg_schnet.training.fit import FitResult, fit, read_checkpoint
from pyg_schnet.training.loss import energy_forces_loss
from pyg_schnet.training.task import PotentialTask

__all__ = ["FitResult", "PotentialTask", "SplitDataModule", "energy_forces_loss", "fit", "read_checkpoint"]
