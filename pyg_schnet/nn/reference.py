"""References: the part of a property that needs no network."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from pyg_schnet.segments import add_up, in_segments

#: One number for all targets, or one for each.
PerTarget = float | Sequence[float] | Tensor


class Reference(nn.Module):
    r"""Per-atom mean, standard deviation and single-atom values, kept in float64.

    The network predicts :math:`\hat y`; the contribution of an atom to the property is
    :math:`\sigma \hat y_i + \mu + \epsilon_{Z_i}`. A float32 step of a total energy is as large as the errors reported
    for it (0.008 kcal/mol for ethanol), so the references stay float64 whatever the dtype of the model. How those of
    the atoms make that of the structure is ``how``: ``"add"``: their sum; ``"mean"``: their mean; ``"once"``: the mean
    :math:`\mu` once and the sum of the single-atom values; ``None``: there is none.

    Args:
        max_z: Largest atomic number.
        mean: Mean per atom, one number or one for each target; ``None`` for 0.
        std: Standard deviation per atom, one number or one for each target; ``None`` for 1.
        atomref: Value of single atoms by atomic number, up to [max_z + 1] or [max_z + 1, C]; ``None`` for 0.
        channels: Number of targets C.
        how: See above.

    Raises:
        ValueError: If a value is not finite, ``std`` not positive or a shape does not fit.

    Example:
        >>> Reference(10, mean=-1.5)(torch.tensor([1, 6]))
        tensor([[-1.5000],
                [-1.5000]], dtype=torch.float64)
    """

    mean: Tensor
    std: Tensor
    atomref: Tensor

    def __init__(
        self,
        max_z: int,
        mean: PerTarget | None = None,
        std: PerTarget | None = None,
        atomref: Tensor | None = None,
        channels: int = 1,
        how: str | None = "add",
    ) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("std", torch.ones(channels, dtype=torch.float64))
        self.register_buffer("atomref", torch.zeros(max_z + 1, channels, dtype=torch.float64))
        self.set(mean, std, atomref)

    def set(self, mean: PerTarget | None = None, std: PerTarget | None = None, atomref: Tensor | None = None) -> None:
        """Replace references; those not given stay.

        Args:
            mean: Mean per atom.
            std: Standard deviation per atom.
            atomref: Value of single atoms by atomic number, up to [max_z + 1] or [max_z + 1, C].

        Raises:
            ValueError: If a value is not finite, ``std`` not positive or a shape does not fit.
        """
        new_mean = None if mean is None else self._per_target("mean", mean)
        new_std = None if std is None else self._per_target("std", std)
        new_atomref = None if atomref is None else self._per_element(atomref)
        for buffer, value in ((self.mean, new_mean), (self.std, new_std), (self.atomref, new_atomref)):
            if value is not None:
                buffer.copy_(value)

    @property
    def trivial(self) -> bool:
        """True if mean and single-atom values are all zero, so that there is nothing to add."""
        return not bool(self.mean.any()) and not bool(self.atomref.any())

    def fit(self, z: Tensor, batch: Tensor, values: Tensor) -> None:
        r"""Fit single-atom values by least squares, then the standard deviation of what remains.

        .. math:: \min_\epsilon \sum_s \Big(y_s - \sum_{i \in s} \epsilon_{Z_i}\Big)^2

        with the mean over the atoms instead of the sum for ``how="mean"``. Of all solutions (the elements' counts may
        depend on each other, as in a set of isomers) it takes that of the smallest norm. ``mean`` becomes zero, with
        ``how="once"`` that of the remainder; ``std`` becomes that of the remainder, per atom for ``how="add"``. Use the
        training set only.

        Args:
            z: Atomic numbers of all structures [N].
            batch: Structure of each atom [N], sorted.
            values: Properties [B] or [B, C].

        Raises:
            TypeError: If an argument is no tensor of the right kind.
            ValueError: If shapes do not fit, a value is not finite, an element is out of range or there is no
                reference.

        Example:
            >>> reference = Reference(10)
            >>> z, batch = torch.tensor([1, 1, 8, 1, 1, 8, 8]), torch.tensor([0, 0, 1, 2, 2, 2, 3])
            >>> reference.fit(z, batch, torch.tensor([-2.0, -9.0, -11.0, -9.0]))
            >>> reference.atomref[[1, 8]].flatten().round(decimals=3)
            tensor([-1., -9.], dtype=torch.float64)
        """
        channels, elements = self.mean.numel(), self.atomref.size(0)
        if self.how is None:
            raise ValueError("this readout has no reference that could be fitted")
        _check_fit(z, batch, values)
        values = values.detach().double().cpu().reshape(values.size(0), -1)
        count = values.size(0)
        if values.size(1) != channels:
            raise ValueError(f"`values` must have {channels} targets like the model, got {values.size(1)}")
        inside = batch.numel() == 0 or (int(batch.min()) >= 0 and int(batch.max()) < count)
        if z.shape != batch.shape or not inside:
            raise ValueError(
                f"`batch` must name one of the {count} structures of `values` for each of the {z.numel()} atoms"
            )
        if z.numel() == 0 or int(z.min()) < 1 or int(z.max()) >= elements:
            raise ValueError(f"`z` must hold atomic numbers from 1 to {elements - 1}, at least one")
        if not values.isfinite().all():
            raise ValueError("`values` must be finite, got NaN or infinite values; leave such structures out")
        cell = batch.cpu() * elements + z.cpu()
        counts = torch.bincount(cell, minlength=count * elements).view(count, elements).double()
        atoms = counts.sum(1, keepdim=True).clamp(min=1)
        present = counts.any(0).nonzero().squeeze(1)
        design = counts[:, present] / atoms if self.how == "mean" else counts[:, present]
        solution = torch.linalg.lstsq(design, values, driver="gelsd").solution
        atomref = torch.zeros(elements, channels, dtype=torch.float64)
        atomref[present] = solution
        rest = values - design @ solution
        rest = rest / atoms if self.how == "add" else rest
        mean = rest.mean(0) if self.how == "once" else torch.zeros(channels, dtype=torch.float64)
        std = rest.std(0, correction=0)
        scale = values.abs().amax(0).clamp(min=1e-300)  # a perfect fit leaves round-off, which is no scale
        self.set(mean, torch.where(std > 1e-10 * scale, std, 1.0), atomref)

    def forward(self, z: Tensor) -> Tensor:
        """Reference of each atom.

        Args:
            z: Atomic numbers [N].

        Returns:
            Mean plus single-atom value [N, C] float64.
        """
        return self.mean + self.atomref[z]

    def of_structures(self, z: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Reference of each structure.

        Args:
            z: Atomic numbers [N].
            batch: Structure of each atom [N].
            batch_size: Number of structures B.

        Returns:
            References [B, C] float64.
        """
        if self.how is None:
            return self.mean.new_zeros(batch_size, self.mean.numel())
        each = self.atomref[z] if self.how == "once" else self(z)
        total = _sums(each, batch, batch_size)
        if self.how == "once":
            return total + self.mean
        if self.how == "mean":
            count = _sums(torch.ones_like(each[:, :1]), batch, batch_size)
            return total / count.clamp(min=1)
        return total

    def _per_target(self, name: str, value: PerTarget) -> Tensor:
        try:
            values, channels = torch.as_tensor(value, dtype=torch.float64).flatten().cpu(), self.mean.numel()
        except (TypeError, ValueError):
            raise TypeError(f"`{name}` must be a number or one for each target, got {value!r}") from None
        if values.numel() not in {1, channels}:
            raise ValueError(
                f"`{name}` must be one number or {channels}, one for each target, got {values.numel()} numbers"
            )
        for number in values.tolist():
            _check(name, number)
        return values

    def _per_element(self, atomref: Tensor) -> Tensor:
        elements, channels = self.atomref.shape
        given = torch.as_tensor(atomref, dtype=torch.float64).detach().cpu()
        given = given.unsqueeze(1) if given.dim() == 1 else given
        if given.size(0) > elements:
            raise ValueError(
                f"`atomref` must have at most {elements} values, one per atomic number, got {given.size(0)}"
            )
        if given.dim() != 2 or given.size(1) not in {1, channels}:
            raise ValueError(f"`atomref` must have 1 or {channels} columns, one for each target, got {given.size(1)}")
        if not given.isfinite().all():
            raise ValueError("`atomref` must be finite, got NaN or infinite values; leave elements without one at 0")
        values = torch.zeros(elements, channels, dtype=torch.float64)
        values[: given.size(0)] = given
        return values

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in self.named_buffers():  # files of format 1 hold scalars and single columns
            value = state_dict.get(prefix + name)
            if value is not None and value.numel() == buffer.numel():
                state_dict[prefix + name] = value.view(buffer.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if self.mean.device.type != "meta":
            for mean, std in zip(self.mean.tolist(), self.std.tolist(), strict=True):
                _check("mean", mean)
                _check("std", std)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the model to a device, not to a dtype."""
        for name, buffer in self.named_buffers():
            device = fn(buffer).device
            moved = torch.empty_like(buffer, device=device) if buffer.is_meta else buffer.to(device=device)
            setattr(self, name, moved)
        return self


def _sums(each: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Sums over the atoms of each structure; of a single one much faster."""
    if in_segments(each):
        return add_up(each, batch, batch_size, ascending=True)
    return each.sum(0, keepdim=True) if batch_size == 1 else scatter(each, batch, dim_size=batch_size)


def _check_fit(z: Any, batch: Any, values: Any) -> None:
    for name, value, integers in (("z", z, True), ("batch", batch, True), ("values", values, False)):
        if not isinstance(value, Tensor) or (integers and value.dtype != torch.long):
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"`{name}` must be {'an int64' if integers else 'a'} tensor, got {kind}")
    if values.dim() not in {1, 2} or z.dim() != 1:
        raise ValueError(f"expected z [N] and values [B] or [B, C], got {list(z.shape)} and {list(values.shape)}")


def _check(name: str, value: float) -> None:
    if name == "mean" and not math.isfinite(value):
        raise ValueError(f"`mean` must be finite, got {value}")
    if name == "std" and not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`std` must be positive and finite, got {value}; leave it out if all values are equal")
