"""Steps that are recorded once and played again: on a GPU a few hundred launches of kernels become a single one.

A step is a function without arguments that reads and writes tensors which stay where they are, of shapes that stay as
they are, and that never looks at values. On a CPU it is simply called; here is all that only a GPU does.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import nn

from pyg_schnet.fast.unchanged import Origin, entries_of
from pyg_schnet.graph import hidden_values

#: Calls before the recording: libraries choose their algorithms, kernels are compiled, optimizers make their state.
WARM_UP = 3

Result = TypeVar("Result")


class Replay(Generic[Result]):
    """A step that a GPU records and plays again.

    On a GPU the first three calls run as they are, on a stream of their own. The fourth records the step as a CUDA
    graph with a memory pool of its own, and plays it; later ones play it. Every call counts as one step, no matter how
    it ran. On a CPU, every call is a call of the step.

    Args:
        step: The step. What it returns is overwritten by the next call.
        device: Where its tensors are.

    Example:
        >>> total = torch.zeros(())
        >>> replay = Replay(lambda: total.add_(1.0), total.device)
        >>> replay(), replay()
        (tensor(2.), tensor(2.))
    """

    def __init__(self, step: Callable[[], Result], device: torch.device) -> None:
        self.step = step
        self.device = device
        self.calls = 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._recorded: tuple[torch.cuda.CUDAGraph, Result] | None = None

    @property
    def recorded(self) -> bool:
        """True if calls play a recording."""
        return self._recorded is not None

    def __call__(self) -> Result:
        """Make one step.

        Returns:
            What the step returned, to be used or copied before the next call.

        Raises:
            RuntimeError: If the step cannot be recorded.
        """
        self.calls += 1
        with hidden_values():
            if self._stream is None:
                return self.step()
            if self.calls <= WARM_UP:
                return self._warmed_up(self._stream)
            if self._recorded is None:
                self._recorded = self._record(self._stream)
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

    def _record(self, stream: torch.cuda.Stream) -> tuple[torch.cuda.CUDAGraph, Result]:
        graph = torch.cuda.CUDAGraph()
        try:
            # threads that load data may use the GPU meanwhile
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = self.step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"the step cannot be recorded as a CUDA graph: {str(error).splitlines()[0]}; take the ordinary "
                "Potential or training step for this model (tables of filters need Triton, the extra gpu)"
            ) from error
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
