"""Fixtures shared by all tests: seeds, molecules, models, the mirror of real data."""

import contextlib
import getpass
import importlib
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch_geometric.data import Data

from pyg_schnet import Graph, SchNet, fast, radius_graph
from pyg_schnet.fast.cuda_graph import Replay
from pyg_schnet.sizes import SIZES
from tests.forks import Forks

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("fixed")
# what torch's compiler keeps for one kind of processor is wrong, or crashes, for another one; torch itself writes the
# usual folder into the environment when it is imported
_compiled = str(Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}")
if os.environ.get("TORCHINDUCTOR_CACHE_DIR", _compiled) == _compiled:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{_compiled}_{torch.backends.cpu.get_cpu_capability()}"
torch.set_num_threads(1)  # as many test processes as cores: threads of their own would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same for processes that tests start


class Molecules(NamedTuple):
    """Several structures as one batch, float64."""

    z: Tensor
    pos: Tensor
    batch: Tensor

    def split(self) -> list[tuple[Tensor, Tensor]]:
        """Atomic numbers and positions of each structure."""
        count = int(self.batch.max()) + 1
        return [(self.z[self.batch == i], self.pos[self.batch == i]) for i in range(count)]

    def data(self, dtype: torch.dtype = torch.float64) -> list[Data]:
        """Each structure as a Data object."""
        return [Data(z=z, pos=pos.to(dtype)) for z, pos in self.split()]


#: What a graph consists of.
FIELDS = ("edge_index", "edge_shift", "rowptr", "reverse")


def assert_same_graph(found: Graph, expected: Graph) -> None:
    """The same edges in the same order, as numbers of the same kind in the same place."""
    for name in FIELDS:
        one, other = getattr(found, name), getattr(expected, name)
        assert (one.dtype, one.device) == (other.dtype, other.device), name
        assert torch.equal(one, other), name


def assert_forces_are_slopes(potential: Any, structures: Sequence[Tensor], places: Any, **tolerance: float) -> None:
    """Forces on some atoms along some axes are finite differences of the energy.

    Errors of these are the square of the step, 1e-4 Angstrom, times third derivatives, and round-off.
    """
    z, pos, batch = structures
    forces, step = potential(z, pos, batch)["forces"], 1e-4
    for atom, axis in places:
        shift = torch.zeros_like(pos)
        shift[atom, axis] = step
        ends = [potential(z, pos + sign * shift, batch)["energy"].sum() for sign in (1, -1)]
        assert forces[atom, axis].item() == pytest.approx(-float(ends[0] - ends[1]) / (2 * step), **tolerance)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    random.seed(0)  # PyG's transforms draw from it
    np.random.seed(0)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Processes for code, which have imported the package already, but none of its extras."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork processes")
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture
def real_data() -> Path:
    """Folder of the reference data; without it the test is skipped."""
    if "PYG_SCHNET_DATA" not in os.environ:
        pytest.skip("PYG_SCHNET_DATA is not set")
    return Path(os.environ["PYG_SCHNET_DATA"])


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device there is."""
    return torch.device(request.param)


@pytest.fixture
def water() -> tuple[Tensor, Tensor]:
    """Atomic numbers and positions of water, slightly off its mirror symmetry."""
    return torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)


@pytest.fixture
def molecules(water: tuple[Tensor, Tensor]) -> Molecules:
    """Water, methane (a tetrahedron) and a puckered ring of six carbons with two oxygens, all within 6 Angstrom."""
    methane = 1.09 / math.sqrt(3) * torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    angle = torch.arange(8) * (math.pi / 4)
    ring = torch.stack([2.1 * angle.cos(), 1.9 * angle.sin(), 0.3 * (3 * angle).cos()], dim=1)
    parts = [water, (torch.tensor([6, 1, 1, 1, 1]), methane), (torch.tensor([6, 6, 8, 6, 6, 6, 8, 6]), ring)]
    pos = torch.cat([part.double() for _, part in parts])
    pos = pos + 0.05 * torch.randn(pos.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batch = torch.arange(3).repeat_interleave(torch.tensor([3, 5, 8]))
    return Molecules(torch.cat([z for z, _ in parts]), pos, batch)


@pytest.fixture
def scramble() -> Callable[[nn.Module], nn.Module]:
    """Function that draws all parameters, biases too, from a normal distribution: a mix-up cannot hide behind zeros."""

    def scramble(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=0.3)
        return module

    return scramble


@pytest.fixture
def make_model(scramble: Callable[[nn.Module], nn.Module]) -> Callable[..., SchNet]:
    """Function that makes a small SchNet in float64; every size is different."""

    def make_model(**options: Any) -> SchNet:
        sizes = {"hidden_channels": 10, "num_filters": 7, "num_interactions": 2, "num_gaussians": 16, "cutoff": 5.0}
        return scramble(SchNet(**(sizes | options)).double())

    return make_model


@pytest.fixture
def rotation() -> Tensor:
    """A random proper rotation [3, 3] float64."""
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    return q * torch.linalg.det(q)


@pytest.fixture
def ways() -> Iterator[list[str]]:
    """Ways that the test's computations take, one by one, see :func:`pyg_schnet.fast.recorded`."""
    with fast.recorded() as ways:
        yield ways


