"""Keys that differ inside a batch, through every way in which a batch is made."""

import itertools
import pickle

import pytest
import torch
from torch.utils.data import ConcatDataset
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset, batch, in_memory_dataset
from torch_geometric.loader import DataLoader

import pyg_schnet
from pyg_schnet import Potential, SchNet, batching
from pyg_schnet.datasets import StructureLoader, as_dataset
from pyg_schnet.transforms import RadiusGraph

LATTICE = {
    "cell": torch.tensor([[[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]]),
    "pbc": torch.tensor([[True, True, True]]),
}


def water(**more):
    return Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), **more)


def silicon(**more):
    return Data(z=torch.tensor([14, 14]), pos=torch.tensor([[0.0, 0, 0], [1.36, 1.36, 1.36]]), **{**LATTICE, **more})


def _stored(structures):
    """Through PyG's own storage in memory."""

    class Stored(InMemoryDataset):
        def __init__(self):
            super().__init__(None)
            self._data, self.slices = self.collate(structures)

    return next(iter(DataLoader(Stored(), batch_size=len(structures))))


WAYS = {
    "Batch": Batch.from_data_list,
    "DataLoader": lambda structures: next(iter(DataLoader(structures, batch_size=len(structures)))),
    "InMemoryDataset": _stored,
    "StructureLoader": lambda structures: next(iter(StructureLoader(structures, batch_size=len(structures)))),
    "ConcatDataset": lambda structures: next(
        iter(StructureLoader(ConcatDataset([[one] for one in structures]), batch_size=len(structures)))
    ),
}
batched = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(0)
    return Potential(SchNet(16, 16, 2, num_gaussians=20, cutoff=5.0, cutoff_function="mollifier").eval())


@batched
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1)])
def test_each_structure_has_the_energy_it_has_alone(potential, way, order):
    kinds = [water(), silicon()]
    alone = [float(potential(one)["energy"]) for one in kinds]
    batch = WAYS[way]([kinds[one].clone() for one in order])
    assert potential(batch)["energy"].tolist() == pytest.approx([alone[one] for one in order], abs=1e-5)
    assert batch.pbc.tolist() == [[bool(one)] * 3 for one in order]
    assert batch.cell.shape == (len(order), 3, 3)
    parts = batch.to_data_list()
    assert [part.pos.shape for part in parts] == [kinds[one].pos.shape for one in order]


@batched
@pytest.mark.parametrize("lacking", [0, 1])
def test_labels_and_weights_that_are_not_there(way, lacking):
    labels = {
        "energy": torch.tensor([-1.0], dtype=torch.float64),
        "stress": torch.ones(1, 3, 3),
        "dipole": torch.ones(1, 3),
        "y": torch.ones(1, 4),
        "config_weight": torch.tensor([5.0]),
        "config_forces_weight": torch.tensor([2.0]),
        "name": "one",
    }
    both = [water(), water()]
    for key, value in {
        **labels,
        "forces": torch.ones(3, 3),
        "charges": torch.ones(3),
        "atom_weight": torch.zeros(3),
    }.items():
        both[1 - lacking][key] = value
    batch = WAYS[way](both)
    for key in ("energy", "stress", "dipole", "y"):
        assert batch[key].shape == (2, *labels[key].shape[1:])
        assert batch[key].dtype == labels[key].dtype
        assert batch[key][lacking].isnan().all()
        assert torch.equal(batch[key][1 - lacking], labels[key][0])
    assert batch.config_weight[lacking] == batch.config_forces_weight[lacking] == 1.0
    assert batch.config_weight[1 - lacking] == 5.0
    where = batch.batch == lacking
    assert batch.forces.shape == (6, 3)
    assert batch.forces[where].isnan().all()
    assert batch.charges[where].isnan().all()
    assert batch.atom_weight.tolist() == where.float().tolist()
    assert batch.name[lacking] is None
    assert "forces" not in both[lacking]  # the structures themselves are left alone


