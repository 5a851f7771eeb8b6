"""Models as packages for programs without Python: the same energies, forces and virials, for any sizes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor

import pyg_schnet
from pyg_schnet import Potential, SchNet, save
from pyg_schnet.command import main
from pyg_schnet.models import DTNN, Committee, CommitteePotential, EnnS2S
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.simulation.exporting import export, metadata
from pyg_schnet.simulation.program import program
from pyg_schnet.units import ENERGY

CUTOFF, SKIN = 4.5, 0.8
SIZES: dict[str, Any] = {"hidden_channels": 8, "num_filters": 6, "num_interactions": 2, "num_gaussians": 9}
SIZES |= {"cutoff": CUTOFF}
EXACT = 1e-10  # relative, of the largest value: the same operations in float64, in another order
SINGLE = 1e-6  # relative, of the largest value: what float32 rounds off

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="packages are made by a C++ compiler")


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms.rattle(0.08, seed=seed)
    return atoms


#: What a package must not tell apart from what it was made with: other numbers of atoms, edges and structures.
CASES: dict[str, list[Atoms]] = {
    "molecule": [rattled(molecule("CH3CH2OH"))],
    "crystal": [rattled(bulk("Si", cubic=True))],
    "one atom and its images": [bulk("Cu")],
    "one atom alone": [Atoms("C")],
    "pair beyond the cutoff": [Atoms("H2", positions=[[0, 0, 0], [CUTOFF + 0.3, 0, 0]])],
    "batch": [rattled(molecule("H2O")), rattled(bulk("Si"), 1), Atoms("H"), rattled(molecule("C6H6"), 2)],
}


def edges_of(atoms: Atoms, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """All edges by brute force: source and target [2, E], image of the source [E, 3]."""
    counts = [range(-4, 5) if periodic else range(1) for periodic in atoms.pbc]
    pairs, shifts = [], []
    for shift in ((u, v, w) for u in counts[0] for v in counts[1] for w in counts[2]):
        vectors = atoms.positions[:, None] - atoms.positions[None] + np.array(shift) @ atoms.cell.array
        distance = np.linalg.norm(vectors, axis=-1)  # [source, target]
        for source, target in np.argwhere((distance < reach) & (distance > 0)):
            pairs.append((source, target))
            shifts.append(shift)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T, np.array(shifts, dtype=np.int64).reshape(-1, 3)


def inputs_of(structures: Sequence[Atoms]) -> list[Tensor]:
    """What a host passes: edges of a list with a skin, in no order."""
    order, first = np.random.default_rng(0), 0
    parts: list[list[np.ndarray]] = [[], [], [], [], [], []]
    for number, atoms in enumerate(structures):
        index, shift = edges_of(atoms, CUTOFF + SKIN)
        place = order.permutation(index.shape[1])
        one = atoms.numbers, atoms.positions, np.full(len(atoms), number), index[:, place] + first, shift[place]
        for part, values in zip(parts, [*one, atoms.cell.array[None]], strict=True):
            part.append(values)
        first += len(atoms)
    joined = [np.concatenate(part, axis=int(number == 3)) for number, part in enumerate(parts)]
    return [torch.from_numpy(np.ascontiguousarray(part)) for part in joined]


def expected_of(potential: Any, structures: Sequence[Atoms], unit: float = 1.0) -> dict[str, Tensor]:
    """The same by a potential in float64, which searches by itself, one structure at a time."""
    found: dict[str, list[Tensor]] = {}
    for atoms in structures:
        cell, pbc = torch.from_numpy(atoms.cell.array)[None], torch.from_numpy(atoms.pbc)[None]
        lattice = {"cell": cell, "pbc": pbc} if atoms.pbc.any() else {}
        out = potential(torch.from_numpy(atoms.numbers), torch.from_numpy(atoms.positions), virials=True, **lattice)
        out["virial"] = out.pop("virials").sum(0, keepdim=True)
        for name, value in out.items():
            found.setdefault(name, []).append(unit * value.detach())
    return {name: torch.cat(values) for name, values in found.items()}


def assert_right(run: Callable[..., Sequence[Tensor]], potential: Any, bound: float, unit: float = 1.0) -> None:
    """All cases; errors are relative to the largest value of any: by symmetry, some forces are rounding alone."""
    expected = {case: expected_of(potential, structures, unit) for case, structures in CASES.items()}
    for case, structures in CASES.items():
        found = run(*inputs_of(structures))
        for name, value in zip(("energy", "forces", "virial", "energy_std", "forces_std"), found, strict=False):
            assert value.dtype == torch.float64
            assert value.shape == expected[case][name].shape
            scale = max(float(one[name].abs().max()) for one in expected.values())
            error = float((value - expected[case][name]).abs().max())
            assert error <= bound * scale, f"{name} of {case}: {error:.1e} of {scale:.3g}"


def test_edges_are_those_of_the_search() -> None:
    """What all other tests build upon."""
    atoms = CASES["crystal"][0]
    index, shift = edges_of(atoms, CUTOFF)
    cell, pbc = torch.from_numpy(atoms.cell.array)[None], torch.from_numpy(atoms.pbc)[None]
    graph = pyg_schnet.radius_graph(torch.from_numpy(atoms.positions), CUTOFF, cell=cell, pbc=pbc)
    ours = {(*pair, *image) for pair, image in zip(index.T.tolist(), shift.tolist(), strict=True)}
    assert ours == {(*p, *s) for p, s in zip(graph.edge_index.T.tolist(), graph.edge_shift.tolist(), strict=True)}


MODELS: dict[str, Callable[[], Any]] = {
    "jcp2018": lambda: SchNet.preset("jcp2018", **SIZES),
    "materials": lambda: SchNet.preset("jcp2018-materials", readout="add", **SIZES),
    "DTNN": lambda: DTNN(8, 6, 1, 9, CUTOFF),
    "repulsion": lambda: SchNet(**SIZES, repulsion="zbl"),
}


@pytest.mark.parametrize("name", MODELS)
def test_programs(name: str, scramble: Callable) -> None:
    model = scramble(MODELS[name]()).double()
    assert_right(program(model).module(), Potential(model), EXACT)


def test_a_committee_and_its_spreads(scramble: Callable) -> None:
    """Members of different architectures and cutoffs."""
    sizes = SIZES | {"num_interactions": 1}
    presets = {"schnetpack": CUTOFF, "nips2017": 3.5}
    models = [scramble(SchNet.preset(name, **sizes | {"cutoff": cutoff})).double() for name, cutoff in presets.items()]
    committee = Committee(models)
    run = program(committee).module()
    assert len(run(*inputs_of(CASES["molecule"]))) == 5
    assert_right(run, CommitteePotential(committee), EXACT)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SchNet]:
    """A package in float32 of a model in kcal/mol, made from its file by the command line."""
    if shutil.which("g++") is None:
        pytest.skip("packages are made by a C++ compiler")
    folder = tmp_path_factory.mktemp("package")
    torch.manual_seed(0)
    model = SchNet(8, 8, 1, 8, CUTOFF)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    model.units = {"energy": "kcal/mol"}
    model.training_set = TrainingSet({1: 60, 6: 20, 8: 9, 14: 7, 29: 5}, structures=9, compositions=3)
    save(model.freeze(), folder / "model.safetensors")
    main(["export", str(folder), str(folder / "model.pt2"), "--dtype", "float32"])
    assert not list(folder.glob(".part-*"))
    return folder / "model.pt2", model.unfreeze().double()


LOADER = """
import sys, torch
package = torch._inductor.aoti_load_package(sys.argv[1])
found = [package(*inputs) for inputs in torch.load(sys.argv[2])]
assert not any(name.startswith("pyg_schnet") for name in sys.modules)
torch.save((dict(package.get_metadata()), found), sys.argv[3])
"""


STRIDED = """
import sys, torch
z, pos, batch, edge_index, *rest = torch.load(sys.argv[2])[1]
strided = edge_index.t().contiguous().t()
torch._inductor.aoti_load_package(sys.argv[1])(z, pos, batch, strided, *rest)
"""


@needs_compiler
def test_inputs_that_are_not_contiguous_are_refused_where_libtorch_is_told_to_look(
    package: tuple[Path, SchNet], tmp_path: Path
) -> None:
    torch.save([inputs_of(structures) for structures in CASES.values()], tmp_path / "in.pt")
    words = [sys.executable, "-c", STRIDED, str(package[0]), str(tmp_path / "in.pt")]
    watched = os.environ | {"AOTI_RUNTIME_CHECK_INPUTS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=watched)
    assert "unmatched stride value" in done.stderr


@needs_compiler
def test_a_package_in_a_process_without_us(package: tuple[Path, SchNet], tmp_path: Path) -> None:
    path, model = package
    torch.save([inputs_of(structures) for structures in CASES.values()], tmp_path / "in.pt")
    words = [sys.executable, "-c", LOADER, str(path), str(tmp_path / "in.pt"), str(tmp_path / "out.pt")]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, env=plain)
    assert done.returncode == 0, done.stderr
    facts, found = torch.load(tmp_path / "out.pt")
    results = iter(found)
    assert_right(lambda *_: next(results), Potential(model), SINGLE, ENERGY["kcal/mol"])
    assert float(facts["cutoff"]) == CUTOFF
    assert facts["elements"] == "1 6 8 14 29"
    assert (facts["units"], facts["dtype"]) == ("eV Angstrom", "float32")
    assert all(meaning.startswith("contiguous ") for meaning in json.loads(facts["inputs"]).values())
    assert [*json.loads(facts["inputs"])] == ["z", "pos", "batch", "edge_index", "edge_shift", "cell"]
    assert [*json.loads(facts["outputs"])] == ["energy", "forces", "virial"]


@needs_compiler
def test_files_are_not_replaced_unasked(package: tuple[Path, SchNet]) -> None:
    path, model = package
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(model, path)
    assert path.read_bytes() == before


class Odd(Potential):
    """A potential with forces of its own."""


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: SchNet(8, 8, 1, readout="mean"), ValueError, "energy per atom"),
        (lambda: SchNet(8, 8, 1, readout="dipole_magnitude"), ValueError, "another property"),
        (lambda: SchNet(8, 8, 1, out_channels=2), ValueError, "2 targets"),
        (lambda: EnnS2S(hidden_channels=8), ValueError, "this EnnS2S cannot be exported, sizes .* depend on values"),
        (lambda: Odd(SchNet(8, 8, 1)), TypeError, "forces of its own"),
        (lambda: 7, TypeError, "must be a SchNet"),
    ],
)
def test_models_that_cannot_be_exported(make: Callable, kind: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message) as said:
        export(make(), tmp_path / "model.pt2")
    assert "\n" not in str(said.value)
    assert not list(tmp_path.iterdir())


class Counting(SchNet):
    """What nobody can trace: it computes with the number of atoms that it saw first."""

    def predict(self, z: Tensor, *others: Any) -> Tensor:
        return super().predict(z, *others) * float(int(z.size(0)))


def test_a_program_that_fits_one_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this Counting cannot be exported"):
        export(Counting(8, 8, 1), tmp_path / "model.pt2")


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SchNet(8, 8, 1)
    with pytest.raises(ValueError, match=r"must end in \.pt2"):
        export(model, tmp_path / "model.so")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        export(model, tmp_path / "none" / "model.pt2")
    with pytest.raises(ValueError, match="float16"):
        export(model, tmp_path / "model.pt2", dtype=torch.float16)
    with pytest.raises(ValueError, match="`energy_unit` must be one of"):
        export(model, tmp_path / "model.pt2", energy_unit="joule")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(FileNotFoundError, match="compiled by a C\\+\\+ compiler, and there is none; install g\\+\\+"):
        export(model, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_the_name_at_the_top() -> None:
    assert pyg_schnet.export is pyg_schnet.simulation.export is export
    assert metadata(SchNet(8, 8, 1, cutoff=5))["cutoff"] == "5.0"


def test_a_package_that_a_compiler_got_wrong_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SchNet(**SIZES).double()
    right = program(model).module()

    def wrong(z: Tensor, *rest: Tensor) -> list[Tensor]:
        return [one + (len(z) == 8) * 1e-6 for one in right(z, *rest)]

    monkeypatch.setattr("pyg_schnet.simulation.exporting.find_cpp_compiler", lambda: "g++")
    monkeypatch.setattr(
        "pyg_schnet.simulation.exporting.compile_package", lambda traced, path, facts: path.write_bytes(b"")
    )
    monkeypatch.setattr("pyg_schnet.simulation.exporting.load_package", lambda path: wrong)
    with pytest.raises(ArithmeticError, match="gives other values than its model"):
        export(model, tmp_path / "model.pt2", progress=False)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("pyg_schnet.simulation.exporting.load_package", lambda path: right)
    assert export(model, tmp_path / "model.pt2", progress=False).exists()
