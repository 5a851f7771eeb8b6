"""Training a potential with Lightning."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import MeanAbsoluteError, MetricCollection

from pyg_schnet.models import Potential, SchNet
from pyg_schnet.training.loss import energy_forces_loss
from pyg_schnet.units import conversion


class PotentialTask(LightningModule):
    """Learn energies and forces with the protocol of the paper.

    Loss of equation (5), Adam, learning rate decayed exponentially (ratio ``decay`` every ``decay_steps`` steps,
    continuously); Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.F. Validation logs the loss and the mean
    absolute errors in the unit asked for.

    Args:
        model: The model of energies to train.
        rho: Trade-off between energies and forces.
        learning_rate: Learning rate of the first step.
        decay: Factor on the learning rate after ``decay_steps`` steps.
        decay_steps: See ``decay``.
        energy_unit: Unit in which errors are shown; data and model are in eV.

    Raises:
        ValueError: If ``rho`` is negative, a rate is not positive or the unit is not known.
    """

    def __init__(
        self,
        model: SchNet,
        rho: float = 0.01,
        learning_rate: float = 1e-3,
        decay: float = 0.96,
        decay_steps: int = 100_000,
        energy_unit: str = "kcal/mol",
    ) -> None:
        super().__init__()
        if rho < 0:
            raise ValueError(f"`rho` must not be negative, got {rho}")
        if learning_rate <= 0 or decay <= 0 or decay_steps < 1:
            raise ValueError(
                "`learning_rate` and `decay` must be positive and `decay_steps` at least 1, "
                f"got {learning_rate}, {decay} and {decay_steps}"
            )
        self.save_hyperparameters(ignore=["model"])
        self.hparams["config"] = model.config
        self.potential = Potential(model)
        self.unit_factor = conversion("eV", energy_unit)
        self.errors = MetricCollection({"energy": MeanAbsoluteError(), "forces": MeanAbsoluteError()})

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.potential.model

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Loss of a mini-batch.

        Args:
            batch: Structures with ``energy`` and ``forces``.
            batch_idx: Not used.

        Returns:
            The loss, a scalar.
        """
        loss, _ = self._loss(batch)
        self.log("train/loss", loss, batch_size=batch.num_graphs)
        return loss

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Loss and errors of a mini-batch.

        Args:
            batch: Structures with ``energy`` and ``forces``.
            batch_idx: Not used.
        """
        loss, out = self._loss(batch)
        self.log("val/loss", loss.detach(), batch_size=batch.num_graphs)
        self.errors["energy"].update(out["energy"], batch.energy.to(out["energy"].dtype))
        self.errors["forces"].update(out["forces"], batch.forces.to(out["forces"].dtype))

    def on_validation_epoch_end(self) -> None:
        """Log the mean absolute errors in the unit asked for."""
        unit = self.hparams["energy_unit"]
        errors = self.errors.compute()
        self.log(f"val/energy_mae [{unit}]", errors["energy"] * self.unit_factor)
        self.log(f"val/forces_mae [{unit}/Ang]", errors["forces"] * self.unit_factor)
        self.errors.reset()

    def configure_optimizers(self) -> Any:
        """Adam with exponential decay of the learning rate at every step.

        Returns:
            Optimizer and schedule, as Lightning expects them.
        """
        rate, decay, steps = (self.hparams[name] for name in ("learning_rate", "decay", "decay_steps"))
        optimizer = torch.optim.Adam(self.parameters(), lr=rate, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: decay ** (step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume a run of another model.

        Args:
            checkpoint: What Lightning read.

        Raises:
            ValueError: If architecture or protocol differ.
        """
        stored, own = checkpoint["hyper_parameters"], dict(self.hparams)
        different = [name for name in own if stored.get(name) != own[name]]
        if different:
            raise ValueError(
                f"the interrupted run had other settings ({', '.join(different)}): "
                + "; ".join(f"{name} was {stored.get(name)}, now {own[name]}" for name in different)
                + "; resume with the old ones or start in another directory"
            )

    def _loss(self, batch: Data) -> tuple[Tensor, dict[str, Tensor]]:
        out = self.potential(batch)
        rho = self.hparams["rho"]
        return energy_forces_loss(out["energy"], out["forces"], batch.energy, batch.forces, batch.batch, rho), out