@batched
def test_single_atoms_do_not_confuse_atoms_and_structures(way):
    atom = Data(z=torch.tensor([2]), pos=torch.zeros(1, 3), forces=torch.zeros(1, 3), energy=torch.zeros(1))
    batch = WAYS[way]([atom, water()])
    assert (batch.forces.shape, batch.energy.shape) == ((4, 3), (2,))


@batched
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"edge_index": torch.zeros(2, 0, dtype=torch.long)},
            "`edge_index` is in structure .* but not in .*RadiusGraph",
        ),
        ({"edge_shift": torch.zeros(0, 3, dtype=torch.long)}, "`edge_shift` is in structure .* but not in"),
        ({"feature": torch.zeros(3, 4)}, "`feature` is in structure .*; give it to all structures or to none"),
        ({"y": torch.tensor([1])}, "`y` is in structure"),
        ({"cell": LATTICE["cell"].numpy(), "pbc": LATTICE["pbc"]}, "make it a tensor, it is a ndarray"),
    ],
    ids=["edges", "shifts", "unknown", "classes", "arrays"],
)
def test_what_cannot_be_filled_is_one_sentence(way, swapped, more, message):
    both = [water(**more), water()]
    with pytest.raises(ValueError, match=message):
        WAYS[way](both[::-1] if swapped else both)


@batched
def test_a_graph_beside_bonds_is_refused(way):
    """Without shifts, `edge_index` is taken for bonds and the model searches; zeros would make the bonds the graph."""
    bonds = water(edge_index=torch.tensor([[0, 1], [1, 0]]))
    graph = RadiusGraph(5.0)(water())
    del graph.edge_cutoff
    with pytest.raises(ValueError, match="`edge_shift` is in structure"):
        WAYS[way]([graph, bonds])


@batched
@pytest.mark.parametrize("layout", list(itertools.product([False, True], repeat=2)), ids=str)
def test_lattices_without_a_row_of_their_own(potential, way, layout):
    """[3, 3] and [3] would be concatenated to [6, 3] and [6]."""
    flat_cell, flat_pbc = layout
    one = silicon(
        cell=LATTICE["cell"][0] if flat_cell else LATTICE["cell"], pbc=LATTICE["pbc"][0] if flat_pbc else LATTICE["pbc"]
    )
    for structures in ([one, silicon()], [silicon(), one], [one, one], [one], [one, water()]):
        batch = WAYS[way](structures)
        assert batch.cell.shape == (len(structures), 3, 3)
        assert batch.pbc.shape == (len(structures), 3)
        assert torch.equal(batch.cell[0], LATTICE["cell"][0]) or structures[0] is structures[-1]


class Stacked(Data):
    """A structure whose lattice PyG stacks, as its documentation shows for values of whole graphs."""

    def __cat_dim__(self, key, value, *args, **kwargs):
        return None if key in LATTICE else super().__cat_dim__(key, value, *args, **kwargs)


@pytest.mark.parametrize("way", ["Batch", "DataLoader", "StructureLoader"])
def test_lattices_that_pyg_stacks(potential, way):
    """Such a structure needs no row of its own, and one without a lattice gets none."""
    crystal = Stacked(**silicon(cell=LATTICE["cell"][0], pbc=LATTICE["pbc"][0]).to_dict())
    molecule = Stacked(**water().to_dict())
    for structures in ([crystal, crystal], [molecule, crystal], [crystal, molecule]):
        alone = [potential(silicon() if one is crystal else water())["energy"] for one in structures]
        torch.testing.assert_close(potential(WAYS[way](structures))["energy"], torch.cat(alone))