@pytest.fixture
def without_pass() -> Callable[[Callable[[], Any]], Any]:
    """Function that calls another one, and sees to it that compiled passes are not taken there, nor recorded."""

    def without_pass(call: Callable[[], Any]) -> Any:
        with fast.without("molecules", "pass"), fast.recorded() as ways:
            result = call()
        assert ways
        assert not {"molecules", "pass"} & set(ways)
        return result

    return without_pass


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Function that has passes do all structures in ``"groups"``, or all atoms in ``"tiles"``, of sixteen each."""

    def divided(division: str) -> None:
        if division == "tiles":
            for name, size in {"max_atoms": 1, "atoms_per_tile": 16, "filters_at_once": 16}.items():
                monkeypatch.setattr(SIZES, name, size)

    return divided


@pytest.fixture
def three_structures() -> Callable[[torch.dtype], tuple[Tensor, Tensor, Tensor]]:
    """Function that makes atomic numbers, positions and structures of eleven atoms; the second structure is empty."""

    def three_structures(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        z = torch.tensor([1, 6, 7, 8]).repeat(3)[:11]
        return z, 2.5 * torch.randn(11, 3, dtype=dtype), torch.tensor([0] * 5 + [2] * 6)

    return three_structures


@pytest.fixture
def graph_of_kind() -> Callable[..., dict[str, Any]]:
    """Function that says of :func:`three_structures` what a model needs beside them: open, periodic or given edges."""

    def graph_of_kind(kind: str, cutoff: float, pos: Tensor, batch: Tensor) -> dict[str, Any]:
        if kind == "open":
            return {"batch_size": 3}
        cell, pbc = 5.0 * torch.eye(3, dtype=pos.dtype).repeat(3, 1, 1), torch.ones(3, 3, dtype=torch.bool)
        graph = {"batch_size": 3, "cell": cell, "pbc": pbc}
        if kind == "given edges":
            found = radius_graph(pos, cutoff, batch, cell, pbc, batch_size=3)
            graph |= {"edge_index": found.edge_index, "edge_shift": found.edge_shift}
        return graph

    return graph_of_kind


class Rounding(TorchDispatchMode):
    """Arithmetic whose results are off at random by up to a step of another kind of numbers.

    What rounding does in the end depends on how numbers cancel on the way there, and this is how it shows. Orders of
    sums, fused products and other processors change which of the possible errors there is, not how large they can be.
    """

    #: Results of these are numbers that were there before.
    exact = ("amax", "amin", "cat", "gather", "index", "index_select", "max", "median", "min", "scatter_reduce", "sort")

    def __init__(self, step: float, seed: int) -> None:
        super().__init__()
        self.step, self.generator = step, torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results, schema = func(*args, **(kwargs or {})), func._schema
        view = any(result.alias_info is not None for result in schema.returns)
        kept = view or schema.name.removeprefix("aten::") in self.exact
        return results if kept else tree_map_only(Tensor, self._off, results)

    def _off(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:
            return x
        return x * (1 + self.step * (2 * torch.rand(x.shape, generator=self.generator, dtype=x.dtype) - 1))


#: A rounding errs by half a step at most, a trial by a whole one. A sum of n numbers is rounded n times besides, which
#: adds the root of n times that: enough for the hundreds of numbers that there are here, in any order.
SAFETY = 8


@pytest.fixture
def within_rounding() -> Callable[..., None]:
    """Function that checks results by the truth and by what rounding can do to them, on whichever processor.

    It takes results [T] of one kind of numbers, and what computes the same in float64 by operations of torch.
    """

    def within_rounding(actual: Sequence[Tensor], compute: Callable[[], Sequence[Tensor]]) -> None:
        truth = [value.detach() for value in compute()]
        trials = []
        for seed in range(8):
            with Rounding(torch.finfo(actual[0].dtype).eps, seed):
                trials.append([value.detach() for value in compute()])
        for value, true, *others in zip(actual, truth, *trials, strict=True):
            assert value.dtype == actual[0].dtype
            assert value.shape == true.shape
            bound = SAFETY * max(float((other - true).abs().max()) for other in others)
            error = float((value.detach().double() - true).abs().max())
            assert error <= bound, f"off by {error:.1e}, where rounding explains {bound:.1e}"

    return within_rounding


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: operations on tensors that stay where they are, recorded and played again.

    Memory from outside is after the recording as it was before. Looking at values stops the recording.
    """

    looks = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal.default", "_unique", "item")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.outside: dict[int, tuple[Any, Any]] = {}
        self.inside: list[Any] = []  # kept, lest their memory is used again
        self.played = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(look in str(func) for look in self.looks):
            raise RuntimeError(f"{func} while recording")
        known = {storage.data_ptr() for storage in self.inside}
        for storage in self._storages((args, kwargs)):
            if storage.data_ptr() not in known:
                self.outside.setdefault(storage.data_ptr(), (storage, storage.clone()))
        out = func(*args, **(kwargs or {}))
        self.inside += [one for one in self._storages(out) if one.data_ptr() not in self.outside]
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for storage, before in self.outside.values():
            storage.copy_(before)

    def replay(self) -> None:
        """Play all of it again."""
        self.played += 1
        with torch.no_grad():
            for func, args, kwargs, out in self.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new.detach())

    @property
    def constants(self) -> int:
        """Numbers from Python, which would have to be copied to a GPU."""
        return sum("lift_fresh" in str(func) for func, *_ in self.calls)

    @staticmethod
    def _storages(tree: Any) -> list[Any]:
        tensors = (one for one in tree_leaves(tree) if isinstance(one, Tensor))
        return [one.untyped_storage() for one in tensors if one.numel() > 0]


class Stage:
    """A GPU that there is not: which streams, recordings and replays there were, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.tapes: list[Tape] = []


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Steps are recorded and played on the CPU as they would be on a GPU."""
    stage = Stage()

    class Stream:
        def __init__(self, device: Any = None, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            stage.events.append(f"{self.name} waits for {other.name}")

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        stage.events.append(f"on {stream.name}")
        yield

    @contextlib.contextmanager
    def graph(tape: Tape, pool: Any, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        stage.events.append(f"record on {stream.name}")
        stage.tapes.append(tape)
        with tape:
            yield

    for name, stand_in in (("Stream", Stream), ("stream", on), ("CUDAGraph", Tape), ("graph", graph)):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream(name="main"))
    for module in ("pyg_schnet.simulation.recorded", "pyg_schnet.training.recorded"):
        with contextlib.suppress(ImportError):
            imported = importlib.import_module(module)
            monkeypatch.setattr(
                imported, "Replay", lambda step, _, *rest, **how: Replay(step, torch.device("cuda"), *rest, **how)
            )
    with fast.without("compiled loops"):  # which a tape does not see
        yield stage
