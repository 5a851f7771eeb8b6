"""What the command line says of itself: commands, options, versions, settings by name, completion."""

import inspect
import re
import subprocess

import pytest

import pyg_schnet
from pyg_schnet import SchNet
from pyg_schnet.command import templates
from pyg_schnet.command.words import COMMANDS, EXAMPLES, TOOLS
from pyg_schnet.datasets import Trajectory
from pyg_schnet.training import PotentialTask, RunTrainer


def test_all_commands_with_an_example_each(call, capsys):
    for words in ([], ["--help"], ["-h"]):
        call(*words)
        text = capsys.readouterr().out
        assert {*COMMANDS, *TOOLS} == {*EXAMPLES}
        for name in EXAMPLES:
            assert re.search(rf"^  {name} .*\n +\$ pyg-schnet {name} \S", text, re.MULTILINE)
        assert all(name in text for name in templates.names())
        assert max(map(len, text.splitlines())) <= 120


def test_version(call, capsys):
    call("--version")
    assert capsys.readouterr().out == f"pyg_schnet {pyg_schnet.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_read_in_a_minute(call, capsys, command):
    call(command, "--help")
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 120
    assert f"pyg-schnet {command} --help-all" in text


def test_options_are_those_of_the_classes(call, capsys):
    """Nothing of this project's own is left out, defaults are those of the code, and there are no marks of markup."""
    call("fit", "--help")
    text = capsys.readouterr().out
    assert not re.search(r":\w+:`|``", text)
    for prefix, of, few in (
        ("trainer.", RunTrainer, {"callbacks", "logger", "kwargs"}),
        ("model.", PotentialTask, {"model"}),
        ("data.dataset.", Trajectory, {"transform", "pre_transform", "pre_filter", "log", "force_reload"}),
        ("model.model.", SchNet, {"mean", "std", "atomref", "readout_options", "spellings"}),
    ):
        parameters = inspect.signature(of).parameters
        shown = set(re.findall(rf"^  --{re.escape(prefix)}([a-z_]+) ", text, re.MULTILINE))
        assert parameters.keys() - few <= shown
    assert "--model.rho 0.01 " in text
    assert "--model.model.cutoff_function cosine" in text


def test_all_options_of_lightning_too(call, capsys):
    with pytest.raises(SystemExit) as ended:
        call("fit", "--help-all")
    assert ended.value.code in {0, None}
    text = capsys.readouterr().out
    assert "--trainer.accumulate_grad_batches" in text
    assert "--trainer.validate_every" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fti", "^pyg-schnet: there is no command 'fti'; did you mean 'fit'\\?$"),
        ("frobnicate", "^pyg-schnet: there is no command 'frobnicate'; expected one of init, fit"),
        (
            "fit --config md71",
            "no file md71 of settings, and none of this name comes with the package; did you mean 'md17'",
        ),
        ("fit --config zzz", "those that come with the package are c20, "),
        ("fit --config own_molecules", "^pyg-schnet: .*expected one file or more with structures, found no name"),
        ("md model start.xyz --stepz 5", "^pyg-schnet: there is no option 'stepz'; did you mean 'steps'\\?[^\n]*$"),
        ("md model start.xyz --steps many", "^pyg-schnet: [^\n]*many[^\n]*$"),
        ("init", "^pyg-schnet: name files with structures"),
    ],
)
def test_errors_are_one_line(call, words, message):
    with pytest.raises(SystemExit, match=message) as ended:
        call(*words.split())
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("given", ["--config md17", "--config=md17", "-c md17.yaml"])
def test_settings_by_name(call, capsys, given):
    with pytest.raises(SystemExit):
        call("fit", *given.split(), "--model.model.num-gaussians", "7", "--print_config")
    text = capsys.readouterr().out
    assert "name: ethanol" in text
    assert "num_gaussians: 7" in text  # hyphens do as well


def test_a_file_of_that_name_goes_before(call, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "md17").write_text((templates.folder() / "md17.yaml").read_text().replace("ethanol", "benzene"))
    with pytest.raises(SystemExit):
        call("fit", "--config", "md17", "--print_config")
    assert "name: benzene" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(call, capsys, shell, tmp_path):
    """The shell itself takes the script, and completes a command."""
    pytest.importorskip("shtab")
    call("--print-completion", shell)
    script = capsys.readouterr().out
    for word in ("predict", "doctor", "--trainer.max_steps", "--temperature"):
        assert word in script
    if shell == "bash":
        (tmp_path / "script").write_text(script)
        lines = f"source {tmp_path}/script; COMP_WORDS=(pyg-schnet re); COMP_CWORD=1; _shtab_pyg_schnet; "
        lines += "echo ${COMPREPLY[@]}"
        said = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["relax"]


def test_completion_names_what_it_needs(call, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit, match=r'needs shtab; install it with pip install "pyg_schnet\[train\]"'):
        call("--print-completion", "bash")
