"""Elements and compositions never trained on: said once, or refused; committees have infinite spreads there."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.models import Committee, CommitteePotential, properties, read_header
from pyg_schnet.models.elements import (
    TrainingSet,
    UnknownCompositionWarning,
    UnknownElementWarning,
    check_elements,
    seen_by,
)
from pyg_schnet.simulation import RecordedPotential
from tests.models.said import said

WATER, METHANE, AMMONIA = [8, 1, 1], [6, 1, 1, 1, 1], [7, 1, 1, 1]
#: Molecules of H, C and O, of several compositions.
SEVERAL = TrainingSet({1: 60, 6: 10, 8: 10}, structures=20, compositions=2)
ONLY_WATER = TrainingSet({1: 20, 8: 10}, structures=10, compositions=1)


def structure(numbers: list[int]) -> Data:
    places = torch.arange(3 * len(numbers)).view(-1, 3).remainder(7).float()
    return Data(z=torch.tensor(numbers), pos=0.9 * places + torch.rand(len(numbers), 3))


#: Those of other packages, in newer versions of Python; `pytest.warns` gives them on.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def small(training_set: TrainingSet | None = SEVERAL) -> SchNet:
    model = SchNet(8, 8, 1, num_gaussians=8, cutoff=4.0).eval()
    model.training_set = training_set
    return model


def test_training_sets_are_counted() -> None:
    parts = [Batch.from_data_list([structure(WATER), structure(2 * WATER)]), Batch.from_data_list([structure(METHANE)])]
    found = TrainingSet.of(parts)
    assert found[:3] == TrainingSet({1: 10, 6: 1, 8: 3}, structures=3, compositions=2)[:3]
    assert found.charges == {0: 3}
    assert TrainingSet.of(parts[:1]).compositions == 1  # twice the atoms in the same proportions


def test_known_elements_pass_without_a_word() -> None:
    model, data = small(), structure(WATER)
    several = CommitteePotential(committee(SEVERAL, SEVERAL))
    for call in (Potential(model), Potential(model).hessian, partial(properties, model), several):
        assert not said(partial(call, data))
    assert model.elements == [1, 6, 8]


WAYS = ["potential", "frozen", "hessian", "product", "properties", "model", "features", "contributions"]


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_element_is_said_once(way: str) -> None:
    model, data = small(), structure(AMMONIA)
    if way == "frozen":
        model.freeze()
    potential = Potential(model)
    call = {
        "potential": lambda: potential(data),
        "frozen": lambda: potential(data),
        "hessian": lambda: potential.hessian(data),
        "product": lambda: potential.hessian_vector_product(data, vector=torch.ones(4, 3)),
        "properties": lambda: properties(model, data),
        "model": lambda: model(data.z, data.pos),
        "features": lambda: model.features(data.z, data.pos),
        "contributions": lambda: model.contributions(data.z, data.pos),
    }[way]
    (text,) = said(call)
    assert "trained on H, C and O, never on element N (7)" in text
    assert not said(call)
    assert ["F (9)" in one for one in said(lambda: Potential(model)(structure([9, 7, 1])))] == [True]


def test_strict_refuses_each_time() -> None:
    model = small()
    said(lambda: Potential(model)(structure(AMMONIA)))  # warned of before
    potential = Potential(model, strict=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"element N \(7\)"):
            potential(structure(AMMONIA))
    with pytest.raises(ValueError, match=r"element N \(7\), element F \(9\)"):
        properties(model, structure([9, 7, 1]), strict=True)
    with pytest.raises(ValueError, match="never on element N"):
        RecordedPotential(model, torch.tensor(AMMONIA), strict=True)
    potential(structure(WATER))


def test_a_model_without_the_list_says_nothing() -> None:
    model = small(None)
    assert model.elements is None
    assert not said(lambda: Potential(model, strict=True)(structure(AMMONIA)))


def test_numbers_that_the_model_refuses_are_left_to_it() -> None:
    model = small()
    for number in (-1, 0, 119, 10**9):
        check_elements(model, torch.tensor([1, number]), strict=True)
    for wrong in (torch.tensor([7.0]), [7], None, torch.empty(0, dtype=torch.long)):
        check_elements(model, wrong, strict=True)


def test_another_composition_than_the_only_one() -> None:
    model = small(ONLY_WATER)
    potential = Potential(model)
    assert not said(lambda: potential(structure(WATER)))
    assert not said(lambda: potential(structure(3 * WATER)))  # the same proportions
    both = Batch.from_data_list([structure(WATER), structure(WATER)])
    assert not said(lambda: potential(both))
    with pytest.warns(UnknownCompositionWarning, match="single composition, H2O"):
        potential(structure([8, 8, 1, 1]))
    assert not said(lambda: potential(structure([8, 1])))
    with pytest.raises(ValueError, match="single composition"):
        Potential(model, strict=True)(structure([1, 1]))


def test_structures_that_make_up_the_composition_together() -> None:
    both = Batch.from_data_list([structure([8]), structure([1, 1])])
    with pytest.warns(UnknownCompositionWarning):
        properties(small(ONLY_WATER), both)


def test_files_and_copies_keep_the_list(tmp_path) -> None:
    save(small(), tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    assert model.training_set == SEVERAL
    assert read_header(tmp_path / "model.safetensors")["training_set"]["elements"] == {"1": 60, "6": 10, "8": 10}
    for one in (model, copy.deepcopy(model), model.double()):
        with pytest.warns(UnknownElementWarning):
            check_elements(copy.deepcopy(one), torch.tensor(AMMONIA))
    save(small(None), tmp_path / "unknown.safetensors")
    assert load(tmp_path / "unknown.safetensors").elements is None


def counted(model: SchNet, batches: list[Batch]) -> TrainingSet:
    """What a model has seen, without distances and electrons."""
    seen = seen_by(model, batches)
    assert seen is not None
    return seen._replace(distances={}, charges={}, unpaired={})


def test_what_was_trained_before_counts_too(tmp_path) -> None:
    batches = [Batch.from_data_list([structure(WATER)] * 10)]
    assert counted(small(None), batches) == ONLY_WATER
    assert counted(small(ONLY_WATER), batches) == ONLY_WATER  # the same examples again
    assert counted(small(SEVERAL), batches) == TrainingSet({1: 80, 6: 10, 8: 20}, structures=30, compositions=3)
    save(small(None), tmp_path / "unknown.safetensors")
    assert seen_by(load(tmp_path / "unknown.safetensors"), batches) is None
    fresh = load(tmp_path / "unknown.safetensors")
    fresh.reset_parameters()
    assert counted(fresh, batches) == ONLY_WATER


def committee(*sets: TrainingSet | None) -> Committee:
    return Committee([small(one) for one in sets])


def test_a_committee_knows_what_all_members_know() -> None:
    assert committee(SEVERAL, ONLY_WATER).elements == [1, 8]
    assert committee(SEVERAL, None).elements == [1, 6, 8]
    assert committee(None, None).elements is None


@pytest.mark.parametrize("foreign", [AMMONIA, METHANE])
def test_a_committee_is_not_confident_about_what_a_member_does_not_know(foreign: list[int]) -> None:
    both = Batch.from_data_list([structure(WATER), structure(foreign)])
    one = committee(SEVERAL, TrainingSet({1: 60, 8: 20}, structures=10, compositions=3))
    potential = CommitteePotential(one, virials=True)
    outputs: list[dict[str, Tensor]] = []
    (text,) = said(lambda: outputs.append(potential(both)))
    assert "the committee was trained on H and O, never on element" in text
    (out,) = outputs
    assert out["energy_std"].isfinite().tolist() == [True, False]
    for name in ("forces", "virials"):
        assert out[f"{name}_std"].isinf().flatten(1).all(1).tolist() == [False] * 3 + [True] * len(foreign)
        assert out[name].isfinite().all()
    assert one(both.z, both.pos, both.batch).std.isinf().tolist() == [[False], [True]]
    shares = one.contributions(both.z, both.pos, both.batch)
    assert shares.std.isinf().squeeze(1).tolist() == [False] * 3 + [True] * len(foreign)
    with pytest.raises(ValueError, match="the committee was trained on H and O"):
        CommitteePotential(one, strict=True)(both)


def test_a_committee_of_one_composition() -> None:
    both = Batch.from_data_list([structure(WATER), structure([8, 1])])
    with pytest.warns(UnknownCompositionWarning, match="the committee"):
        out = CommitteePotential(committee(ONLY_WATER, ONLY_WATER))(both)
    assert out["energy_std"].isinf().tolist() == [False, True]


def test_a_header_with_an_impossible_list_is_refused() -> None:
    known = {"elements": {"1": 1}, "structures": 1, "compositions": 1}
    far = [known | {"distances": one} for one in ([1], {"H-H": 1}, {"H-H": [2, 1]}, {"H-H": [0, 1]}, {"H-H": ["a", 1]})]
    for wrong in (
        {"elements": [1], "structures": 1, "compositions": 1},
        {"elements": {"H": 1}},
        3,
        {"elements": {}},
        *far,
    ):
        with pytest.raises(ValueError, match="training set"):
            TrainingSet.read(wrong)
