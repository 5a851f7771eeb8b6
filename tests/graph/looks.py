"""How many things a search looks at, at a time and in all, by the operations it makes."""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.compat import DispatchMode


class Looks(DispatchMode):  # type: ignore[misc]
    """What is seen of a search while it runs.

    Attributes:
        compared: Numbers of squared distances that were compared with a limit, one for each comparison.
        placed: Numbers of rows, of atoms and neighbouring bins, whose bins were found, one for each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.compared: list[int] = []
        self.placed: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.lt.Scalar and args[0].is_floating_point():
            self.compared.append(args[0].numel())
        if func is torch.ops.aten.div.Tensor_mode and isinstance(args[0], Tensor):
            self.placed.append(args[0].size(0))
        return func(*args, **(kwargs or {}))
