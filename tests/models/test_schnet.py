"""SchNet: laws of nature, PyG's SchNet and the paper's equations as oracles, contract, bad input."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Set2Set
from torch_geometric.nn.models import SchNet as PyGSchNet
from torch_geometric.nn.models.schnet import ShiftedSoftplus as PyGShiftedSoftplus

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.convert import InteractionGraph, from_pyg
from pyg_schnet.models import DTNN
from pyg_schnet.models.presets import PRESETS
from pyg_schnet.nn import CosineCutoff, NoCutoff

MakeModel = Callable[..., SchNet]
#: Both kinds of model; the papers' Gaussians overlap as theirs do
VARIANTS = {
    "jcp2018": {"cutoff_function": None, "activate_last": True, "gamma": 10.0, "cutoff": 20.0, "num_gaussians": 60},
    "pyg": {"cutoff_function": "cosine"},
    "mean": {"readout": "mean", "atomref": torch.linspace(-9, -1, 100), "mean": 0.7, "std": 2.0},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
# laws of nature hold to the round-off of some thousand float64 operations on energies of order one to hundred
LAW = {"rtol": 1e-10, "atol": 1e-10}


# --- laws of nature ---


@every_variant
def test_permutation_of_atoms(variant: str, molecules: Any, make_model: MakeModel) -> None:
    model = make_model(**VARIANTS[variant])
    z, pos, batch = molecules
    order = torch.cat([start + torch.randperm(size) for start, size in [(0, 3), (3, 5), (8, 8)]])
    torch.testing.assert_close(model(z[order], pos[order], batch), model(z, pos, batch), **LAW)
    swapped = z.clone()
    swapped[[0, 1]] = z[[1, 0]]  # another molecule: H-O exchanged
    assert not torch.allclose(model(swapped, pos, batch)[0], model(z, pos, batch)[0])


@pytest.mark.parametrize("readout", ["add", "mean"])
def test_far_molecules_are_independent(readout: str, molecules: Any, make_model: MakeModel) -> None:
    """Two molecules in one structure: the sum is extensive, the mean is that over all atoms."""
    model = make_model(readout=readout, mean=0.3, std=1.7)
    (z1, pos1), (z2, pos2), _ = molecules.split()
    together = model(torch.cat([z1, z2]), torch.cat([pos1, pos2 + 100.0]))
    y1, y2 = model(z1, pos1), model(z2, pos2)
    expected = y1 + y2 if readout == "add" else (len(z1) * y1 + len(z2) * y2) / (len(z1) + len(z2))
    torch.testing.assert_close(together, expected, **LAW)


def test_energy_is_constant_beyond_the_cutoff_and_smooth_at_it(make_model: MakeModel) -> None:
    model = make_model(cutoff=4.0)

    def energy(distance: float) -> Tensor:
        return model(torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=torch.float64))

    apart = [energy(distance) for distance in (4.0, float(np.nextafter(4.0, 5.0)), 4.5, 50.0, 1e6)]
    assert all(torch.equal(value, apart[0]) for value in apart)
    steps = [abs((energy(4.0 - h) - apart[0]).item()) for h in (1e-2, 1e-3)]
    # quadratic in the distance to the cutoff: value and force are continuous; 2 % for the next order at 0.01 Angstrom
    assert steps[0] / steps[1] == pytest.approx(100.0, rel=0.02)
    assert energy(3.0) != apart[0]


def test_without_cutoff_function_energy_jumps_at_the_cutoff(make_model: MakeModel) -> None:
    """As the docstring says, so the paper's model wants a cutoff beyond the molecule."""
    model = make_model(cutoff=4.0, cutoff_function=None)
    z, pos = torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    assert abs((model(z, 3.999999 * pos) - model(z, 4.0 * pos)).item()) > 1e-3  # weights of order 0.3


# --- oracles ---


