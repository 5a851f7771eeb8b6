"""The fast loader gives the batches of PyG's DataLoader, to the last bit."""

import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import BatchSampler, SequentialSampler, Subset
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import MD17, StructureLoader
from pyg_schnet.transforms import RadiusGraph


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


class Bonds(Data):
    """A structure with a rule of its own for a key of its own."""

    def __inc__(self, key, value, *rest):
        return self.num_nodes if key == "bonds" else super().__inc__(key, value, *rest)

    def __cat_dim__(self, key, value, *rest):
        return -1 if key == "bonds" else super().__cat_dim__(key, value, *rest)


class InMemory(InMemoryDataset):
    """A list of structures as a PyG dataset."""

    def __init__(self, structures, transform=None):
        super().__init__(None, transform)
        self.data, self.slices = self.collate(structures)


def structure(atoms, seed, **more):
    generator = torch.Generator().manual_seed(seed)
    pos = 2 * torch.randn(atoms, 3, generator=generator)
    return Data(z=torch.randint(1, 9, (atoms,), generator=generator), pos=pos, energy=torch.randn(1).double(), **more)


def molecules():
    return [structure(atoms, seed) for seed, atoms in enumerate([3, 5, 1, 8, 2, 5, 4, 3, 7, 1])]


def crystals():
    cells = [4.0 * torch.eye(3) + torch.rand(3, 3) for _ in range(6)]
    pbc = torch.tensor([[True, True, False]])
    return [
        structure(1 + n % 3, n, cell=cell[None], pbc=pbc, stress=torch.rand(1, 3, 3)) for n, cell in enumerate(cells)
    ]


def with_edges(structures):
    return [RadiusGraph(3.0)(one) for one in structures]


def with_empty():
    return [structure(0, 0), *molecules()[:3], structure(0, 1), structure(2, 2)]


def with_everything():
    """Scalars of Python, names, vectors of a structure, pairs of atoms, triples (faces), a stored number of nodes."""
    made = []
    for n, one in enumerate(molecules()):
        atoms = len(one.z)
        one.name, one.count, one.weight, one.dipole = f"molecule {n}", n, 0.5 * n, torch.rand(1, 3)
        one.pair_index = torch.randint(atoms, (2, n)).int()
        one.face = torch.randint(atoms, (3, 2))
        one.root_index = torch.tensor([atoms - 1])
        one.num_nodes = atoms
        made.append(one)
    return made


def without_positions():
    """Nodes are known by a key with "node" only."""
    return [Data(node_charge=torch.rand(n), pair_index=torch.zeros(2, 3, dtype=torch.long)) for n in (2, 4, 3)]


def without_nodes():
    return [Data(energy=torch.rand(1), charges=torch.rand(n)) for n in (2, 4, 3)]


def missing_names():
    return [Data(pos=torch.rand(2, 3), name=name) for name in ("a", "b", "")]


def equal_sizes():
    return [structure(4, seed, edge_index=torch.randint(4, (2, 6))) for seed in range(7)]


MIXTURES = {
    "molecules": molecules,
    "crystals": crystals,
    "molecules with edges": lambda: with_edges(molecules()),
    "crystals with edges": lambda: with_edges(crystals()),
    "empty structures": with_empty,
    "only empty": lambda: [structure(0, seed) for seed in range(4)],
    "everything": with_everything,
    "without positions": without_positions,
    "without nodes": without_nodes,
    "names": missing_names,
    "equal sizes": equal_sizes,
}
#: These need an object for each structure.
SLOW = {
    "hetero": [HeteroData(atom={"x": torch.rand(n, 2)}) for n in (2, 3)],
    "single": [structure(3, 0)],
    "guessed": [Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num=n) for n in (1, 2)],
    "dictionaries": [Data(pos=torch.rand(n, 3), extra={"a": torch.rand(n)}) for n in (1, 2)],
    "lists": [Data(pos=torch.rand(n, 3), extra=[torch.rand(n), torch.rand(2)]) for n in (1, 2)],
    "raised bool": [Data(pos=torch.rand(n, 3), index_mask=torch.ones(n, dtype=torch.bool)) for n in (1, 2)],
    "rules of its own": [Bonds(pos=torch.rand(n, 3), bonds=torch.arange(n).expand(2, n)) for n in (1, 2, 3)],
    "batches": [Data(pos=torch.rand(n, 3), my_batch=torch.arange(n)) for n in (1, 2)],
}


