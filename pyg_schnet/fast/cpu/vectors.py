"""Sixteen numbers at a time in compiled loops (extra ``fast``).

Compilers take several numbers at once only from loops that they understand, and check before each of them whether its
arrays overlap, which for a hundred features takes as long as the sums. Here it is said instead: :func:`load` reads
sixteen neighbours from a flat array, ``+`` and ``*`` compute with them (a product and a sum may be rounded once),
:func:`store` writes them. A processor with shorter registers takes more instructions for the same numbers.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

#: Numbers at a time.
LANES = 16
#: What compilers may do to products and sums: round a product and its sum once, and add up in any order.
ROUND_ONCE, ANY_ORDER = ("contract", "nsz"), ("contract", "nsz", "reassoc")


class Lanes(types.Type):
    """The type of sixteen numbers of one kind."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(name=f"Lanes({kind})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(manager.lookup(lanes.kind).get_value_type(), LANES))


def pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """The address of sixteen numbers of an array."""
    first = builder.gep(context.make_array(kind)(context, builder, array).data, [index])
    return builder.bitcast(first, context.get_value_type(Lanes(kind.dtype)).as_pointer())


def _load(typing: Any, array: Any, index: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = pointer(context, builder, signature.args[0], *arguments)
        return builder.load(where, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, index), build


def _store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], where, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), build


def _splat(typing: Any, number: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, context.get_value_type(signature.return_type), arguments[0])

    return Lanes(number)(number), build


def spread(builder: Any, kind: Any, number: Any) -> Any:
    """One number in all lanes."""
    unknown, place = ir.Constant(kind, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(unknown, number, place(0))
    return builder.shuffle_vector(first, unknown, ir.Constant(ir.VectorType(place, LANES), [0] * LANES))


def _total(typing: Any, value: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        (lanes,) = arguments
        kind = lanes.type.element
        name = f"llvm.vector.reduce.fadd.v{LANES}f{value.kind.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, lanes.type]), name)
        return builder.call(function, [kind(0.0), lanes], fastmath=ANY_ORDER)

    return value.kind(value), build


#: ``load(array, index)``: the numbers from an index on; nobody checks whether there are so many.
load: Any = intrinsic(_load)
#: ``store(array, index, lanes)``: write them.
store: Any = intrinsic(_store)
#: ``splat(number)``: one number, sixteen times.
splat: Any = intrinsic(_splat)
#: ``total(lanes)``: their sum, in any order.
total: Any = intrinsic(_total)


def _define(operation: Any, instruction: str) -> None:
    """Let two lanes be added or multiplied."""

    @type_callable(operation)
    def typed(context: Any) -> Any:
        del context
        return lambda one, two: one if isinstance(one, Lanes) and one == two else None

    @lower_builtin(operation, Lanes, Lanes)
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return getattr(builder, instruction)(*arguments, flags=ROUND_ONCE)

    del typed, build


_define(operator.add, "fadd")
_define(operator.iadd, "fadd")
_define(operator.mul, "fmul")
