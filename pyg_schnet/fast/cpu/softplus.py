"""The shifted softplus and its derivative, sixteen numbers at a time, in compiled loops (extra ``fast``)."""

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import float32, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import ndarray
from numpy.polynomial import Polynomial, chebyshev

from pyg_schnet.compiling import CONTRACT, part
from pyg_schnet.fast.cpu.memory import zeros
from pyg_schnet.fast.cpu.vectors import LANES, ROUND_ONCE, load, splat, spread, store


class _Kind(NamedTuple):
    """What is different for numbers of one kind.

    Attributes:
        bits: Of the fraction of a number, and what stands for the exponent zero.
        ln_2: The logarithm of two in two parts; products of the first with small integers are exact.
        largest: From here on exp(-u) counts as this number's.
        exp: The exponential function of u ln(2) / 2, u between -1 and 1, by powers of u.
        log: artanh(s) / s for s^2 = (1 + u) / 18, by powers of u.
    """

    bits: tuple[int, int]
    ln_2: tuple[float, float]
    largest: float
    exp: list[float]
    log: list[float]


def _shorter(series: ndarray, degree: int) -> list[float]:
    """The best polynomial of lower degree, nearly, between -1 and 1."""
    return [float(c) for c in chebyshev.cheb2poly(chebyshev.poly2cheb(series)[: degree + 1])]


_EXP = np.array([(0.5 * math.log(2.0)) ** k / math.factorial(k) for k in range(19)])
_LOG = Polynomial([1.0 / (2 * k + 1) for k in range(30)])(Polynomial([1.0 / 18.0, 1.0 / 18.0])).coef
_DOUBLE = _Kind((52, 1023), (0.6931471803691238, 1.9082149292705877e-10), 708.0, _shorter(_EXP, 11), _shorter(_LOG, 10))
_SINGLE = _Kind((23, 127), (0.693359375, math.log(2.0) - 0.693359375), 87.0, _shorter(_EXP, 6), _shorter(_LOG, 5))


def _softplus(typing: Any, u: Any, linear_from: Any) -> Any:
    """Build the softplus and its derivative.

    With e = exp(-|u|), the softplus is max(u, 0) + ln(1 + e), and ln(1 + e) = 2 artanh(e / (2 + e)). One division does
    for that and for the derivative, 1 / (1 + e) or e / (1 + e).
    """
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = signature.args[0].kind
        (fraction, zeroth), (ln_2, rest_of_ln_2), largest, exp, log = _SINGLE if number == float32 else _DOUBLE
        kind, whole_numbers = (
            context.get_value_type(signature.args[0]),
            ir.VectorType(ir.IntType(number.bitwidth), LANES),
        )
        rounder = 1.5 * 2.0**fraction  # added to a smaller number, it leaves the nearest integer in the last bits

        def constant(value: float) -> Any:
            return ir.Constant(kind, [float(value)] * LANES)

        def integer(value: int) -> Any:
            return ir.Constant(whole_numbers, [value] * LANES)

        def plus(one: Any, two: Any) -> Any:
            return builder.fadd(one, two, flags=ROUND_ONCE)

        def times(one: Any, two: Any) -> Any:
            return builder.fmul(one, two, flags=ROUND_ONCE)

        def polynomial(x: Any, coefficients: list[float]) -> Any:
            value = constant(coefficients[-1])
            for c in coefficients[-2::-1]:
                value = plus(times(value, x), constant(c))
            return value

        def where(above: Any, limit: Any, one: Any, two: Any) -> Any:  # the second for NaN
            return builder.select(builder.fcmp_ordered(">", above, limit), one, two)

        u, bend = arguments[0], spread(builder, kind, context.cast(builder, arguments[1], signature.args[1], number))
        name = f"llvm.fabs.v{LANES}f{number.bitwidth}"
        size = builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), [u])
        down = builder.fneg(where(size, constant(largest), constant(largest), size))
        power = builder.fadd(builder.fmul(down, constant(1.0 / math.log(2.0))), constant(rounder))
        whole = builder.fsub(power, constant(rounder))
        rest = plus(plus(down, times(whole, constant(-ln_2))), times(whole, constant(-rest_of_ln_2)))
        bits = builder.shl(builder.bitcast(power, whole_numbers), integer(fraction))
        power = builder.bitcast(builder.add(bits, integer(zeroth << fraction)), kind)  # two to that integer
        e = times(polynomial(times(rest, constant(2.0 / math.log(2.0))), exp), power)
        one, two, zero = plus(e, constant(1.0)), plus(e, constant(2.0)), constant(0.0)
        share = builder.fdiv(constant(1.0), times(one, two))
        s, slope = times(times(e, one), share), times(two, share)
        series = polynomial(plus(times(times(s, s), constant(18.0)), constant(-1.0)), log)
        value = where(u, bend, u, plus(where(u, zero, u, zero), times(plus(s, s), series)))
        slope = where(u, bend, constant(1.0), times(where(u, zero, constant(1.0), e), slope))
        return context.make_tuple(builder, signature.return_type, (value, slope))

    return types.UniTuple(u, 2)(u, linear_from), build


#: ``softplus(lanes, linear_from)``: the function and its derivative.
softplus: Any = intrinsic(_softplus)


@part(CONTRACT)
def shifted_softplus(
    y: ndarray, slope: ndarray, u: ndarray, shift: float, linear_from: float, limits: tuple[int, int]
) -> None:
    """Some numbers of :func:`pyg_schnet.ops.shifted_softplus` and of its derivative; y may be u."""
    down, end = splat(u.dtype.type(-shift)), np.uintp(limits[0] + (limits[1] - limits[0]) // LANES * LANES)
    for n in range(np.uintp(limits[0]), end, np.uintp(LANES)):
        value = softplus(load(u, n), linear_from)
        store(y, n, value[0] + down)
        store(slope, n, value[1])
    rest = limits[1] - end
    if rest > 0:
        some, first = zeros(np.int64(LANES), u), np.uintp(0)
        for n in range(rest):
            some[n] = u[end + n]
        value = softplus(load(some, first), linear_from)
        store(some, first, value[0] + down)
        for n in range(rest):
            y[end + n] = some[n]
        store(some, first, value[1])
        for n in range(rest):
            slope[end + n] = some[n]
