"""What a batch of structures must look like, checked once where it enters."""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.compat import in_transform

_thread = threading.local()


@contextlib.contextmanager
def hidden_values() -> Iterator[None]:
    """Inside, nobody looks at values: shapes and what is computed are the same for all values, on every device.

    What is done inside may thus be recorded once and played again with other values, see
    :mod:`pyg_schnet.fast.cuda_graph`.

    Example:
        >>> with hidden_values():
        ...     can_inspect(torch.zeros(1))
        False
    """
    before = values_hidden()
    _thread.hidden = True
    try:
        yield
    finally:
        _thread.hidden = before


def values_hidden() -> bool:
    """True if this is inside of :func:`hidden_values`."""
    return getattr(_thread, "hidden", False)


def can_inspect(tensor: Tensor) -> bool:
    """True if looking at values is free: a GPU would have to wait, a compiled graph would break.

    Args:
        tensor: Any tensor.

    Returns:
        True for tensors with elements on the CPU outside of compilation, of the transforms of ``torch.func`` and of
        :func:`hidden_values`.

    Example:
        >>> can_inspect(torch.zeros(1)), can_inspect(torch.zeros(0))
        (True, False)
    """
    plain = tensor.device.type == "cpu" and tensor.numel() > 0 and not torch.compiler.is_compiling()
    # inside such a transform even what is made of plain tensors is wrapped
    return plain and not in_transform() and not getattr(_thread, "hidden", False)


def check_structures(pos: Tensor, batch: Tensor | None = None, batch_size: int | None = None) -> tuple[Tensor, int]:
    """Check positions and the assignment of atoms to structures.

    Values are looked at on the CPU only; on a GPU, :func:`pyg_schnet.radius_graph` does it, which waits anyway.

    Args:
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N] int64, sorted; ``None`` for a single structure.
        batch_size: Number of structures; needed only if the last ones are empty, else taken from ``batch``.

    Returns:
        ``batch`` [N] and the number of structures.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes do not match, a position is not finite or ``batch`` is not sorted.

    Example:
        >>> check_structures(torch.zeros(2, 3))
        (tensor([0, 0]), 1)
    """
    _check_positions(pos)
    if can_inspect(pos):
        check_finite(pos)
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, (int, torch.SymInt))):
        raise TypeError(f"`batch_size` must be an int, the number of structures, got {type(batch_size).__name__}")
    if batch is None:
        if batch_size is not None and batch_size != 1:
            raise ValueError(
                f"`batch_size` is {batch_size}, but without `batch` all atoms form one structure; pass `batch`"
            )
        return pos.new_zeros(pos.size(0), dtype=torch.long), 1
    _check_batch(batch, pos)
    if batch_size is not None and not can_inspect(batch):
        return batch, batch_size
    largest = check_sorted(batch)
    if batch_size is None:
        return batch, largest + 1
    check_named(largest, batch_size)
    return batch, batch_size


def _check_positions(pos: Tensor) -> None:
    if not isinstance(pos, Tensor) or not pos.is_floating_point():
        kind = str(pos.dtype) if isinstance(pos, Tensor) else type(pos).__name__
        raise TypeError(f"`pos` must be a floating-point tensor [N, 3] in Angstrom, got {kind}")
    if pos.dim() != 2 or pos.size(1) != 3:
        raise ValueError(f"`pos` must have shape [N, 3], got {list(pos.shape)}")


def check_finite(pos: Tensor) -> None:
    """Raise a ValueError that names the first atom whose position is NaN or infinite."""
    if pos.device.type == "cpu" and np.isfinite(pos.detach().double().numpy()).all():  # for a few atoms much faster
        return
    finite = torch.isfinite(pos)
    if not finite.all():
        atom = int((~finite).any(dim=1).nonzero()[0])
        raise ValueError(
            f"`pos` must be finite, got {pos[atom].tolist()} for atom {atom}; repair or drop this structure"
        )


def _check_batch(batch: Tensor, pos: Tensor) -> None:
    if not isinstance(batch, Tensor) or batch.dtype != torch.long:
        kind = str(batch.dtype) if isinstance(batch, Tensor) else type(batch).__name__
        raise TypeError(f"`batch` must be an int64 tensor [N], got {kind}")
    if batch.shape != pos.shape[:1]:
        raise ValueError(f"`batch` must have shape [{pos.size(0)}] like `pos`, got {list(batch.shape)}")


def check_named(largest: int, batch_size: int) -> None:
    """Raise a ValueError if ``batch`` names a structure that there is not."""
    if largest >= batch_size:
        raise ValueError(
            f"`batch` names structure {largest}, but `batch_size` is {batch_size}; expected at least {largest + 1}"
        )


def check_sorted(batch: Tensor) -> int:
    """Raise a ValueError if ``batch`` is not sorted; return the largest structure in it, -1 if there is no atom."""
    if batch.numel() == 0:
        return -1
    if batch.device.type == "cpu":
        values = batch.numpy()
        first, last, falls = int(values[0]), int(values[-1]), bool((values[1:] < values[:-1]).any())
    else:  # one transfer
        first, last, falls = torch.stack([batch[0], batch[-1], (batch[1:] < batch[:-1]).sum()]).tolist()
    if falls or first < 0:
        raise ValueError(
            "`batch` must be sorted and not negative, so that the atoms of a structure stand together; "
            "sort the atoms by structure (torch.argsort(batch, stable=True))"
        )
    return last
