"""Philox4x32-10, the counter-based generator of the simulated physics, of which nothing secret is drawn.

Random words are a function of key and counter (Salmon et al., SC'11, "Parallel random numbers: as easy as 1, 2, 3"), so
that runs with one seed agree whatever is drawn in between, and no state is shared between the ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd.compiled import COMPILED, jit

Words = NDArray[np.uint32]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _HALF, _ONE = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(1)


@jit
def _fill(
    first: np.uint64, stream: np.uint64, key0: np.uint64, key1: np.uint64, a: Words, b: Words, c: Words, d: Words
) -> None:
    for i in range(len(a)):
        counter = first + np.uint64(i)
        x0, x1, x2, x3 = counter & _MASK, counter >> _HALF, stream, np.uint64(0)
        k0, k1 = key0, key1
        for _ in range(10):
            p0, p1 = x0 * _M0, x2 * _M1
            x0, x1, x2, x3 = (p1 >> _HALF) ^ x1 ^ k0, p1 & _MASK, (p0 >> _HALF) ^ x3 ^ k1, p0 & _MASK
            k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
        a[i], b[i], c[i], d[i] = x0, x1, x2, x3


def _fill_by_numpy(
    first: np.uint64, stream: np.uint64, key0: np.uint64, key1: np.uint64, a: Words, b: Words, c: Words, d: Words
) -> None:
    counter = np.arange(len(a), dtype=np.uint64) + first
    x0, x1 = counter & _MASK, counter >> _HALF
    x2, x3 = np.full_like(counter, stream), np.zeros_like(counter)
    for turn in range(10):
        k0, k1 = (np.uint64((int(key) + turn * int(step)) & int(_MASK)) for key, step in ((key0, _W0), (key1, _W1)))
        p0, p1 = x0 * _M0, x2 * _M1
        x0, x1, x2, x3 = (p1 >> _HALF) ^ x1 ^ k0, p1 & _MASK, (p0 >> _HALF) ^ x3 ^ k1, p0 & _MASK
    a[:], b[:], c[:], d[:] = x0, x1, x2, x3


class Philox:
    """Random words from a key (two words of 32 bits) and a stream number; counters run up from 0."""

    def __init__(self, key: tuple[int, int], stream: int) -> None:
        self._key = np.uint64(key[0]), np.uint64(key[1])
        self._stream = np.uint64(stream)
        self.counter = 0

    def fill(self, a: Words, b: Words, c: Words, d: Words) -> None:
        """Fill four arrays (u32, of one length n) with the four words of each of the next n counters."""
        fill = _fill if COMPILED else _fill_by_numpy
        fill(np.uint64(self.counter), self._stream, *self._key, a, b, c, d)
        self.counter += len(a)

    def fill_one(self, out: Words) -> None:
        """Fill one array, whose length is a multiple of 4, with the words of the next counters."""
        a, b, c, d = np.split(out, 4)
        self.fill(a, b, c, d)
