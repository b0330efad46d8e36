"""Gaps between rare events in independent slots: geometric, exactly, by inversion of 53 random bits each."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd.compiled import COMPILED, jit
from qedge_drivers.sim_qkd.philox import Words

Floats = NDArray[np.float64]

MAX_GAP = 2.0**40
"""Longer gaps are cut; no block of light has so many slots."""

_LOW, _MANTISSA, _ONE_BITS = np.uint64(11), np.int64((1 << 52) - 1), np.int64(1023 << 52)
_HIGH, _UNIT = np.uint64(21), 2.0**-53
_ROOT_2, _LN_2 = math.sqrt(2.0), math.log(2.0)
_C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = (2.0 / (2 * k + 1) for k in range(8))


@jit
def _fill(high: Words, low: Words, scale: float, out: Floats, mantissas: Floats) -> None:
    """Natural logarithm by ln m = 2 artanh((m−1)/(m+1)), written so that whole vectors are done at once.

    The series ends below 1e-14 for m within √½ … √2, which moves the border of a gap by as little.
    """
    bits = mantissas.view(np.int64)
    for i in range(len(out)):
        mantissas[i] = (float(np.uint64(high[i]) << _HIGH | np.uint64(low[i]) >> _LOW) + 0.5) * _UNIT
    for i in range(len(out)):
        out[i] = float((bits[i] >> 52) - 1023)
        bits[i] = bits[i] & _MANTISSA | _ONE_BITS
    for i in range(len(out)):
        m, exponent = mantissas[i], out[i]
        half = m > _ROOT_2
        m = 0.5 * m if half else m
        exponent = exponent + 1.0 if half else exponent
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        series = _C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * (_C6 + z * (_C7 + z * _C8))))))
        gap = np.floor((exponent * _LN_2 + s * series) * scale)
        out[i] = min(gap, MAX_GAP)


def fill_gaps(high: Words, low: Words, chance: float, out: Floats, scratch: Floats) -> None:
    """Write the number of empty slots before each event, floor(ln u / ln(1−p)) for `chance` p, into `out`."""
    scale = 1.0 / math.log1p(-chance) if chance < 1.0 else -0.0
    if COMPILED:
        _fill(high, low, scale, out, scratch)
        return
    uniform = ((high.astype(np.uint64) << _HIGH | low.astype(np.uint64) >> _LOW) + 0.5) * _UNIT
    np.minimum(np.floor(np.log(uniform) * scale), MAX_GAP, out=out)
