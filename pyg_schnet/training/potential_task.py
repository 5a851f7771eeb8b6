"""Training a potential."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics import MetricCollection

from pyg_schnet.datasets.targets import Target, check_key
from pyg_schnet.graph import can_inspect
from pyg_schnet.models import AtomisticModel, Potential, properties
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.ops import stress_from_virials
from pyg_schnet.training.casting import in_dtype_of
from pyg_schnet.training.loss import LossName, check_loss, energy_forces_loss, known_stress, scalar_loss
from pyg_schnet.training.metrics import KnownError
from pyg_schnet.training.overview import Overview, overview
from pyg_schnet.training.recorded_fit import RecordedSteps
from pyg_schnet.training.references import ReferenceRule
from pyg_schnet.training.schedule import ScheduleName
from pyg_schnet.training.task import TrainingTask
from pyg_schnet.training.weights import Weights, weights_of
from pyg_schnet.units import conversion


class PotentialTask(RecordedSteps, TrainingTask):
    """Learn energies, forces and, if asked for, stresses with the protocol of the paper.

    Loss of equation (5), Adam, learning rate decayed exponentially (ratio ``decay`` every ``decay_steps`` steps,
    continuously); Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.F. Validation logs the loss and the mean
    absolute errors in the unit asked for. Labels that are not known (NaN) add nothing to the loss.

    Structures and atoms may count more or less, by the keys ``config_weight``, ``config_energy_weight``,
    ``config_forces_weight``, ``config_stress_weight`` and ``atom_weight`` of the data, see
    :func:`~pyg_schnet.training.energy_forces_loss`; errors of validation are those of all alike.

    With ``forces=False`` the loss is the error of the energies alone, as for the columns "energy" of tables III
    and IV. With ``rho=0`` it is that of the forces alone; :func:`~pyg_schnet.training.fit` then fits the constant of
    integration to the energies of the training set.

    With ``rho_stress`` above zero, data need ``stress`` [1, 3, 3] in eV/Angstrom^3 with the sign of ASE. Structures
    whose stress is NaN, as that of molecules, learn from energy and forces alone and need no cell.

    Args:
        model: The model of energies to train.
        rho: Trade-off between energies and forces.
        learning_rate: Learning rate of the first step.
        decay: Factor on the learning rate after ``decay_steps`` steps, or on a plateau.
        decay_steps: See ``decay``.
        energy_unit: Unit in which errors are shown; data and model are in eV.
        rho_stress: Weight of the stresses, see :func:`~pyg_schnet.training.energy_forces_loss`; 0 for none.
        forces: True to learn forces.
        schedule: ``"exponential"``, ``"cosine"`` to zero at the end of the run, or ``"plateau"``, see
            :func:`~pyg_schnet.training.schedule.learning_rate_schedule`.
        warmup_steps: Steps in which the learning rate rises linearly from zero; a tenth of a cosine run that is not
            longer.
        plateau_patience: Validations without improvement that make a plateau.
        references: Where mean, standard deviation and single-atom values of the energy come from: ``"mean"``,
            ``"atomref"``, ``"fit"``, ``"none"``, or ``"auto"`` for ``"mean"`` if the model has none yet, see
            :func:`~pyg_schnet.training.references.set_references`.
        loss: ``"squared"``, as in the paper, ``"absolute"`` or ``"huber"``, see
            :func:`~pyg_schnet.training.energy_forces_loss`.
        huber_delta: Difference in eV, eV/Angstrom and eV/Angstrom^3 at which a Huber loss becomes linear.
        energy_key: Key of the data with the energies in eV.
        forces_key: Key of the data with the forces in eV/Angstrom.
        stress_key: Key of the data with the stresses in eV/Angstrom^3.
        freeze: Names of layers of the model that keep their weights, for fine-tuning: ``["embedding"]``,
            ``["embedding", "interactions.0"]``.
        backbone_rate: Factor on the learning rate of all layers before the output network, for fine-tuning: with 0.1
            what was learnt before changes ten times slower.
        weight_decay: Decay of the matrices of layers, which lets a network that fits its training examples much better
            than others generalise: each step takes this times the learning rate off them (AdamW). Biases and embeddings
            keep all. 0 for none, as in the papers.

    Raises:
        ValueError: If ``rho``, ``rho_stress`` or ``weight_decay`` is negative, a rate is not positive or a name is not
            known.
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
        forces: bool = True,
        schedule: ScheduleName = "exponential",
        warmup_steps: int = 0,
        plateau_patience: int = 25,
        references: ReferenceRule = "auto",
        loss: LossName = "squared",
        huber_delta: float = 0.1,
        energy_key: str = "energy",
        forces_key: str = "forces",
        stress_key: str = "stress",
        freeze: Sequence[str] = (),
        backbone_rate: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            model,
            [energy_key],
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
        for name, weight in (("rho", rho), ("rho_stress", rho_stress)):
            if weight < 0:
                raise ValueError(f"`{name}` must not be negative, got {weight}")
        check_loss(loss, huber_delta)
        if not forces and rho_stress > 0:
            raise ValueError(f"stresses are learnt beside forces; got forces=False and rho_stress={rho_stress}")
        self.save_hyperparameters(ignore=["model"])
        self.hparams["config"] = model.config
        # virials instead of stresses: a batch may hold molecules, which have no volume
        self.potential = Potential(model, virials=rho_stress > 0)
        self.unit_factor = conversion("eV", energy_unit)
        names = ["energy", "forces", "stress"] if rho_stress > 0 else ["energy", "forces"]
        self.errors = MetricCollection({name: KnownError() for name in names})

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.potential.model

    def check(self, dataset: Any) -> None:
        """Check that a dataset has what is to be learnt, before anything is computed.

        Args:
            dataset: The dataset.

        Raises:
            ValueError: If a label is missing or has another unit than the model.
        """
        super().check(dataset)
        unit = self.targets[0].unit or "eV"
        if unit != "eV":
            raise ValueError(f"potentials are learnt in eV, the dataset has energies in {unit}; convert it")
        self.targets = [self.targets[0]._replace(name="energy", unit=unit)]  # as the model knows it
        data = dataset[0]
        for name in self._labels_learnt():
            if data.get(name) is None:
                raise ValueError(
                    f"{type(dataset).__name__} has no `{name}` to learn, it has {', '.join(sorted(data.keys()))}; name "
                    f"another key{', or set `forces=False`' if name == self.hparams['forces_key'] else ''}"
                )
            check_key(name)

    def _labels_learnt(self) -> list[str]:
        keys = [self.hparams["forces_key"]] * self.hparams["forces"]
        return keys + [self.hparams["stress_key"]] * (self.hparams["rho_stress"] > 0)

    def overview(self, data: Any) -> Overview:
        """Figures of the training set, see :class:`~pyg_schnet.training.overview.Overview`.

        Args:
            data: The data module of the run.

        Returns:
            The figures.
        """
        key = self.hparams["forces_key"] if self.hparams["forces"] else None
        return overview(data.part("train"), self.targets, key, True, self.hparams["rho_stress"] > 0)

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Loss of a mini-batch.

        Args:
            batch: Structures with ``energy`` and ``forces``, and with ``stress`` if there is a weight for it.
            batch_idx: Not used.

        Returns:
            The loss, a scalar.
        """
        loss = self.gradients_of(batch)
        loss = self.loss_on(batch) if loss is None else loss
        self.log("train/loss", loss, batch_size=batch.num_graphs)
        return loss

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Loss and errors of a mini-batch.

        Args:
            batch: Structures with ``energy`` and ``forces``, and with ``stress`` if there is a weight for it.
            batch_idx: Not used.
        """
        labels, known_forces = self.labels(batch), batch.get(self.hparams["forces_key"])
        out = self.predictions(batch, with_forces=self.hparams["forces"] or known_forces is not None)
        loss = self.loss_of(out, labels)
        self.validation_loss.update(loss.detach(), weight=batch.num_graphs)
        for name, label in (("energy", labels.energy), ("forces", known_forces)):
            if name in out and label is not None:
                self.errors[name].update(out[name], label.view_as(out[name]).to(out[name].dtype))
        if "stress" in out and labels.stress is not None:
            known = torch.where(known_stress(labels.stress)[:, None, None], labels.stress, torch.nan)
            self.errors["stress"].update(out["stress"], known.to(out["stress"].dtype))

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the mean absolute errors in the unit asked for."""
        unit = self.hparams["energy_unit"]
        units = {"energy": unit, "forces": f"{unit}/Ang", "stress": f"{unit}/Ang^3"}
        for name, error in self.errors.items():
            # each process asks for it, whether its own share has known labels or not
            if error.update_called and (value := error.compute()).isfinite():
                self.log(f"val/{name}_mae [{units[name]}]", value * self.unit_factor)
        self.errors.reset()
        self.end_validation()

    def labels(self, batch: Data) -> "Labels":
        """What is to be learnt from a mini-batch, checked.

        Args:
            batch: Structures.

        Returns:
            Their labels.

        Raises:
            ValueError: If one is missing or has another shape than the structures.
        """
        forces, rho_stress = self.hparams["forces"], self.hparams["rho_stress"]
        keys = {name: self.hparams[f"{name}_key"] for name in ("energy", "forces", "stress")}
        energy = self.targets[0] if self.targets else Target("energy", keys["energy"], None, "eV")
        _check_labels(batch, [energy.key, *([keys["forces"]] if forces else [])])
        target = _stress_target(batch, rho_stress, keys["stress"]) if forces and rho_stress > 0 else None
        cell = batch.get("cell")
        if target is not None and cell is None:
            cell = torch.zeros_like(target)
        weights = weights_of(batch)
        return Labels(energy.values(batch), batch.get(keys["forces"]), target, cell, batch.get("batch"), weights)

    def predictions(self, batch: Data, with_forces: bool | None = None) -> dict[str, Tensor]:
        """What the model says of a mini-batch.

        Args:
            batch: Structures.
            with_forces: True to compute forces, too, False for energies alone; ``None`` to compute what is learnt.

        Returns:
            ``energy`` in eV [B] float64; with forces ``forces`` in eV/Angstrom [N, 3] and, if stresses are learnt,
            ``virials`` in eV [N, 3, 3].
        """
        batch = in_dtype_of(self.model, batch)
        if self.hparams["forces"] if with_forces is None else with_forces:
            return self.potential(batch)
        return {"energy": properties(self.model, batch).squeeze(1)}

    def loss_of(self, predictions: dict[str, Tensor], labels: "Labels") -> Tensor:
        """Loss of predictions, equation (5) of the paper if forces are learnt.

        Args:
            predictions: What :meth:`predictions` returned. If stresses are learnt, ``stress`` is put in the place of
                ``virials``.
            labels: What :meth:`labels` returned.

        Returns:
            The loss, a scalar in the dtype of the model.
        """
        out, kind, delta = predictions, self.hparams["loss"], self.hparams["huber_delta"]
        if not self.hparams["forces"]:
            loss = scalar_loss(kind, out["energy"], labels.energy, 1.0, delta, labels.weights.energy)
            return loss.to(self.model.embedding.weight.dtype)
        if labels.stress is not None:
            out["stress"] = stress_from_virials(out.pop("virials"), labels.cell, labels.batch)
        return energy_forces_loss(
            out["energy"],
            out["forces"],
            labels.energy,
            labels.forces,
            labels.batch,
            self.hparams["rho"],
            stress=out.get("stress"),
            stress_target=labels.stress,
            rho_stress=self.hparams["rho_stress"],
            loss=kind,
            huber_delta=delta,
            weights=labels.weights,
        )


class Labels(NamedTuple):
    """What is to be learnt from structures.

    Attributes:
        energy: Energies in eV [B], NaN where they are not known.
        forces: Forces in eV/Angstrom [N, 3], NaN where they are not known; ``None`` if they are not learnt.
        stress: Stresses in eV/Angstrom^3 [B, 3, 3], NaN where they are not known; ``None`` if they are not learnt.
        cell: Lattice vectors in Angstrom [B, 3, 3], needed beside stresses.
        batch: Structure of each atom [N].
        weights: How much structures and atoms count.
    """

    energy: Tensor
    forces: Any
    stress: Tensor | None
    cell: Any
    batch: Any
    weights: Weights = Weights()


def _check_labels(batch: Data, keys: list[str]) -> None:
    for name in keys:
        if batch.get(name) is None:
            raise ValueError(f"the data have no `{name}` to learn; they have {', '.join(sorted(batch.keys()))}")


def _stress_target(batch: Data, rho_stress: float, key: str) -> Tensor:
    """True stresses [B, 3, 3], those that are known having a cell with a volume."""
    target = batch.get(key)
    if target is None:
        raise ValueError(
            f"`rho_stress` is {rho_stress}, but the data have no `{key}` [1, 3, 3]; "
            "add it, NaN where it is not known, or leave out `rho_stress`"
        )
    if target.shape != (batch.num_graphs, 3, 3):
        raise ValueError(
            f"`{key}` must have shape [{batch.num_graphs}, 3, 3], [1, 3, 3] in each Data, got {list(target.shape)}"
        )
    known = known_stress(target)
    cell = batch.get("cell")
    if cell is not None or (can_inspect(known) and known.any()):
        check_volume(cell, known)
    return target
