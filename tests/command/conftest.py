"""A small run from the command line, and how to start one."""

import sys
from pathlib import Path

import pytest
import yaml

from pyg_schnet.command import main

SETTINGS = {
    "seed_everything": 1,
    "model": {
        "class_path": "pyg_schnet.training.PotentialTask",
        "init_args": {
            "model": {
                "class_path": "pyg_schnet.SchNet",
                "init_args": {
                    "hidden_channels": 8,
                    "num_filters": 8,
                    "num_interactions": 1,
                    "num_gaussians": 20,
                    "cutoff": 6.0,
                    "activate_last": True,
                },
            },
            "learning_rate": 5.0e-3,
        },
    },
    "data": {
        "dataset": {"class_path": "pyg_schnet.datasets.MD17", "init_args": {"root": "", "name": "ethanol_xtb"}},
        "num_train": 64,
        "num_val": 32,
        "num_test": 48,
        "batch_size": 16,
    },
    "trainer": {"directory": "", "max_steps": 8, "validate_every": 4, "accelerator": "cpu"},
}


def write_settings(folder: Path, root: Path, **trainer: object) -> Path:
    """A file of settings for a run in ``folder / "run"``."""
    settings = yaml.safe_load(yaml.safe_dump(SETTINGS))
    settings["data"]["dataset"]["init_args"]["root"] = str(root)
    settings["trainer"] |= {"directory": str(folder / "run")} | trainer
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Where data are stored, once for all tests."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def call(monkeypatch):
    """The command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["pyg-schnet"])
    return lambda *words: main([str(word) for word in words])
