"""The hash as a cyclic convolution of integers by FFT, float64: exact on every CPU, without vector instructions.

Bits of key and seed are integers 0 and 1; output bit i is the parity of entry n + i of their convolution, which a
cycle of n + m entries leaves alone: what wraps around ends below entry n. Every entry is at most n, and its distance
from the integer it is rounded to is looked at (5e-10 at 2^22 bits); float32 is silently wrong from 2^22 on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

Words = npt.NDArray[np.uint64]
MARGIN: Final = 0.05
"""A result further than this from an integer is refused; a half would be ambiguous."""


def _bits(words: Words) -> npt.NDArray[np.float64]:
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(np.float64)


def hash_by_spectrum(key: Words, seed: Words) -> Words:
    """Return words [key.size, seed.size) of the GF(2) product of `seed` and `key`; ArithmeticError if in doubt."""
    first, length = 64 * key.size, 64 * seed.size
    cycle = scipy.fft.next_fast_len(length, real=True)
    spectrum = scipy.fft.rfft(_bits(seed), cycle, overwrite_x=True)
    spectrum *= scipy.fft.rfft(_bits(key), cycle, overwrite_x=True)
    entries = scipy.fft.irfft(spectrum, cycle, overwrite_x=True)[first:length]
    rounded = np.rint(entries)
    worst = float(np.max(np.abs(entries - rounded)))
    if not worst < MARGIN:
        raise ArithmeticError(f"the convolution is {worst} away from an integer")
    parities = (rounded.astype(np.int64) & 1).astype(np.uint8)
    return np.packbits(parities, bitorder="little").view(np.uint64)