def test_equations_of_the_paper_in_numpy(water: tuple[Tensor, Tensor], make_model: MakeModel) -> None:
    """Section II of the paper, atom by atom, for the variant without data to compare with."""
    model = make_model(**VARIANTS["jcp2018"], mean=-3.0, std=2.0)
    p = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    z, pos = (tensor.numpy() for tensor in water)

    def ssp(x: np.ndarray) -> np.ndarray:
        return np.log(0.5 * np.exp(x) + 0.5)

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return p[name + ".weight"] @ x + p.get(name + ".bias", 0.0)

    x = [p["embedding.weight"][number] for number in z]
    for block in ("interactions.0.", "interactions.1."):
        v = []
        for i in range(3):
            convolved = np.zeros(7)
            for j in {0, 1, 2} - {i}:
                gaussians = np.exp(-10.0 * (np.linalg.norm(pos[i] - pos[j]) - p["basis.offset"]) ** 2)
                w = ssp(dense(ssp(dense(gaussians, block + "conv.nn.0")), block + "conv.nn.2"))
                convolved += dense(x[j], block + "conv.lin1") * w
            v.append(dense(ssp(dense(convolved, block + "conv.lin2")), block + "lin"))
        x = [old + change for old, change in zip(x, v, strict=True)]
    energy = sum(2.0 * dense(ssp(dense(atom, "output.lin1")), "output.lin2") - 3.0 for atom in x)
    np.testing.assert_allclose(model(*water).detach(), energy[None], rtol=1e-12)  # round-off of some 1000 operations


