"""Steps of fixed shape: the results of the ordinary potential, step after step, and a search exactly when it is due."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet
from pyg_schnet.fast.padding import ghosts_for, room_for
from pyg_schnet.graph import hidden_values
from pyg_schnet.models import DTNN, EnnS2S
from pyg_schnet.simulation import RecordedPotential
from pyg_schnet.simulation.recorded import results_of_step
from pyg_schnet.simulation.recorded_pairs import (
    MovingAtoms,
    SkinPairs,
    empty_pairs,
    fill_pairs,
    is_stale,
    moving_atoms,
    places_for,
    search_pairs,
)

MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"cutoff_function": None},
    "cosine": {"cutoff_function": "cosine"},
    "mollifier": {"cutoff_function": "mollifier"},
    "polynomial": {"cutoff_function": "polynomial"},
    "counted neighbours": {"cutoff_function": None, "normalization": "mean"},
    "smoothly counted neighbours": {"normalization": "smooth"},
    "mean, references": {"readout": "mean", "mean": -3.0, "std": 2.0, "cutoff_function": None},
    "automatic tables, shared, Bessel": {"filters": "auto", "shared_interactions": True, "basis": "bessel"},
    "repulsion": {"repulsion": "zbl"},
}
LIMIT = {torch.float64: 1e-12, torch.float32: 2e-5}  # relative to the largest; sums come in another order


def same(out: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert out.keys() == expected.keys()
    for name, ours in expected.items():
        value = ours.detach()  # of models in training mode
        assert out[name].dtype == value.dtype
        assert out[name].shape == value.shape
        limit = LIMIT[expected["forces"].dtype]
        torch.testing.assert_close(out[name], value, rtol=0, atol=limit * float(value.abs().max()) + 1e-300)


def atoms(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Two clouds of atoms with an empty structure between them."""
    z, pos = torch.tensor([1, 6, 7, 8]).repeat(4)[:15], torch.rand(15, 3, dtype=dtype)
    return z, 4.5 * pos, torch.tensor([0] * 8 + [2] * 7)


