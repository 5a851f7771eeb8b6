"""Frozen models: tables for every distance, in files and copies, never stale, and the same physics."""

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from pyg_schnet import Potential, SchNet, fast, load, save
from pyg_schnet.convert import from_pyg, to_pyg
from pyg_schnet.models import read_header
from pyg_schnet.models.contents import checksum
from pyg_schnet.nn import FilterNetwork

MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "no cutoff function": {"cutoff_function": None, "gamma": 10.0, "activate_last": True, "cutoff": 8.0},
    "mollifier, smooth normalization": {"cutoff_function": "mollifier", "normalization": "smooth"},
    "bessel, shared": {"basis": "bessel", "shared_interactions": True},
    "without interactions": {"num_interactions": 0},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def pair(variant: str, make_model: MakeModel) -> tuple[SchNet, SchNet]:
    """A model and its frozen copy."""
    exact = make_model(**VARIANTS[variant]).eval()
    return exact, copy.deepcopy(exact).freeze()


def assert_near(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


@every_variant
def test_all_derivatives_are_those_of_the_exact_model(variant: str, water: Any, make_model: MakeModel) -> None:
    exact, frozen = pair(variant, make_model)
    cell = 6 * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    periodic = {"cell": cell, "pbc": torch.ones(1, 3, dtype=torch.bool)}
    expected, ours = (Potential(model, stress=True, virials=True)(*water, **periodic) for model in (exact, frozen))
    # the spline's error of W is 1e-8, of dW/dd 6e-7, of d2W/dd2 3e-5 of their spread; two blocks multiply it
    assert_near(ours.pop("energy"), expected.pop("energy"), 1e-7)
    for name, value in expected.items():
        assert_near(ours[name], value, 1e-5)
    hessians = [Potential(model).hessian(*water)[0] for model in (exact, frozen)]
    assert_near(hessians[1], hessians[0], 1e-3)


@every_variant
def test_every_distance_from_zero_to_the_cutoff_and_beyond(variant: str, make_model: MakeModel) -> None:
    exact, frozen = pair(variant, make_model)
    near_ends = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, exact.cutoff - 1e-2, exact.cutoff - 1e-9, exact.cutoff + 1e-9])
    distance = torch.cat([torch.linspace(0.01, exact.cutoff, 97), near_ends]).double()
    pos = torch.stack([torch.zeros_like(distance), distance], dim=1).flatten()
    pos = torch.stack([pos, torch.zeros_like(pos), torch.zeros_like(pos)], dim=1)
    batch = torch.arange(len(distance)).repeat_interleave(2)
    z = torch.tensor([6, 8]).repeat(len(distance))
    expected, ours = (Potential(model)(z, pos, batch) for model in (exact, frozen))
    assert_near(ours["energy"], expected["energy"], 1e-7)
    assert_near(ours["forces"], expected["forces"], 1e-5)


def test_networks_are_not_evaluated(water: Any, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(filters="auto").freeze()
    assert model.frozen
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    expected = model(*water)

    def refuse(*_: Any) -> None:
        raise AssertionError("evaluated")

    for part in (FilterNetwork, type(model.basis)):
        monkeypatch.setattr(part, "forward", refuse)
    assert torch.equal(model(*water), expected)
    with pytest.raises(AssertionError, match="evaluated"):
        model.unfreeze()(*water)


def test_the_explainer_sees_messages(water: Any, make_model: MakeModel) -> None:
    """PyG's Explainer masks messages, which only exact filters have."""
    exact, frozen = pair("no cutoff function", make_model)
    ones = torch.ones(6, dtype=torch.float64)
    set_masks(frozen, nn.Parameter(ones), ones.long(), apply_sigmoid=False)
    assert torch.equal(frozen(*water), exact(*water))
    clear_masks(frozen)
    assert not torch.equal(frozen(*water), exact(*water))


def test_without_compiled_loops(water: Any, make_model: MakeModel, ways: list[str]) -> None:
    potential = Potential(make_model().freeze())
    expected = potential(*water)
    with fast.without("compiled loops"):
        found = potential(*water)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)
    if importlib.util.find_spec("numba") is not None:
        assert ways == ["molecules", "frozen tables"]


