"""What tells options, functions and transforms from others: so that two of them never share a stored file."""

import enum
import hashlib
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Packages whose functions and classes are known by name: what changes in them is none of the user's doing.
_FOREIGN = {*sys.stdlib_module_names, "torch", "torch_geometric", "numpy", "scipy", "ase", "pyg_schnet"} - {"__main__"}
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(...), PurePath, np.generic, torch.dtype, torch.device)


def fingerprint(of: Any) -> str:
    """What tells a value, a function or a transform from another one.

    Values count with their type, so that 1, ``"1"``, 1.0 and ``True`` differ; functions with code, defaults, what they
    close over and the globals they name; objects with their class, its methods if it is the user's, and attributes.
    Addresses in memory do not count: the same in another process has the same fingerprint.

    Args:
        of: Anything.

    Returns:
        A text; equal only if the two are the same as far as can be seen.

    Example:
        >>> fingerprint(1) == fingerprint("1"), fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
        (False, True)
    """
    return _of(of, {})


def checksum(of: Any) -> str:
    """A fingerprint in 16 hexadecimal digits.

    Args:
        of: Anything.

    Returns:
        The digits.

    Example:
        >>> len(checksum({"a": 1}))
        16
    """
    return hashlib.sha256(fingerprint(of).encode(errors="surrogatepass")).hexdigest()[:16]


def digest(*arrays: np.ndarray) -> bytes:
    """What arrays have in common with others of the same numbers, to the last digit.

    Args:
        *arrays: The arrays, for example elements, positions and lattice vectors of a structure.

    Returns:
        16 bytes.

    Example:
        >>> digest(np.ones(3)) == digest(np.ones(3)), digest(np.ones(3)) == digest(np.zeros(3))
        (True, False)
    """
    raw = b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)
    return hashlib.md5(raw, usedforsecurity=False).digest()


def _of(of: Any, seen: dict[int, Any]) -> str:
    """The text of something; ``seen`` holds what has one already, by address, so that the address stays taken."""
    if isinstance(of, _PLAIN) and not isinstance(of, enum.Enum):
        return f"{type(of).__name__}:{of!r}"
    if id(of) in seen:
        return f"#{list(seen).index(id(of))}"
    seen[id(of)] = of
    if isinstance(of, (set, frozenset)):  # have no order
        texts = sorted(_of(part, dict(seen)) for part in of)
    else:
        texts = [_of(part, seen) for part in _parts(of)]
    text = f"{type(of).__name__}({', '.join(texts)})"
    if isinstance(of, (list, tuple, Mapping, set, frozenset, CodeType, Tensor, np.ndarray)):
        del seen[id(of)]  # equal ones may be one object or two, which is for Python to decide
    return text


def _parts(of: Any) -> list[Any]:  # noqa: PLR0911  one for each kind
    """What something is made of."""
    if isinstance(of, partial):
        return [of.func, of.args, of.keywords]
    if isinstance(of, FunctionType):
        return _parts_of_function(of)
    if isinstance(of, MethodType):
        return [of.__func__, of.__self__]
    if isinstance(of, CodeType):
        return [of.co_code.hex(), of.co_names, of.co_varnames, of.co_freevars, of.co_consts]
    if isinstance(of, (Tensor, np.ndarray)):
        return _parts_of_array(of)
    if isinstance(of, Mapping):
        return [part for item in of.items() for part in item]
    if isinstance(of, (list, tuple)):
        return list(of)
    if isinstance(of, ModuleType):
        return [of.__name__]
    if isinstance(of, type):
        return [f"{of.__module__}.{of.__qualname__}", _methods(of)]
    if isinstance(of, BuiltinFunctionType):
        owner = of.__self__ if not isinstance(of.__self__, ModuleType) else None
        return [of.__module__, of.__qualname__, owner]
    return _parts_of_object(of)


def _parts_of_function(of: FunctionType) -> list[Any]:
    if _is_foreign(of.__module__):
        return [of.__module__, of.__qualname__]
    cells = []
    for cell in of.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append("empty")
    names = _global_names(of.__code__)
    used = {name: of.__globals__[name] for name in sorted(names) if name in of.__globals__}
    code = _parts(of.__code__)
    if of.__doc__ is not None and code[-1][:1] == (of.__doc__,):  # what is said about it
        code[-1] = code[-1][1:]
    return [code, of.__defaults__, of.__kwdefaults__, cells, used]


def _global_names(code: CodeType) -> set[str]:
    """Names that a function and those within it may look up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names


def _parts_of_array(of: Any) -> list[Any]:
    if isinstance(of, Tensor):
        content = of.detach().cpu()
        if content.layout != torch.strided:
            content = content.to_dense()
        raw = content.contiguous().flatten().view(torch.uint8).numpy().tobytes() if content.numel() else b""
        return [str(of.dtype), list(of.shape), hashlib.sha256(raw).hexdigest()]
    if of.dtype.hasobject:
        return [str(of.dtype), of.tolist()]
    return [str(of.dtype), list(of.shape), hashlib.sha256(np.ascontiguousarray(of).tobytes()).hexdigest()]


def _methods(of: type) -> dict[str, Any]:
    """Functions of a class and of those it is derived from, as far as they are the user's; by name else."""
    own: dict[str, Any] = {}
    for base in of.__mro__:
        if _is_foreign(base.__module__):
            continue
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            plain = isinstance(value, _PLAIN) and not name.startswith("__")
            if isinstance(function, FunctionType) or plain:
                own[f"{base.__qualname__}.{name}"] = function
    return own


def _parts_of_object(of: Any) -> list[Any]:
    attributes = dict(vars(of)) if hasattr(of, "__dict__") else {}
    for base in type(of).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(of, name):
                attributes[name] = getattr(of, name)
    # its text may leave attributes out, or be all there is of an object in C
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(of))
    return [type(of), text, attributes]


def _is_foreign(module: str | None) -> bool:
    return (module or "builtins").split(".")[0] in _FOREIGN