def assert_same(ours, pygs):
    """Everything of two values is equal: keys and their order, dtypes, shapes, bits."""
    assert type(ours) is type(pygs)
    if isinstance(pygs, torch.Tensor):
        assert (ours.dtype, ours.shape) == (pygs.dtype, pygs.shape)
        assert torch.equal(ours, pygs)
    elif isinstance(pygs, dict):
        assert list(ours) == list(pygs)
        for key in pygs:
            assert_same(ours[key], pygs[key])
    elif isinstance(pygs, list):
        assert len(ours) == len(pygs)
        for one, other in zip(ours, pygs, strict=True):
            assert_same(one, other)
    else:
        assert ours == pygs


def assert_same_batch(ours, pygs):
    assert isinstance(ours, Batch)
    assert_same(ours.to_dict(), pygs.to_dict())
    assert ours.num_graphs == pygs.num_graphs
    assert ours.num_nodes == pygs.num_nodes
    for key in ("_slice_dict", "_inc_dict"):
        assert_same(getattr(ours, key), getattr(pygs, key))
    for one, other in zip(ours.to_data_list(), pygs.to_data_list(), strict=True):
        assert_same(one.to_dict(), other.to_dict())


def assert_same_batches(dataset, fast=True, **options):
    loader = StructureLoader(dataset, **options)
    assert (loader.why_slow is None) == fast, loader.why_slow
    torch.manual_seed(7)  # the orders of both are drawn from torch's generator
    ours = list(loader)
    torch.manual_seed(7)
    pygs = list(DataLoader(dataset, **options))
    assert len(ours) == len(pygs) == len(loader)
    for one, other in zip(ours, pygs, strict=True):
        assert_same_batch(one, other)


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"drop_last": True, "shuffle": True}], ids=str)
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.filterwarnings("ignore:Unable to accurately infer 'num_nodes'")
def test_mixtures(mixture, options):
    assert_same_batches(InMemory(MIXTURES[mixture]()), batch_size=3, **options)


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.filterwarnings("ignore:Unable to accurately infer 'num_nodes'")
def test_what_needs_objects(kind):
    assert_same_batches(InMemory(SLOW[kind]), fast=False, batch_size=2)


@pytest.mark.parametrize("mixture", ["crystals with edges", "everything", "equal sizes"])
@pytest.mark.parametrize(
    "subset",
    [
        lambda whole: whole[torch.tensor([4, 1, 1, 5])],
        lambda whole: whole[5:1:-1],
        lambda whole: whole[1:][::2],
        lambda whole: whole.shuffle(),
        lambda whole: Subset(whole, [3, 0, 5]),
        lambda whole: Subset(Subset(whole[1:], range(1, 5)), torch.tensor([2, 0])),
        lambda whole: Subset(whole, []),
        lambda whole: whole[[]],
    ],
    ids=["tensor", "reversed", "of a subset", "shuffled", "torch", "torch of torch", "none", "none of PyG"],
)
def test_subsets(mixture, subset):
    assert_same_batches(subset(InMemory(MIXTURES[mixture]())), batch_size=2)


def test_transform_is_applied():
    dataset = InMemory(molecules(), transform=RadiusGraph(3.0))
    assert_same_batches(dataset, fast=False, batch_size=3)
    assert "edge_index" in next(iter(StructureLoader(dataset, 2)))
    assert "transform" in StructureLoader(Subset(dataset, [0])).why_slow


def test_lists_of_structures():
    assert_same_batches(crystals(), batch_size=4)


def test_dataset_with_its_own_access():
    class Doubled(InMemory):
        def get(self, idx):
            data = super().get(idx)
            data.energy = 2 * data.energy
            return data

    assert_same_batches(Doubled(molecules()), fast=False, batch_size=4)


@pytest.mark.parametrize("batch_size", [1, 32, 2000])
def test_bundled_trajectory(ethanol, batch_size):
    assert_same_batches(ethanol if batch_size > 1 else ethanol[:20], batch_size=batch_size, shuffle=True)


def test_cached_edges(tmp_path):
    dataset = MD17(tmp_path, "ethanol_xtb", pre_transform=RadiusGraph(2.5), pre_filter=Every(50), log=False)
    assert len(dataset) == 40
    assert_same_batches(dataset, batch_size=16, shuffle=True)


class Every:
    def __init__(self, step):
        self.step, self.seen = step, -1

    def __call__(self, data):
        self.seen += 1
        return self.seen % self.step == 0


@pytest.mark.parametrize("options", [{"seed": 3}, {"generator": 3}], ids=["seed", "generator"])
def test_seed_gives_the_order(options):
    options = {key: torch.Generator().manual_seed(3) if key == "generator" else value for key, value in options.items()}
    batches = list(StructureLoader(InMemory(molecules()), 4, shuffle=True, **options))
    pygs = list(DataLoader(InMemory(molecules()), 4, shuffle=True, generator=torch.Generator().manual_seed(3)))
    for one, other in zip(batches, pygs, strict=True):
        assert torch.equal(one.z, other.z)


