"""What benchmarks share: errors, the clock, peak memory in processes of their own, and the file of the figures."""

import contextlib
import importlib.metadata
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Step = Callable[[], dict[str, Tensor]]
PACKAGES = ("torch", "torch_geometric", "numba", "triton", "schnetpack", "nvalchemi-toolkit-ops")


def errors(result: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """Norms of differences relative to norms."""
    return {name: float((result[name].double() - value).norm() / value.norm()) for name, value in reference.items()}


def disagree(found: dict[str, dict[str, float]], limits: dict[str, float]) -> bool:
    """Whether an error of any model is larger than its limit, or not a number."""
    return any(not error <= limits[kind] for one in found.values() for kind, error in one.items())


def ratios(found: dict[str, float], unit: str) -> dict[str, float]:
    """In multiples of one of them; empty where that is a memory too small to be seen."""
    return {name: value / found[unit] for name, value in found.items()} if found[unit] > 0 else {}


def on_gpu(device: str) -> bool:
    """Whether this device has a clock and a memory of its own."""
    return device.startswith("cuda")


def wait(device: str) -> None:
    """For the GPU to be done."""
    if on_gpu(device):
        torch.cuda.synchronize(device)


def take_turns(
    steps: dict[str, Callable[[], Any]],
    repeats: int,
    device: str,
    steps_at_once: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times of steps in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            wait(device)
            start = clock()
            for _ in range(steps_at_once):
                step()
            wait(device)
            taken[name].append((clock() - start) / steps_at_once)
    return taken


def peak_memory(step: Callable[[], Any], device: str) -> float:
    """Peak memory of two steps in MiB beyond what was held before: of this process (Linux), or of tensors on a GPU."""
    if on_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _resident("VmRSS")
    for _ in range(2):
        step()
    wait(device)
    return (torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu(device) else _resident("VmHWM")) - before


def _resident(what: str) -> float:
    """Memory of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def machine(device: str) -> dict[str, Any]:
    """Where the figures are measured."""
    found = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    if on_gpu(device):
        found["GPU"] = torch.cuda.get_device_name(device)
        found["TF32"] = "on" if torch.backends.cuda.matmul.allow_tf32 else "off"
    return found


def write_figures(path: Path | None, facts: dict[str, Any]) -> None:
    """To a JSON file, with the versions of the packages that are installed."""
    if path is None:
        return
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"versions": versions, **facts}, indent=1))
