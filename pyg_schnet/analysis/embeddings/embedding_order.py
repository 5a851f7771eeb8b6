"""How well embeddings follow the periodic table, in numbers: order within groups, separation of groups."""

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet.analysis.embeddings.embeddings import EmbeddingMap, nearest_elements


class GroupOrder(NamedTuple):
    """How far the elements of a group are ordered by their period.

    Attributes:
        group: Number of the group.
        elements: Its elements [n], light ones first.
        rho: Rank correlation of the first principal component of the map with the period.
        p_value: Share of all orders of the elements whose correlation is at least as large, of either sign.
        own_rho: The same along the direction in which this group extends most; its sign means nothing and is left out.
        own_p_value: That of this one.
    """

    group: int
    elements: Tensor
    rho: float
    p_value: float
    own_rho: float
    own_p_value: float


class Order(NamedTuple):
    """Order within all groups.

    Attributes:
        groups: That of each group of at least three elements.
        mean_rho: Mean of ``rho`` over the groups: one direction for all of them, so signs may cancel.
        p_value: Share of random orders within the groups whose mean is at least as large, of either sign.
        mean_own_rho: Mean of ``own_rho`` over the groups.
        own_p_value: Share of random orders within the groups whose mean is at least as large.
        random_own_rho: What ``mean_own_rho`` is on the average for random orders.
    """

    groups: list[GroupOrder]
    mean_rho: float
    p_value: float
    mean_own_rho: float
    own_p_value: float
    random_own_rho: float

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"rank correlation with the period along the first component {self.mean_rho:.2f} in the mean over "
            f"{len(self.groups)} groups (0 by chance, p = {self.p_value:.2g}), along the own direction of each group "
            f"{self.mean_own_rho:.2f} ({self.random_own_rho:.2f} by chance, p = {self.own_p_value:.2g})"
        )


class Separation(NamedTuple):
    """How far elements of the same group are near one another, beside random groups of the same sizes.

    Attributes:
        silhouette: Mean silhouette in the whole space, from -1 to 1.
        random_silhouette: Its mean over random permutations of the groups.
        p_value: Share of permutations in which it is at least as large.
        plane: Mean silhouette in the plane of the first two principal components.
        random_plane: Its mean over the permutations.
        plane_p_value: Share of permutations in which it is at least as large.
        neighbours: Share of the elements of groups of two or more whose nearest element is of the same group.
        random_neighbours: Its mean over the permutations.
        neighbours_p_value: Share of permutations in which it is at least as large.
    """

    silhouette: float
    random_silhouette: float
    p_value: float
    plane: float
    random_plane: float
    plane_p_value: float
    neighbours: float
    random_neighbours: float
    neighbours_p_value: float

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"silhouette {self.silhouette:.3f} in the whole space ({self.random_silhouette:.3f} by chance, "
            f"p = {self.p_value:.2g}) and {self.plane:.3f} in the plane ({self.random_plane:.3f}, "
            f"p = {self.plane_p_value:.2g}); the nearest element is of the same group for {self.neighbours:.0%} "
            f"({self.random_neighbours:.0%}, p = {self.neighbours_p_value:.2g})"
        )


def order_within_groups(found: EmbeddingMap, permutations: int = 10_000, seed: int = 0) -> Order:
    r"""Rank correlation (Spearman's) of places along a direction with the period, for each group.

    .. math:: \rho = 1 - \frac{6 \sum_i (R_i - P_i)^2}{n (n^2 - 1)}

    with the ranks R of the places and P of the periods of n elements. Neither direction looks at the periods: one is
    the first principal component of the whole map, the same for all groups; the other is the direction in which the
    elements of the group itself extend most in the whole space. Of one group, the p-value is exact, from all n! orders;
    of the mean over the groups it comes from random orders. It is small only where there are many elements: of three,
    it is 1/3 at best, of five 1/60.

    Args:
        found: What :func:`~pyg_schnet.analysis.embedding_map` returned.
        permutations: Number of random orders.
        seed: Seed of the random orders.

    Returns:
        The correlations.

    Raises:
        ValueError: If no group has three elements, or there is no permutation.

    Example:
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.embeddings.embeddings import embedding_map
        >>> found = embedding_map(SchNet(), ["Li", "Na", "K", "Rb", "Cs", "F", "Cl", "Br"])
        >>> [(one.group, len(one.elements)) for one in order_within_groups(found).groups]
        [(1, 5), (17, 3)]
    """
    if permutations < 1:
        raise ValueError(f"`permutations` must be at least 1, got {permutations}")
    generator = torch.Generator().manual_seed(seed)
    groups, drawn = [], []
    for group in sorted(set(found.groups.tolist()) - {0}):
        members = (found.groups == group).nonzero().squeeze(1)
        members = members[found.periods[members].argsort()]
        if len(members) < 3:
            continue
        chance = _rho_of_all_orders(len(members))
        rho = _rho(found.components[members, 0])
        vectors = found.vectors[members]
        own = abs(_rho(torch.linalg.svd(vectors - vectors.mean(0)).U[:, 0]))
        p_value, own_p_value = (float((chance.abs() >= abs(value) - 1e-9).double().mean()) for value in (rho, own))
        groups.append(GroupOrder(group, found.elements[members], rho, p_value, own, own_p_value))
        drawn.append(chance[torch.randint(len(chance), (permutations,), generator=generator)])
    if not groups:
        raise ValueError("an order needs a group with at least three elements; the map has none")
    random = torch.stack(drawn)  # [G, permutations]
    mean, mean_own = (sum(values) / len(groups) for values in ([g.rho for g in groups], [g.own_rho for g in groups]))
    return Order(
        groups,
        mean,
        _share(random.mean(0).abs(), abs(mean)),
        mean_own,
        _share(random.abs().mean(0), mean_own),
        float(random.abs().mean()),
    )


