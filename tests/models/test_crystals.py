"""SchNet on crystals, section II.D.2 of the paper: what must not matter does not."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell, molecule
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from pyg_schnet import CFConv, FilterNetwork, Potential, SchNet, radius_graph
from pyg_schnet.nn import GaussianSmearing, NeighborNormalization, NoCutoff
from pyg_schnet.ops import edge_vectors
from pyg_schnet.simulation.ase import atoms_to_data
from pyg_schnet.transforms import RadiusGraph

SMOOTH = {"cutoff_function": "cosine", "normalization": "smooth"}
VARIANTS = [{}, SMOOTH, {"normalization": None, "cutoff_function": "cosine"}]


def data_of(atoms: Atoms) -> Data:
    return atoms_to_data(atoms, torch.float64)


def materials(**options) -> SchNet:
    torch.manual_seed(1)
    small = {"num_interactions": 3, "hidden_channels": 16, "num_filters": 16}
    return SchNet.preset("jcp2018-materials", **(small | options)).double().eval()


def energy(model: SchNet, atoms: Atoms) -> float:
    return Potential(model)(data_of(atoms))["energy"].item()


def rattled_crystal() -> Atoms:
    """Caesium chloride, sheared and displaced: no symmetry is left."""
    atoms = bulk("CsCl", "cesiumchloride", a=4.1)
    atoms.set_cell(
        atoms.cell.array @ np.array([[1.0, 0.1, 0.0], [0.0, 0.95, 0.07], [0.02, 0.0, 1.1]]), scale_atoms=True
    )
    atoms.rattle(0.2, seed=0)
    return atoms


@pytest.mark.parametrize("options", VARIANTS)
def test_choice_of_the_unit_cell(options):
    model, atoms = materials(**options), rattled_crystal()
    reference = energy(model, atoms)
    equivalent = {
        "supercell": atoms.repeat((2, 2, 2)),
        "long supercell": atoms.repeat((1, 1, 5)),
        "skewed": make_supercell(atoms, [[1, 0, 0], [3, 1, 0], [-2, 1, 1]]),
        "left-handed": make_supercell(atoms, [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        "conventional from primitive": make_supercell(atoms, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
    }
    for name, other in equivalent.items():
        # mean readout: energies per atom; float64 sums in another order
        assert energy(model, other) == pytest.approx(reference, rel=1e-11), name


@pytest.mark.parametrize("options", VARIANTS)
def test_wrapping_translation_rotation(options):
    model, atoms = materials(**options), rattled_crystal()
    reference = energy(model, atoms)
    moved = atoms.copy()
    moved.positions += np.array([3, -2, 7]) @ atoms.cell.array + [0.3, -11.0, 2.2]
    moved.positions[1] -= 4 * atoms.cell[2]
    turned = atoms.copy()
    turned.rotate(73, (1, 2, -1), rotate_cell=True)
    for other in (moved, turned):
        assert energy(model, other) == pytest.approx(reference, rel=1e-11)
    moved.wrap()
    assert energy(model, moved) == pytest.approx(reference, rel=1e-11)


def test_extensive_readout_counts_cells():
    model, atoms = materials(readout="add"), rattled_crystal()
    assert energy(model, atoms.repeat((1, 2, 1))) == pytest.approx(2 * energy(model, atoms), rel=1e-11)


def test_filters_summed_over_images_equal_messages_per_image():
    """The paper pools the filters of all images of j, then multiplies by x_j once, and divides by n_neighbours."""
    atoms = rattled_crystal().repeat((2, 1, 1))
    data, basis = data_of(atoms), GaussianSmearing(0.0, 5.0, 50, gamma=10.0).double()
    torch.manual_seed(0)
    conv = CFConv(8, 8, 8, FilterNetwork(50, 8), None, normalization="mean").double()
    x, n = torch.randn(len(atoms), 8).double(), len(atoms)
    graph = radius_graph(data.pos, 5.0, cell=data.cell, pbc=data.pbc)
    distance = edge_vectors(data.pos, graph.edge_index, graph.edge_shift, data.cell).norm(dim=1)
    assert graph.edge_index.unique(dim=1).size(1) < graph.edge_index.size(1)  # there are several images

    pooled = torch.zeros(n, n, 8).double()  # W[i, j] = sum over the images of j
    source, target = graph.edge_index
    pooled.index_put_((target, source), conv.nn(basis(distance)), accumulate=True)
    neighbours = torch.bincount(target, minlength=n).unsqueeze(1)
    expected = conv.lin2((pooled * conv.lin1(x).unsqueeze(0)).sum(dim=1) / neighbours)
    torch.testing.assert_close(conv(x, graph.edge_index, distance, basis(distance)), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("options", VARIANTS)
def test_forces_against_differences(options):
    model, atoms = materials(readout="add", **options), rattled_crystal()
    forces, step = Potential(model)(data_of(atoms))["forces"], 1e-5
    assert forces.abs().max() > 1e-3
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * step
            energies.append(energy(model, moved))
        # central differences: round-off 1e-16 / 1e-5 of energies around 1 eV
        assert forces[1, axis].item() == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=1e-8)


def test_derivative_with_respect_to_the_cell():
    """dE/dstrain by autograd through positions and cell equals finite differences of strained crystals."""
    model, atoms = materials(readout="add", **SMOOTH), rattled_crystal()
    data, step = data_of(atoms), 1e-5
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + strain
    total = model(data.z, data.pos @ deform, cell=data.cell @ deform, pbc=data.pbc)
    (gradient,) = torch.autograd.grad(total.sum(), strain)
    for i, j in ((0, 0), (1, 2), (2, 0)):
        energies = []
        for sign in (1, -1):
            matrix = np.eye(3)
            matrix[i, j] += sign * step
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ matrix, scale_atoms=True)
            energies.append(energy(model, strained))
        assert gradient[i, j].item() == pytest.approx((energies[0] - energies[1]) / (2 * step), abs=1e-7)


def test_batch_of_molecules_slabs_and_crystals_equals_singles():
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    structures = [rattled_crystal(), molecule("CH3CH2OH"), slab, bulk("Fe"), Atoms("He")]
    assert slab.pbc.tolist() == [True, True, False]
    potential = Potential(materials())
    out = potential(Batch.from_data_list([data_of(atoms) for atoms in structures]))
    singles = [potential(data_of(atoms)) for atoms in structures]
    torch.testing.assert_close(
        out["energy"], torch.cat([single["energy"] for single in singles]), rtol=1e-11, atol=1e-12
    )
    torch.testing.assert_close(
        out["forces"], torch.cat([single["forces"] for single in singles]), rtol=1e-9, atol=1e-12
    )


def crossing(model: SchNet, distance: float) -> float:
    """Energy of three atoms in a row, the last at a distance of the first."""
    pos = torch.tensor([[0.0, 0, 0], [2.0, 0, 0], [distance, 0, 0]], dtype=torch.float64)
    return model(torch.tensor([8, 6, 6]), pos).item()


def test_smooth_normalization_is_continuous_at_the_cutoff():
    step = 1e-6
    jump = {}
    for name, options in {"paper": {}, "half": {"cutoff_function": "cosine"}, "smooth": SMOOTH}.items():
        model = materials(**options)
        jump[name] = abs(crossing(model, 5.0 - step) - crossing(model, 5.0 + step))
    # a step of 1e-6 before the end the cosine cutoff is (pi / 2 * 2e-7)² = 1e-13; the slope of the rest is of order 1
    assert jump["smooth"] < 1e-5
    # counting neighbours jumps, with or without a cutoff function
    assert jump["paper"] > 1e-4
    assert jump["half"] > 1e-4


def test_normalization_by_hand():
    edge_index = torch.tensor([[1, 2, 0], [0, 0, 1]])
    distance = torch.tensor([1.0, 4.0, 1.0])
    mean = NeighborNormalization("mean", NoCutoff())(edge_index, distance, 4)
    assert mean.flatten().tolist() == [0.5, 1.0, 1.0, 1.0]  # nobody: no division by zero
    smooth = NeighborNormalization("smooth", lambda d: 1 / d)(edge_index, distance, 4)
    assert smooth.flatten().tolist() == pytest.approx([1 / 2.25, 0.5, 1.0, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "median"}, "must be 'mean', 'smooth' or None"),
        ({"normalization": "smooth"}, "needs a cutoff"),
    ],
)
def test_bad_normalization(options, message):
    with pytest.raises(ValueError, match=message):
        SchNet.preset("jcp2018-materials", **options)


@pytest.mark.parametrize("cutoff", [5.0, 7.5])
@pytest.mark.parametrize("options", VARIANTS)
def test_cached_graphs_also_larger_ones(options, cutoff):
    """A graph made once, collated by PyG's DataLoader, gives what the model's own graph gives; so does a larger one."""
    structures = [data_of(atoms) for atoms in (rattled_crystal(), molecule("H2O"), bulk("Fe"))]
    potential = Potential(materials(**options))
    own = potential(next(iter(DataLoader(structures, batch_size=3))))
    cached = [RadiusGraph(cutoff)(data.clone()) for data in structures]
    batch = next(iter(DataLoader(cached, batch_size=3)))
    assert batch.cell.shape == (3, 3, 3)
    assert batch.pbc.shape == (3, 3)
    assert batch.edge_shift.shape == (batch.edge_index.size(1), 3)
    out = potential(batch)
    torch.testing.assert_close(out["energy"], own["energy"], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(out["forces"], own["forces"], rtol=1e-10, atol=1e-13)


def test_float32_keeps_the_edges_of_a_cached_graph(within_rounding: Callable) -> None:
    """A pair just inside the cutoff in float64 whose float32 distance rounds to the cutoff still counts."""
    pos = torch.tensor([[0.0, 0, 0], [3.0, 4.0, 0.0]]) * (1 - 6e-8)
    data = Data(z=torch.tensor([6, 8]), pos=pos)
    graph = radius_graph(pos, 5.0)
    assert graph.edge_index.size(1) == 2
    model = materials().float()
    own, cached = model(data.z, data.pos), model(data.z, data.pos, edge_index=graph.edge_index)
    wide = copy.deepcopy(model).double()
    for found in (own, cached):
        within_rounding([found], lambda: [wide(data.z, pos.double(), edge_index=graph.edge_index)])
    alone = model(data.z, data.pos, edge_index=graph.edge_index[:, :0])
    assert (own - alone).abs() > 1e-4  # the pair is seen


def test_graph_that_ends_too_early_is_refused():
    data = RadiusGraph(4.0)(data_of(bulk("Fe")))
    with pytest.raises(ValueError, match=r"built with a cutoff of 4 Angstrom, the model needs 5; build it with"):
        Potential(materials())(data)


def test_cell_of_another_dtype_is_refused():
    data = data_of(bulk("Fe"))
    with pytest.raises(TypeError, match=r"`cell` is torch.float32, `pos` torch.float64"):
        materials()(data.z, data.pos, cell=data.cell.float(), pbc=data.pbc)


def test_preset_is_the_papers():
    model = SchNet.preset("jcp2018-materials")
    config = model.config
    assert (config["cutoff"], config["num_interactions"], config["hidden_channels"]) == (5.0, 6, 64)
    assert (config["readout"], config["normalization"], config["cutoff_function"]) == ("mean", "mean", None)
    assert model.basis.gamma == 10.0
    assert model.basis.offset[-1] == 5.0
