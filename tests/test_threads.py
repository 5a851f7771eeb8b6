"""Work is shared by threads: all of it, once, in torch's threads or in others; errors come back."""

import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from pyg_schnet.sizes import SIZES

pytest.importorskip("numba")
threads = importlib.import_module("pyg_schnet.threads")
FORK = """
import os, torch
from pyg_schnet import threads
torch.set_num_threads(2)
done = []
def work(first, end): done.extend(range(first, end))
for _ in range(2):
    torch.randn(2000, 2000).exp_()  # starts the threads of torch, too
    threads.share_out(work, 10, 1, 1 << 30)
child = os.fork()
if child == 0:
    threads.share_out(work, 10, 1, 1 << 30)
    os._exit(0 if sorted(done) == sorted(3 * list(range(10))) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(params=["torch's threads", "own threads"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "own threads":
        monkeypatch.setattr(threads, "openmp", lambda: None)
    elif threads.openmp() is None:
        pytest.skip("torch was built without this OpenMP")
    return request.param


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize(("number", "grain"), [(1, 1), (7, 1), (64, 16), (70, 16), (5, 8)])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_all_of_it_once(number: int, grain: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    done: list[tuple[int, int]] = []
    threads.share_out(lambda *limits: done.append(limits), number, grain, 1 << 30)
    assert len(done) == min(count, -(-number // grain))
    assert sorted(item for first, end in done for item in range(first, end)) == list(range(number))
    assert all(first % grain == 0 for first, _ in done)


@pytest.mark.usefixtures("kind")
def test_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads wait for each other, and meet."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    meeting = threading.Barrier(2, timeout=60)
    for _ in range(3):
        threads.share_out(lambda *_: meeting.wait(), 2, 1, 1 << 30)


@pytest.mark.usefixtures("kind")
def test_what_is_shared_inside_is_done_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of waiting for threads that wait."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    meeting, done = threading.Barrier(2, timeout=60), list[tuple[int, int, int]]()

    def work(first: int, _: int) -> None:
        meeting.wait()
        threads.share_out(lambda *limits: done.append((first, *limits)), 10, 1, 1 << 30)

    for _ in range(2):
        threads.share_out(work, 2, 1, 1 << 30)
    assert sorted(done) == [(0, 0, 10), (0, 0, 10), (1, 0, 10), (1, 0, 10)]


@pytest.mark.usefixtures("kind")
def test_errors_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def work(first: int, _: int) -> None:
        time.sleep(0.01)
        if first > 0:
            raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        threads.share_out(work, 4, 1, 1 << 30)


def test_little_work_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    done: list[tuple[int, int]] = []
    threads.share_out(lambda *limits: done.append(limits), 4, 1, SIZES.products_per_thread // 8)
    assert done == [(0, 4)]


@pytest.mark.skipif(not hasattr(importlib.import_module("os"), "fork"), reason="no fork")
def test_forked_processes_have_threads_of_their_own() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=100)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_alone_while_there_is_little_to_do():
    with threads.alone_if(True):
        assert torch.get_num_threads() == 1
        with threads.alone_if(True):
            assert torch.get_num_threads() == 1
    with threads.alone_if(False):
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), threads.alone_if(True):
        raise KeyError
    assert torch.get_num_threads() == 2
