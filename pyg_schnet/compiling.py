"""Optional packages that may be missing or broken, and loops that Numba compiles (extra ``fast``).

A package or kept machine code that cannot be used never fails a calculation: it is done without, or compiled anew.
"""

import functools
import hashlib
import importlib
import importlib.util
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyg_schnet.compat_numba import compile_quickly, keep_machine_code_safely, quick_compilers

#: They release the interpreter lock, and division by zero is no error.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
#: Saves the time to compile what only Python would need.
NOT_FROM_PYTHON: dict[str, Any] = {"no_cpython_wrapper": True}
#: Liberties of the arithmetic: a product and a sum may be rounded once; sums over features may change their order, too.
CONTRACT, REORDER = {"contract", "nsz"}, {"contract", "nsz", "reassoc"}
_ROOT = Path(__file__).parent
_IMPORT = re.compile(r"^from (pyg_schnet[\w.]*) import", re.MULTILINE)


@functools.cache
def trouble_with(package: str) -> str | None:
    """Why an optional package cannot be used; one that is installed but broken is warned of once.

    Args:
        package: Name of the package or of a module in it.

    Returns:
        ``None`` if it can be used, ``""`` if it is not installed, or the reason.

    Example:
        >>> trouble_with("torch"), trouble_with("no_such_package")
        (None, '')
    """
    try:
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            return ""
        module = importlib.import_module(package)
        if package == "numba" and module.config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT is set"
    except Exception as error:  # a broken package may fail in any way
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        warnings.warn(
            f"{package} is installed but cannot be used ({reason}); all is computed without it, which may be slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return reason
    return None


@functools.cache
def loops_of(module: str, package: str = "numba") -> Any:
    """A module of compiled loops.

    Args:
        module: Its name.
        package: The package that compiles them.

    Returns:
        The module, or ``None`` if the package cannot be used.
    """
    if trouble_with(package) is not None:
        return None
    try:
        return importlib.import_module(module)
    except Exception as error:  # the package lacks something, as other versions of it may
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        warnings.warn(
            f"{package} cannot be used ({reason}); all is computed without it, which may be slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def compiled(fastmath: Any = False, **options: Any) -> Callable[[Callable], Callable]:
    """Compile at the first call, and keep the machine code beside the file, or elsewhere, or not at all.

    Kept code counts as old when any file that it was made of has changed, see :func:`stamp_of`; Numba itself looks at
    one file only. Code that is damaged is compiled and written anew.

    Args:
        fastmath: Liberties of the arithmetic, see ``numba.njit``.
        **options: Further options of it.

    Returns:
        A decorator.

    Raises:
        ImportError: If Numba cannot be used.
    """
    njit, compilers = _njit(), quick_compilers()
    options |= {} if compilers is None else {"pipeline_class": compilers.loops}

    def decorate(function: Callable) -> Callable:
        try:
            loops: Callable = njit(cache=True, fastmath=fastmath, **OPTIONS, **options)(function)
        except Exception:  # no folder can be written to
            loops = njit(fastmath=fastmath, **OPTIONS, **options)(function)
            compile_quickly(loops)
            return loops
        compile_quickly(loops)
        keep_machine_code_safely(loops, stamp_of(Path(function.__code__.co_filename).parent))
        return loops

    return decorate


def part(fastmath: Any = False, **options: Any) -> Callable[[Callable], Callable]:
    """Compile what only other loops call.

    Args:
        fastmath: Liberties of the arithmetic, see ``numba.njit``.
        **options: Further options of it.

    Returns:
        A decorator.

    Raises:
        ImportError: If Numba cannot be used.
    """
    njit, compilers = _njit(), quick_compilers()
    quickly = {} if compilers is None else {"pipeline_class": compilers.parts}
    return njit(fastmath=fastmath, **OPTIONS, **NOT_FROM_PYTHON, **quickly, **options)


def inlined(fastmath: Any = CONTRACT) -> Callable[[Callable], Callable]:
    """Compile into each of the loops that call it.

    Args:
        fastmath: Liberties of the arithmetic, see ``numba.njit``.

    Returns:
        A decorator.

    Raises:
        ImportError: If Numba cannot be used.
    """
    return part(fastmath, forceinline=True)


@functools.cache
def stamp_of(folder: Path) -> str:
    """Checksum of all Python files in a folder, and of those of this package that they import, and these.

    Loops call loops of other files, and take constants from them, which become part of the machine code.

    Args:
        folder: The folder.

    Returns:
        The sha256 as a hexadecimal number.
    """
    waiting, contents = sorted(folder.glob("*.py")), dict[Path, bytes]()
    while waiting:
        file = waiting.pop()
        if file not in contents:
            contents[file] = file.read_bytes()
            modules = _IMPORT.findall(contents[file].decode())
            waiting += [found for module in modules for found in [_file_of(module)] if found is not None]
    return hashlib.sha256(b"".join(contents[file] for file in sorted(contents))).hexdigest()


def _file_of(module: str) -> Path | None:
    """The file of a module of this package; ``None`` for a folder."""
    file = _ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return file if file.is_file() else None


def _njit() -> Any:
    trouble = trouble_with("numba")
    if trouble is None:
        return importlib.import_module("numba").njit
    if trouble:
        raise ImportError(f"compiled loops need Numba, which is installed but cannot be used ({trouble})")
    raise ImportError('compiled loops need Numba; install it with pip install "pyg_schnet[fast]"')
