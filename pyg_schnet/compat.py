"""Private names of torch and Numba, and what stands in for each where a version has it no longer, or not yet.

What stands in is always right; at worst it is slower. All other files use public names only.
"""

import contextlib
import functools
import gc
import hashlib
import importlib
import os
import pickle
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


#: Bytes of a sha256.
_DIGEST = 32


def keep_machine_code_safely(loops: Any, stamp: str) -> None:
    """Have the machine code that Numba keeps checked, and a folder that is damaged, full or read-only forgiven.

    These are attributes that Numba does not promise. Without them, it does as it always does.

    Args:
        loops: What ``numba.njit(cache=True)`` returned.
        stamp: Checksum of all that the machine code is made of; kept code with another one is old.
    """
    cache: Any = getattr(loops, "_cache", None)
    kept: Any = getattr(cache, "_cache_file", None)
    if not all(hasattr(kept, name) for name in ("_source_stamp", "_dump", "_load_data", "_data_path")):
        return
    load, save, dump = cache.load_overload, cache.save_overload, kept._dump

    def read(name: str) -> Any:
        content = Path(kept._data_path(name)).read_bytes()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            raise ValueError("damaged")
        return pickle.loads(content[:-_DIGEST])

    def load_or_not(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # damaged files fail in any way
            with contextlib.suppress(Exception):
                kept.flush()  # an empty index, which the new code can be added to
            return None

    def save_or_not(*arguments: Any) -> None:
        with contextlib.suppress(Exception):  # a full disk, or a folder that can no longer be written to
            save(*arguments)

    kept._source_stamp, kept._load_data = stamp, read
    kept._dump = lambda content: (text := dump(content)) + hashlib.sha256(text).digest()  # pickle stops before it
    cache.load_overload, cache.save_overload = load_or_not, save_or_not


def compile_quickly(loops: Any) -> None:
    """Have Python's collector of garbage rest while Numba compiles, which makes objects by the million.

    Args:
        loops: What ``numba.njit`` returned.
    """
    compile_once: Any = getattr(loops, "compile", None)
    if not callable(compile_once):
        return

    def compile_at_rest(signature: Any) -> Any:
        collects = gc.isenabled()
        gc.disable()
        try:
            return compile_once(signature)
        finally:
            if collects:
                gc.enable()

    loops.compile = compile_at_rest


#: Options that functions of Numba take from the loops that call them.
_FOR_CALLED = {"nrt", "error_model", "boundscheck", "enable_ssa"}
#: Passes for closures, ``with``, ``literally``, expressions of whole arrays and reports, of which loops have none.
_UNUSED_PASSES = {"WithLift", "InlineClosureLikes", "MakeFunctionToJitFunction", "InlineInlinables", "InlineOverloads"}
_UNUSED_PASSES |= {"FindLiterallyCalls", "LiteralUnroll", "NopythonRewrites", "AnnotateTypes", "DumpParforDiagnostics"}


class Compilers(NamedTuple):
    """How Numba compiles, as ``numba.njit`` takes it for ``pipeline_class``.

    Attributes:
        loops: What Python calls.
        parts: What only other loops call: not to machine code, and optimized only as a part of these. Otherwise Numba
            optimizes each function once for itself and once more in every one that calls it, and these in those that
            call them, and makes machine code of all: twice the time of what is needed.
    """

    loops: Any
    parts: Any


@functools.cache
def quick_compilers() -> Compilers | None:
    """Compilers that leave out what loops do not need.

    Returns:
        Both; ``None`` where Numba has not what these need.
    """
    try:
        return _quick_compilers()
    except (ImportError, AttributeError, TypeError):
        return None


def _quick_compilers() -> Compilers:
    names = "codegen", "compiler", "typed_passes", "compiler_machinery"
    codegen, compiler, typed_passes, machinery = (importlib.import_module(f"numba.core.{name}") for name in names)
    make_function, usual = importlib.import_module("numba")._dynfunc.make_function, codegen.JITCodeLibrary
    if not all(hasattr(usual, name) for name in ("_raise_if_finalized", "_get_module_for_linking")):
        raise AttributeError("the code of this Numba is kept in another way")

    class Part(usual):  # type: ignore[misc, valid-type]
        """The code of a part and of its parts, before all but the first simplifications."""

        def finalize(self) -> None:
            self._raise_if_finalized()
            for library in dict.fromkeys(self._linking_libraries):
                self._reload_init.update(library._reload_init)
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
            self._finalized = True

    @machinery.register_pass(mutates_CFG=True, analysis_only=False)
    class LowerPart(typed_passes.NativeLowering):  # type: ignore[name-defined]
        """From types to the code of a part, which has no address."""

        _name = "pyg_schnet_lower_part"

        def run_pass(self, state: Any) -> bool:
            context = state.targetctx
            state.library = Part(context.codegen(), state.func_id.func_qualname)
            state.flags.no_compile = True
            super().run_pass(state)
            state.library.finalize()
            made = state["cr"]
            description, library = made.fndesc, state.library
            name, module = description.qualname.split(".")[-1], description.lookup_module()
            entry = make_function(module, name, "a part of other loops", 0, made.env, (library,))
            context.insert_user_function(entry, description, [library])
            state["cr"] = made._replace(cfunc=entry)
            return True

    class Options(compiler.Flags):  # type: ignore[name-defined]
        """The same options, which are compared thousands of times."""

        __slots__ = ()
        _number = hash(compiler.Flags())

        def __hash__(self) -> int:
            return self._number

        def __eq__(self, other: object) -> bool:
            same = isinstance(other, Options) and self._values == other._values
            return same or bool(super().__eq__(other))

        def copy(self) -> Any:
            """Those that functions of Numba are compiled with: few, so that one serves for all loops."""
            copied = Options()
            copied._values |= {name: value for name, value in self._values.items() if name in _FOR_CALLED}
            return copied

    class Passes(machinery.PassManager):  # type: ignore[name-defined]
        """Passes whose results are not examined one by one."""

        _ENFORCING = False

    class Compiler(compiler.CompilerBase):  # type: ignore[name-defined]
        """Passes without those for what loops do not have."""

        lowering = typed_passes.NativeLowering

        def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, names: Any):
            super().__init__(typing, target, library, args, result, Options(flags), names)

        def define_pipelines(self) -> list[Any]:
            usual = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
            passes = Passes("loops")
            for one, description in usual.passes:
                if one.__name__ not in _UNUSED_PASSES:
                    passes.add_pass(self.lowering if one is typed_passes.NativeLowering else one, description)
            passes.finalize()
            return [passes]

    class PartCompiler(Compiler):
        lowering = LowerPart

    return Compilers(Compiler, PartCompiler)


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
