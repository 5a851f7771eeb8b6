"""A structure turns as a whole: by our transform, and by PyG's."""

import copy

import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.datasets import MD17
from pyg_schnet.transforms import RadiusGraph, RandomRotate, whole
from pyg_schnet.transforms.random_rotate import uniform_rotation

LABELS = ("energy", "forces", "stress")


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(0)
    return Potential(SchNet(16, 16, 2, num_gaussians=20, cutoff=5.0, cutoff_function="mollifier").eval(), stress=True)


@pytest.fixture(scope="module")
def crystal(potential):
    """A strained crystal with the labels that the model has for it."""
    data = Data(
        z=torch.tensor([14, 8]),
        pos=torch.tensor([[0.0, 0, 0], [1.2, 1.4, 1.5]]),
        cell=torch.tensor([[[0, 2.7, 2.9], [2.6, 0, 2.7], [2.7, 3.0, 0]]]),
        pbc=torch.ones(1, 3, dtype=torch.bool),
        charges=torch.tensor([0.5, -0.5]),
        dipole=torch.tensor([[1.0, 2.0, 3.0]]),
        virials=torch.randn(2, 3, 3),
        name="quartz",
    )
    for key, value in potential(data).items():
        data[key] = value.detach()
    return data


def _labels_are_those_of_the_structure(potential, data):
    out = potential(data)
    for key in LABELS:
        torch.testing.assert_close(data[key].to(out[key]), out[key].detach(), rtol=1e-4, atol=1e-5)


OURS = {
    "uniform": RandomRotate(),
    "degrees": RandomRotate(90, axis=1),
    "one angle": RandomRotate((45, 45), axis=2),
}
PYGS = {
    "rotate": T.RandomRotate((30, 60), axis=2),
    "rotate 0": T.RandomRotate(180, axis=0),
    "linear": T.LinearTransformation(uniform_rotation().float()),
    "mirror": T.LinearTransformation(torch.diag(torch.tensor([1.0, -1.0, 1.0]))),
    "flip": T.RandomFlip(1, p=1.0),
    "composed": T.Compose([T.RandomFlip(0, p=1.0), T.RandomRotate((20, 20), axis=1)]),
}


@pytest.mark.parametrize("transform", [*OURS.values(), *PYGS.values()], ids=[*OURS, *PYGS])
def test_energy_stays_and_labels_turn(potential, crystal, transform):
    torch.manual_seed(1)
    before = copy.deepcopy(crystal)
    turned = transform(crystal)
    assert not torch.allclose(turned.pos, crystal.pos, atol=1e-3)
    _labels_are_those_of_the_structure(potential, turned)
    assert torch.equal(turned.charges, crystal.charges)
    assert turned.name == "quartz"
    assert torch.allclose(turned.dipole.norm(), crystal.dipole.norm())
    assert not torch.allclose(turned.dipole, crystal.dipole, atol=1e-3)
    # invariants of a tensor under rotation
    assert torch.allclose(torch.linalg.det(turned.virials), torch.linalg.det(crystal.virials), atol=1e-5)
    assert not torch.allclose(turned.virials, crystal.virials, atol=1e-3)
    for key in crystal.to_dict():
        assert before[key] == crystal[key] if key == "name" else torch.equal(before[key], crystal[key])


def test_a_graph_stays_valid(potential, crystal):
    graph = RadiusGraph(5.0)(crystal)
    turned = RandomRotate()(graph)
    assert torch.allclose(potential(turned)["energy"], potential(crystal)["energy"], atol=1e-5)


def test_batches_of_three_turn_alike(potential, crystal):
    """Numbers of three structures are no vector."""
    batch = RandomRotate()(Batch.from_data_list([crystal] * 3))
    assert torch.equal(batch.energy, crystal.energy.expand(3))
    for data in batch.to_data_list():
        _labels_are_those_of_the_structure(potential, data)


def test_angle_and_axis_are_those_of_pyg(crystal):
    for axis in range(3):
        ours = RandomRotate((50, 50), axis=axis)(crystal)
        pygs = T.RandomRotate((50, 50), axis=axis)(Data(pos=crystal.pos))
        assert torch.allclose(ours.pos, pygs.pos, atol=1e-6)


def test_orientations_are_uniform():
    torch.manual_seed(0)
    matrices = torch.stack([uniform_rotation() for _ in range(4000)])
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(4000).double())
    # of a uniform rotation every element has mean 0 and mean square 1/3, the trace has mean square 1
    assert matrices.mean(dim=0).abs().max() < 4 * (1 / 3 / 4000) ** 0.5
    assert (matrices.square().mean(dim=0) - 1 / 3).abs().max() < 0.03
    trace = matrices.diagonal(dim1=1, dim2=2).sum(dim=1)
    assert abs(float(trace.mean())) < 0.08
    assert abs(float(trace.square().mean()) - 1) < 0.12


def test_seed_gives_the_rotation(crystal):
    turned = []
    for _ in range(2):
        torch.manual_seed(5)
        turned.append(RandomRotate()(crystal).pos)
    assert torch.equal(*turned)
    assert not torch.equal(RandomRotate()(crystal).pos, turned[0])


