"""Triton kernels as GPUs get them: compiled to machine code, which needs no GPU."""

import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pyg_schnet.fast.gpu import convolution as gpu
from pyg_schnet.fast.gpu import convolution_kernels as gpu_loops
from tests.fast.operands import Grid, operands

pytest.importorskip("triton", minversion="3.4")
GRID = Grid(start=0.9, spacing=0.2, size=12, margin=-0.1)
#: Threads that AMD's architectures run together: a data centre's and a desktop's.
LANES = {"gfx942": 64, "gfx1100": 32}
Started = tuple[Any, tuple[Any, ...], gpu.Tile]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Started]]:
    """Gets kernels, arguments and tiles instead of a GPU."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    importlib.reload(gpu_loops)
    found = list[Started]()
    monkeypatch.setattr(gpu, "_launch", lambda kernel, _, tile, *given: found.append((kernel, given, tile)))
    yield found
    monkeypatch.undo()
    importlib.reload(gpu_loops)


def assembly(kernel: Any, given: tuple[Any, ...], tile: gpu.Tile, capability: int | str, kind: str = "ptx") -> Any:
    """What Triton makes of a call, for NVIDIA GPUs of some compute capability, or for AMD's of some architecture."""
    compiler, backends = (importlib.import_module(f"triton.{name}") for name in ("compiler", "backends.compiler"))
    mangle = importlib.import_module("triton.runtime.jit").mangle_type
    values = dict(zip([one.name for one in kernel.params], given, strict=False))
    values |= {"EDGES": tile.edges, "FEATURES": tile.features}
    signature, constants, hints = {}, {}, {}
    for one in kernel.params:
        value = values[one.name]
        if one.is_constexpr:
            signature[one.name], constants[(one.num,)] = "constexpr", value
        else:
            signature[one.name] = one.annotation_type or mangle(value)
            aligned = isinstance(value, torch.Tensor) and not one.do_not_specialize_on_alignment
            if aligned or (isinstance(value, int) and value % 16 == 0 and not one.do_not_specialize):
                hints[(one.num,)] = [["tt.divisibility", 16]]
    source = compiler.ASTSource(kernel, signature, constants, hints)
    target = backends.GPUTarget("cuda", capability, 32)
    if isinstance(capability, str):
        target = backends.GPUTarget("hip", capability, LANES[capability])
    options = {"num_warps": tile.warps, "enable_fp_fusion": True}
    return compiler.compile(source, target=target, options=options).asm[kind]


def test_kernels_read_16_bytes_at_a_time_and_add_without_atomics(started: list[Started]) -> None:
    gpu.gradients(*operands(GRID, 8, 40, 64, torch.float32, symmetric=True), (True,) * 5)
    assert {kernel.fn.__name__ for kernel, *_ in started} == {
        "nodes_kernel",
        "edges_kernel",
        "intervals_kernel",
        "knots_kernel",
    }
    for kernel, given, tile in started[1:]:  # the first two are alike
        code = assembly(kernel, given, tile, 80)
        assert not re.search(r"\b(atom|red)\.", code)
        if kernel is not gpu_loops.knots_kernel:
            assert "ld.global.v4" in code
        if kernel is gpu_loops.nodes_kernel:
            assert "fma.rn.f32" in code


def test_other_kinds_compile(started: list[Started]) -> None:
    """Sums in double precision are nowhere rounded to single; 16 bits are widened before they are added."""
    gpu.nodes(*operands(GRID, 8, 40, 20, torch.float64, order=1).of("nodes"))
    with gpu.storage(features=torch.bfloat16, table=torch.float16):
        gpu.nodes(*operands(GRID, 8, 40, 20, torch.float32, order=1).of("nodes"))
    double, narrow = (assembly(*call, 90) for call in started)
    assert "fma.rn.f64" in double
    assert not re.search(r"(fma|add|mul)\.(rn\.)?f32|cvt\.rn\.f32", double)
    assert "fma.rn.f32" in narrow
    assert not re.search(r"(fma|add|mul)\.(rn\.)?(bf16|f16)", narrow)


@pytest.mark.parametrize("capability", [80, 90])
def test_a_sum_to_nodes_takes_few_instructions(started: list[Started], tmp_path: Path, capability: int) -> None:
    """For two edges and 64 features, which a warp reads at a time: those of the loop."""
    triton = importlib.import_module("triton")
    tool = next(Path(triton.__file__).parent.rglob("nvdisasm"), None)
    if tool is None:
        pytest.skip("this Triton brings no disassembler")
    gpu.nodes(*operands(GRID, 8, 40, 64, torch.float32, symmetric=True).of("nodes"))
    (call,) = started
    file = tmp_path / "nodes.cubin"
    file.write_bytes(assembly(*call, capability, "cubin"))
    text = subprocess.run([tool, "-c", file], capture_output=True, text=True, check=True).stdout
    number, labels, loops = 0, dict[str, int](), list[int]()
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L[\w.]*):", line):
            labels[label[1]] = number
        elif re.search(r"/\*[0-9a-f]{4,}\*/\s+\S", line):
            number += 1
            if (jump := re.search(r"BRA\S*.*`\((\.L[\w.]*)\)", line)) and jump[1] in labels:
                loops.append(number - labels[jump[1]])
    assert 50 < max(loops) <= 125


@pytest.mark.parametrize("architecture", LANES)
@pytest.mark.parametrize("kind", ["float32", "float64", "16 bits"])
def test_kernels_compile_for_amd_and_keep_all_in_registers(
    started: list[Started], architecture: str, kind: str
) -> None:
    """Nothing is spilled, no kernel needs memory of its own, and none adds by atomics."""
    dtype = torch.float64 if kind == "float64" else torch.float32
    kinds = (torch.bfloat16, torch.float16) if kind == "16 bits" else (None, None)
    with gpu.storage(*kinds):
        gpu.gradients(*operands(GRID, 8, 40, 64, dtype, symmetric=True), (True,) * 5)
    for kernel, given, tile in started[1:]:
        code = assembly(kernel, given, tile, architecture, "amdgcn")
        name = kernel.fn.__name__
        numbers = {key: int(value) for key, value in re.findall(r"\.(\w+):\s+(\d+)", code)}
        assert numbers["vgpr_spill_count"] == numbers["sgpr_spill_count"] == 0, name
        assert numbers["private_segment_fixed_size"] == 0, name
        assert numbers["vgpr_count"] <= (192 if kind == "float64" else 112), name  # several wavefronts side by side
        assert "atomic" not in code, name
        if kind == "float32" and name != "knots_kernel":  # 64 threads have two adjacent features each
            assert re.search(r"(global|buffer)_load_(dwordx[24]|b128)", code), name


def test_an_odd_number_of_pairs_compiles_nothing_anew(started: list[Started]) -> None:
    """Where rows of an array begin does not matter to what is read one by one."""
    gpu.gradients(*operands(GRID, 8, 40, 64, torch.float32, symmetric=True), (True,) * 5)
    for kernel, given, _ in started:
        for one, value in zip(kernel.params, given, strict=False):
            per_edge = isinstance(value, torch.Tensor) and value.dim() == 1
            assert not per_edge or one.do_not_specialize_on_alignment, (kernel.fn.__name__, one.name)
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.int64, (kernel.fn.__name__, one.name)
