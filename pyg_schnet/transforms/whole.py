"""PyG's transforms of positions keep structures whole, or say that they cannot.

PyG turns, mirrors and stretches ``pos`` alone. Of a structure with forces, lattice vectors or a stress that makes
another one with labels of the first, without a word. Importing :mod:`pyg_schnet` makes these transforms turn all that
points somewhere where they turn or mirror, and raise where they do anything else. Data without ``z``, or without any
vector or tensor beside ``pos``, are PyG's own business and treated as PyG does. Likewise, transforms that merge edges
of the same two atoms refuse a periodic graph, in which these lead to different images.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric import transforms
from torch_geometric.data import Data

from pyg_schnet.transforms.turning import kind_of, turn

#: How far products of float32 matrices may be from the unit matrix.
_ORTHOGONAL = 1e-4


def _needs_care(data: Any) -> bool:
    """True if this is a structure with more than positions that points somewhere."""
    if not isinstance(data, Data) or "z" not in data or "pos" not in data:
        return False
    if data.pos.dim() != 2 or data.pos.size(1) != 3:
        return False
    return any(key != "pos" and kind_of(data, key) in {"vector", "tensor", "voigt"} for key in data.keys())  # noqa: SIM118


def _alike(transform: Any, data: Data, matrix: Tensor, forward: Callable[..., Any]) -> Any:
    """Let PyG move the positions, then turn the rest."""
    before = data.pos
    rest = Data(**{key: value for key, value in data.to_dict().items() if key != "pos"})
    turn(rest, matrix)  # may refuse, before anything is changed
    moved = forward(transform, data)
    if moved.pos is not before:
        for key, value in rest.to_dict().items():
            moved[key] = value
    return moved


def _linear(transform: Any, data: Any, forward: Callable[..., Any]) -> Any:
    matrix = transform.matrix.t().double()
    if (matrix @ matrix.t() - torch.eye(3, dtype=torch.float64, device=matrix.device)).abs().max() > _ORTHOGONAL:
        raise _torn(transform, "stretches or shears")
    return _alike(transform, data, matrix, forward)


def _flip(transform: Any, data: Any, forward: Callable[..., Any]) -> Any:
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[transform.axis, transform.axis] = -1.0
    return _alike(transform, data, matrix, forward)


def _refused(transform: Any, data: Any, forward: Callable[..., Any]) -> Any:
    raise _torn(transform, "changes")


def _jitter(transform: Any, data: Any, forward: Callable[..., Any]) -> Any:
    if all(key in {"pos", "cell"} or kind_of(data, key) in {"number", "unknown"} for key in data.keys()):  # noqa: SIM118
        return forward(transform, data)  # atoms of a crystal may be displaced
    raise _torn(transform, "displaces")


def _torn(transform: Any, does: str) -> ValueError:
    return ValueError(
        f"{type(transform).__name__} {does} positions alone, and forces, lattice vectors and stress of this structure "
        "would not fit them any more; leave it out, remove these keys before it, or turn whole structures by "
        "pyg_schnet.transforms.RandomRotate"
    )


#: What is done instead, by PyG's class; those that are made of others (``RandomRotate``, ``RandomShear``) need nothing.
_INSTEAD: dict[type, Callable[..., Any]] = {
    transforms.LinearTransformation: _linear,
    transforms.RandomFlip: _flip,
    transforms.RandomScale: _refused,
    transforms.NormalizeScale: _refused,
    transforms.NormalizeRotation: _refused,
    transforms.RandomJitter: _jitter,
}


#: These merge edges between the same two atoms.
_MERGING = (transforms.ToUndirected, transforms.RemoveDuplicatedEdges)


def _has_images(data: Any) -> bool:
    """True if this is a structure whose edges lead to periodic images."""
    shift = data.get("edge_shift") if isinstance(data, Data) else None
    return isinstance(shift, Tensor) and bool(shift.any())


def _merged(transform: Any, data: Any, forward: Callable[..., Any]) -> Any:
    raise ValueError(
        f"{type(transform).__name__} merges edges of the same two atoms, which lead to different images of this "
        "periodic structure (`edge_shift`); leave it out: graphs of RadiusGraph have each edge once in both directions"
    )


def _careful(
    forward: Callable[..., Any], instead: Callable[..., Any], needed: Callable[[Any], bool] = _needs_care
) -> Callable[..., Any]:
    @functools.wraps(forward)
    def careful(self: Any, data: Any) -> Any:
        return instead(self, data, forward) if needed(data) else forward(self, data)

    careful.keeps_whole = True  # type: ignore[attr-defined]
    return careful


def install() -> None:
    """Make PyG's transforms careful, once however often it is called.

    Example:
        >>> install()
        >>> forward = transforms.RandomScale.forward
        >>> install()
        >>> transforms.RandomScale.forward is forward
        True
    """
    kind: Any
    for kind, instead in _INSTEAD.items():
        if not hasattr(kind.forward, "keeps_whole"):
            kind.forward = _careful(kind.forward, instead)
    for kind in _MERGING:
        if not hasattr(kind.forward, "keeps_whole"):
            kind.forward = _careful(kind.forward, _merged, _has_images)
