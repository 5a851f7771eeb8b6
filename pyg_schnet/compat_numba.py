"""Private names of Numba: machine code that is kept safely, and compilers that leave out what loops do not need.

Where a version of Numba has them no longer, it does as it always does.
"""

import contextlib
import functools
import gc
import hashlib
import importlib
import pickle
from pathlib import Path
from typing import Any, NamedTuple

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
