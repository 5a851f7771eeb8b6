"""Metrics of a validation that never look at values of a GPU before its end."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanMetric


class MeanLoss(MeanMetric):
    """Mean of the losses of mini-batches, which is not a number as soon as one of them is none.

    Example:
        >>> loss = MeanLoss(nan_strategy=float("nan"))
        >>> loss.update(torch.tensor(1.0), weight=3)
        >>> loss.update(torch.tensor(5.0), weight=1)
        >>> loss.compute()
        tensor(2.)
    """

    def update(self, value: Any, weight: Any = None) -> None:
        """Add a mini-batch.

        Args:
            value: Its loss.
            weight: Number of its structures.
        """
        if not (isinstance(value, Tensor) and value.is_cuda):
            super().update(value, weight)
            return
        weight = 1 if weight is None else weight
        self.mean_value += value.to(self.dtype) * weight
        self.weight += weight


class KnownError(MeanAbsoluteError):
    """Mean absolute error of those labels that are known.

    Example:
        >>> error = KnownError()
        >>> error.update(torch.tensor([1.0, 5.0]), torch.tensor([2.0, torch.nan]))
        >>> error.compute()
        tensor(1.)
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a mini-batch.

        Args:
            preds: Predictions.
            target: Labels of the same shape, NaN where they are not known.
        """
        known = target.isfinite()
        if not preds.is_cuda:
            super().update(preds[known], target[known])
            return
        self.sum_abs_error += torch.where(known, (preds - target).abs(), 0.0).sum()
        self.total += known.sum()
