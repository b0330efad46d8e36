"""Vectors of eight 64-bit words as values of numba, and their carry-less products.

A vector lives in local variables of compiled functions only. The type is the same on every path: LLVM splits it where
registers are narrower. Only the product has variants, of 512, 256 and 128 bits; what the CPU lacks is never compiled.
Word 0 is the lowest; bit 0 of a word is the coefficient of x^0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from qedge.qkd.simd.cpu import selection

_I8: Final = ir.IntType(8)
_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_I64, 8)
_ALIGN: Final = 8
"""Bytes: vectors are loaded from any word."""


class Words8(types.Type):
    """Eight 64-bit words."""

    def __init__(self) -> None:
        super().__init__(name="Words8")


words8: Final = Words8()


@register_model(Words8)
class Words8Model(models.PrimitiveModel):
    """Held as one vector of LLVM."""

    def __init__(self, manager: Any, kind: Any) -> None:  # objects of numba
        super().__init__(manager, kind, _VECTOR)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load(_typing: Any, array: Any, _index: Any) -> Any:
    """`load(array: u64[:], index) -> words8`: the eight words from `index` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]), align=_ALIGN)

    return words8(array, types.intp), code


@intrinsic
def store(_typing: Any, array: Any, _index: Any, _value: Any) -> Any:
    """`store(array: u64[:], index, value: words8)`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), align=_ALIGN)
        return context.get_dummy_value()

    return types.void(array, types.intp, words8), code


@intrinsic
def zero(_typing: Any) -> Any:
    """`zero() -> words8`."""
    return words8(), lambda _context, _builder, _signature, _args: ir.Constant(_VECTOR, None)


@intrinsic
def xor(_typing: Any, _one: Any, _other: Any) -> Any:
    """`xor(one: words8, other: words8) -> words8`."""
    return words8(words8, words8), lambda _context, builder, _signature, args: builder.xor(args[0], args[1])


@intrinsic
def broadcast(_typing: Any, _word: Any) -> Any:
    """`broadcast(word: u64) -> words8`: the word eight times."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, 8), None))

    return words8(types.uint64), code


def _lanes(builder: Any, one: Any, other: Any, lanes: range) -> Any:
    mask = ir.Constant(ir.VectorType(_I32, len(lanes)), [ir.Constant(_I32, lane) for lane in lanes])
    return builder.shuffle_vector(one, other, mask)


def _product(selector: int, bits: int) -> Callable[..., Any]:
    """Make the product of every second word of one vector with the even words of another, `bits` at a time."""
    words = bits // 64
    part = ir.VectorType(_I64, words)
    name = "llvm.x86.pclmulqdq" + ("" if bits == 128 else f".{bits}")

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(part, [part, part, _I8])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        parts = []
        for first in range(0, 8, words):
            pair = [_lanes(builder, arg, arg, range(first, first + words)) for arg in args]
            parts.append(builder.call(function, [*pair, ir.Constant(_I8, selector)]))
        while len(parts) > 1:
            width = 2 * parts[0].type.count
            parts = [_lanes(builder, parts[at], parts[at + 1], range(width)) for at in range(0, len(parts), 2)]
        return parts[0]

    @intrinsic
    def product(_typing: Any, _one: Any, _other: Any) -> Any:
        return words8(words8, words8), code

    return product


def products(bits: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `even(a, b)` and `odd(a, b)`: a[2i]·b[2i] and a[2i+1]·b[2i] as 128-bit words i = 0 … 3, low half first."""
    return _product(0x00, bits), _product(0x01, bits)


PRODUCT_BITS: Final = selection().product_bits
if PRODUCT_BITS == 0:
    raise ImportError("this CPU has no carry-less product")
multiply_even, multiply_odd = products(PRODUCT_BITS)
