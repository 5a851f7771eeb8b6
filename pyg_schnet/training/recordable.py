"""An optimizer whose steps a GPU records."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def as_on_cpu(checkpoint: dict[str, Any]) -> None:
    """Write optimizers whose steps were recorded as all others, so that a run can go on on another device.

    Args:
        checkpoint: What Lightning writes, changed in place: rates become numbers, and nothing is capturable.
    """
    for state in checkpoint.get("optimizer_states", []):
        for group in state["param_groups"]:
            if isinstance(group.get("lr"), Tensor):
                group["lr"], group["capturable"] = float(group["lr"]), False
        state["state"] = {
            key: {name: one.cpu() if name == "step" and isinstance(one, Tensor) else one for name, one in own.items()}
            for key, own in state["state"].items()
        }
    for schedule in checkpoint.get("lr_schedulers", []):
        if "_last_lr" in schedule:
            schedule["_last_lr"] = [float(rate) for rate in schedule["_last_lr"]]


class RecordableOptimizer:
    """Keeps counters and learning rates of an optimizer where recordings read them.

    On a GPU the optimizer is made capturable, and its counters and learning rates become tensors on the device.
    Schedules of torch change such rates in place; a number that somebody assigns instead is written there. On a CPU
    nothing is changed.

    Args:
        optimizer: The optimizer.
        device: Where the weights are.

    Raises:
        ValueError: If the optimizer cannot be recorded on a GPU.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer, self.device = optimizer, device
        self._rates: list[Tensor] = []
        self._addresses: list[int] = []
        self.prepare()

    def prepare(self) -> bool:
        """Before a step: put everything in its place.

        Returns:
            True if the state is where the last step left it, so that recordings are of use.
        """
        same = self._where() == self._addresses
        if self.device.type == "cuda":
            self._put_rates()
            if not same:
                self._put_counters()
        return same

    def remember(self) -> None:
        """After a step: remember where the state is."""
        self._addresses = self._where()

    def _where(self) -> list[int]:
        values = (value for state in self.optimizer.state.values() for value in state.values())
        return [value.data_ptr() for value in values if isinstance(value, Tensor)]

    def _put_rates(self) -> None:
        groups = self.optimizer.param_groups
        for group in groups:
            if "capturable" not in group:
                raise ValueError(
                    f"{type(self.optimizer).__name__} cannot be recorded on a GPU; expected an optimizer with the "
                    "argument `capturable`, for example torch.optim.Adam"
                )
            group["capturable"] = True
        for group in groups[len(self._rates) :]:
            self._rates.append(torch.as_tensor(group["lr"], dtype=torch.float32).to(self.device, copy=True))
        for group, rate in zip(groups, self._rates, strict=True):
            if group["lr"] is not rate:
                rate.fill_(group["lr"])
                group["lr"] = rate

    def _put_counters(self) -> None:
        vars(self.optimizer)["_warned_capturable_if_run_uncaptured"] = True  # some steps are not recorded, on purpose
        for state in self.optimizer.state.values():
            if "step" in state:
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(self.device)
