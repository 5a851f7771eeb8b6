"""The doctor finds what is wrong with models that are wrong in one way, and nothing in those that are sound."""

import copy
import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from ase.build import bulk, graphene, molecule
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, load
from pyg_schnet.analysis.doctor import Check, Diagnosis, Skipped, doctor
from pyg_schnet.analysis.doctor.check import judged, worst_of
from pyg_schnet.analysis.doctor.coverage import nearest_pairs
from pyg_schnet.analysis.doctor.derivatives import slope
from pyg_schnet.analysis.doctor.samples import c20_sample, cluster_of, made_samples, pair_distances
from pyg_schnet.analysis.doctor.subject import Subject
from pyg_schnet.graph import radius_graph
from pyg_schnet.models import DTNN, Committee, EnnS2S
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.simulation.structures import atoms_to_data


def _neighbour(name):
    """A file beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


broken = _neighbour("broken_models")


@pytest.mark.parametrize("name", broken.BROKEN)
def test_what_is_wrong_is_found(name):
    make, check = broken.BROKEN[name]
    found = doctor(make(), only=[check], progress=False)
    assert found[check].verdict == "FAIL"
    assert found[check].remedy
    assert found.failed


@pytest.mark.parametrize("vacuum", [None, 6.0], ids=["no vector along the open axis", "a vector"])
def test_a_layer_is_examined(vacuum):
    found = doctor(
        SchNet(8, 8, 1, 20, cutoff=3.0).double(),
        atoms_to_data(graphene(vacuum=vacuum), torch.float64),
        only=["forces", "graph", "smooth path", "supercell"],
        progress=False,
    )
    assert [check.verdict for check in found.checks] == ["PASS"] * 4


def test_nothing_is_wrong_with_a_sound_model():
    found = doctor(broken.sound(), progress=False)
    assert not found.failed
    assert {check.name for check in found.checks if check.verdict == "WARN"} <= {"repulsion", "elements", "distances"}
    assert {check.name for check in found.checks} >= {check for _, check in broken.BROKEN.values()}
    assert all(check.value is None or check.value <= check.bound or check.verdict == "WARN" for check in found.checks
               if check.name != "repulsion")  # fmt: skip


#: All checks but those that take most of the time.
SHORT = ["forces", "forces as they come", "stress", "Hessian", "translation", "rotation", "reflection", "permutation",
         "supercell", "extensivity", "graph", "smooth cutoff", "batch", "single precision", "tables", "elements",
         "compositions"]  # fmt: skip


@pytest.mark.parametrize("name", ["md17-ethanol", "materials-formation-energy", "qm9-schnet", "qm9-dtnn"])
def test_bundled_models(name):
    only = None if name == "md17-ethanol" else SHORT
    found = doctor(load(name), only=only, progress=False)
    assert not found.failed, str(found)
    if name == "md17-ethanol":
        assert found["repulsion"].verdict == "PASS"
        assert found["repulsion"].value > 2.0
        assert found["energy drift"].verdict == "PASS"
        assert found.structures == ["ethanol"]
    assert found["forces"].verdict == found["batch"].verdict == "PASS"
    if name == "materials-formation-energy":
        assert found["supercell"].verdict == "PASS"


def test_the_network_of_the_paper(real_data):
    model = SchNet.from_tensorflow(real_data / "c20" / "force_model.npz")
    found = doctor(model, c20_sample().data, only=[*SHORT, "repulsion"], progress=False)
    assert not found.failed, str(found)
    assert found["repulsion"].verdict == "PASS"
    assert found["elements"].verdict == "WARN"  # nobody knows


@pytest.mark.parametrize("preset", ["jcp2018", "jcp2018-materials", "schnetpack"])
def test_presets_with_random_weights(preset):
    model = SchNet.preset(preset, hidden_channels=16, num_filters=16, num_interactions=2)
    found = doctor(model, only=[*SHORT, "repulsion"], progress=False)
    assert not found.failed, str(found)


@pytest.mark.parametrize("name", ["N2", "CO"])
def test_a_repulsion_is_what_the_remedy_says(name):
    verdicts = []
    for repulsion in (None, "zbl"):
        model = SchNet(16, 16, 2, 25, cutoff=5.0, repulsion=repulsion)
        found = doctor(model, atoms_to_data(molecule(name), torch.float32), only=["repulsion"], progress=False)
        verdicts.append(found["repulsion"].verdict)
        assert ("repulsion='zbl'" in found["repulsion"].remedy) == (repulsion is None)
    assert verdicts == ["WARN", "PASS"]


def test_committees():
    members = [SchNet(12, 12, 1, cutoff=cutoff) for cutoff in (4.0, 5.0)]
    found = doctor(Committee(members), only=SHORT, progress=False)
    assert not found.failed, str(found)
    assert "Hessian" in {one.name for one in found.skipped}
    members[1] = broken.sound(broken.Placed)
    assert doctor(Committee(members), only=["translation"], progress=False).failed


@pytest.mark.parametrize(
    "model",
    [
        SchNet(12, 12, 1, cutoff=5.0, readout="dipole"),
        SchNet(12, 12, 1, cutoff=5.0, readout="spatial_extent"),
        SchNet(12, 12, 1, cutoff=5.0, out_channels=3),
        EnnS2S(12, 12, 2),
        DTNN(12, 12, 2, cutoff=5.0, cutoff_function="cosine"),
    ],
    ids=["dipole", "extent", "several", "set2set", "dtnn"],
)
def test_models_of_properties(model):
    found = doctor(model, only=SHORT, progress=False)
    assert not found.failed, str(found)
    assert found["rotation"].verdict == found["batch"].verdict == "PASS"
    if model.out_channels == 3 or model.config["readout"] in {"dipole", "spatial_extent"}:
        assert {"forces", "stress", "Hessian"} <= {one.name for one in found.skipped}


def test_a_forward_of_its_own_is_examined():
    class Leaking(SchNet):
        def forward(self, *args, **kwargs):
            y = super().forward(*args, **kwargs)
            return y - y.mean()

    found = doctor(broken.sound(Leaking), only=["forces", "batch"], progress=False)
    assert "has a `forward` of its own" in found.skipped[0].reason
    assert found["batch"].verdict == "FAIL"


def test_elements_and_distances():
    water = atoms_to_data(molecule("H2O"), torch.float64)
    model = broken.unknown_elements()
    assert doctor(model, water, only=["elements"], progress=False)["elements"].verdict == "PASS"
    ammonia = atoms_to_data(molecule("NH3"), torch.float64)
    found = doctor(model, [water, ammonia], only=["elements"], progress=False)["elements"]
    assert (found.verdict, found.value) == ("FAIL", 1.0)
    assert "N" in found.remedy
    model.training_set = TrainingSet({1: 200, 8: 100}, 100, 1)
    assert doctor(model, water, only=["compositions"], progress=False)["compositions"].verdict == "PASS"
    peroxide = atoms_to_data(molecule("H2O2"), torch.float64)
    assert doctor(model, peroxide, only=["compositions"], progress=False).failed
    wide = water.clone()
    wide.pos *= 1.2
    for seen, verdict in ((water, "PASS"), (wide, "WARN")):
        found = doctor(model, water, training=[seen], only=["distances"], progress=False)["distances"]
        assert found.verdict == verdict
    assert found.value == pytest.approx(max(0.2 * d for d, *_ in nearest_pairs(water).values()))


def test_distances_that_a_model_remembers():
    """Of a committee, each member must have seen them; images count."""
    water = atoms_to_data(molecule("H2O"), torch.float64)

    def judge(*sets, data=water):
        models = [SchNet(12, 12, 1, cutoff=5.0) for _ in sets]
        for model, distances in zip(models, sets, strict=True):
            model.training_set = TrainingSet({1: 200, 8: 100}, 100, 1, distances)
        model = models[0] if len(models) == 1 else Committee(models)
        return doctor(model, data, only=["distances"], progress=False)["distances"]

    bond, across = water.pos[0].dist(water.pos[1]).item(), water.pos[1].dist(water.pos[2]).item()
    seen = {"H-H": (across - 0.1, 4.0), "H-O": (bond - 0.02, 4.0)}
    assert (judge(seen).verdict, judge(seen).value) == ("PASS", 0.0)
    wide = seen | {"H-O": (bond + 0.2, 4.0)}
    for found in (judge(wide), judge(seen, wide)):
        assert (found.verdict, found.value) == ("WARN", pytest.approx(0.2))
        assert (
            f"a pair H-O, {bond:.2f} apart, is nearer than the nearest of the training, {bond + 0.2:.2f}" in found.what
        )
    found = judge({"H-O": seen["H-O"]})
    assert (found.verdict, found.value) == ("WARN", pytest.approx(3.0 - across))
    assert "H-H" in found.what
    for unknown in (judge({}), judge(seen, {})):
        assert (unknown.verdict, unknown.value) == ("WARN", None)
    boxed = water.clone()
    boxed.cell, boxed.pbc = 3.0 * torch.eye(3, dtype=torch.float64)[None], torch.ones(1, 3, dtype=torch.bool)
    assert judge(seen | {"O-O": (3.4, 4.0)}, data=boxed).value >= 0.4 - 1e-9


def test_the_model_stays_as_it_is():
    model = SchNet(12, 12, 1, cutoff=5.0).train()
    before = copy.deepcopy(model.state_dict())
    doctor(Potential(model), only=["forces", "tables", "single precision"], progress=False)
    assert model.training
    assert not model.frozen
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("atoms", [bulk("NaCl", "rocksalt", a=5.64), bulk("Ti"), molecule("CH3OH")], ids=str)
@pytest.mark.parametrize("cutoff", [3.1, 6.0])
def test_brute_force_counts_as_the_search(atoms, cutoff):
    data = atoms_to_data(atoms, torch.float64)
    graph = radius_graph(data.pos, cutoff, cell=data.cell, pbc=data.pbc)
    assert len(pair_distances(data, cutoff)) == graph.edge_index.size(1)


def test_samples_are_of_known_elements():
    model = SchNet(12, 12, 1, cutoff=5.0)
    for elements in ({1: 10, 8: 5}, {6: 10}, {29: 10}, {79: 4}, {1: 6, 6: 2, 8: 1}):
        model.training_set = TrainingSet(elements, 10, 1 if len(elements) == 3 else 2)
        samples = made_samples(Subject(model))
        assert {int(z) for sample in samples for z in sample.data.z} <= {*elements}
        cluster = cluster_of(samples[0], 5.0)
        assert 20 < cluster.z.numel() <= 160
        assert float(torch.pdist(cluster.pos).min()) > 0.7


def test_slope_is_exact_for_polynomials_of_fourth_degree():
    assert slope(lambda t: 3 * t**4 - t**3 + 2 * t - 1, 0.1) == pytest.approx(2.0, abs=1e-12)


def test_verdicts():
    assert judged("a", 1.0, 1.0, "", "r").verdict == "PASS"
    assert judged("a", 2.0, 1.0, "", "r", tolerated=3.0).verdict == "WARN"
    assert judged("a", 4.0, 1.0, "", "r", tolerated=3.0).verdict == "FAIL"
    assert judged("a", math.nan, 1.0, "", "r", tolerated=3.0).verdict == "FAIL"
    good, bad = judged("a", 0.9, 1.0, "", "r"), judged("a", 2.0, 1.0, "", "r", worst="WARN")
    assert worst_of([good, Skipped("a", ""), bad]) == bad
    assert worst_of([Skipped("a", "why")]) == Skipped("a", "why")


def test_report(tmp_path):
    found = Diagnosis([Check("forces", "FAIL", math.nan, 1e-6, "error", "mend it", "water")], [Skipped("GPU", "none")])
    text = str(found)
    assert "FAIL forces: mend it" in text
    assert "GPU" in text
    assert "0 passed, 0 with a warning, 1 failed, 1 skipped" in text
    written = json.loads(found.write_json(tmp_path / "a.json").read_text())
    assert written["checks"][0]["value"] is None
    assert {"name", "verdict", "value", "bound"} <= set(written["checks"][0])


def test_refusals():
    with pytest.raises(TypeError, match="must be a Potential, a model of atoms"):
        doctor(torch.nn.Linear(2, 2))
    model = SchNet(12, 12, 1, cutoff=5.0)
    with pytest.raises(ValueError, match="there is no structure in `structures`"):
        doctor(model, [])
    with pytest.raises(TypeError, match="must be Data"):
        doctor(model, [3])
    with pytest.raises(ValueError, match="atoms at finite positions"):
        doctor(model, Data(z=torch.tensor([1]), pos=torch.tensor([[math.nan, 0, 0]])))
    with pytest.raises(ValueError, match="there is no check 'fors'"):
        doctor(model, only=["fors"])


def test_a_batch_of_many_is_looked_at_here_and_there():
    water = atoms_to_data(molecule("H2O"), torch.float64)
    found = doctor(SchNet(12, 12, 1, cutoff=5.0), Batch.from_data_list([water] * 9), only="rotation", progress=False)
    assert found.structures == ["H2O"] * 4
