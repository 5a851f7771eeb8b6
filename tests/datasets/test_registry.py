"""The table of datasets: what is where."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from pyg_schnet.datasets import MD17, registry
from pyg_schnet.datasets.__main__ import main
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.registry import FAMILIES, REGISTRY, open_dataset, overview


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch):
    monkeypatch.delenv("PYG_SCHNET_DATA", raising=False)


def test_entries_are_complete():
    for known in REGISTRY.values():
        family = FAMILIES[known.family]
        assert known.files
        assert all((family.units, family.licence, family.citation, known.dataset, known.folder))
    # facts of the publications
    assert REGISTRY["qm9"].structures == 130_831
    assert REGISTRY["ethanol"].structures == 555_092
    assert REGISTRY["revised_azobenzene"].structures == 99_988
    assert sum(one.family == "MD22" for one in REGISTRY.values()) == 7


def test_states(tmp_path, monkeypatch):
    ethanol, qm9, bundled = (REGISTRY[name] for name in ("ethanol", "qm9", "ethanol_xtb"))
    assert bundled.where(tmp_path) == ["bundled"]
    MD17(tmp_path, "ethanol_xtb", log=False)
    assert bundled.where(tmp_path) == ["bundled", "processed"]

    mirror = tmp_path / "mirror"
    (mirror / "md17").mkdir(parents=True)
    (mirror / "md17" / "md17_ethanol.npz").touch()
    for name in qm9.files:  # all of them, or it is not there
        assert qm9.where(tmp_path, mirror) == []
        (mirror / name).touch()
    assert qm9.where(tmp_path, mirror) == ["mirror"]
    assert ethanol.where(tmp_path) == []
    monkeypatch.setenv("PYG_SCHNET_DATA", str(mirror))
    assert ethanol.where(tmp_path) == ["mirror"]
    (tmp_path / "ethanol" / "raw").mkdir(parents=True)
    shutil.copy(mirror / "md17" / "md17_ethanol.npz", tmp_path / "ethanol" / "raw")
    assert ethanol.where(tmp_path) == ["mirror", "downloaded"]
    (mirror / "md17" / "ethanol_ccsd_t-train.npz").touch()
    assert REGISTRY["ethanol_ccsd_t"].where(tmp_path) == ["mirror"]


def test_molecules_of_one_archive(tmp_path):
    """They share a folder; what is processed of one does not count for another."""
    folder = tmp_path / "rmd17" / "processed"
    folder.mkdir(parents=True)
    (folder / "name=revised_benzene.pt").touch()
    assert REGISTRY["revised_benzene"].where(tmp_path) == ["processed"]
    assert REGISTRY["revised_aspirin"].where(tmp_path) == []


@pytest.mark.parametrize("name", [name for name, one in REGISTRY.items() if one.family == "bundled"])
def test_bundled_ones_open(name, tmp_path):
    if REGISTRY[name].where(tmp_path) == []:
        pytest.skip(f"{name} is not in this checkout")
    dataset = open_dataset(name, tmp_path, log=False)
    assert len(dataset) > 100
    assert REGISTRY[name].structures in {None, len(dataset)}
    assert REGISTRY[name].where(tmp_path) == ["bundled", "processed"]
    assert bundled_path(name).is_dir()


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="unknown dataset 'qm10'; expected one of aspirin"):
        open_dataset("qm10", tmp_path)


def test_table(tmp_path, capsys):
    main(["--root", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.strip() == overview(tmp_path).strip()
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert rows["qm9"][1:] == ["QM9", "130,831", "87", "MB", "-"]
    assert rows["ethanol_xtb"][1:] == ["MD17", "2,000", "-", "bundled"]
    for family in FAMILIES.values():
        assert family.citation in printed
    main(["--root", str(tmp_path), "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == REGISTRY.keys()
    assert rows["qm9"]["licence"] == "CC0"


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["datasets", "--root", str(tmp_path)])
    runpy.run_path(str(Path(registry.__file__).with_name("__main__.py")), run_name="__main__")
    assert "ethanol_xtb" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())  # it only looks