def pyg_model(dtype: torch.dtype, bias: float) -> PyGSchNet:
    """PyG's SchNet with its initial weights and random biases."""
    model = PyGSchNet(interaction_graph=InteractionGraph(10.0)).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-bias, bias)
    return model


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_preset_pyg_equals_pyg(dtype: torch.dtype, seed: int, molecules: Any, within_rounding: Callable) -> None:
    """Energies and forces with PyG's weights."""
    torch.manual_seed(seed)
    theirs = pyg_model(dtype, bias=0.5)
    ours = SchNet.preset("pyg").to(dtype)
    ours.load_state_dict(from_pyg(theirs).state_dict())

    def results(model: nn.Module, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        pos = molecules.pos.to(dtype).requires_grad_()
        energy = model(molecules.z, pos, molecules.batch)
        return energy, torch.autograd.grad(energy.sum(), pos)[0]

    found = results(ours, dtype)
    wide = copy.deepcopy(theirs).double()
    within_rounding(found, lambda: results(wide))
    if dtype == torch.float64:  # what is promised
        for mine, pygs in zip(found, results(theirs), strict=True):
            assert (mine - pygs).abs().max() <= 1e-12 * (1 + pygs.abs().max())


def test_activation_of_preset_pyg_is_that_of_pyg() -> None:
    """The whole range: torch's softplus, which PyG calls with its default threshold, is linear above 20."""
    x = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    assert torch.equal(SchNet.preset("pyg").output.act(x), PyGShiftedSoftplus().double()(x))


# --- graphs ---


@every_variant
def test_given_edges_equal_own_graph(variant: str, molecules: Any, make_model: MakeModel) -> None:
    model = make_model(**VARIANTS[variant])
    graph = radius_graph(molecules.pos, model.cutoff, molecules.batch)
    order = torch.randperm(graph.edge_index.size(1))
    expected = model(*molecules)
    cell, given = 7 * torch.eye(3, dtype=torch.float64).repeat(3, 1, 1), graph.edge_index
    torch.testing.assert_close(model(*molecules, edge_index=given), expected, **LAW)
    torch.testing.assert_close(model(*molecules, edge_index=given[:, order]), expected, **LAW)
    y = model(*molecules, edge_index=given, edge_shift=graph.edge_shift, cell=cell)
    torch.testing.assert_close(y, expected, **LAW)
    fewer = model(*molecules, edge_index=given[:, 1:])
    assert abs(fewer[0] - expected[0]) > 1e-8  # far above round-off: an edge less counts


def test_a_supercell_has_the_energy_of_its_cells(make_model: MakeModel) -> None:
    """Periodic edges from ASE: energy per cell and forces do not depend on the choice of the cell."""
    ase, neighborlist = pytest.importorskip("ase"), pytest.importorskip("ase.neighborlist")
    model = make_model(cutoff=4.0)
    cell = ase.Atoms("CNO", positions=3 * np.random.default_rng(3).random((3, 3)), cell=[3.1, 3.3, 3.7], pbc=True)
    cell.cell[1, 0] = 0.4
    energies, forces = [], []
    for atoms in (cell, cell.repeat((2, 1, 3))):
        i, j, shift = neighborlist.neighbor_list("ijS", atoms, 4.0)
        graph = {"edge_index": torch.from_numpy(np.stack([j, i])), "edge_shift": torch.from_numpy(shift)}
        pos = torch.from_numpy(atoms.positions).requires_grad_()
        lattice = torch.from_numpy(atoms.cell.array)[None]
        energies.append(model(torch.from_numpy(atoms.numbers), pos, **graph, cell=lattice).sum())
        forces.append(torch.autograd.grad(energies[-1], pos)[0])
    torch.testing.assert_close(energies[1], 6 * energies[0], **LAW)
    torch.testing.assert_close(forces[1], forces[0].repeat(6, 1), **LAW)
    assert forces[0].abs().max() > 1e-3


@every_variant
def test_single_isolated_and_missing_atoms(variant: str, water: tuple[Tensor, Tensor], make_model: MakeModel) -> None:
    """Structures: water, empty, a carbon, water beside a far carbon, empty, empty."""
    model = make_model(**VARIANTS[variant] | {"readout": "add"})
    z, pos = water
    carbon, origin = torch.tensor([6]), torch.zeros(1, 3, dtype=torch.float64)
    batch = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3])
    y = model(torch.cat([z, carbon, z, carbon]), torch.cat([pos, origin, pos, origin + 99]), batch, batch_size=6)
    e_water, e_carbon = model(z, pos), model(carbon, origin)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    expected = torch.cat([e_water, zero, e_carbon, e_water + e_carbon, zero, zero])
    torch.testing.assert_close(y, expected, **LAW)
    assert e_carbon.abs() > 1e-3


# --- references, presets, contract ---


def test_references_by_hand(water: tuple[Tensor, Tensor], make_model: MakeModel) -> None:
    atomref = torch.zeros(9, 1)
    atomref[1], atomref[8] = -13.5, -2000.25  # exact in float32
    plain, full = make_model(), make_model(mean=-2.5, std=3.0, atomref=atomref)
    full.load_state_dict({**full.state_dict(), **dict(plain.named_parameters())})
    expected = 3.0 * plain(*water) + 3 * -2.5 + 2 * -13.5 - 2000.25
    torch.testing.assert_close(full(*water), expected, **LAW)


def test_preset_jcp2018_is_the_network_of_the_paper() -> None:
    model = SchNet.preset("jcp2018")
    assert len(model.interactions) == 6
    assert model.basis.gamma == 10.0
    assert torch.equal(model.basis.offset, torch.linspace(0, 20, 200))
    assert model.cutoff == 20.0
    for block in model.interactions:
        assert isinstance(block.conv.cutoff, NoCutoff)
        assert [type(layer).__name__ for layer in block.conv.nn] == ["Linear", "ShiftedSoftplus"] * 2
    per_block = (200 + 1) * 64 + 65 * 64 + 64 * 64 + 65 * 64 + 65 * 64  # filter (2), in (no bias), out, last
    expected = 119 * 64 + 6 * per_block + 65 * 32 + 33
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_preset_pyg_has_the_sizes_of_pyg() -> None:
    model, pyg = SchNet.preset("pyg"), PyGSchNet(interaction_graph=InteractionGraph(10.0))
    assert isinstance(model.interactions[0].conv.cutoff, CosineCutoff)
    numbers = [sum(parameter.numel() for parameter in m.parameters()) for m in (model, pyg)]
    assert numbers[0] == numbers[1]
    assert model.basis.gamma == pytest.approx(-pyg.distance_expansion.coeff, rel=1e-12)