def test_atoms_without_neighbours(make_model: MakeModel) -> None:
    exact, frozen = pair("mollifier, smooth normalization", make_model)
    z, pos = torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [50.0, 0, 0]], dtype=torch.float64)
    out = Potential(frozen)(z, pos)
    assert torch.equal(out["energy"], Potential(exact)(z, pos)["energy"])
    assert not out["forces"].any()


def test_fewer_digits_under_autocast(molecules: Any, make_model: MakeModel) -> None:
    frozen, tabulated = make_model().float().freeze(), make_model(filters="table").float()
    inputs = molecules.z, molecules.pos.float(), molecules.batch
    for model in (frozen, tabulated):
        expected = model(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(*inputs)
        assert_near(y, expected, 0.1)  # bfloat16 has steps of 0.8 %
        assert not torch.equal(y, expected)


def test_files_and_copies(water: Any, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(knot_spacing=0.05).freeze()
    expected = model(*water)
    save(model, tmp_path / "model.safetensors")
    for other in (load(tmp_path / "model.safetensors"), copy.deepcopy(model)):
        assert isinstance(other, SchNet)
        assert other.frozen
        assert other.knot_spacing == 0.05
        assert torch.equal(other(*water), expected)
    save(model.unfreeze(), tmp_path / "model.safetensors")
    thawed = load(tmp_path / "model.safetensors")
    assert isinstance(thawed, SchNet)
    assert not thawed.frozen
    assert "filter_tables" not in thawed.state_dict()


def test_tables_in_a_file_are_read_not_made(water: Any, make_model: MakeModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(make_model().freeze(), path)
    header, tensors = read_header(path), load_tensors(path.read_bytes())

    def write(tables: Tensor) -> None:
        tensors["filter_tables"] = tables
        header["sha256"] = checksum(tensors, header)
        save_file(tensors, path, metadata={name: json.dumps(value) for name, value in header.items()})

    before = load(path)(*water)
    write(1.5 * tensors["filter_tables"])
    assert not torch.allclose(load(path)(*water), before)
    for wrong in (tensors["filter_tables"][:, :, :-1], tensors["filter_tables"][:, :10], torch.zeros(3)):
        write(wrong.contiguous())
        with pytest.raises(ValueError, match=r"frozen tables must be \[2, at least 14, 7\], got \["):
            load(path)


def test_other_kinds_of_numbers(water: Any, device: torch.device, make_model: MakeModel) -> None:
    """Tables are rounded once, from float64: widening a float32 model gives tables as good as its weights."""
    model = make_model().float().freeze()
    tables = model.filter_tables
    wide = copy.deepcopy(model).double()
    assert wide.filter_tables.dtype == torch.float64  # type: ignore[union-attr]
    assert torch.equal(wide.filter_tables, wide.unfreeze().freeze().filter_tables)  # type: ignore[arg-type]
    assert torch.equal(copy.deepcopy(wide).float().filter_tables, tables)  # type: ignore[arg-type]
    moved = Potential(wide.to(device))(*(tensor.to(device) for tensor in water))
    torch.testing.assert_close(moved["forces"].cpu(), Potential(wide.cpu())(*water)["forces"], rtol=1e-12, atol=1e-12)


def test_training_is_refused(make_model: MakeModel) -> None:
    model = make_model().freeze()
    for module in (model, Potential(model)):
        with pytest.raises(RuntimeError, match=r"a frozen model cannot be trained.* call unfreeze\(\) before train"):
            module.train()
    assert not model.training
    assert model.eval() is model
    assert model.unfreeze().train().training


@pytest.mark.parametrize("inside", [False, True], ids=["by itself", "inside another module"])
def test_new_weights_make_new_tables(inside: bool, water: Any, make_model: MakeModel) -> None:
    model, other = make_model().freeze(), make_model().eval()
    expected = copy.deepcopy(other).freeze()
    holder: nn.Module = Potential(model) if inside else model
    for state in (other.state_dict(), expected.state_dict()):  # with tables or without
        model.reset_parameters()
        before = model(*water)
        holder.load_state_dict({f"model.{name}" if inside else name: tensor for name, tensor in state.items()})
        assert model.frozen
        assert torch.equal(model(*water), expected(*water))
        assert not torch.equal(before, expected(*water))
    partial = {name: tensor for name, tensor in make_model().state_dict().items() if "conv.nn" in name}
    model.load_state_dict(partial, strict=False)
    assert torch.equal(model(*water), copy.deepcopy(model).freeze()(*water))
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(partial)


def test_weights_of_a_frozen_model_in_one_that_is_not(water: Any, make_model: MakeModel) -> None:
    exact, frozen = pair("no cutoff function", make_model)
    other = make_model(**VARIANTS["no cutoff function"])
    other.load_state_dict(frozen.state_dict())
    assert not other.frozen
    assert torch.equal(other(*water), exact(*water))


def test_weights_drawn_anew(water: Any, make_model: MakeModel) -> None:
    model = make_model().freeze()
    model.reset_parameters()
    assert_near(model(*water), copy.deepcopy(model).unfreeze()(*water), 1e-7)


def test_conversion_to_pyg(water: Any) -> None:
    model = SchNet.preset("pyg", hidden_channels=8, num_filters=6, num_interactions=2).double().freeze()
    torch.testing.assert_close(from_pyg(to_pyg(model))(*water), model(*water), rtol=1e-6, atol=1e-6)


def test_frozen_in_inference_mode(water: Any, make_model: MakeModel) -> None:
    model = make_model()
    with torch.inference_mode():
        model.freeze()
    assert Potential(model)(*water)["forces"].any()


def test_forces_are_differences_of_the_frozen_energy(molecules: Any, make_model: MakeModel) -> None:
    """So that dynamics conserves energy whatever the accuracy of the table."""
    potential = Potential(make_model(knot_spacing=0.5, cutoff_function="mollifier").freeze())  # a coarse one
    z, pos, batch = molecules
    forces, step = potential(z, pos, batch)["forces"], 1e-3
    for atom, axis in ((0, 0), (4, 2), (11, 1)):
        energy = []
        for multiple in (-2, -1, 1, 2):
            moved = pos.clone()
            moved[atom, axis] += multiple * step
            energy.append(potential(z, moved, batch)["energy"].sum().item())
        slope = (energy[0] - 8 * energy[1] + 8 * energy[2] - energy[3]) / (12 * step)  # to the order of step^4
        assert forces[atom, axis].item() == pytest.approx(-slope, rel=1e-6, abs=1e-8)


def total_energies(model: SchNet, z: Tensor, pos: Tensor, step: float, count: int) -> Tensor:
    """Total energy along a trajectory of velocity Verlet, all atoms of mass one."""
    potential, velocity, energies = Potential(model), torch.zeros_like(pos), []
    forces = potential(z, pos)["forces"]
    for _ in range(count):
        velocity = velocity + 0.5 * step * forces
        pos = pos + step * velocity
        out = potential(z, pos)
        forces = out["forces"]
        velocity = velocity + 0.5 * step * forces
        energies.append(out["energy"] + 0.5 * velocity.square().sum())
    return torch.cat(energies)


def test_dynamics_conserves_energy_as_well_as_the_exact_model(molecules: Any, make_model: MakeModel) -> None:
    z, pos = molecules.split()[2]
    exact = make_model(cutoff_function="mollifier").eval()
    spread = {}
    for name, model in (("exact", exact), ("frozen", copy.deepcopy(exact).freeze())):
        for step in (0.08, 0.04):
            energy = total_energies(model, z, pos, step, round(1.6 / step))
            spread[name, step] = float(energy.max() - energy.min())
    for step in (0.08, 0.04):  # the same trajectory: its forces are equal to 1e-6
        assert spread["frozen", step] == pytest.approx(spread["exact", step], rel=1e-4)
    # Verlet's error of a conserved energy goes with the square of the step
    assert spread["frozen", 0.08] / spread["frozen", 0.04] == pytest.approx(4, rel=0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")  # of torch
def test_compiles_without_graph_breaks(molecules: Any, make_model: MakeModel) -> None:
    torch.compiler.reset()
    model = make_model().freeze()
    expected = Potential(model)(*molecules)
    model.represent = torch.compile(model.represent, fullgraph=True, backend="eager")  # type: ignore[method-assign]
    ours = Potential(model)(*molecules)
    torch.compiler.reset()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-12)