def test_samplers():
    dataset = InMemory(molecules())
    assert_same_batches(dataset, batch_size=2, sampler=[5, 2, 9])
    assert_same_batches(dataset, batch_sampler=BatchSampler(SequentialSampler(dataset), 4, False))
    assert_same_batches(dataset, batch_sampler=[[0], [3, 1, 1]])


def test_batches_do_not_share_memory(ethanol):
    """A batch may be changed in place, neither the dataset nor the next batch sees it."""
    loader = StructureLoader(ethanol[:64], batch_size=32)
    before = ethanol._data.pos.clone()
    first, second = loader
    expected = second.clone()
    for key in ("pos", "batch", "ptr", "energy", "z"):
        first[key].zero_()
    assert_same_batch(second, expected)
    assert torch.equal(ethanol._data.pos, before)
    assert next(iter(loader)).ptr[-1] == 288


def test_batches_travel():
    """To other dtypes and through pickle, as from a process of its own."""
    batch = next(iter(StructureLoader(InMemory(with_everything()), 4)))
    assert_same_batch(pickle.loads(pickle.dumps(batch)), batch)
    moved = batch.to(torch.device("cpu"))
    assert moved.get_example(2).name == "molecule 2"


def test_worker_processes():
    assert_same_batches(InMemory(molecules()), batch_size=4, num_workers=1)


@pytest.mark.parametrize("mixture", ["molecules", "crystals with edges", "everything", "equal sizes"])
def test_devices(mixture, device):
    """Batches assembled on a device are those assembled on the CPU; a subset moves no more than itself."""
    dataset = InMemory(MIXTURES[mixture]())[[5, 0, 3, 2]]
    for ours, pygs in zip(StructureLoader(dataset, 3, device=device), DataLoader(dataset, 3), strict=True):
        tensors = [value for value in ours.to_dict().values() if isinstance(value, torch.Tensor)]
        assert {value.device.type for value in tensors} == {device.type}
        assert_same_batch(ours.cpu(), pygs)


def test_subset_is_collated_anew_for_a_device():
    """What moves a subset to a device, checked where there is none: ``meta`` has shapes but no values."""
    dataset = InMemory(with_everything())
    loader = StructureLoader(dataset[[4, 1]], 2, device="meta")
    assert loader.dataset.collated.size == 2
    assert next(iter(loader)).pos.shape == (7, 3)
    selected = loader.dataset.collated.__class__(dataset._data, dataset.slices).select(torch.tensor([4, 1]))
    assert_same_batch(selected.batch(torch.tensor([1, 0])), Batch.from_data_list([dataset[1], dataset[4]]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"follow_batch": ["z"]}, TypeError, "has no `follow_batch`; use PyG's DataLoader"),
        ({"exclude_keys": ["z"]}, TypeError, "has no `exclude_keys`"),
        ({"seed": 1, "generator": torch.Generator()}, ValueError, "`seed` or `generator`, got both"),
        ({"batch_size": 0}, ValueError, "batch_size.*positive"),
        ({"batch_size": None}, ValueError, "`batch_size` must be a positive number, got None"),
        ({"device": "meta", "num_workers": 2}, ValueError, "leave out `num_workers`"),
    ],
    ids=range(6),
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        StructureLoader(InMemory(molecules()), **options)


def test_position_outside():
    with pytest.raises(IndexError):
        list(StructureLoader(InMemory(molecules())[:3], sampler=[3]))


def test_other_things():
    with pytest.raises(TypeError, match="expected a dataset of Data, got int"):
        next(iter(StructureLoader([1, 2])))


def test_published_data(tmp_path, real_data):
    for path in sorted(Path(real_data, "md17").glob("md17_*.npz"))[:2]:
        name = path.stem.removeprefix("md17_").replace("benzene2017", "benzene")
        dataset = MD17(tmp_path, name, source=real_data, log=False)
        assert_same_batches(dataset[:500], batch_size=100, shuffle=True)


@pytest.mark.parametrize("key", ["cell", "pbc"])
def test_lattices_stored_without_a_row_of_their_own(key):
    """As others have stored them; gathered row by row they would be mixed up."""
    dataset = InMemory(crystals())
    dataset._data[key] = dataset._data[key].flatten(0, 1)
    dataset.slices[key] = dataset.slices[key] * 3
    loader = StructureLoader(dataset, 4)
    assert f"`{key}` is not kept as" in loader.why_slow
    batch, expected = next(iter(loader)), next(iter(StructureLoader(InMemory(crystals()), 4)))
    assert torch.equal(batch[key], expected[key]) == (key == "pbc")  # cells are drawn at random
    assert batch[key].shape == expected[key].shape
