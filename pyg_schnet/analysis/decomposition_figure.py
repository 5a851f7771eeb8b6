"""Contributions of atoms, drawn on the molecule (extras ``plot`` and ``md``)."""

from typing import Any

from torch import nn
from torch_geometric.data import Data

from pyg_schnet.analysis.decomposition import Decomposition, energy_decomposition
from pyg_schnet.analysis.error_figures import shown_unit
from pyg_schnet.analysis.figure import new_axes
from pyg_schnet.analysis.molecule_figure import draw_molecule


def draw_decomposition(
    model: nn.Module | Decomposition,
    data: Data,
    axes: Any = None,
    *,
    less: str = "auto",
    target: int = 0,
    **options: Any,
) -> Any:
    """Draw the contributions of the atoms to a prediction, in colours, on the molecule.

    The title gives the prediction and the sum of all contributions, which are the same; the colours are those of the
    contributions less a baseline, which is named beside the colour bar; white is no difference.

    Args:
        model: The model, or what :func:`~pyg_schnet.analysis.energy_decomposition` returned.
        data: One structure.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        less: Baseline, as in :func:`~pyg_schnet.analysis.energy_decomposition`.
        target: Number of the target, for models of several.
        **options: Options of :func:`~pyg_schnet.analysis.draw_molecule`.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib or ASE is missing.
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.energy_decomposition`.

    Example:
        >>> import torch
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> draw_decomposition(SchNet(16, 16, 1), water).get_title().split()[0]
        'prediction'
    """
    found = model if isinstance(model, Decomposition) else energy_decomposition(model, data, less=less, target=target)
    shown, unit = found.contributions - found.baseline, shown_unit(found.unit)
    words = f"\nless {found.less}" if found.less else ""
    label = f"contribution{f' ({unit})' if unit else ''}{words}"
    axes = draw_molecule(data, new_axes(axes, 5.0, 4.0), values=shown, label=label, **options)
    digits = _digits(found)
    named = "sum" if found.how == "add" else "mean"
    end = f" {unit}" if unit else ""
    axes.set_title(
        f"prediction {found.prediction:.{digits}f}{end}\n{named} of the atoms {found.total:.{digits}f}{end}", fontsize=9
    )
    return axes


def _digits(found: Decomposition) -> int:
    """Decimals that show seven digits of the prediction, three at least."""
    whole = len(str(int(abs(found.prediction))))
    return max(3, 7 - whole)
