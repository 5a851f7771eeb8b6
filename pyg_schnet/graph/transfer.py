"""Numbers on their way between the host and a device: all at once, for each way has its price."""

import torch
from torch import Tensor


def asked(*values: Tensor) -> Tensor:
    """Values of a device on the CPU, by a single wait.

    Args:
        *values: Tensors of one device, numbers below 2**53 or truth values.

    Returns:
        All of them, one behind the other, in float64.

    Example:
        >>> asked(torch.tensor([[True]]), torch.arange(2)).tolist()
        [1.0, 0.0, 1.0]
    """
    flat = [value.reshape(-1) for value in values]
    return torch.cat(flat).to("cpu", torch.float64)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on a device, for which the host does not wait.

    Args:
        values: A tensor on the CPU.
        device: Where to.

    Returns:
        The tensor there; on the CPU the same one.
    """
    if device.type != "cuda":
        return values.to(device)
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values).to(device, non_blocking=True)
