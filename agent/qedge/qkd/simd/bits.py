"""Operations on single 64-bit words that numba does not offer; every CPU has them."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I1: Final = ir.IntType(1)
_I64: Final = ir.IntType(64)


@intrinsic
def trailing_zeros(_typing: Any, _word: Any) -> Any:
    """`trailing_zeros(word: u64) -> i64`: the index of the lowest bit that is one, 64 for a word of zeros."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64, _I1]), "llvm.cttz.i64")
        return builder.call(function, [args[0], ir.Constant(_I1, 0)])

    return types.int64(types.uint64), code
