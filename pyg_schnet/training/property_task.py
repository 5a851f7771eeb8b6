"""Training scalar properties."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import MeanAbsoluteError, MetricCollection

from pyg_schnet.datasets.targets import Target
from pyg_schnet.models import AtomisticModel, properties
from pyg_schnet.training.casting import in_dtype_of
from pyg_schnet.training.loss import LossName, check_loss, scalar_loss
from pyg_schnet.training.references import ReferenceRule
from pyg_schnet.training.schedule import ScheduleName
from pyg_schnet.training.task import TrainingTask
from pyg_schnet.training.weights import weights_of


class PropertyTask(TrainingTask):
    """Learn scalar properties of structures: QM9's targets, formation energies, energies without forces.

    By default the squared loss of Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.F, in units of
    ``model.reference.std``: the standard deviation of each target, per atom where the readout adds up atoms, which for
    a single target is a constant factor; Adam; learning rate decayed exponentially. Values that are not known (NaN) add
    nothing. Validation logs the loss and the mean absolute errors in the units of the data.

    Args:
        model: The model to train, with as many ``out_channels`` as targets.
        targets: Names of the targets in the order of the model's outputs: columns of ``y`` that the dataset names
            (``"U0"``) or keys of the data (``"formation_energy"``).
        learning_rate: Learning rate of the first step.
        decay: Factor on the learning rate after ``decay_steps`` steps, or on a plateau.
        decay_steps: See ``decay``.
        schedule: ``"exponential"``, ``"cosine"`` to zero at the end of the run, or ``"plateau"``, see
            :func:`~pyg_schnet.training.schedule.learning_rate_schedule`.
        warmup_steps: Steps in which the learning rate rises linearly from zero; a tenth of a cosine run that is not
            longer.
        plateau_patience: Validations without improvement that make a plateau.
        references: Where mean, standard deviation and single-atom values come from: ``"mean"``, ``"atomref"``,
            ``"fit"``, ``"none"``, or ``"auto"`` for ``"mean"`` if the model has none yet, see
            :func:`~pyg_schnet.training.references.set_references`.
        loss: ``"squared"``, :func:`~pyg_schnet.training.squared_loss`, as in the papers, ``"absolute"``,
            :func:`~pyg_schnet.training.absolute_loss`, the error that is reported in the end, or ``"huber"``,
            :func:`~pyg_schnet.training.huber_loss`. Structures count by their ``config_weight`` [1], if they have one.
        huber_delta: Where a Huber loss becomes linear, in units of ``model.reference.std``.
        freeze: Names of layers of the model that keep their weights, for fine-tuning: ``["embedding"]``,
            ``["embedding", "interactions.0"]``.
        backbone_rate: Factor on the learning rate of all layers before the output network, for fine-tuning: with 0.1
            what was learnt before changes ten times slower.
        weight_decay: Decay of the matrices of layers, which lets a network that fits its training examples much better
            than others generalise: each step takes this times the learning rate off them (AdamW). Biases and embeddings
            keep all. 0 for none, as in the papers.

    Raises:
        ValueError: If a rate is not positive, the decay is negative, a name is not known or there is not one output for
            each target.
    """

    def __init__(
        self,
        model: AtomisticModel,
        targets: str | Sequence[str],
        learning_rate: float = 1e-3,
        decay: float = 0.96,
        decay_steps: int = 100_000,
        schedule: ScheduleName = "exponential",
        warmup_steps: int = 0,
        plateau_patience: int = 25,
        references: ReferenceRule = "auto",
        loss: LossName = "squared",
        huber_delta: float = 1.0,
        freeze: Sequence[str] = (),
        backbone_rate: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        check_loss(loss, huber_delta)
        targets = [targets] if isinstance(targets, str) else list(targets)
        super().__init__(
            model,
            targets,
            learning_rate,
            schedule,
            decay,
            decay_steps,
            warmup_steps,
            plateau_patience,
            references,
            freeze := list(freeze),
            backbone_rate,
            weight_decay,
        )
        self.save_hyperparameters(ignore=["model"])
        self.hparams["config"] = model.config
        self.network = model
        # by number: a module's name can hold no full stop, nor be that of a method
        self.errors = MetricCollection({str(column): MeanAbsoluteError() for column in range(len(targets))})

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.network

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Loss of a mini-batch.

        Args:
            batch: Structures with the targets.
            batch_idx: Not used.

        Returns:
            The loss, a scalar.
        """
        loss = self.loss_on(batch)
        self.log("train/loss", loss, batch_size=batch.num_graphs)
        return loss

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Loss and errors of a mini-batch.

        Args:
            batch: Structures with the targets.
            batch_idx: Not used.
        """
        labels, predicted = self.labels(batch), self.predictions(batch)
        loss, true = self.loss_of(predicted, labels), labels.values
        self.validation_loss.update(loss.detach(), weight=batch.num_graphs)
        for column in range(len(self.names)):
            known = true[:, column].isfinite()
            self.errors[str(column)].update(predicted[known, column], true[known, column])

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the mean absolute errors in the units of the data."""
        for column, target in enumerate(self._found()):
            error = self.errors[str(column)].compute()
            if error.isfinite():
                self.log(f"val/{target.name}_mae" + (f" [{target.unit}]" if target.unit else ""), error)
        self.errors.reset()
        self.end_validation()

    def _found(self) -> list[Target]:
        """The targets; without a data module each is taken for a key of the data."""
        return self.targets or [Target(name, name, None, "") for name in self.names]

    def labels(self, batch: Data) -> "PropertyLabels":
        """What is to be learnt from a mini-batch.

        Args:
            batch: Structures with the targets.

        Returns:
            Their labels.

        Raises:
            ValueError: If one is missing.
        """
        values = torch.stack([target.values(batch) for target in self._found()], dim=1).double()  # [B, C]
        return PropertyLabels(values, weights_of(batch).energy)

    def predictions(self, batch: Data) -> Tensor:
        """What the model says of a mini-batch.

        Args:
            batch: Structures.

        Returns:
            Properties in the units of the data [B, C] float64.
        """
        return properties(self.model, in_dtype_of(self.model, batch))

    def loss_of(self, predictions: Tensor, labels: "PropertyLabels") -> Tensor:
        """Loss of predictions, in units of the standard deviation of each target.

        Args:
            predictions: What :meth:`predictions` returned [B, C].
            labels: What :meth:`labels` returned.

        Returns:
            The loss, a scalar in the dtype of the model.
        """
        kind, delta = self.hparams["loss"], self.hparams["huber_delta"]
        loss = scalar_loss(kind, predictions, labels.values, self.model.reference.std, delta, labels.weights)
        return loss.to(self.model.embedding.weight.dtype)


class PropertyLabels(NamedTuple):
    """What is to be learnt from structures.

    Attributes:
        values: Values of the targets [B, C] float64, NaN where they are not known.
        weights: How much structures count [B]; ``None`` for all alike.
    """

    values: Tensor
    weights: Tensor | None
