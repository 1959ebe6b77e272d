"""Eight numbers at a time: a Numba type for the vector registers of a processor.

Kernels of this package describe eight atoms of one species at once, and an :class:`Eight` holds one number of each. The
arithmetic then reads like that of one atom. An ``Eight`` lives inside compiled code only; :func:`load` and
:func:`store` move it from and to float64 arrays whose last axis has length 8.

PERF: Numba keeps loops over 8 or 24 numbers scalar, because LLVM can't rule out that two arrays overlap, and an atom
has too few neighbours of one species for longer ones. With this type, an MD step of lips83 takes a third of the time.
LLVM splits the registers on processors that have smaller ones.
"""

import math
import operator

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

from qiskit_qff.array_types import FloatArray

LANES = 8
"""Numbers in a register, and atoms in a block."""

_REGISTER = ir.VectorType(ir.DoubleType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(64), LANES)
_FLAGS = ("contract", "nsz")  # a product and a sum may become one instruction; NaN and infinity keep their meaning


class Eight(types.Type):
    """The type of eight float64 numbers."""

    def can_convert_from(self, typingctx: object, other: types.Type) -> Conversion | None:
        """A plain number becomes eight times itself."""
        del typingctx
        return Conversion.safe if isinstance(other, types.Float | types.Integer) else None


eight = Eight("eight")


@register_model(Eight)
class _EightModel(models.PrimitiveModel):
    """How LLVM sees it."""

    def __init__(self, manager: object, kind: types.Type) -> None:
        super().__init__(manager, kind, _REGISTER)


@lower_cast(types.Float, Eight)
@lower_cast(types.Integer, Eight)
def _repeat(context, builder, source, target, value):
    """Eight times one number."""
    del target
    number = context.cast(builder, value, source, types.float64)
    single = builder.insert_element(ir.Constant(_REGISTER, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(single, ir.Constant(_REGISTER, ir.Undefined), zeros)


def _declare(symbol: object, instruction: str) -> None:
    """Let an operator work on eights, and on an eight and a number."""

    @infer_global(symbol)
    class _Operator(AbstractTemplate):
        def generic(self, args, kws):
            del kws
            if any(a is eight for a in args) and all(eight.can_convert_from(None, a) or a is eight for a in args):
                return numba.core.typing.signature(eight, *[eight] * len(args))
            return None

    @lower_builtin(symbol, *[Eight] * (1 if instruction == "fneg" else 2))
    def _lower(context, builder, signature, args):
        del context, signature
        return getattr(builder, instruction)(*args, flags=_FLAGS)


for _symbols, _instruction in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
    ((operator.truediv, operator.itruediv), "fdiv"),
    ((operator.neg,), "fneg"),
):
    for _symbol in _symbols:
        _declare(_symbol, _instruction)


@intrinsic
def repeated(typingctx, number):
    """Eight times one number."""
    del typingctx

    def lower(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], eight)

    return eight(number), lower


def _address(context, builder, kind, array, place):
    """Where the eight numbers of a place are."""
    data = context.make_array(kind)(context, builder, array).data
    offset = builder.mul(place, ir.Constant(place.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), _REGISTER.as_pointer())


@intrinsic
def load(typingctx, array, place):
    """The eight numbers of a place, counted in eights from the beginning of an array of any shape (..., 8)."""
    del typingctx

    def lower(context, builder, signature, args):
        return builder.load(_address(context, builder, signature.args[0], *args), align=LANES)

    return eight(array, types.intp), lower


@intrinsic
def store(typingctx, array, place, value):
    """Write eight numbers to a place."""
    del typingctx, value

    def lower(context, builder, signature, args):
        builder.store(args[2], _address(context, builder, signature.args[0], *args[:2]), align=LANES)
        return context.get_dummy_value()

    return types.none(array, types.intp, eight), lower


def _function(name: str):
    """Code of one of LLVM's functions of eight numbers."""

    def lower(context, builder, signature, args):
        del context, signature
        kind = ir.FunctionType(_REGISTER, [_REGISTER] * len(args))
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v8f64"), args)

    return lower


@intrinsic
def root(typingctx, value):
    """Square root."""
    del typingctx, value
    return eight(eight), _function("sqrt")


@intrinsic
def logarithm(typingctx, value):
    """Natural logarithm."""
    del typingctx, value
    return eight(eight), _function("log")


