"""Operations on single 64-bit words that numba does not offer, for every CPU."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from qedge.qkd.simd.cpu import has_feature

_I1: Final = ir.IntType(1)
_I64: Final = ir.IntType(64)
_ONE: Final = np.uint64(1)


@intrinsic
def trailing_zeros(_typing: Any, _word: Any) -> Any:
    """`trailing_zeros(word: u64) -> i64`: the index of the lowest bit that is one, 64 for a word of zeros."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64, _I1]), "llvm.cttz.i64")
        return builder.call(function, [args[0], ir.Constant(_I1, 0)])

    return types.int64(types.uint64), code


@intrinsic
def count_ones(_typing: Any, _word: Any) -> Any:
    """`count_ones(word: u64) -> i64`: how many bits are one."""

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64]), "llvm.ctpop.i64")
        return builder.call(function, [args[0]])

    return types.int64(types.uint64), code


@intrinsic
def _extract_at_once(_typing: Any, _word: Any, _mask: Any) -> Any:
    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_I64, [_I64, _I64])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.bmi.pext.64"), args)

    return types.uint64(types.uint64, types.uint64), code


@njit(inline="always")
def _extract_at_once_inline(word: np.uint64, mask: np.uint64) -> Any:  # a value of compiled code
    return _extract_at_once(word, mask)


@njit(types.uint64(types.uint64, types.uint64), boundscheck=False, nogil=True, cache=True)
def extract_one_by_one(word: np.uint64, mask: np.uint64) -> np.uint64:
    """Do as `extract` on every CPU."""
    found, to = np.uint64(0), np.uint64(0)
    while mask != np.uint64(0):
        found |= ((word >> np.uint64(trailing_zeros(mask))) & _ONE) << to
        mask &= mask - _ONE
        to += _ONE
    return found


extract: Final = _extract_at_once_inline if has_feature("bmi2") else extract_one_by_one
"""`extract(word: u64, mask: u64) -> u64`: the bits of a word where the mask has ones, one after the other."""
