"""Net charges and unpaired electrons never trained on: said once, or refused; what is not said is nowhere assumed."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.models import Committee, CommitteePotential, properties
from pyg_schnet.models.charges import UnknownChargeWarning, electrons_in
from pyg_schnet.models.elements import TrainingSet, seen_by
from tests.models.said import said

#: Closed shells of H, C, N and O without a net charge.
NEUTRAL = TrainingSet({1: 60, 6: 10, 7: 10, 8: 10}, 20, 5, charges={0: 20}, unpaired={0: 20})
#: The same, of a file from before charges were counted.
OF_OLD = NEUTRAL._replace(charges={}, unpaired={})
AMMONIUM = [7, 1, 1, 1, 1]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def structure(numbers: list[int], **fields: Any) -> Data:
    places = torch.arange(3 * len(numbers)).view(-1, 3).remainder(7).float()
    return Data(z=torch.tensor(numbers), pos=0.9 * places, **fields)


def small(training_set: TrainingSet | None = NEUTRAL) -> SchNet:
    torch.manual_seed(0)
    model = SchNet(8, 8, 1, num_gaussians=8, cutoff=4.0).eval()
    model.training_set = training_set
    return model


@pytest.mark.parametrize(
    "fields",
    [{"charge": torch.tensor([1])}, {"total_charge": torch.tensor(1.0)}, {"charge": 1}, {"charge": np.array([1.001])}],
    ids=repr,
)
@pytest.mark.parametrize("way", ["potential", "hessian", "properties", "model", "contributions"])
def test_a_net_charge_is_said_once(way: str, fields: dict[str, Any]) -> None:
    model, data = small(), structure(AMMONIUM, **fields)
    potential = Potential(model)
    call: Callable[[], object] = {
        "potential": lambda: potential(data),
        "hessian": lambda: potential.hessian(data),
        "properties": lambda: properties(model, data),
        "model": lambda: model(data),
        "contributions": lambda: model.contributions(data),
    }[way]
    (text,) = said(call)
    assert "trained on structures with no net charge, never with a net charge of +1" in text
    assert not said(call)
    assert ["charge of -2" in one for one in said(lambda: model(structure([8], charge=torch.tensor([-2]))))] == [True]


def test_strict_refuses_each_time() -> None:
    potential, ion = Potential(small(), strict=True), structure(AMMONIUM, charge=torch.tensor([1]))
    for _ in range(2):
        with pytest.raises(ValueError, match="never with a net charge of \\+1"):
            potential(ion)
    with pytest.raises(ValueError, match="never with 2 unpaired electrons"):
        potential(structure([8, 8], multiplicity=torch.tensor([3])))
    both = Batch.from_data_list([structure([8, 1, 1]), structure([8, 1], total_charge=torch.tensor([-1.0]))])
    with pytest.raises(ValueError, match="charge of -1"):
        properties(small(), both, strict=True)
    potential(structure([8, 1, 1], charge=torch.tensor([0]), multiplicity=torch.tensor([1])))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"charge": torch.tensor([0])},
        {"charge": torch.tensor([1e-3])},
        {"charge": torch.tensor([torch.nan])},
        {"charge": "none"},
        {"charge": torch.tensor([0.4, 0.1, 0.3, 0.1, 0.1])},  # of atoms
        {"multiplicity": torch.tensor([1])},
        {"multiplicity": torch.tensor([0])},
        {"spin": torch.tensor([3])},  # what programs mean by it differs
    ],
    ids=repr,
)
def test_what_is_neutral_or_not_said_passes(fields: dict[str, Any]) -> None:
    assert not said(lambda: Potential(small(), strict=True)(structure(AMMONIUM, **fields)))


@pytest.mark.parametrize("training_set", [None, OF_OLD])
def test_a_model_that_does_not_know_says_nothing(training_set: TrainingSet | None) -> None:
    ion = structure(AMMONIUM, charge=torch.tensor([1]), multiplicity=torch.tensor([3]))
    assert not said(lambda: Potential(small(training_set), strict=True)(ion))


def test_a_model_of_ions_expects_their_charge(tmp_path: Path) -> None:
    acetate = structure([6, 6, 8, 8, 1, 1, 1], charge=torch.tensor([-1.0]))
    model = small(seen_by(small(None), [Batch.from_data_list([acetate] * 3)]))
    assert model.training_set is not None
    assert (model.training_set.charges, model.training_set.unpaired) == ({-1: 3}, {0: 3})
    save(model, tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    assert model.training_set.charges == {-1: 3}
    assert not said(lambda: Potential(model, strict=True)(acetate))
    neutral = structure(acetate.z.tolist(), charge=torch.tensor([0]))
    with pytest.raises(ValueError, match="with a net charge of -1, never with no net charge"):
        Potential(model, strict=True)(neutral)


def test_charges_are_counted() -> None:
    parts = [
        structure([8, 1], charge=torch.tensor([-1])),
        structure([8, 1, 1]),
        structure([6, 1, 1, 1]),
        structure([8, 8], multiplicity=torch.tensor([3])),
        structure([3, 3], charge=torch.tensor([0.5])),
    ]
    assert electrons_in(Batch.from_data_list(parts[:4])) == ({-1: 1, 0: 3}, {0: 2, 1: 1, 2: 1})
    charges = TrainingSet.of([Batch.from_data_list([one]) for one in parts]).charges
    assert charges == {-1: 1, 0: 3, 0.5: 1}
    again = TrainingSet.read({"elements": {"8": 1}, "structures": 1, "compositions": 1, "charges": {"-1": 2, "0.5": 1}})
    assert again is not None
    assert again.charges == {-1: 2, 0.5: 1}


def test_sets_of_which_one_does_not_know() -> None:
    ions = NEUTRAL._replace(structures=7, charges={1: 7}, unpaired={0: 7})
    both = NEUTRAL | ions
    assert (both.charges, both.unpaired) == ({0: 20, 1: 7}, {0: 27})
    assert (NEUTRAL | OF_OLD) == NEUTRAL  # the same one
    assert not (ions | OF_OLD).charges


def test_a_header_with_impossible_charges_is_refused() -> None:
    known = {"elements": {"1": 1}, "structures": 1, "compositions": 1}
    for wrong in ({"charges": {"a": 1}}, {"charges": [0]}, {"unpaired": {"0.5": 1}}, {"charges": {"inf": 1}}):
        with pytest.raises(ValueError, match="training set"):
            TrainingSet.read(known | wrong)


def test_a_committee_is_not_confident_about_a_charge() -> None:
    members = [small(), small(NEUTRAL._replace(charges={0: 10, 1: 10}))]
    members[1].output.load_state_dict({k: 2 * v for k, v in members[0].output.state_dict().items()})
    one = CommitteePotential(Committee(members))
    both = Batch.from_data_list([structure(AMMONIUM), structure(AMMONIUM, charge=torch.tensor([1]))])
    with pytest.warns(UnknownChargeWarning, match="the committee was trained on structures with no net charge"):
        out = one(both)
    assert out["energy_std"].isinf().tolist() == [False, True]
    assert out["energy"].isfinite().all()
    with pytest.raises(ValueError, match="charge of \\+1"):
        CommitteePotential(one.model, strict=True)(both)


def test_bundled_models_refuse_ions() -> None:
    pytest.importorskip("rdkit")
    from pyg_schnet.datasets import from_smiles

    potential = Potential(load("qm9-schnet"), strict=True)
    potential(from_smiles("CC(=O)O"))
    for smiles, charge in (("[NH4+]", 1), ("CC(=O)[O-]", -1), ("C[NH2+]CC(=O)[O-]", 0)):
        ion = from_smiles(smiles)
        assert ion.charge.tolist() == [charge]
        if charge:
            with pytest.raises(ValueError, match=rf"charge of {charge:+d}".replace("+", r"\+")):
                potential(ion)
    with pytest.raises(ValueError, match="never with 1 unpaired electron;"):
        potential(from_smiles("C[CH2]"))


def test_atoms_of_ase() -> None:
    ase = pytest.importorskip("ase")
    from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data, data_to_atoms

    places = structure(AMMONIUM).pos.numpy()
    ions = [
        ase.Atoms(AMMONIUM, places, info={"charge": 1}),
        ase.Atoms(AMMONIUM, places, charges=[-0.2, 0.3, 0.3, 0.3, 0.3]),
        data_to_atoms(structure(AMMONIUM, charge=torch.tensor([1]))),
    ]
    for atoms in ions:
        assert atoms_to_data(atoms).charge.tolist() == [1.0]
        with pytest.raises(ValueError, match="charge of \\+1"):
            SchNetCalculator(small(), strict=True).get_potential_energy(atoms)
        calculator = SchNetCalculator(small())
        (text,) = said(lambda one=calculator, ion=atoms: one.get_potential_energy(ion))
        assert "charge of +1" in text
    neutral = ase.Atoms(AMMONIUM, places, charges=[-0.4, 0.1, 0.1, 0.1, 0.1])
    assert "charge" in atoms_to_data(neutral)
    assert "charge" not in atoms_to_data(ase.Atoms(AMMONIUM, places))
    calculator = SchNetCalculator(small(), strict=True)
    calculator.get_potential_energy(neutral)
    with pytest.raises(ValueError, match="charge of \\+1"):  # of the same atoms as before
        calculator.get_potential_energy(ions[0])


def test_dynamics_and_engines(tmp_path: Path) -> None:
    ase = pytest.importorskip("ase")
    from pyg_schnet.simulation.dynamics import Dynamics
    from pyg_schnet.simulation.replicas import ReplicaPotential
    from pyg_schnet.simulation.templates import read_template

    atoms = ase.Atoms(AMMONIUM, structure(AMMONIUM).pos.numpy(), info={"total_charge": 1})
    data = structure(AMMONIUM, charge=torch.tensor([1]), mass=torch.ones(5))
    for one in (atoms, data, [structure([8, 1, 1], mass=torch.ones(3)), data]):
        with pytest.raises(ValueError, match="charge of \\+1"):
            Dynamics(small(), one, strict=True)
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    path = tmp_path / "ion.extxyz"
    path.write_text(text.getvalue())
    numbers, pbc, electrons = read_template(path)
    with pytest.raises(ValueError, match="charge of \\+1"):
        ReplicaPotential(small(), numbers, pbc, strict=True, said=electrons)


def test_the_commands(tmp_path: Path) -> None:
    ase = pytest.importorskip("ase")
    pytest.importorskip("lightning")
    from pyg_schnet.command.predict import predict_file
    from pyg_schnet.command.relax import relax
    from pyg_schnet.training import PotentialTask

    source, model = tmp_path / "ion.extxyz", small()
    atoms = ase.Atoms(AMMONIUM, structure(AMMONIUM).pos.numpy(), info={"total_charge": 1})
    ase.io.write(source, [ase.Atoms("OH2", np.eye(3)), atoms], format="extxyz")
    with pytest.raises(ValueError, match="structure 1 cannot be predicted.*charge of \\+1"):
        predict_file(PotentialTask(model), model, source, tmp_path / "strict.extxyz", strict=True)
    with pytest.warns(UnknownChargeWarning, match="charge of \\+1"):
        predict_file(PotentialTask(model), model, source, tmp_path / "predicted.extxyz")
    save(model, tmp_path / "model.safetensors")
    with pytest.warns(UnknownChargeWarning, match="charge of \\+1"):
        relax(str(tmp_path / "model.safetensors"), str(source), steps=1, output=str(tmp_path / "relaxed.extxyz"))
    strictly = {"steps": 1, "output": str(tmp_path / "strictly.extxyz"), "strict": True}
    with pytest.raises(ValueError, match="structure 1.*charge of \\+1"):
        relax(str(tmp_path / "model.safetensors"), str(source), **strictly)


def test_batches_of_charged_and_other_structures() -> None:
    ion = structure(AMMONIUM, charge=torch.tensor([1]), multiplicity=torch.tensor([1]))
    both = Batch.from_data_list([structure([8, 1, 1]), ion])
    assert both.charge.tolist() == [0, 1]
    assert both.multiplicity.tolist() == [0, 1]  # 0: not said
    assert both[1].charge.tolist() == [1]