@pytest.mark.parametrize("way", [*WAYS, "workers"])
@pytest.mark.parametrize("swapped", [False, True])
def test_wider_dtypes_win(way, swapped):
    """In a process of its own PyG would round to the dtype of the first structure."""
    fine = silicon(energy=torch.tensor([1 / 3], dtype=torch.float64), cell=LATTICE["cell"].double() / 3)
    rough = silicon(energy=torch.tensor([0.5]))
    both = [rough, fine] if swapped else [fine, rough]
    batch = next(iter(DataLoader(both, 2, num_workers=1))) if way == "workers" else WAYS[way](both)
    assert batch.energy.dtype == batch.cell.dtype == torch.float64
    assert batch.energy[int(swapped)] == fine.energy[0]
    assert torch.equal(batch.cell[int(swapped)], fine.cell[0])


@pytest.mark.parametrize("number", [-1.0, torch.tensor(-1.0), torch.tensor([-1.0]), torch.tensor([[-1.0]])], ids=str)
@batched
def test_spellings_of_one_number(way, number):
    batch = WAYS[way]([water(energy=torch.tensor([-2.0])), water(energy=number), water()])
    assert batch.energy.tolist()[:2] == [-2.0, -1.0]
    assert batch.energy[2].isnan()


def test_labels_of_different_shapes_are_one_sentence():
    with pytest.raises(
        ValueError, match=r"`stress` has the shape \[1, 3, 3\] in structure 0 and \[1, 6\] in structure 1"
    ):
        Batch.from_data_list([silicon(stress=torch.zeros(1, 3, 3)), silicon(stress=torch.zeros(1, 6))])


@pytest.mark.parametrize("key", ["cell", "pbc"])
def test_half_a_lattice_is_refused_as_it_is_alone(key):
    half = silicon()
    del half[key]
    with pytest.raises(ValueError, match="has `(cell|pbc)` but no `(cell|pbc)`, which others have"):
        Batch.from_data_list([silicon(), half])


def test_excluded_keys_need_not_agree():
    batch = Batch.from_data_list([water(feature=torch.zeros(3, 2)), water()], exclude_keys=["feature"])
    assert "feature" not in batch


def test_batches_of_batches():
    crystals, molecules = Batch.from_data_list([silicon(), silicon()]), Batch.from_data_list([water(), water()])
    both = batching.completed([molecules, crystals])
    assert both[0].pbc.tolist() == [[False] * 3] * 2


def test_all_else_is_as_pyg_has_it():
    plain = [Data(x=torch.zeros(2, 1), extra=torch.ones(1)), Data(x=torch.zeros(3, 1))]
    with pytest.raises(KeyError):
        Batch.from_data_list(plain)
    assert "extra" not in Batch.from_data_list(plain[::-1])
    hetero = [HeteroData(atom={"x": torch.rand(n, 2)}) for n in (2, 3)]
    assert Batch.from_data_list(hetero)["atom"].x.shape == (5, 2)
    same = [water(), water()]
    assert batching.completed(same) is same
    assert list(Batch.from_data_list(same).keys()) == list(Batch.from_data_list([water()]).keys())


def test_it_is_put_before_pyg_once():
    before = batch.collate
    batching.install()
    assert batch.collate is before
    assert in_memory_dataset.collate is before
    assert not hasattr(before.__wrapped__, "completes_keys")
    assert pyg_schnet.batching is batching


def test_parts_of_a_dataset_with_different_keys():
    labelled = [water(energy=torch.tensor([-1.0])) for _ in range(2)]
    whole = as_dataset(ConcatDataset([labelled, [silicon()]]))
    assert len(whole) == 3
    assert whole[2].energy.isnan().all()
    assert whole[0].pbc.tolist() == [[False] * 3]


def test_workers_that_begin_without_this_package_import_it():
    loader = DataLoader([water(), silicon()], 2, follow_batch=["pos"])
    sent = pickle.dumps(loader.collate_fn)
    assert b"pyg_schnet.batching" in sent
    assert pickle.loads(sent)([water(), silicon()]).pos_batch.tolist() == [0, 0, 0, 1, 1]
