"""Options and transforms that differ never share a file; those that are the same do, in every process."""

import functools
import math
import operator
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T

from pyg_schnet.datasets.fingerprint import checksum, fingerprint
from pyg_schnet.transforms import RadiusGraph, RandomRotate

LIMIT = 1


def _helper(x):
    return x + LIMIT


class Slots:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


class Hidden:
    """Its text says nothing."""

    def __init__(self, by):
        self.by = by

    def __repr__(self):
        return "Hidden()"


def _closure(by):
    return lambda data: data + by


def _default(by):
    return lambda data, by=by: data + by


def _made(source):
    """A function or class as a user's own module would have it."""
    module = types.ModuleType("own")
    exec(source, vars(module))
    return module.f


def _linear(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2)


DIFFERENT = {
    "types": [1, "1", 1.0, True, None, "None", b"1", np.float32(1)],
    "containers": [[1, 2], (1, 2), {1: 2}, {1, 2}, [[1], 2], [1, [2]], "[1, 2]"],
    "separators": [{"a": "b=1"}, {"a=b": "1"}, {"a": "b", "1": ""}, {"a, b": 1}],
    "letters": ["A", "a", "a ", "a/b", "a_b"],
    "arrays": [torch.zeros(2), torch.zeros(2, 1), torch.zeros(2).double(), np.zeros(2), torch.ones(2)],
    "long arrays": [torch.arange(10**5), torch.arange(10**5).roll(1)],
    "builtins": [
        math.sqrt,
        math.floor,
        np.sqrt,
        torch.sqrt,
        operator.itemgetter("a"),
        operator.itemgetter("b"),
        str.upper,
    ],
    "bound builtins": ["a".upper, "b".upper],
    "partial": [functools.partial(_helper, 1), functools.partial(_helper, 2), functools.partial(math.pow, 1)],
    "closures": [_closure(1), _closure(2), _closure("1")],
    "defaults": [_default(1), _default(2)],
    "constants": [_made(f"def f(x): return x > {n}") for n in (1, 2)],
    "globals": [_made(f"LIMIT = {n}\ndef f(x): return x > LIMIT") for n in (1, 2)],
    "globals inside": [_made(f"LIMIT = {n}\ndef f(x): return [y for y in x if y > LIMIT]") for n in (1, 2)],
    "helpers": [_made(f"def g(x): return x > {n}\ndef f(x): return g(x)") for n in (1, 2)],
    "methods": [_made(f"class f:\n def __call__(self, x): return x + {n}")() for n in (1, 2)],
    "class attributes": [_made(f"class f:\n by = {n}\n def __call__(self, x): return x + self.by")() for n in (1, 2)],
    "bases": [_made(f"class g:\n def h(self): return {n}\nclass f(g): pass")() for n in (1, 2)],
    "bound methods": [Hidden(1).__repr__, Hidden(2).__repr__],
    "slots": [Slots(1), Slots(2)],
    "hidden attributes": [Hidden(1), Hidden(2), Hidden("1")],
    "modules": [_linear(0), _linear(1)],
    "PyG": [
        T.RandomScale((1, 2)),
        T.RandomScale((1, 3)),
        T.Compose([T.Center()]),
        T.Compose([T.Center()] * 2),
        T.Center(),
    ],
    "ours": [RadiusGraph(4.0), RadiusGraph(5.0), RandomRotate(), RandomRotate(5.0), RandomRotate(unchanged=["a"])],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_is_told_apart(kind):
    found = [fingerprint(one) for one in DIFFERENT[kind]]
    assert len(set(found)) == len(found)
    assert len({checksum(one) for one in DIFFERENT[kind]}) == len(found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _closure(1),
        lambda: Hidden([1, {"a": torch.ones(2)}]),
        lambda: RadiusGraph(5.0),
        lambda: T.Compose([T.Center(), RadiusGraph(5.0)]),
        lambda: {"b", "a", "c"},
        lambda: _linear(0),
        lambda: functools.partial(_helper, by=1),
        lambda: _made("def f(x):\n '''One text.'''\n return x"),
    ],
)
def test_what_is_the_same_has_the_same(make):
    assert fingerprint(make()) == fingerprint(make())


def test_a_text_about_a_function_does_not_count():
    one, other = (_made(f"def f(x):\n '''{text}'''\n return x + 5") for text in ("One.", "Two."))
    assert fingerprint(one) == fingerprint(other)


def test_things_that_refer_to_themselves():
    loop = [1]
    loop.append(loop)
    one = Hidden(1)
    one.by = {"me": one, "set": frozenset([1])}
    assert fingerprint(loop)
    assert fingerprint(one)


def test_other_processes_agree():
    """Neither addresses nor the order of sets in one process count."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from {__name__} import Hidden, _closure, _helper, checksum, functools, RadiusGraph
print(checksum([Hidden({{"b", "a", "c"}}), _closure(1), RadiusGraph(5.0), functools.partial(_helper, 1)]))
"""
    own = checksum([Hidden({"b", "a", "c"}), _closure(1), RadiusGraph(5.0), functools.partial(_helper, 1)])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == own, done.stderr
