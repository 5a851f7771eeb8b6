"""The map of embeddings against numpy, scipy and scikit-learn, and numbers of maps whose answer is known."""

import itertools

import numpy as np
import pytest
import torch

from pyg_schnet import SchNet
from pyg_schnet.analysis.embeddings.embedding_order import group_separation, order_within_groups, variance_by_chance
from pyg_schnet.analysis.embeddings.embeddings import embedding_map, nearest_elements, untrained
from pyg_schnet.analysis.embeddings.periodic_table import CLOSED_SHELLS, MAIN_GROUPS, group_of, period_of
from pyg_schnet.models import DTNN, Committee, EnnS2S
from pyg_schnet.models.elements import TrainingSet, UnknownElementWarning
from pyg_schnet.units import SYMBOLS

SP = [z for z in range(1, 87) if group_of(z) in MAIN_GROUPS]


def model_of(elements=None, channels=16, seed=0):
    torch.manual_seed(seed)
    model = SchNet(hidden_channels=channels, num_filters=8, num_interactions=1)
    if elements is not None:
        model.training_set = TrainingSet(dict.fromkeys(elements, 10), 10, 5)
    return model


def ordered_model(noise=0.0, seed=0):
    """Groups lie apart along some features, periods along another one that extends most."""
    model = model_of(SP, channels=24, seed=seed)
    with torch.no_grad():
        weight = noise * torch.randn(119, 24)
        for z in SP:
            weight[z, [*MAIN_GROUPS].index(group_of(z))] += 6.0
            weight[z, 10] += 4.0 * period_of(z)
        model.embedding.weight.copy_(weight)
    return model


def test_groups_and_periods():
    """The columns of the table as every chemist knows them, and each row complete."""
    columns = {
        "H Li Na K Rb Cs Fr": 1,
        "Be Mg Ca Sr Ba Ra": 2,
        "Sc Y Lu Lr": 3,
        "Fe Ru Os Hs": 8,
        "Zn Cd Hg Cn": 12,
        "B Al Ga In Tl Nh": 13,
        "N P As Sb Bi Mc": 15,
        "F Cl Br I At Ts": 17,
        "He Ne Ar Kr Xe Rn Og": 18,
        "La Ce Gd Yb Ac U No": 0,
    }
    for symbols, group in columns.items():
        assert [group_of(SYMBOLS.index(symbol)) for symbol in symbols.split()] == [group] * len(symbols.split())
    groups = np.array([group_of(z) for z in range(1, 119)])
    periods = np.array([period_of(z) for z in range(1, 119)])
    assert np.bincount(periods).tolist() == [0, 2, 8, 8, 18, 18, 32, 32]
    assert np.bincount(groups).tolist() == [28, 7, 6, *[4] * 10, *[6] * 5, 7]
    assert [z for z in range(1, 119) if groups[z - 1] == 18] == list(CLOSED_SHELLS)
    for bad in (0, 119):
        with pytest.raises(ValueError, match="from 1 to 118"):
            group_of(bad)


def test_periods_of_rdkit():
    """An independent table; its outer electrons tell the main groups but for helium."""
    table = pytest.importorskip("rdkit.Chem").GetPeriodicTable()
    if not hasattr(table, "GetRow"):
        pytest.skip("periods are in newer versions of RDKit")
    for z in range(1, 119):
        assert period_of(z) == table.GetRow(z)
        if group_of(z) in MAIN_GROUPS and 2 < z < 105:
            assert group_of(z) % 10 == table.GetNOuterElecs(z)


def test_components_are_those_of_numpy():
    """Eigenvectors of the covariance; the components of rows of different scales, signs apart."""
    found = embedding_map(model_of(SP))
    x = found.vectors.numpy() - found.vectors.numpy().mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    np.testing.assert_allclose(found.explained_variance_ratio, values[::-1] / values.sum(), rtol=1e-10)
    np.testing.assert_allclose(found.components.abs(), np.abs(x @ vectors[:, ::-1]), rtol=1e-7, atol=1e-9)
    directions = np.linalg.lstsq(x, found.components.numpy(), rcond=None)[0]
    assert (np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0) > 0).all()
    assert found.symbols[:3] == ["H", "He", "Li"]
    assert found.elements.tolist() == SP


def test_trained_elements_only_unless_asked():
    """Of those the s and p elements; others with a word, and none without knowing which they are."""
    trained = model_of([1, 6, 8, 26, 57])
    assert embedding_map(trained).elements.tolist() == [1, 6, 8]
    assert embedding_map(trained, [26, 57]).groups.tolist() == [8, 0]
    with pytest.warns(UnknownElementWarning, match="never trained on Na, K; their embeddings are what chance"):
        assert embedding_map(trained, ["H", "Na", "K"]).periods.tolist() == [1, 3, 4]
    with pytest.raises(ValueError, match="does not know which elements"):
        embedding_map(model_of())
    assert len(embedding_map(model_of(), [1, 2]).explained_variance_ratio) == 1
    trained.training_set = TrainingSet({1: 5, 6: 4, 8: 5}, 10, 5)
    assert embedding_map(trained, least=5).elements.tolist() == [1, 8]
    assert embedding_map(trained, [1, 6], least=5).elements.tolist() == [1, 6]


