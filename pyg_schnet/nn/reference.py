"""References: the part of a property that needs no network."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class Reference(nn.Module):
    r"""Per-atom mean, standard deviation and single-atom values, kept in float64.

    The network predicts :math:`\hat y`; the contribution of an atom to the property is
    :math:`\sigma \hat y_i + \mu + \epsilon_{Z_i}`. A float32 step of a total energy is as large as the errors reported
    for it (0.008 kcal/mol for ethanol), so the references stay float64 whatever the dtype of the model. ``trivial``
    tells whether mean and single-atom values are all zero, so that there is nothing to add.

    Args:
        max_z: Largest atomic number.
        mean: Mean per atom, or ``None`` for 0.
        std: Standard deviation per atom, or ``None`` for 1.
        atomref: Value of single atoms by atomic number, up to [max_z + 1] or [max_z + 1, 1], or ``None`` for 0.

    Raises:
        ValueError: If a value is not finite, ``std`` not positive or ``atomref`` too long.

    Example:
        >>> Reference(10, mean=-1.5)(torch.tensor([1, 6]))
        tensor([[-1.5000],
                [-1.5000]], dtype=torch.float64)
    """

    mean: Tensor
    std: Tensor
    atomref: Tensor

    def __init__(
        self, max_z: int, mean: float | None = None, std: float | None = None, atomref: Tensor | None = None
    ) -> None:
        super().__init__()
        values = torch.zeros(max_z + 1, dtype=torch.float64)
        if atomref is not None:
            given = torch.as_tensor(atomref, dtype=torch.float64).flatten()
            if given.numel() > values.numel():
                raise ValueError(
                    f"`atomref` must have at most {values.numel()} values, one per atomic number, got {given.numel()}"
                )
            if not given.isfinite().all():
                raise ValueError(
                    "`atomref` must be finite, got NaN or infinite values; leave elements without one at 0"
                )
            values[: given.numel()] = given
        _check(0.0 if mean is None else mean, 1.0 if std is None else std)
        self.register_buffer("mean", torch.tensor(0.0 if mean is None else float(mean), dtype=torch.float64))
        self.register_buffer("std", torch.tensor(1.0 if std is None else float(std), dtype=torch.float64))
        self.register_buffer("atomref", values)
        self._update()

    def set(self, mean: float, std: float) -> None:
        """Replace mean and standard deviation per atom.

        Args:
            mean: Mean per atom.
            std: Standard deviation per atom.

        Raises:
            ValueError: If ``std`` is not positive.
        """
        _check(mean, std)
        self.mean.fill_(mean)
        self.std.fill_(std)
        self._update()

    def forward(self, z: Tensor) -> Tensor:
        """Reference of each atom.

        Args:
            z: Atomic numbers [N].

        Returns:
            Mean plus single-atom value [N, 1] float64.
        """
        return (self.mean + self.atomref[z]).unsqueeze(-1)

    def _update(self) -> None:
        self.trivial = not bool(self.mean) and not bool(self.atomref.any())

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        _check(float(self.mean), float(self.std))
        self._update()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the model to a device, not to a dtype."""
        for name, buffer in self.named_buffers():
            setattr(self, name, buffer.to(device=fn(buffer).device))
        return self


def _check(mean: float, std: float) -> None:
    if not math.isfinite(mean):
        raise ValueError(f"`mean` must be finite, got {mean}")
    if not (std > 0 and math.isfinite(std)):
        raise ValueError(f"`std` must be positive and finite, got {std}; leave it out if all values are equal")
