"""Lightning's command line with the commands of this package."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pyg_schnet.command.data import structures
from pyg_schnet.command.messages import plain
from pyg_schnet.command.outcome import facts_of_training, load_trained, predict_file, predict_part, write_report
from pyg_schnet.files import replacing
from pyg_schnet.training import FitResult, RunTrainer, SplitDataModule, TrainingTask

#: File of settings in the folder of a run.
CONFIG = "config.yaml"
#: File that says that a run has ended, and how.
DONE = "done.json"


class SettingsParser(LightningArgumentParser):
    """Says what is wrong in one sentence, and names the nearest option when one does not exist."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with the message."""
        sys.exit(f"pyg-schnet: {plain(message, self)} (all options: pyg-schnet fit --help)")


class SchNetCLI(LightningCLI):
    """``pyg-schnet fit | validate | test | predict``."""

    def __init__(self, args: Any = None) -> None:
        super().__init__(
            TrainingTask,
            structures,
            save_config_callback=None,
            trainer_class=RunTrainer,
            trainer_defaults={"devices": 1, "max_epochs": -1, "num_sanity_val_steps": 0, "enable_model_summary": False},
            seed_everything_default=0,
            parser_class=SettingsParser,
            parser_kwargs={"prog": "pyg-schnet", "description": __doc__},
            subclass_mode_model=True,
            args=args,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and what they get from here."""
        return {name: {"model", "datamodule"} for name in ("fit", "validate", "test", "predict")}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Options of a command are the arguments of the method below, not of the trainer's."""
        return super()._prepare_subcommand_parser(type(self), subcommand, **kwargs)

    def _parse_ckpt_path(self) -> None:
        """Settings come from the file and the command line alone."""

    def fit(
        self, model: TrainingTask, datamodule: SplitDataModule, resume: bool = False, members: int = 1
    ) -> list[FitResult]:
        """Train.

        Args:
            model: Model and protocol.
            datamodule: The data.
            resume: Whether to go on with the interrupted run in the folder.
            members: Number of models of a committee, each with a seed of its own.
        """
        if members < 1:
            raise ValueError(f"`members` must be at least 1, got {members}")
        if members == 1:
            return [self._fit_one(model, datamodule, resume)]
        if self.trainer.world_size > 1:
            raise ValueError(
                f"members are trained by one process one after the other, got {self.trainer.world_size} processes; "
                "train each by itself with its own `seed_everything`, into member_0, member_1, ... of one folder"
            )
        results, folder, seed = [], self._directory, self.config.fit.seed_everything
        whole = self._settings()
        for member in range(members):
            own = folder / f"member_{member}"
            if resume and self._is_done(own):  # an interrupted committee goes on with the member that was at work
                continue
            self.config.fit.seed_everything = seed_everything(seed + member, workers=True, verbose=False)
            self.config.fit.data.seed = seed + member
            self.config.fit.trainer.directory = str(own)
            self.instantiate_classes()
            results.append(self._fit_one(self.model, self.datamodule, resume and own.exists()))
            _write(folder / CONFIG, whole)
        return results

    def _fit_one(self, model: TrainingTask, data: SplitDataModule, resume: bool) -> FitResult:
        trainer = cast(RunTrainer, self.trainer)
        trainer.check_folder(resume)
        model.prepare(data)  # everything that can be wrong is said before anything is written
        if trainer.is_global_zero:
            trainer.directory.mkdir(parents=True, exist_ok=True)
            (trainer.directory / DONE).unlink(missing_ok=True)
            _write(trainer.directory / CONFIG, self._settings())
        facts = {"dataset": repr(data.dataset), "split": data.split.made, "seed": self.config.fit.seed_everything}
        facts |= {"num_train": len(data.split["train"]), "num_val": len(data.split["val"])}
        result = trainer.run(model, data, resume, facts)
        if trainer.is_global_zero:
            figures = {name: str(value) if name == "model" else value for name, value in vars(result).items()}
            with replacing(trainer.directory / DONE) as part:
                part.write_text(json.dumps(figures | {"limits": self._limits()}, indent=2))
            print(
                f"{result.steps} steps, {result.steps_per_second:.1f} steps/s; best model of step {result.best_step}: "
                f"{result.model}"
            )
        return result

    def _is_done(self, folder: Path) -> bool:
        """Whether a member reached these limits, or stopped before them."""
        done = folder / DONE
        return done.exists() and json.loads(done.read_text())["limits"] == self._limits()

    def _limits(self) -> list[str]:
        trainer = self.config.fit.trainer
        return [str(trainer[name]) for name in ("max_steps", "max_epochs", "max_time")]

    def _settings(self) -> dict[str, Any]:
        """The settings of this run, such that every command takes them."""
        settings: dict[str, Any] = yaml.safe_load(self._parser("fit").dump(self.config.fit, skip_unset=False))
        return {name: value for name, value in settings.items() if name not in {"config", "resume", "members"}}

    @property
    def _directory(self) -> Path:
        return cast(RunTrainer, self.trainer).directory

    def validate(
        self, model: TrainingTask, datamodule: SplitDataModule, weights: str | None = None, unit: str | None = None
    ) -> Path:
        """Errors on the validation set.

        Args:
            model: Model and protocol.
            datamodule: The data.
            weights: Model file, or folder of a committee; that of the run by default.
            unit: Unit of energies in the report; forces are in this unit per Angstrom.
        """
        return self.test(model, datamodule, "val", weights, unit)

    def test(
        self,
        model: TrainingTask,
        datamodule: SplitDataModule,
        part: str = "test",
        weights: str | None = None,
        unit: str | None = None,
    ) -> Path:
        """Errors on unseen examples, with tables and figures.

        Args:
            model: Model and protocol.
            datamodule: The data.
            part: Which examples: ``"test"``, another part of the split, or the name of a further test.
            weights: Model file, or folder of a committee; that of the run by default.
            unit: Unit of energies in the report; forces are in this unit per Angstrom.
        """
        directory = self._directory
        trained, steps = load_trained(directory, weights), facts_of_training(directory, weights)
        folder = write_report(model, datamodule, part, trained, directory / part, unit, steps)
        print((folder / "report.md").read_text())
        print(folder)
        return folder

    def predict(
        self,
        model: TrainingTask,
        datamodule: SplitDataModule,
        part: str = "test",
        input: str | None = None,
        output: str | None = None,
        weights: str | None = None,
    ) -> Path:
        """Predictions for a part of the data, or for the structures of a file.

        Args:
            model: Model and protocol.
            datamodule: The data.
            part: Which examples of the data.
            input: File with structures that ASE reads, instead of a part of the data.
            output: File to write: npz for a part; anything that ASE writes, by default extended xyz, for a file.
            weights: Model file, or folder of a committee, which gives the spread as well; that of the run by default.
        """
        directory = self._directory
        trained = load_trained(directory, weights)
        if input is not None:
            path = predict_file(model, trained, Path(input), Path(output or directory / "predictions.xyz"))
        else:
            path = predict_part(model, datamodule.part(part), trained, Path(output or directory / f"{part}.npz"))
        print(path)
        return path


def _write(path: Path, settings: dict[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(yaml.safe_dump(settings, sort_keys=False))
