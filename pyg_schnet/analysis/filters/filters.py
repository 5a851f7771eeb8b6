"""What filter-generating networks have learned: curves of the distance, and cuts through space."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.analysis.evaluate import evaluation_mode
from pyg_schnet.analysis.filters.radial_filters import RadialFilter, default_reach, radial_filters
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.sizes import SIZES


class FilterCurves(NamedTuple):
    """Filters of all interactions at some distances.

    Attributes:
        distances: Distances in Angstrom [D].
        values: Filters [T, D, F].
        names: Names of the layers in the model, T of them.
    """

    distances: Tensor
    values: Tensor
    names: tuple[str, ...]


class FilterCut(NamedTuple):
    """Filters of one interaction on a square around an atom.

    Attributes:
        coordinates: Places along either side in Angstrom [M], zero in the middle.
        values: Filters [M, M, F]; the row is the place upwards, the column that to the right.
        images: Number of lattice vectors from which a filter reaches the square; 1 for a single atom.
        name: Name of the layer in the model.
    """

    coordinates: Tensor
    values: Tensor
    images: int
    name: str


@torch.no_grad()
def filter_curves(
    model: nn.Module,
    distances: Tensor | ArrayLike | None = None,
    *,
    cutoff: bool = True,
    basis: Callable[[Tensor], Tensor] | None = None,
) -> FilterCurves:
    r"""Filters as functions of the distance, of every interaction block.

    .. math:: W_k(d) = \mathrm{network}_k(e(d))\, C(d)

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.1; of a DTNN the factor
    :math:`W^\mathrm{df} e(d) + b^{f_2}` of its tensor layer. Of a frozen model they are read from its tables, as its
    predictions are. Blocks that share their weights count once.

    Args:
        model: A :class:`~pyg_schnet.SchNet`, a :class:`~pyg_schnet.models.DTNN`, a :class:`~pyg_schnet.Potential` of
            one, or any module with :class:`~pyg_schnet.CFConv` or tensor layers.
        distances: Distances in Angstrom [D]; ``None`` for 500 from zero to the cutoff of the model.
        cutoff: True if the filters are as the model applies them, with the cutoff function and zero where atoms no
            longer interact; else what the filter networks give.
        basis: What expands distances, for modules that do not have exactly one radial basis.

    Returns:
        The curves, in the dtype and on the device of the model.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it has no such layers, is a committee, its layers differ in the number of filters, or distances
            are no finite numbers from zero on.

    Example:
        >>> from pyg_schnet import SchNet
        >>> curves = filter_curves(SchNet.preset("jcp2018-materials"), [0.0, 1.5, 5.0])
        >>> curves.values.shape, bool(curves.values[:, 2].any())
        (torch.Size([6, 3, 64]), False)
    """
    filters = radial_filters(model, basis)
    if distances is None:
        places = torch.linspace(0.0, default_reach(filters), 500, dtype=torch.float64)
    else:
        places = _checked_distances(distances)
    with evaluation_mode(model):
        values = [one(places, cutoff) for one in filters]
    if len({value.size(1) for value in values}) > 1:
        raise ValueError(
            f"expected layers of one size, got {', '.join(str(value.size(1)) for value in values)} filters"
        )
    return FilterCurves(places.to(values[0]), torch.stack(values), tuple(one.name for one in filters))


@torch.no_grad()
def filter_cut(
    model: nn.Module,
    crystal: Data | Tensor | None = None,
    *,
    block: int = 0,
    width: float = 5.0,
    resolution: int = 81,
    plane: Tensor | ArrayLike | None = None,
    basis: Callable[[Tensor], Tensor] | None = None,
    progress: bool = False,
) -> FilterCut:
    r"""A square cut through the filters of one interaction block, with an atom in the middle.

    Without a crystal the filter at a place r is :math:`\tilde W(|r|)`. In a crystal every atom has images, and as their
    features are the same, the convolution may be taken over the filter

    .. math:: W(r) = \sum_n \tilde W(r + n) , \quad |r + n| < r_\mathrm{cut}

    with the sum over all lattice vectors n, Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.2; the
    normalisation by the number of neighbours is a number in front of it and left out. As the lattice alone enters, a
    larger cell of the same crystal gives another filter.

    Args:
        model: As in :func:`filter_curves`.
        crystal: A ``Data`` with ``cell`` and ``pbc``, or lattice vectors as rows [3, 3], all periodic; ``None`` for a
            single atom.
        block: Number of the block; negative ones count from the last.
        width: Side of the square in Angstrom.
        resolution: Number of places M along a side.
        plane: Directions to the right and up [2, 3], orthogonal; ``None`` for x and y.
        basis: As in :func:`filter_curves`.
        progress: True to show a progress bar where it takes long.

    Returns:
        The cut.

    Raises:
        TypeError: If ``model`` is no module, or ``crystal`` of another kind.
        ValueError: If there is no such block, the crystal has no complete cell, the model does not say how far atoms
            interact in a crystal, or an argument is out of its range.

    Example:
        >>> from pyg_schnet import SchNet
        >>> model = SchNet.preset("jcp2018-materials")
        >>> filter_cut(model, resolution=11).values.shape
        torch.Size([11, 11, 64])
        >>> filter_cut(model, 3.567 * torch.eye(3), resolution=11).images
        57
    """
    filters = radial_filters(model, basis)
    block = count("block", block, least=-len(filters), most=len(filters) - 1)
    width, resolution = positive("width", width, "Angstrom"), count("resolution", resolution, least=2)
    chosen = filters[block]
    side = torch.linspace(-0.5 * width, 0.5 * width, resolution, dtype=torch.float64)
    right, up = _directions(plane)
    places = (side[:, None, None] * up + side[None, :, None] * right).reshape(-1, 3)  # [M * M, 3]
    images = _images(crystal, chosen.reach, width)
    with evaluation_mode(model):
        values = _summed(chosen, places, images, progress)
    return FilterCut(side, values.reshape(resolution, resolution, -1), len(images), chosen.name)


def distinct_filters(values: Tensor, count: int) -> list[int]:
    """Filters that show most of what a layer has learned: large ones, none like those before it.

    The first is that of the largest norm; each further one has the largest part that those before do not span, as in a
    QR decomposition with pivoting.

    Args:
        values: Filters at some places [..., F].
        count: How many, at most F.

    Returns:
        Their numbers.

    Example:
        >>> distinct_filters(torch.tensor([[3.0, 3.1, 0.0], [0.0, 0.0, 1.0]]), 2)
        [1, 2]
    """
    rest = values.detach().double().reshape(-1, values.size(-1)).clone()  # [E, F]
    found: list[int] = []
    for _ in range(min(count, rest.size(1))):
        norms = rest.square().sum(0)
        norms[found] = -1.0
        best = int(norms.argmax())
        found.append(best)
        direction = rest[:, best] / rest[:, best].norm().clamp(min=1e-300)
        rest -= direction.unsqueeze(1) * (direction @ rest)
    return found


def _summed(chosen: RadialFilter, places: Tensor, images: Tensor, progress: bool) -> Tensor:
    """Sum over images of the filters at all places [P, F]; pairs beyond the reach are not evaluated."""
    parts, rows = [], max(1, SIZES.filter_distances_at_once // len(images))
    pieces = places.split(rows)
    for piece in tqdm(pieces, "cutting", disable=not progress or len(pieces) < 20, leave=False):
        distance = (piece[:, None] + images).norm(dim=2)  # [P', n]
        place, image = (distance < chosen.reach).nonzero(as_tuple=True)
        w = chosen(distance[place, image])  # [E, F]
        total = w.new_zeros(len(piece), w.size(1))
        parts.append(total.index_add_(0, place.to(w.device), w))
    return torch.cat(parts)


def _images(crystal: Data | Tensor | None, reach: float, width: float) -> Tensor:
    """Lattice vectors within reach of a place on the square, zero among them [n, 3] float64."""
    if crystal is None:
        return torch.zeros(1, 3, dtype=torch.float64)
    vectors, heights = _lattice(crystal)  # [k, 3], [k]
    if reach == float("inf"):
        raise ValueError("a sum over images needs an end; the model does not say how far atoms interact in a crystal")
    farthest = reach + width / 2**0.5
    steps = [torch.arange(-n, n + 1, dtype=torch.float64) for n in (farthest / heights).ceil().int().tolist()]
    shifts = torch.cartesian_prod(*steps).reshape(-1, len(vectors)) @ vectors
    return shifts[shifts.norm(dim=1) < farthest]


def _lattice(crystal: Data | Tensor) -> tuple[Tensor, Tensor]:
    """Lattice vectors of the periodic axes [k, 3] and distances of the planes between which they lead [k], checked."""
    if isinstance(crystal, Data):
        cell, pbc = crystal.get("cell"), crystal.get("pbc")
        if cell is None or pbc is None:
            raise ValueError("`crystal` must have `cell` [1, 3, 3] and `pbc` [1, 3], got no crystal")
    elif isinstance(crystal, Tensor):
        cell, pbc = crystal, torch.ones(1, 3, dtype=torch.bool)
    else:
        raise TypeError(f"`crystal` must be a Data or lattice vectors [3, 3], got {type(crystal).__name__}")
    if cell.shape not in {(3, 3), (1, 3, 3)}:
        raise ValueError(f"`crystal` must have one cell of lattice vectors [3, 3], got {list(cell.shape)}")
    cell, pbc = cell.detach().cpu().double().reshape(1, 3, 3), pbc.cpu().reshape(1, 3)
    lattice = lattice_of(cell, pbc, 1, cell.device)  # says what is wrong with it
    if lattice is None:
        raise ValueError("`crystal` must have `cell` [1, 3, 3] and `pbc` [1, 3] with a periodic axis, got none")
    return cell[0, pbc[0]], lattice.height[0, pbc[0]]


def _directions(plane: Tensor | ArrayLike | None) -> tuple[Tensor, Tensor]:
    if plane is None:
        plane = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    try:
        rows = torch.as_tensor(plane, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError):
        raise TypeError(f"`plane` must be the directions to the right and up [2, 3], got {plane!r}") from None
    if rows.shape != (2, 3) or not float(rows.norm(dim=1).min()) > 0.0:
        raise ValueError(f"`plane` must be the directions to the right and up [2, 3], got {list(rows.shape)}")
    rows = rows / rows.norm(dim=1, keepdim=True)
    if not float((rows[0] @ rows[1]).abs()) < 1e-6:
        raise ValueError("`plane` must be two orthogonal directions [2, 3], got others")
    return rows[0], rows[1]


def _checked_distances(distances: Tensor | ArrayLike) -> Tensor:
    try:
        places = torch.as_tensor(distances).detach().double()
    except (TypeError, ValueError):
        raise TypeError(f"`distances` must be a row of numbers in Angstrom [D], got {distances!r}") from None
    if places.dim() != 1 or len(places) == 0:
        raise ValueError(f"`distances` must be a row of numbers in Angstrom [D], got {list(places.shape)}")
    if not bool((places.isfinite() & (places >= 0.0)).all()):
        raise ValueError("`distances` must be finite and not negative, got others")
    return places
