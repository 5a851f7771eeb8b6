"""A committee: mean and spread of its members, their derivatives, the shared graph, files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, load, radius_graph, save
from pyg_schnet.graph import Edges
from pyg_schnet.models import DTNN, Committee, CommitteePotential, EnnS2S, committee, read_header
from pyg_schnet.models.committee import mean_and_spread
from pyg_schnet.transforms import RadiusGraph

MakeModel = Callable[..., SchNet]
ROUND_OFF = {"rtol": 1e-12, "atol": 1e-12}  # of some hundred float64 operations on numbers of order one to ten


@pytest.fixture
def alike(make_model: MakeModel) -> Committee:
    """Three SchNets of the same sizes."""
    return Committee([make_model() for _ in range(3)]).eval()


@pytest.fixture
def mixed(make_model: MakeModel, scramble: Callable[[Any], Any]) -> Committee:
    """Three architectures, two of them with the smallest cutoff, which cuts through the molecules."""
    dtnn = DTNN(8, 6, 2, 30, 7.0, cutoff_function="cosine", mean=-3.0, max_z=20)
    enn = EnnS2S(6, 5, 2, 9, 2.5, readout="add", readout_options=None)
    members = [make_model(cutoff=2.5, std=2.0), scramble(dtnn).double(), scramble(enn).double(), make_model()]
    return Committee(members).eval()


@pytest.fixture(params=["alike", "mixed"])
def every_committee(request: pytest.FixtureRequest) -> Committee:
    return request.getfixturevalue(request.param)


@pytest.fixture
def crystals() -> Batch:
    """Two sheared cells and a slab, whose open axis has no vector."""
    generator = torch.Generator().manual_seed(3)
    structures = []
    for atoms, periodic in ((4, [True, True, True]), (3, [True, True, True]), (5, [True, True, False])):
        cell = torch.diag(torch.tensor([3.1, 3.6, 4.0])) + 0.4 * torch.rand(3, 3, generator=generator)
        pos = torch.rand(atoms, 3, generator=generator) @ cell
        cell = torch.where(torch.tensor(periodic).unsqueeze(1), cell, torch.nan)
        z = torch.randint(1, 18, (atoms,), generator=generator)
        structures.append(Data(z=z, pos=pos.double(), cell=cell.double().unsqueeze(0), pbc=torch.tensor([periodic])))
    return Batch.from_data_list(structures)


def tensors(data: Batch) -> dict[str, Any]:
    return {name: data[name] for name in ("z", "pos", "batch", "cell", "pbc")}


def check_statistics(mean: Tensor, std: Tensor, members: Any) -> None:
    """Against numpy."""
    values = np.stack([member.detach().numpy() for member in members]).astype(np.float64)
    assert std.dtype == torch.float64
    np.testing.assert_allclose(mean.detach().numpy(), values.mean(0), **ROUND_OFF)
    np.testing.assert_allclose(std.detach().numpy(), values.std(0, ddof=1), **ROUND_OFF)


# --- properties ---


def test_mean_and_spread_of_the_members(every_committee: Committee, molecules: Any) -> None:
    y = every_committee(*molecules)
    singles = [member(*molecules) for member in every_committee]
    assert (y.mean.shape, y.std.shape, y.members.shape) == ((3, 1), (3, 1), (len(singles), 3, 1))
    assert torch.equal(y.members, torch.stack(singles))  # one search or several: the same edges in the same order
    check_statistics(y.mean, y.std, singles)
    assert (y.std > 1e-3).all()


@pytest.mark.parametrize("given", [False, True], ids=["searched", "given graph"])
def test_crystals(given: bool, every_committee: Committee, crystals: Batch) -> None:
    arguments = tensors(crystals)
    if given:
        graph = radius_graph(**{k: v for k, v in arguments.items() if k != "z"}, cutoff=every_committee.cutoff)
        arguments |= {"edge_index": graph.edge_index, "edge_shift": graph.edge_shift}
    y = every_committee(**arguments)
    singles = [member(**tensors(crystals)) for member in every_committee]
    torch.testing.assert_close(y.members, torch.stack(singles), rtol=1e-11, atol=1e-11)  # sums of a thousand edges
    check_statistics(y.mean, y.std, y.members)


def test_cells_of_another_dtype_are_refused(every_committee: Committee, crystals: Batch) -> None:
    """Whether members share their graph or not."""
    for change in ({"cell": crystals.cell.float()}, {"cell": crystals.cell.tolist()}):
        with pytest.raises(TypeError, match="`cell` (is torch.float32, `pos` torch.float64|must be a tensor)"):
            every_committee(**tensors(crystals) | change)


def test_several_targets_and_empty_structures(make_model: MakeModel, molecules: Any) -> None:
    y = Committee([make_model(out_channels=2, mean=[1.0, 2.0]) for _ in range(2)])(*molecules, batch_size=5)
    assert y.mean.shape == (5, 2)
    assert not y.members[:, 3:].any()
    assert torch.equal(y.std[3:], torch.zeros(2, 2, dtype=torch.float64))
    assert (y.std[:3] > 0).all()


def test_vectors_are_taken_by_component(make_model: MakeModel, molecules: Any) -> None:
    members = [make_model(readout="dipole", cutoff=cutoff) for cutoff in (2.0, 5.0)]
    y = Committee(members)(*molecules)
    check_statistics(y.mean, y.std, [member(*molecules) for member in members])
    assert y.mean.shape == (3, 3)
    with pytest.raises(ValueError, match="moment of the positions and not defined in periodic structures"):
        Committee(members)(*molecules, cell=torch.eye(3).double().repeat(3, 1, 1), pbc=torch.ones(3, 3).bool())


def test_contributions_add_up(alike: Committee, molecules: Any) -> None:
    atoms, y = alike.contributions(*molecules), alike(*molecules)
    total = torch.zeros(3, 3, 1, dtype=torch.float64).index_add(1, molecules.batch, atoms.members)
    torch.testing.assert_close(total, y.members, **ROUND_OFF)
    check_statistics(atoms.mean, atoms.std, atoms.members)
    assert atoms.mean.shape == (16, 1)


@pytest.mark.parametrize("given", [False, True], ids=["searched", "given graph"])
def test_contributions_in_crystals(given: bool, alike: Committee, crystals: Batch) -> None:
    arguments = tensors(crystals)
    if given:
        graph = radius_graph(**{k: v for k, v in arguments.items() if k != "z"}, cutoff=alike.cutoff)
        arguments |= {"edge_index": graph.edge_index, "edge_shift": graph.edge_shift}
    atoms, y = alike.contributions(**arguments), alike(**arguments)
    total = torch.zeros_like(y.members).index_add(1, crystals.batch, atoms.members)
    torch.testing.assert_close(total, y.members, rtol=1e-11, atol=1e-11)


def test_small_spread_of_large_energies_in_float32(make_model: MakeModel, molecules: Any) -> None:
    """A float32 step of these totals is 0.016 to 0.03, more than the spread."""
    members = [make_model(std=1e-3, atomref=torch.full((20,), -50000.0)).float() for _ in range(3)]
    z, pos, batch = molecules.z, molecules.pos.float(), molecules.batch
    y = Committee(members).requires_grad_(False)(z, pos, batch)
    for member in members:
        member.reference.set(atomref=torch.zeros(20))
    bare = Committee(members)(z, pos, batch)
    torch.testing.assert_close(y.std, bare.std, rtol=1e-6, atol=1e-9)  # 4e5 in float64 has steps of 6e-11
    assert 0 < float(bare.std.max()) < 5e-3


# --- no spread ---


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_members_have_no_spread(
    count: int, dtype: torch.dtype, molecules: Any, make_model: MakeModel, device: torch.device
) -> None:
    """Exactly: a mean of equal numbers by sum and division is not always that number."""
    model = make_model(mean=-0.1).to(device, dtype).eval()
    twins = [make_model().to(device, dtype) for _ in range(count)]
    for twin in twins:
        twin.load_state_dict(model.state_dict())
    arguments = molecules.z.to(device), molecules.pos.to(device, dtype), molecules.batch.to(device)
    equal, out = Committee(twins).eval(), Potential(model)(*arguments, virials=True)
    y, both = equal(*arguments), CommitteePotential(equal)(*arguments, virials=True)
    limit = 0.0 if device.type == "cpu" else 1e-5  # atomic additions on a GPU take place in any order
    assert y.std.max() <= limit
    for name, value in out.items():
        assert (both[name] - value).abs().max() <= limit, name
        assert both[f"{name}_std"].shape == value.shape
        assert both[f"{name}_std"].max() <= limit, name


def test_gradient_of_no_spread_is_zero() -> None:
    values = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]], requires_grad=True)
    mean_and_spread(values).std.sum().backward()
    deviation = torch.tensor([-4.0, -1.0, 5.0]) / 3
    expected = deviation / 2 / (deviation.square().sum() / 2).sqrt()
    assert not values.grad[:, 0].any()
    torch.testing.assert_close(values.grad[:, 1], expected)


def test_a_broken_member_is_seen() -> None:
    y = mean_and_spread(torch.tensor([[1.0, 1.0], [torch.nan, 1.0]]))
    assert (y.mean.isnan().tolist(), y.std.isnan().tolist()) == ([True, False], [True, False])


# --- derivatives ---


def test_mean_and_spread_of_the_derivatives(every_committee: Committee, crystals: Batch) -> None:
    crystals.cell = torch.where(crystals.cell.isnan(), torch.diag(torch.tensor([0.0, 0, 9.0])).double(), crystals.cell)
    out = CommitteePotential(every_committee, stress=True, virials=True)(crystals)
    singles = [Potential(member)(crystals, stress=True, virials=True) for member in every_committee]
    assert set(out) == {name + end for name in singles[0] for end in ("", "_std")}
    for name, first in singles[0].items():
        assert out[name].shape == out[f"{name}_std"].shape == first.shape
        assert out[name].dtype == first.dtype
        check_statistics(out[name], out[f"{name}_std"], [single[name] for single in singles])
        assert (out[f"{name}_std"] > 0).any()


def test_forces_are_the_gradient_of_the_mean_energy(mixed: Committee, molecules: Any) -> None:
    z, pos = molecules.split()[2]
    forces, step = CommitteePotential(mixed)(z, pos)["forces"], 1e-4
    expected = torch.zeros_like(pos)
    for atom, axis in np.ndindex(*pos.shape):
        shift = torch.zeros_like(pos)
        shift[atom, axis] = step
        ahead, behind = (mixed(z, pos + sign * shift).mean.item() for sign in (1, -1))
        expected[atom, axis] = -(ahead - behind) / (2 * step)
    # truncation h^2 E''' / 6 ~ 1e-8 x 1e2, round-off of energies of order 10^2 / h ~ 1e-10
    torch.testing.assert_close(forces, expected, rtol=1e-6, atol=2e-6)
    assert forces.abs().max() > 1e-2


def test_stress_is_the_strain_derivative_of_the_mean_energy(mixed: Committee, crystals: Batch) -> None:
    data = crystals.get_example(0)
    stress, step = CommitteePotential(mixed)(data, stress=True)["stress"][0], 1e-5
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for row, column in np.ndindex(3, 3):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[row, column] = strain[column, row] = 0.5 * step
        strain[row, row] *= 1 + (row == column)
        energies = [
            mixed(data.z, data.pos @ deform, cell=data.cell @ deform, pbc=data.pbc).mean.item()
            for deform in (torch.eye(3) + strain, torch.eye(3) - strain)
        ]
        expected[row, column] = (energies[0] - energies[1]) / (2 * step) / data.cell[0].det().abs()
    assert stress.abs().max() > 1e-3
    torch.testing.assert_close(stress, expected, rtol=1e-5, atol=1e-6 * float(stress.abs().max()))


def test_every_way_to_call(mixed: Committee, molecules: Any) -> None:
    potential = CommitteePotential(mixed)
    expected = potential(*molecules)
    ways = [
        potential(Batch.from_data_list(molecules.data())),
        potential(Batch.from_data_list([RadiusGraph(mixed.cutoff)(data) for data in molecules.data()])),
    ]
    with torch.inference_mode():
        ways.append(potential(*(tensor.clone() for tensor in molecules)))
    for out in ways:
        assert set(out) == {"energy", "energy_std", "forces", "forces_std"}
        for name, value in expected.items():
            torch.testing.assert_close(out[name], value, rtol=1e-11, atol=1e-11)  # sums in another order
            assert not out[name].requires_grad
    short = Batch.from_data_list([RadiusGraph(2.5)(data) for data in molecules.data()])
    with pytest.raises(ValueError, match=r"cutoff of 2.5 Angstrom, the model needs 7; build it with RadiusGraph\(7\)"):
        potential(short)


def test_single_atom(mixed: Committee) -> None:
    out = CommitteePotential(mixed)(torch.tensor([6]), torch.zeros(1, 3, dtype=torch.float64))
    assert out["energy_std"].item() > 0
    assert not out["forces"].any()
    assert not out["forces_std"].any()


def test_differentiable_while_training(alike: Committee, molecules: Any) -> None:
    """Forces of the mean are trained by the gradients of all members; the spread too."""
    assert not alike[0].training
    alike.train()
    out = CommitteePotential(alike)(*molecules)
    loss = out["forces"].square().sum() + out["forces_std"].sum()
    loss.backward()
    for member in alike:
        assert member.embedding.weight.grad.abs().max() > 0
        assert member.embedding.weight.grad.isfinite().all()


def test_one_search(mixed: Committee, alike: Committee, molecules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyg_schnet.models import edges

    searches: list[float] = []
    for module in (committee, edges):
        original = module.neighbor_pairs
        monkeypatch.setattr(module, "neighbor_pairs", lambda *args, do=original: searches.append(args[1]) or do(*args))
    CommitteePotential(mixed)(*molecules)
    CommitteePotential(alike)(*molecules)
    assert searches == [7.0, 5.0]
    given: list[Edges] = alike.edges(*molecules, 3)
    assert given[0] is given[1] is given[2]


# --- a module ---


def test_module(mixed: Committee, make_model: MakeModel, molecules: Any) -> None:
    assert (len(mixed), mixed.cutoff, mixed.widest is mixed[1]) == (4, 7.0, True)
    y = mixed(*molecules)
    half = mixed.float()
    assert half[0].embedding.weight.dtype == torch.float32
    assert half[0].reference.mean.dtype == torch.float64
    # energies of order ten, some thousand operations in float32
    low = half(molecules.z, molecules.pos.float(), molecules.batch)
    assert low.mean.dtype == torch.float64
    torch.testing.assert_close(low.mean, y.mean, rtol=1e-4, atol=1e-4)
    ours, theirs = (Committee([make_model(), make_model()]) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(*molecules).members, theirs(*molecules).members)


def test_mode_is_that_of_the_members(make_model: MakeModel) -> None:
    assert Committee([make_model(), make_model()]).training
    members = [make_model().eval(), make_model().eval()]
    assert not Committee(nn.ModuleList(members)).training
    assert all(member.training for member in Committee(members).train())


# --- files ---


def test_save_and_load(mixed: Committee, molecules: Any, tmp_path: Path) -> None:
    for member in mixed:
        member.units = {"energy": "kcal/mol"}
    y, folder = mixed(*molecules), tmp_path / "committee"
    for _ in range(2):  # the second time over the first
        mixed.save(folder, training={"seeds": 4})
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()) == [
        f"member_{number}/model.safetensors" for number in range(4)
    ]
    assert read_header(folder / "member_2" / "model.safetensors")["training"] == {"seeds": 4}
    other = Committee.load(folder)
    assert not other.training
    assert [member.units["energy"] for member in other] == 4 * ["kcal/mol"]
    assert torch.equal(other(*molecules).members, y.members)
    for name, value in mixed.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    files = [folder / "member_3" / "model.safetensors", str(folder / "member_0" / "model.safetensors")]
    assert torch.equal(Committee.load(files)(*molecules).members, y.members[[3, 0]])


def test_members_are_read_in_the_order_of_their_numbers(make_model: MakeModel, tmp_path: Path) -> None:
    Committee([make_model(mean=float(number)) for number in range(11)]).save(tmp_path / "many")
    assert [member.reference.mean.item() for member in Committee.load(tmp_path / "many")] == list(range(11))


def test_members_are_put_where_they_are_wanted(alike: Committee, tmp_path: Path) -> None:
    alike.save(tmp_path / "committee")
    elsewhere = Committee.load(tmp_path / "committee", device="meta")
    assert all(parameter.is_meta for parameter in elsewhere.parameters())
    with pytest.raises(ValueError, match="`device` nowhere is not there"):
        Committee.load(tmp_path / "committee", device="nowhere")


def test_interrupted_save_leaves_the_old_committee(
    alike: Committee, mixed: Committee, molecules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike.save(tmp_path / "old")
    expected = alike(*molecules).members

    write = Path.write_bytes

    def failing(path: Path, content: bytes) -> int:
        if "member_2" in str(path):
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OSError, match="no space left"):
        Committee(list(mixed)[:3]).save(tmp_path / "old")
    assert torch.equal(Committee.load(tmp_path / "old")(*molecules).members, expected)
    assert len([file for file in (tmp_path / "old").rglob("*") if file.is_file()]) == 3


def test_smaller_committee_does_not_mix_with_a_larger_one(alike: Committee, tmp_path: Path) -> None:
    alike.save(tmp_path / "old")
    with pytest.raises(ValueError, match="already holds member_2, which this committee of 2 does not have; remove"):
        Committee(list(alike)[:2]).save(tmp_path / "old")


def test_what_cannot_be_read(make_model: MakeModel, tmp_path: Path) -> None:
    save(make_model(), tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="one.safetensors is one model; pass the folder of a committee or a list"):
        Committee.load(tmp_path / "one.safetensors")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"no member_0/model.safetensors in {folder}; pass the folder"):
            Committee.load(folder)
    with pytest.raises(FileNotFoundError, match="there is no model file missing.safetensors"):
        Committee.load([tmp_path / "one.safetensors", "missing.safetensors"])
    with pytest.raises(ValueError, match="needs at least 2 members to have a spread, got 1"):
        Committee.load([tmp_path / "one.safetensors"])
    Committee([make_model(), make_model()]).save(tmp_path)
    (tmp_path / "member_2").mkdir()
    with pytest.raises(FileNotFoundError, match="member_2 has no model.safetensors; finish this member or pass a list"):
        Committee.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere to make deep in; create it first"):
        Committee([make_model(), make_model()]).save(tmp_path / "nowhere" / "deep")
    assert load(tmp_path / "member_1" / "model.safetensors").config["cutoff"] == 5.0


# --- refused ---


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"out_channels": 2}, "the same number of targets, got 1 in member 0 and 2 in member 1; leave one of them out"),
        ({"readout": "mean"}, "the same readout, got add in member 0 and mean in member 1"),
        ({"readout": "max"}, "the same readout, got add in member 0 and max in member 1"),
    ],
    ids=["targets", "mean", "max"],
)
def test_members_must_be_alike(second: dict[str, Any], message: str, make_model: MakeModel) -> None:
    assert len(Committee([make_model(), make_model(readout="sum")])) == 2
    with pytest.raises(ValueError, match=message):
        Committee([make_model(), make_model(**second)])


def test_units_and_dtypes_must_be_alike(make_model: MakeModel) -> None:
    known = make_model()
    known.units = {"energy": "eV"}
    with pytest.raises(ValueError, match="the same units, got {'energy': 'eV'} in member 0 and {} in member 2"):
        Committee([known, known, make_model()])
    with pytest.raises(ValueError, match="the same dtype, got torch.float64 in member 0 and torch.float32 in member 1"):
        Committee([make_model(), make_model().float()])
    with pytest.raises(ValueError, match="the same device, got cpu in member 0 and meta in member 1"):
        Committee([make_model(), make_model().to("meta")])


def test_what_is_no_committee(make_model: MakeModel, molecules: Any) -> None:
    for single in ([], [make_model()]):
        with pytest.raises(ValueError, match=f"needs at least 2 members to have a spread, got {len(single)}"):
            Committee(single)
    for wrong, name in ((make_model(), "SchNet"), ("models", "str"), (3, "int")):
        with pytest.raises(TypeError, match=f"`members` must be a list of at least two models, got {name}"):
            Committee(wrong)
    with pytest.raises(TypeError, match="member 1 must be an AtomisticModel, for example a SchNet, got Potential"):
        Committee([make_model(), Potential(make_model())])
    with pytest.raises(TypeError, match="`model` must be a Committee, got SchNet; pass one model to Potential"):
        CommitteePotential(make_model())
    with pytest.raises(ValueError, match="must predict one energy per structure, got one with 2 targets"):
        CommitteePotential(Committee([make_model(out_channels=2), make_model(out_channels=2)]))
    potential = CommitteePotential(Committee([make_model(), make_model(cutoff=3.0)]))
    with pytest.raises(ValueError, match="needs a cell, expected `cell`"):
        potential(*molecules, stress=True)
    with pytest.raises(TypeError, match="`pos` is torch.float32, the model torch.float64"):
        potential(molecules.z, molecules.pos.float(), molecules.batch)
    with pytest.raises(TypeError, match="pass either a Data object alone or tensors"):
        potential(molecules.data()[0], molecules.pos)