def _choose(order: str):
    """Code that keeps the number that stands in this order to the other."""

    def lower(context, builder, signature, args):
        del context, signature
        return builder.select(builder.fcmp_ordered(order, *args), *args)

    return lower


@intrinsic
def larger(typingctx, one, other):
    """The larger of two numbers; the second where one is NaN."""
    del typingctx, one, other
    return eight(eight, eight), _choose(">")


@intrinsic
def smaller(typingctx, one, other):
    """The smaller of two numbers; the second where one is NaN."""
    del typingctx, one, other
    return eight(eight, eight), _choose("<")


@intrinsic
def largest(typingctx, value):
    """The largest of eight numbers, as a plain one."""
    del typingctx, value

    def lower(context, builder, signature, args):
        del context, signature
        kind = ir.FunctionType(ir.DoubleType(), [_REGISTER])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fmax.v8f64"), args)

    return types.float64(eight), lower


@intrinsic
def _two_to(typingctx, shifted):
    """2^k of numbers k + 1.5 · 2^52, which hold k in their lowest bits."""
    del typingctx, shifted

    def lower(context, builder, signature, args):
        del context, signature
        bits = builder.add(builder.bitcast(args[0], _INTEGERS), ir.Constant(_INTEGERS, [1023] * LANES))
        return builder.bitcast(builder.shl(bits, ir.Constant(_INTEGERS, [52] * LANES)), _REGISTER)

    return eight(eight), lower


_PER_LN2 = 1.0 / math.log(2.0)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # their sum is ln 2 to 100 bits
_ROUNDER = 1.5 * 2.0**52  # added to a number it leaves the nearest integer in the lowest bits
_LEAST = -700.0  # below it the exponential is 1e-304, and no power of two is


@numba.njit(cache=True)
def exponential(x: Eight) -> Eight:
    r"""Exponential of eight numbers below 700, exact to a unit in the last place; those below -700 count as -700.

    :math:`e^x = 2^k e^u` with :math:`k = \mathrm{round}(x / \ln 2)` and the Taylor polynomial of degree 13.
    """
    value = larger(x, repeated(_LEAST))
    shifted = value * _PER_LN2 + _ROUNDER
    k = shifted - _ROUNDER
    u = (value - k * _LN2_HIGH) - k * _LN2_LOW
    p = repeated(1.0 / 6227020800.0)
    p = p * u + 1.0 / 479001600.0
    p = p * u + 1.0 / 39916800.0
    p = p * u + 1.0 / 3628800.0
    p = p * u + 1.0 / 362880.0
    p = p * u + 1.0 / 40320.0
    p = p * u + 1.0 / 5040.0
    p = p * u + 1.0 / 720.0
    p = p * u + 1.0 / 120.0
    p = p * u + 1.0 / 24.0
    p = p * u + 1.0 / 6.0
    p = p * u + 0.5
    p = p * u + 1.0
    return (p * u + 1.0) * _two_to(shifted)


@numba.njit(cache=True)
def total(array: FloatArray, place: int) -> float:
    """Sum of the eight numbers of a place."""
    flat = array.reshape(-1)
    found = 0.0
    for k in range(LANES * place, LANES * (place + 1)):
        found += flat[k]
    return found


@numba.njit(cache=True)
def multiply(matrix: FloatArray, vector: FloatArray, product: FloatArray) -> None:
    """Product of a matrix of plain numbers, shape ``(m, n)``, and eight vectors, shape ``(n, 8)``.

    PERF: four rows at a time, because a sum waits for each addition to end.
    """
    n_rows, n = matrix.shape
    for row in range(0, n_rows - 3, 4):
        a, b, c, d = repeated(0.0), repeated(0.0), repeated(0.0), repeated(0.0)
        for k in range(n):
            value = load(vector, k)
            a += value * matrix[row, k]
            b += value * matrix[row + 1, k]
            c += value * matrix[row + 2, k]
            d += value * matrix[row + 3, k]
        store(product, row, a)
        store(product, row + 1, b)
        store(product, row + 2, c)
        store(product, row + 3, d)
    for row in range(n_rows - n_rows % 4, n_rows):
        a = repeated(0.0)
        for k in range(n):
            a += load(vector, k) * matrix[row, k]
        store(product, row, a)
