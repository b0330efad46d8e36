"""Rates of logical errors from counts. Pure, and without the libraries that decode: the daemon uses it too."""

from __future__ import annotations

import math
from typing import Final

_WILSON_Z: Final = 1.959964


def wilson_interval(errors: int, shots: int) -> tuple[float, float]:
    """Return the 95 % interval of the error rate (Wilson, J. Am. Stat. Assoc. 22, 209)."""
    n, z = shots, _WILSON_Z
    p = errors / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def per_round(rate: float, rounds: int) -> float:
    """Return the logical error rate per round that gives `rate` after `rounds` rounds of independent flips."""
    return 0.5 * (1 - math.pow(max(0.0, 1 - 2 * rate), 1 / rounds))
