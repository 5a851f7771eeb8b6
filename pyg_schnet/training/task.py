"""What all training tasks share: optimizer, schedule, references, what a resumed run must agree with."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets import StructureLoader
from pyg_schnet.datasets.targets import Target, find_target
from pyg_schnet.models import AtomisticModel
from pyg_schnet.models.atomistic import check_unit
from pyg_schnet.models.elements import seen_by
from pyg_schnet.training.end_of_run import elapsed_part
from pyg_schnet.training.layers import check_layers, check_model, make_ready, parameter_groups
from pyg_schnet.training.metrics import MeanLoss
from pyg_schnet.training.overview import Overview, overview
from pyg_schnet.training.recordable import as_on_cpu
from pyg_schnet.training.references import check_elements, check_rule, set_references
from pyg_schnet.training.say import say
from pyg_schnet.training.schedule import check_schedule, fitting_warmup, learning_rate_schedule

#: Settings that older checkpoints do not have, with the values they were made with. References are none of them: an
#: older run set them itself, and a resumed one takes those of its checkpoint.
_ADDED_LATER: dict[str, Any] = {
    "rho_stress": 0.0,
    "forces": True,
    "schedule": "exponential",
    "warmup_steps": 0,
    "plateau_patience": 25,
    "loss": "squared",
    "freeze": [],
    "backbone_rate": 1.0,
    "weight_decay": 0.0,
    "energy_key": "energy",
    "forces_key": "forces",
    "stress_key": "stress",
}
#: Settings that change nothing unless another one has this value.
_ONLY_WITH = {"huber_delta": ("loss", "huber")}


class TrainingTask(LightningModule):
    """A model and the protocol by which it is trained.

    Adam, and a schedule of the learning rate. Before the first step the references of the model are taken from the
    training set. Subclasses write the steps.

    Args:
        model: The model.
        targets: Names of the targets of the dataset, in the order of the model's outputs.
        learning_rate: Learning rate of the first step.
        schedule: Schedule of the learning rate, see :func:`~pyg_schnet.training.schedule.learning_rate_schedule`.
        decay: Factor on the learning rate after ``decay_steps`` steps, or on a plateau.
        decay_steps: See ``decay``.
        warmup_steps: Steps in which the learning rate rises linearly from zero; a tenth of a cosine run that is not
            longer.
        plateau_patience: Validations without improvement that make a plateau.
        references: Where references come from, see :func:`~pyg_schnet.training.references.set_references`.
        freeze: Names of layers that keep their weights.
        backbone_rate: Factor on the learning rate of all layers before the output network.
        weight_decay: What is taken off the matrices of layers in a step, in units of the learning rate.

    Raises:
        TypeError: If ``model`` is none.
        ValueError: If a rate is not positive, the decay is negative or a name is not known.
    """

    def __init__(
        self,
        model: AtomisticModel,
        targets: list[str],
        learning_rate: float,
        schedule: str,
        decay: float,
        decay_steps: int,
        warmup_steps: int,
        plateau_patience: int,
        references: str,
        freeze: Sequence[str] = (),
        backbone_rate: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        check_model(model)
        if learning_rate <= 0:
            raise ValueError(f"`learning_rate` must be positive, got {learning_rate}")
        check_schedule(schedule, decay, decay_steps, warmup_steps, plateau_patience)
        check_rule(references)
        check_layers(model, freeze, backbone_rate, weight_decay)
        self.names, self.targets, self._prepared = targets, list[Target](), False
        self.validation_loss = MeanLoss(nan_strategy=math.nan)  # by default it leaves NaN out
        self._plan: dict[str, Any] = {
            "schedule": schedule,
            "decay": decay,
            "decay_steps": decay_steps,
            "warmup_steps": warmup_steps,
            "patience": plateau_patience,
        }

    @property
    def model(self) -> Any:
        """The model that is trained."""
        raise NotImplementedError(f"{type(self).__name__} must have a `model`")

    def labels(self, batch: Data) -> Any:
        """What is to be learnt from a mini-batch, checked.

        Args:
            batch: Structures with the targets.

        Returns:
            What :meth:`loss_of` takes.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `labels`")

    def predictions(self, batch: Data) -> Any:
        """What the model says of a mini-batch.

        Args:
            batch: Structures.

        Returns:
            What :meth:`loss_of` takes.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `predictions`")

    def loss_of(self, predictions: Any, labels: Any) -> Tensor:
        """Loss of predictions.

        Args:
            predictions: What :meth:`predictions` returned.
            labels: What :meth:`labels` returned.

        Returns:
            The loss, a scalar in the dtype of the model.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `loss_of`")

    def loss_on(self, batch: Data) -> Tensor:
        """Loss of a mini-batch, the one that is made smaller in training.

        Of energies and forces it is equation (5) of Schütt et al., J. Chem. Phys. 148, 241722 (2018), see
        :func:`~pyg_schnet.training.energy_forces_loss`; of other properties see
        :func:`~pyg_schnet.training.squared_loss`.

        Args:
            batch: Structures with the targets.

        Returns:
            The loss, a scalar in the dtype of the model.

        Raises:
            ValueError: If a label is missing or has another shape than the structures.

        Example:
            >>> from torch_geometric.data import Batch
            >>> from pyg_schnet import SchNet
            >>> from pyg_schnet.training import PotentialTask
            >>> atom = Data(z=torch.tensor([2]), pos=torch.zeros(1, 3), energy=torch.tensor([3.0]))
            >>> task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0, zero_output=True), forces=False)
            >>> task.loss_on(Batch.from_data_list([atom])).item()  # (3 eV - 0 eV)^2
            9.0
        """
        return self._loss(batch)[0]

    def _loss(self, batch: Data) -> tuple[Tensor, Any]:
        """Loss and predictions of a mini-batch, by the name that scripts of before know."""
        labels, predictions = self.labels(batch), self.predictions(batch)
        return self.loss_of(predictions, labels), predictions

    def check(self, dataset: Any) -> None:
        """Find the targets in a dataset and check that their units are those of the model.

        Args:
            dataset: The dataset.

        Raises:
            ValueError: If the dataset has no such target, or it is not in the unit of the model or of its repulsion.
        """
        self.targets = [find_target(dataset, name) for name in self.names]
        units = self.model.units
        for target in self.targets:
            check_unit(self.model, target.unit)
            known = units.get(target.name, target.unit)
            if target.unit and known != target.unit:
                raise ValueError(
                    f"the model predicts {target.name} in {known}, the dataset has it in {target.unit}; "
                    "convert the data or begin with a new model"
                )
        if len(self.targets) != self.model.out_channels:
            raise ValueError(
                f"the model predicts {self.model.out_channels} values, expected {len(self.targets)}, one for each of "
                f"{', '.join(self.names)}; set `out_channels`"
            )

    def prepare(self, data: Any) -> None:
        """Before a run: the model is made ready to learn; once, data are checked and references set.

        Args:
            data: The data module of the run.

        Raises:
            ValueError: If the data do not fit.
        """
        make_ready(self.model, self.hparams.get("freeze", ()))
        if self._prepared:
            return
        self.check(data.dataset)
        training = data.dataset[data.split["train"]]
        if self.hparams["references"] == "fit":
            check_elements(training, data.dataset[data.split["val"]])
        self._check_validation(data.dataset[data.split["val"]])
        set_references(self.model, training, self.targets, self.hparams["references"], data.batch_size)
        self.model.training_set = seen_by(self.model, StructureLoader(training, batch_size=100))
        self.model.units = self.model.units | {target.name: target.unit for target in self.targets if target.unit}
        self._prepared = True

    def _labels_learnt(self) -> list[str]:
        """Further keys of the data that are learnt beside the targets."""
        return []

    def _check_validation(self, dataset: Any) -> None:
        """Refuse validation examples of which nothing is known: every model would be as good as the best."""
        for batch in StructureLoader(dataset, batch_size=1000):
            values = [*(one.values(batch) for one in self.targets), *(batch.get(key) for key in self._labels_learnt())]
            if any(value is not None and bool(value.isfinite().any()) for value in values):
                return
        raise ValueError(
            "no validation example has a known value of what is learnt, so that no model could be told to be the best; "
            "choose others"
        )

    def overview(self, data: Any) -> Overview:
        """Figures of the training set, see :class:`~pyg_schnet.training.overview.Overview`.

        Args:
            data: The data module of the run.

        Returns:
            The figures.
        """
        return overview(data.part("train"), self.targets, None, False)

    def begin_from(self, trained: AtomisticModel) -> None:
        """Take the weights and references of a trained model, to train it further.

        Args:
            trained: A model of the same architecture.

        Raises:
            TypeError: If it is no model.
            ValueError: If its architecture is another one.
        """
        check_model(trained)
        own, given = _architecture(self.model), _architecture(trained)
        different = [name for name in own | given if own.get(name) != given.get(name)]
        if different:
            raise ValueError(
                "the weights are those of another architecture: "
                + "; ".join(f"{name} is {given.get(name)} there, {own.get(name)} in the settings" for name in different)
                + "; train with the architecture of the weights"
            )
        self.model.load_state_dict(trained.state_dict())
        self.model.units = dict(trained.units)
        self.model.training_set, self.model.trained_elsewhere = trained.training_set, trained.trained_elsewhere

    def setup(self, stage: str) -> None:
        """Called by Lightning before a run.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        """
        data = getattr(self.trainer, "datamodule", None)
        if data is not None and stage == "fit":
            self.prepare(data)
        elif data is not None:
            self.check(data.dataset)

    def configure_optimizers(self) -> Any:
        """Adam, or AdamW if weights decay, and the schedule of the learning rate.

        Returns:
            Both, as Lightning expects them.
        """
        rate, decay = self.hparams["learning_rate"], self.hparams.get("weight_decay", 0.0)
        groups = parameter_groups(self, self.model, rate, self.hparams.get("backbone_rate", 1.0), decay)
        trainer = self.trainer if self._trainer is not None else None
        # in mixed precision Lightning clips gradients only of optimizers that do not scale them themselves
        scaled = trainer is not None and "mixed" in str(trainer.precision) and bool(trainer.gradient_clip_val)
        kind = torch.optim.AdamW if decay else torch.optim.Adam
        optimizer = kind(groups, lr=rate, fused=not scaled)
        limits: dict[str, Any] = {"max_steps": -1}
        plan = dict(self._plan)
        if trainer is not None and self._plan["schedule"] == "cosine":
            limits = {"max_steps": _last_step(trainer), "elapsed": elapsed_part(trainer)}
            plan["warmup_steps"] = fitting_warmup("cosine", plan["warmup_steps"], limits["max_steps"])
            if plan["warmup_steps"] != self._plan["warmup_steps"]:
                say(
                    f"the run of {limits['max_steps']:,} steps is not longer than the warm-up of "
                    f"{self._plan['warmup_steps']:,}; its warm-up is {plan['warmup_steps']:,} steps"
                )
        return {
            "optimizer": optimizer,
            "lr_scheduler": learning_rate_schedule(optimizer, **limits, **plan),
        }

    def end_validation(self) -> None:
        """Log the loss of all validation examples, the same in each process; the plateau schedule takes its step.

        Lightning would take that step after checkpoints are written, and would leave it out in a run that goes on.
        """
        loss = self.validation_loss.compute()
        self.validation_loss.reset()
        self.log("val/loss", loss)
        if self._trainer is not None and self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            schedule = self.lr_schedulers()
            if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
                schedule.step(float(loss))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume a run of another model or protocol.

        Args:
            checkpoint: What Lightning read.

        Raises:
            ValueError: If task, architecture, protocol or units differ.
        """
        kind = checkpoint.get("task", "PotentialTask")  # older checkpoints do not say, there was no other task
        if kind != type(self).__name__:
            raise ValueError(
                f"the interrupted run was one of {kind}, got {type(self).__name__}; resume with the old task or start "
                "in another directory"
            )
        stored, own = _ADDED_LATER | dict(checkpoint["hyper_parameters"]), dict(self.hparams)
        stored["config"], own["config"] = _without_ways(stored.get("config", {})), _without_ways(own["config"])
        idle = {name for name, (other, value) in _ONLY_WITH.items() if own.get(other) != value}
        different = [name for name in own if name in stored and name not in idle and stored[name] != own[name]]
        if different:
            raise ValueError(
                f"the interrupted run had other settings ({', '.join(different)}): "
                + "; ".join(f"{name} was {stored.get(name)}, now {own[name]}" for name in different)
                + "; resume with the old ones or start in another directory"
            )
        before, now = checkpoint.get("units", {}), {target.name: target.unit for target in self.targets}
        changed = [name for name in now if before.get(name) and before[name] != now[name]]
        if changed:
            raise ValueError(
                "the interrupted run had other units: "
                + "; ".join(f"{name} was in {before[name]}, now in {now[name]}" for name in changed)
                + "; resume with the old data or start in another directory"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the kind of the task and the units of the data.

        Args:
            checkpoint: What Lightning writes.
        """
        checkpoint["task"] = type(self).__name__
        as_on_cpu(checkpoint)
        checkpoint["model"] = type(self.model).__name__
        if self.model.training_set is not None:
            checkpoint["training_set"] = self.model.training_set._asdict()
        checkpoint["units"] = {target.name: target.unit for target in self.targets}


def _last_step(trainer: Any) -> int:
    """Steps after which a run ends, by its limits of steps and epochs; -1 for none."""
    if trainer.max_epochs in {None, -1}:
        return int(trainer.max_steps)
    steps = trainer.estimated_stepping_batches
    return -1 if math.isinf(steps) else int(steps)


def _architecture(model: AtomisticModel) -> dict[str, Any]:
    return {"model": type(model).__name__} | _without_ways(model.config)


def _without_ways(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a model that say what it computes; how it does so may change. Older runs know of no repulsion."""
    idle = {"filters", "knot_spacing"} | ({"repulsion"} if config.get("repulsion") is None else set())
    return {name: value for name, value in config.items() if name not in idle}
