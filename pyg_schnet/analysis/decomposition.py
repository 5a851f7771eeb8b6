"""How a prediction is made up of contributions of the atoms."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.evaluate import evaluation_mode
from pyg_schnet.analysis.molecule import atoms_of
from pyg_schnet.models import AtomisticModel, Committee
from pyg_schnet.models.properties import properties
from pyg_schnet.units import ENERGY, target_unit

#: What is taken off the contributions where they are drawn.
BASELINES = ("auto", "reference", "element", "none")


class Decomposition(NamedTuple):
    """Contributions of the atoms to the prediction of a model.

    Attributes:
        contributions: Contributions, references included [N] float64; their sum, or their mean, is the prediction.
        baseline: What is taken off them to see their differences [N] float64.
        prediction: What the model predicts for the structure.
        total: Sum or mean of the contributions, the same up to round-off.
        how: ``"add"`` or ``"mean"``.
        less: What the baseline is, in words; empty for none.
        unit: Unit of all these numbers, ``""`` if it is not known.
    """

    contributions: Tensor
    baseline: Tensor
    prediction: float
    total: float
    how: str
    less: str
    unit: str


@torch.no_grad()
def energy_decomposition(model: nn.Module, data: Data, *, less: str = "auto", target: int = 0) -> Decomposition:
    r"""Contributions of the atoms, and their sum beside the prediction.

    .. math:: \hat P = \sum_i \hat P_i

    or the mean for intensive properties, Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.E. A contribution
    is mostly that of the element itself: what tells atoms of an element apart is seen once a baseline is taken off.

    The division among elements is the model's own. Only the total was trained on; whatever one element's atoms have
    less, another's may have more, wherever their numbers go together in the training set.

    Args:
        model: A model of contributions of atoms, a potential of one, or a committee, of which the mean is taken.
        data: One structure.
        less: ``"reference"``: the single-atom values of the model; ``"element"``: the mean over the atoms of the
            element in this structure; ``"none"``: nothing; ``"auto"``: the single-atom values if the model has them,
            else the mean of the element if an element has several atoms.
        target: Number of the target, for models of several.

    Returns:
        The contributions, on the CPU; energies in eV if the model knows its unit, all else in the unit of the model.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the readout has no contributions, the structure or the target does not fit the model, or
            ``less`` is none of the above.

    Example:
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> found = energy_decomposition(SchNet(16, 16, 1), water)
        >>> found.less, abs(found.total - found.prediction) < 1e-5
        ('the mean of its element', True)
    """
    if less not in BASELINES:
        raise ValueError(f"`less` must be one of {', '.join(map(repr, BASELINES))}, got {less!r}")
    model = getattr(model, "model", model)  # without a potential around it
    if not isinstance(model, (AtomisticModel, Committee)):
        raise TypeError(
            f"`model` must be a model of atoms such as SchNet, got {type(model).__name__}; load() reads one"
        )
    members: list[Any] = list(model) if isinstance(model, Committee) else [model]
    first = members[0]
    target = count("target", target, least=0, most=first.out_channels - 1)
    z, _ = atoms_of(data)
    given = copy.copy(data).to(str(next(model.parameters()).device))
    with evaluation_mode(model):
        if isinstance(model, Committee):
            shares, predicted = model.contributions(given).mean, model(given).mean
        else:
            shares, predicted = model.contributions(given), properties(model, given)
    unit = target_unit(first.units, target, first.out_channels)
    unit, factor = ("eV", ENERGY[unit]) if unit in ENERGY else (unit, 1.0)
    contributions = factor * shares[:, target].detach().cpu().double()
    reference = torch.stack([member.reference.atomref[:, target].detach().cpu()[z] for member in members]).mean(0)
    baseline, words = _baseline(factor * reference, z, contributions, less)
    how = first.readout.reference
    total = contributions.sum() if how == "add" else contributions.mean()
    return Decomposition(contributions, baseline, factor * float(predicted[0, target]), float(total), how, words, unit)


def _baseline(reference: Tensor, z: Tensor, contributions: Tensor, less: str) -> tuple[Tensor, str]:
    """What is taken off, and in words; references are those of each atom [N]."""
    if less == "auto":
        several = len(z) > len(z.unique())
        less = "reference" if bool(reference.any()) else "element" if several else "none"
    if less == "reference":
        return reference, "the single-atom value of its element"
    if less == "element":
        kinds, place = z.unique(return_inverse=True)
        sums = torch.zeros(len(kinds), dtype=torch.float64).index_add(0, place, contributions)
        return (sums / place.bincount())[place], "the mean of its element"
    return torch.zeros_like(contributions), ""
