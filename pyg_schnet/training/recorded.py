"""Steps of training that a GPU plays as recordings, one for each of a few shapes of mini-batches."""

from collections import OrderedDict
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer
from torch_geometric.data import Data

from pyg_schnet.compat import add_each, copy_each
from pyg_schnet.fast.cuda_graph import WARM_UP, Addresses, Replay
from pyg_schnet.models.potential import derivatives, energy_on
from pyg_schnet.models.recordable import recordable
from pyg_schnet.models.structures import Structures
from pyg_schnet.training.padding import Padded, empty, fill, kind_of, mini_batch, sizes_for
from pyg_schnet.training.potential_task import PotentialTask
from pyg_schnet.training.recordable import RecordableOptimizer


class _Bucket(NamedTuple):
    """Mini-batches of one shape: where their tensors are, and loss and gradients of them."""

    batch: Padded
    replay: Replay[Tensor]
    weights: Addresses


class RecordedTraining:
    r"""Steps of training on energies and forces in few shapes, as one launch each on a GPU.

    A mini-batch is filled up with atoms, pairs and structures that change nothing, to at most a quarter more: loss,
    gradients and new weights are those of the ordinary step to round-off. Mini-batches of one shape share a recording
    (CUDA graph) of everything from the pairs to the gradients: predictions, loss, derivatives; the step of the
    optimizer is another one. The first three steps run as usual, the fourth is recorded, and of any further shape the
    second; the shapes used last are kept, and their recordings share their memory. Neighbours are searched before,
    unless the data have them (:class:`~pyg_schnet.transforms.RadiusGraph`). On a CPU the same functions are called
    instead. What cannot be recorded is computed as it is, after one warning.

    On a GPU, the optimizer is made capturable and its learning rate a tensor, which schedules of torch change in place;
    other options of the optimizer and of the model are those of the recording. Weights may be changed in place between
    steps. If they or the state of the optimizer are replaced, recordings are made anew; the optimizer must then know
    the new weights. Averages of the weights are taken outside, between steps. ``filters="table"`` makes tables of all
    distances, and ``"auto"`` is exact.

    Args:
        task: What is learnt; its references are not set here, see
            :meth:`~pyg_schnet.training.TrainingTask.prepare`.
        optimizer: Optimizer of the weights. On a GPU one of those with the argument ``capturable``, such as Adam.
        max_shapes: Number of shapes kept, those used last.
        accumulate: Mini-batches whose gradients are averaged before the weights change, see :meth:`gradients`.
        clip: What to do with gradients before; a function without arguments, to be recorded, too.

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

    def __init__(
        self,
        task: PotentialTask,
        optimizer: Optimizer,
        *,
        max_shapes: int = 8,
        accumulate: int = 1,
        clip: Any = None,
    ) -> None:
        if not isinstance(task, PotentialTask):
            raise TypeError(f"`task` must be a PotentialTask, got {type(task).__name__}")
        for name, value in (("max_shapes", max_shapes), ("accumulate", accumulate)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be an integer of at least 1, got {value!r}")
        self.model: Any = recordable(task.model)
        self.task, self.optimizer, self.max_shapes, self.accumulate = task, optimizer, max_shapes, accumulate
        self.clip = clip
        self.recordings = 0
        self._buckets: OrderedDict[tuple[object, ...], _Bucket] = OrderedDict()
        self._update: Replay[None] | None = None
        self._slopes: dict[str, Tensor] = {}  # the gradients, which recordings find where they are
        self._gathered = 0
        self._pool: Any = None
        self._recordable = RecordableOptimizer(optimizer, task.model.embedding.weight.device)

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
        loss = self.gradients(data)
        self.update()
        return loss

    def gradients(self, data: Data) -> Tensor:
        """Loss and gradients of a mini-batch, to be added to those of the ones before that no update has followed yet.

        Args:
            data: As in a call.

        Returns:
            The loss of the mini-batch, a scalar.

        Raises:
            TypeError, ValueError: As in a call.
        """
        device = self.model.embedding.weight.device
        if isinstance(data.get("pos"), Tensor) and data.pos.device != device:
            raise ValueError(f"`data` must be on the device of the model, {device}, got {data.pos.device}; move it")
        batch = mini_batch(self.task, data)
        if not self._recordable.prepare():
            self._update = None
        kind = kind_of(batch)
        sizes = sizes_for(batch.sizes, [one.batch.sizes for key, one in self._buckets.items() if key[:-1] == kind])
        key = *kind, sizes
        bucket = self._buckets.pop(key, None)
        if bucket is not None and bucket.replay.recorded and not bucket.weights.hold():
            self._forget()
            bucket = None
        if bucket is None:
            bucket = self._started(empty(batch, sizes))
        self._buckets[key] = bucket
        while len(self._buckets) > self.max_shapes:
            self._buckets.popitem(last=False)
        fill(bucket.batch, batch, self.model.cutoff)
        if self.accumulate > 1 and self._gathered == 0:
            for slope in self._slopes.values():
                slope.zero_()
        self._gathered += 1
        return bucket.replay().clone()

    def update(self) -> None:
        """The step of the optimizer."""
        if self._update is None:
            self._update = Replay(partial(update_on, self.optimizer, self.clip), self._device, pool=self._shared)
        own: dict[str, Any] = dict(self.task.named_parameters())
        for name, slope in self._slopes.items():  # somebody may have put them away
            own[name].grad = slope
        self._update()
        self._gathered = 0
        self._recordable.remember()

    def _started(self, batch: Padded) -> _Bucket:
        """What is kept of a shape; calls before the recording are fewer once the operations are known."""
        self.recordings += 1
        warm_up = 1 if any(one.replay.recorded for one in self._buckets.values()) else WARM_UP
        step = partial(gradients_on, self.task, batch, self._slopes, self.accumulate)
        return _Bucket(batch, Replay(step, self._device, warm_up, self._shared), Addresses(self.model))

    def _forget(self) -> None:
        self._buckets.clear()
        self._slopes, self._update, self._gathered = {}, None, 0

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.model.embedding.weight.device
        return device

    @property
    def _shared(self) -> Any:
        """Memory of all recordings, which never play at the same time; ``None`` on a CPU."""
        if self._pool is None and self._device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool

    def __getstate__(self) -> dict[str, Any]:  # a copy makes recordings of its own
        buckets = OrderedDict[tuple[object, ...], _Bucket]()
        return self.__dict__ | {"_buckets": buckets, "_slopes": {}, "_update": None, "_pool": None}


class _Loss(nn.Module):
    """The loss of a mini-batch as a function of the weights."""

    def __init__(self, task: PotentialTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Padded) -> Tensor:
        task, edges = self.task, batch.edges
        structures = Structures(batch.z, batch.pos, batch.batch, batch.energy.size(0), cell=batch.cell, edges=edges)
        if task.hparams["forces"]:
            out = derivatives(task.model, structures, virials=batch.stress is not None, differentiable=True)
        else:
            out = {"energy": energy_on(task.model, structures, differentiable=True)[0]}
        return task.loss_of(out, batch.labels) * batch.share


def gradients_on(task: PotentialTask, batch: Padded, slopes: dict[str, Tensor], accumulate: int = 1) -> Tensor:
    """Loss and gradients of a mini-batch that is filled up; all of it may be recorded.

    They are those with respect to copies of the weights that share their memory: what autograd remembers of the weights
    themselves may belong to another stream, where results of a user are still alive.

    Args:
        task: What is learnt.
        batch: The mini-batch, see :func:`~pyg_schnet.training.padding.padded`.
        slopes: The gradients by the names of the weights, where they are written; new ones are added.
        accumulate: Number of mini-batches whose gradients are averaged; if there are several, they are added to what
            is there, else they take its place.

    Returns:
        The loss, a scalar.
    """
    own = {name: one for name, one in task.named_parameters() if one.requires_grad}
    leaves = {name: one.detach().requires_grad_() for name, one in own.items()}
    with torch.enable_grad():
        loss = functional_call(_Loss(task), {f"task.{name}": one for name, one in leaves.items()}, (batch,))
        mean = loss / accumulate if accumulate > 1 else loss
        found = torch.autograd.grad(mean, [*leaves.values()], allow_unused=True)
    known = {name: slope for name, slope in zip(own, found, strict=True) if slope is not None}
    for name in known:
        if name not in slopes:
            slopes[name] = torch.zeros_like(own[name])  # rows behind rows, as optimizers in one kernel read it
    if known:
        write = add_each if accumulate > 1 else copy_each
        write([slopes[name] for name in known], [*known.values()])
    return loss.detach()


def update_on(optimizer: Optimizer, clip: Any = None) -> None:
    """New weights; all of it may be recorded.

    Args:
        optimizer: Optimizer of the weights.
        clip: What to do with gradients before, if anything.
    """
    if clip is not None:
        clip()
    optimizer.step()