def crystal(dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A small skewed cell, a slab whose third vector is no number, and a molecule; atoms see images of themselves."""
    cell = torch.tensor([[3.0, 0, 0], [0.7, 3.2, 0], [0.3, -0.5, 3.6]], dtype=dtype).repeat(3, 1, 1)
    pbc = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    pos = torch.tensor([[0.0, 0, 0], [1.5, 1.2, 1.4], [0.2, 1.9, 2.5]], dtype=dtype).repeat(3, 1)
    return torch.tensor([3, 8, 8]).repeat(3), pos, {"cell": cell, "pbc": pbc}


def kept(
    z: Tensor, pos: Tensor, batch: Tensor, reach: float, cell: Tensor | None = None, pbc: Tensor | None = None
) -> tuple[MovingAtoms, SkinPairs]:
    """What a recording keeps of structures: atoms with ghosts, and their pairs with empty places."""
    count = int(batch.max()) + 1
    index, shift = search_pairs(pos, batch, count, cell, pbc, reach)
    places = places_for(index.size(1))
    moving = moving_atoms(z, batch, count, pos, cell, pbc, 2 * ghosts_for(places), 3.0)
    pairs = empty_pairs(moving, len(pos), places)
    fill_pairs(pairs, moving, index, shift)
    return moving, pairs


@pytest.mark.parametrize("frozen", [False, True], ids=["exact", "frozen"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_random_walk_of_several_molecules(
    make_model: MakeModel, variant: str, dtype: torch.dtype, frozen: bool
) -> None:
    model = make_model(cutoff=3.0, **VARIANTS[variant]).to(dtype).eval()
    if frozen:
        model.freeze()
    z, pos, batch = atoms(dtype)
    recorded, potential = RecordedPotential(model, z, batch, skin=0.6, virials=True), Potential(model, virials=True)
    for _ in range(200):
        pos = pos + 0.03 * torch.randn(pos.shape, dtype=dtype)
        same(recorded(pos), potential(z, pos, batch))
    assert 5 < recorded.rebuilds < 60


@pytest.mark.parametrize("variant", ["none", "cosine", "counted neighbours"])
@pytest.mark.parametrize("frozen", [False, True], ids=["exact", "frozen"])
def test_crystals_whose_cells_change(make_model: MakeModel, variant: str, frozen: bool) -> None:
    model = make_model(cutoff=3.1, **VARIANTS[variant])
    if frozen:
        model.freeze()
    z, pos, periodic = crystal(torch.float64)
    batch, cell = torch.arange(3).repeat_interleave(3), periodic["cell"]
    recorded = RecordedPotential(model, z, batch, **periodic, stress=True, virials=True)
    potential = Potential(model, stress=True, virials=True)
    for step in range(60):
        pos = pos + 0.02 * torch.randn(9, 3, dtype=torch.float64)
        changes = step % 4 == 0
        if changes:
            cell = cell + 0.02 * torch.randn(3, 3, 3, dtype=torch.float64)
        same(recorded(pos, cell if changes else None), potential(z, pos, batch, cell=cell, pbc=periodic["pbc"]))
    assert 3 < recorded.rebuilds < 15


@given(st.integers(0, 10**6), st.floats(0.0, 0.06), st.floats(0.0, 0.3))
def test_strained_cells_are_searched_when_it_is_due(seed: int, strain: float, step: float) -> None:
    """No pair is missing; atoms that follow the strain of their cell have not moved."""
    generator = torch.Generator().manual_seed(seed)
    z, pos, periodic = crystal(torch.float64)
    batch, cell, pbc = torch.arange(3).repeat_interleave(3), periodic["cell"], periodic["pbc"]
    model = SchNet(4, 3, 1, 5, cutoff=2.5, cutoff_function=None).double()
    recorded = RecordedPotential(model, z, batch, **periodic, skin=0.5)
    recorded(pos)
    random = torch.rand(3, 3, dtype=torch.float64, generator=generator)
    change = torch.eye(3).repeat(3, 1, 1).double()
    change[0] += strain / 3 * (2 * random - 1)  # of the first structure; its norm is at most the parameter
    u = torch.nn.functional.normalize(torch.randn(9, 3, dtype=torch.float64, generator=generator)) * step
    pos, cell = (pos.unsqueeze(1) @ change[batch]).squeeze(1) + u, cell @ change
    same(recorded(pos, cell), Potential(model)(z, pos, batch, cell=cell, pbc=pbc))
    if 2 * step + 3.0 * strain < 0.499:
        assert recorded.rebuilds == 1
    if step > 0.2501:
        assert recorded.rebuilds == 2


def test_a_crystal_that_is_strained_as_a_whole(make_model: MakeModel) -> None:
    """Distant atoms move by far more than the skin; what counts is how much closer images may have come."""
    z, pos, periodic = crystal(torch.float64)
    first = {name: value[:1] for name, value in periodic.items()}
    pos = pos[:3] + 5 * first["cell"][0, 0]
    recorded, rebuilds = RecordedPotential(make_model(cutoff=3.0), z[:3], **first, skin=0.5), []
    for scale in (1.0, 1.02, 0.98, 1.05, 1.1, 1.0):  # 3.5 Angstrom times the norm: 0.3 for 5 %, 0.6 for 10 %
        out = recorded(scale * pos, scale * first["cell"])
        same(out, Potential(recorded.model)(z[:3], scale * pos, cell=scale * first["cell"], pbc=first["pbc"]))
        rebuilds.append(recorded.rebuilds)
    assert rebuilds == [1, 1, 1, 1, 2, 3]


def test_open_axes_may_have_no_vector(make_model: MakeModel) -> None:
    """NaN along the open axis of a slab, also when it changes, plays no role."""
    z, pos, periodic = crystal(torch.float64)
    cell, pbc = periodic["cell"][1:2].clone(), periodic["pbc"][1:2]
    cell[0, 2] = torch.nan
    recorded = RecordedPotential(make_model(cutoff=3.1), z[:3], cell=cell, pbc=pbc)
    for step in range(3):
        same(recorded(pos[:3] + 0.01 * step, cell), Potential(recorded.model)(z[:3], pos[:3], cell=cell, pbc=pbc))
    assert recorded.rebuilds == 1


def test_tables_are_those_of_all_distances(make_model: MakeModel) -> None:
    """Not those of a batch, at which nobody may look; both are as exact as their spacing makes them."""
    model = make_model(filters="table")
    z, pos, batch = atoms(torch.float64)
    out, table, exact = RecordedPotential(model, z, batch)(pos), *(Potential(model) for _ in range(2))
    expected = table(z, pos, batch)
    model.filters = "exact"
    network = exact(z, pos, batch)
    for name, value in network.items():
        scale = value.abs().max()
        assert (out[name] - value).abs().max() < 1e-4 * scale
        assert (out[name] - expected[name]).abs().max() < 1e-4 * scale
        assert (out[name] - value).abs().max() > 1e-12 * scale


@pytest.mark.parametrize("kind", [DTNN, SchNet])
def test_other_models_and_readouts(scramble: Callable[[nn.Module], nn.Module], kind: Any) -> None:
    options = {} if kind is DTNN else {"readout": "set2set", "num_filters": 4, "num_interactions": 1}
    model: Any = scramble(kind(hidden_channels=8, cutoff=3.0, **options).double())
    z, pos, batch = atoms(torch.float64)
    recorded = RecordedPotential(Potential(model), z, batch)
    for step in range(4):
        same(recorded(pos * (1 + 0.05 * step)), Potential(model)(z, pos * (1 + 0.05 * step), batch))


def displacements() -> Any:
    number = st.floats(-0.4, 0.4)
    return st.lists(st.tuples(number, number, number), min_size=4, max_size=4)


@given(st.lists(displacements(), min_size=1, max_size=5), st.sampled_from([0.0, 0.3, 0.7]))
def test_search_exactly_when_it_is_due(walk: list[Any], skin: float) -> None:
    """An atom farther than half the skin from where it was at the last search, and nothing else."""
    torch.manual_seed(0)
    model = SchNet(4, 3, 1, 5, cutoff=2.0, cutoff_function=None).double()
    start = torch.tensor([[0.0, 0, 0], [1.9, 0, 0], [0, 2.6, 0], [1.5, 1.5, 1.5]], dtype=torch.float64)
    z = torch.tensor([1, 6, 7, 8])
    recorded, reference, searches = RecordedPotential(model, z, skin=skin), None, 0
    for displacement in walk:
        pos = start + torch.tensor(displacement, dtype=torch.float64)
        if reference is None or bool((2 * (pos - reference).norm(dim=1) > skin).any()):
            reference, searches = pos, searches + 1
        same(recorded(pos), Potential(model)(z, pos))
        assert recorded.rebuilds == searches


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_cutoff_to_the_last_bit(make_model: MakeModel, dtype: torch.dtype) -> None:
    """A pair at the cutoff has no influence, not even on numbers of neighbours; one just below it has."""
    model = make_model(cutoff=3.0, cutoff_function=None, normalization="mean").to(dtype)
    z, at = torch.tensor([1, 6, 8]), torch.tensor(3.0, dtype=dtype)
    recorded, potential, energies = RecordedPotential(model, z), Potential(model), []
    for distance in (at, torch.nextafter(at, at - 1), torch.nextafter(at, at + 1)):
        pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, float(distance)]], dtype=dtype)
        out = recorded(pos)
        same(out, potential(z, pos))
        energies.append(float(out["energy"]))
    assert recorded.rebuilds == 1
    assert energies[0] == energies[2]
    assert abs(energies[1] - energies[0]) > 1e-3


def test_wrapped_atoms_count_as_moved(make_model: MakeModel) -> None:
    z, pos, periodic = crystal(torch.float64)
    first = {name: value[:1] for name, value in periodic.items()}
    recorded, potential = RecordedPotential(make_model(cutoff=3.0), z[:3], **first), None
    potential = Potential(recorded.model)
    recorded(pos[:3])
    wrapped = pos[:3] + torch.tensor([[0.0], [1.0], [0.0]]) * first["cell"][0, 1]
    same(recorded(wrapped), potential(z[:3], wrapped, **first))
    assert recorded.rebuilds == 2


def test_places_grow_and_stay(make_model: MakeModel) -> None:
    """More pairs than places: more places, another recording; fewer pairs keep them."""
    model = make_model(cutoff=2.0)
    grid = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)
    z = torch.ones(27, dtype=torch.long)
    recorded, places = RecordedPotential(model, z, skin=0.2), []
    for spacing in (3.0, 1.8, 1.0, 2.5):
        same(recorded(spacing * grid), Potential(model)(z, spacing * grid))
        places.append(recorded.places)
    assert places[0] == 8
    assert places[0] < places[1] < places[2] == places[3]
    assert (recorded.rebuilds, recorded.recordings) == (4, 3)


def test_recordings_of_more_places(make_model: MakeModel, stage: Any) -> None:
    grid = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)
    z = torch.ones(27, dtype=torch.long)
    recorded = RecordedPotential(make_model(cutoff=2.0), z, skin=0.2)
    for spacing in (3.0, 1.8, 1.0, 2.5, 1.8):
        for step in range(5):
            pos = spacing * grid + 0.01 * step
            same(recorded(pos), Potential(recorded.model)(z, pos))
    assert recorded.rebuilds == 5
    assert len(stage.tapes) == recorded.recordings == 3
    assert stage.tapes[-1].played >= 12


def test_empty_places_have_no_effect_whatever_is_in_them(make_model: MakeModel) -> None:
    model = make_model(cutoff=3.0, cutoff_function=None, normalization="mean")
    z, pos, batch = atoms(torch.float64)
    expected = RecordedPotential(model, z, batch, virials=True)(pos)
    moving, pairs = kept(z, pos, batch, 3.5)
    empty = ~pairs.there
    assert empty.any()
    moving.pos[15:] = torch.nan
    moving.z[15:] = 99
    distance = torch.cdist(pos[:8], pos[:8]) + 9.0 * torch.eye(8)
    assert distance.min() < 3.0
    atom, neighbor = divmod(int(distance.argmin()), 8)
    for poison in (atom, neighbor):  # a pair of an atom with itself, and one within the cutoff
        pairs.pair_index[:, empty] = torch.tensor([[poison], [atom]])
        pairs.pair_shift[empty] = torch.iinfo(torch.long).max
        out, numbers = results_of_step(model, moving, pairs, 3, 0.5, stress=False, virials=True)
        assert not is_stale(*numbers[:2].tolist(), 0.5)
        for name, value in expected.items():
            assert torch.equal(out[name], value)


def test_many_empty_places_stay_finite() -> None:
    """Without a cutoff function ghosts see each other; too many at one of them would overflow, block after block."""
    model = SchNet(8, 8, 6, 10, cutoff=2.0, cutoff_function=None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    z, pos = torch.ones(400, dtype=torch.long), torch.rand(400, 3) * 8
    recorded = RecordedPotential(model, z)
    recorded(pos)
    spread = 100 * pos  # thousands of places, all empty
    out = recorded(spread)
    assert recorded.places > 4000
    same(out, Potential(model)(z, spread))


def test_results_are_the_callers_own(make_model: MakeModel) -> None:
    """And so are arguments: what is done to them afterwards plays no role."""
    model = make_model()
    z, pos, periodic = crystal(torch.float64)
    batch, cell = torch.arange(3).repeat_interleave(3), periodic["cell"].clone()
    recorded = RecordedPotential(model, z, batch, cell, periodic["pbc"])
    with torch.inference_mode():
        first = recorded(pos)
    kept = {name: value.clone() for name, value in first.items()}
    z.fill_(1), cell.zero_(), batch.zero_()
    second = recorded(pos.clone().requires_grad_())
    same(second, kept)
    same(first, kept)
    assert not any(value.requires_grad for value in second.values())
    recorded.reset()
    assert recorded.places == 0
    same(recorded(pos), kept)


def test_a_copy_has_tensors_of_its_own(make_model: MakeModel) -> None:
    z, pos, batch = atoms(torch.float64)
    recorded = RecordedPotential(make_model(cutoff=3.0), z, batch)
    recorded(pos)
    copied = copy.deepcopy(recorded)
    same(copied(0.98 * pos), Potential(recorded.model)(z, 0.98 * pos, batch))
    same(recorded(pos), Potential(recorded.model)(z, pos, batch))
    assert copied.model is not recorded.model


def test_new_weights_are_seen(make_model: MakeModel, scramble: Callable[[nn.Module], nn.Module]) -> None:
    model = make_model()
    z, pos, batch = atoms(torch.float64)
    recorded = RecordedPotential(model, z, batch)
    for change in (scramble, lambda model: model.freeze(), lambda model: model.unfreeze(), scramble):
        recorded(pos)
        change(model)
        same(recorded(pos), Potential(model)(z, pos, batch))


def test_recorded_steps(make_model: MakeModel, stage: Any, scramble: Callable[[nn.Module], nn.Module]) -> None:
    """Three steps, a recording, replays; searches and new weights keep the recording, new layers do not."""
    model = make_model(cutoff=3.0, cutoff_function=None)
    z, pos, batch = atoms(torch.float64)
    recorded, potential = RecordedPotential(model, z, batch), Potential(model)
    for step in range(30):
        pos = pos + 0.03 * torch.randn(pos.shape, dtype=torch.float64)
        if step == 15:
            scramble(model)
        same(recorded(pos), potential(z, pos, batch))
    assert recorded.rebuilds > 3
    assert len(stage.tapes) == recorded.recordings == 1
    assert stage.tapes[0].constants == 0
    model.interactions[0] = make_model().interactions[1]
    for _ in range(5):
        same(recorded(pos), potential(z, pos, batch))
    assert len(stage.tapes) == recorded.recordings == 2


@pytest.mark.parametrize("variant", ["tables", "frozen", "crystal", "counted", "DTNN"])
def test_recorded_steps_of_other_models(make_model: MakeModel, stage: Any, variant: str) -> None:
    options = {"tables": {"filters": "table"}, "counted": {"normalization": "mean", "cutoff_function": None}}
    model: Any = make_model(cutoff=3.0, **options.get(variant, {}))
    if variant == "frozen":
        model.freeze()
    elif variant == "DTNN":
        model = DTNN(8, cutoff=3.0).double()
    z, pos, periodic = crystal(torch.float64)
    periodic = periodic if variant == "crystal" else {}
    batch = torch.arange(3).repeat_interleave(3)
    arguments: dict[str, Any] = {"stress": bool(periodic), "virials": True}
    recorded = RecordedPotential(model, z, batch, **periodic, **arguments)
    plain = RecordedPotential(model, z, batch, **periodic, **arguments)
    for step in range(12):
        pos = pos + 0.03 * torch.randn(pos.shape, dtype=torch.float64)
        if step == 6 and periodic:
            periodic["cell"] = periodic["cell"] * 1.01
        out = recorded(pos, periodic.get("cell"))
        plain.reset()  # never recorded
        same(out, plain(pos, periodic.get("cell")))
        if variant != "tables":
            same(out, Potential(model, **arguments)(z, pos, batch, **periodic))
    assert len(stage.tapes) == 1
    assert stage.tapes[0].played > 8
    assert stage.tapes[0].constants == 0 or variant in {"tables", "frozen"}  # there by plain twins, on a GPU by kernels


def without_values(value: Any) -> Any:
    """Tensors, and named tuples of them, on a device without values."""
    return value.to("meta") if isinstance(value, Tensor) else type(value)(*map(without_values, value))


@pytest.mark.parametrize(
    "model", [SchNet(8, 8, 2, 10, cutoff=3.0, filters="table"), DTNN(8, cutoff=3.0)], ids=["SchNet", "DTNN"]
)
def test_everything_is_on_the_device_of_the_model(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one without values, where nobody can look at them and no tensor of a CPU may take part."""
    z, pos, periodic = crystal(torch.float32)
    both = kept(z, pos, torch.arange(3).repeat_interleave(3), model.cutoff + 0.5, **periodic)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # does not know this device
    tensors = (without_values(part) for part in both)
    with hidden_values():
        out, _ = results_of_step(model.to("meta"), *tensors, batch_size=3, skin=0.5, stress=True, virials=True)
    assert {name: list(value.shape) for name, value in out.items()} == {
        "energy": [3],
        "forces": [9, 3],
        "virials": [9, 3, 3],
        "stress": [3, 3, 3],
    }
    assert all(value.is_meta for value in out.values())


def test_sizes_of_buckets() -> None:
    for number in range(3000):
        assert number <= room_for(number) <= max(8, 1.25 * number)
    assert len({room_for(number) for number in range(1024, 2048)}) <= 5
    assert [ghosts_for(places) for places in (1, 64, 65)] == [1, 1, 2]


Z, POS = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])
BOX = {"cell": 5 * torch.eye(3).unsqueeze(0), "pbc": torch.ones(1, 3, dtype=torch.bool)}
BAD_START: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"z": [8, 1]}, TypeError, "`z` must be a tensor of atomic numbers"),
    ({"z": Z.float()}, TypeError, "`z` must hold atomic numbers as int64"),
    ({"z": torch.tensor([8, 200])}, ValueError, "`z` must hold atomic numbers from 1 to 118"),
    ({"batch": torch.tensor([1, 0])}, ValueError, "`batch` must be sorted"),
    ({"cell": BOX["cell"]}, ValueError, "`pbc` is missing"),
    ({**BOX, "cell": 0 * BOX["cell"]}, ValueError, "span no volume"),
    ({"stress": True}, ValueError, "needs a cell"),
    ({"skin": -0.1}, ValueError, "`skin` must be finite and not negative, got -0.1"),
    ({"skin": "wide"}, TypeError, "`skin` must be a number in Angstrom, got str"),
    ({"model": nn.Linear(2, 2)}, TypeError, "`model` must be an AtomisticModel"),
    ({"model": EnnS2S()}, ValueError, "EnnS2S cannot be recorded: it looks at values"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_START)
