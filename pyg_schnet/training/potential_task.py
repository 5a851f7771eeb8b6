"""Training a potential with Lightning."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import MeanAbsoluteError, MetricCollection

from pyg_schnet.graph import may_inspect
from pyg_schnet.models import AtomisticModel, Potential
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.ops import stress_from_virials
from pyg_schnet.training.loss import energy_forces_loss, known_stress
from pyg_schnet.units import conversion


class PotentialTask(LightningModule):
    """Learn energies, forces and, if asked for, stresses with the protocol of the paper.

    Loss of equation (5), Adam, learning rate decayed exponentially (ratio ``decay`` every ``decay_steps`` steps,
    continuously); Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.F. Validation logs the loss and the mean
    absolute errors in the unit asked for.

    With ``rho_stress`` above zero, data need ``stress`` [1, 3, 3] in eV/Angstrom^3 with the sign of ASE. Structures
    whose stress is NaN, as that of molecules, learn from energy and forces alone and need no cell.

    Args:
        model: The model of energies to train.
        rho: Trade-off between energies and forces.
        learning_rate: Learning rate of the first step.
        decay: Factor on the learning rate after ``decay_steps`` steps.
        decay_steps: See ``decay``.
        energy_unit: Unit in which errors are shown; data and model are in eV.
        rho_stress: Weight of the stresses, see :func:`~pyg_schnet.training.energy_forces_loss`; 0 for none.

    Raises:
        ValueError: If ``rho`` or ``rho_stress`` is negative, a rate is not positive or the unit is not known.
    """

    def __init__(
        self,
        model: AtomisticModel,
        rho: float = 0.01,
        learning_rate: float = 1e-3,
        decay: float = 0.96,
        decay_steps: int = 100_000,
        energy_unit: str = "kcal/mol",
        rho_stress: float = 0.0,
    ) -> None:
        super().__init__()
        for name, weight in (("rho", rho), ("rho_stress", rho_stress)):
            if weight < 0:
                raise ValueError(f"`{name}` must not be negative, got {weight}")
        if learning_rate <= 0 or decay <= 0 or decay_steps < 1:
            raise ValueError(
                "`learning_rate` and `decay` must be positive and `decay_steps` at least 1, "
                f"got {learning_rate}, {decay} and {decay_steps}"
            )
        self.save_hyperparameters(ignore=["model"])
        self.hparams["config"] = model.config
        # virials instead of stresses: a batch may hold molecules, which have no volume
        self.potential = Potential(model, virials=rho_stress > 0)
        self.unit_factor = conversion("eV", energy_unit)
        names = ["energy", "forces", "stress"] if rho_stress > 0 else ["energy", "forces"]
        self.errors = MetricCollection({name: MeanAbsoluteError() for name in names})

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.potential.model

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Loss of a mini-batch.

        Args:
            batch: Structures with ``energy`` and ``forces``, and with ``stress`` if there is a weight for it.
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
            batch: Structures with ``energy`` and ``forces``, and with ``stress`` if there is a weight for it.
            batch_idx: Not used.
        """
        loss, out = self._loss(batch)
        self.log("val/loss", loss.detach(), batch_size=batch.num_graphs)
        self.errors["energy"].update(out["energy"], batch.energy.view_as(out["energy"]).to(out["energy"].dtype))
        self.errors["forces"].update(out["forces"], batch.forces.to(out["forces"].dtype))
        if "stress" in out:
            known = known_stress(batch.stress)
            if known.any():
                self.errors["stress"].update(out["stress"][known], batch.stress[known].to(out["stress"].dtype))

    def on_validation_epoch_end(self) -> None:
        """Log the mean absolute errors in the unit asked for."""
        unit = self.hparams["energy_unit"]
        units = {"energy": unit, "forces": f"{unit}/Ang", "stress": f"{unit}/Ang^3"}
        for name, error in self.errors.items():
            if error.update_called:
                self.log(f"val/{name}_mae [{units[name]}]", error.compute() * self.unit_factor)
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
        # runs of before there were stresses had no weight for them
        stored, own = {"rho_stress": 0.0} | dict(checkpoint["hyper_parameters"]), dict(self.hparams)
        different = [name for name in own if stored.get(name) != own[name]]
        if different:
            raise ValueError(
                f"the interrupted run had other settings ({', '.join(different)}): "
                + "; ".join(f"{name} was {stored.get(name)}, now {own[name]}" for name in different)
                + "; resume with the old ones or start in another directory"
            )

    def _loss(self, batch: Data) -> tuple[Tensor, dict[str, Tensor]]:
        _check_labels(batch)
        out = self.potential(batch)
        rho, rho_stress = self.hparams["rho"], self.hparams["rho_stress"]
        target = None
        if rho_stress > 0:
            target = _stress_target(batch, rho_stress)
            cell = torch.zeros_like(target) if batch.get("cell") is None else batch.cell
            out["stress"] = stress_from_virials(out.pop("virials"), cell, batch.batch)
        loss = energy_forces_loss(
            out["energy"],
            out["forces"],
            batch.energy,
            batch.forces,
            batch.batch,
            rho,
            stress=out.get("stress"),
            stress_target=target,
            rho_stress=rho_stress,
        )
        return loss, out


def _check_labels(batch: Data) -> None:
    for name in ("energy", "forces"):
        if batch.get(name) is None:
            raise ValueError(f"the data have no `{name}` to learn; they have {', '.join(sorted(batch.keys()))}")


def _stress_target(batch: Data, rho_stress: float) -> Tensor:
    """True stresses [B, 3, 3], those that are known having a cell with a volume."""
    target = batch.get("stress")
    if target is None:
        raise ValueError(
            f"`rho_stress` is {rho_stress}, but the data have no `stress` [1, 3, 3]; "
            "add it, NaN where it is not known, or leave out `rho_stress`"
        )
    if target.shape != (batch.num_graphs, 3, 3):
        raise ValueError(
            f"`stress` must have shape [{batch.num_graphs}, 3, 3], [1, 3, 3] in each Data, got {list(target.shape)}"
        )
    known = known_stress(target)
    cell = batch.get("cell")
    if cell is not None or (may_inspect(known) and known.any()):
        check_volume(cell, known)
    return target
