"""Private names of torch, and what stands in for each where a version has it no longer, or not yet.

What stands in is always right; at worst it is slower. All other files use public names only; those of Numba are in
:mod:`pyg_schnet.compat_numba`.
"""

import contextlib
import functools
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.modules import module as _modules


def private(place: Any, path: str, fallback: Callable[..., Any]) -> Callable[..., Any]:
    """A private function, or what stands in for it.

    Args:
        place: A module.
        path: Where the function is in it, names joined by dots.
        fallback: Takes the same arguments.

    Returns:
        The function itself: a call costs no more than without this.

    Example:
        >>> import math
        >>> private(math, "no.such", abs)(-1.0)
        1.0
    """
    for name in path.split("."):
        place = getattr(place, name, None)
    return place if callable(place) else fallback


def _without_memory(tensor: Tensor) -> bool:
    """Wrapped tensors have no memory of their own, which is public."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return True
    return False


def _wraps() -> bool:
    """Transforms wrap what is made of plain tensors, too."""
    return _without_memory(torch.zeros(()).clone())


def _some_hook() -> bool:
    """Each kind of hook is a dictionary; where one has gone, there may be hooks that nobody sees."""
    names = "backward_pre_hooks", "backward_hooks", "forward_pre_hooks", "forward_hooks"
    return any(bool(getattr(_modules, f"_global_{name}", True)) for name in names)


def _tensor_in(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():  # that storages will have no kind some day
        warnings.simplefilter("ignore")
        memory = storage.untyped()
    return torch.empty(0, dtype=storage.dtype, device=memory.device).set_(memory, offset, size, stride)


def _checked_now(condition: Tensor, message: str) -> None:
    """On a GPU, this waits."""
    if not bool(condition):
        raise RuntimeError(message)


class _Blind:
    """What would see each operation, and sees none."""

    def __enter__(self) -> "_Blind":
        return self

    def __exit__(self, *exception: object) -> None:
        return None


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [torch.linalg.vector_norm(tensor) for tensor in tensors]


def _copy_each(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


def _add_each(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.add_(value)


def _always() -> bool:
    return True


class _NoGuards:
    """Guards of the layout of tensors that never know."""

    def __init__(self, *tensors: Tensor, **dynamic: object) -> None:
        pass

    def check(self, *tensors: Tensor) -> bool:
        return False


class Private(NamedTuple):
    """A private name of torch.

    Attributes:
        place: Module of torch.
        path: Where the name is in it, names joined by dots.
        stand_in: What is used where it is not there.
    """

    place: Any
    path: str
    stand_in: Callable[..., Any]


#: All private names that others import from here.
NAMES = {
    "DispatchMode": Private(torch.utils, "_python_dispatch.TorchDispatchMode", _Blind),
    "is_transformed": Private(torch._C, "_functorch.is_functorch_wrapped_tensor", _without_memory),
    "is_batched": Private(torch._C, "_functorch.is_legacy_batchedtensor", _without_memory),
    "in_transform": Private(torch._C, "_are_functorch_transforms_active", _wraps),
    "is_mapped": Private(torch._C, "_functorch.is_batchedtensor", _without_memory),
    "unwrapped": Private(torch._C, "_functorch.get_unwrapped", _itself),
    "outside_transforms": Private(torch._C, "_DisableFuncTorch", contextlib.nullcontext),
    "has_global_hooks": Private(_modules, "_has_any_global_hook", _some_hook),
    "assert_later": Private(torch, "_assert_async", _checked_now),
    "norms": Private(torch, "_foreach_norm", _norms),
    "copy_each": Private(torch, "_foreach_copy_", _copy_each),
    "add_each": Private(torch, "_foreach_add_", _add_each),
    "LayoutGuards": Private(torch._C, "_dynamo.guards.TensorGuards", _NoGuards),
    "tensor_in": Private(torch, "_utils._rebuild_tensor", _tensor_in),
}
#: Base of what sees each operation; without it, what only watches is done without.
DispatchMode: Any = private(*NAMES["DispatchMode"])
#: True if a tensor is one of those inside of a transform of ``torch.func``: its values cannot be looked at.
is_transformed: Callable[[Tensor], bool] = private(*NAMES["is_transformed"])
#: True if a tensor stands for many at once: gradients with ``is_grads_batched``.
is_batched: Callable[[Tensor], bool] = private(*NAMES["is_batched"])
#: True if a transform of ``torch.func`` is at work.
in_transform: Callable[[], bool] = private(*NAMES["in_transform"])
#: True if a tensor stands for many at once: inside of ``torch.vmap``.
is_mapped: Callable[[Tensor], bool] = private(*NAMES["is_mapped"])
#: What a tensor inside of a transform of ``torch.func`` wraps; itself where nobody knows, which then is refused.
unwrapped: Callable[[Tensor], Tensor] = private(*NAMES["unwrapped"])
#: Inside of this, operations are those of plain tensors, whatever transforms are at work.
outside_transforms: Callable[[], Any] = private(*NAMES["outside_transforms"])
#: True if calls of any module do something else besides.
has_global_hooks: Callable[[], bool] = private(*NAMES["has_global_hooks"])
#: Raise for a tensor with one element that is false; on a GPU without waiting for it.
assert_later: Callable[[Tensor, str], None] = private(*NAMES["assert_later"])
#: The norm of each of many tensors, in one launch.
norms: Callable[[Sequence[Tensor]], list[Tensor]] = private(*NAMES["norms"])
#: Copy many tensors into others, or add them to these, in one launch.
copy_each: Callable[[Sequence[Tensor], Sequence[Tensor]], None] = private(*NAMES["copy_each"])
add_each: Callable[[Sequence[Tensor], Sequence[Tensor]], None] = private(*NAMES["add_each"])
#: A tensor that looks into a storage.
tensor_in: Callable[..., Tensor] = private(*NAMES["tensor_in"])
#: What remembers how tensors are laid out, and compares in a tenth of a microsecond each.
LayoutGuards: Callable[..., Any] = private(*NAMES["LayoutGuards"])
_is_profiling: Callable[[], bool] = private(torch._C, "_autograd._profiler_enabled", fallback=_always)
_NOTHING = contextlib.nullcontext()


def phase(name: str) -> contextlib.AbstractContextManager[Any]:
    """What is done inside is a row of its own in a profile of :mod:`torch.profiler`; without one, this costs nothing.

    Args:
        name: What is done, to be shown as ``pyg_schnet::<name>``.

    Returns:
        A context.

    Example:
        >>> with phase("tables"):
        ...     pass
    """
    if torch.compiler.is_compiling() or not _is_profiling():
        return _NOTHING
    return torch.profiler.record_function(f"pyg_schnet::{name}")


def layout_check(tensors: Sequence[Tensor]) -> Callable[[], bool]:
    """A quick check of the layout of tensors, which may say no without a reason.

    Args:
        tensors: The tensors.

    Returns:
        A function that returns True only if each has the size, strides and dtype that it has now.

    Example:
        >>> weight = torch.zeros(2, 3)
        >>> same = layout_check([weight])
        >>> weight.data = weight.data.T
        >>> same()
        False
    """
    try:
        check = LayoutGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
        return functools.partial(check, *tensors) if isinstance(check(*tensors), bool) else lambda: False
    except (TypeError, RuntimeError, SystemError, AttributeError):  # the arguments of another version
        return lambda: False


def find_cpp_compiler() -> str | None:
    """The C++ compiler by which torch compiles for CPUs.

    Returns:
        Its name or path; ``None`` if there is none.

    Example:
        >>> find_cpp_compiler() is None or isinstance(find_cpp_compiler(), str)
        True
    """
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX", "").strip() else ["g++", "clang++", "cl"]
    return next((found for found in map(shutil.which, names) if found), None)


def compile_package(program: "torch.export.ExportedProgram", path: Path, metadata: Mapping[str, str]) -> None:
    """Compile a program for CPUs into a package of AOTInductor.

    Args:
        program: The program.
        path: File to write, ``*.pt2``.
        metadata: What is to stand in the package.

    Raises:
        ImportError: If this torch has no AOTInductor.
        OSError: If the compiler fails.
    """
    try:
        from torch._inductor import aoti_compile_and_package  # noqa: PLC0415, takes seconds
    except ImportError as error:
        raise ImportError(
            f"packages need the AOTInductor of torch, which {torch.__version__} has not; update torch"
        ) from error
    # as many threads as the host has, not as this process
    options: dict[str, Any] = {"aot_inductor.metadata": dict(metadata), "cpp.dynamic_threads": True}
    if hasattr(torch._inductor.config.aot_inductor, "check_lowerbound"):  # hosts that check inputs may have one atom
        options["aot_inductor.check_lowerbound"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
        except Exception as error:  # of many kinds
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            said = next((line for line in lines if "error" in line.lower()), lines[0])
            raise OSError(
                f"the package could not be compiled ({said[:300]}); is {find_cpp_compiler()} in order?"
            ) from error


def load_package(path: Path) -> Callable[..., Sequence[Tensor]]:
    """A package of AOTInductor, to be called.

    Args:
        path: What :func:`compile_package` wrote.

    Returns:
        A function of the tensors that the program takes.
    """
    from torch._inductor import aoti_load_package  # noqa: PLC0415, takes seconds

    package: Callable[..., Sequence[Tensor]] = aoti_load_package(str(path))
    return package