def test_bad_structures(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        RecordedPotential(**({"model": SchNet(4, 4, 1, 5, cutoff=2.0), "z": Z} | arguments))


BAD_STEP: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    ((POS.tolist(),), TypeError, "`pos` must be a tensor"),
    ((POS[:1],), ValueError, r"`pos` must have shape \[2, 3\], a row for each atom of `z`, got \[1, 3\]"),
    ((POS.double(),), TypeError, "`pos` is torch.float64, the model torch.float32"),
    ((POS.to("meta"),), ValueError, "make a new RecordedPotential after moving the model"),
    ((POS * 0,), ValueError, "are at the same place"),
    ((POS + torch.nan,), ValueError, "`pos` must be finite"),
    ((POS, 2 * BOX["cell"][0]), ValueError, r"`cell` must have shape \[1, 3, 3\], got \[3, 3\]"),
    ((POS, BOX["cell"].double()), TypeError, "`cell` is torch.float64"),
    ((POS, 0 * BOX["cell"]), ValueError, "span no volume"),
    ((POS, torch.nan * BOX["cell"]), ValueError, "span no volume"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_STEP)
def test_bad_steps_and_a_good_one_afterwards(arguments: Any, kind: type[Exception], message: str) -> None:
    model = SchNet(4, 4, 1, 5, cutoff=2.0)
    recorded = RecordedPotential(model, Z, **BOX)
    for _ in range(2):  # before the first search and after it
        with pytest.raises(kind, match=message):
            recorded(*arguments)
        same(recorded(POS), Potential(model)(Z, POS, **BOX))


def test_no_cell_may_come_later() -> None:
    with pytest.raises(ValueError, match="`cell` must have none, as in the constructor"):
        RecordedPotential(SchNet(4, 4, 1, 5), Z)(POS, BOX["cell"])


def test_atoms_that_meet_between_two_searches(make_model: MakeModel) -> None:
    """Within the skin: no search is due, but the step sees it."""
    recorded = RecordedPotential(make_model(), Z, skin=3.0)
    recorded(POS.double())
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same place"):
        recorded(0 * POS.double())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("frozen", [False, True], ids=["exact", "frozen"])
@pytest.mark.parametrize("variant", ["none", "cosine", "counted neighbours"])
def test_on_a_gpu(make_model: MakeModel, variant: str, frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(cutoff=3.0, **VARIANTS[variant]).cuda()
    if frozen:
        model.freeze()
    z, pos, batch = (tensor.cuda() for tensor in atoms(torch.float64))
    recorded, potential = RecordedPotential(model, z, batch, virials=True), Potential(model, virials=True)
    played, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (played.append(graph), replay(graph)))
    for _ in range(100):
        pos = pos + 0.03 * torch.randn_like(pos)
        same(recorded(pos), potential(z, pos, batch))
    assert len(played) > 50
    assert recorded.rebuilds > 3