def test_presets_take_overrides_and_refuse_the_unknown() -> None:
    model = SchNet.preset("jcp2018", num_interactions=3, cutoff=5.0)
    assert (len(model.interactions), model.cutoff, model.basis.gamma) == (3, 5.0, 10.0)
    with pytest.raises(ValueError, match="unknown preset 'nips'; expected one of 'nips2017', 'jcp2018', .*, 'pyg'"):
        SchNet.preset("nips")
    with pytest.raises(TypeError, match="SchNet has no argument 'layers'; expected one of hidden_channels, "):
        SchNet.preset("jcp2018", layers=3)


# --- heads and choices ---


def test_bessel_functions_in_any_preset() -> None:
    for name in PRESETS:
        assert SchNet.preset(name, basis="bessel", num_interactions=1).config["gamma"] is None


def test_torch_func_with_and_without_a_given_graph(water: Any, make_model: MakeModel) -> None:
    model, (z, pos) = make_model(), water
    edge_index = radius_graph(pos, model.cutoff).edge_index
    slope = torch.func.grad(lambda pos: model(z, pos, edge_index=edge_index).sum())(pos)
    expected = -Potential(model.eval())(z, pos)["forces"]
    torch.testing.assert_close(slope, expected, **LAW)
    torch.testing.assert_close(torch.func.grad(lambda pos: model(z, pos).sum())(pos), expected, **LAW)


def test_references_survive_functional_calls(water: Any, make_model: MakeModel) -> None:
    model, other = make_model(mean=5.0, std=2.0), make_model()
    y = torch.func.functional_call(other, model.state_dict(), water)
    torch.testing.assert_close(y, model(*water), **LAW)


def test_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = SchNet(8, 8, 1)
    assert "SchNet" in repr(model)
    assert model.embedding.weight.is_meta


def test_autocast_keeps_the_digits_of_sums(make_model: MakeModel) -> None:
    model = make_model(mean=-100.0).float()
    z, pos = torch.full((60,), 6), 20 * torch.rand(60, 3)
    with torch.autocast("cpu", torch.bfloat16):
        energy = Potential(model)(z, pos)["energy"]
    assert energy.dtype == torch.float64
    # 16 bits would leave steps of 32 at 6000; the network in 16 bits is good to some per cent of its part
    assert abs(energy - Potential(model)(z, pos)["energy"]).item() < 1.0


