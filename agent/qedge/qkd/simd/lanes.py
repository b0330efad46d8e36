"""Values of 64 lanes in compiled kernels: `<64 x i8>` and `<64 x i16>`, with the operations that decoders need.

The layout of data is the same on every path; LLVM splits a value into as many registers as the processor needs. Plain
instructions and the generic intrinsics of LLVM are legal everywhere; only `look_up` differs by path, since calling an
intrinsic that the target lacks ends the process. Values of lanes live in local variables of kernels: they cannot be
returned to Python nor kept in tuples.

Loads and stores take the index of an element and need no alignment. Arithmetic wraps unless its name says saturating.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from qedge.qkd.simd.cpu import selected_path

LANES: Final = 64
_BIT: Final = ir.IntType(1)
_BYTE: Final = ir.IntType(8)
_WORD: Final = ir.IntType(64)
_MASK: Final = ir.VectorType(_BIT, LANES)
_BYTES: Final = ir.VectorType(_BYTE, LANES)
_SHORTS: Final = ir.VectorType(ir.IntType(16), LANES)


class Bytes64(types.Type):
    """64 signed bytes."""

    def __init__(self) -> None:
        super().__init__(name="Bytes64")


class Shorts64(types.Type):
    """64 signed numbers of 16 bits."""

    def __init__(self) -> None:
        super().__init__(name="Shorts64")


@register_model(Bytes64)
class Bytes64Model(models.PrimitiveModel):
    """Held as one vector of LLVM."""

    def __init__(self, manager: Any, kind: Any) -> None:  # objects of numba
        super().__init__(manager, kind, _BYTES)


@register_model(Shorts64)
class Shorts64Model(models.PrimitiveModel):
    """Held as one vector of LLVM."""

    def __init__(self, manager: Any, kind: Any) -> None:  # objects of numba
        super().__init__(manager, kind, _SHORTS)


bytes64: Final = Bytes64()
shorts64: Final = Shorts64()
_SHAPES: Final[dict[Any, ir.VectorType]] = {types.int8: _BYTES, types.int16: _SHORTS}
_TYPES: Final[dict[Any, Any]] = {types.int8: bytes64, types.int16: shorts64}

Emit = Callable[..., Any]
"""Writes the instructions of an operation: builder and values in, value out."""


def _unary(emit: Emit, result: Any = None) -> Any:
    """Make an operation on one value; the result is of its type unless told."""

    @intrinsic
    def operation(_typing: Any, value: Any) -> Any:
        return (result or value)(value), lambda _context, builder, _signature, values: emit(builder, *values)

    return operation


def _binary(emit: Emit) -> Any:
    """Make an operation on two values; the result is of the type of the first."""

    @intrinsic
    def operation(_typing: Any, first: Any, second: Any) -> Any:
        return first(first, second), lambda _context, builder, _signature, values: emit(builder, *values)

    return operation


def _ternary(emit: Emit, first: Any) -> Any:
    """Make an operation on a number and two values of one type."""

    @intrinsic
    def operation(_typing: Any, _first: Any, second: Any, third: Any) -> Any:
        signature = second(first, second, third)
        return signature, lambda _context, builder, _signature, values: emit(builder, *values)

    return operation


def _generic(builder: Any, name: str, *values: Any) -> Any:
    """Call an intrinsic of LLVM that exists for every target."""
    shape = values[0].type
    kind = ir.FunctionType(shape, [shape] * len(values))
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}i{shape.element.width}")
    return builder.call(function, values)


def _all(shape: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(shape, [value] * LANES)


def _numbers(*indices: int) -> ir.Constant:
    """Lanes to take, for a shuffle."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), list(indices))


def _fill(builder: Any, value: Any, shape: ir.VectorType) -> Any:
    """Put one number into all lanes."""
    nothing = ir.Constant(shape, ir.Undefined)
    head = builder.insert_element(nothing, builder.trunc(value, shape.element), ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(head, nothing, _numbers(*[0] * LANES))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Point at the 64 elements from an index on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _SHAPES[kind.dtype].as_pointer())