def group_separation(found: EmbeddingMap, permutations: int = 1000, seed: int = 0) -> Separation:
    r"""Silhouette of the groups (Rousseeuw, J. Comput. Appl. Math. 20, 53 (1987)), in the whole space and in the plane.

    .. math:: s_i = \frac{b_i - a_i}{\max(a_i, b_i)}

    with the mean distance a of an element to the others of its group and b to those of the nearest other group; 0 for
    an element alone in its group. Beside it stands what random permutations of the groups among the elements give.

    Args:
        found: What :func:`~pyg_schnet.analysis.embedding_map` returned.
        permutations: Number of permutations.
        seed: Their seed.

    Returns:
        Means over the elements.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If there is one group only, no group has two elements or there is no permutation.

    Example:
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.embeddings.embeddings import embedding_map
        >>> found = embedding_map(SchNet(), ["Li", "Na", "K", "F", "Cl", "Br"])
        >>> -1.0 < group_separation(found, permutations=10).silhouette < 1.0
        True
    """
    if permutations < 1:
        raise ValueError(f"`permutations` must be at least 1, got {permutations}")
    score, groups = _silhouette_score(), found.groups
    kinds = len(set(groups.tolist()))
    if not 2 <= kinds < len(groups):
        raise ValueError(
            f"a separation needs two groups and two elements of one of them, got {len(groups)} elements of {kinds}"
        )
    spaces = [torch.cdist(x, x).numpy() for x in (found.vectors, found.components[:, :2])]
    for distances in spaces:
        distances.flat[:: len(groups) + 1] = 0.0
    generator = torch.Generator().manual_seed(seed)
    orders = [groups[torch.randperm(len(groups), generator=generator)] for _ in range(permutations)]
    true = [float(score(distances, groups, metric="precomputed")) for distances in spaces]
    random = [torch.tensor([score(distances, o, metric="precomputed") for o in orders]) for distances in spaces]
    nearest = (nearest_elements(found, 1).elements == found.elements).long().argmax(1)  # its place in the map
    same, others = float(_same(groups, nearest)), torch.stack([_same(order, nearest) for order in orders])
    return Separation(
        true[0],
        float(random[0].mean()),
        _share(random[0], true[0]),
        true[1],
        float(random[1].mean()),
        _share(random[1], true[1]),
        same,
        float(others.mean()),
        _share(others, same),
    )


def variance_by_chance(found: EmbeddingMap, permutations: int = 200, seed: int = 0) -> Tensor:
    """Shares of the variance that principal components explain where elements have nothing in common.

    Each feature is permuted among the elements by itself, which leaves its variance and takes away all that features
    have to do with one another (Horn's parallel analysis, Psychometrika 30, 179 (1965)).

    Args:
        found: What :func:`~pyg_schnet.analysis.embedding_map` returned.
        permutations: Number of permutations.
        seed: Their seed.

    Returns:
        Means over the permutations, beside ``found.explained_variance_ratio`` [K] float64.

    Example:
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.embeddings.embeddings import embedding_map
        >>> variance_by_chance(embedding_map(SchNet(), ["Li", "Na", "K"]), permutations=10).shape
        torch.Size([2])
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(found.explained_variance_ratio)
    for _ in range(permutations):
        order = torch.rand(found.vectors.shape, generator=generator, dtype=torch.float64).argsort(0)
        shuffled = found.vectors.gather(0, order)
        s = torch.linalg.svdvals(shuffled - shuffled.mean(0)).square()
        total += (s / s.sum())[: len(total)]
    return total / permutations


def _rho(places: Tensor) -> float:
    """Rank correlation of places with the order in which they are given."""
    n = len(places)
    ranks = places.argsort().argsort().double()
    return 1.0 - 6.0 * float((ranks - torch.arange(n)).square().sum()) / (n * (n * n - 1))


def _rho_of_all_orders(n: int) -> Tensor:
    orders = torch.tensor(list(itertools.permutations(range(n))), dtype=torch.float64)  # [n!, n]
    return 1.0 - 6.0 * (orders - torch.arange(n)).square().sum(1) / (n * (n * n - 1))


def _share(random: Tensor, value: float) -> float:
    """Share of random values at least as large, the value itself counted among them: never zero."""
    return float((1 + (random >= value - 1e-9).sum()) / (1 + random.numel()))


def _same(groups: Tensor, nearest: Tensor) -> Tensor:
    """Share of elements, of those that are not alone in their group, whose nearest one is of the same group."""
    sizes = (groups[:, None] == groups).sum(1)
    return (groups[nearest] == groups)[sizes > 1].double().mean()


def _silhouette_score() -> Any:
    try:
        from sklearn.metrics import silhouette_score  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('silhouettes need scikit-learn; install it with pip install "pyg_schnet[plot]"') from error
    return silhouette_score
