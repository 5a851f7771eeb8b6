"""README and the pages of the site: code runs, commands have the options they are shown with, links lead somewhere."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "examples" / "site"
#: Pages with text of their own: `results.md` shows RESULTS.md, `cards.md` the cards, which are in datasets.
PAGES = [ROOT / "README.md", *sorted(SITE.rglob("*.md")), *sorted((ROOT / "datasets").glob("*/README.md"))]
#: Cards of models, which are in their folders.
CARDS = sorted((ROOT / "pyg_schnet" / "models" / "bundled").glob("*/README.md"))
PAGES += CARDS
#: Text that is cut short where code runs.
SHORTER = {"max_minutes=2": "max_steps=2, validate_every=2"}


class Block(NamedTuple):
    """A block of code: language, what follows it, and the lines."""

    language: str
    note: str
    code: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w+)[ \t]*([^\n]*)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [Block(*one) for one in found]


def python_of(page: Path) -> list[str]:
    return [block.code for block in blocks(page) if block.language == "python" and not block.note]


def commands(page: Path) -> list[str]:
    """Lines of a shell, continued ones as one."""
    code = "\n".join(block.code for block in blocks(page) if block.language == "bash")
    return [line.strip() for line in code.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled frames of ethanol, as they come from elsewhere."""
    pytest.importorskip("ase")
    from ase.io import write

    from pyg_schnet.datasets import MD17
    from pyg_schnet.simulation import data_to_atoms

    folder = tmp_path_factory.mktemp("frames")
    dataset = MD17(folder / "data", "ethanol_xtb")
    write(folder / "frames.xyz", [data_to_atoms(data) for data in dataset[:200]], format="extxyz")
    return folder / "frames.xyz"


