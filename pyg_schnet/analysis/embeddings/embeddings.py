"""What a model has learned of the elements: a map of their embeddings."""

import warnings
from collections.abc import Iterable
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyg_schnet.analysis.checks import count as checked_count
from pyg_schnet.analysis.embeddings.periodic_table import MAIN_GROUPS, group_of, period_of
from pyg_schnet.analysis.filters.radial_filters import checked_model
from pyg_schnet.models.elements import UnknownElementWarning
from pyg_schnet.nn import AtomEmbedding
from pyg_schnet.units import SYMBOLS


class EmbeddingMap(NamedTuple):
    """Embeddings of elements and their principal components.

    Attributes:
        elements: Atomic numbers [E].
        vectors: Embeddings [E, F] float64.
        components: Principal components, those of the largest variance first [E, K] float64, K the smaller one of
            E - 1 and F.
        explained_variance_ratio: Share of the variance of each [K] float64.
        groups: Groups of the elements, 0 for f elements [E].
        periods: Periods of the elements [E].
    """

    elements: Tensor
    vectors: Tensor
    components: Tensor
    explained_variance_ratio: Tensor
    groups: Tensor
    periods: Tensor

    @property
    def symbols(self) -> list[str]:
        """Symbols of the elements."""
        return [SYMBOLS[number] for number in self.elements.tolist()]


class NearestElements(NamedTuple):
    """Elements whose embeddings are nearest to those of others.

    Attributes:
        elements: Atomic numbers, the nearest first [E, k].
        distances: Distances of the embeddings [E, k] float64.
    """

    elements: Tensor
    distances: Tensor


def embedding_map(
    model: nn.Module,
    elements: Iterable[int | str] | None = None,
    *,
    least: int = 1,
    start: nn.Module | None = None,
) -> EmbeddingMap:
    r"""Principal components of the embeddings of elements.

    With the embeddings :math:`a_Z` less their mean as rows of a matrix :math:`A = U S V^\top`, the components are the
    columns of :math:`U S`, each with the sign that makes the largest entry of its direction in V positive, and explain
    :math:`S_k^2 / \sum_l S_l^2` of the variance. Schütt et al., J. Chem. Phys. 148, 241722 (2018), section III.B and
    figure 4, show the first two of the s and p elements.

    Args:
        model: A model with atom embeddings.
        elements: Atomic numbers or symbols; ``None`` for the s and p elements among those that the model was trained
            on. Embeddings of others are what chance made them.
        least: Leave out, without ``elements``, those of which the training set has fewer atoms: their embeddings have
            hardly moved from where chance put them, and often stand far apart from all others.
        start: The model before its training, see :func:`untrained`: its embeddings are taken off, what is left has been
            learned. ``None`` for the embeddings as they are, as in the paper.

    Returns:
        The map, on the CPU.

    Raises:
        TypeError: If ``model`` is no module, or an element neither a symbol nor an integer.
        ValueError: If the model has no embeddings or does not know its elements, there are less than two or two equal
            elements, the model has none of them, or all embeddings are equal.

    Warns:
        UnknownElementWarning: If an element is asked for that the model was never trained on.

    Example:
        >>> from pyg_schnet import SchNet
        >>> found = embedding_map(SchNet(hidden_channels=16), ["Li", "Na", "K", "F", "Cl"])
        >>> found.components.shape, found.groups.tolist(), found.periods.tolist()
        (torch.Size([5, 4]), [1, 1, 1, 17, 17], [2, 3, 4, 2, 3])
    """
    model = checked_model(model)
    weight = _embedding_of(model).weight.detach().cpu().double()  # [Z, F]
    numbers = _numbers(model, elements, least, len(weight) - 1)
    if start is not None:
        before = _embedding_of(checked_model(start)).weight.detach().cpu().double()
        if before.shape != weight.shape:
            raise ValueError(
                f"`start` must have embeddings {list(weight.shape)} as the model, got {list(before.shape)}"
            )
        weight = weight - before
    vectors = weight[numbers]
    u, s, v = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    size = min(len(numbers) - 1, vectors.size(1))
    if not float(s[0]) > 0.0:
        raise ValueError("the embeddings of all these elements are equal; expected those of a model with weights")
    signs = v.gather(1, v.abs().argmax(1, keepdim=True)).sign().squeeze(1)
    components = (u * s * torch.where(signs == 0, 1.0, signs))[:, :size]
    explained = (s.square() / s.square().sum())[:size]
    groups, periods = (torch.tensor([of(number) for number in numbers]) for of in (group_of, period_of))
    return EmbeddingMap(torch.tensor(numbers), vectors, components, explained, groups, periods)


