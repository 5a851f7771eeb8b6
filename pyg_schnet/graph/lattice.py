"""Lattices: what must hold for them, and how far apart their planes are."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pyg_schnet.graph.transfer import asked, sent

#: A cell whose volume is below this fraction of the product of its edge lengths is taken for flat.
SMALLEST_RELATIVE_VOLUME = 1e-8


@dataclass(frozen=True)
class Lattice:
    """Lattices of a batch of structures, in float64.

    Attributes:
        cell: Lattice vectors as rows in Angstrom [B, 3, 3]; those of open axes have length one and are orthogonal to
            the periodic ones, so that the matrix can be inverted whatever the axes.
        inverse: Inverse of ``cell``; ``pos @ inverse`` are fractional coordinates [B, 3, 3].
        pbc: Periodic axes [B, 3].
        height: Distance of the planes spanned by the other two axes, in Angstrom [B, 3].
    """

    cell: Tensor
    inverse: Tensor
    pbc: Tensor
    height: Tensor

    def to(self, device: torch.device | str) -> "Lattice":
        """The same on another device."""
        device = torch.device(device)
        if device.type == self.cell.device.type == "cpu":
            return self
        parts = self.cell, self.inverse, self.height, self.pbc
        if device.type == "cpu":
            flat = asked(*parts)
        else:
            flat = sent(torch.cat([part.reshape(-1).double() for part in parts]), device)
        found = flat.split([part.numel() for part in parts])
        cell, inverse, height, pbc = (one.view(part.shape) for one, part in zip(found, parts, strict=True))
        return Lattice(cell, inverse, pbc.bool(), height)


def lattice_of(cell: Tensor | None, pbc: Tensor | None, batch_size: int, device: torch.device) -> Lattice | None:
    """Check cell and periodic axes of a batch.

    Args:
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        batch_size: Number of structures B.
        device: Where the positions are.

    Returns:
        The lattices, or ``None`` if no axis of any structure is periodic.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If one is missing, shapes do not match, or the periodic vectors of a structure are not finite or
            span no volume.

    Example:
        >>> cell, pbc = 4 * torch.eye(3).unsqueeze(0), torch.tensor([[True, True, False]])
        >>> lattice_of(cell, pbc, 1, cell.device).height
        tensor([[4., 4., 1.]], dtype=torch.float64)
    """
    check_lattice(cell, pbc, batch_size)
    if pbc is None:
        return None
    cell, pbc = _on_cpu(cell, pbc)
    if not pbc.any():
        return None
    if cell is None:
        raise ValueError("`pbc` names periodic axes but `cell` is missing; pass the lattice vectors [B, 3, 3]")
    vectors = torch.where(pbc.unsqueeze(-1), cell.detach().double(), 0.0)
    full = vectors if pbc.all() else _completed(vectors, pbc)
    volume = torch.linalg.det(full).abs() / full.norm(dim=-1).prod(dim=-1).clamp(min=torch.finfo(torch.float64).tiny)
    flat = ~(volume > SMALLEST_RELATIVE_VOLUME)  # NaN and infinite cells too
    if flat.any():
        structure = int(flat.nonzero()[0])
        axes = pbc[structure].tolist()
        raise ValueError(
            f"the periodic lattice vectors of structure {structure} span no volume: cell {cell[structure].tolist()}, "
            f"pbc {axes}; expected finite, linearly independent vectors along the periodic axes"
        )
    inverse = torch.linalg.inv(full)
    return Lattice(full, inverse, pbc, 1.0 / inverse.norm(dim=1)).to(device)


def _on_cpu(cell: Tensor | None, pbc: Tensor) -> tuple[Tensor | None, Tensor]:
    """Both where looking at values is free: lattices are few numbers."""
    if cell is None or cell.device == pbc.device == torch.device("cpu"):
        return cell, pbc.cpu()
    if cell.device != pbc.device:
        return cell.cpu(), pbc.cpu()
    vectors, axes = asked(cell.detach(), pbc).split([cell.numel(), pbc.numel()])
    return vectors.view(cell.shape).to(cell.dtype), axes.view(pbc.shape).bool()


def check_reach(cutoff: float, lattice: Lattice | None) -> None:
    """Raise a ValueError if the cutoff is infinite in periodic structures."""
    if lattice is not None and math.isinf(cutoff):
        raise ValueError(
            "`cutoff` must be finite in periodic structures, where every atom has infinitely many neighbours"
        )


def check_lattice(cell: Tensor | None, pbc: Tensor | None, batch_size: int) -> None:
    """Check what cell and periodic axes are, without looking at their values.

    Args:
        cell: Lattice vectors as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        batch_size: Number of structures B.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If a shape does not match, or there is a cell without axes.
    """
    if pbc is None:
        if cell is not None:
            raise ValueError(
                "`cell` is given but `pbc` is missing; pass the periodic axes [B, 3] (all False for molecules)"
            )
        return
    _check_kind("pbc", pbc, (batch_size, 3), pbc.dtype == torch.bool if isinstance(pbc, Tensor) else False, "bool")
    if cell is not None:
        floating = isinstance(cell, Tensor) and cell.is_floating_point()
        _check_kind("cell", cell, (batch_size, 3, 3), floating, "floating-point")


def _check_kind(name: str, tensor: Tensor, shape: tuple[int, ...], right_dtype: bool, kind: str) -> None:
    if not isinstance(tensor, Tensor) or not right_dtype:
        got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"`{name}` must be a {kind} tensor {list(shape)}, got {got}")
    if tensor.shape != shape:
        raise ValueError(f"`{name}` must have shape {list(shape)}, got {list(tensor.shape)}")


def _completed(vectors: Tensor, pbc: Tensor) -> Tensor:
    """Replace the vectors of open axes by unit vectors orthogonal to the periodic ones and to each other."""
    count = pbc.sum(dim=1)
    full = torch.where(pbc.unsqueeze(-1), vectors, torch.eye(3, dtype=vectors.dtype, device=vectors.device))
    for axis in range(3):
        after, last = (axis + 1) % 3, (axis + 2) % 3
        # two periodic axes: the normal of their plane
        single_open = ((count == 2) & ~pbc[:, axis]).unsqueeze(-1)
        normal = normalize(torch.linalg.cross(vectors[:, after], vectors[:, last]), dim=-1)
        full[:, axis] = torch.where(single_open, normal, full[:, axis])
        # one periodic axis: two normals of it, the first orthogonal to the coordinate axis it is least aligned with
        only = ((count == 1) & pbc[:, axis]).unsqueeze(-1)
        least = torch.zeros_like(vectors[:, axis]).scatter_(1, vectors[:, axis].abs().argmin(dim=1, keepdim=True), 1.0)
        first = normalize(torch.linalg.cross(vectors[:, axis], least), dim=-1)
        second = normalize(torch.linalg.cross(vectors[:, axis], first), dim=-1)
        full[:, after] = torch.where(only, first, full[:, after])
        full[:, last] = torch.where(only, second, full[:, last])
    return full
