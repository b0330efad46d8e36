"""Blocks of a Toeplitz matrix times a vector over GF(2), by carry-less products and Karatsuba's method.

Between words the hash is a Toeplitz matrix too: Z_o = XOR_j T[n + o - j] X[j] with 127-bit products of words, and
output word o is the low half of Z_o plus the high half of Z_(o-1). Kernels add Z_o of a square tile to words o and
o + 1 of the output, so that what a tile spills past its end is what the next one lacks at its beginning; only the
high half of Z_(-1) is added by itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qedge.qkd.simd.words import broadcast, load, multiply_even, multiply_odd, store, xor, zero

Words = npt.NDArray[np.uint64]
BASE: Final = 64
"""Words of the largest tile that is multiplied as it stands."""
SPILL: Final = 8
"""Words that a kernel may touch beyond its output."""


def scratch_words(size: int) -> int:
    """Return the words of scratch that `add_tile` takes: five halves and a spill at each level."""
    return 5 * size + SPILL * size.bit_length()


_words: Final = types.uint64[::1]
_tile: Final = types.void(_words, types.intp, _words, types.intp, _words, types.intp, types.intp)
_tiles: Final = types.void(*_tile.args, _words, types.intp)
_dot: Final = types.uint64(_words, types.intp, _words, types.intp)


@njit(_tile, boundscheck=False, nogil=True, cache=True)
def multiply(
    seed: Words, first_seed: int, key: Words, first_key: int, output: Words, first_output: int, size: int
) -> None:
    """Add the tile whose window of the seed begins at `first_seed` (2·size words), by size² products of words."""
    for row in range(0, size, 16):
        even0, odd0, even1, odd1 = zero(), zero(), zero(), zero()
        at = first_seed + size + row
        for column in range(size):
            word = broadcast(key[first_key + column])
            window0 = load(seed, at - column)
            window1 = load(seed, at - column + 8)
            even0 = xor(even0, multiply_even(window0, word))
            odd0 = xor(odd0, multiply_odd(window0, word))
            even1 = xor(even1, multiply_even(window1, word))
            odd1 = xor(odd1, multiply_odd(window1, word))
        to = first_output + row
        store(output, to, xor(load(output, to), even0))
        store(output, to + 1, xor(load(output, to + 1), odd0))
        store(output, to + 8, xor(load(output, to + 8), even1))
        store(output, to + 9, xor(load(output, to + 9), odd1))


@njit(_tiles, boundscheck=False, nogil=True, cache=True)
def add_tile(
    seed: Words, at: int, key: Words, first_key: int, output: Words, to: int, size: int, scratch: Words, free: int
) -> None:
    """Add a tile of any size (16·2^k words); `scratch` is used from word `free` on, see `scratch_words`.

    With windows A, B, C of the seed, each `half` words on: P = B(X0 + X1), low += P + (A + B) X1,
    high += P + (B + C) X0.
    """
    if size <= BASE:
        multiply(seed, at, key, first_key, output, to, size)
        return
    half = size >> 1
    differences = free
    sums = differences + 3 * half
    middle = sums + half
    free = middle + half + SPILL
    for word in range(0, 3 * half, 8):
        store(scratch, differences + word, xor(load(seed, at + word), load(seed, at + half + word)))
    for word in range(0, half, 8):
        one, other = load(key, first_key + word), load(key, first_key + half + word)
        store(scratch, sums + word, xor(one, other))
        store(scratch, middle + word, zero())
    store(scratch, middle + half, zero())
    add_tile(seed, at + half, scratch, sums, scratch, middle, half, scratch, free)
    add_tile(scratch, differences, key, first_key + half, output, to, half, scratch, free)
    add_tile(scratch, differences + half, key, first_key, output, to + half, half, scratch, free)
    for word in range(0, half, 8):
        part = load(scratch, middle + word)
        store(output, to + word, xor(load(output, to + word), part))
        store(output, to + half + word, xor(load(output, to + half + word), part))
    spill = scratch[middle + half]
    output[to + half] ^= spill
    output[to + size] ^= spill


@njit(_dot, boundscheck=False, nogil=True, cache=True)
def high_half(seed: Words, at: int, key: Words, words: int) -> int:
    """Return the high half of Z_(-1) = XOR_j seed[at - j] key[j], j < `words`: it belongs to output word 0."""
    total = zero()
    pair = np.empty(8, np.uint64)
    for column in range(words):
        total = xor(total, multiply_even(broadcast(seed[at - column]), broadcast(key[column])))
    store(pair, 0, total)
    return pair[1]