@pytest.mark.parametrize("kind", [DTNN, EnnS2S])
def test_other_models(kind):
    assert embedding_map(kind(max_z=20), ["H", "C", "O"]).vectors.shape[0] == 3


def test_what_was_learned():
    """Embeddings less those of the model before: what was added to some elements after it was made from a seed."""
    model = model_of([1, 6, 8], seed=5)
    with torch.no_grad():
        model.embedding.weight[[1, 6, 8]] += torch.tensor([[1.0], [0.0], [-1.0]])
    state = torch.random.get_rng_state()
    start = untrained(model, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    found = embedding_map(model, start=start)
    # float32 sums
    assert found.vectors[:, 0].tolist() == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)
    assert float(found.explained_variance_ratio[0]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="did not start from seed 4"):
        untrained(model, seed=4)
    with pytest.raises(ValueError, match=r"`start` must have embeddings \[119, 16\]"):
        embedding_map(model, start=model_of(channels=8))
    with pytest.raises(ValueError, match="does not know which elements"):
        untrained(model_of())
    with pytest.raises(ValueError, match="trained on all elements"):
        untrained(model_of(range(1, 119)))
    with pytest.raises(TypeError, match="knows its arguments, such as SchNet, got Linear"):
        untrained(torch.nn.Linear(1, 1))


def test_nearest_elements():
    """By brute force, nearest first."""
    found = embedding_map(model_of(SP))
    nearest = nearest_elements(found, 4)
    weight = found.vectors.numpy()
    for place, z in enumerate(SP):
        by_hand = sorted((np.linalg.norm(weight[place] - weight[other]), SP[other]) for other in range(len(SP)))[1:5]
        assert nearest.elements[place].tolist() == [number for _, number in by_hand], z
        np.testing.assert_allclose(nearest.distances[place], [distance for distance, _ in by_hand], rtol=1e-12)
    with pytest.raises(ValueError, match="`count` must be 1, there is no other, got 2"):
        nearest_elements(embedding_map(model_of(), [1, 2]), 2)


def test_rank_correlation_is_that_of_scipy():
    """And its p-values are counted by hand over all orders of a group of five."""
    stats = pytest.importorskip("scipy.stats")
    found = embedding_map(model_of(SP))
    order = order_within_groups(found, permutations=100)
    assert [one.group for one in order.groups] == [*MAIN_GROUPS]
    for one in order.groups:
        members = [SP.index(z) for z in one.elements.tolist()]
        periods = [period_of(SP[place]) for place in members]
        assert one.rho == pytest.approx(stats.spearmanr(found.components[members, 0], periods).statistic)
        own = np.linalg.svd(found.vectors[members] - found.vectors[members].mean(0))[0][:, 0]
        assert one.own_rho == pytest.approx(abs(stats.spearmanr(own, periods).statistic))
    five = next(one for one in order.groups if len(one.elements) == 5)
    orders = [abs(stats.spearmanr(range(5), o).statistic) for o in itertools.permutations(range(5))]
    assert five.p_value == pytest.approx(np.mean(np.array(orders) >= abs(five.rho) - 1e-9))
    assert order.mean_rho == pytest.approx(np.mean([one.rho for one in order.groups]))


def test_order_of_a_map_that_has_one_and_of_one_that_has_none():
    """Perfect order is far from chance; random embeddings are within it, most of the time (20 seeds, 5 %)."""
    ordered = order_within_groups(embedding_map(ordered_model()), permutations=2000)
    assert all(abs(one.rho) == one.own_rho == 1.0 for one in ordered.groups)
    assert abs(ordered.mean_rho) == 1.0
    assert ordered.p_value == ordered.own_p_value == pytest.approx(1 / 2001)
    assert "1.00 (0." in str(ordered)
    p = [order_within_groups(embedding_map(model_of(SP, seed=s)), permutations=200).p_value for s in range(20)]
    assert sum(value < 0.05 for value in p) <= 4  # more than four of twenty: chance of 0.3 %
    assert 0.3 < np.mean(p) < 0.7
    assert 0.3 < ordered.random_own_rho < 0.5


def test_silhouette_is_that_of_the_definition():
    """Written out for each element, in space and plane."""
    pytest.importorskip("sklearn")
    found = embedding_map(model_of(SP))
    separation = group_separation(found, permutations=20)
    for x, value in ((found.vectors, separation.silhouette), (found.components[:, :2], separation.plane)):
        distances, groups = np.linalg.norm(x[:, None].numpy() - x[None].numpy(), axis=2), found.groups.numpy()
        each = []
        for i, group in enumerate(groups):
            means = {g: distances[i, (groups == g) & (np.arange(len(groups)) != i)].mean() for g in set(groups)}
            a, b = means[group], min(mean for g, mean in means.items() if g != group)
            each.append((b - a) / max(a, b))
        assert value == pytest.approx(np.mean(each))


