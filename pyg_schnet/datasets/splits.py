"""Splits into training, validation and test sets."""

import torch
from torch import Tensor


def random_split(size: int, num_train: int, num_val: int, seed: int = 0) -> dict[str, Tensor]:
    """Split at random as in the paper: so many to train, so many to validate, the rest to test.

    Args:
        size: Number of examples.
        num_train: Number of training examples.
        num_val: Number of validation examples, used for early stopping.
        seed: The same seed gives the same split.

    Returns:
        Sorted positions [..] of ``train``, ``val`` and ``test``, which do not overlap.

    Raises:
        ValueError: If there are not enough examples.

    Example:
        >>> {name: len(part) for name, part in random_split(100, 80, 5).items()}
        {'train': 80, 'val': 5, 'test': 15}
    """
    if num_train < 1 or num_val < 0 or num_train + num_val > size:
        raise ValueError(
            f"expected at least 1 training and 0 validation examples, together at most {size}; "
            f"got {num_train} and {num_val}"
        )
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    train, val, test = order.split([num_train, num_val, size - num_train - num_val])
    return {"train": train.sort().values, "val": val.sort().values, "test": test.sort().values}
