"""The hash: output bit i = XOR_j T_(n+i-j) x_j for a seed T of n + m random bits and a key x of n (Krawczyk 1994).

As polynomials over GF(2): words [nw, nw + mw) of the product of seed and key, nw and mw their lengths in words. Two
different keys collide with probability 2^-m over the seed (2-universal), as the leftover hash lemma asks for.
Little-endian bits everywhere: bit i of an array of words is bit i & 63 of word i >> 6.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from qedge.qkd.amplification.tiling import cover
from qedge.qkd.simd.cpu import selected_path

Words = npt.NDArray[np.uint64]
MAX_KEY_BITS: Final = 1 << 28
"""Beyond it the FFT of the path without vector instructions has not been shown to be exact."""


def output_words(output_bits: int) -> int:
    """Return the words that hold so many bits."""
    return -(-output_bits // 64)


def seed_words(key_words: int, output_bits: int) -> int:
    """Return the words of seed that a hash takes."""
    return key_words + output_words(output_bits)


def _checked(key: Words, seed: Words, output_bits: int) -> tuple[Words, Words]:
    if key.dtype != np.uint64 or seed.dtype != np.uint64 or key.ndim != 1 or seed.ndim != 1:
        raise ValueError("key and seed are arrays of 64-bit words")
    if not 0 < 64 * key.size <= MAX_KEY_BITS or not 0 <= output_bits <= 64 * key.size:
        raise ValueError(f"{64 * key.size} bits of key cannot be hashed to {output_bits}")
    if seed.size != seed_words(key.size, output_bits):
        raise ValueError(f"the seed has {seed.size} words, not {seed_words(key.size, output_bits)}")
    return np.ascontiguousarray(key), np.ascontiguousarray(seed)


def _cut(words: Words, output_bits: int) -> Words:
    if output_bits % 64:
        words[-1] &= np.uint64((1 << output_bits % 64) - 1)
    return words


def hash_key(key: Words, seed: Words, output_bits: int) -> Words:
    """Hash `key` (u64[nw]) to `output_bits` ≤ 64·nw bits with `seed` (u64[nw + mw]); return u64[mw].

    mw = ⌈output_bits / 64⌉; the unused high bits of the last word are zero. Raises ValueError for other shapes.
    """
    key, seed = _checked(key, seed, output_bits)
    if output_bits == 0:
        return np.zeros(0, np.uint64)
    if selected_path() == "none":
        return hash_key_reference(key, seed, output_bits)
    return _cut(_hash_by_products(key, seed), output_bits)


def hash_key_reference(key: Words, seed: Words, output_bits: int) -> Words:
    """Do what `hash_key` does by another way on every CPU: as a cyclic convolution of integers, in float64."""
    key, seed = _checked(key, seed, output_bits)
    if output_bits == 0:
        return np.zeros(0, np.uint64)
    from qedge.qkd.amplification.spectrum import hash_by_spectrum  # brings scipy

    return _cut(hash_by_spectrum(key, seed), output_bits)


def _hash_by_products(key: Words, seed: Words) -> Words:
    from qedge.qkd.amplification.kernels import SPILL, add_tile, high_half, scratch_words

    columns, rows = key.size, seed.size - key.size
    tiles = cover(rows, columns)
    padded_rows = max(row + size for row, _, size in tiles)
    padded_columns = max(column + size for _, column, size in tiles)
    largest = max(size for _, _, size in tiles)
    before = padded_columns - columns
    window = np.zeros(before + seed.size + padded_rows - rows + SPILL, np.uint64)
    window[before : before + seed.size] = seed
    padded_key = key
    if before:
        padded_key = np.zeros(padded_columns, np.uint64)
        padded_key[:columns] = key
    output = np.zeros(padded_rows + SPILL + 8, np.uint64)
    scratch = np.empty(scratch_words(largest), np.uint64)
    for row, column, size in tiles:
        add_tile(window, padded_columns + row - column - size, padded_key, column, output, row, size, scratch, 0)
    output[0] ^= np.uint64(high_half(window, padded_columns - 1, padded_key, columns))
    return output[:rows].copy()


def warm() -> None:
    """Compile the kernels of this path or load them from the cache: a matter of seconds the first time."""
    hash_key(np.ones(1, np.uint64), np.ones(2, np.uint64), 64)