def test_separation_of_a_map_that_has_one_and_of_one_that_has_none():
    pytest.importorskip("sklearn")
    model = ordered_model(noise=0.1)
    with torch.no_grad():
        model.embedding.weight[:, 10] = 0.0  # leave the groups alone
    apart = group_separation(embedding_map(model), permutations=100)
    assert apart.silhouette > 0.8
    assert apart.neighbours == 1.0
    assert apart.p_value == apart.plane_p_value == apart.neighbours_p_value == pytest.approx(1 / 101)
    assert apart.random_silhouette < 0.0
    assert 0.05 < apart.random_neighbours < 0.25  # about five others of forty
    assert "nearest element is of the same group for 100% (" in str(apart)
    p = [group_separation(embedding_map(model_of(SP, seed=s)), permutations=30).p_value for s in range(10)]
    assert 0.2 < np.mean(p) < 0.8


def test_variance_by_chance():
    """Of independent features the same as found, of one direction that all follow much less."""
    random = embedding_map(model_of(SP))
    assert float(variance_by_chance(random)[:2].sum()) == pytest.approx(
        float(random.explained_variance_ratio[:2].sum()), rel=0.15
    )
    ordered = embedding_map(ordered_model(noise=1.0))
    assert ordered.explained_variance_ratio[0] > 0.4
    flat = variance_by_chance(ordered, permutations=50)
    assert flat.sum() <= 1.0 + 1e-9
    model = model_of(SP)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.randn(119, 1) * torch.randn(1, 16))
    assert float(embedding_map(model).explained_variance_ratio[0]) == pytest.approx(1.0)
    assert variance_by_chance(embedding_map(model))[0] < 0.6


def test_figure():
    """A legend of the groups, a symbol for each element, shares of the variance; two elements, too."""
    pytest.importorskip("matplotlib")
    from pyg_schnet.analysis.embeddings.embedding_figure import draw_embeddings

    found = embedding_map(model_of([1, 3, 11, 9, 17, 26]), [1, 3, 11, 9, 17, 26])
    axes = draw_embeddings(found, components=(1, 2))
    assert [text.get_text() for text in axes.texts] == found.symbols
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["IA", "group 8", "VIIA"]
    assert (
        axes.get_xlabel() == f"principal component 2 ({100 * found.explained_variance_ratio[1]:.0f} % of the variance)"
    )
    places = np.concatenate([one.get_offsets() for one in axes.collections])
    np.testing.assert_allclose(np.sort(places[:, 0]), np.sort(found.components[:, 1]))
    assert draw_embeddings(embedding_map(model_of(), [1, 2])).get_ylabel().endswith("(0 % of the variance)")
    with pytest.raises(ValueError, match="from 0 to 4, got"):
        draw_embeddings(found, components=(0, 5))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda m: embedding_map("file"), TypeError, "read a file with"),
        (lambda m: embedding_map(torch.nn.Linear(1, 1)), ValueError, "embeddings of atoms, got Linear with 0"),
        (lambda m: embedding_map(Committee([m, model_of()])), ValueError, "a committee of 2"),
        (lambda m: embedding_map(m, [6]), ValueError, "two different elements, got C"),
        (lambda m: embedding_map(m, []), ValueError, "two different elements, got none"),
        (lambda m: embedding_map(m, [6, 6]), ValueError, "two different elements, got C, C"),
        (lambda m: embedding_map(m, [6, 119]), ValueError, "from 1 to 118"),
        (lambda m: embedding_map(m, [6, 1.5]), TypeError, "symbols or atomic numbers, got 1.5"),
        (lambda m: embedding_map(m, [6, None]), TypeError, "symbols or atomic numbers, got None"),
        (lambda m: embedding_map(m, ["C", "Unobtainium"]), ValueError, "symbol of an element, got 'Unobtainium'"),
        (lambda m: order_within_groups(embedding_map(m, [1, 3, 9])), ValueError, "a group with at least three"),
        (lambda m: group_separation(embedding_map(m, [1, 6, 8])), ValueError, "two elements of one of them, got 3"),
        (lambda m: group_separation(embedding_map(m, [1, 3])), ValueError, "needs two groups"),
        (lambda m: group_separation(embedding_map(m, [1, 3, 9]), 0), ValueError, "`permutations` must be at least 1"),
        (lambda m: order_within_groups(embedding_map(m, [1, 3, 9]), 0), ValueError, "`permutations` must be"),
    ],
)
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=text):
        call(model_of())


def test_equal_embeddings():
    model = model_of()
    torch.nn.init.ones_(model.embedding.weight)
    with pytest.raises(ValueError, match="are equal"):
        embedding_map(model, [1, 2, 3])
