"""Lightning's command line with the commands of this package."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pyg_schnet.command.data import structures, with_absolute_paths
from pyg_schnet.command.messages import plain
from pyg_schnet.command.predict import predict_file, predict_part
from pyg_schnet.command.results import facts_of_training, holds_trained, load_trained, write_report
from pyg_schnet.command.shards import alone, shard_of
from pyg_schnet.command.without_settings import CONFIG
from pyg_schnet.command.words import COMMANDS
from pyg_schnet.files import replacing
from pyg_schnet.models import load, save
from pyg_schnet.training import FitResult, RunTrainer, SplitDataModule, TrainingTask

#: File that says that a run has ended, and how.
DONE = "done.json"
#: Model that a run began with, if it was a trained one.
START = "start.safetensors"
#: Settings of ``fit`` that are not settings of the run.
_OF_ONE_CALL = {"config", "resume", "members", "weights"}


class SettingsParser(LightningArgumentParser):
    """Says what is wrong in one sentence, and names the nearest option when one does not exist."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with the message."""
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "fit")
        sys.exit(f"pyg-schnet: {plain(message, self)} (all options: pyg-schnet {command} --help)")


class SchNetCLI(LightningCLI):
    """``pyg-schnet fit | validate | test | predict``."""

    def __init__(self, args: Any = None, read: Callable[[str], Any] = load) -> None:
        self._words = sys.argv[1:] if args is None else args
        self._read = read
        super().__init__(
            TrainingTask,
            structures,
            save_config_callback=None,
            trainer_class=RunTrainer,
            trainer_defaults={"devices": 1, "max_epochs": -1, "num_sanity_val_steps": 0, "enable_model_summary": False},
            seed_everything_default=0,
            parser_class=SettingsParser,
            parser_kwargs={"prog": "pyg-schnet"},
            subclass_mode_model=True,
            args=args,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and what they get from here."""
        return {name: {"model", "datamodule"} for name in COMMANDS}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Options of a command are the arguments of the method below, not of the trainer's."""
        return super()._prepare_subcommand_parser(type(self), subcommand, **kwargs)

    def _parse_ckpt_path(self) -> None:
        """Settings come from the file and the command line alone."""

    def instantiate_classes(self) -> None:
        """Make what the settings describe; but no data where a file is predicted, which may no longer be there."""
        own = self.config.get(str(self.subcommand), {})
        if self.subcommand == "predict" and own.get("input") is not None:
            own["data"]["dataset"] = None
        with alone() if self.subcommand == "predict" else nullcontext():
            super().instantiate_classes()

    def fit(
        self,
        model: TrainingTask,
        datamodule: SplitDataModule,
        resume: bool = False,
        members: int = 1,
        weights: str | None = None,
    ) -> list[FitResult]:
        """Train.

        Args:
            model: Model and protocol.
            datamodule: The data.
            resume: True to go on with the interrupted run in the folder.
            members: Number of models of a committee, each with a seed of its own.
            weights: Trained model to go on from with these data: its file, the folder of its run, a checkpoint or its
                name (pyg-schnet models); of a committee, each member goes on from its own.
        """
        self._weights = weights
        if members < 1:
            raise ValueError(f"`members` must be at least 1, got {members}")
        if members == 1:
            return [self._fit_one(model, datamodule, resume)]
        if self.trainer.world_size > 1:
            raise ValueError(
                f"members are trained by one process one after the other, got {self.trainer.world_size} processes; "
                "train each by itself with its own `seed_everything`, into member_0, member_1, ... of one folder"
            )
        if weights is not None:
            _member(weights, Path(f"member_{members - 1}"))  # said before the first ones are trained
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

    #: What ``weights`` of ``fit`` was.
    _weights: str | None = None

    def _fit_one(self, model: TrainingTask, data: SplitDataModule, resume: bool) -> FitResult:
        trainer = cast(RunTrainer, self.trainer)
        trainer.check_folder(resume)
        start = self._start(trainer.directory, resume)
        if start is not None:
            model.begin_from(start)
        model.prepare(data)  # everything that can be wrong is said before anything is written
        facts = {"dataset": repr(data.dataset), "split": data.split.made, "seed": self.config.fit.seed_everything}
        facts |= {"num_train": len(data.split["train"]), "num_val": len(data.split["val"])}
        if self._weights is not None:
            facts["weights"] = self._weights
        with trainer.claim(resume):
            if trainer.is_global_zero:
                (trainer.directory / DONE).unlink(missing_ok=True)
                _write(trainer.directory / CONFIG, self._settings())
                self._write_start(start, trainer.directory, resume)
            result = trainer.run(model, data, resume, facts)
            if trainer.is_global_zero:
                self._write_done(result)
        return result

    def _write_done(self, result: FitResult) -> None:
        figures = {name: str(value) if name == "model" else value for name, value in vars(result).items()}
        with replacing(self._directory / DONE) as part:
            part.write_text(json.dumps(figures | {"limits": self._limits()}, indent=2))
        print(
            f"{result.steps} steps, {result.steps_per_second:.1f} steps/s; best model of step {result.best_step}: "
            f"{result.model}"
        )

    def _start(self, folder: Path, resume: bool) -> Any:
        """The trained model that a run goes on from, if there is one."""
        kept, weights = folder / START, self._weights
        if resume and kept.exists():
            start: Any = load(kept)
            if weights is not None and not _equal(_member(weights, folder), start):
                raise ValueError(f"the run in {folder} began with other weights than {weights}; leave out `weights`")
            return start
        if weights is None:
            return None
        if resume and (folder / "last.ckpt").exists():
            raise ValueError(f"the run in {folder} did not begin with trained weights; leave out `weights`")
        return _member(weights, folder)

    def _write_start(self, start: Any, folder: Path, resume: bool) -> None:
        """Keep the trained model in the folder, so that the run can be resumed without it."""
        if start is None:
            (folder / START).unlink(missing_ok=True)  # of an earlier run
        elif not (resume and (folder / START).exists()):
            info: dict[str, Any] = {} if self._weights is None else {"weights": self._weights}
            save(start, folder / START, **info)

    def _is_done(self, folder: Path) -> bool:
        """True if a member reached these limits, or stopped before them."""
        done = folder / DONE
        return done.exists() and json.loads(done.read_text())["limits"] == self._limits()

    def _limits(self) -> list[str]:
        trainer = self.config.fit.trainer
        return [str(trainer[name]) for name in ("max_steps", "max_epochs", "max_time")]

    def _settings(self) -> dict[str, Any]:
        """The settings of this run, such that every command takes them."""
        settings: dict[str, Any] = yaml.safe_load(self._parser("fit").dump(self.config.fit, skip_unset=False))
        settings["data"] = with_absolute_paths(settings["data"])
        return {name: value for name, value in settings.items() if name not in _OF_ONE_CALL}

    @property
    def _directory(self) -> Path:
        return cast(RunTrainer, self.trainer).directory

    @property
    def _home(self) -> Path:
        """Folder of a run to look into: that of its settings, wherever it is called from or was moved to."""
        named = any("trainer.directory" in str(word) for word in self._words)
        for config in reversed(self.config[self.subcommand].get("config") or []):
            home = Path(str(getattr(config, "absolute", config))).parent
            if not named and Path(str(config)).name == CONFIG and holds_trained(home):
                return home
        return self._directory

    def validate(
        self, model: TrainingTask, datamodule: SplitDataModule, weights: str | None = None, unit: str | None = None
    ) -> Path:
        """Errors on the validation set.

        Args:
            model: Model and protocol.
            datamodule: The data.
            weights: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or
                hf://owner/name; that of the run by default.
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
            weights: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or
                hf://owner/name; that of the run by default.
            unit: Unit of energies in the report; forces are in this unit per Angstrom.
        """
        directory = self._home
        trained, steps = load_trained(directory, weights), facts_of_training(directory, weights)
        folder = write_report(model, datamodule, part, trained, directory / part, unit, steps)
        print((folder / "report.md").read_text())
        print(folder)
        return folder

    def predict(
        self,
        model: TrainingTask,
        datamodule: SplitDataModule | None = None,
        part: str = "test",
        input: str | None = None,
        output: str | None = None,
        weights: str | None = None,
        overwrite: bool = False,
        strict: bool = False,
        shard: str | None = None,
    ) -> Path:
        """Predictions for a part of the data, or for the structures of a file, labelled or not.

        Args:
            model: Model and protocol.
            datamodule: The data.
            part: Which examples of the data.
            input: File with structures that ASE reads, a folder or a pattern, instead of a part of the data.
            output: File to write: structures with their labels and predictions beside them (xyz, extxyz, traj, db), or
                a table (csv, json, npz); by default predictions.xyz for a file and npz for a part, in the run's folder.
            weights: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or
                hf://owner/name; that of the run by default.
            overwrite: True to replace a file that is there.
            strict: True to refuse elements and charges that the model was never trained on, and structures that seem
                not to be in Angstrom, instead of a warning.
            shard: Share of the structures, 3/16 for the third of sixteen, into a file of its own; by default what
                torchrun and Slurm say of this process. Files that are there stay; what was interrupted goes on.
        """
        directory = self._home
        trained = load_trained(directory, weights, self._read)
        share = shard_of(shard)
        if share.told_by:
            print(f"shard {share.number}/{share.of} by {share.told_by} (all structures: --shard 1/1)", flush=True)
        if input is not None:
            output = output or str(directory / "predictions.xyz")
            path = predict_file(model, trained, Path(input), Path(output), overwrite, strict, share)
        elif datamodule is None:
            raise ValueError("there is neither a file to predict (--input) nor data (--data)")
        else:
            output = output or str(directory / f"{part}.npz")
            path = predict_part(model, datamodule.part(part), trained, Path(output), overwrite, strict, share)
        print(path)
        return path


def _write(path: Path, settings: dict[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(yaml.safe_dump(settings, sort_keys=False))


def _member(weights: str, folder: Path) -> Any:
    """The trained model, or that member of a committee which is trained into a folder."""
    found = load(weights)
    members = getattr(found, "members", None)
    if members is None:
        return found
    number = folder.name.removeprefix("member_")
    if not number.isdigit() or int(number) >= len(members):
        raise ValueError(
            f"{weights} holds a committee of {len(members)} members; name one of them, or train as many (members)"
        )
    return members[int(number)]


def _equal(first: Any, second: Any) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
