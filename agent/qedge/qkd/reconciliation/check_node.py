"""The numbers that decoders work with: how large a certainty is, and how two of them are combined."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ENTRIES: Final = 16
"""Of a correction table; the last one is zero, so that larger indices need no entry."""
FINEST: Final = 5.5
"""Units to one natural unit of log-likelihood, at most: with more of them corrections do not fit their tables."""
HEAVY_BELOW: Final = 0.015
"""Error rate below which rows have so many circulants that the rounding of corrections adds up to a bias."""
PACE: Final = 5
"""Sweeps in which the number of broken checks has to fall by one in 14."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How a decoder is run.

    `units` to one natural unit of log-likelihood, but no more than `most` for a received bit; `largest`: bound of
    messages from checks to bits; sweeps; and those after which the number of broken checks has to go on falling.
    """

    units: float
    most: int
    largest: int
    sweeps: int
    patience: int


@dataclass(frozen=True, slots=True)
class Scale:
    """`channel`: the log-likelihood ratio of a received bit, in units.

    `correction`: i8[2, 16], what is added by the sum of two magnitudes and taken by their difference.
    """

    channel: int
    correction: NDArray[np.int8]


def correction_table(units: float, up_from: float) -> NDArray[np.int8]:
    """Return s·ln(1 + exp(-d/s)) in whole units for d = 0 … 15 and s units to one natural unit of log-likelihood.

    Fractions from `up_from` on are rounded up; the last entry is zero.
    """
    distance = np.arange(ENTRIES)
    table = np.floor(units * np.log1p(np.exp(-distance / units)) + 1 - up_from).astype(np.int8)
    table[-1] = 0
    return table


@functools.lru_cache(maxsize=64)
def scale(qber: float, units: float, most: int) -> Scale:
    """Scale log-likelihoods so that one natural unit has about `units`, and a received bit has `most` units at most.

    A-min* lets the magnitude of an edge weaken its own message, unless it is the least of the row. Rounding corrections
    of sums up more often than those of differences makes up for it: found by experiment, 4 % fewer sweeps.
    """
    natural = math.log((1 - qber) / qber)
    heavy = qber < HEAVY_BELOW
    channel = max(1, min(int(min(units, FINEST) * natural), most))
    up_from = (0.25, 0.4) if heavy else (0.4, 0.5)
    return Scale(channel, np.array([correction_table(channel / natural, each) for each in up_from]))