def nearest_elements(found: EmbeddingMap, count: int = 3) -> NearestElements:
    """The elements with the nearest embeddings, by Euclidean distance in the whole space.

    Args:
        found: What :func:`embedding_map` returned.
        count: How many for each element.

    Returns:
        They, for each element of the map.

    Raises:
        ValueError: If the map does not have so many others.

    Example:
        >>> from pyg_schnet import SchNet
        >>> nearest_elements(embedding_map(SchNet(), [1, 3, 9]), 2).elements.shape
        torch.Size([3, 2])
    """
    others = len(found.elements) - 1
    count = checked_count("count", count, most=others)  # of the other elements of the map
    distances = torch.cdist(found.vectors, found.vectors, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(count, largest=False)
    return NearestElements(found.elements[nearest.indices], nearest.values)


def untrained(model: nn.Module, seed: int = 0) -> nn.Module:
    """A model as it was before its training, made again from its arguments and seed.

    Where it was really made so is seen by the elements that it was never trained on: their embeddings have not moved.

    Args:
        model: A trained model of this package.
        seed: Seed that was set before the model was made, ``seed_everything`` of ``pyg-schnet fit``.

    Returns:
        The model with the weights it started from.

    Raises:
        TypeError: If the model has no arguments to be made from.
        ValueError: If it does not know its elements, was trained on all it has, or did not start so.

    Example:
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.models.elements import TrainingSet
        >>> model = SchNet(hidden_channels=16)
        >>> model.training_set = TrainingSet({1: 2, 8: 1}, structures=1, compositions=1)
        >>> untrained(model, seed=3)
        Traceback (most recent call last):
            ...
        ValueError: the model did not start from seed 3: embeddings of elements never trained on are others
    """
    model = checked_model(model)
    config, training_set = getattr(model, "config", None), getattr(model, "training_set", None)
    if not isinstance(config, dict):
        raise TypeError(f"expected a model that knows its arguments, such as SchNet, got {type(model).__name__}")
    weight = _embedding_of(model).weight.detach().cpu().double()
    if training_set is None:
        raise ValueError("the model does not know which elements it was trained on, so its start cannot be checked")
    others = [number for number in range(1, len(weight)) if number not in training_set.elements]
    if not others:
        raise ValueError("the model was trained on all elements it has, so its start cannot be checked")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start: nn.Module = type(model)(**config).eval()
    before = _embedding_of(start).weight.detach().double()
    if not torch.allclose(before[others], weight[others], rtol=0.0, atol=1e-4):  # averages of weights round
        raise ValueError(
            f"the model did not start from seed {seed}: embeddings of elements never trained on are others"
        )
    return start


def _embedding_of(model: nn.Module) -> AtomEmbedding:
    found = [module for module in model.modules() if isinstance(module, AtomEmbedding)]
    if len(found) != 1:
        raise ValueError(f"expected a model with embeddings of atoms, got {type(model).__name__} with {len(found)}")
    return found[0]


def _numbers(model: Any, elements: Iterable[int | str] | None, least: int, max_z: int) -> list[int]:
    """Atomic numbers asked for, checked."""
    training_set = getattr(model, "training_set", None)
    trained: dict[int, int] | None = None if training_set is None else training_set.elements
    if elements is None:
        if trained is None:
            raise ValueError("the model does not know which elements it was trained on; pass `elements`")
        often = sorted(number for number, count in trained.items() if number <= 118 and count >= least)
        numbers = [number for number in often if group_of(number) in MAIN_GROUPS]
    else:
        given = [elements] if isinstance(elements, (int, str)) else list(elements)
        numbers = [_number_of(one) for one in given]
    if len(numbers) < 2 or len(set(numbers)) < len(numbers):
        raise ValueError(f"expected at least two different elements, got {_listed(numbers) or 'none'}")
    if min(numbers) < 1 or max(numbers) > min(max_z, 118):
        raise ValueError(f"`elements` must be from 1 to {min(max_z, 118)}, those of the model, got {_listed(numbers)}")
    if trained is not None and (unknown := [number for number in numbers if number not in trained]):
        warnings.warn(
            f"the model was never trained on {_listed(unknown)}; their embeddings are what chance made them",
            UnknownElementWarning,
            stacklevel=3,
        )
    return numbers


def _number_of(element: Any) -> int:
    if isinstance(element, str):
        if element not in SYMBOLS[1:]:
            raise ValueError(f"expected the symbol of an element, got {element!r}")
        return SYMBOLS.index(element)
    whole = isinstance(element, Integral) or (isinstance(element, Tensor) and not element.is_floating_point())
    if isinstance(element, bool) or not whole:
        raise TypeError(f"`elements` must be symbols or atomic numbers, got {element!r}")
    return int(element)


def _listed(numbers: list[int]) -> str:
    return ", ".join(SYMBOLS[number] if 0 < number < len(SYMBOLS) else str(number) for number in numbers)
