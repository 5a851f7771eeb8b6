"""Training with Lightning (extra ``train``)."""

try:
    import lightning  # noqa: F401
except ImportError as error:
    raise ImportError('training needs Lightning; install it with pip install "pyg_schnet[train]"') from error

from pyg_schnet import former_names
from pyg_schnet.training.data import SplitDataModule
from pyg_schnet.training.fit import fit
from pyg_schnet.training.loss import absolute_loss, energy_forces_loss, huber_loss, squared_loss
from pyg_schnet.training.potential_task import PotentialTask
from pyg_schnet.training.property_task import PropertyTask
from pyg_schnet.training.recorded import RecordedTraining
from pyg_schnet.training.result import FitResult
from pyg_schnet.training.storing import read_checkpoint
from pyg_schnet.training.task import TrainingTask
from pyg_schnet.training.trainer import RunTrainer

__all__ = [
    "FitResult",
    "PotentialTask",
    "PropertyTask",
    "RecordedTraining",
    "RunTrainer",
    "SplitDataModule",
    "TrainingTask",
    "absolute_loss",
    "energy_forces_loss",
    "fit",
    "huber_loss",
    "read_checkpoint",
    "squared_loss",
]

former_names.attach(__name__)
