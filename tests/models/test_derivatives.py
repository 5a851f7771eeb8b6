"""Stress, virials, Hessian: finite differences, closed forms, laws of nature, every way to call, training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell, molecule
from ase.calculators.lj import LennardJones
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.graph import Edges
from pyg_schnet.models import AtomisticModel
from pyg_schnet.simulation.ase import atoms_to_data
from pyg_schnet.transforms import RadiusGraph

MakeModel = Callable[..., SchNet]
SMOOTH = ["cosine", "polynomial", "mollifier"]


def triclinic() -> Atoms:
    """Caesium chloride, sheared and displaced, with cells of 3 to 4 Angstrom: a cutoff of 5 sees several images."""
    atoms = bulk("CsCl", "cesiumchloride", a=3.8)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 0.95, 0.07], [0.02, 0.0, 1.1]], scale_atoms=True)
    atoms.rattle(0.2, seed=0)
    return atoms


def slab() -> Atoms:
    """Copper, two layers with vacuum, open along the third axis, whose lattice vector is complete."""
    atoms = fcc111("Cu", (2, 1, 2), vacuum=4.0)
    atoms.rattle(0.1, seed=1)
    assert atoms.pbc.tolist() == [True, True, False]
    return atoms


def boxed() -> Atoms:
    """Water in a box, no axis periodic."""
    atoms = molecule("H2O")
    atoms.set_cell([[6.0, 1.0, 0.0], [0.0, 7.0, 0.0], [0.5, 0.0, 8.0]])
    return atoms


STRUCTURES = {
    "triclinic": triclinic,
    "left-handed": lambda: make_supercell(triclinic(), [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
    "supercell": lambda: triclinic().repeat((2, 1, 1)),
    "slab": slab,
    "box": boxed,
}
every_structure = pytest.mark.parametrize("name", STRUCTURES)


def data_of(atoms: Atoms) -> Data:
    return atoms_to_data(atoms, torch.float64)


def batch_of(*structures: Atoms) -> Batch:
    return Batch.from_data_list([data_of(atoms) for atoms in structures])


def potential_of(make_model: MakeModel, **options: Any) -> Potential:
    return Potential(make_model(**options)).eval()


class PairModel(AtomisticModel):
    """Lennard-Jones as ASE has it, as a model: closed forms for everything that goes through the edges."""

    def __init__(self, cutoff: float = 5.0, sigma: float = 2.0) -> None:
        super().__init__(2, cutoff, {"readout": "add", "cutoff": cutoff})
        self.double()
        self.sigma = sigma

    def predict(self, z: Tensor, pos: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> Tensor:
        sixth = (self.sigma / torch.stack([edges.edge_weight, torch.full_like(edges.edge_weight, self.cutoff)])) ** 6
        pair = 4 * (sixth.square() - sixth)
        energy = pair[0] - pair[1]  # [P], each pair of atoms once
        share = 1.0 if edges.edge_pair is not None else 0.5
        return pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], share * energy).unsqueeze(-1)


# --- stress and virials ---


@every_structure
def test_stress_is_the_finite_difference_with_respect_to_strain(name: str, make_model: MakeModel) -> None:
    potential, atoms, step = potential_of(make_model, std=100.0), STRUCTURES[name](), 1e-4
    stress = potential(data_of(atoms), stress=True)["stress"][0]
    assert torch.equal(stress, stress.T)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            deformation = np.eye(3)
            deformation[i, j] += sign * step / 2
            deformation[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ deformation)
            strained.set_positions(atoms.positions @ deformation)
            energies.append(potential(data_of(strained))["energy"].item())
        expected[i, j] = expected[j, i] = (energies[0] - energies[1]) / (2 * step * atoms.get_volume())
    # truncation h^2 s'' / 6 ~ 1e-9 of second derivatives of the stress, which the Gaussians (some 0.3 Angstrom wide, at
    # vectors of up to 5 Angstrom) make up to 1e3 times the stress; round-off eps x E / (h V) is less
    scale = stress.abs().max()
    torch.testing.assert_close(stress, expected, rtol=0, atol=2e-6 * scale)
    assert scale > 1e-3


@every_structure
def test_against_lennard_jones_of_ase(name: str) -> None:
    """An independent program with closed forms: energy, forces, stress, and the virials of the atoms by its shares."""
    atoms = STRUCTURES[name]()
    out = Potential(PairModel(), stress=True, virials=True).eval()(data_of(atoms))
    atoms.calc = LennardJones(sigma=2.0, epsilon=1.0, rc=5.0)
    volume = atoms.get_volume()
    expected = {
        "energy": [atoms.get_potential_energy()],
        "forces": atoms.get_forces(),
        "stress": [atoms.get_stress(voigt=False)],
        "virials": -volume * np.array([_matrix(row) for row in atoms.calc.results["stresses"]]),
    }
    assert set(out) == set(expected)
    for key, value in expected.items():
        # hundreds of summands, some twenty operations each, in another order
        scale = np.abs(value).max()
        np.testing.assert_allclose(out[key].numpy(), np.array(value), rtol=0, atol=1e-12 * scale, err_msg=key)


def _matrix(voigt: np.ndarray) -> np.ndarray:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


@every_structure
def test_virials_add_up_to_the_stress(name: str, make_model: MakeModel) -> None:
    atoms = STRUCTURES[name]()
    out = potential_of(make_model)(data_of(atoms), stress=True, virials=True)
    assert out["virials"].shape == (len(atoms), 3, 3)
    # the same sum, once divided by the volume
    torch.testing.assert_close(out["virials"].sum(0), -atoms.get_volume() * out["stress"][0], rtol=0, atol=1e-12)
    # distances only: each is symmetric by itself, to the round-off of products
    torch.testing.assert_close(out["virials"], out["virials"].mT, rtol=0, atol=1e-12)


def test_virial_of_a_molecule_is_that_of_its_forces(molecules: Any, make_model: MakeModel) -> None:
    """The sum of position times force, where there is no cell."""
    out = potential_of(make_model)(*molecules, virials=True)
    assert set(out) == {"energy", "forces", "virials"}
    for structure in range(3):
        own = molecules.batch == structure
        expected = molecules.pos[own].T @ out["forces"][own]
        # sums of at most 28 pairs of order ten
        torch.testing.assert_close(out["virials"][own].sum(0), expected, rtol=0, atol=1e-12)


def test_stress_and_virials_turn_with_the_crystal(rotation: Tensor, make_model: MakeModel) -> None:
    potential, data = potential_of(make_model), data_of(triclinic())
    turned = data.clone()
    turned.pos, turned.cell = data.pos @ rotation, data.cell @ rotation
    out, other = (potential(item, stress=True, virials=True) for item in (data, turned))
    for key in ("stress", "virials"):
        # hundreds of summands of order one
        torch.testing.assert_close(other[key], rotation.T @ out[key] @ rotation, rtol=0, atol=1e-11)


def test_stress_of_equivalent_cells(make_model: MakeModel) -> None:
    potential, atoms = potential_of(make_model), triclinic()
    expected = potential(data_of(atoms), stress=True)["stress"]
    for matrix in (
        [[2, 0, 0], [0, 1, 0], [0, 0, 2]],
        [[1, 0, 0], [3, 1, 0], [-2, 1, 1]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    ):
        other = make_supercell(atoms, matrix)
        # sums in another order
        torch.testing.assert_close(potential(data_of(other), stress=True)["stress"], expected, rtol=0, atol=1e-12)


def test_stress_of_the_mean_is_that_per_atom(make_model: MakeModel) -> None:
    model, data = make_model(), data_of(triclinic())
    out = Potential(model).eval()(data, stress=True, virials=True)
    per_atom = make_model(readout="mean")
    per_atom.load_state_dict(model.state_dict())
    mean = Potential(per_atom).eval()(data, stress=True, virials=True)
    for key, value in out.items():
        torch.testing.assert_close(2 * mean[key], value, rtol=1e-12, atol=1e-13)  # one division


# --- second derivatives ---


def test_hessian_is_the_finite_difference_of_the_forces(molecules: Any, make_model: MakeModel) -> None:
    structures, step = [triclinic(), slab(), boxed()], 1e-4
    potential, batch = potential_of(make_model), batch_of(*structures)
    hessians = potential.hessian(batch)
    assert [tuple(hessian.shape) for hessian in hessians] == [(n, 3, n, 3) for n in (2, 4, 3)]
    for hessian, atoms in zip(hessians, structures, strict=True):
        data, expected = data_of(atoms), torch.zeros_like(hessian)
        for atom, axis in np.ndindex(len(atoms), 3):
            forces = []
            for sign in (1, -1):
                moved = data.clone()
                moved.pos = data.pos.clone()
                moved.pos[atom, axis] += sign * step
                forces.append(potential(moved)["forces"])
            expected[:, :, atom, axis] = -(forces[0] - forces[1]) / (2 * step)
        # truncation h^2 E''''/6 ~ 1e-8 of fourth derivatives of order ten to a hundred
        torch.testing.assert_close(hessian, expected, rtol=1e-5, atol=2e-6)


def test_hessian_is_that_of_autograd(molecules: Any, make_model: MakeModel) -> None:
    potential = potential_of(make_model, mean=2.0, std=3.0)
    for hessian, (z, pos) in zip(potential.hessian(*molecules), molecules.split(), strict=True):
        expected = torch.autograd.functional.hessian(lambda p, z=z: potential.model(z, p).sum(), pos)
        torch.testing.assert_close(hessian, expected, rtol=1e-11, atol=1e-11)  # elements of order ten, sums reordered


def test_hessian_is_symmetric_and_free_of_translations(make_model: MakeModel) -> None:
    hessians = potential_of(make_model).hessian(batch_of(triclinic(), slab(), boxed(), triclinic().repeat(2)))
    for hessian in hessians:
        # sums of up to some hundred terms of order ten
        torch.testing.assert_close(hessian, hessian.permute(2, 3, 0, 1), rtol=0, atol=1e-11)
        torch.testing.assert_close(hessian.sum(2), torch.zeros_like(hessian.sum(2)), rtol=0, atol=1e-11)


def test_hessian_vector_product_is_that_of_the_hessian(make_model: MakeModel) -> None:
    potential, batch = potential_of(make_model), batch_of(triclinic(), slab(), boxed())
    vector = torch.randn_like(batch.pos)
    hessians, parts = potential.hessian(batch), vector.split([2, 4, 3])
    expected = torch.cat([torch.einsum("iajb,jb->ia", *pair) for pair in zip(hessians, parts, strict=True)])
    product = potential.hessian_vector_product(batch, vector=vector)
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-11)  # sums of 12 terms of order ten
    tensors = (batch.z, batch.pos, batch.batch)
    again = potential.hessian_vector_product(*tensors, vector=vector, cell=batch.cell, pbc=batch.pbc)
    assert torch.equal(again, product)


# --- batches and graphs ---


@pytest.mark.parametrize("train", [True, False])
def test_batch_equals_singles(train: bool, make_model: MakeModel) -> None:
    """Also given as tensors, and with the graph built before."""
    structures = [triclinic(), boxed(), Atoms("He", cell=[9, 9, 9]), slab(), triclinic().repeat((1, 1, 2))]
    potential = potential_of(make_model).train(train)
    options = {"stress": True, "virials": True}
    data = [data_of(atoms) for atoms in structures]
    batch, cached = Batch.from_data_list(data), Batch.from_data_list([RadiusGraph(5.5)(item.clone()) for item in data])
    singles = [potential(item, **options) for item in data]
    expected = {key: torch.cat([out[key] for out in singles]) for key in singles[0]}
    tensors = potential(batch.z, batch.pos, batch.batch, cell=batch.cell, pbc=batch.pbc, **options)
    for out in (potential(batch, **options), potential(cached, **options), tensors):
        assert set(out) == {"energy", "forces", "stress", "virials"}
        for key, value in expected.items():
            torch.testing.assert_close(out[key], value, rtol=1e-11, atol=1e-11)  # sums in another order
    singles = [potential.hessian(item)[0] for item in data]
    for hessians in (potential.hessian(batch), potential.hessian(cached)):
        for hessian, single in zip(hessians, singles, strict=True):
            torch.testing.assert_close(hessian, single, rtol=1e-10, atol=1e-11)


def test_isolated_atoms_and_empty_structures(make_model: MakeModel) -> None:
    potential = potential_of(make_model, std=100.0)
    helium = Atoms("He", positions=[[1.0, 2.0, 3.0]], cell=[20, 20, 20], pbc=True)
    batch = batch_of(Atoms(cell=[9, 9, 9]), helium, triclinic(), Atoms(cell=[9, 9, 9]))
    out, hessians = potential(batch, stress=True, virials=True), potential.hessian(batch)
    assert [hessian.size(0) for hessian in hessians] == [0, 1, 2, 0]
    zero = {"forces": out["forces"][0], "virials": out["virials"][0], "hessian": hessians[1]}
    for key, value in zero.items():
        assert torch.equal(value, torch.zeros_like(value)), key
    assert torch.equal(out["stress"][[0, 1, 3]], torch.zeros(3, 3, 3, dtype=torch.float64))
    assert out["stress"][2].abs().max() > 1e-3


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("layers", [0, 2])
def test_nothing_but_isolated_atoms(train: bool, layers: int, make_model: MakeModel) -> None:
    potential = Potential(make_model(num_interactions=layers)).train(train)
    data = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3, dtype=torch.float64))
    assert not potential(data, virials=True)["virials"].any()
    assert not potential.hessian(data)[0].any()
    assert not potential.hessian_vector_product(data, vector=torch.ones(1, 3, dtype=torch.float64)).any()
    assert potential.requires_grad_(False).hessian(Batch.from_data_list([data, data]))[1].shape == (1, 3, 1, 3)
    none = potential.hessian(data.z[:0], data.pos[:0], data.z[:0], batch_size=2)
    assert [tuple(hessian.shape) for hessian in none] == [(0, 3, 0, 3)] * 2


@pytest.mark.parametrize("filling", [np.nan, np.inf, 0.0, 3.0])
@pytest.mark.parametrize("cached", [True, False])
def test_lattice_vectors_of_open_axes_play_no_role(filling: float, cached: bool, make_model: MakeModel) -> None:
    potential, water = potential_of(make_model), molecule("H2O")
    data = [data_of(atoms) for atoms in (slab(), water)]
    expected = potential(Batch.from_data_list(data), virials=True)
    data[0].cell[0, 2] = filling
    data[1].cell[0] = filling
    out = potential(Batch.from_data_list([RadiusGraph(5.0)(item) if cached else item for item in data]), virials=True)
    for key, value in expected.items():
        # the given graph sums pairs in another order
        torch.testing.assert_close(out[key], value, rtol=1e-11, atol=1e-12)


def test_edge_along_a_broken_lattice_vector_is_refused(make_model: MakeModel) -> None:
    data = RadiusGraph(5.0)(data_of(triclinic()))
    data.cell[0, 1] = torch.nan
    with pytest.raises(
        ValueError, match=r"the edge \d -> \d has length nan: .* lattice vector of `cell` .* not finite"
    ):
        potential_of(make_model)(data)


def test_what_may_not_be_looked_at_becomes_nan(monkeypatch: pytest.MonkeyPatch, make_model: MakeModel) -> None:
    """On a GPU values are not inspected: the answer is NaN then, never a wrong number."""
    monkeypatch.setattr("pyg_schnet.models.inputs.can_inspect", lambda tensor: False)
    potential, broken = potential_of(make_model), RadiusGraph(5.0)(data_of(triclinic()))
    broken.cell[0, 1] = torch.nan
    assert potential(broken)["energy"].isnan().all()
    stress = potential(batch_of(triclinic(), molecule("H2O")), stress=True)["stress"]
    assert stress[0].isfinite().all()
    assert stress[1].isnan().all()


# --- smoothness ---


@pytest.mark.parametrize("cutoff_function", SMOOTH)
def test_smoothness_as_an_atom_crosses_the_cutoff(cutoff_function: str, make_model: MakeModel) -> None:
    """Three atoms in a row, the third leaves the reach of the first; all else stays within it.

    From one side to the other, a distance of 2h apart, everything continuous changes by O(h). The second derivative of
    the cosine ends at a finite value, so only its energy and forces are continuous; the polynomial has two continuous
    derivatives, the mollifier all.
    """
    potential = potential_of(make_model, cutoff_function=cutoff_function, num_filters=16)
    z, jump = torch.tensor([8, 6, 7]), {}
    for step in (1e-3, 1e-5):
        sides = []
        for distance in (5.0 - step, 5.0 + step):
            pos = torch.tensor([[0.0, 0, 0], [2.0, 0.3, 0], [distance, 0, 0]], dtype=torch.float64)
            out = potential(z, pos, virials=True)
            sides.append({**out, "hessian": potential.hessian(z, pos)[0]})
        jump[step] = {key: float((sides[0][key] - sides[1][key]).abs().max()) for key in sides[0]}
    continuous = {"energy", "forces", "virials"} | ({"hessian"} if cutoff_function != "cosine" else set())
    for key in ("energy", "forces", "virials", "hessian"):
        # continuous: a hundred times smaller, up to second order in h; a jump stays, up to first
        ratio = jump[1e-5][key] / jump[1e-3][key]
        assert (ratio < 0.012) if key in continuous else (ratio > 0.5), (key, jump)


@pytest.mark.parametrize("cutoff_function", SMOOTH)
def test_nothing_is_left_beyond_the_cutoff(cutoff_function: str, make_model: MakeModel) -> None:
    potential = potential_of(make_model, cutoff_function=cutoff_function)
    z = torch.tensor([8, 6])
    for distance in (5.0, 5.0 + 1e-9, 7.0):
        pos = torch.tensor([[0.0, 0, 0], [distance, 0, 0]], dtype=torch.float64)
        assert not potential.hessian(z, pos)[0].any()
        assert not potential(z, pos, virials=True)["virials"].any()


# --- training ---


def everything(potential: Potential, batch: Batch, vector: Tensor) -> Tensor:
    """A scalar of all that a potential returns."""
    out = potential(batch, stress=True, virials=True)
    total = out["energy"].square().sum() + out["forces"].square().sum() + out["virials"].pow(3).sum()
    total = total + 1e3 * out["stress"].square().sum()
    total = total + potential.hessian_vector_product(batch, vector=vector).square().sum()
    return total + sum(hessian.square().sum() for hessian in potential.hessian(batch))


def test_gradients_of_a_loss_of_everything_are_finite_differences(make_model: MakeModel) -> None:
    """The derivative with respect to every tensor of weights, along a random direction."""
    potential, batch = Potential(make_model(num_filters=4, hidden_channels=4)), batch_of(boxed(), triclinic())
    vector = torch.randn_like(batch.pos)
    parameters = dict(potential.named_parameters())
    loss = everything(potential, batch, vector)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for (name, parameter), slope in zip(parameters.items(), gradients, strict=True):
        direction, step, values = torch.randn_like(parameter), 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            values.append(everything(potential, batch, vector).item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        expected = (values[0] - values[1]) / (2 * step)
        # round-off eps x loss / h, truncation h^2 ~ 1e-10 relative to derivatives of the order of the loss
        assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-8 * loss.item()), name


def test_stress_inside_a_larger_graph(make_model: MakeModel) -> None:
    """In training, derivatives with respect to positions and cell go through everything, volume included."""
    potential, data = Potential(make_model(num_filters=4, hidden_channels=4)), data_of(triclinic())

    def evaluate(strain: Tensor) -> tuple[Tensor, ...]:
        deformation = torch.eye(3, dtype=torch.float64) + strain
        cell, pos = data.cell @ deformation, data.pos @ deformation
        out = potential(data.z, pos, cell=cell, pbc=data.pbc, stress=True, virials=True)
        return out["energy"], out["forces"], out["stress"], out["virials"]

    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    # cells of this size have many images, whose third derivatives make the truncation 1e-5
    assert torch.autograd.gradcheck(evaluate, (strain,), atol=1e-4)
    energy, _, stress, _ = evaluate(strain)
    (slope,) = torch.autograd.grad(energy.sum(), strain)
    volume = torch.linalg.det(data.cell[0]).abs()
    torch.testing.assert_close(slope / volume, stress[0].detach(), rtol=0, atol=1e-13)  # the same sum by the chain rule


@pytest.mark.parametrize("train", [True, False])
def test_differentiable_in_training_only(train: bool, make_model: MakeModel) -> None:
    potential, batch = Potential(make_model()).train(train), batch_of(triclinic(), boxed())
    out = potential(batch, stress=True, virials=True)
    out["hessian"] = potential.hessian(batch)[0]
    out["product"] = potential.hessian_vector_product(batch, vector=torch.randn_like(batch.pos))
    assert [value.requires_grad for value in out.values()] == [train] * 6


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("train", [True, False])
def test_works_where_gradients_are_off(context: Callable, train: bool, make_model: MakeModel) -> None:
    potential, vector = Potential(make_model()).train(train), torch.randn(5, 3, dtype=torch.float64)

    def evaluate(batch: Batch, vector: Tensor) -> list[Tensor]:
        values = [*potential(batch, stress=True, virials=True).values(), *potential.hessian(batch)]
        return [*values, potential.hessian_vector_product(batch, vector=vector)]

    expected = [value.detach() for value in evaluate(batch_of(triclinic(), boxed()), vector)]
    outside = batch_of(triclinic(), boxed())
    potential.requires_grad_(False)
    with context():
        for batch in (outside, batch_of(triclinic(), boxed())):
            for value, other in zip(evaluate(batch, vector.clone()), expected, strict=True):
                assert torch.equal(value, other)
                assert not value.requires_grad


def test_float32_and_devices(device: torch.device, make_model: MakeModel) -> None:
    potential, batch = potential_of(make_model, mean=-50.0), batch_of(triclinic(), slab(), boxed())
    vector = torch.randn_like(batch.pos)

    def evaluate(batch: Batch, vector: Tensor) -> list[Tensor]:
        values = [*potential(batch, stress=True, virials=True).values(), *potential.hessian(batch)]
        return [*values, potential.hessian_vector_product(batch, vector=vector)]

    expected = evaluate(batch, vector)
    potential, batch = potential.to(device, torch.float32), batch.to(device)
    batch.pos, batch.cell = batch.pos.float(), batch.cell.float()
    for number, (value, exact) in enumerate(zip(evaluate(batch, vector.to(device).float()), expected, strict=True)):
        assert value.dtype == (torch.float64 if number == 0 else torch.float32)  # energies with references
        assert value.device.type == device.type
        # eps 1e-7 times the sensitivity of Gaussians and of sums of hundreds of terms
        scale = float(exact.abs().max())
        torch.testing.assert_close(value.cpu().double(), exact, rtol=0, atol=2e-5 * scale)


# --- options and bad input ---


def test_options_of_the_constructor_are_defaults_of_every_call(make_model: MakeModel) -> None:
    model, data = make_model(), data_of(triclinic())
    both = Potential(model, stress=True, virials=True)
    assert set(both(data)) == {"energy", "forces", "stress", "virials"}
    assert set(both(data, stress=False, virials=False)) == {"energy", "forces"}
    assert set(Potential(model)(data)) == {"energy", "forces"}
    assert set(Potential(model)(data, stress=True)) == {"energy", "forces", "stress"}


@pytest.mark.parametrize(
    ("atoms", "cell"),
    [
        ([triclinic(), molecule("H2O")], r"\[\[0.0, 0.0, 0.0\], .*\] for structure 1"),
        ([molecule("H2O")], r"\[\[0.0, 0.0, 0.0\], .*\] for structure 0"),
        ([Atoms("H", cell=[4, 4, 0], pbc=[True, True, False])], r".*\[0.0, 0.0, 0.0\]\] for structure 0"),
        ([Atoms("H", cell=[4, 4, np.nan], pbc=[True, True, False])], r".*nan\]\] for structure 0"),
        ([Atoms("H", cell=[[1, 0, 0], [0, 1, 0], [1, 1, 0]])], r".*\[1.0, 1.0, 0.0\]\] for structure 0"),
    ],
)
def test_stress_without_a_complete_cell_is_refused(atoms: list[Atoms], cell: str, make_model: MakeModel) -> None:
    potential, batch = potential_of(make_model), batch_of(*atoms)
    assert potential(batch, virials=True)["virials"].isfinite().all()  # forces and virials alone are there
    expected = r"needs a complete cell, expected three finite, linearly independent lattice vectors .*, got "
    with pytest.raises(ValueError, match=expected + cell + "; pass three lattice vectors, or ask for virials"):
        potential(batch, stress=True)


def test_stress_without_any_cell_is_refused(molecules: Any, make_model: MakeModel) -> None:
    message = r"stress is dE/dstrain per volume and needs a cell, expected `cell` \[B, 3, 3\], got none; pass"
    with pytest.raises(ValueError, match=message):
        potential_of(make_model)(*molecules, stress=True)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.Linear(1, 1), TypeError, "`model` must be an AtomisticModel, .*, got Linear"),
        (3, TypeError, "`model` must be an AtomisticModel, .*, got int"),
        (Potential(SchNet(8, 8, 1)), TypeError, "`model` must be an AtomisticModel, .*, got Potential"),
        (SchNet(8, 8, 1, out_channels=3), ValueError, "one energy per structure, got one with 3 targets"),
        (SchNet(8, 8, 1, readout="dipole"), ValueError, "must predict an energy, got one with readout='dipole'"),
        (SchNet(8, 8, 1, readout="polarizability"), ValueError, "an energy, got one with readout='polarizability'"),
    ],
)
def test_models_of_anything_but_an_energy_are_refused(model: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Potential(model)


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        (
            torch.zeros(2, 3),
            TypeError,
            r"`vector` must be a torch.float64 tensor \[N, 3\] like `pos`, got torch.float32",
        ),
        ([0.0] * 6, TypeError, "`vector` must be a torch.float64 tensor .*, got list"),
        (torch.zeros(3, 3).double(), ValueError, r"`vector` must have shape \[2, 3\] like `pos`, got \[3, 3\]"),
    ],
)
def test_bad_vectors_are_refused(vector: Any, error: type[Exception], message: str, make_model: MakeModel) -> None:
    with pytest.raises(error, match=message):
        potential_of(make_model).hessian_vector_product(data_of(triclinic()), vector=vector)