@torch.no_grad()
@pytest.mark.parametrize("readout", ["add", "mean", "sum"])
def test_autocast_reads_out_in_the_dtype_of_the_model(readout: str, make_model: MakeModel) -> None:
    """16 bits of the network's features, none of the output network and of the sums over atoms."""
    model = make_model(readout=readout, cutoff=3.0).float().eval()
    z, pos = torch.randint(1, 9, (200,)), 12 * torch.rand(200, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y, x = model(z, pos), model.features(z, pos)
    each = model.output(x.float()).double()
    assert y.dtype == torch.float32
    expected = each.mean(0) if readout == "mean" else each.sum(0)
    scale = float(each.abs().mean() if readout == "mean" else each.abs().sum())
    assert float((y[0] - expected).abs()) < 1e-5 * scale  # 16 bits would leave 1e-3


@pytest.mark.parametrize("readout", ["add", "mean"])
def test_contributions_of_the_atoms(readout: str, molecules: Any, make_model: MakeModel) -> None:
    atomref = torch.linspace(-9, -1, 40).view(20, 2)
    model = make_model(readout=readout, out_channels=2, mean=[0.5, -1.0], std=[2.0, 3.0], atomref=atomref)
    each = model.contributions(*molecules)
    assert each.shape == (16, 2)
    assert each.dtype == torch.float64
    total = torch.stack([getattr(part, "sum" if readout == "add" else "mean")(0) for part in each.split([3, 5, 8])])
    torch.testing.assert_close(total, model(*molecules), **LAW)


def test_sum_is_add_with_its_references(molecules: Any, make_model: MakeModel) -> None:
    options = {"mean": -2.0, "std": 3.0, "atomref": torch.arange(20.0)}
    add, other = make_model(readout="add", **options), make_model(readout="sum", **options)
    other.load_state_dict(add.state_dict())
    assert torch.equal(add(*molecules), other(*molecules))
    assert torch.equal(add.contributions(*molecules), other.contributions(*molecules))


def test_contributions_need_a_sum_or_a_mean(molecules: Any, make_model: MakeModel) -> None:
    for readout in ("max", "spatial_extent", "set2set"):
        with pytest.raises(ValueError, match=f"contributions of atoms exist for .* 'mean', got '{readout}'"):
            make_model(readout=readout).contributions(*molecules)


def test_several_targets_are_as_many_models(molecules: Any, make_model: MakeModel) -> None:
    both = make_model(out_channels=2, mean=[0.5, -1.0], std=[2.0, 3.0])
    for target in range(2):
        single = make_model(mean=[0.5, -1.0][target], std=[2.0, 3.0][target])
        state = both.state_dict()
        state |= {name: state[name][target : target + 1] for name in ("output.lin2.weight", "output.lin2.bias")}
        state |= {f"reference.{name}": value for name, value in single.reference.state_dict().items()}
        single.load_state_dict(state)
        torch.testing.assert_close(both(*molecules)[:, target], single(*molecules)[:, 0], **LAW)


def test_features_and_output_are_the_prediction(molecules: Any, make_model: MakeModel) -> None:
    model = make_model()
    x = model.features(*molecules)
    assert x.shape == (16, 10)
    y = model.readout(model.output(x), molecules.batch, 3)
    torch.testing.assert_close(y, model(*molecules), **LAW)


def test_heads_of_features(molecules: Any, make_model: MakeModel) -> None:
    """The output network sees the aggregated features; the mean is added once, single atoms each."""
    model = make_model(readout="set2set", mean=4.0, std=2.0, atomref=torch.arange(10.0))
    x = model.features(*molecules)
    y = 2.0 * model.output(model.readout.aggr(x, molecules.batch))
    atoms = torch.stack([part.sum() for part in molecules.z.double().split([3, 5, 8])]).unsqueeze(1)
    torch.testing.assert_close(model(*molecules), y + 4.0 + atoms, **LAW)
    assert model.output.lin1.in_features == 20
    own = make_model(readout=Set2Set(10, processing_steps=2))
    assert own(*molecules).shape == (3, 1)


@pytest.mark.parametrize("readout", ["dipole", "dipole_magnitude", "spatial_extent", "polarizability"])
def test_moments_are_of_open_structures(readout: str, molecules: Any, make_model: MakeModel) -> None:
    model = make_model(readout=readout)
    assert model(*molecules).shape == (3, 3 if readout == "dipole" else 1)
    box = 50 * torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    open_box = model(*molecules, cell=box, pbc=torch.zeros(3, 3, dtype=torch.bool))
    torch.testing.assert_close(open_box, model(*molecules), **LAW)
    with pytest.raises(ValueError, match=f"readout='{readout}' is a moment of the positions and not defined in per"):
        model(*molecules, cell=box, pbc=torch.ones(3, 3, dtype=torch.bool))


def test_shared_interactions_are_one_block(molecules: Any, make_model: MakeModel) -> None:
    shared = make_model(shared_interactions=True, num_interactions=3)
    apart = make_model(num_interactions=3)
    state = shared.state_dict()
    for block in (1, 2):
        state |= {
            name.replace(".0.", f".{block}.", 1): value
            for name, value in shared.state_dict().items()
            if name.startswith("interactions.0.")
        }
    apart.load_state_dict(state)
    torch.testing.assert_close(shared(*molecules), apart(*molecules), **LAW)
    assert make_model(shared_interactions=True, num_interactions=0)(*molecules).shape == (3, 1)


def test_zero_output_predicts_the_references(molecules: Any) -> None:
    model = SchNet(10, 7, 2, 16, 5.0, zero_output=True, mean=-3.0).double()
    sizes = torch.tensor([[3.0], [5.0], [8.0]], dtype=torch.float64)
    assert torch.equal(model(*molecules), -3.0 * sizes)


@pytest.mark.parametrize(
    ("options", "beside"),
    [
        ({"num_filters": 6}, {}),
        ({"num_interactions": 3}, {}),
        ({"num_gaussians": 17}, {}),
        ({"cutoff": 3.0}, {}),
        ({"readout": "mean"}, {}),
        ({"readout_options": {"processing_steps": 1}}, {"readout": "set2set"}),
        ({"mean": 1.0}, {}),
        ({"std": 2.0}, {}),
        ({"atomref": torch.ones(9)}, {}),
        ({"out_channels": 2}, {}),
        ({"basis": "bessel"}, {}),
        ({"trainable_basis": True}, {}),
        ({"trainable_basis": True}, {"basis": "bessel"}),
        ({"gamma": 3.0}, {}),
        ({"cutoff_function": "mollifier"}, {}),
        ({"activate_last": True}, {}),
        ({"act": "tanh"}, {}),
        ({"act": "tanh"}, {"output_act": "ssp"}),
        ({"output_act": "tanh"}, {}),
        ({"normalization": "mean"}, {}),
        ({"shared_interactions": True}, {"num_interactions": 3}),
        ({"zero_output": True}, {}),
        ({"max_z": 20}, {}),
    ],
    ids="-".join,
)
def test_every_option_changes_the_model(options: dict[str, Any], beside: dict[str, Any], molecules: Any) -> None:
    """Drawn with the same seed, it predicts other values or has other weights, and says so."""
    sizes: dict[str, Any] = {"hidden_channels": 8, "num_filters": 7, "num_interactions": 2, "num_gaussians": 16}

    def described(**more: Any) -> tuple[Any, ...]:
        torch.manual_seed(0)
        model = SchNet(**(sizes | {"cutoff": 5.0, "max_z": 30, "filters": "exact"} | beside | more)).double()
        with torch.no_grad():
            for block in model.interactions:  # so that distances matter
                for weight in block.parameters():
                    weight.mul_(3)
        values = model(molecules.z, molecules.pos, molecules.batch)
        rows = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        return model.extra_repr(), (rows, tuple(values.flatten().tolist()))

    (text, content), (plain_text, plain) = described(**options), described()
    assert content != plain
    assert text != plain_text or set(options) <= {"mean", "std", "atomref"}  # which are no architecture
    assert content == described(**options)[1]


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_channels": 0}, "`hidden_channels` must be at least 1, got 0"),
        ({"hidden_channels": 1}, "`hidden_channels` must be at least 2"),
        ({"num_filters": 0}, "`num_filters` must be at least 1, got 0"),
        ({"num_interactions": -1}, "`num_interactions` must be at least 0, got -1"),
        ({"num_gaussians": 1}, "`num_gaussians` must be at least 2, got 1"),
        ({"cutoff": 0.0}, "`cutoff` must be positive.*, got 0.0"),
        ({"cutoff": -3.0}, "`cutoff` must be positive.*, got -3.0"),
        ({"cutoff": math.nan}, "`cutoff` must be positive.*, got nan"),
        ({"cutoff": math.inf}, "`cutoff` must be positive.*, got inf"),
        ({"gamma": -1.0}, "`gamma` must be positive, got -1.0"),
        ({"readout": "maxi"}, "`readout` must be one of 'add', .* or an aggregation of PyG .*, got 'maxi'"),
        ({"readout": "add", "readout_options": {"a": 1}}, "readout='add' takes no `readout_options`, got {'a': 1}"),
        ({"readout": "set2set", "readout_options": {"steps": 1}}, "`readout` must be .*'set2set' with {'steps': 1}"),
        ({"readout": "dipole", "out_channels": 3}, "`out_channels` must be 1 with readout='dipole', got 3"),
        ({"readout": "dipole", "mean": 1.0}, "readout='dipole' has no reference; leave out `mean` and `atomref`"),
        ({"out_channels": 0}, "`out_channels` must be at least 1, got 0"),
        ({"out_channels": 2, "mean": [1.0, 2.0, 3.0]}, "`mean` must be one number or 2, .*, got 3 numbers"),
        ({"out_channels": 2, "atomref": torch.zeros(9, 3)}, "`atomref` must have 1 or 2 columns, .*, got 3"),
        ({"basis": "fourier"}, "`basis` must be 'gaussian' or 'bessel', got 'fourier'"),
        ({"basis": "bessel", "gamma": 1.0}, "`gamma` is the width of Gaussians, but `basis` is 'bessel'"),
        ({"output_act": "relu"}, "`output_act` must be one of 'ssp', .*, got 'relu'"),
        ({"normalization": "median"}, "`normalization` must be 'mean', 'smooth' or None, got 'median'"),
        ({"cutoff_function": "poly"}, "`cutoff_function` must be one of 'cosine', .*, None, got 'poly'"),
        ({"act": "relu"}, "`act` must be one of 'ssp', 'ssp-pyg', .*, got 'relu'"),
        ({"max_z": 0}, "`max_z` must be at least 1, got 0"),
        ({"std": 0.0}, "`std` must be positive and finite, got 0.0"),
        ({"atomref": torch.zeros(120)}, "`atomref` must have at most 119 values, one per atomic number, got 120"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SchNet(**arguments)


EDGE = torch.tensor([[0, 1], [1, 0]])
SHIFT = torch.tensor([[1, 0, 0], [-1, 0, 0]])
CELL = 5 * torch.eye(3, dtype=torch.float64)[None]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"z": torch.tensor([8, 1])}, ValueError, r"`z` must have shape \[3\] like `pos`, got \[2\]"),
        ({"z": torch.tensor([[8], [1], [1]])}, ValueError, r"`z` must have shape \[3\] like `pos`, got \[3, 1\]"),
        ({"z": [8, 1, 1]}, TypeError, r"`z` must be a tensor of atomic numbers \[N\], got list"),
        ({"z": torch.tensor([8.0, 1, 1])}, TypeError, r"`z` must hold atomic numbers as int64 \[N\], got torch.float"),
        ({"z": torch.tensor([8, 1, 0])}, ValueError, "`z` must hold atomic numbers from 1 to 118, got 0"),
        ({"z": torch.tensor([8, 1, 119])}, ValueError, "`z` must hold atomic numbers from 1 to 118, got 119"),
        ({"pos": torch.full((3, 3), math.nan)}, ValueError, "`pos` must be finite, got .*nan.* for atom 0"),
        ({"pos": torch.zeros(3, 3).double()}, ValueError, "atoms 0 and 1 are at the same place"),
        ({"pos": torch.zeros(3, 2)}, ValueError, r"`pos` must have shape \[N, 3\], got \[3, 2\]"),
        ({"batch": torch.tensor([0, 1, 0])}, ValueError, "`batch` must be sorted"),
        ({"batch": torch.tensor([0, 0])}, ValueError, r"`batch` must have shape \[3\] like `pos`, got \[2\]"),
        ({"batch_size": 2}, ValueError, "`batch_size` is 2, but without `batch`"),
        ({"pbc": torch.tensor([[True] * 3])}, ValueError, "`pbc` names periodic axes but `cell` is missing"),
        ({"cell": CELL}, ValueError, "`cell` is given but `pbc` is missing"),
        ({"pbc": torch.tensor([[True] * 3]), "cell": 0 * CELL}, ValueError, "lattice vectors .* span no volume"),
        (
            {"edge_index": EDGE.repeat(2, 1)},
            ValueError,
            r"`edge_index` must have shape \[2, E\], got \[4, 2\]",
        ),
        ({"edge_index": EDGE[0]}, ValueError, r"`edge_index` must have shape \[2, E\], got \[2\]"),
        ({"edge_index": EDGE.float()}, TypeError, r"`edge_index` must be an int64 tensor \[2, E\], got torch.float32"),
        ({"edge_index": EDGE + 2}, ValueError, "`edge_index` must name atoms from 0 to 2, got 2 to 3"),
        ({"edge_index": EDGE - 1}, ValueError, "`edge_index` must name atoms from 0 to 2, got -1 to 0"),
        ({"edge_index": 0 * EDGE}, ValueError, "the edge 0 -> 0 has length zero"),
        ({"edge_index": EDGE, "edge_shift": SHIFT[:1]}, ValueError, r"`edge_shift` must have shape \[2, 3\] like"),
        ({"edge_index": EDGE.tolist()}, TypeError, "`edge_index` must be"),
        ({"edge_index": EDGE, "edge_shift": SHIFT.float(), "cell": CELL}, TypeError, "`edge_shift` must be an integer"),
        (
            {"edge_index": EDGE, "cell": CELL, "pbc": torch.tensor([[True, False, False]])},
            ValueError,
            "`edge_shift` is missing: beside periodic axes",
        ),
        ({"cell": CELL.numpy(), "pbc": torch.tensor([[True] * 3])}, TypeError, "`cell` must be a tensor of lattice"),
        ({"edge_index": EDGE, "edge_shift": SHIFT}, ValueError, "`cell`"),
        ({"edge_index": EDGE, "edge_shift": SHIFT, "cell": CELL[0]}, ValueError, "`cell`"),
        ({"edge_index": EDGE, "edge_shift": SHIFT, "cell": CELL.repeat(2, 1, 1)}, ValueError, "`cell`"),
        ({"edge_index": EDGE, "batch": torch.tensor([0, 1, 1])}, ValueError, "`edge_index`.*structure"),
    ],
)
def test_bad_input_is_refused(
    changed: dict[str, Any], error: type[Exception], message: str, water: Any, make_model: MakeModel
) -> None:
    arguments = {"z": water[0], "pos": water[1]} | changed
    with pytest.raises(error, match=message):
        make_model()(arguments.pop("z"), arguments.pop("pos"), **arguments)


def test_positions_of_another_dtype_are_refused(water: Any, make_model: MakeModel) -> None:
    """ASE's positions are float64, the weights of a model usually float32."""
    with pytest.raises(TypeError, match=r"`pos`.*float64.*float32|`pos`.*float32.*float64"):
        make_model().float()(*water)


@pytest.mark.parametrize(
    "readout",
    ["add", "mean", "max", "std", "set2set", "dipole", "dipole_magnitude", "spatial_extent", "polarizability"],
)
@pytest.mark.parametrize("network", [SchNet, DTNN])
def test_every_readout_learns_from_a_start_at_zero(network: Any, readout: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"readout_options": {"processing_steps": 2}} if readout == "set2set" else {}
    model = network(8, 8, 2, cutoff=4.0, zero_output=True, readout=readout, **options)
    z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = (model(z, pos) - 1.0).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