def test_further_keys_are_named_not_guessed(crystal):
    data = copy.copy(crystal)
    data.spins, data.gradient = torch.eye(3)[:2], torch.eye(3)[None]
    for transform in (RandomRotate(), T.RandomRotate(90)):
        with pytest.raises(
            ValueError, match=r"`(spins|gradient)` .* may be vectors .* `vectors`, `tensors` or `unchanged`"
        ):
            transform(data)
    turned = RandomRotate(vectors=["spins"], tensors=["gradient"])(data)
    assert torch.allclose(turned.gradient, torch.eye(3), atol=1e-6)
    assert not torch.allclose(turned.spins, data.spins, atol=1e-3)
    assert torch.equal(RandomRotate(unchanged=["spins", "gradient"])(data).spins, data.spins)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": ["energy"]}, r"`energy` must have shape \[..., 3\]"),
        ({"tensors": ["charges"]}, r"`charges` must have shape \[..., 3, 3\]"),
        ({"axis": 3}, "`axis` must be 0, 1 or 2, got 3"),
        ({"degrees": float("nan")}, "`degrees` must be a number"),
    ],
    ids=range(4),
)
def test_bad_options(crystal, options, message):
    with pytest.raises(ValueError, match=message):
        RandomRotate(**options)(crystal)


def test_stress_in_six_numbers_is_refused(crystal):
    data = copy.copy(crystal)
    data.stress = torch.zeros(1, 6)
    for transform in (RandomRotate(), T.RandomRotate(90), T.RandomFlip(0, p=1.0)):
        with pytest.raises(
            ValueError, match=r"`stress` must have shape \[..., 3, 3\] to turn with the structure, got \[1, 6\]"
        ):
            transform(data)


TEARING = {
    "scale": T.RandomScale((0.8, 1.2)),
    "shear": T.RandomShear(0.2),
    "jitter": T.RandomJitter(0.1),
    "normalise": T.NormalizeScale(),
    "axes": T.NormalizeRotation(),
    "stretch": T.LinearTransformation(torch.diag(torch.tensor([2.0, 1.0, 1.0]))),
}


@pytest.mark.parametrize("key", ["forces", "cell", "stress"])
@pytest.mark.parametrize("kind", TEARING)
def test_what_would_tear_a_structure_says_so(crystal, kind, key):
    data = Data(z=crystal.z, pos=crystal.pos, **{key: crystal[key]})
    if (kind, key) == ("jitter", "cell"):  # atoms of a crystal may be displaced
        assert not torch.equal(TEARING[kind](data).pos, data.pos)
        return
    with pytest.raises(ValueError, match="positions alone, .* would not fit .* pyg_schnet.transforms.RandomRotate"):
        TEARING[kind](data)
    with pytest.raises(ValueError, match="positions alone"):
        T.Compose([T.Center(), TEARING[kind]])(data)


@pytest.mark.parametrize("kind", [*TEARING, *PYGS])
def test_all_else_is_as_pyg_has_it(crystal, kind):
    transform = {**TEARING, **PYGS}[kind]
    for keys in ("pos",), ("z", "pos", "energy"), ("pos", "forces", "cell"):
        data = Data(**{key: crystal[key] for key in keys})
        moved = transform(data)
        assert not torch.allclose(moved.pos, data.pos, atol=1e-3)
        for key in set(keys) - {"pos"}:
            assert torch.equal(moved[key], data[key])


def test_a_flip_that_does_not_happen_changes_nothing(crystal):
    same = T.RandomFlip(0, p=0.0)(crystal)
    assert torch.equal(same.forces, crystal.forces)
    assert torch.equal(same.pos, crystal.pos)


def test_as_transform_of_a_dataset(tmp_path):
    dataset = MD17(tmp_path, "ethanol_xtb", transform=T.RandomRotate((90, 90), axis=2), log=False)
    plain = MD17(tmp_path, "ethanol_xtb", log=False)
    turned = T.LinearTransformation(torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]))(plain[3])
    other = T.LinearTransformation(torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))(plain[3])
    assert any(torch.allclose(dataset[3].forces, one.forces, atol=1e-5) for one in (turned, other))
    assert torch.equal(plain[3].pos, MD17(tmp_path, "ethanol_xtb", log=False)[3].pos)


def test_it_is_put_into_pyg_once():
    forward = T.RandomFlip.forward
    whole.install()
    assert T.RandomFlip.forward is forward
    assert not hasattr(forward.__wrapped__, "keeps_whole")


@pytest.mark.parametrize("transform", [T.ToUndirected(), T.RemoveDuplicatedEdges()], ids=str)
def test_edges_to_different_images_are_not_merged(crystal, transform):
    """There are several edges between the same two atoms, whose shifts would be added."""
    graph = RadiusGraph(5.0)(crystal)
    assert graph.edge_index.unique(dim=1).size(1) < graph.edge_index.size(1)
    with pytest.raises(ValueError, match="merges edges of the same two atoms, which lead to different images"):
        transform(graph)
    molecule = RadiusGraph(5.0)(Data(z=crystal.z, pos=crystal.pos))
    assert transform(molecule).edge_index.size(1) == molecule.edge_index.size(1)
