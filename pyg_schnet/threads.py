"""Threads for compiled loops, those that torch has already (extra ``fast``).

After an operation torch's threads wait for the next one for a while, on a processor each, which threads of one's own
would have to share with them. So loops ask OpenMP, as torch does, to run them in its threads; where torch was built
without it, or with another one, they take threads of their own. In steps of training that saves up to a tenth.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from pyg_schnet.sizes import SIZES

#: The process whose threads OpenMP knows. One that is forked from it has none of them, which OpenMP does not notice.
_HOME = os.getpid()
_thread = threading.local()
_Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def share_out(function: Callable[[int, int], None], number: int, grain: int, width: int) -> None:
    """Call a function for ranges of so many items, each of so many products, one range for each thread that pays.

    What is shared inside of the function is done by the thread that is there.

    Args:
        function: Takes the first item and the one behind the last, and lets other threads work meanwhile.
        number: Number of items.
        grain: Items that belong together.
        width: Products of each item.
    """
    threads = min(torch.get_num_threads(), number * width // SIZES.products_per_thread, -(-number // grain))
    if threads <= 1 or getattr(_thread, "busy", False):
        function(0, number)
        return
    pieces = -(-number // grain)
    limits = [min(number, pieces * k // threads * grain) for k in range(threads + 1)]
    _run(lambda limit: function(*limit), list(itertools.pairwise(limits)), threads)


def each(function: Callable[[Any], Any], items: Sequence[Any], threads: int) -> list[Any]:
    """Results of a function for all items, in their order.

    Args:
        function: Takes an item, and lets other threads work meanwhile.
        items: The items, which threads take one after the other.
        threads: How many threads.

    Returns:
        The results.
    """
    if threads <= 1 or len(items) <= 1 or getattr(_thread, "busy", False):
        return [function(item) for item in items]
    results: list[Any] = [None] * len(items)

    def work(numbered: tuple[int, Any]) -> None:
        results[numbered[0]] = function(numbered[1])

    _run(work, list(enumerate(items)), min(threads, len(items)))
    return results


@contextlib.contextmanager
def alone_if(few: bool) -> Iterator[None]:
    """Let torch compute in one thread meanwhile if there is little to do.

    A second thread gains nothing then; and where another process has its core, torch waits for it after each operation.

    Args:
        few: True if there is.
    """
    before = torch.get_num_threads()
    if not few or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(function: Callable[[Any], None], items: Sequence[Any], threads: int) -> None:
    """Call a function for all items in so many threads; what it raises first is raised here."""
    waiting, failures = iter(items), list[BaseException]()

    def work(_: Any = None) -> None:
        _thread.busy = True
        try:
            for item in _taken(waiting):
                function(item)
        except BaseException as failure:
            failures.append(failure)
        finally:
            _thread.busy = False

    run = openmp() if os.getpid() == _HOME else None
    if run is None:
        own = _own_threads(threads - 1, os.getpid())
        jobs = [own.submit(work) for _ in range(threads - 1)]
        work()
        for job in jobs:
            job.result()
    else:
        run(_Work(work), None, threads, 0)
    if failures:
        raise failures[0]


def _taken(items: Iterator[Any]) -> Iterator[Any]:
    """One item after the other until there are none: each goes to one thread, because Python runs one at a time."""
    while (item := next(items, None)) is not None:
        yield item


@functools.cache
def openmp() -> Callable[..., None] | None:
    """What runs a function in the threads of torch's OpenMP.

    Returns:
        A function, or ``None`` if torch was built without OpenMP, or with another one; loops then take threads of their
        own.
    """
    try:
        run: Any = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (AttributeError, OSError):
        return None
    run.restype, run.argtypes = None, [_Work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel: Callable[..., None] = run
    return parallel


@functools.cache
def _own_threads(number: int, process: int) -> ThreadPoolExecutor:
    del process  # threads stay behind when a process forks
    return ThreadPoolExecutor(number)
