"""Steps that are recorded once and played again: on a GPU a few hundred launches of kernels become a single one.

A step is a function without arguments that reads and writes tensors which stay where they are, of shapes that stay as
they are, and that never looks at values. On a CPU it is simply called; here is all that only a GPU does.
"""

import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from pyg_schnet.fast.unchanged import Origin, entries_of
from pyg_schnet.graph import hidden_values
from pyg_schnet.segments import recording

#: Calls before the recording: libraries choose their algorithms, kernels are compiled, optimizers make their state.
WARM_UP = 3

Result = TypeVar("Result")


class Replay(Generic[Result]):
    """A step that a GPU records and plays again.

    On a GPU the first calls run as they are, on a stream of their own. The next one records the step as a CUDA graph,
    and plays it; later ones play it. Every call counts as one step, no matter how it ran. A step that cannot be
    recorded is called each time, after one warning that says why. On a CPU, every call is a call of the step.

    Args:
        step: The step. What it returns is overwritten by the next call.
        device: Where its tensors are.
        warm_up: Calls before the recording. One is enough if a step of the same operations has been recorded.
        pool: Memory that recordings share which are never played at the same time, see
            :func:`torch.cuda.graph_pool_handle`; ``None`` for one of its own.

    Example:
        >>> total = torch.zeros(())
        >>> replay = Replay(lambda: total.add_(1.0), total.device)
        >>> replay(), replay()
        (tensor(2.), tensor(2.))
    """

    def __init__(
        self, step: Callable[[], Result], device: torch.device, warm_up: int = WARM_UP, pool: Any = None
    ) -> None:
        self.step, self.warm_up, self.pool = step, warm_up, pool
        self.device = device
        self.calls = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._recorded: tuple[torch.cuda.CUDAGraph, Result] | None = None
        self.refused = False

    @property
    def recorded(self) -> bool:
        """True if calls play a recording."""
        return self._recorded is not None

    def __call__(self) -> Result:
        """Make one step.

        Returns:
            What the step returned, to be used or copied before the next call.
        """
        self.calls += 1
        with hidden_values(), recording():
            if self._stream is None or self.refused:
                return self.step()
            if self.calls <= self.warm_up:
                return self._warmed_up(self._stream)
            if self._recorded is None:
                self._recorded = self._record(self._stream)
            if self._recorded is None:
                return self.step()
            graph, result = self._recorded
            graph.replay()
            return result

    def _warmed_up(self, stream: torch.cuda.Stream) -> Result:
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self.step()
        current.wait_stream(stream)
        return result

    def _record(self, stream: torch.cuda.Stream) -> tuple[torch.cuda.CUDAGraph, Result] | None:
        """The recording; ``None`` if there can be none."""
        graph = torch.cuda.CUDAGraph()
        try:
            # threads that load data may use the GPU meanwhile
            with torch.cuda.graph(graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"):
                result = self.step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.refused = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"steps cannot be recorded as a CUDA graph ({reason}); they are computed one operation after the "
                "other, with the same results, which takes longer for small systems",
                RuntimeWarning,
                stacklevel=4,
            )
            return None
        return graph, result


class Addresses:
    """Where the weights of a model are in memory, which is what a recording remembers of them.

    Their values may change: a recording reads them where they are. After a parameter, a buffer or a layer is replaced,
    moved or laid out in another way, recordings of the model can no longer be used.

    Args:
        model: The model.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> weights = Addresses(layer)
        >>> layer.weight.data.zero_(), weights.hold()
        (tensor([[0., 0.],
                [0., 0.]]), True)
        >>> layer.weight = nn.Parameter(torch.ones(2, 2))
        >>> weights.hold()
        False
    """

    def __init__(self, model: nn.Module) -> None:
        self._origin = Origin(entries_of([model]))
        # keeps their memory: a recording must not read or write what has become another tensor's
        self._memory = [tensor.detach() for tensor in self._origin.tensors]

    def hold(self) -> bool:
        """True if all is where it was."""
        return self._origin.holds()