@pytest.fixture
def beside_frames(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with frames.xyz, in which code runs."""
    (tmp_path / "frames.xyz").write_bytes(frames.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result_of(page: str, names: dict[str, Any]) -> None:
    """What the code of a page must have brought about."""
    match page:
        case "README.md":
            assert names["x"].shape == (3, 64)
            assert names["wavenumbers"].shape == (30,)
            assert all(names["wavenumbers"] > 0)
            assert abs(names["atoms"].get_forces()).max() < 1e-3  # it is at the minimum
            assert Path("amide.extxyz").stat().st_size > 1000
        case "examples/site/concepts/graph.md":
            from ase import Atoms
            from ase.neighborlist import neighbor_list

            silicon = Atoms("Si2", [[0, 0, 0], [1.35] * 3], cell=names["cell"][0].numpy(), pbc=True)
            expected = neighbor_list("d", silicon, 5.0)
            distances = names["edge_vec"].norm(dim=-1)
            assert sorted(distances.tolist()) == pytest.approx(sorted(expected), abs=1e-5)
            assert names["data"].edge_index.shape == (2, len(expected))
        case "examples/site/concepts/potential.md":
            out = names["out"]
            assert (out["virials"].sum(0) + 216 * out["stress"][0]).abs().max() < 1e-4  # a box of 6 Angstrom
            assert names["hessian"].shape == (3, 3, 3, 3)
        case "examples/site/concepts/convolution.md":
            assert names["x"].shape == (3, 64)
        case "examples/site/concepts/model.md":
            assert names["parts"].sum().item() == pytest.approx(names["y"].item(), abs=1e-5)
        case "examples/site/tasks/own_molecules.md":
            assert names["atoms"].get_forces().shape == (9, 3)
            assert Path("run/model.safetensors").stat().st_size > 0
        case "examples/site/tasks/seeing.md":
            assert names["modes"].wavenumbers.shape == (27,)
            assert Path("benzene.png").stat().st_size > 10_000
        case "examples/site/tasks/screening.md":
            assert names["energies"].shape == (200,)
        case "examples/site/tasks/trained_models.md":
            assert Path("water/README.md").read_text().startswith("---\nlibrary_name: pyg_schnet\nlicense: mit\n")
            assert names["calculator"].implemented_properties
        case "examples/site/tasks/committees.md":
            assert names["atoms"].calc.results["forces_std"].shape == (9, 3)
        case "examples/site/tasks/from_pyg.md":
            assert type(names["theirs"]).__module__.startswith("torch_geometric")
        case "examples/site/units.md":
            from ase.units import Bohr, Hartree

            assert names["conversion"]("Ha/Bohr", "eV/Ang") == pytest.approx(Hartree / Bohr)


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=name_of)
def test_python_runs(page, beside_frames):
    """The Python blocks of a page, one after the other, training cut short."""
    for optional in ("ase", "lightning", "matplotlib", "rdkit", "skimage"):
        pytest.importorskip(optional)
    code = "\n".join(python_of(page))
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    names: dict[str, Any] = {}
    exec(compile(code, name_of(page), "exec"), names)
    result_of(name_of(page), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_does_not_run_says_why(page):
    for block in blocks(page):
        if block.language == "python" and block.note:
            assert re.fullmatch(r"no-run: \w[^`]{10,}", block.note)
            compile(block.code, name_of(page), "exec")


def test_readme_is_short():
    """README has at most 120 lines, and beginnings of at most twelve."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
    for block in blocks(ROOT / "README.md"):
        assert len(block.code.splitlines()) <= 12


def test_readme_commands_lead_from_frames_to_dynamics(beside_frames, capsys):
    """The commands as they stand, three steps of training and twenty of dynamics instead of thousands."""
    from ase.build import bulk
    from ase.io import write

    from pyg_schnet.command import main

    write("salt.cif", bulk("NaCl", "rocksalt", a=5.64))

    quick = ["--trainer.max_steps", "3", "--model.warmup_steps", "0", "--trainer.validate_every", "1"]
    quick += ["--trainer.accelerator", "cpu"]
    done = []
    for line in commands(ROOT / "README.md"):
        program, *words = shlex.split(line, comments=True)
        if program != "pyg-schnet":
            continue
        words = ["20" if word == "2000" else word for word in words]
        main(words + quick if words[0] == "fit" else words)
        done.append(words[0])
    assert done == ["init", "fit", "test", "md", "models", "predict"]
    assert "NaCl" in Path("energies.csv").read_text()
    assert (beside_frames / "results" / "frames" / "test" / "report.md").is_file()
    assert (beside_frames / "md.extxyz").stat().st_size > 0


def words_of_commands() -> list[list[str]]:
    """What is given to `pyg-schnet` anywhere, each once."""
    found = {}
    for page in PAGES:
        for line in commands(page):
            words = shlex.split(line, comments=True)
            start = next((k + 1 for k, word in enumerate(words) if word in ("pyg-schnet", "pyg_schnet")), None)
            if start is not None and "..." not in words and words[start:]:
                found[tuple(words[start:])] = None
    for card in CARDS:  # how each model is made again
        for command in re.findall(r"^\| made by \| `pyg-schnet (.*)` \|$", card.read_text(), flags=re.MULTILINE):
            found[tuple(shlex.split(command))] = None
    return [list(words) for words in found]


def is_known(words: list[str]) -> bool:
    """True if the parser of the command takes these words; files of settings are those of the package."""
    import contextlib
    import importlib
    import io

    from pyg_schnet.command import main
    from pyg_schnet.command.templates import names
    from pyg_schnet.command.tools import tool_parser, with_values
    from pyg_schnet.command.words import COMMANDS, TOOLS, module_of

    if words[0] in TOOLS:
        name = module_of(words[0])
        function = getattr(importlib.import_module(f"pyg_schnet.command.{name}"), name)
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                tool_parser(words[0], function)[0].parse_args(with_values(words[1:], function))
            except SystemExit:
                return False
        return True
    if words[0] not in COMMANDS:
        return words in (["--help"], ["--version"])
    if words[0] == "predict" and not words[1].startswith("-"):
        words = ["predict", "qm9-dtnn", *words[2:]]  # any model stands for that of the page
    pairs = pairwise(words)
    given = ["own_molecules" if one == "--config" and word not in names() else word for one, word in pairs]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([words[0], *given, "--print_config"])
    return "model:" in printed.getvalue()


@pytest.mark.parametrize("words", words_of_commands(), ids=" ".join)
def test_options_exist(words, tmp_path, monkeypatch):
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    assert is_known(words)


def test_unknown_options_are_noticed(tmp_path, monkeypatch):
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    for words in ("md RUN a.xyz --temprature 300", "fit --config md17 --data.num_trian 5", "train a.xyz"):
        assert not is_known(words.split())


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_scripts_and_targets_exist(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert set(words[1:]) <= {*targets}
        for script in (word for word in words if word.endswith(".py") and "/" in word):
            text = (ROOT / script).read_text()
            for option in (word for word in words if word.startswith("--")):
                assert f'"{option}"' in text or option == "--help", f"{script} has no {option}"


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    text = re.sub(r"^```\w.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]+`", "", text)  # nothing in code is a link, as some SMILES seem to be
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http://", "https://"))]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "examples" / "RESULTS.md", ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        aim = page.parent / path if path else page
        assert aim.exists(), f"{link} does not exist"
        assert not anchor or anchor in anchors(aim), f"{link} has no such heading"
    for name in re.findall(r"\{doc\}`([^`]+)`", page.read_text()):
        assert name.startswith("../gallery/")
        assert (ROOT / "examples" / f"{Path(name).name}.py").exists(), f"{name} is no example"


def test_every_page_is_in_a_list():
    """Each page is in the table of contents of the front page or of the API."""
    listed = set()
    for index in (SITE / "index.md", SITE / "api" / "index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(), flags=re.DOTALL):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(index.parent / f"{entry}.md").relative_to(SITE) for entry in entries}
    pages = {page.relative_to(SITE) for page in SITE.rglob("*.md")} - {Path("index.md")}
    made = {Path("gallery/index.md"), Path("notebooks/index.md")}  # while the site is built
    assert listed - pages == made
    assert pages <= listed


def test_every_room_has_a_page():
    rooms = {path.parent.name for path in (ROOT / "pyg_schnet").glob("*/__init__.py")}
    assert {page.stem for page in (SITE / "api").glob("*.md")} >= rooms - {"files", "command"}
