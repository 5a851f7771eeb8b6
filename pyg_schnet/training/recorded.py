"""Steps of training that a GPU plays as one recording, one for each of a few shapes of mini-batches."""

from collections import OrderedDict
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch_geometric.data import Data

from pyg_schnet.fast.cuda_graph import Addresses, Replay
from pyg_schnet.models.potential import derivatives, energy_on
from pyg_schnet.models.recordable import recordable
from pyg_schnet.models.structures import Structures
from pyg_schnet.training.padding import Padded, padded
from pyg_schnet.training.potential_task import PotentialTask
from pyg_schnet.training.recordable import RecordableOptimizer


class _Bucket(NamedTuple):
    """Mini-batches of one shape: where their tensors are, and the step of them."""

    batch: Padded
    replay: Replay[Tensor]
    weights: Addresses


class RecordedTraining:
    r"""Steps of training on energies and forces in few shapes, as one launch each on a GPU.

    A mini-batch is filled up with atoms, pairs and structures that change nothing, to at most a quarter more: loss,
    gradients and new weights are those of the ordinary step to round-off. Steps of one shape share a recording (CUDA
    graph) of everything from the edges to the new weights: predictions, loss, derivatives, step of the optimizer. The
    first three steps of each shape run as usual, the fourth is recorded; the shapes used last are kept. Neighbours are
    searched before, unless the data have them (:class:`~pyg_schnet.transforms.RadiusGraph`). On a CPU the same function
    is called instead.

    Gradients are those of one mini-batch: they are neither accumulated nor clipped, and on a GPU ``parameter.grad`` is
    not for reading. There, the optimizer is made capturable and its learning rate a tensor, which schedules of torch
    change in place; other options of the optimizer and of the model are those of the recording. Weights may be changed
    in place between steps. If they or the state of the optimizer are replaced, recordings are made anew; the optimizer
    must then know the new weights. Averages of the weights are taken outside, between steps. ``filters="table"`` makes
    tables of all distances, and ``"auto"`` is exact.

    Args:
        task: What is learnt; its references are not set here, see
            :meth:`~pyg_schnet.training.TrainingTask.prepare`.
        optimizer: Optimizer of the weights. On a GPU one of those with the argument ``capturable``, such as Adam.
        max_shapes: Number of shapes kept, those used last.

    Attributes:
        recordings: How many recordings (on a CPU: shapes) have been needed.

    Raises:
        TypeError: If ``task`` is no :class:`~pyg_schnet.training.PotentialTask`.
        ValueError: If the model cannot be recorded, ``max_shapes`` is less than 1, or the optimizer cannot be.

    Example:
        >>> from torch_geometric.data import Batch
        >>> from pyg_schnet import SchNet
        >>> task = PotentialTask(SchNet(16, 16, 2, 20, cutoff=5.0))
        >>> step = RecordedTraining(task, torch.optim.Adam(task.parameters(), lr=1e-3))
        >>> water = Data(
        ...     z=torch.tensor([8, 1, 1]),
        ...     pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
        ...     energy=torch.tensor([-14.0]),
        ...     forces=torch.zeros(3, 3),
        ... )
        >>> losses = [step(Batch.from_data_list([water, water])) for _ in range(20)]
        >>> bool(losses[-1] < losses[0]), step.recordings
        (True, 1)
    """

    def __init__(self, task: PotentialTask, optimizer: Optimizer, *, max_shapes: int = 8) -> None:
        if not isinstance(task, PotentialTask):
            raise TypeError(f"`task` must be a PotentialTask, got {type(task).__name__}")
        if not isinstance(max_shapes, int) or max_shapes < 1:
            raise ValueError(f"`max_shapes` must be an integer of at least 1, got {max_shapes!r}")
        self.model = recordable(task.model)
        self.task, self.optimizer, self.max_shapes = task, optimizer, max_shapes
        self.recordings = 0
        self._buckets: OrderedDict[tuple[object, ...], _Bucket] = OrderedDict()
        self._recordable = RecordableOptimizer(optimizer, self.model.embedding.weight.device)

    def __call__(self, data: Data) -> Tensor:
        """One step of training.

        Args:
            data: A mini-batch with ``energy``, ``forces`` and, if it is learnt, ``stress``, on the device of the model.

        Returns:
            The loss before the step, a scalar.

        Raises:
            TypeError: If something is of the wrong kind.
            ValueError: If something is missing, has the wrong shape or is on another device.
        """
        device = self.model.embedding.weight.device
        if isinstance(data.get("pos"), Tensor) and data.pos.device != device:
            raise ValueError(f"`data` must be on the device of the model, {device}, got {data.pos.device}; move it")
        batch = padded(self.task, data, [one.batch.sizes for one in self._buckets.values()])
        bucket = self._bucket(batch)
        if bucket.batch is not batch:
            for held, new in zip(bucket.batch, batch, strict=True):
                if held is not None and new is not None:
                    held.copy_(new)
        loss = bucket.replay().clone()
        self._recordable.remember()
        return loss

    def _bucket(self, batch: Padded) -> _Bucket:
        """What is kept of the shape of a batch."""
        if not self._recordable.prepare():
            self._buckets.clear()
        bucket = self._buckets.pop(batch.shape, None)
        if bucket is not None and bucket.replay.recorded and not bucket.weights.hold():
            self._buckets.clear()
            bucket = None
        if bucket is None:
            self.recordings += 1
            replay = Replay(partial(step_on, self.task, self.optimizer, batch), batch.pos.device)
            bucket = _Bucket(batch, replay, Addresses(self.model))
        self._buckets[batch.shape] = bucket
        while len(self._buckets) > self.max_shapes:
            self._buckets.popitem(last=False)
        return bucket

    def __getstate__(self) -> dict[str, Any]:  # a copy makes recordings of its own
        return self.__dict__ | {"_buckets": OrderedDict[tuple[object, ...], _Bucket]()}


def step_on(task: PotentialTask, optimizer: Optimizer, batch: Padded) -> Tensor:
    """One step on a mini-batch that is filled up, from its edges to new weights; all of it may be recorded.

    Args:
        task: What is learnt.
        optimizer: Optimizer of the weights.
        batch: The mini-batch, see :func:`~pyg_schnet.training.padding.padded`.

    Returns:
        The loss before the step, a scalar.
    """
    optimizer.zero_grad(set_to_none=True)
    with torch.enable_grad():
        atoms = batch.z, batch.pos, batch.batch, batch.energy.size(0)
        structures = Structures(*atoms, cell=batch.cell, edges=batch.edges)
        if task.hparams["forces"]:
            out = derivatives(task.model, structures, virials=batch.stress is not None, differentiable=True)
        else:
            out = {"energy": energy_on(task.model, structures, differentiable=True)[0]}
        loss = task.loss_of(out, batch.labels) * batch.share
    loss.backward()
    optimizer.step()
    return loss.detach()