@intrinsic
def load(_typing: Any, array: Any, _index: Any) -> Any:
    """Load 64 elements of an array of int8 or int16 from an index on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *values), align=array.dtype.bitwidth // 8)

    return _TYPES[array.dtype](array, types.intp), generate


@intrinsic
def store(_typing: Any, array: Any, _index: Any, value: Any) -> Any:
    """Store 64 elements from an index on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], values[0], values[1])
        builder.store(values[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def fill_like(_typing: Any, array: Any, _number: Any) -> Any:
    """Put a number into all lanes of a value of the kind that the array holds."""
    shape = _SHAPES[array.dtype]
    return _TYPES[array.dtype](array, types.int64), lambda _context, builder, _signature, values: _fill(
        builder, values[1], shape
    )


def _magnitude(builder: Any, value: Any) -> Any:
    kind = ir.FunctionType(_BYTES, [_BYTES, _BIT])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.abs.v{LANES}i8")
    return builder.call(function, [value, ir.Constant(_BIT, 0)])


def _negate_where_negative(builder: Any, sign: Any, value: Any) -> Any:
    below = builder.icmp_signed("<", sign, _all(_BYTES, 0))
    return builder.select(below, builder.sub(_all(_BYTES, 0), value), value)


def _head(builder: Any, count: Any, head: Any, rest: Any) -> Any:
    """Take lanes below `count` from one value, the others from another."""
    numbers = ir.Constant(_BYTES, list(range(LANES)))
    return builder.select(builder.icmp_unsigned("<", numbers, _fill(builder, count, _BYTES)), head, rest)


def _look_up(builder: Any, table: Any, index: Any) -> Any:
    """Take bytes of a table whose 16 entries are repeated four times; indices are 0 … 15."""
    path = selected_path()
    if path in ("avx512vbmi", "avx512"):
        kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
        shuffle = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pshuf.b.512")
        return builder.call(shuffle, [table, index])
    if path == "avx2":
        half = ir.VectorType(_BYTE, LANES // 2)
        kind = ir.FunctionType(half, [half, half])
        shuffle = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pshuf.b")
        parts = []
        for lanes in (range(LANES // 2), range(LANES // 2, LANES)):
            pair = [builder.shuffle_vector(value, value, _numbers(*lanes)) for value in (table, index)]
            parts.append(builder.call(shuffle, pair))
        return builder.shuffle_vector(*parts, _numbers(*range(LANES)))
    result = _all(_BYTES, 0)
    for entry in range(16):  # legal everywhere
        here = builder.icmp_unsigned("==", index, _all(_BYTES, entry))
        result = builder.select(here, builder.shuffle_vector(table, table, _numbers(*[entry] * LANES)), result)
    return result


def _to_bytes(builder: Any, value: Any) -> Any:
    """Bytes stay as they are, shorts saturate."""
    if value.type == _BYTES:
        return value
    low = _generic(builder, "smax", value, _all(_SHORTS, -128))
    return builder.trunc(_generic(builder, "smin", low, _all(_SHORTS, 127)), _BYTES)


def _with_bytes(name: str) -> Emit:
    """Apply a saturating operation to a value of either kind and bytes."""

    def emit(builder: Any, value: Any, message: Any) -> Any:
        wide = message if value.type == _BYTES else builder.sext(message, _SHORTS)
        return _generic(builder, name, value, wide)

    return emit


def _named(name: str) -> Emit:
    return lambda builder, *values: _generic(builder, name, *values)


def _signs(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.icmp_signed("<", value, _all(value.type, 0)), _WORD)


def _spread(builder: Any, word: Any) -> Any:
    return builder.select(builder.bitcast(word, _MASK), _all(_BYTES, -128), _all(_BYTES, 0))


def _count(builder: Any, word: Any) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_WORD, [_WORD]), "llvm.ctpop.i64")
    return builder.call(function, [word])


fill_bytes = _unary(lambda builder, value: _fill(builder, value, _BYTES), bytes64)
spread_bits = _unary(_spread, bytes64)
"""The bits of a word, bit 0 in lane 0: -128 for one, 0 for zero."""
signs = _unary(_signs, types.uint64)
"""The sign bits of all lanes as a word, lane 0 in bit 0."""
count_ones = _unary(_count, types.int64)
to_bytes = _unary(_to_bytes, bytes64)
magnitude = _unary(_magnitude)
"""Absolute value of bytes as unsigned bytes, 128 for -128."""
add = _binary(lambda builder, a, b: builder.add(a, b))
subtract = _binary(lambda builder, a, b: builder.sub(a, b))
exclusive_or = _binary(lambda builder, a, b: builder.xor(a, b))
subtract_to_zero = _binary(_named("usub.sat"))
minimum = _binary(_named("umin"))
maximum = _binary(_named("umax"))
minimum_signed = _binary(_named("smin"))
"""What is compared as unsigned elsewhere; of numbers up to 127 both are the same."""
add_message = _binary(_with_bytes("sadd.sat"))
"""`add_message(value, bytes)`: saturating; the value is of bytes or shorts."""
subtract_message = _binary(_with_bytes("ssub.sat"))
negate_where_negative = _binary(_negate_where_negative)
"""`negate_where_negative(sign, value)`: -value in lanes where `sign` is below zero."""
look_up = _binary(_look_up)
head = _ternary(_head, types.int64)


@intrinsic
def where_equal(_typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Take lanes of `yes` where a equals b, of `no` elsewhere."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.select(builder.icmp_unsigned("==", values[0], values[1]), values[2], values[3])

    return yes(a, b, yes, no), generate
