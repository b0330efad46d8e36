"""The hash: output bit i = XOR_j T_(n+i-j) x_j for a seed T of n + m random bits and a key x of n (Krawczyk 1994).

As polynomials over GF(2): words [nw, nw + mw) of the product of seed and key, nw and mw their lengths in words. Two
different keys collide with probability 2^-m over the seed (2-universal), as the leftover hash lemma asks for.
`hash_key_short` is 2-universal too, with a seed of about n bits and n - m instead of n columns to multiply.

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
    if not 0 < 64 * key.size <= MAX_KEY_BITS or not 0 <= output_bits <= MAX_KEY_BITS:
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
    if output_bits > 64 * key.size:
        raise ValueError(f"{64 * key.size} bits of key cannot be hashed to {output_bits}")
    return _hash(key, seed, output_bits)


def _hash(key: Words, seed: Words, output_bits: int) -> Words:
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


def short_seed_words(key_words: int, output_bits: int) -> int:
    """Return the words of seed that a short hash takes: those of the key, and one more where m is no multiple of 64.

    None for an output of the whole key.
    """
    return 0 if output_bits == 64 * key_words else seed_words(key_words - output_bits // 64, output_bits)


def hash_key_short(key: Words, seed: Words, output_bits: int) -> Words:
    """Hash `key` (u64[nw]) with the matrix (I | T), as `hash_key` otherwise; `seed` has `short_seed_words`.

    The first w = ⌊output_bits / 64⌋ words of the key go to the output as they are, plus the Toeplitz hash of the
    others. 2-universal: if those others differ, their hashes differ by a uniform value; else the first words do.
    (Hayashi and Tsurumaru, arXiv 1311.5322: modified Toeplitz hashing.)
    """
    kept = output_bits // 64
    if key.ndim != 1 or not 0 <= output_bits <= 64 * key.size:
        raise ValueError(f"{64 * key.size} bits of key cannot be hashed to {output_bits}")
    if kept == key.size:
        if seed.size:
            raise ValueError(f"the seed has {seed.size} words, not 0")
        return key.astype(np.uint64)
    output = _hash(key[kept:], seed, output_bits)
    output[:kept] ^= key[:kept]
    return output


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
